//! Memory of a step: sized once.

use super::blocks::Block;
use super::{Config, Mode, SeedAt};
use crate::error::Result;
use crate::plan::Plan;
use kernels::{Buffer, Real};

/// Room for what a step works out beside values and tangents.
pub struct Memory<T> {
    /// Gradient of one value inside a block: rows × size.
    pub delta: Buffer<T>,
    /// Room for the next.
    pub spare: Buffer<T>,
    /// Seeds of one block: lanes × rows × size.
    pub noise: Buffer<T>,
    /// What feedback has to learn: lanes × rows × outputs.
    pub residual: Buffer<T>,
    /// What it foretells: lanes × rows × outputs.
    pub foretold: Buffer<T>,
    /// Loss derivatives of all lanes: lanes × rows.
    pub derivatives: Buffer<T>,
    /// The same for one lane, scaled: rows.
    pub scaled: Buffer<T>,
    /// A direction without padding, or ones for the published seed.
    pub flat: Buffer<T>,
    /// Sums of weights, for the published seed.
    pub sums: Buffer<T>,
    /// Seeded values of a row, over all blocks.
    pub seeded: usize,
}

impl<T: Real> Memory<T> {
    /// Room for `rows` rows and `arriving` lanes at the output.
    pub fn new(config: &Config, plan: &Plan<T>, blocks: &[Block], arriving: usize, rows: usize) -> Result<Memory<T>> {
        let nodes = |block: &Block| std::iter::once(block.node).chain(block.chain.iter().copied()).collect::<Vec<_>>();
        let widest = blocks.iter().flat_map(nodes).map(|node| plan.sizes[plan.nodes[node].output]).max().unwrap_or(0);
        let seeds = || blocks.iter().filter(|block| !block.last).map(|block| plan.sizes[block.value]);
        let outputs = plan.sizes[plan.output];
        let when = |wanted: bool, count: usize| Buffer::zeroed(if wanted { count } else { 0 });
        let (feedback, activity) = (config.mode == Mode::Feedback, config.mode == Mode::Activity);
        let (weight, sums) = (config.mode == Mode::Weight, config.seed_at == SeedAt::Input);
        let parameters: usize = plan.parameters.iter().map(|parameter| parameter.range.len()).sum();
        Ok(Memory {
            delta: when(!weight, rows * widest)?,
            spare: when(!weight, rows * widest)?,
            noise: when(feedback, config.lanes * rows * seeds().max().unwrap_or(0))?,
            residual: when(feedback, config.lanes * rows * outputs)?,
            foretold: when(feedback, config.lanes * rows * outputs)?,
            derivatives: when(activity, arriving * rows)?,
            scaled: when(activity, rows)?,
            flat: when(weight || sums, if weight { parameters } else { plan.sizes[0] })?,
            sums: when(sums, widest)?,
            seeded: seeds().sum(),
        })
    }

    /// Bytes of it.
    pub fn bytes(&self) -> usize {
        let Memory { delta, spare, noise, residual, foretold, derivatives, scaled, flat, sums, .. } = self;
        let all = [delta, spare, noise, residual, foretold, derivatives, scaled, flat, sums];
        all.iter().map(|buffer| buffer.len()).sum::<usize>() * T::BYTES
    }
}
