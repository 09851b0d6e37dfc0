//! The slot `inputs`: what a linear map sees.

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
    /// The layer below as it is.
    Raw {},
}

/// The choice in one linear map, with its state.
pub enum Inputs<T> {
    /// The layer below as it is.
    Raw(PhantomData<T>),
}

impl<T: Real> Inputs<T> {
    /// The choice for one linear map.
    pub fn new(config: &Config, _: &Site) -> Result<Self> {
        match config {
            Config::Raw {} => Ok(Inputs::Raw(PhantomData)),
        }
    }

    /// What it keeps between steps.
    pub fn state(&mut self) -> Vec<StateTensor<'_, T>> {
        match self {
            Inputs::Raw(_) => Vec::new(),
        }
    }

    /// Its kind and figures.
    pub fn describe(&self) -> Value {
        match self {
            Inputs::Raw(_) => json!({ "kind": "raw" }),
        }
    }
}
