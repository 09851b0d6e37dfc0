//! Front contribution: parts of the network are collapsed before training, so that steps never touch them.
//!
//! A reconstruction. Of "Front Contribution instead of Back Propagation" (Mishra and Arunkumar 2021, arXiv 2106.05569) only the
//! idea is public: what the layers in front of the last one contribute is worked out before training. No function of the last
//! layer's weights can do that in general (the tests keep a counter-example); what follows does it exactly, to rounding:
//!
//! | collapse | what goes | what is kept instead | exact for |
//! | --- | --- | --- | --- |
//! | [`gram`] | the first layer's weights | K = X · Xᵀ and the pre-activations of all rows | any activation, depth and loss |
//! | [`pair`] | two linear layers in a row | their product and two Gram matrices | any loss, anywhere in a network |
//! | [`frozen`] | all layers but the last | the last layer's inputs for all rows | training of the last layer alone |
//!
//! Between two calls of `train` the network is whole: parameters that are read, saved or evaluated come from the collapsed form.

pub mod cost;
pub mod frozen;
pub mod gram;
pub mod pair;
pub mod survey;

use super::StateTensor;
use crate::config::{OptimizerConfig, TrainingConfig};
use crate::dataset::Dataset;
use crate::error::{Code, Error, Result};
use crate::layers::Pass;
use crate::optimizer::{self, Optimizer};
use crate::plan::{Op, Part, Plan};
use crate::workspace::Workspace;
use cost::Forecast;
use frozen::Frozen;
use gram::Gram;
use kernels::optimize::{Descent, Update};
use kernels::{Activation, Par, Real};
use pair::Pair;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::sync::Arc;

/// The rule as TypeScript sends it.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Config {
    /// What is collapsed.
    pub collapse: Collapse,
    /// Most bytes that K may take.
    pub limit_bytes: u64,
    /// Whether to collapse where no gain is predicted.
    pub force: bool,
    /// Whether the features are rows of a kernel matrix: K is then the features themselves.
    pub kernel: bool,
    /// Whether K must be there already, shared by the runs on one data set.
    pub shared: bool,
    /// The optimizer of what is collapsed; none for that of the run.
    pub optimizer: Option<OptimizerConfig>,
}

/// What is collapsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Collapse {
    /// The one of `gram` and `linearPair` with the lowest predicted cost.
    Auto,
    /// The first layer, through the products of the rows.
    Gram,
    /// Every two linear layers in a row.
    LinearPair,
    /// All layers but the last, which alone is trained.
    Final,
}

impl Collapse {
    /// As users write it.
    pub fn name(self) -> &'static str {
        match self {
            Collapse::Auto => "auto",
            Collapse::Gram => "gram",
            Collapse::LinearPair => "linearPair",
            Collapse::Final => "final",
        }
    }
}

/// A collapsed layer, in its place while steps are taken.
pub enum Form<T> {
    /// The first layer.
    Gram(Gram<T>),
    /// Two linear layers; stands in the place of the second.
    Pair(Pair<T>),
}

impl<T: Real> Form<T> {
    /// y = f(z) for the rows of a batch.
    pub fn forward(&mut self, pass: &Pass, bias: Option<&[T]>, activation: Activation<T>, x: &[T], y: &mut [T]) {
        match self {
            Form::Gram(gram) => gram.forward(pass, bias, activation, y),
            Form::Pair(pair) => pair.forward(pass, bias, activation, x, y),
        }
    }

    /// The gradient of the input from that of the pre-activations.
    pub fn input_gradient(&self, pass: &Pass, g: &[T], below: Option<(Activation<T>, &[T])>, gx: &mut [T]) {
        match self {
            Form::Gram(_) => unreachable!("the first layer has no input gradient"),
            Form::Pair(pair) => pair.input_gradient(pass, g, below, gx),
        }
    }

    /// Takes in the gradient of the pre-activations; with an update, takes the step too.
    pub fn learn(&mut self, pass: &Pass, x: &[T], g: &[T], update: Option<&Update<T>>) {
        match self {
            Form::Gram(gram) => gram.take_in(pass, g),
            Form::Pair(pair) => pair.take_in(pass, x, g),
        }
        if let Some(update) = update {
            self.step(pass.par, update, T::one());
        }
    }

