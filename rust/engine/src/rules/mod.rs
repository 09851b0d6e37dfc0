//! The slots of a training step and what can fill them: the only list of learning rules on this side.
//!
//! | slot | question | choices |
//! | --- | --- | --- |
//! | propagation | how does the loss reach each weight? | backprop |
//! | inputs | what does a linear map see? | raw |
//! | weights | how are weights stored and multiplied? | dense |
//! | products | which outer products make the weight gradient? | all |

use serde::{Deserialize, Serialize};

/// A learning rule: one choice for each slot.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RuleConfig {
    /// How the loss reaches each weight.
    pub propagation: Propagation,
    /// What a linear map sees.
    pub inputs: Inputs,
    /// How weights are stored and multiplied.
    pub weights: Weights,
    /// Which outer products make the weight gradient.
    pub products: Products,
}

/// How the loss reaches each weight.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Propagation {
    /// Backwards, layer by layer.
    Backprop {},
}

/// What a linear map sees.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Inputs {
    /// The layer below as it is.
    Raw {},
}

/// How weights are stored and multiplied.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Weights {
    /// All of them.
    Dense {},
}

/// Which outer products make the weight gradient.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Products {
    /// One for every row.
    All {},
}
