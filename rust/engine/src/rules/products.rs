//! The slot `products`: which outer products make the weight gradient.

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
    /// One for every row.
    All {},
}

/// The choice in one linear map, with its state.
pub enum Products<T> {
    /// One for every row.
    All(PhantomData<T>),
}

impl<T: Real> Products<T> {
    /// The choice for one linear map.
    pub fn new(config: &Config, _: &Site) -> Result<Self> {
        match config {
            Config::All {} => Ok(Products::All(PhantomData)),
        }
    }

    /// What it keeps between steps.
    pub fn state(&mut self) -> Vec<StateTensor<'_, T>> {
        match self {
            Products::All(_) => Vec::new(),
        }
    }

    /// Its kind and figures.
    pub fn describe(&self) -> Value {
        match self {
            Products::All(_) => json!({ "kind": "all" }),
        }
    }
}
