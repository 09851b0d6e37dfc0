//! What a network offers to collapse, or the sentence that says why it does not.

use super::Collapse;
use crate::config::{OptimizerConfig, TrainingConfig};
use crate::error::{Error, Result};
use crate::layers::linear::Linear;
use crate::layers::map::Map;
use crate::plan::{Node, Op, Plan};
use kernels::{Activation, Real};

/// A run that asks for a collapse.
pub struct Situation<'a> {
    /// Training rows.
    pub rows: usize,
    /// Whether K is there already.
    pub shared: bool,
    /// The run.
    pub training: &'a TrainingConfig,
}

impl Situation<'_> {
    /// Steps of an epoch, and of the run.
    pub fn steps(&self) -> (f64, f64) {
        let TrainingConfig { batch_size, drop_last, epochs, .. } = self.training;
        let per_epoch = if *drop_last { self.rows / batch_size } else { self.rows.div_ceil(*batch_size) }.max(1) as f64;
        (per_epoch, (epochs * per_epoch).round().max(1.0))
    }
}

/// The linear map of a node that is known to hold one.
pub fn linear<T>(plan: &Plan<T>, node: usize) -> &Linear<T> {
    match &plan.nodes[node].op {
        Op::Linear(linear) => linear,
        Op::Add { .. } | Op::Layer(_) => unreachable!("a collapsed node is a linear map"),
    }
}

/// As [`linear`].
pub fn linear_mut<T>(plan: &mut Plan<T>, node: usize) -> &mut Linear<T> {
    match &mut plan.nodes[node].op {
        Op::Linear(linear) => linear,
        Op::Add { .. } | Op::Layer(_) => unreachable!("a collapsed node is a linear map"),
    }
}

fn dense<T>(node: &Node<T>) -> Option<&Linear<T>> {
    match &node.op {
        Op::Linear(linear) if matches!(linear.map, Map::Dense { .. }) => Some(linear),
        Op::Linear(_) | Op::Add { .. } | Op::Layer(_) => None,
    }
}

/// The only node that reads a value, if there is only one.
fn only_reader<T>(plan: &Plan<T>, value: usize) -> Option<usize> {
    let mut readers = (0..plan.nodes.len()).filter(|node| plan.nodes[*node].reads().any(|read| read == value));
    let (first, second) = (readers.next(), readers.next());
    if second.is_none() && value != plan.output { first } else { None }
}

/// The dense layer that alone reads the input.
pub fn first_layer<T>(plan: &Plan<T>) -> Result<usize> {
    let Some(node) = only_reader(plan, 0) else {
        let expected = "one dense layer that reads the input for collapse \"gram\"";
        return Err(Error::config("rule.collapse", expected, "two branches that do; use backprop()"));
    };
    let found = &plan.nodes[node];
    if found.kind == "dropout" {
        let expected = "the same inputs in every epoch for collapse \"gram\"";
        let advice = "dropout before the first dense layer; put it after that layer, or use backprop()";
        return Err(Error::config(format!("layer {}", found.layer), expected, advice));
    }
    if dense(found).is_none() {
        let expected = "a dense first layer for collapse \"gram\"";
        let advice = format!("{}; use collapse \"final\" on trained features, or backprop()", found.name());
        return Err(Error::config("rule.collapse", expected, advice));
    }
    Ok(node)
}

/// Dense layers and those that follow with nothing between, also where there are three in a row.
pub fn neighbours<T: Real>(plan: &Plan<T>) -> Vec<(usize, usize)> {
    let next = |node: usize| {
        let linear = dense(&plan.nodes[node])?;
        let reader = only_reader(plan, plan.nodes[node].output)?;
        (linear.activation == Activation::Identity && dense(&plan.nodes[reader]).is_some()).then_some(reader)
    };
    (0..plan.nodes.len()).filter_map(|node| Some((node, next(node)?))).collect()
}

