//! Learning with dual numbers: a forward pass that carries tangents takes the place of the backward pass. After Jang 2023,
//! "Learning representations by forward-propagating errors" (arXiv 2308.09728), reconstructed from the author's derivation.
//!
//! Reads: values of the forward pass, the loss's gradient at the outputs. Writes: weights, feedback matrices. In no mode is a
//! weight of a linear map read backwards.
//!
//! | mode | lanes | gradient of a block's output |
//! | --- | --- | --- |
//! | local | ones, seeded again at each node | product of the nodes' own derivatives; one layer with parameters |
//! | exact | the identity, in parts | e · J for the exact Jacobian J |
//! | feedback | random signs | e · B, where B learns J from the lanes |
//! | activity | orthogonal, for each row | mean over lanes of (e · J u) u, unbiased |
//! | weight | orthogonal directions of all parameters | the gradient's projection on them |
//!
//! Feedback follows Bacho and Chu 2022 (arXiv 2212.07282) with their moving average (`ema`) or with normalised least mean
//! squares (`nlms`), whose noise vanishes where the Jacobian does not change; activity follows Ren et al. 2022 (2210.03310),
//! weight Baydin et al. 2022 (2202.08587) and Flügel et al. 2024 (2410.17764).

mod along;
mod blocks;
mod check;
mod cost;
mod lanes;
mod learn;
mod length;
mod memory;

pub use along::Along;
pub use length::derivatives;

use super::{Moment, StateTensor};
use crate::config::TrainingConfig;
use crate::error::Result;
use crate::layers::Pass;
use crate::passes::{self, Learning};
use crate::plan::Plan;
use crate::workspace::Workspace;
use blocks::Block;
use kernels::directions::{Orthogonal, Place, signs, signs_from};
use kernels::rng::{Philox, Purpose};
use kernels::{Buffer, Par, Real};
use lanes::{Lanes, Seed};
use length::Length;
use serde::{Deserialize, Serialize};

/// The rule's options, as TypeScript sends them with their defaults.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Config {
    /// What lanes are for.
    pub mode: Mode,
    /// Lanes of a block (feedback, activity), of one pass (exact), directions (weight).
    pub lanes: usize,
    /// Where lanes begin.
    pub seed_at: SeedAt,
    /// Whether all blocks share their lanes (feedback, activity).
    pub share_lanes: bool,
    /// Whether values are computed a second time instead of kept.
    pub two_pass: bool,
    /// What decides how far a step goes.
    pub step: StepRule,
    /// How feedback matrices learn.
    pub feedback: Feedback,
    /// Their rate.
    pub feedback_rate: f64,
    /// What becomes of the derivatives along weight directions.
    pub estimate: Estimate,
    /// Whether layers that mix the rows of a batch are allowed although they bias the estimate.
    pub allow_bias: bool,
    /// Whether weight directions are allowed for large networks.
    pub force: bool,
    /// Most multiply-adds of the lanes of one exact step.
    pub budget: f64,
}

impl Config {
    /// Whether lanes pass linear maps as rows of the batch do, so that weights may be stored in any way: no weight moves, and no
    /// sum of weights is divided out.
    pub fn stays_with_weights(&self) -> bool {
        self.mode != Mode::Weight && self.step == StepRule::Optimizer && self.seed_at != SeedAt::Input
    }

    /// Whether gradients of parts of a batch add up to that of the batch: no matrix learns in between, and no row has noise of its
    /// own.
    pub fn adds_up(&self) -> bool {
        self.step == StepRule::Optimizer && !matches!(self.mode, Mode::Feedback | Mode::Activity)
    }
}

/// What lanes are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Mode {
    /// Derivatives of single nodes, multiplied.
    Local,
    /// The whole Jacobian.
    Exact,
    /// Learning the Jacobian.
    Feedback,
    /// Directional derivatives along random activities.
    Activity,
    /// Directional derivatives along random weights.
    Weight,
}

impl Mode {
    /// Its name in TypeScript.
    pub fn name(self) -> &'static str {
        match self {
            Mode::Local => "local",
            Mode::Exact => "exact",
            Mode::Feedback => "feedback",
            Mode::Activity => "activity",
            Mode::Weight => "weight",
        }
    }
}

/// Where lanes begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum SeedAt {
    /// After the layers that follow a linear map up to the next one.
    Output,
    /// Right after the linear map.
    Preactivation,
    /// Before the linear map, as published: its sums of weights are divided out again. For the local mode.
    Input,
}

/// What decides how far a step goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum StepRule {
    /// The optimizer.
    Optimizer,
    /// First and second derivative of the loss along the step.
    Hyperdual,
}

/// How feedback matrices learn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Feedback {
    /// Normalised least mean squares.
    Nlms,
    /// Exponential moving average.
    Ema,
}

/// What becomes of the derivatives along weight directions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Estimate {
    /// Orthogonal directions: the gradient's projection on their plane.
    Projection,
    /// Independent directions: the mean of (g·v) v, unbiased.
    Mean,
}

