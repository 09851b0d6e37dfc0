//! Blocks: where lanes begin and which parameters learn from them.

use super::SeedAt;
use crate::plan::{Op, Plan};
use kernels::Real;

/// A node with parameters, and the nodes between it and the value where its lanes begin.
#[derive(Clone, Debug, PartialEq)]
pub struct Block {
    /// The node that learns.
    pub node: usize,
    /// The nodes after it, up to the one that makes `value`: none of them holds weights of a linear map.
    pub chain: Vec<usize>,
    /// The value where lanes begin.
    pub value: usize,
    /// Whether lanes begin before the activation that is fused into the node.
    pub before_activation: bool,
    /// Whether the value is the network's output, where the loss gives the gradient itself and no lane is needed.
    pub last: bool,
}

impl Block {
    /// The node that makes the value where lanes begin.
    pub fn end(&self) -> usize {
        self.chain.last().copied().unwrap_or(self.node)
    }
}

/// The blocks of a network, in the order of the forward pass.
pub fn find<T: Real>(plan: &Plan<T>, seed_at: SeedAt) -> Vec<Block> {
    let nodes = &plan.nodes;
    let mut covered = vec![false; nodes.len()];
    let mut blocks = vec![];
    for (index, node) in nodes.iter().enumerate() {
        if node.parameters.is_empty() || covered[index] {
            continue;
        }
        let chain = follow(plan, index);
        let end = chain.last().copied().unwrap_or(index);
        let last = nodes[end].output == plan.output;
        // The last block goes up to the loss in any case; other blocks end where lanes are wanted.
        let block = match seed_at {
            SeedAt::Output => Block { node: index, value: nodes[end].output, chain, before_activation: false, last },
            SeedAt::Preactivation | SeedAt::Input if last => {
                Block { node: index, value: plan.output, chain, before_activation: false, last }
            }
            SeedAt::Preactivation | SeedAt::Input => {
                let before_activation = matches!(node.op, Op::Linear(_));
                Block { node: index, value: node.output, chain: vec![], before_activation, last }
            }
        };
        block.chain.iter().for_each(|node| covered[*node] = true);
        blocks.push(block);
    }
    blocks
}

/// The nodes after `start` that alone read the value before them, up to the next linear map or sum.
fn follow<T: Real>(plan: &Plan<T>, start: usize) -> Vec<usize> {
    let nodes = &plan.nodes;
    let mut chain = vec![];
    let mut value = nodes[start].output;
    while value != plan.output {
        let mut readers = (0..nodes.len()).filter(|node| nodes[*node].reads().any(|read| read == value));
        let (Some(reader), None) = (readers.next(), readers.next()) else { break };
        if !matches!(nodes[reader].op, Op::Layer(_)) {
            break;
        }
        chain.push(reader);
        value = nodes[reader].output;
    }
    chain
}

/// The last node that needs each value: its readers, and the end of each block that learns from it.
pub fn last_use<T: Real>(plan: &Plan<T>, blocks: &[Block]) -> Vec<usize> {
    let mut last = crate::workspace::last_readers(&plan.nodes, plan.sizes.len());
    for block in blocks {
        for node in std::iter::once(&block.node).chain(&block.chain) {
            let node = &plan.nodes[*node];
            for value in node.reads().chain([node.output]) {
                last[value] = last[value].max(block.end());
            }
        }
    }
    last
}