/// All pairs of dense layers with nothing between.
pub fn pairs<T: Real>(plan: &Plan<T>) -> Result<Vec<(usize, usize)>> {
    let found = neighbours(plan);
    if found.is_empty() {
        let expected = "two dense layers in a row without an activation between, for collapse \"linearPair\"";
        // An advice must not name a collapse that the network has no place for either.
        let other = if first_layer(plan).is_ok() { "collapse \"gram\", or " } else { "" };
        return Err(Error::config("rule.collapse", expected, format!("none; use {other}backprop()")));
    }
    for (first, second) in &found {
        if let Some((_, third)) = found.iter().find(|(node, _)| node == second) {
            let name = |node: usize| &plan.nodes[node].layer;
            let place = format!("layers {}, {} and {}", name(*first), name(*second), name(*third));
            let expected = "at most two dense layers in a row without an activation between";
            let advice = "three; put an activation after the second, or leave one out (three linear layers are no more than two)";
            return Err(Error::config(place, expected, advice));
        }
    }
    Ok(found)
}

/// The dense layer that ends the network, above layers that can stand still.
pub fn last_layer<T: Real>(plan: &Plan<T>) -> Result<usize> {
    let place = "rule.collapse";
    let last = (0..plan.nodes.len()).rev().find(|node| !plan.nodes[*node].parameters.is_empty());
    let Some(last) = last.filter(|node| dense(&plan.nodes[*node]).is_some()) else {
        return Err(Error::config(place, "a dense last layer for collapse \"final\"", "another layer; use backprop()"));
    };
    let value = plan.nodes[last].input;
    if value == 0 {
        let advice = "one layer only; use backprop()";
        return Err(Error::config(place, "layers below the last one for collapse \"final\"", advice));
    }
    let above = plan.nodes[last + 1..].iter().flat_map(Node::reads);
    if only_reader(plan, value) != Some(last) || above.into_iter().any(|read| read < plan.nodes[last].output) {
        let expected = "a last layer that alone reads what lies below it for collapse \"final\"";
        return Err(Error::config(place, expected, "a branch around it; use backprop()"));
    }
    let below = &plan.nodes[..last];
    if let Some(node) = below.iter().find(|node| node.kind == "dropout" || !node.buffers.is_empty()) {
        let expected = "layers that give the same outputs in every epoch below the last one, for collapse \"final\"";
        let advice = format!("{}; leave it out, or use backprop()", node.name());
        return Err(Error::config(place, expected, advice));
    }
    Ok(last)
}

/// Refuses an optimizer under which the collapse would not be exact.
pub fn check_optimizer<T>(
    plan: &Plan<T>,
    node: usize,
    collapse: Collapse,
    own: Option<&OptimizerConfig>,
    training: &TrainingConfig,
) -> Result<()> {
    let optimizer = own.unwrap_or(&training.optimizer);
    let place = if own.is_some() { "rule.optimizer" } else { "optimizer" };
    let name = plan.nodes[node].name();
    match optimizer {
        OptimizerConfig::Sgd { momentum, .. } if *momentum != 0.0 && collapse == Collapse::LinearPair => {
            let expected = format!("no momentum for {name}, which collapse \"linearPair\" takes with the one below it");
            let other = if first_layer(plan).is_ok() { "collapse \"gram\"" } else { "backprop()" };
            let advice = format!("momentum {momentum}; use sgd without momentum, or {other}");
            return Err(Error::config(place, expected, advice));
        }
        OptimizerConfig::Sgd { .. } => return Ok(()),
        OptimizerConfig::Adam { .. } | OptimizerConfig::AdamW { .. } | OptimizerConfig::RmsProp { .. } => {}
    }
    let expected = format!("sgd for {name}, which is collapsed");
    let advice = "which scales each weight by itself; use sgd, or give the rule an optimizer of its own: \
                  frontContribution({ optimizer: sgd(0.1) })";
    Err(Error::config(place, expected, format!("{}, {advice}", optimizer.kind())))
}
