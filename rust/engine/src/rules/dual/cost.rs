//! Multiply-adds of a step, counted from the products that it is made of: maps, feedback matrices, sums over lanes. What acts on
//! single values (activations, the drawing of seeds, updates) is left out, as it is for other rules.

use super::{Dual, Feedback, Mode, StepRule, check};
use crate::plan::{Node, Op, Plan};
use kernels::Real;

impl<T: Real> Dual<T> {
    /// Multiply-adds of a step of `rows` rows, but for the weight gradients, whose rows another slot may choose. The mode weight
    /// has no such gradients, and all of its step is counted here.
    pub fn multiply_adds(&self, plan: &Plan<T>, rows: usize) -> u64 {
        let forward = map_products(plan, rows, |_, _| 1);
        let config = &self.config;
        let lanes = match config.mode {
            Mode::Local => self.local_products(plan),
            Mode::Exact => self.exact_products(plan, rows),
            Mode::Feedback | Mode::Activity => {
                let counts = check::counts(config, plan, &self.blocks);
                let carried = |node: &Node<T>| node.reads().map(|value| counts[value]).max().unwrap_or(0);
                map_products(plan, rows, |_, node| carried(node)) + self.block_products(plan, rows, counts[plan.output])
            }
            Mode::Weight => {
                let parameters: usize = plan.parameters.iter().map(|parameter| parameter.range.len()).sum();
                let sums = config.lanes * (rows * self.outputs + parameters);
                // Each map along its own direction, and but for the network's input along those of the maps before it.
                map_products(plan, rows, |_, node| config.lanes * if node.input == 0 { 1 } else { 2 }) + sums as u64
            }
        };
        let again = if config.two_pass { forward } else { 0 };
        forward + again + lanes + self.length_products(plan, rows)
    }

    /// The published derivative is divided by sums of weights, which are found once.
    fn local_products(&self, plan: &Plan<T>) -> u64 {
        if self.config.seed_at == super::SeedAt::Input { map_products(plan, 1, |_, _| 1) } else { 0 }
    }

    /// The identity through everything behind each block, and the gradient times the Jacobian that comes out.
    fn exact_products(&self, plan: &Plan<T>, rows: usize) -> u64 {
        let behind = self.blocks.iter().filter(|block| !block.last).map(|block| {
            let mut reached = vec![false; plan.sizes.len()];
            reached[block.value] = true;
            for node in &plan.nodes[block.end() + 1..] {
                reached[node.output] |= node.reads().any(|value| reached[value]);
            }
            let maps = map_products(plan, rows, |index, node| {
                (index > block.end() && node.reads().any(|value| reached[value])) as usize
            });
            plan.sizes[block.value] as u64 * (maps + (rows * self.outputs) as u64)
        });
        behind.sum()
    }

    /// What turns lanes that have arrived at the outputs into the gradients of the blocks' values.
    fn block_products(&self, plan: &Plan<T>, rows: usize, arrived: usize) -> u64 {
        let config = &self.config;
        let seeded = self.blocks.iter().filter(|block| !block.last);
        let values: usize = seeded.map(|block| plan.sizes[block.value]).sum();
        let count = match config.mode {
            // The gradient times B; B learns from the lanes, for `nlms` from what it did not foretell of them.
            Mode::Feedback => {
                let foretold = if config.feedback == Feedback::Nlms { config.lanes } else { 0 };
                values * self.outputs * (1 + foretold + config.lanes)
            }
            // The gradient along each lane, and the lanes weighed by that.
            _ => arrived * self.outputs + values * config.lanes,
        };
        (rows * count) as u64
    }

    /// First and second derivatives along the step.
    fn length_products(&self, plan: &Plan<T>, rows: usize) -> u64 {
        if self.config.step == StepRule::Optimizer {
            return 0;
        }
        let kept = !self.config.two_pass && self.config.mode != Mode::Weight;
        let again = if kept { 0 } else { 1 };
        map_products(plan, rows, |_, node| again + if node.input == 0 { 1 } else { 4 })
    }
}

/// Multiply-adds of all maps for `rows` rows, each as often as `times` says; of weights under a mask those that there are.
fn map_products<T: Real>(plan: &Plan<T>, rows: usize, times: impl Fn(usize, &Node<T>) -> usize) -> u64 {
    let maps = plan.nodes.iter().enumerate().filter_map(|(index, node)| match &node.op {
        Op::Linear(linear) => Some((linear, times(index, node))),
        Op::Layer(_) | Op::Add { .. } => None,
    });
    maps.map(|(linear, times)| (times * linear.map.rows(rows) * linear.weights()) as u64).sum()
}
