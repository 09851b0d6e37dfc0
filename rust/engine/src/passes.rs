//! The forward and the backward pass over the nodes of a network.

use crate::layers::linear::Learn;
use crate::layers::{Pass, Trace};
use crate::plan::{Node, Op};
use crate::workspace::Workspace;
use kernels::optimize::Update;
use kernels::{Buffer, Real};
use std::mem::replace;

/// What a backward pass may change, for the network as a whole, in the layout of the parameters.
pub struct Learning<'a, T> {
    /// The gradient.
    pub gradient: &'a mut [T],
    /// First optimizer state, or empty.
    pub first: &'a mut [T],
    /// Second optimizer state, or empty.
    pub second: &'a mut [T],
    /// The update to apply to each layer as soon as its gradient is known; without it gradients are stored.
    pub update: Option<Update<T>>,
}

/// Computes all values from value 0.
pub fn forward<T: Real>(
    nodes: &[Node<T>],
    sizes: &[usize],
    parameters: &[T],
    workspace: &mut Workspace<T>,
    pass: &Pass,
) {
    for (index, node) in nodes.iter().enumerate() {
        let mut output = replace(&mut workspace.values[node.output], Buffer::empty());
        let x = &workspace.values[node.input][..pass.rows * sizes[node.input]];
        let y = &mut output[..pass.rows * sizes[node.output]];
        let parameters = &parameters[node.parameters.clone()];
        match &node.op {
            Op::Linear(linear) => linear.forward(pass, parameters, x, y),
            Op::Layer(layer) => layer.forward(pass, parameters, x, y, &mut workspace.saved[index]),
        }
        workspace.values[node.output] = output;
    }
}

/// Carries the gradient of the last value (already in its slot) back to all parameters.
pub fn backward<T: Real>(
    nodes: &[Node<T>],
    sizes: &[usize],
    parameters: &mut [T],
    workspace: &mut Workspace<T>,
    pass: &Pass,
    learning: &mut Learning<T>,
) {
    for (index, node) in nodes.iter().enumerate().rev() {
        let Workspace { values, saved, gradients, gradient_of, scratch, .. } = workspace;
        let mut upper = replace(&mut gradients[gradient_of[node.output]], Buffer::empty());
        let gy = &mut upper[..pass.rows * sizes[node.output]];
        let gx = match node.input {
            0 => None,
            value => Some(&mut gradients[gradient_of[value]][..pass.rows * sizes[value]]),
        };
        let trace = Trace {
            x: &values[node.input][..pass.rows * sizes[node.input]],
            y: &values[node.output][..pass.rows * sizes[node.output]],
            saved: &saved[index],
        };
        let range = node.parameters.clone();
        let parameters = &mut parameters[range.clone()];
        let gradient = &mut learning.gradient[range.clone()];
        let (first, second) = (part(learning.first, &range), part(learning.second, &range));
        match &node.op {
            Op::Linear(linear) => {
                let learn = Learn { gradient, first, second, scratch, update: learning.update.as_ref() };
                linear.backward(pass, parameters, trace, gy, gx, learn);
            }
            Op::Layer(layer) => {
                layer.backward(pass, parameters, trace, gy, gx, gradient);
                if let Some(update) = &learning.update {
                    update.apply(parameters, gradient, first, second);
                }
            }
        }
        workspace.gradients[workspace.gradient_of[node.output]] = upper;
    }
}

/// A range of an optimizer's state, which may be empty altogether.
fn part<'a, T>(state: &'a mut [T], range: &std::ops::Range<usize>) -> &'a mut [T] {
    if state.is_empty() { state } else { &mut state[range.clone()] }
}
