//! Mem-AOP-GD (Hernandez, Rini, Duman 2021, "Speeding-Up Back-Propagation in DNN: Approximate Outer Product with Memory",
//! arXiv 2110.09164): the weight gradient Xᵀ G is a sum of outer products, one for each row of the batch; k of them are kept, and a
//! residual memory carries what was left over.
//!
//! ```text
//! algorithm of the paper, for one layer and one step, with rate η:
//!   X ← memory of X + √η · X          G ← memory of G + √η · G
//!   S ← k rows by ‖X row‖ · ‖G row‖
//!   W ← W − X[S]ᵀ G[S]
//!   the rows of S leave the memory; the others stay, times √α
//! ```
//!
//! Beside the paper (see `docs/mem_aop.md`): an exact mean term, policies without bias, convolutions, and one choice of
//! rows for all layers. With an optimizer other than plain gradient descent the factors carry no rate, and the optimizer gets
//! X[S]ᵀ G[S] as the gradient.
//!
//! This room decides what each layer does ([`MemAop::new`]); [`samples`] keeps rows that are samples, with memory; [`patches`] keeps
//! patches of a convolution, without; [`batch`] keeps samples once for all layers.

pub mod batch;
mod comparison;
mod patches;
pub mod samples;
mod worth;

use super::{Moment, Site, StateTensor};
use crate::config::OptimizerConfig;
use crate::error::{Error, Result};
use crate::layers::Pass;
use crate::layers::map::Map;
use crate::layers::support::Support;
use comparison::Comparison;
use kernels::select::Policy;
use kernels::{Par, Real};
use patches::Patches;
use samples::Samples;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The options as TypeScript sends them.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Config {
    /// Rows of a batch to keep; without it `fraction` says.
    pub k: Option<usize>,
    /// Share of the rows to keep; without both, a quarter but at least 8 rows.
    pub fraction: Option<f64>,
    /// How rows are chosen.
    pub policy: PolicyName,
    /// Whether rows that are not chosen stay in a memory.
    pub memory: bool,
    /// Share of the memory (of its products) that is left after a step.
    pub decay: f64,
    /// Whether the part of the product that the column means make is exact.
    pub center: bool,
    /// Whether each layer chooses, or the loss for all of them.
    pub scope: Scope,
    /// What convolutions keep.
    pub convolution: Convolution,
    /// Inputs · outputs / (inputs + outputs) from which on a layer takes part; without it, where that saves time.
    pub min_size: Option<f64>,
    /// Whether the network's last linear map keeps all rows.
    pub exact_output: bool,
    /// Whether a batch that is not full is left out.
    pub whole_batches: bool,
    /// Whether each step compares its product with the exact one.
    pub cosine: bool,
    /// Whether combinations that are known to diverge are allowed.
    pub force: bool,
}

/// How rows are chosen: see [`Policy`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)] // Described at `Policy`.
pub enum PolicyName {
    TopK,
    WeightedK,
    RandK,
    Crs,
    Wta,
}

impl PolicyName {
    /// All of them, in the order of their numbers at the boundary.
    pub const ALL: [PolicyName; 5] =
        [PolicyName::TopK, PolicyName::WeightedK, PolicyName::RandK, PolicyName::Crs, PolicyName::Wta];

    /// The policy of that name.
    pub fn policy(self) -> Policy {
        match self {
            PolicyName::TopK => Policy::TopK,
            PolicyName::WeightedK => Policy::WeightedK,
            PolicyName::RandK => Policy::RandK,
            PolicyName::Crs => Policy::Crs,
            PolicyName::Wta => Policy::Wta,
        }
    }

    /// Whether chosen rows get weights that make the sum right on average; such sums need no memory, and cannot have one.
    fn weighs(self) -> bool {
        matches!(self, PolicyName::Crs | PolicyName::Wta)
    }
}

/// Who chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Scope {
    /// Each layer, by its own inputs and gradients.
    Layer,
    /// The loss, for all layers.
    Batch,
}

/// What convolutions keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Convolution {
    /// Patches, without memory.
    Patches,
    /// Whole images, with memory where the rule has one.
    Images,
    /// Everything.
    Exact,
}

