//! Sparse back-propagation (SparseProp: Nikdan, Pegolotti, Iofinova, Kurtic, Alistarh 2023, arXiv 2302.04852): forward pass, input
//! gradient and weight gradient touch only the weights that exist, and only those have gradients and optimizer state.
//!
//! The masks themselves belong to the network (`crate::masks`): they outlive a run and stand in checkpoints. This room decides
//! which layers get one ([`Sparse::plan`]), and when it changes:
//!
//! ```text
//! static   nothing changes
//! gmp      every n steps the smallest weights go, s(t) = s_end + (s_begin − s_end) (1 − t)³
//! rigl     every n steps the smallest weights give way to those with the largest gradients
//! set      the same, to random ones
//! acdc     sparse and dense phases by turns
//! ```
//!
//! Grown weights start at 0 with fresh optimizer state. A step in which RigL exchanges weights takes no step in the weights of that
//! layer, as in its authors' code.

pub mod distribution;
pub mod growth;
pub mod probe;
pub mod schedule;

use super::{Moment, Site, StateTensor};
use crate::error::{Error, Result};
use crate::layers::map::Map;
use crate::layers::support;
use distribution::{Distribution, share_out};
use kernels::Real;
use kernels::sparse::Pattern;
use schedule::{Schedule, Wanted};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The options as TypeScript sends them.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Config {
    /// Which layers, and how many zeros.
    pub choice: Choice,
    /// How masks change.
    pub schedule: Schedule,
    /// Whether a layer is sparse only where that was measured to be faster here.
    pub auto: bool,
}

/// Which layers get zeros, and how many.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Choice {
    /// Share of zeros, from 0 to below 1.
    pub sparsity: f64,
    /// How they are shared out between layers.
    pub distribution: Distribution,
    /// Names of the layers; without them all but the last, and but a first convolution.
    pub layers: Option<Vec<String>>,
    /// A layer that would have less sparsity stays dense.
    pub min_sparsity: f64,
    /// Whether layers may be left without any weight.
    pub allow_empty: bool,
}

/// A linear map of a network, for the choice of layers.
pub struct Candidate<'a> {
    /// Its layer, such as `2.body.0`.
    pub layer: &'a str,
    /// The layer as messages call it.
    pub name: String,
    /// The map.
    pub map: &'a Map,
    /// Whether it reads the network's input.
    pub first: bool,
    /// Whether its outputs are the network's.
    pub last: bool,
}

/// Weights that are left of `all` at some sparsity.
pub fn kept(all: usize, sparsity: f64) -> usize {
    ((1.0 - sparsity) * all as f64).round() as usize
}

