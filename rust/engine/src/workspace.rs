//! Memory for one batch: sized once, so that a step allocates nothing.

use crate::clock::Clock;
use crate::error::Result;
use crate::layers::linear::Linear;
use crate::plan::{Node, Op, Part, Plan};
use crate::rules::sparse::growth;
use kernels::{Buffer, Par, Real};

/// Values and gradients of a batch of up to `rows` rows.
pub struct Workspace<T> {
    /// Rows it has room for.
    pub rows: usize,
    /// Each value of the network.
    pub values: Vec<Buffer<T>>,
    /// What each node keeps for the backward pass.
    pub saved: Vec<Buffer<T>>,
    /// Memory for gradients, shared by values whose gradients are never alive together.
    pub gradients: Vec<Buffer<T>>,
    /// Which gradient memory each value uses.
    pub gradient_of: Vec<usize>,
    /// Whether a value's gradient has its first part already; reset by every backward pass.
    pub begun: Vec<bool>,
    /// Room for a further part of the gradient of a value that several nodes read, or for a gradient that nobody reads.
    pub part: Buffer<T>,
    /// Scratch for the kernels of all threads.
    pub scratch: Buffer<T>,
    /// Time of each node, where it is measured.
    pub clock: Clock,
    /// Memory that values take turns with; none where each value has its own.
    turns: Option<Turns<T>>,
}

/// Memory that values take turns with.
struct Turns<T> {
    free: Vec<Buffer<T>>,
    memory_of: Vec<usize>,
    /// Values that nobody needs after each node.
    ends: Vec<Vec<usize>>,
}

impl<T: Real> Workspace<T> {
    /// Room for `rows` rows; without `learning` only what a forward pass needs.
    pub fn new(plan: &Plan<T>, rows: usize, threads: usize, learning: bool) -> Result<Self> {
        let Plan { nodes, sizes, .. } = plan;
        let zeroed = Buffer::zeroed;
        let extents = plan.extents(rows);
        let values = extents.iter().map(|extent| zeroed(*extent)).collect::<std::result::Result<_, _>>()?;
        let saved =
            nodes.iter().map(|node| Buffer::zeroed(node.op.saved(rows))).collect::<std::result::Result<_, _>>()?;
        let scratch = Buffer::zeroed(scratch::<T>(nodes, rows, threads))?;
        let mut workspace = Workspace {
            rows,
            values,
            saved,
            gradients: vec![],
            gradient_of: vec![],
            begun: vec![],
            part: Buffer::empty(),
            scratch,
            clock: Clock::default(),
            turns: None,
        };
        if learning {
            let (gradient_of, slots) = assign_gradients(nodes, &extents);
            workspace.gradient_of = gradient_of;
            workspace.gradients = slots.into_iter().map(zeroed).collect::<std::result::Result<_, _>>()?;
            workspace.begun = vec![false; sizes.len()];
            let taking_part = || nodes.iter().filter(|node| node.part != Part::Skipped);
            let readers = |value: usize| taking_part().flat_map(Node::reads).filter(|read| *read == value).count();
            let shared = (1..sizes.len()).filter(|value| readers(*value) > 1).map(|value| extents[value]);
            let unread = nodes.iter().filter_map(|node| match &node.op {
                Op::Layer(layer) if layer.always_input_gradient() => Some(extents[node.input]),
                Op::Linear(_) | Op::Add { .. } | Op::Layer(_) => None,
            });
            workspace.part = zeroed(shared.chain(unread).max().unwrap_or(0))?;
        }
        Ok(workspace)
    }

    /// Makes room for products that need more scratch than the kernels of a step.
    pub fn reserve_scratch(&mut self, elements: usize) -> Result<()> {
        if self.scratch.len() < elements {
            self.scratch = Buffer::zeroed(elements)?;
        }
        Ok(())
    }

