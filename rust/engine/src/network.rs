//! A network: nodes, parameters, and the training run that may be attached to it.

use crate::config::{Init, NetworkConfig};
use crate::dataset::Dataset;
use crate::error::{Code, Error, Result};
use crate::layers::{Mode, Pass};
use crate::loss;
use crate::memory;
use crate::passes;
use crate::plan::{self, Node, Op, Parameter, Plan};
use crate::pool::Threads;
use crate::training::Training;
use crate::workspace::Workspace;
use kernels::rng::{Philox, Purpose};
use kernels::{Buffer, Real};
use serde_json::json;

/// Memory that evaluation and prediction may use for one block of rows.
const EVALUATION_BYTES: u128 = 64 << 20;

/// Most rows of one evaluation block.
const EVALUATION_ROWS: usize = 256;

/// A network with parameters of type `T`.
pub struct Network<T> {
    pub(crate) config: NetworkConfig,
    pub(crate) threads: Threads,
    pub(crate) plan: Plan<T>,
    /// Parameters, in the plan's layout.
    pub(crate) values: Buffer<T>,
    /// Running statistics and their like, in the plan's layout.
    pub(crate) buffers: Buffer<T>,
    pub(crate) training: Option<Training<T>>,
    /// The gradient that was last asked for, in the layout of the parameters.
    pub(crate) gradient: Option<Buffer<T>>,
    evaluation: Option<Workspace<T>>,
}

impl<T: Real> Network<T> {
    /// Lowers the layers and draws the initial parameters.
    pub fn new(config: NetworkConfig) -> Result<Network<T>> {
        loss::validate(&config.loss)?;
        let plan = plan::lower::<T>(&config)?;
        memory::check("the parameters", plan.elements as u128 * T::BYTES as u128)?;
        let threads = Threads::new(config.threads)?;
        let mut values = Buffer::zeroed(plan.elements)?;
        let mut buffers = Buffer::zeroed(plan.buffer_elements)?;
        for (index, parameter) in plan.parameters.iter().enumerate() {
            initialise(parameter, config.seed, index as u32, &mut values[parameter.range.clone()]);
        }
        for buffer in &plan.buffers {
            initialise(buffer, config.seed, u32::MAX, &mut buffers[buffer.range.clone()]);
        }
        Ok(Network { config, threads, plan, values, buffers, training: None, gradient: None, evaluation: None })
    }

    /// Whether nothing has been learnt yet, as far as parameters that begin as 0 can tell, such as biases: all of them still are.
    pub(crate) fn is_untrained(&self) -> bool {
        let zeros = || self.plan.parameters.iter().filter(|parameter| parameter.specification.init == Init::Zeros);
        let still =
            |parameter: &Parameter| self.values[parameter.range.clone()].iter().all(|value| *value == T::zero());
        zeros().next().is_some() && zeros().all(still)
    }

    /// Outputs of one row.
    pub fn outputs(&self) -> usize {
        self.plan.sizes[self.plan.output]
    }

    /// Features of one row.
    pub fn inputs(&self) -> usize {
        self.plan.sizes[0]
    }

    /// The network as JSON: layers with shapes, parameters and multiply-adds, and how it computes.
    pub fn describe(&self) -> String {
        let layers = self.plan.layers.iter().map(|layer| {
            json!({
                "name": layer.name, "kind": layer.kind, "shape": layer.shape,
                "parameters": layer.parameters, "multiplyAdds": layer.multiply_adds,
            })
        });
        json!({
            "input": self.config.input,
            "precision": T::NAME,
            "threads": self.threads.count(),
            "instructionSet": kernels::isa().name(),
            "parameters": self.plan.layers.iter().map(|layer| layer.parameters).sum::<usize>(),
            "layers": layers.collect::<Vec<_>>(),
        })
        .to_string()
    }

    /// Refuses data whose rows do not fit the input.
    pub fn check_features(&self, data: &Dataset) -> Result<()> {
        let (input, shape) = (&self.config.input, data.shape());
        let flat = input.len() == 1 || shape.len() == 1;
        if data.size() == self.inputs() && (flat || input == shape) {
            return Ok(());
        }
        Err(Error::shape(
            "the data set",
            format!("rows of shape {input:?} (the network's input)"),
            format!("{shape:?}"),
        ))
    }

    /// Outputs for rows `first..first + rows`, written to `out`, turned into predictions by the loss.
    pub fn predict(&mut self, data: &Dataset, first: usize, rows: usize, out: &mut [T]) -> Result<()> {
        self.check_features(data)?;
        self.bring_up()?;
        check_range(data, first, rows)?;
        let size = self.outputs();
        if out.len() != rows * size {
            return Err(Error::shape("the output array", format!("{} values", rows * size), out.len()));
        }
        let mut done = 0;
        while done < rows {
            let (mut workspace, threads) = (self.take_evaluation()?, self.threads.clone());
            let count = workspace.rows.min(rows - done);
            threads.run(|par| self.forward_rows(data, first + done, count, &mut workspace, par));
            let last = &workspace.values[self.plan.output][..count * size];
            out[done * size..(done + count) * size].copy_from_slice(last);
            self.evaluation = Some(workspace);
            done += count;
        }
        loss::predict(&self.config.loss, out, size);
        self.check_finite_predictions(out)
    }

