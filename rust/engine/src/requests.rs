//! Requests to a network beside training and prediction: one door for all of them, so that a new one does not change the
//! boundary. A request and its answer are JSON.

use crate::config::TrainingConfig;
use crate::error::{Error, Result, parse};
use crate::masks::By;
use crate::network::Network;
use crate::plan::Op;
use crate::rules::front_contribution::cost;
use crate::rules::front_contribution::survey::Situation;
use crate::rules::propagation;
use crate::rules::sparse::Choice;
use kernels::Real;
use serde::Deserialize;
use serde_json::{Value, json};

/// What can be asked.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "do", rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Request {
    /// What the learning rule put into the slots of each linear map, with its figures.
    DescribeRule {},
    /// Which linear maps have masks, and how many weights.
    DescribeMasks {},
    /// Makes masks from the weights.
    Sparsify {
        /// Which layers, and how many zeros.
        choice: Choice,
        /// Which weights stay.
        by: By,
        /// Seed of random masks.
        seed: u64,
    },
    /// Takes all masks away.
    Densify {},
    /// How the rule of the run in training carries the loss to the weights, with its figures.
    DescribePropagation {},
    /// What the front contribution would collapse in a run on some rows, and what that would cost.
    PlanFrontContribution {
        /// The run.
        training: Box<TrainingConfig>,
        /// Training rows.
        rows: usize,
        /// Whether the products of the rows are kept from elsewhere.
        shared: bool,
    },
    /// Has evaluations count how correlated the inputs of linear maps are, by so many rows of each sample of a convolution.
    WatchInputs {
        /// Patches of a sample.
        patches: usize,
    },
    /// What evaluations have counted since then; they stop counting.
    DescribeInputs {},
    /// How near the rule's gradient is to back-propagation's.
    GradientCosines {},
    /// Bytes that the run in training takes.
    TrainingMemory {},
    /// Begins to measure the time of each layer in training.
    StartLayerTimes {},
    /// What was measured.
    LayerTimes {},
    /// Puts the running averages in the place of the parameters, or takes them out again.
    UseAverage {
        /// Which of the two.
        on: bool,
    },
}

impl<T: Real> Network<T> {
    /// Carries out a request.
    pub fn request(&mut self, json: &str) -> Result<String> {
        let answer = match parse::<Request>("the request", json)? {
            Request::DescribeRule {} => self.describe_rule(),
            Request::DescribeMasks {} => self.describe_masks(),
            Request::Sparsify { choice, by, seed } => self.sparsify(&choice, by, seed)?,
            Request::Densify {} => self.densify()?,
            Request::DescribePropagation {} => self.describe_propagation(),
            Request::PlanFrontContribution { training, rows, shared } => self.plan_front(&training, rows, shared)?,
            Request::WatchInputs { patches } => self.watch_inputs(patches)?,
            Request::DescribeInputs {} => self.describe_inputs(),
            Request::GradientCosines {} => self.gradient_cosines()?,
            Request::TrainingMemory {} => self.training_memory()?,
            Request::StartLayerTimes {} => self.start_layer_times()?,
            Request::LayerTimes {} => self.layer_times()?,
            Request::UseAverage { on } => self.use_average(on)?,
        };
        Ok(answer.to_string())
    }

    fn describe_propagation(&self) -> Value {
        let Some(training) = &self.training else { return json!({ "kind": "backprop" }) };
        match &training.front {
            Some(front) => front.describe(),
            None => training.propagation.describe(&self.plan, training.config.batch_size),
        }
    }

    fn plan_front(&self, training: &TrainingConfig, rows: usize, shared: bool) -> Result<Value> {
        let propagation::Config::FrontContribution(rule) = &training.rule.propagation else {
            return Err(Error::config("rule", "frontContribution() for a plan", "another rule"));
        };
        let situation = Situation { rows, shared, training };
        Ok(json!(cost::forecast(rule, &self.plan, &situation)?))
    }

    fn describe_rule(&self) -> Value {
        let maps = self.plan.nodes.iter().filter_map(|node| match &node.op {
            Op::Linear(linear) => {
                let mut slots = linear.slots.describe();
                let weights = json!({ "nonZeros": linear.weights(), "sparsity": 1.0 - linear.weights() as f64 / linear.map.weights() as f64 });
                if let (true, Value::Object(figures)) = (linear.support.is_some(), weights) {
                    figures.into_iter().for_each(|(name, figure)| slots["weights"][name] = figure);
                }
                if let Some(choice) = self.training.as_ref().and_then(|training| training.batch_choice.as_ref()) {
                    slots["products"] = choice.describe();
                }
                Some(json!({ "layer": node.layer, "kind": node.kind, "slots": slots }))
            }
            Op::Add { .. } | Op::Layer(_) => None,
        });
        json!(maps.collect::<Vec<_>>())
    }
}
