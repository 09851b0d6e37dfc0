//! The slots of a training step and what can fill them. Each slot has a file with its choices; each learning rule has a room of
//! its own beside them.
//!
//! | slot | question | choices |
//! | --- | --- | --- |
//! | [`propagation`] | how does the loss reach each weight? | backprop, [`dual`], [`front_contribution`] |
//! | [`inputs`] | what does a linear map see? | raw, [`decorrelated`] |
//! | [`weights`] | how are weights stored and multiplied? | dense, [`sparse`] |
//! | [`products`] | which outer products make the weight gradient? | all, [`mem_aop`] |

pub mod decorrelated;
pub mod dual;
pub mod front_contribution;
pub mod inputs;
pub mod mem_aop;
pub mod products;
pub mod propagation;
pub mod sparse;
pub mod weights;

use crate::config::{OptimizerConfig, TrainingConfig};
use crate::error::{Error, Result};
use crate::layers::map::Map;
use inputs::Inputs;
use kernels::Real;
use products::Products;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::marker::PhantomData;
use weights::Weights;

/// A learning rule: one choice for each slot.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RuleConfig {
    /// How the loss reaches each weight.
    pub propagation: propagation::Config,
    /// What a linear map sees.
    pub inputs: inputs::Config,
    /// How weights are stored and multiplied.
    pub weights: weights::Config,
    /// Which outer products make the weight gradient.
    pub products: products::Config,
}

impl RuleConfig {
    /// Whether inputs and products are plain: sparse maps may then hand each other tiles, which nobody else reads.
    pub fn is_plain_beside_weights(&self) -> bool {
        let slots = (&self.inputs, &self.products);
        let passes = !matches!(self.propagation, propagation::Config::Dual(_));
        passes && matches!(slots, (inputs::Config::Raw {}, products::Config::All {}))
    }
}

/// What the rule put into the slots of one linear map, with the state that it keeps there.
pub struct Slots<T> {
    /// What the map sees.
    pub inputs: Inputs<T>,
    /// How its weights are stored and multiplied.
    pub weights: Weights<T>,
    /// Which outer products make its weight gradient.
    pub products: Products<T>,
}

impl<T: Real> Default for Slots<T> {
    /// The plain choices.
    fn default() -> Self {
        Slots { inputs: Inputs::raw(), weights: Weights::Dense(PhantomData), products: Products::All(PhantomData) }
    }
}

/// What a slot may know about its linear map when a run begins.
pub struct Site<'a> {
    /// The layer as messages call it: `layer 2 (dense)`.
    pub name: String,
    /// Its layer, such as `2.body.0`.
    pub layer: String,
    /// Number among the linear maps, in the order of the forward pass: keeps their random numbers apart.
    pub number: u32,
    /// The map.
    pub map: Map,
    /// Whether there is a bias.
    pub bias: bool,
    /// Whether it reads the network's input.
    pub first: bool,
    /// Whether its outputs are the network's.
    pub last: bool,
    /// Whether the network has learnt nothing yet.
    pub untrained: bool,
    /// Whether the network has convolutions.
    pub convolves: bool,
    /// Most rows of a batch.
    pub batch: usize,
    /// Threads that work on it.
    pub threads: usize,
    /// Steps of the run.
    pub total_steps: u64,
    /// Sparsity of its weights in the end, where the rule gives it zeros.
    pub sparsity: Option<f64>,
    /// Whether it has a mask already.
    pub masked: bool,
    /// The run.
    pub training: &'a TrainingConfig,
}

impl Site<'_> {
    /// The optimizer of the run.
    pub fn optimizer(&self) -> &OptimizerConfig {
        &self.training.optimizer
    }
}

/// When a step takes place: what a slot's random choices are keyed by, and the rate of the step.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// Seed of the run.
    pub seed: u64,
    /// Steps done before this one.
    pub step: u64,
    /// Learning rate of this step, the schedule's factor included.
    pub rate: f64,
    /// The schedule's factor alone; 0 where a gradient is wanted but no step is taken.
    pub factor: f64,
}

/// A piece of state that a slot keeps between steps, to be saved and restored.
pub struct StateTensor<'a, T> {
    /// Name inside the linear map, such as `memory.inputs`.
    pub name: &'static str,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its values.
    pub values: &'a mut [T],
}

impl<T: Real> Slots<T> {
    /// What the rule of a run puts into the slots of one linear map.
    pub fn new(site: &Site) -> Result<Slots<T>> {
        let rule = &site.training.rule;
        let slots = Slots {
            inputs: Inputs::new(&rule.inputs, site)?,
            weights: Weights::new(&rule.weights, site, site.sparsity)?,
            products: Products::new(&rule.products, site)?,
        };
        if (site.sparsity.is_some() || site.masked) && slots.products.keeps_patches() {
            let expected = "images or exact as the convolution of mem-aop beside sparse weights";
            return Err(Error::config("rule.convolution", expected, format!("patches in {}", site.name)));
        }
        Ok(slots)
    }

    /// All state of the slots, in a fixed order.
    pub fn state(&mut self) -> Vec<StateTensor<'_, T>> {
        let mut list = self.inputs.state();
        list.extend(self.weights.state());
        list.extend(self.products.state());
        list
    }

    /// What fills the slots, with the figures that each choice keeps about itself.
    pub fn describe(&self) -> Value {
        json!({
            "inputs": self.inputs.describe(),
            "weights": self.weights.describe(),
            "products": self.products.describe(),
        })
    }
}