    fn check_finite_predictions(&self, out: &[T]) -> Result<()> {
        if kernels::reduce::all_finite(out) {
            return Ok(());
        }
        let message = "Cannot predict: the network gives outputs that are not finite; its parameters have diverged";
        Err(Error::new(Code::NotFinite, message))
    }

    /// A forward pass in evaluation mode over consecutive rows.
    pub(crate) fn forward_rows(
        &mut self,
        data: &Dataset,
        first: usize,
        rows: usize,
        workspace: &mut Workspace<T>,
        par: kernels::Par,
    ) {
        let samples: Vec<u32> = (first as u32..(first + rows) as u32).collect();
        data.gather(&samples, &mut workspace.values[0][..rows * self.plan.sizes[0]]);
        let pass = Pass { par, rows, mode: Mode::Evaluate, samples: &samples };
        passes::forward(&mut self.plan, &self.values, &mut self.buffers, workspace, &pass);
    }

    /// Memory for a block of evaluation rows; put it back into `evaluation` afterwards.
    pub(crate) fn take_evaluation(&mut self) -> Result<Workspace<T>> {
        if let Some(workspace) = self.evaluation.take() {
            return Ok(workspace);
        }
        let bytes = Workspace::<T>::bytes_per_row(&self.plan.sizes, false).max(1);
        let rows = usize::try_from(EVALUATION_BYTES / bytes).unwrap_or(1).clamp(1, EVALUATION_ROWS);
        self.plan.reserve(rows)?;
        Workspace::new(&self.plan, rows, self.threads.count(), false)
    }

    /// Frees that memory, which other layouts need otherwise.
    pub(crate) fn forget_evaluation(&mut self) {
        self.evaluation = None;
    }

    pub(crate) fn keep_evaluation(&mut self, workspace: Workspace<T>) {
        self.evaluation = Some(workspace);
    }

    /// The first node whose output in `workspace` is not finite, in words, or what else may be wrong.
    pub(crate) fn first_not_finite(&self, workspace: &Workspace<T>, rows: usize) -> String {
        let bad = |node: &&Node<T>| {
            let extent = plan::extent(self.plan.sizes[node.output], self.plan.tiles[node.output], rows);
            // A value whose memory was taken back cannot be looked at any more.
            let value = workspace.values[node.output].get(..extent);
            value.is_some_and(|value| !kernels::reduce::all_finite(value))
        };
        let Some(node) = self.plan.nodes.iter().find(bad) else {
            return "all layers are finite, the loss of their outputs is not".into();
        };
        let parameters = !kernels::reduce::all_finite(&self.values[node.parameters.clone()]);
        let why = if parameters && matches!(node.op, Op::Linear(_)) { ", whose weights have diverged" } else { "" };
        format!("{} is the first whose output is not finite{why}", node.name())
    }
}

/// Refuses rows that a data set does not have.
pub(crate) fn check_range(data: &Dataset, first: usize, rows: usize) -> Result<()> {
    if first.checked_add(rows).is_some_and(|end| end <= data.rows()) {
        return Ok(());
    }
    let found = format!("rows {first} to {}", first.saturating_add(rows));
    Err(Error::shape("the rows", format!("at most {} rows", data.rows()), found))
}

/// Draws a parameter's first values. They depend on the seed, the number of the tensor and the element, and are rounded
/// from the same `f64` numbers for every precision.
fn initialise<T: Real>(parameter: &Parameter, seed: u64, tensor: u32, out: &mut [T]) {
    let (fan_in, fan_out) = parameter.specification.fans;
    let (fan_in, fan_out) = (fan_in as f64, fan_out as f64);
    let rng = Philox::new(seed, Purpose::Initialise);
    let mut normal = |variance: f64| {
        let deviation = variance.sqrt();
        for (index, value) in out.iter_mut().enumerate() {
            *value = T::of(deviation * rng.normal(index as u64, [tensor, 0]));
        }
    };
    let uniform = |out: &mut [T], bound: f64| {
        for (index, value) in out.iter_mut().enumerate() {
            *value = T::of(bound * (2.0 * rng.uniform(index as u64, [tensor, 0]) - 1.0));
        }
    };
    match parameter.specification.init {
        Init::HeNormal => normal(2.0 / fan_in),
        Init::GlorotNormal => normal(2.0 / (fan_in + fan_out)),
        Init::LecunNormal => normal(1.0 / fan_in),
        Init::HeUniform => uniform(out, (6.0 / fan_in).sqrt()),
        Init::GlorotUniform => uniform(out, (6.0 / (fan_in + fan_out)).sqrt()),
        Init::LecunUniform => uniform(out, (3.0 / fan_in).sqrt()),
        Init::FanInUniform => uniform(out, 1.0 / fan_in.sqrt()),
        Init::Zeros => out.fill(T::zero()),
        Init::Ones => out.fill(T::one()),
    }
}