impl Config {
    /// Rows that are kept of a batch of `rows`.
    fn keep(&self, rows: usize) -> usize {
        let share = |fraction: f64| (fraction * rows as f64).round() as usize;
        match (self.k, self.fraction) {
            (Some(k), _) => k,
            (None, Some(fraction)) => share(fraction).max(1),
            (None, None) => share(0.25).max(8),
        }
        .min(rows)
    }

    /// Refuses what cannot be, or is known not to work.
    fn check(&self, batch: usize, optimizer: &OptimizerConfig) -> Result<()> {
        if let Some(k) = self.k
            && !(1..=batch).contains(&k)
        {
            return Err(Error::config("rule.k", format!("a whole number from 1 to {batch} (the rows of a batch)"), k));
        }
        if let Some(fraction) = self.fraction
            && !(fraction > 0.0 && fraction <= 1.0)
        {
            return Err(Error::config("rule.fraction", "a number above 0 and up to 1", fraction));
        }
        if !(0.0..=1.0).contains(&self.decay) {
            return Err(Error::config("rule.decay", "a number from 0 to 1", self.decay));
        }
        if let Some(size) = self.min_size
            && (size.is_nan() || size < 0.0)
        {
            return Err(Error::config("rule.minSize", "a number from 0 up", size));
        }
        if self.memory && self.policy.weighs() {
            let expected = "false with the policies crs and wta, whose sums are right on average without one";
            return Err(Error::config("rule.memory", expected, true));
        }
        if self.scope == Scope::Batch && (self.memory || self.center) {
            let name = if self.memory { "rule.memory" } else { "rule.center" };
            let expected = "false with scope batch, where rows that are not chosen have no gradients";
            return Err(Error::config(name, expected, true));
        }
        if self.memory && self.policy == PolicyName::RandK && !carries_rate(optimizer) && !self.force {
            let expected = "topK or weightedK with memory under an optimizer with moments (randK diverges there; force: true \
                            overrides this)";
            return Err(Error::config("rule.policy", expected, "randK"));
        }
        Ok(())
    }
}

/// Whether the memory holds factors with √rate in them, as in the paper: for gradient descent without momentum. Other optimizers
/// scale what they get by themselves.
fn carries_rate(optimizer: &OptimizerConfig) -> bool {
    matches!(optimizer, OptimizerConfig::Sgd { momentum, .. } if *momentum == 0.0)
}

/// What one linear map does.
enum Mode<T> {
    /// Everything, and why.
    Exact(&'static str),
    /// Keep samples.
    Samples(Box<Samples<T>>),
    /// Keep patches.
    Patches(Box<Patches<T>>),
}

/// The rule in one linear map, with its state.
pub struct MemAop<T> {
    mode: Mode<T>,
    comparison: Option<Comparison<T>>,
}

/// What makes a weight gradient.
pub enum Chosen<'a, T> {
    /// Samples of the map, `count` of them: a smaller batch.
    Samples {
        /// How many.
        count: usize,
        /// Their inputs.
        x: &'a [T],
        /// Their gradients.
        g: &'a [T],
        /// Sums of the gradients of all samples, where they are known already: the bias gradient of a dense map.
        sums: Option<&'a [T]>,
    },
    /// Patches of a convolution.
    Patches {
        /// Which, and memory to work with.
        chosen: &'a mut Patches<T>,
        /// Inputs of the whole batch.
        x: &'a [T],
    },
}

impl<T: Real> Chosen<'_, T> {
    /// Writes the sums of all gradients to `out`, where they are known.
    pub fn write_sums(&self, out: &mut [T]) -> bool {
        let Chosen::Samples { sums: Some(sums), .. } = self else { return false };
        out.copy_from_slice(sums);
        true
    }

    /// dw = the sum over what was chosen.
    pub fn weight_gradient(&mut self, map: &Map, par: Par, dw: &mut [T], scratch: &mut [T]) {
        match self {
            // An unbiased choice among gradients that are all 0.
            Chosen::Samples { count: 0, .. } => dw.fill(T::zero()),
            Chosen::Samples { count, x, g, .. } => map.weight_gradient(par, *count, x, g, dw, scratch),
            Chosen::Patches { chosen, x } => chosen.weight_gradient(par, x, dw),
        }
    }
}

