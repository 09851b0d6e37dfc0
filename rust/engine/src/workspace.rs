//! Memory for one batch: sized once, so that a step allocates nothing.

use crate::error::Result;
use crate::plan::{Node, Op};
use kernels::{Buffer, Real};

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
    /// Scratch for the kernels of all threads.
    pub scratch: Buffer<T>,
}

impl<T: Real> Workspace<T> {
    /// Room for `rows` rows; without `learning` only what a forward pass needs.
    pub fn new(nodes: &[Node<T>], sizes: &[usize], rows: usize, threads: usize, learning: bool) -> Result<Self> {
        let values = sizes.iter().map(|size| Buffer::zeroed(rows * size)).collect::<std::result::Result<_, _>>()?;
        let saved =
            nodes.iter().map(|node| Buffer::zeroed(node.op.saved(rows))).collect::<std::result::Result<_, _>>()?;
        if !learning {
            let scratch = Buffer::empty();
            return Ok(Workspace { rows, values, saved, gradients: vec![], gradient_of: vec![], scratch });
        }
        let (gradient_of, slots) = assign_gradients(nodes, sizes);
        let gradients = slots.iter().map(|size| Buffer::zeroed(rows * size)).collect::<std::result::Result<_, _>>()?;
        let scratch = nodes.iter().map(|node| match &node.op {
            Op::Linear(linear) => linear.scratch(),
            Op::Layer(_) => 0,
        });
        let scratch = Buffer::zeroed(threads * scratch.max().unwrap_or(0))?;
        Ok(Workspace { rows, values, saved, gradients, gradient_of, scratch })
    }

    /// Bytes that [`Workspace::new`] would take for one row, roughly.
    pub fn bytes_per_row(sizes: &[usize], learning: bool) -> u128 {
        let values: u128 = sizes.iter().map(|size| *size as u128).sum();
        let gradients = if learning { 2 * sizes.iter().max().copied().unwrap_or(0) as u128 } else { 0 };
        (values + gradients) * T::BYTES as u128
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
        if node.input != 0 {
            take(node.input, &mut slot_of, &mut free);
        }
        free.push(slot_of[node.output]);
    }
    (slot_of, slots)
}
