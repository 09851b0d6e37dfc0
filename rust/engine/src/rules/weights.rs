//! The slot `weights`: how weights are stored and multiplied.

use super::sparse::schedule::Schedule;
use super::sparse::{self, Candidate, Sparse};
use super::{Moment, Site, StateTensor};
use crate::error::Result;
use kernels::Real;
use kernels::sparse::Pattern;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::marker::PhantomData;

/// The choices as TypeScript sends them.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Config {
    /// As the network has them: all, or those of its masks.
    Dense {},
    /// Under masks that the rule makes and changes.
    Sparse(sparse::Config),
}

impl Config {
    /// Sparsity of each map in the end; none for those that stay as they are.
    pub fn plan(&self, maps: &[Candidate], others: &[(String, &str)]) -> Result<Vec<Option<f64>>> {
        match self {
            Config::Dense {} => Ok(vec![None; maps.len()]),
            Config::Sparse(config) => config.choice.plan(maps, others),
        }
    }

    /// Whether there are steps that need the gradient of weights that there are not.
    pub fn grows_by_gradient(&self) -> bool {
        matches!(self, Config::Sparse(sparse::Config { schedule: Schedule::Rigl { .. }, .. }))
    }
}

/// The choice in one linear map, with its state.
pub enum Weights<T> {
    /// As the network has them.
    Dense(PhantomData<T>),
    /// Under a mask that the rule makes and changes.
    Sparse(Sparse<T>),
}

impl<T: Real> Weights<T> {
    /// The choice for one linear map, which shall have a share of `sparsity` zeros in the end.
    pub fn new(config: &Config, site: &Site, sparsity: Option<f64>) -> Result<Self> {
        match config {
            Config::Dense {} => Ok(Weights::Dense(PhantomData)),
            Config::Sparse(config) => Ok(Weights::Sparse(Sparse::new(config, site, sparsity)?)),
        }
    }

    /// The rule that makes and changes the mask, where there is one.
    pub fn sparse(&mut self) -> Option<&mut Sparse<T>> {
        match self {
            Weights::Dense(_) => None,
            Weights::Sparse(rule) => Some(rule),
        }
    }

    /// How many weights give way to those with the largest gradients in this step, where any do.
    pub fn exchanged(&mut self, pattern: &Pattern, moment: &Moment) -> Option<usize> {
        self.sparse()?.exchanged(pattern, moment)
    }

    /// What it keeps between steps.
    pub fn state(&mut self) -> Vec<StateTensor<'_, T>> {
        match self {
            Weights::Dense(_) => Vec::new(),
            Weights::Sparse(rule) => rule.state(),
        }
    }

    /// Its kind and figures.
    pub fn describe(&self) -> Value {
        match self {
            Weights::Dense(_) => json!({ "kind": "dense" }),
            Weights::Sparse(rule) => rule.describe(),
        }
    }
}