impl<T: Real> Chosen<'_, T> {
    /// dw at the non-zeros of a sparse map. Patches are refused beside sparse weights before a run begins.
    pub fn sparse_weight_gradient(&self, support: &Support<T>, par: Par, dw: &mut [T], scratch: &mut [T]) {
        match self {
            Chosen::Samples { count: 0, .. } => dw.fill(T::zero()),
            Chosen::Samples { count, x, g, .. } => support.weight_gradient(par, *count, x, g, dw, scratch),
            Chosen::Patches { .. } => unreachable!("patches beside sparse weights"),
        }
    }
}

impl<T: Real> MemAop<T> {
    /// Whether it keeps all rows, whatever they are.
    pub fn keeps_all(&self) -> bool {
        matches!(self.mode, Mode::Exact(_))
    }

    /// Whether it keeps patches.
    pub fn keeps_patches(&self) -> bool {
        matches!(self.mode, Mode::Patches(_))
    }

    /// Decides what a map does, and makes its memory.
    pub fn new(config: &Config, site: &Site) -> Result<MemAop<T>> {
        config.check(site.batch, site.optimizer())?;
        let mode = Self::mode(config, site)?;
        let compare = config.cosine && !matches!(mode, Mode::Exact(_));
        let comparison = if compare { Some(Comparison::new(site.map.weights())?) } else { None };
        Ok(MemAop { mode, comparison })
    }

    fn mode(config: &Config, site: &Site) -> Result<Mode<T>> {
        if config.scope == Scope::Batch {
            return Ok(Mode::Exact("the loss chooses rows for all layers"));
        }
        if site.last && config.exact_output {
            return Ok(Mode::Exact("output layer"));
        }
        let patches = match &site.map {
            Map::Dense { .. } => false,
            Map::Conv(_) if config.convolution == Convolution::Exact => {
                return Ok(Mode::Exact("convolution: exact"));
            }
            Map::Conv(g) if config.convolution == Convolution::Patches && g.groups > 1 => {
                return Ok(Mode::Exact("patches of grouped convolutions are not chosen"));
            }
            Map::Conv(_) => config.convolution == Convolution::Patches,
        };
        let small = match config.min_size {
            Some(size) => worth::size(&site.map) < size,
            None => !worth::wins(config, &site.map, site.batch, (1.0 - site.sparsity.unwrap_or(0.0), patches)),
        };
        if small {
            return Ok(Mode::Exact("too small to save time"));
        }
        Ok(match (&site.map, patches) {
            (Map::Conv(geometry), true) => Mode::Patches(Box::new(Patches::new(config, *geometry, site)?)),
            (Map::Conv(_) | Map::Dense { .. }, _) => Mode::Samples(Box::new(Samples::new(config, site)?)),
        })
    }

    /// Chooses among the rows of a batch: `x` are the map's inputs, `g` the gradients of its pre-activations.
    pub fn choose<'a>(
        &'a mut self,
        pass: &Pass,
        x: &'a [T],
        g: &'a [T],
        moment: &Moment,
    ) -> (Chosen<'a, T>, Option<&'a mut Comparison<T>>) {
        let chosen = match &mut self.mode {
            Mode::Exact(_) => Chosen::Samples { count: pass.rows, x, g, sums: None },
            Mode::Samples(samples) => samples.choose(pass, x, g, moment),
            Mode::Patches(patches) => {
                patches.choose(pass, x, g, moment);
                Chosen::Patches { chosen: patches, x }
            }
        };
        (chosen, self.comparison.as_mut())
    }

    /// What it keeps between steps.
    pub fn state(&mut self) -> Vec<StateTensor<'_, T>> {
        match &mut self.mode {
            Mode::Samples(samples) => samples.state(),
            Mode::Exact(_) | Mode::Patches(_) => Vec::new(),
        }
    }

    /// What it does and, about the last step, how well.
    pub fn describe(&self) -> Value {
        let mut figures = match &self.mode {
            Mode::Exact(why) => json!({ "keeps": "all", "why": why }),
            Mode::Samples(samples) => samples.describe(),
            Mode::Patches(patches) => patches.describe(),
        };
        figures["kind"] = json!("memAop");
        if let Some(comparison) = &self.comparison {
            figures["cosine"] = json!(comparison.cosine);
        }
        figures
    }
}