    /// The squared norm of the gradient of the weights that are collapsed.
    fn squared_norm(&mut self, par: Par) -> f64 {
        match self {
            Form::Gram(gram) => gram.squared_norm(par),
            Form::Pair(pair) => pair.squared_norm(par),
        }
    }

    /// The step for the gradient that was taken in, times `scale`.
    fn step(&mut self, par: Par, update: &Update<T>, scale: T) {
        let own = match self {
            Form::Gram(gram) => gram.own,
            Form::Pair(pair) => pair.own,
        };
        let by = own.or_else(|| update.descent()).expect("other optimizers are refused when the run begins");
        match self {
            Form::Gram(gram) => gram.step(par, &by, scale),
            Form::Pair(pair) => pair.step(par, &by, scale),
        }
    }
}

/// A run with the rule: what is collapsed and where it belongs.
pub struct FrontContribution<T> {
    config: Config,
    forecast: Forecast,
    collapsed: Vec<Collapsed<T>>,
    frozen: Option<Frozen<T>>,
    data: Arc<Dataset>,
    /// The optimizer of what is collapsed, where it is not that of the run.
    own: Option<Optimizer<T>>,
    /// Whether the parameters are older than the collapsed form.
    stale: bool,
}

/// A collapsed layer and its place.
struct Collapsed<T> {
    /// The node: of a pair, the second.
    node: usize,
    /// Of a pair, the first node.
    first: Option<usize>,
    /// The layer as messages call it.
    layer: String,
    /// The form, except while steps are taken.
    form: Option<Box<Form<T>>>,
}

/// What a collapse needs to begin.
pub struct Start<'a, T> {
    /// The lowered network.
    pub plan: &'a mut Plan<T>,
    /// Its parameters.
    pub parameters: &'a [T],
    /// Its buffers.
    pub buffers: &'a mut [T],
    /// Threads to use.
    pub par: Par,
    /// The run.
    pub training: &'a TrainingConfig,
    /// The training rows.
    pub data: &'a Arc<Dataset>,
}

impl<T: Real> FrontContribution<T> {
    /// Chooses what to collapse, or refuses, and works it out.
    pub fn new(config: &Config, start: Start<T>) -> Result<FrontContribution<T>> {
        let Start { plan, parameters, buffers, par, training, data } = start;
        let situation = survey::Situation { rows: data.rows(), shared: data.has_gram::<T>(), training };
        let forecast = cost::forecast(config, plan, &situation)?;
        let chosen = forecast.decide(config)?;
        let own = config.optimizer.clone().map(|optimizer| Optimizer::new(optimizer, 0)).transpose()?;
        let optimizer = config.optimizer.as_ref().unwrap_or(&training.optimizer);
        let (mut collapsed, mut frozen) = (vec![], None);
        match chosen {
            Collapse::Auto => unreachable!("a decision is not auto"),
            Collapse::Gram => {
                if config.shared && !data.has_gram::<T>() {
                    let expected = "the Gram of this data set or of one that it was selected from";
                    return Err(Error::config("rule.gram", expected, "one of other rows or of another precision"));
                }
                let node = survey::first_layer(plan)?;
                let weights = &parameters[plan.nodes[node].parameters.clone()];
                let gram = Gram::new(gram::Setting {
                    map: survey::linear(plan, node),
                    weights,
                    data,
                    kernel: config.kernel,
                    velocity: optimizer::states(optimizer).0,
                    batch: training.batch_size,
                    par,
                })?;
                let form = Some(Box::new(Form::Gram(gram)));
                collapsed.push(Collapsed { node, first: None, layer: plan.nodes[node].layer.clone(), form });
            }
            Collapse::LinearPair => {
                for (first, second) in survey::pairs(plan)? {
                    let of =
                        |node: usize| (survey::linear(plan, node), &parameters[plan.nodes[node].parameters.clone()]);
                    let pair = Pair::new(par, of(first), of(second))?;
                    let form = Some(Box::new(Form::Pair(pair)));
                    let layer = plan.nodes[first].layer.clone();
                    collapsed.push(Collapsed { node: second, first: Some(first), layer, form });
                }
            }
            Collapse::Final => {
                let last = survey::last_layer(plan)?;
                frozen = Some(Frozen::new(par, last, (plan, parameters, buffers), data)?);
            }
        }
        let data = data.clone();
        Ok(FrontContribution { config: config.clone(), forecast, collapsed, frozen, data, own, stale: false })
    }

