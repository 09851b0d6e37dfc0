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
    /// Seeds, lanes × rows × size: of all blocks one after the other, or in two passes of one block, drawn again when needed.
    pub noise: Buffer<T>,
    /// Where each block's seeds begin in one row of one lane of `noise`.
    pub begins: Vec<usize>,
    /// What feedback has to learn: lanes × rows × outputs.
    pub residual: Buffer<T>,
    /// What it foretells: lanes × rows × outputs.
    pub foretold: Buffer<T>,
    /// Loss derivatives of all lanes: lanes × rows.
    pub derivatives: Buffer<T>,
    /// Ones, for the published seed.
    pub ones: Buffer<T>,
    /// Sums of weights, for the published seed.
    pub sums: Buffer<T>,
    /// What those are divided by.
    pub divisors: Buffer<T>,
    /// Seeded values of a row, over all blocks.
    pub seeded: usize,
}

impl<T: Real> Memory<T> {
    /// Room for `rows` rows and `arriving` lanes at the output.
    pub fn new(config: &Config, plan: &Plan<T>, blocks: &[Block], arriving: usize, rows: usize) -> Result<Memory<T>> {
        let nodes = |block: &Block| std::iter::once(block.node).chain(block.chain.iter().copied()).collect::<Vec<_>>();
        let widest = blocks.iter().flat_map(nodes).map(|node| plan.sizes[plan.nodes[node].output]).max().unwrap_or(0);
        let lanes = matches!(config.mode, Mode::Feedback | Mode::Activity);
        let mut begins = vec![];
        let mut all = 0;
        for block in blocks {
            begins.push(if config.two_pass { 0 } else { all });
            all += if block.last { 0 } else { plan.sizes[block.value] };
        }
        let seeds = || blocks.iter().filter(|block| !block.last).map(|block| plan.sizes[block.value]);
        let outputs = plan.sizes[plan.output];
        let when = |wanted: bool, count: usize| Buffer::zeroed(if wanted { count } else { 0 });
        let (feedback, activity) = (config.mode == Mode::Feedback, config.mode == Mode::Activity);
        let (weight, sums) = (config.mode == Mode::Weight, config.seed_at == SeedAt::Input);
        Ok(Memory {
            delta: when(!weight, rows * widest)?,
            spare: when(!weight, rows * widest)?,
            noise: when(lanes, config.lanes * rows * if config.two_pass { seeds().max().unwrap_or(0) } else { all })?,
            begins,
            residual: when(feedback, config.lanes * rows * outputs)?,
            foretold: when(feedback, config.lanes * rows * outputs)?,
            derivatives: when(activity, arriving * rows)?,
            ones: when(sums, plan.sizes[0])?,
            sums: when(sums, widest)?,
            divisors: when(sums, widest)?,
            seeded: all,
        })
    }

    /// The seeds of one block of `size` values, for `rows` rows of `lanes` lanes.
    pub fn seeds(&mut self, block: usize, size: usize, rows: usize, lanes: usize) -> &mut [T] {
        let begin = self.begins[block] * rows * lanes;
        &mut self.noise[begin..begin + lanes * rows * size]
    }

    /// Bytes of it.
    pub fn bytes(&self) -> usize {
        let Memory { delta, spare, noise, residual, foretold, derivatives, ones, sums, divisors, .. } = self;
        let all = [delta, spare, noise, residual, foretold, derivatives, ones, sums, divisors];
        all.iter().map(|buffer| buffer.len()).sum::<usize>() * T::BYTES
    }
}