    /// Moves some rows of the batch, ascending, to its beginning: their values, what layers keep for them, and the gradient of
    /// the network's output.
    pub fn keep_rows(&mut self, plan: &Plan<T>, rows: &[u32]) {
        let gradient = self.gradient_of[plan.output];
        move_rows(&mut self.gradients[gradient], plan.sizes[plan.output], rows);
        for (values, size) in self.values.iter_mut().zip(&plan.sizes) {
            move_rows(values, *size, rows);
        }
        for (saved, node) in self.saved.iter_mut().zip(&plan.nodes) {
            move_rows(saved, node.op.saved(1), rows);
        }
    }

    /// Room for a rule that learns without a backward pass: values, and one gradient, that of the network's output. With
    /// `last_use`, the last node that needs each value, values take turns with the same memory, so that depth costs none.
    pub fn forward_only(plan: &Plan<T>, rows: usize, threads: usize, last_use: Option<&[usize]>) -> Result<Self> {
        let Plan { nodes, sizes, output, .. } = plan;
        let shallow = if last_use.is_some() { 0 } else { rows };
        let mut workspace = Workspace::new(plan, shallow, threads, false)?;
        workspace.rows = rows;
        workspace.gradient_of = vec![0; sizes.len()];
        workspace.gradients = vec![Buffer::zeroed(rows * sizes[*output])?];
        let Some(last_use) = last_use else { return Ok(workspace) };
        let zeroed = |count: usize| Buffer::zeroed(count);
        workspace.scratch = zeroed(scratch::<T>(nodes, rows, threads))?;
        for (saved, node) in workspace.saved.iter_mut().zip(nodes) {
            *saved = zeroed(node.op.saved(rows))?;
        }
        // Input and output stay from step to step.
        for value in [0, *output] {
            workspace.values[value] = zeroed(rows * sizes[value])?;
        }
        let needs: Vec<usize> = (0..sizes.len()).map(|v| if v == 0 || v == *output { 0 } else { sizes[v] }).collect();
        let (memory_of, memories) = take_turns(nodes, &needs, last_use);
        let free = memories.into_iter().map(|size| zeroed(rows * size)).collect::<std::result::Result<_, _>>()?;
        let mut ends = vec![vec![]; nodes.len()];
        for value in (1..sizes.len()).filter(|value| last_use[*value] < nodes.len()) {
            ends[last_use[value]].push(value);
        }
        workspace.turns = Some(Turns { free, memory_of, ends });
        Ok(workspace)
    }

    /// Gives a value its memory, where values take turns.
    pub fn begin(&mut self, value: usize) {
        if let Some(Turns { free, memory_of, .. }) = &mut self.turns
            && self.values[value].is_empty()
        {
            std::mem::swap(&mut self.values[value], &mut free[memory_of[value]]);
        }
    }

    /// Takes back the memory of values that are not needed after a node, where values take turns.
    pub fn end(&mut self, node: usize) {
        let Some(Turns { free, memory_of, ends }) = &mut self.turns else { return };
        for value in &ends[node] {
            std::mem::swap(&mut self.values[*value], &mut free[memory_of[*value]]);
        }
    }

    /// Bytes for values and what layers keep, and bytes for gradients on their way.
    pub fn bytes(&self) -> (usize, usize) {
        let sum = |buffers: &[Buffer<T>]| buffers.iter().map(|buffer| buffer.len()).sum::<usize>() * T::BYTES;
        let free = self.turns.as_ref().map_or(0, |turns| sum(&turns.free));
        (sum(&self.values) + sum(&self.saved) + free, sum(&self.gradients) + self.part.len() * T::BYTES)
    }

    /// Bytes that [`Workspace::new`] would take for one row, roughly.
    pub fn bytes_per_row(sizes: &[usize], learning: bool) -> u128 {
        let values: u128 = sizes.iter().map(|size| *size as u128).sum();
        let gradients = if learning { 2 * sizes.iter().max().copied().unwrap_or(0) as u128 } else { 0 };
        (values + gradients) * T::BYTES as u128
    }
}

