//! The slot `weights`: how weights are stored and multiplied.

use super::{Site, StateTensor};
use crate::error::Result;
use kernels::Real;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::marker::PhantomData;

/// The choices as TypeScript sends them.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Config {
    /// All of them.
    Dense {},
}

/// The choice in one linear map, with its state.
pub enum Weights<T> {
    /// All of them.
    Dense(PhantomData<T>),
}

impl<T: Real> Weights<T> {
    /// The choice for one linear map.
    pub fn new(config: &Config, _: &Site) -> Result<Self> {
        match config {
            Config::Dense {} => Ok(Weights::Dense(PhantomData)),
        }
    }

    /// What it keeps between steps.
    pub fn state(&mut self) -> Vec<StateTensor<'_, T>> {
        match self {
            Weights::Dense(_) => Vec::new(),
        }
    }

    /// Its kind and figures.
    pub fn describe(&self) -> Value {
        match self {
            Weights::Dense(_) => json!({ "kind": "dense" }),
        }
    }
}
