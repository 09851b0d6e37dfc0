//! What dual numbers cannot do, refused by name before a run begins.

use super::blocks::Block;
use super::{Config, Feedback, Mode, SeedAt, StepRule};
use crate::config::{OptimizerConfig, TrainingConfig};
use crate::error::{Error, Result};
use crate::layers::Layer;
use crate::plan::{Node, Op, Plan};
use crate::rules::{RuleConfig, inputs, products, weights};
use kernels::Real;

/// Most parameters of a network with weight directions, unless forced: the noise grows with their number.
const WEIGHT_PARAMETERS: usize = 100_000;

/// Most lanes: each is a copy of the batch.
const MOST_LANES: usize = 4096;

/// All checks.
pub fn all<T: Real>(config: &Config, plan: &Plan<T>, blocks: &[Block], run: &TrainingConfig) -> Result<()> {
    ranges(config)?;
    combination(config, &run.rule)?;
    steps(config, run)?;
    if blocks.is_empty() {
        return Err(Error::config("rule dual", "a layer with parameters", "none"));
    }
    rows(config, plan)?;
    match config.mode {
        Mode::Local => local(config, plan, blocks),
        Mode::Exact => cost(config, plan, blocks, run.batch_size),
        Mode::Feedback => Ok(()),
        Mode::Activity => dimensions(config, plan, blocks),
        Mode::Weight => parameters(config, plan),
    }
}

/// How many lanes each value has room for.
pub fn counts<T: Real>(config: &Config, plan: &Plan<T>, blocks: &[Block]) -> Vec<usize> {
    let mut counts = vec![0; plan.sizes.len()];
    match config.mode {
        Mode::Weight => {}
        Mode::Local => counts.iter_mut().skip(1).for_each(|count| *count = 1),
        Mode::Exact => {
            let first = blocks.iter().filter(|block| !block.last).map(Block::end).min();
            let widest =
                blocks.iter().filter(|block| !block.last).map(|block| plan.sizes[block.value]).max().unwrap_or(0);
            for (index, node) in plan.nodes.iter().enumerate() {
                if first.is_some_and(|first| index >= first) {
                    counts[node.output] = config.lanes.min(widest);
                }
            }
        }
        Mode::Feedback | Mode::Activity => {
            let mut begun = 0;
            for (index, node) in plan.nodes.iter().enumerate() {
                let mut count = node.reads().map(|value| counts[value]).max().unwrap_or(0);
                if blocks.iter().any(|block| block.end() == index && !block.last) {
                    begun = if config.share_lanes { config.lanes } else { begun + config.lanes };
                    count = count.max(begun);
                }
                counts[node.output] = count;
            }
        }
    }
    counts
}

fn ranges(config: &Config) -> Result<()> {
    if config.lanes == 0 || config.lanes > MOST_LANES {
        return Err(Error::config("dual.lanes", format!("a whole number from 1 to {MOST_LANES}"), config.lanes));
    }
    let rate = config.feedback_rate;
    let fits = if config.feedback == Feedback::Nlms { rate <= 1.0 } else { rate < 1.0 };
    if !(rate > 0.0 && fits) {
        return Err(Error::config(
            "dual.feedbackRate",
            "a number above 0, at most 1 for nlms and below 1 for ema",
            rate,
        ));
    }
    let lanes = matches!(config.mode, Mode::Feedback | Mode::Activity);
    if (config.two_pass || config.share_lanes) && !lanes {
        let option = if config.two_pass { "dual.twoPass" } else { "dual.shareLanes" };
        return Err(Error::config(option, "mode feedback or activity beside it", config.mode.name()));
    }
    if config.step == StepRule::Hyperdual && config.mode == Mode::Weight {
        // Measured on a net of 27 units: the parabola along two random directions sends the first step 35 gradients far.
        let expected = "optimizer beside mode weight, whose few directions say too little about the length of a step";
        return Err(Error::config("dual.step", expected, "hyperdual"));
    }
    if config.seed_at == SeedAt::Input && config.mode != Mode::Local {
        return Err(Error::config("dual.seedAt", "output or preactivation (input is for mode local)", "input"));
    }
    Ok(())
}

/// Rules in other slots that the mode has no meaning for.
fn combination(config: &Config, rule: &RuleConfig) -> Result<()> {
    let whole = config.mode == Mode::Weight || config.step == StepRule::Hyperdual;
    let plain = rule.inputs == inputs::Config::Raw {} && rule.weights == weights::Config::Dense {};
    if whole && !(plain && rule.products == products::Config::All {}) {
        let what = if config.mode == Mode::Weight { "mode weight" } else { "step hyperdual" };
        let found = format!("dual with {what}, which moves all parameters at once");
        return Err(Error::config(
            "rule",
            "dual in mode feedback, activity or exact beside rules in other slots",
            found,
        ));
    }
    if config.seed_at == SeedAt::Input && !plain {
        return Err(Error::config("dual.seedAt", "preactivation beside rules in other slots", "input"));
    }
    Ok(())
}