    /// Puts the collapsed form into its place, for steps.
    pub fn install(&mut self, plan: &mut Plan<T>) {
        if let Some(frozen) = &self.frozen {
            frozen.mark(plan, Part::Skipped, Part::Lowest);
        }
        for collapsed in &mut self.collapsed {
            if let Some(first) = collapsed.first {
                plan.nodes[first].part = Part::Skipped;
                exchange(plan, first, collapsed.node);
            }
            survey::linear_mut(plan, collapsed.node).collapsed = collapsed.form.take();
        }
    }

    /// Takes it out again: the network is whole.
    pub fn uninstall(&mut self, plan: &mut Plan<T>) {
        if let Some(frozen) = &self.frozen {
            frozen.mark(plan, Part::Whole, Part::Whole);
        }
        for collapsed in &mut self.collapsed {
            collapsed.form = survey::linear_mut(plan, collapsed.node).collapsed.take();
            if let Some(first) = collapsed.first {
                plan.nodes[first].part = Part::Whole;
                exchange(plan, first, collapsed.node);
            }
        }
        self.stale = true;
    }

    /// Memory for steps with the form in its place.
    pub fn workspace(&mut self, plan: &mut Plan<T>, rows: usize, threads: usize) -> Result<Workspace<T>> {
        self.install(plan);
        let workspace = Workspace::new(plan, rows, threads, true);
        self.uninstall(plan);
        self.stale = false;
        workspace
    }

    /// Says that the collapsed form was changed from outside.
    pub fn touch(&mut self) {
        self.stale = true;
    }

    /// Whether a node has no weights of its own in steps: collapsed, or standing still.
    pub fn covers(&self, node: usize) -> bool {
        let frozen = self.frozen.as_ref().is_some_and(|frozen| node < frozen.last());
        frozen || self.collapsed.iter().any(|collapsed| collapsed.node == node || collapsed.first == Some(node))
    }

    /// Whether a step reads the features of its rows.
    pub fn reads_features(&self) -> bool {
        self.frozen.is_none() && self.collapsed.iter().all(|collapsed| collapsed.first.is_some())
    }

    /// Makes ready for a step, with the form in its place.
    pub fn begin_step(&self, plan: &mut Plan<T>, (step, factor): (u64, f64)) {
        let Some(own) = &self.own else { return };
        let by: Option<Descent<T>> = own.update(step, factor).descent();
        for collapsed in &self.collapsed {
            match survey::linear_mut(plan, collapsed.node).collapsed.as_deref_mut() {
                Some(Form::Gram(gram)) => gram.own = by,
                Some(Form::Pair(pair)) => pair.own = by,
                None => {}
            }
        }
    }

    /// Fills in the values that are computed once, for the rows of a batch.
    pub fn fill(&self, samples: &[u32], values: &mut [kernels::Buffer<T>]) {
        if let Some(frozen) = &self.frozen {
            frozen.fill(samples, values);
        }
    }

    /// The squared norm of the collapsed weights' gradient, with the form in its place, before [`FrontContribution::step`].
    pub fn squared_norm(&self, par: Par, plan: &mut Plan<T>) -> f64 {
        let nodes = self.collapsed.iter().map(|collapsed| collapsed.node);
        nodes
            .filter_map(|node| {
                let form = survey::linear_mut(plan, node).collapsed.as_deref_mut();
                form.map(|form| form.squared_norm(par))
            })
            .sum()
    }

    /// A step after a backward pass that took none: parameters that are neither collapsed nor frozen, and the collapsed form
    /// with its gradient times `scale`; that of the parameters is scaled already.
    pub fn step(&self, par: Par, update: &Update<T>, scale: T, plan: &mut Plan<T>, learn: gram::Whole<T>) {
        let gram::Whole { parameters, gradient, first, second } = learn;
        for node in plan.nodes.iter_mut().filter(|node| node.part != Part::Skipped) {
            let mut range = node.parameters.clone();
            if let Op::Linear(linear) = &mut node.op
                && let Some(form) = linear.collapsed.as_deref_mut()
            {
                form.step(par, update, scale);
                range.start += linear.bias_start();
            }
            let part = |state: &'_ [T]| if state.is_empty() { 0..0 } else { range.clone() };
            let (first_part, second_part) = (part(first), part(second));
            let (first, second) = (&mut first[first_part], &mut second[second_part]);
            kernels::optimize::apply_all(par, update, &mut parameters[range.clone()], &gradient[range], first, second);
        }
    }