impl Choice {
    /// The sparsity of each map; none for those that stay dense. `others` are names of layers without weights to be sparse, with
    /// their kinds.
    pub fn plan(&self, maps: &[Candidate], others: &[(String, &str)]) -> Result<Vec<Option<f64>>> {
        for (name, value) in [("rule.sparsity", self.sparsity), ("rule.minSparsity", self.min_sparsity)] {
            if !(0.0..1.0).contains(&value) {
                return Err(Error::config(name, "a number from 0 up to below 1", value));
            }
        }
        if let Some(layers) = &self.layers {
            for layer in layers {
                if maps.iter().any(|map| map.layer == layer) {
                    continue;
                }
                let kind = others.iter().find(|(name, _)| name == layer).map(|(_, kind)| *kind);
                let found = kind.map_or(format!("{layer}, which the network does not have"), |kind| {
                    format!("layer {layer} ({kind}), which has no weights to be sparse")
                });
                return Err(Error::config("rule.layers", "names of dense and conv2d layers", found));
            }
        }
        let wanted = |map: &&Candidate| match &self.layers {
            Some(layers) => layers.iter().any(|layer| layer == map.layer),
            None => !(map.last || map.first && matches!(map.map, Map::Conv(_))),
        };
        let chosen: Vec<&Candidate> = maps.iter().filter(wanted).collect();
        if chosen.is_empty() {
            let expected = "the name of at least one layer (the last one stays dense unless it is named, and so does a first conv2d)";
            return Err(Error::config("rule.layers", expected, "none"));
        }
        for map in &chosen {
            support::shape_of(&map.name, map.map)?;
        }
        let shares = share_out(self.distribution, self.sparsity, &chosen.iter().map(|map| map.map).collect::<Vec<_>>());
        let most = shares.iter().copied().fold(0.0, f64::max);
        if most < self.min_sparsity {
            let expected = format!("a number that leaves a layer sparse (up to {most})");
            return Err(Error::config("rule.minSparsity", expected, self.min_sparsity));
        }
        let mut plan = vec![None; maps.len()];
        for (map, share) in chosen.iter().zip(shares) {
            // A mask of all weights would only cost memory; asked for as such it is made, and computes as the plain layer does.
            let left = kept(map.map.weights(), share);
            let whole = self.sparsity > 0.0 && left == map.map.weights();
            if whole || share < self.min_sparsity {
                continue;
            }
            if left == 0 && !self.allow_empty {
                let expected =
                    format!("a sparsity that leaves {} a weight (allowEmpty: true overrides this)", map.name);
                return Err(Error::config("rule.sparsity", expected, share));
            }
            let place = maps.iter().position(|other| std::ptr::eq(other, *map));
            place.into_iter().for_each(|place| plan[place] = Some(share));
        }
        Ok(plan)
    }
}

/// The rule in one linear map.
pub struct Sparse<T> {
    schedule: Schedule,
    /// Sparsity in the end; none where the map stays dense.
    sparsity: Option<f64>,
    number: u32,
    total: u64,
    /// Where the run measures: whether sparse was faster (1 or 0), seconds of a step sparse and dense.
    measured: Option<[T; 3]>,
    /// Changes of the mask in this process.
    changes: u64,
}

impl<T: Real> Sparse<T> {
    /// The rule in one map, which gets `sparsity` in the end.
    pub fn new(config: &Config, site: &Site, sparsity: Option<f64>) -> Result<Sparse<T>> {
        config.schedule.check(config.choice.sparsity)?;
        let measured = (config.auto && sparsity.is_some()).then(|| [T::one(), T::zero(), T::zero()]);
        let schedule = config.schedule.clone();
        Ok(Sparse { schedule, sparsity, number: site.number, total: site.total_steps, measured, changes: 0 })
    }

    /// Sparsity in the end, where the map takes part.
    fn target(&self) -> Option<f64> {
        let fast = self.measured.is_none_or(|[faster, ..]| faster == T::one());
        self.sparsity.filter(|_| fast)
    }

    /// Notes how long a step takes, sparse and dense; says whether the map takes part, which one with a mask does in any case.
    pub fn decide(&mut self, (sparse, dense): (f64, f64), masked: bool) {
        let faster = if masked || sparse < dense { T::one() } else { T::zero() };
        self.measured = Some([faster, T::of(sparse), T::of(dense)]);
    }

    /// The sparsity to measure at, where the run measures: that which the map will have in the end, with the mask that it has now.
    pub fn to_measure(&self, pattern: Option<&Pattern>) -> Option<f64> {
        let masked = pattern.map_or(0.0, |pattern| 1.0 - pattern.density());
        self.sparsity.filter(|_| self.measured.is_some()).map(|sparsity| sparsity.max(masked))
    }

    /// The mask to begin a run with, of a map that has `pattern` now, none for all weights: a random one, or what is left of the mask
    /// that there is. Nothing where it stays as it is.
    pub fn first_mask(&self, map: &Map, pattern: Option<&Pattern>, values: &[T], seed: u64) -> Option<Pattern> {
        if !self.schedule.starts_sparse() {
            return None;
        }
        let keep = kept(map.weights(), self.target()?);
        match pattern {
            None => Some(pattern_of(map, &growth::random(map.weights(), keep, (seed, self.number, 0)))),
            Some(pattern) if keep < pattern.len() => Some(growth::largest(pattern, values, keep)),
            Some(_) => None,
        }
    }

