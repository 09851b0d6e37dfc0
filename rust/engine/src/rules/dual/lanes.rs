//! Lanes of first tangents that begin inside the network: further rows of the batch for every linear map.
//!
//! At each value the lanes are numbered from 0 on, in the order in which they begin; a lane that does not reach a value is 0
//! there.

use crate::error::Result;
use crate::layers::{Lane, Pass, Trace};
use crate::passes;
use crate::plan::{Op, Plan};
use crate::workspace::{Workspace, last_readers, scratch, take_turns};
use kernels::{Buffer, Real, tangent};
use std::mem::replace;
use std::ops::Range;

/// The tangents of all values, in memory that values take turns with.
pub struct Lanes<T> {
    memory: Vec<Buffer<T>>,
    memory_of: Vec<usize>,
    counts: Vec<usize>,
    /// Most lanes at a value.
    most: usize,
    scratch: Buffer<T>,
}

/// Lanes that begin at a node's output.
pub struct Seed<'a, T> {
    /// Their numbers. Where such lanes are under way already, the seed is added to them.
    pub lanes: Range<usize>,
    /// Whether they begin before the activation that is fused into the node.
    pub before_activation: bool,
    /// `fill(lane, add, tangents)` writes (or adds) a lane, counted from the first of `lanes`: rows × size.
    pub fill: &'a dyn Fn(usize, bool, &mut [T]),
}

impl<T: Real> Lanes<T> {
    /// Room for `rows` rows of as many lanes as `counts` says for each value.
    pub fn new(plan: &Plan<T>, counts: &[usize], rows: usize, threads: usize) -> Result<Lanes<T>> {
        let sizes: Vec<usize> = plan.sizes.iter().zip(counts).map(|(size, count)| size * count).collect();
        let last = last_readers(&plan.nodes, plan.sizes.len());
        let (memory_of, sizes) = take_turns(&plan.nodes, &sizes, &last);
        let mut lanes = Lanes {
            memory: sizes.iter().map(|size| Buffer::zeroed(rows * size)).collect::<std::result::Result<_, _>>()?,
            memory_of,
            counts: vec![0; plan.sizes.len()],
            most: counts.iter().max().copied().unwrap_or(0),
            scratch: Buffer::empty(),
        };
        lanes.resize(plan, rows, threads)?;
        Ok(lanes)
    }

    /// Makes room for what the kernels need, which changes with the form of weights.
    pub fn resize(&mut self, plan: &Plan<T>, rows: usize, threads: usize) -> Result<()> {
        let elements = if self.most == 0 { 0 } else { scratch::<T>(&plan.nodes, rows * self.most, threads) };
        self.scratch = Buffer::zeroed(elements)?;
        Ok(())
    }

    /// Forgets all lanes.
    pub fn clear(&mut self) {
        self.counts.fill(0);
    }

    /// Bytes of the tangents.
    pub fn bytes(&self) -> usize {
        self.memory.iter().map(|memory| memory.len()).sum::<usize>() * T::BYTES
    }

    /// The lanes at a value: lanes × rows × size.
    pub fn at(&self, value: usize, elements: usize) -> &[T] {
        // A network of one block has no lanes, and so no memory for them.
        let memory = self.memory.get(self.memory_of[value]);
        memory.map_or(&[], |memory| &memory[..self.counts[value] * elements])
    }

    /// The tangents of the value that node `index` makes, after its forward pass.
    pub fn carry(
        &mut self,
        plan: &mut Plan<T>,
        index: usize,
        parameters: &[T],
        workspace: &Workspace<T>,
        pass: &Pass,
        seed: Option<Seed<T>>,
    ) {
        let Plan { nodes, sizes, .. } = plan;
        let node = &mut nodes[index];
        let had = node.reads().map(|value| self.counts[value]).max().unwrap_or(0);
        let count = had.max(seed.as_ref().map_or(0, |seed| seed.lanes.end));
        self.counts[node.output] = count;
        if count == 0 {
            return;
        }
        let elements = pass.rows * sizes[node.output];
        let place = self.memory_of[node.output];
        let mut out = replace(&mut self.memory[place], Buffer::empty());
        let y = &mut out[..count * elements];
        let begins = seed.as_ref().map_or(count, |seed| seed.lanes.start);
        if begins > had {
            y[had * elements..begins * elements].fill(T::zero());
        }
        let values = &workspace.values;
        let parameters = &parameters[node.parameters.clone()];
        let trace = |x: usize, output: usize| Trace {
            x: &values[x][..pass.rows * sizes[x]],
            y: &values[output][..elements],
            saved: &workspace.saved[index],
        };
        let (input, output) = (node.input, node.output);
        if had > 0 {
            let y = &mut y[..had * elements];
            match &mut node.op {
                Op::Linear(linear) => {
                    // Cut from `self` for the call, which reads other parts of it.
                    let mut scratch = replace(&mut self.scratch, Buffer::empty());
                    let x = self.at(input, pass.rows * sizes[input]);
                    linear.multiply(pass.par, had * pass.rows, parameters, x, y, &mut scratch);
                    self.scratch = scratch;
                }
                Op::Add { other } => {
                    let (a, b) = (self.at(input, elements), self.at(*other, elements));
                    let (long, short) = if a.len() >= b.len() { (a, b) } else { (b, a) };
                    y.copy_from_slice(long);
                    passes::add(pass, &mut y[..short.len()], short);
                }
                Op::Layer(layer) => {
                    let rule = layer.tangent_rule();
                    let size = pass.rows * sizes[input];
                    for (x, y) in self.at(input, size).chunks_exact(size).zip(y.chunks_exact_mut(elements)) {
                        rule.tangent(
                            pass,
                            parameters,
                            trace(input, output),
                            Lane { x, y, second: None, direction: None },
                        );
                    }
                }
            }
        }
        let plant = |y: &mut [T], seed: &Seed<T>| {
            for lane in seed.lanes.clone() {
                (seed.fill)(lane - seed.lanes.start, lane < had, &mut y[lane * elements..(lane + 1) * elements]);
            }
        };
        if let Some(seed) = seed.as_ref().filter(|seed| seed.before_activation) {
            plant(y, seed);
        }
        if let Op::Linear(linear) = &node.op {
            // Fused activations tell their derivative by the output.
            let value = &values[output][..elements];
            let from = if seed.as_ref().is_some_and(|seed| seed.before_activation) { count } else { had };
            tangent::activation(pass.par, linear.activation, value, value, &mut y[..from * elements]);
        }
        if let Some(seed) = seed.as_ref().filter(|seed| !seed.before_activation) {
            plant(y, seed);
        }
        self.memory[place] = out;
    }
}
