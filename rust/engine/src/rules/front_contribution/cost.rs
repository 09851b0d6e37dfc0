//! What back-propagation and each collapse would cost, from shapes alone: the same answer on every machine, every time.
//!
//! Time is counted in multiply-adds. Moving a number counts as some of them: [`MOVE`]. The weights are those of a step's kernels
//! on the machine of `bench/rules/front_contribution.ts`, which also measures how well the forecast agrees.

use super::survey::{self, Situation};
use super::{Collapse, Config};
use crate::config::OptimizerConfig;
use crate::error::{Error, Result};
use crate::memory;
use crate::optimizer;
use crate::plan::{Op, Plan};
use kernels::Real;
use serde::Serialize;

/// Multiply-adds that take as long as moving one number between memory and the vector units.
const MOVE: f64 = 5.0;

/// Multiply-adds that take as long as one kernel call.
const CALL: f64 = 15_000.0;

/// Multiply-adds that take as long as what every step does beside its layers: data order, targets, loss, counters.
const STEP: f64 = 70_000.0;

/// Multiply-adds that take as long as one call from TypeScript in the background, of which every epoch takes at least one.
const EPOCH: f64 = 2_800_000.0;

/// The same for a call that is waited for: those of epochs that take less than [`SHORT`].
const SHORT_EPOCH: f64 = 150_000.0;

/// Multiply-adds of an epoch that TypeScript waits for: about a millisecond.
const SHORT: f64 = 37_000_000.0;

/// What one way of training costs.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Figures {
    /// Most bytes at one time: parameters, optimizer, values, and what is kept in their place.
    pub bytes: f64,
    /// Multiply-adds of one step.
    pub step_multiply_adds: f64,
    /// Multiply-adds before the first step and after the last one.
    pub once_multiply_adds: f64,
    /// Time of one step, in multiply-adds.
    pub step_cost: f64,
    /// Time of the whole run, in multiply-adds.
    pub cost: f64,
}

/// One way to collapse.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Candidate {
    /// Its name.
    pub collapse: Collapse,
    /// What it costs, where it is possible.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub figures: Option<Figures>,
    /// Time of back-propagation's run divided by that of this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gain: Option<f64>,
    /// As `gain`, for a step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step_gain: Option<f64>,
    /// Why it is not possible.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refusal: Option<String>,
    #[serde(skip)]
    error: Option<Error>,
}

/// What to expect, and what was decided.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Forecast {
    /// Training rows.
    pub rows: usize,
    /// Rows of a step.
    pub batch_size: usize,
    /// Steps of the run.
    pub steps: f64,
    /// What back-propagation costs.
    pub backprop: Figures,
    /// Each collapse.
    pub candidates: Vec<Candidate>,
    /// What the rule takes, unless it refuses.
    pub chosen: Option<Collapse>,
    /// Why.
    pub reason: String,
    /// Columns of the training rows.
    #[serde(skip)]
    columns: usize,
    /// Whether the network itself is none for `gram`, whatever the run.
    #[serde(skip)]
    no_first_layer: bool,
    /// Whether it has linear layers in a row.
    #[serde(skip)]
    has_pair: bool,
}

/// Sums of what steps do.
#[derive(Clone, Copy, Default)]
struct Work {
    multiply_adds: f64,
    moved: f64,
    calls: f64,
    numbers: f64,
}

impl Work {
    fn cost(self) -> f64 {
        self.multiply_adds + MOVE * self.moved + CALL * self.calls
    }
}

impl std::ops::AddAssign for Work {
    fn add_assign(&mut self, other: Work) {
        self.multiply_adds += other.multiply_adds;
        self.moved += other.moved;
        self.calls += other.calls;
        self.numbers += other.numbers;
    }
}

/// Numbers that an optimizer keeps and moves for each weight, beside the weight.
fn states(optimizer: &OptimizerConfig) -> f64 {
    let (first, second) = optimizer::states(optimizer);
    f64::from(u8::from(first)) + f64::from(u8::from(second))
}