/// What a pass over the network works on.
pub struct Frame<'a, 'p, T> {
    /// The lowered network.
    pub plan: &'a mut Plan<T>,
    /// Its parameters.
    pub parameters: &'a mut [T],
    /// Its buffers.
    pub buffers: &'a mut [T],
    /// Memory for values.
    pub workspace: &'a mut Workspace<T>,
    /// The batch.
    pub pass: &'a Pass<'p>,
}

impl<T: Real> Frame<'_, '_, T> {
    /// The forward pass through one node.
    fn node(&mut self, index: usize) {
        let output = self.plan.nodes[index].output;
        self.workspace.begin(output);
        passes::forward_node(self.plan, index, self.parameters, self.buffers, self.workspace, self.pass);
    }
}

/// The state of the rule in a training run.
pub struct Dual<T> {
    config: Config,
    blocks: Vec<Block>,
    /// Outputs × size of each block's value, where feedback learns.
    feedback: Vec<Buffer<T>>,
    /// Orthogonal directions for each block, or one set for all parameters.
    orthogonal: Vec<Orthogonal<T>>,
    lanes: Lanes<T>,
    /// For weight directions.
    along: Option<Along<T>>,
    /// Weight directions, laid out like the parameters.
    directions: Buffer<T>,
    memory: memory::Memory<T>,
    length: Length<T>,
    /// Numbers that the network gives for a row.
    outputs: usize,
}

impl<T: Real> Dual<T> {
    /// Checks that the network can be trained so, and makes room.
    pub fn new(config: &Config, plan: &Plan<T>, run: &TrainingConfig, threads: usize) -> Result<Dual<T>> {
        let blocks = blocks::find(plan, config.seed_at);
        check::all(config, plan, &blocks, run)?;
        let (rows, outputs) = (run.batch_size, plan.sizes[plan.output]);
        let size = |block: &Block| plan.sizes[block.value];
        let counts = check::counts(config, plan, &blocks);
        let zeroed = |count: usize| Buffer::zeroed(count);
        let learns = |block: &&Block| config.mode == Mode::Feedback && !block.last;
        let directed = config.mode == Mode::Weight;
        let parameters: usize = plan.parameters.iter().map(|parameter| parameter.range.len()).sum();
        let projects = directed && config.estimate == Estimate::Projection;
        let orthogonal = match config.mode {
            Mode::Activity => blocks.iter().map(|block| (config.lanes.min(size(block)), size(block))).collect(),
            _ if projects => vec![(config.lanes, parameters)],
            Mode::Local | Mode::Exact | Mode::Feedback | Mode::Weight => vec![],
        };
        let along = directed.then(|| Along::new(plan, config.lanes, false, rows, threads)).transpose()?;
        Ok(Dual {
            feedback: blocks
                .iter()
                .map(|block| zeroed(if learns(&block) { outputs * size(block) } else { 0 }))
                .collect::<std::result::Result<_, _>>()?,
            orthogonal: orthogonal.into_iter().map(|(lanes, size)| Orthogonal::new(lanes, size)).collect(),
            lanes: Lanes::new(plan, &counts, rows, threads)?,
            along,
            directions: zeroed(if directed { config.lanes * plan.elements } else { 0 })?,
            memory: memory::Memory::new(config, plan, &blocks, counts[plan.output], rows)?,
            length: Length::new(config, plan, rows, threads)?,
            outputs,
            config: config.clone(),
            blocks,
        })
    }

    /// Memory for the values of a batch.
    pub fn workspace(&self, plan: &Plan<T>, rows: usize, threads: usize) -> Result<Workspace<T>> {
        // Weight directions need no layer's inputs afterwards.
        let turns = self.config.two_pass || self.config.mode == Mode::Weight;
        let last_use = turns.then(|| blocks::last_use(plan, &self.blocks));
        Workspace::forward_only(plan, rows, threads, last_use.as_deref())
    }

    /// Makes room for lanes of `rows` rows after weights changed their form.
    pub fn resize(&mut self, plan: &Plan<T>, rows: usize, threads: usize) -> Result<()> {
        self.lanes.resize(plan, rows, threads)
    }

    /// Bytes of tangents, and bytes of feedback matrices and directions.
    pub fn bytes(&self) -> (usize, usize) {
        let along = self.along.as_ref().map_or(0, Along::bytes);
        let feedback: usize = self.feedback.iter().map(|feedback| feedback.len()).sum();
        let tangents = self.lanes.bytes() + along + self.length.bytes() + self.memory.bytes();
        (tangents, (feedback + self.directions.len()) * T::BYTES)
    }

    /// What the rule keeps between steps: (layer, tensor).
    pub fn state(&mut self, plan: &Plan<T>) -> Vec<(String, StateTensor<'_, T>)> {
        let mut list = vec![];
        let outputs = self.outputs;
        for (block, feedback) in self.blocks.iter().zip(&mut self.feedback).filter(|(_, feedback)| !feedback.is_empty())
        {
            let shape = vec![outputs, plan.sizes[block.value]];
            let layer = plan.nodes[block.node].layer.clone();
            list.push((layer, StateTensor { name: "feedback", shape, values: feedback }));
        }
        list.extend(self.length.state().map(|state| ("step".to_string(), state)));
        list
    }