/// What decides a step's length needs of the rest of the run.
fn steps(config: &Config, run: &TrainingConfig) -> Result<()> {
    if config.step == StepRule::Optimizer {
        return Ok(());
    }
    let OptimizerConfig::Sgd { momentum, weight_decay, .. } = run.optimizer else {
        let expected =
            "sgd without momentum beside dual's step hyperdual (its rate is then a factor on the exact step)";
        return Err(Error::config("optimizer", expected, run.optimizer.kind()));
    };
    if momentum != 0.0 {
        let expected = "0 beside dual's step hyperdual, which goes along the gradient of each batch alone";
        return Err(Error::config("optimizer.momentum", expected, momentum));
    }
    // The length is measured along the gradient; times a decay it would have no meaning.
    if weight_decay != 0.0 {
        let expected = "0 beside dual's step hyperdual, whose length is that of the gradient alone";
        return Err(Error::config("optimizer.weightDecay", expected, weight_decay));
    }
    if let Some(norm) = run.clip_norm {
        return Err(Error::config(
            "clipNorm",
            "none beside dual's step hyperdual, which finds the length itself",
            norm,
        ));
    }
    // Derivatives along the step are those of the plain mean loss.
    if let Some(weights) = &run.class_weights {
        let expected = "none beside dual's step hyperdual, which finds the length from the plain mean loss";
        return Err(Error::config("classWeights", expected, format!("weights of {} classes", weights.len())));
    }
    Ok(())
}

/// Layers that mix the rows of a batch.
fn rows<T: Real>(config: &Config, plan: &Plan<T>) -> Result<()> {
    let mixes = |node: &&Node<T>| match &node.op {
        Op::Layer(layer) => layer.mixes_rows(),
        Op::Linear(_) | Op::Add { .. } => false,
    };
    let Some(node) = plan.nodes.iter().find(mixes) else { return Ok(()) };
    let name = node.name();
    let place = format!("rule dual in mode {}", config.mode.name());
    match config.mode {
        Mode::Weight => Ok(()),
        _ if config.two_pass => {
            let expected = "layers without running statistics, such as groupNorm, beside twoPass";
            Err(Error::config(place, expected, name))
        }
        Mode::Feedback | Mode::Activity if config.allow_bias => Ok(()),
        Mode::Feedback | Mode::Activity => {
            let expected = "layers that keep the rows of a batch apart, such as groupNorm or layerNorm, or allowBias";
            Err(Error::config(place, expected, name))
        }
        Mode::Local | Mode::Exact => {
            let expected = "layers that keep the rows of a batch apart, such as groupNorm or layerNorm";
            Err(Error::config(place, expected, name))
        }
    }
}

/// One layer with parameters, then layers that act on each value alone.
fn local<T: Real>(config: &Config, plan: &Plan<T>, blocks: &[Block]) -> Result<()> {
    let place = "rule dual in mode local";
    let [block] = blocks else {
        let found = format!("{}; use mode feedback", blocks.len());
        return Err(Error::config(place, "one layer with parameters", found));
    };
    let node = &plan.nodes[block.node];
    if !matches!(node.op, Op::Linear(_)) || !block.last {
        return Err(Error::config(
            place,
            "a dense or conv2d layer that only activations and dropout follow",
            node.name(),
        ));
    }
    for index in &block.chain {
        let node = &plan.nodes[*index];
        let elementwise = |layer: &dyn Layer<T>| layer.tangent_rule().elementwise();
        if !matches!(&node.op, Op::Layer(layer) if elementwise(&**layer)) {
            return Err(Error::config(
                place,
                "only activations and dropout after the layer with parameters",
                node.name(),
            ));
        }
    }
    if config.seed_at == SeedAt::Output {
        return Err(Error::config("dual.seedAt", "preactivation or input in mode local", "output"));
    }
    Ok(())
}

/// Exact lanes cost a pass over the rest of the network for every unit.
fn cost<T: Real>(config: &Config, plan: &Plan<T>, blocks: &[Block], batch: usize) -> Result<()> {
    let behind = |block: &Block| {
        let mut reached = vec![false; plan.sizes.len()];
        reached[block.value] = true;
        let mut sum = 0u128;
        for node in &plan.nodes[block.end() + 1..] {
            if node.reads().any(|value| reached[value]) {
                reached[node.output] = true;
                if let Op::Linear(linear) = &node.op {
                    sum += linear.map.multiply_adds() as u128;
                }
            }
        }
        sum * plan.sizes[block.value] as u128
    };
    let total = batch as u128 * blocks.iter().filter(|block| !block.last).map(behind).sum::<u128>();
    if total as f64 <= config.budget {
        return Ok(());
    }
    let expected = format!("lanes of at most {:.1e} multiply-adds a step (dual.budget)", config.budget);
    let found = format!("{:.1e} for this network at batch {batch}; use mode feedback", total as f64);
    Err(Error::config("rule dual in mode exact", expected, found))
}

/// Orthogonal lanes need as many dimensions.
fn dimensions<T: Real>(config: &Config, plan: &Plan<T>, blocks: &[Block]) -> Result<()> {
    let seeded = blocks.iter().filter(|block| !block.last);
    let Some(least) = seeded.min_by_key(|block| plan.sizes[block.value]) else { return Ok(()) };
    let size = plan.sizes[least.value];
    if config.lanes <= size {
        return Ok(());
    }
    let expected = format!("at most {size} (the values of {})", plan.nodes[least.node].name());
    Err(Error::config("dual.lanes", expected, config.lanes))
}

/// Weight directions are for small networks.
fn parameters<T: Real>(config: &Config, plan: &Plan<T>) -> Result<()> {
    let count: usize = plan.parameters.iter().map(|parameter| parameter.range.len()).sum();
    if config.lanes > count {
        return Err(Error::config("dual.lanes", format!("at most {count} (the parameters)"), config.lanes));
    }
    if count <= WEIGHT_PARAMETERS || config.force {
        return Ok(());
    }
    let expected = format!("at most {WEIGHT_PARAMETERS} parameters, or force: the noise grows with their number");
    Err(Error::config("rule dual in mode weight", expected, count))
}