/// What back-propagation does for one node in one step.
fn node_work<T: Real>(plan: &Plan<T>, node: usize, situation: &Situation) -> Work {
    let (batch, training) = (situation.training.batch_size as f64, situation.training);
    let found = &plan.nodes[node];
    let (inputs, outputs) = (plan.sizes[found.input] as f64, plan.sizes[found.output] as f64);
    let weights = found.parameters.len() as f64;
    let kept = states(&training.optimizer);
    let clipped = if training.clip_norm.is_some() { 1.0 } else { 0.0 };
    let passes = if found.input == 0 { 2.0 } else { 3.0 };
    let multiply_adds = match &found.op {
        Op::Linear(linear) => passes * batch * linear.map.multiply_adds() as f64,
        Op::Add { .. } | Op::Layer(_) => 0.0,
    };
    Work {
        multiply_adds,
        // Read forward and backward, read and written by the update with the optimizer's state; the values of the batch.
        moved: weights * (passes + 1.0 + 2.0 * kept + 3.0 * clipped) + batch * (inputs + 2.0 * outputs),
        calls: if multiply_adds > 0.0 { passes } else { 1.0 },
        numbers: weights * (1.0 + kept + clipped) + 2.0 * batch * outputs,
    }
}

fn sum_of<T: Real>(plan: &Plan<T>, situation: &Situation, without: impl Fn(usize) -> bool) -> Work {
    let mut work = Work::default();
    for node in (0..plan.nodes.len()).filter(|node| !without(*node)) {
        work += node_work(plan, node, situation);
    }
    work
}

fn figures<T: Real>(step: Work, once: Work, situation: &Situation) -> Figures {
    let (per_epoch, steps) = situation.steps();
    let work = step.cost() + STEP;
    let call = if work * per_epoch > SHORT { EPOCH } else { SHORT_EPOCH };
    let step_cost = work + call / per_epoch;
    Figures {
        bytes: (step.numbers + once.numbers) * T::BYTES as f64,
        step_multiply_adds: step.multiply_adds,
        once_multiply_adds: once.multiply_adds,
        step_cost,
        cost: steps * step_cost + once.cost(),
    }
}

/// Predicts what each way of training costs.
pub fn forecast<T: Real>(config: &Config, plan: &Plan<T>, situation: &Situation) -> Result<Forecast> {
    let Situation { rows, training, .. } = situation;
    let input = Work { numbers: (training.batch_size * plan.sizes[0]) as f64, ..Work::default() };
    let mut whole = sum_of(plan, situation, |_| false);
    whole += input;
    let backprop = figures::<T>(whole, Work::default(), situation);
    let candidates = [Collapse::Gram, Collapse::LinearPair, Collapse::Final].map(|collapse| {
        let found = match collapse {
            Collapse::Gram => gram::<T>(config, plan, situation),
            Collapse::LinearPair => pairs::<T>(config, plan, situation),
            Collapse::Final | Collapse::Auto => last::<T>(plan, situation),
        };
        match found {
            Ok(figures) => Candidate {
                collapse,
                gain: Some(backprop.cost / figures.cost),
                step_gain: Some(backprop.step_cost / figures.step_cost),
                figures: Some(figures),
                refusal: None,
                error: None,
            },
            Err(error) => Candidate {
                collapse,
                figures: None,
                gain: None,
                step_gain: None,
                refusal: Some(error.message.clone()),
                error: Some(error),
            },
        }
    });
    let mut forecast = Forecast {
        rows: *rows,
        batch_size: training.batch_size,
        steps: situation.steps().1,
        backprop,
        candidates: candidates.into(),
        chosen: None,
        reason: String::new(),
        columns: plan.sizes[0],
        no_first_layer: survey::first_layer(plan).is_err(),
        has_pair: !survey::neighbours(plan).is_empty(),
    };
    match forecast.decide(config) {
        Ok(chosen) if config.kernel => {
            forecast.reason = format!("{} trains in the kernel's feature space, at any gain", chosen.name());
            forecast.chosen = Some(chosen);
        }
        Ok(chosen) => {
            let gain = forecast.of(chosen).gain.unwrap_or(1.0);
            forecast.reason =
                format!("{} is predicted to take 1 / {gain:.2} of back-propagation's time", chosen.name());
            forecast.chosen = Some(chosen);
        }
        Err(error) => forecast.reason = error.message,
    }
    Ok(forecast)
}