    /// Brings the parameters up to what the collapsed form has reached. With `keep`, the run goes on afterwards.
    pub fn export(&mut self, par: Par, plan: &Plan<T>, parameters: &mut [T], keep: bool) -> Result<()> {
        for collapsed in &mut self.collapsed {
            let second = &plan.nodes[collapsed.node];
            match collapsed.form.as_deref_mut() {
                Some(Form::Gram(gram)) => {
                    let weights = &mut parameters[second.parameters.clone()][..gram.weights()];
                    gram.export(par, &self.data, weights, (keep, self.stale))?;
                }
                Some(Form::Pair(pair)) if self.stale => {
                    let first = &plan.nodes[collapsed.first.unwrap_or(collapsed.node)];
                    pair.export((first.parameters.clone(), second.parameters.clone()), parameters);
                }
                Some(Form::Pair(_)) | None => {}
            }
        }
        self.stale = false;
        Ok(())
    }

    /// Fills in the velocity of collapsed weights, in the layout of the parameters.
    pub fn export_velocity(&mut self, par: Par, plan: &Plan<T>, parameters: &[T], velocity: &mut [T]) -> Result<()> {
        for collapsed in &mut self.collapsed {
            let range = plan.nodes[collapsed.node].parameters.clone();
            if let Some(Form::Gram(gram)) = collapsed.form.as_deref_mut() {
                let count = gram.weights();
                gram.export_velocity(
                    par,
                    &self.data,
                    &parameters[range.clone()][..count],
                    &mut velocity[range][..count],
                )?;
            }
        }
        Ok(())
    }

    /// Refuses to write a parameter that is collapsed.
    pub fn check_write(&self, plan: &Plan<T>, place: usize, name: &str) -> Result<()> {
        let nodes = self.collapsed.iter().flat_map(|collapsed| collapsed.first.into_iter().chain([collapsed.node]));
        for node in nodes {
            let start = plan.nodes[node].parameters.start;
            let linear = survey::linear(plan, node);
            let pair = self.collapsed.iter().any(|collapsed| collapsed.first == Some(node));
            // Biases stay outside, but for the first of a pair.
            let end = if pair { plan.nodes[node].parameters.end } else { start + linear.map.weights() };
            if (start..end).contains(&place) {
                let message = format!(
                    "Cannot write {name} now: the run in training has collapsed {}; write it before the run begins",
                    plan.nodes[node].name()
                );
                return Err(Error::new(Code::Busy, message));
            }
        }
        Ok(())
    }

    /// What it keeps between steps, with the layer that each piece belongs to. Exported parameters must be kept before.
    pub fn state(&mut self) -> impl Iterator<Item = (&str, StateTensor<'_, T>)> {
        self.collapsed.iter_mut().flat_map(|collapsed| {
            let Collapsed { layer, form, .. } = collapsed;
            let tensors = match form.as_deref_mut() {
                Some(Form::Gram(gram)) => gram.state(),
                Some(Form::Pair(pair)) => pair.state(),
                None => vec![],
            };
            tensors.into_iter().map(|state| (layer.as_str(), state))
        })
    }

    /// What is collapsed, and the forecast that led to it.
    pub fn describe(&self) -> Value {
        let forms = self.collapsed.iter().map(|collapsed| {
            let figures = match collapsed.form.as_deref() {
                Some(Form::Gram(gram)) => gram.describe(),
                Some(Form::Pair(pair)) => pair.describe(),
                None => Value::Null,
            };
            json!({ "layer": collapsed.layer, "form": figures })
        });
        json!({
            "kind": "frontContribution",
            "asked": self.config.collapse,
            "collapsed": forms.collect::<Vec<_>>(),
            "frozen": self.frozen.as_ref().map(Frozen::describe),
            "plan": self.forecast,
        })
    }
}

/// Lets the second layer of a pair read what the first one reads, and back.
fn exchange<T: Real>(plan: &mut Plan<T>, first: usize, second: usize) {
    let input = plan.nodes[first].input;
    plan.nodes[first].input = std::mem::replace(&mut plan.nodes[second].input, input);
    let below = survey::linear_mut(plan, first).below.take();
    let other = std::mem::replace(&mut survey::linear_mut(plan, second).below, below);
    survey::linear_mut(plan, first).below = other;
}
