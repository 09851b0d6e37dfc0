//! The slot `products`: which outer products make the weight gradient.

use super::mem_aop::{self, Chosen, MemAop};
use super::{Moment, Site, StateTensor};
use crate::error::Result;
use crate::layers::Pass;
use crate::layers::map::Map;
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
    /// The largest, or a sample, with what was left over.
    MemAop(mem_aop::Config),
}

impl Config {
    /// Whether batches that are not full are left out.
    pub fn whole_batches(&self) -> bool {
        match self {
            Config::All {} => false,
            Config::MemAop(config) => config.whole_batches,
        }
    }

    /// The rows that a run chooses at the loss, for all layers, if it does.
    pub fn batch_choice(&self, batch: usize) -> Option<mem_aop::batch::BatchChoice> {
        match self {
            Config::All {} => None,
            Config::MemAop(config) => mem_aop::batch::BatchChoice::new(config, batch),
        }
    }
}

/// The choice in one linear map, with its state.
pub enum Products<T> {
    /// One for every row.
    All(PhantomData<T>),
    /// The largest, or a sample, with what was left over.
    MemAop(MemAop<T>),
}

impl<T: Real> Products<T> {
    /// The choice for one linear map.
    pub fn new(config: &Config, site: &Site) -> Result<Self> {
        match config {
            Config::All {} => Ok(Products::All(PhantomData)),
            Config::MemAop(config) => Ok(Products::MemAop(MemAop::new(config, site)?)),
        }
    }

    /// Whether every row makes an outer product, always.
    pub fn all(&self) -> bool {
        match self {
            Products::All(_) => true,
            Products::MemAop(rule) => rule.keeps_all(),
        }
    }

    /// Whether it keeps patches of a convolution.
    pub fn keeps_patches(&self) -> bool {
        match self {
            Products::All(_) => false,
            Products::MemAop(rule) => rule.keeps_patches(),
        }
    }

    /// The rows that make the weight gradient of this step: `x` are the map's inputs, `g` the gradients of its pre-activations.
    pub fn choose<'a>(
        &'a mut self,
        pass: &Pass,
        map: &Map,
        (x, g): (&'a [T], &'a [T]),
        moment: &Moment,
        scratch: &mut [T],
    ) -> Chosen<'a, T> {
        match self {
            Products::All(_) => Chosen::Samples { count: pass.rows, x, g, sums: None },
            Products::MemAop(rule) => {
                let (mut chosen, comparison) = rule.choose(pass, x, g, moment);
                if let Some(comparison) = comparison {
                    comparison.measure(map, pass, (x, g), &mut chosen, scratch);
                }
                chosen
            }
        }
    }

    /// What it keeps between steps.
    pub fn state(&mut self) -> Vec<StateTensor<'_, T>> {
        match self {
            Products::All(_) => Vec::new(),
            Products::MemAop(rule) => rule.state(),
        }
    }

    /// Its kind and figures.
    pub fn describe(&self) -> Value {
        match self {
            Products::All(_) => json!({ "kind": "all" }),
            Products::MemAop(rule) => rule.describe(),
        }
    }
}
