//! The slot `propagation`: how the loss reaches each weight.

use super::front_contribution;
use serde::{Deserialize, Serialize};

/// The choices as TypeScript sends them.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Config {
    /// Backwards, layer by layer.
    Backprop {},
    /// Backwards as far as the network is not collapsed.
    FrontContribution(front_contribution::Config),
}
