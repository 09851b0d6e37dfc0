//! Memory for one batch: sized once, so that a step allocates nothing.

use crate::error::Result;
use crate::plan::{Node, Op, Plan};
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
    /// Room for a further part of the gradient of a value that several nodes read.
    pub part: Buffer<T>,
    /// Scratch for the kernels of all threads.
    pub scratch: Buffer<T>,
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
        let scratch = nodes.iter().map(|node| match &node.op {
            // A rule may add a sample to those of the batch.
            Op::Linear(linear) => linear.scratch(Par::new(threads), rows + usize::from(learning)),
            Op::Add { .. } | Op::Layer(_) => 0,
        });
        let scratch = Buffer::zeroed(scratch.max().unwrap_or(0))?;
        let mut workspace = Workspace {
            rows,
            values,
            saved,
            gradients: vec![],
            gradient_of: vec![],
            begun: vec![],
            part: Buffer::empty(),
            scratch,
        };
        if learning {
            let (gradient_of, slots) = assign_gradients(nodes, &extents);
            workspace.gradient_of = gradient_of;
            workspace.gradients = slots.into_iter().map(zeroed).collect::<std::result::Result<_, _>>()?;
            workspace.begun = vec![false; sizes.len()];
            let readers = |value: usize| nodes.iter().flat_map(Node::reads).filter(|read| *read == value).count();
            let shared = (1..sizes.len()).filter(|value| readers(*value) > 1).map(|value| extents[value]);
            workspace.part = zeroed(shared.max().unwrap_or(0))?;
        }
        Ok(workspace)
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
    for node in nodes.iter().rev() {
        take(node.output, &mut slot_of, &mut free);
        // The network's input needs no gradient.
        for value in node.reads().filter(|value| *value != 0) {
            take(value, &mut slot_of, &mut free);
        }
        free.push(slot_of[node.output]);
    }
    (slot_of, slots)
}