    /// The values of all nodes, with the lanes that the mode needs beside them.
    pub fn forward(&mut self, mut frame: Frame<T>, moment: Moment) {
        match self.config.mode {
            Mode::Local | Mode::Exact => {
                for index in 0..frame.plan.nodes.len() {
                    frame.node(index);
                }
            }
            Mode::Feedback | Mode::Activity => self.forward_with_lanes(frame, moment),
            Mode::Weight => self.forward_along(frame, moment),
        }
    }

    fn forward_with_lanes(&mut self, mut frame: Frame<T>, moment: Moment) {
        self.lanes.clear();
        // Out of `self` for the time of the call, which draws seeds into it.
        let blocks = std::mem::take(&mut self.blocks);
        let (rows, count) = (frame.pass.rows, self.config.lanes);
        for index in 0..frame.plan.nodes.len() {
            frame.node(index);
            let begin = blocks.iter().position(|block| block.end() == index && !block.last);
            if let Some(number) = begin {
                self.draw_seeds(number, frame.plan.sizes[blocks[number].value], moment, frame.pass);
            }
            let lanes = begin.map_or(0..0, |number| self.lanes_of(number));
            let seeds = begin.map_or(&[][..], |number| {
                &*self.memory.seeds(number, frame.plan.sizes[blocks[number].value], rows, count)
            });
            let fill = |lane: usize, add: bool, out: &mut [T]| {
                let seeds = &seeds[lane * out.len()..(lane + 1) * out.len()];
                if add {
                    passes::add(frame.pass, out, seeds);
                } else {
                    out.copy_from_slice(seeds);
                }
            };
            let before_activation = begin.is_some_and(|number| blocks[number].before_activation);
            let seed = begin.map(|_| Seed { lanes, before_activation, fill: &fill });
            self.lanes.carry(frame.plan, index, frame.parameters, frame.workspace, frame.pass, seed);
            frame.workspace.end(index);
        }
        self.blocks = blocks;
    }

    /// Draws the seeds of one block's lanes.
    fn draw_seeds(&mut self, number: usize, size: usize, moment: Moment, pass: &Pass) {
        let Dual { config, orthogonal, memory, .. } = self;
        let place = place(moment, number);
        let seeds = memory.seeds(number, size, pass.rows, config.lanes);
        for (lane, seeds) in seeds.chunks_exact_mut(pass.rows * size).enumerate() {
            match orthogonal.get(number) {
                Some(orthogonal) => orthogonal.fill(pass.par, place, lane, seeds),
                None => signs(pass.par, place, lane, size, seeds),
            }
        }
    }

    /// The numbers of a block's lanes.
    fn lanes_of(&self, number: usize) -> std::ops::Range<usize> {
        let first = if self.config.share_lanes { 0 } else { number * self.config.lanes };
        first..first + self.config.lanes
    }

    fn forward_along(&mut self, mut frame: Frame<T>, moment: Moment) {
        self.draw_directions(frame.plan, moment, frame.pass.par);
        let Some(along) = &mut self.along else { return };
        along.run(&mut frame, &self.directions, false);
    }

    /// Weight directions of this step. Padding between the parameters stays 0.
    fn draw_directions(&mut self, plan: &Plan<T>, moment: Moment, par: Par) {
        let place = place(moment, 0);
        for (lane, directions) in self.directions.chunks_exact_mut(plan.elements).enumerate() {
            let mut first = 0;
            for parameter in &plan.parameters {
                let out = &mut directions[parameter.range.clone()];
                match self.orthogonal.first() {
                    Some(orthogonal) => orthogonal.fill_from(par, place, lane, first, out),
                    None => signs_from(par, place, lane, first, out),
                }
                first += parameter.range.len();
            }
        }
    }

    /// The parameters' gradient, and with an update their next values, once the loss's gradient is in the workspace.
    pub fn learn(&mut self, frame: Frame<T>, learning: &mut Learning<T>) -> Result<()> {
        learn::run(self, frame, learning)
    }

    /// Whether the whole gradient is needed before the first update.
    pub fn decides_length(&self) -> bool {
        self.config.step == StepRule::Hyperdual
    }

    /// How far to go against `gradient`, without a unit: 1 goes to the minimum of the parabola that fits the loss along it,
    /// smoothed over steps.
    pub fn step_length(&mut self, frame: Frame<T>, gradient: &[T], bend: &dyn Fn(&[T], &[T]) -> f64) -> f64 {
        let kept = !self.config.two_pass;
        self.length.measure(frame, gradient, kept, bend)
    }
}

/// Where the noise of a block is drawn from.
fn place(moment: Moment, block: usize) -> Place {
    Place { rng: Philox::new(moment.seed, Purpose::Lanes), step: moment.step, layer: block as u32 }
}