    /// The mask to go on with from step `step`: `pattern` is that of now, none for all weights. Gives none where nothing changes, and
    /// `Some(None)` for all weights.
    pub fn next_mask(
        &mut self,
        map: &Map,
        pattern: Option<&Pattern>,
        values: &[T],
        (seed, step): (u64, u64),
    ) -> Option<Option<Pattern>> {
        let wanted = self.schedule.wanted(step, self.total, self.target()?);
        let now = pattern.map_or(map.weights(), Pattern::len);
        let next = match (wanted, pattern) {
            (Wanted::Same, _) | (Wanted::Dense, None) | (Wanted::Chance(_), None) => return None,
            (Wanted::Dense, Some(_)) => None,
            (Wanted::Sparsity(sparsity), pattern) => {
                let keep = kept(map.weights(), sparsity);
                if keep >= now && (pattern.is_some() || sparsity == 0.0) {
                    return None;
                }
                Some(pruned(map, pattern, values, keep))
            }
            (Wanted::Chance(share), Some(pattern)) => {
                let count = exchangeable(pattern, share);
                Some(growth::by_chance(pattern, values, count, (seed, self.number, step as u32)))
            }
        };
        self.changes += 1;
        Some(next)
    }

    /// How many weights to exchange for those with the largest gradients in this step.
    pub fn exchanged(&mut self, pattern: &Pattern, moment: &Moment) -> Option<usize> {
        self.target()?;
        let share = self.schedule.by_gradient(moment.step, self.total)?;
        self.changes += 1;
        Some(exchangeable(pattern, share))
    }

    /// What it keeps between steps: what was measured, since another measurement could come out otherwise. The masks are the
    /// network's, all else follows from the step.
    pub fn state(&mut self) -> Vec<StateTensor<'_, T>> {
        let values = self.measured.as_mut().map(|measured| &mut measured[..]);
        values.into_iter().map(|values| StateTensor { name: "weights.measured", shape: vec![3], values }).collect()
    }

    /// Its figures.
    pub fn describe(&self) -> Value {
        let mut figures = json!({ "kind": "sparse", "schedule": self.schedule, "changes": self.changes });
        match self.sparsity {
            None => figures["why"] = json!("stays dense: not among the layers, or below minSparsity"),
            Some(sparsity) => figures["target"] = json!(sparsity),
        }
        if let Some(idle) = self.schedule.idle(self.total) {
            figures["idle"] = json!(idle);
        }
        if let Some([faster, sparse, dense]) = self.measured {
            let milliseconds = |seconds: T| seconds.wide() * 1e3;
            figures["measured"] = json!({
                "sparse": faster == T::one(), "sparseMs": milliseconds(sparse), "denseMs": milliseconds(dense),
            });
        }
        figures
    }
}

/// The pattern with the largest weights of a map that has all, or some.
pub fn pruned<T: Real>(map: &Map, pattern: Option<&Pattern>, values: &[T], keep: usize) -> Pattern {
    match pattern {
        Some(pattern) => growth::largest(pattern, values, keep),
        None => pattern_of(map, &growth::largest_of_dense(values, keep)),
    }
}

/// The pattern of a map that may be sparse, from ascending positions in its dense weights.
pub fn pattern_of(map: &Map, positions: &[usize]) -> Pattern {
    match support::shape(map).and_then(|shape| Pattern::from_positions(shape, positions)) {
        Ok(pattern) => pattern,
        Err(fault) => unreachable!("a map that was checked: {fault}"),
    }
}

/// Weights that a share means, as far as there are free places.
fn exchangeable(pattern: &Pattern, share: f64) -> usize {
    let free = pattern.shape().dense_len() - pattern.len();
    ((share * pattern.len() as f64).round() as usize).min(free)
}