fn move_rows<T: Copy>(values: &mut [T], size: usize, rows: &[u32]) {
    for (to, from) in rows.iter().enumerate() {
        let from = *from as usize * size;
        values.copy_within(from..from + size, to * size);
    }
}

/// Scratch elements that the kernels of these nodes need for `rows` rows.
pub fn scratch<T: Real>(nodes: &[Node<T>], rows: usize, threads: usize) -> usize {
    let needs = nodes.iter().map(|node| match &node.op {
        // A rule may add a sample to those of the batch.
        Op::Linear(linear) => linear.scratch(Par::new(threads), rows + 1),
        Op::Add { .. } => 0,
        Op::Layer(layer) => layer.scratch(rows),
    });
    needs.max().unwrap_or(0)
}

/// Scratch elements that the masks of these nodes need for `rows` rows where they grow by their gradient.
pub fn growth_scratch<T: Real>(plan: &Plan<T>, rows: usize) -> usize {
    let needs = plan.nodes.iter().filter_map(|node| match &node.op {
        Op::Linear(Linear { map, support: Some(support), .. }) => Some(growth::scratch(map, support, rows)),
        Op::Linear(_) | Op::Add { .. } | Op::Layer(_) => None,
    });
    needs.max().unwrap_or(0)
}

/// The last node that reads each value; the output is needed after all nodes.
pub fn last_readers<T>(nodes: &[Node<T>], values: usize) -> Vec<usize> {
    let mut last = vec![nodes.len(); values];
    for (index, node) in nodes.iter().enumerate() {
        node.reads().for_each(|value| last[value] = index);
    }
    last
}

/// Gives values that live at different times, each from the node that makes it to `last_use`, the same memory: (memory of each
/// value, size of each memory). Values of size 0 get none of their own.
pub fn take_turns<T>(nodes: &[Node<T>], sizes: &[usize], last_use: &[usize]) -> (Vec<usize>, Vec<usize>) {
    let mut memory_of = vec![0; sizes.len()];
    let mut memories: Vec<usize> = vec![];
    let mut busy_until: Vec<Option<usize>> = vec![];
    let makers = std::iter::once((0, 0)).chain(nodes.iter().enumerate().map(|(index, node)| (index, node.output)));
    for (index, value) in makers.filter(|(_, value)| sizes[*value] > 0) {
        let found = busy_until.iter().position(|until| until.is_none_or(|until| until < index));
        let memory = found.unwrap_or_else(|| {
            memories.push(0);
            busy_until.push(None);
            memories.len() - 1
        });
        memories[memory] = memories[memory].max(sizes[value]);
        busy_until[memory] = Some(last_use[value]);
        memory_of[value] = memory;
    }
    (memory_of, memories)
}

/// Gives each value's gradient a slot: (slot of each value, size of each slot). A gradient lives from the last reader of its
/// value back to the node that made it.
fn assign_gradients<T>(nodes: &[Node<T>], sizes: &[usize]) -> (Vec<usize>, Vec<usize>) {
    let mut slot_of = vec![usize::MAX; sizes.len()];
    let (mut slots, mut free): (Vec<usize>, Vec<usize>) = (vec![], vec![]);
    let mut take = |value: usize, slot_of: &mut Vec<usize>, free: &mut Vec<usize>| {
        if slot_of[value] != usize::MAX {
            return;
        }
        let slot = free.pop().unwrap_or_else(|| {
            slots.push(0);
            slots.len() - 1
        });
        slots[slot] = slots[slot].max(sizes[value]);
        slot_of[value] = slot;
    };
    for node in nodes.iter().rev().filter(|node| node.part != Part::Skipped) {
        take(node.output, &mut slot_of, &mut free);
        // The network's input needs no gradient.
        for value in node.reads().filter(|value| *value != 0) {
            take(value, &mut slot_of, &mut free);
        }
        free.push(slot_of[node.output]);
    }
    (slot_of, slots)
}
