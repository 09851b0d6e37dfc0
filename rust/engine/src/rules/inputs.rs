//! The slot `inputs`: what a linear map sees.

use super::decorrelated::{self, Choice, Decorrelated};
use super::{RuleConfig, Site, StateTensor, propagation};
use crate::error::{Error, Result};
use crate::rules::sparse::Candidate;
use kernels::Real;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The choices as TypeScript sends them.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Config {
    /// The layer below as it is.
    Raw {},
    /// The layer below without its correlations.
    Decorrelated(decorrelated::Config),
}

impl Config {
    /// Refuses choices in other slots that are not defined beside this one, and layers that are not there.
    pub fn check(&self, rule: &RuleConfig, maps: &[Candidate]) -> Result<()> {
        let Config::Decorrelated(config) = self else { return Ok(()) };
        config.check_layers(maps)?;
        if rule.products.batch_choice(1).is_some() {
            let expected = "layer as the scope of mem-aop beside decorrelated()";
            return Err(Error::config("rule.scope", expected, "batch"));
        }
        let found = match &rule.propagation {
            propagation::Config::Backprop {} => return Ok(()),
            propagation::Config::Dual(dual) if dual.stays_with_weights() => return Ok(()),
            propagation::Config::FrontContribution(_) => "front-contribution",
            propagation::Config::Dual(_) => "dual in mode weight, with step hyperdual or with seedAt input",
        };
        Err(Error::config("rule", "a rule that is defined beside decorrelated()", found))
    }
}

/// The choice in one linear map, with its state.
pub enum Inputs<T> {
    /// The layer below as it is, with the reason where there is one.
    Raw(Option<&'static str>),
    /// The layer below without its correlations.
    Decorrelated(Box<Decorrelated<T>>),
}

impl<T: Real> Inputs<T> {
    /// The layer below as it is.
    pub fn raw() -> Self {
        Inputs::Raw(None)
    }

    /// The choice for one linear map.
    pub fn new(config: &Config, site: &Site) -> Result<Self> {
        Ok(match config {
            Config::Raw {} => Inputs::Raw(None),
            Config::Decorrelated(config) => match Decorrelated::choose(config, site)? {
                Choice::Raw(why) => Inputs::Raw(Some(why)),
                Choice::Decorrelated(rule) => Inputs::Decorrelated(rule),
            },
        })
    }

    /// The rule that decorrelates, where there is one.
    pub fn decorrelated(&mut self) -> Option<&mut Decorrelated<T>> {
        match self {
            Inputs::Raw(_) => None,
            Inputs::Decorrelated(rule) => Some(rule),
        }
    }

    /// What it keeps between steps.
    pub fn state(&mut self) -> Vec<StateTensor<'_, T>> {
        match self {
            Inputs::Raw(_) => Vec::new(),
            Inputs::Decorrelated(rule) => rule.state(),
        }
    }

    /// Its kind and figures.
    pub fn describe(&self) -> Value {
        match self {
            Inputs::Raw(None) => json!({ "kind": "raw" }),
            Inputs::Raw(Some(why)) => json!({ "kind": "raw", "why": why }),
            Inputs::Decorrelated(rule) => rule.describe(),
        }
    }
}