impl Forecast {
    fn of(&self, collapse: Collapse) -> &Candidate {
        self.candidates.iter().find(|candidate| candidate.collapse == collapse).unwrap_or(&self.candidates[0])
    }

    /// What the rule takes, or why it refuses.
    pub fn decide(&self, config: &Config) -> Result<Collapse> {
        let chosen = match config.collapse {
            // Freezing layers is another training, not a cheaper way to the same one.
            Collapse::Auto => {
                let (one, two) = (self.of(Collapse::Gram), self.of(Collapse::LinearPair));
                match (one.gain, two.gain) {
                    // One sentence: that of the collapse which the network has a place for.
                    (None, None) if self.no_first_layer && self.has_pair => two,
                    (None, None) => one,
                    (Some(a), Some(b)) if b > a => two,
                    (Some(_), _) => one,
                    (None, Some(_)) => two,
                }
            }
            named => self.of(named),
        };
        if let Some(error) = &chosen.error {
            return Err(error.clone());
        }
        let gain = chosen.gain.unwrap_or(0.0);
        // On columns of a kernel matrix back-propagation is another training: there is nothing to gain on.
        if gain <= 1.0 && !config.force && !config.kernel {
            // Below about twice the columns it is not the rows that cost too much.
            let many = chosen.collapse == Collapse::Gram && self.rows >= 2 * self.columns;
            let found = format!(
                "{gain:.2} times the speed of back-propagation for {} in batches of {}; use backprop(){} or force: true",
                rows_of(self.rows as f64),
                self.batch_size,
                if many { ", fewer rows," } else { "" }
            );
            let expected = format!("a gain from collapse \"{}\"", chosen.collapse.name());
            return Err(Error::config("rule.collapse", expected, found));
        }
        Ok(chosen.collapse)
    }
}

/// A number of rows in words.
fn rows_of(count: f64) -> String {
    format!("{count} {}", if count == 1.0 { "row" } else { "rows" })
}

fn gram<T: Real>(config: &Config, plan: &Plan<T>, situation: &Situation) -> Result<Figures> {
    let training = situation.training;
    let node = survey::first_layer(plan)?;
    survey::check_optimizer(plan, node, Collapse::Gram, config.optimizer.as_ref(), training)?;
    let (n, b) = (situation.rows as f64, training.batch_size as f64);
    let (inputs, outputs) = (plan.sizes[0] as f64, plan.sizes[plan.nodes[node].output] as f64);
    let bytes = n * n * T::BYTES as f64;
    if !config.kernel && bytes > config.limit_bytes as f64 {
        let rows = situation.rows;
        let most = (config.limit_bytes as f64 / T::BYTES as f64).sqrt().floor();
        let fewer = if most > 0.0 { format!("at most {}, ", rows_of(most)) } else { String::new() };
        let found = format!(
            "{} for K of {rows} × {rows} numbers; use {fewer}a limit of {bytes}, or backprop()",
            memory::words(bytes as usize)
        );
        let expected = format!("at most {}", memory::words(config.limit_bytes as usize));
        return Err(Error::config("rule.limitBytes", expected, found));
    }
    if config.kernel && situation.rows != plan.sizes[0] {
        let expected = format!("{} features, one for each training row, with kernel: true", situation.rows);
        return Err(Error::config("the data set", expected, plan.sizes[0]));
    }
    let optimizer = config.optimizer.as_ref().unwrap_or(&training.optimizer);
    let (kept, decays) =
        (states(optimizer), matches!(optimizer, OptimizerConfig::Sgd { weight_decay, .. } if *weight_decay != 0.0));
    let clipped = training.clip_norm.is_some();
    let partial = situation.training.batch_size < situation.rows;
    let mut step = sum_of(plan, situation, |other| other == node);
    // The layer's sums are spread over Z and C; with neither momentum nor decay only the batch's rows of C change.
    let spread = if kept > 0.0 {
        2.0 + 2.0 * kept
    } else if decays {
        2.0
    } else {
        0.0
    };
    // Z, C, their velocities, the batch.
    let kept_numbers = n * outputs * 2.0 * (1.0 + kept)
        + b * outputs * (3.0 + f64::from(u8::from(clipped)))
        + if partial { b * n } else { 0.0 };
    step += Work {
        multiply_adds: b * n * outputs + if clipped { b * b * outputs } else { 0.0 },
        moved: n * outputs * (2.1 + 2.0 * kept + spread) + b * outputs * 7.0 + b * n * if partial { 2.5 } else { 1.0 },
        calls: 4.0,
        numbers: inputs * outputs + kept_numbers,
    };
    let shared = config.kernel || situation.shared;
    let products = if shared { 0.0 } else { n * n * inputs / 2.0 };
    let export = if config.kernel { 0.0 } else { n * inputs * outputs };
    // One block of features makes Z and the export, two make K.
    let block = n.min(256.0) * inputs;
    let making = if shared { 0.0 } else { block * if n > 256.0 { 2.0 } else { 1.0 } };
    let once = Work {
        multiply_adds: products + n * inputs * outputs + export,
        moved: 2.0 * n * inputs + 4.0 * inputs * outputs,
        calls: 4.0,
        // K is made before the rest is there.
        numbers: n * n + block.max(making - kept_numbers),
    };
    Ok(figures::<T>(step, once, situation))
}

