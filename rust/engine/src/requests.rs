//! Requests to a network beside training and prediction: one door for all of them, so that a new one does not change the
//! boundary. A request and its answer are JSON.

use crate::error::{Result, parse};
use crate::network::Network;
use crate::plan::Op;
use kernels::Real;
use serde::Deserialize;
use serde_json::{Value, json};

/// What can be asked.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "do", rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Request {
    /// What the learning rule put into the slots of each linear map, with its figures.
    DescribeRule {},
}

impl<T: Real> Network<T> {
    /// Carries out a request.
    pub fn request(&mut self, json: &str) -> Result<String> {
        let answer = match parse::<Request>("the request", json)? {
            Request::DescribeRule {} => self.describe_rule(),
        };
        Ok(answer.to_string())
    }

    fn describe_rule(&self) -> Value {
        let maps = self.plan.nodes.iter().filter_map(|node| match &node.op {
            Op::Linear(linear) => {
                let mut slots = linear.slots.describe();
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