fn pairs<T: Real>(config: &Config, plan: &Plan<T>, situation: &Situation) -> Result<Figures> {
    let training = situation.training;
    let found = survey::pairs(plan)?;
    let collapsed = |node: usize| found.iter().any(|(first, second)| *first == node || *second == node);
    let mut step = sum_of(plan, situation, collapsed);
    step += Work { numbers: (training.batch_size * plan.sizes[0]) as f64, ..Work::default() };
    let (mut once, b) = (Work::default(), training.batch_size as f64);
    for (first, second) in found {
        survey::check_optimizer(plan, second, Collapse::LinearPair, config.optimizer.as_ref(), training)?;
        let (one, two) = (survey::linear(plan, first), survey::linear(plan, second));
        let (i, h, o) = (one.map.inputs() as f64 + 1.0, one.map.outputs() as f64, two.map.outputs() as f64);
        let passes = if plan.nodes[first].input == 0 { 2.0 } else { 3.0 };
        let state = i * o + i * i + o * o;
        step += Work {
            multiply_adds: passes * b * i * o + i * o * (3.0 * i + 4.0 * o),
            moved: 3.0 * state + 14.0 * i * o + b * (i + 2.0 * o),
            calls: passes + 8.0,
            numbers: (i + o) * h + state + 5.0 * i * o + 2.0 * b * o,
        };
        once += Work {
            multiply_adds: i * h * o + i * i * h / 2.0 + o * o * h + (i + o) * (i + o) * h.min(i + o) / 2.0,
            moved: 2.0 * (i + o) * h,
            calls: 6.0,
            numbers: i * h,
        };
    }
    Ok(figures::<T>(step, once, situation))
}

fn last<T: Real>(plan: &Plan<T>, situation: &Situation) -> Result<Figures> {
    let last = survey::last_layer(plan)?;
    let (rows, batch) = (situation.rows as f64, situation.training.batch_size as f64);
    let mut step = sum_of(plan, situation, |node| node < last);
    // The last layer gives no input gradient.
    step.multiply_adds -= batch * survey::linear(plan, last).map.multiply_adds() as f64;
    let mut once = Work::default();
    for node in 0..last {
        let weights = plan.nodes[node].parameters.len() as f64;
        let multiply_adds = match &plan.nodes[node].op {
            Op::Linear(linear) => rows * linear.map.multiply_adds() as f64,
            Op::Add { .. } | Op::Layer(_) => 0.0,
        };
        let values = rows.min(256.0) * plan.sizes[plan.nodes[node].output] as f64;
        once += Work { multiply_adds, moved: weights + values, calls: 1.0, numbers: weights + values };
    }
    once.numbers += rows * plan.sizes[plan.nodes[last].input] as f64;
    Ok(figures::<T>(step, once, situation))
}
