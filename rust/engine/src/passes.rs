//! The forward and the backward pass over the nodes of a network.

use crate::clock::Direction;
use crate::layers::linear::Learn;
use crate::layers::{Memory, Pass, Trace};
use crate::plan::{Op, Part, Plan, extent};
use crate::rules::Moment;
use crate::workspace::Workspace;
use kernels::optimize::Update;
use kernels::{Buffer, Real};
use std::mem::replace;
use std::ops::Range;

/// Elements that one task adds.
const CHUNK: usize = 32_768;

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
    /// When the step takes place.
    pub moment: Moment,
}

/// Computes all values from value 0.
pub fn forward<T: Real>(
    plan: &mut Plan<T>,
    parameters: &[T],
    buffers: &mut [T],
    workspace: &mut Workspace<T>,
    pass: &Pass,
) {
    for index in 0..plan.nodes.len() {
        if plan.nodes[index].part == Part::Skipped {
            continue;
        }
        forward_node(plan, index, parameters, buffers, workspace, pass);
    }
}

/// Computes the value that one node makes.
pub fn forward_node<T: Real>(
    plan: &mut Plan<T>,
    index: usize,
    parameters: &[T],
    buffers: &mut [T],
    workspace: &mut Workspace<T>,
    pass: &Pass,
) {
    let start = workspace.clock.now();
    let Plan { nodes, sizes, tiles, .. } = plan;
    let extent = |value: usize| extent(sizes[value], tiles[value], pass.rows);
    let node = &mut nodes[index];
    let mut output = replace(&mut workspace.values[node.output], Buffer::empty());
    let values = &workspace.values;
    let read = |value: usize| &values[value][..extent(value)];
    let (x, y) = (read(node.input), &mut output[..extent(node.output)]);
    let parameters = &parameters[node.parameters.clone()];
    match &mut node.op {
        Op::Linear(linear) => linear.forward(pass, parameters, x, y, &mut workspace.scratch),
        Op::Add { other } => {
            let b = read(*other);
            pass.par.for_work(y.len() * 4).chunks_mut(y, CHUNK, |start, y| {
                let (x, b) = (&x[start..start + y.len()], &b[start..start + y.len()]);
                kernels::isa::vectorize(
                    #[inline(always)]
                    || {
                        for ((y, x), b) in y.iter_mut().zip(x).zip(b) {
                            *y = *x + *b;
                        }
                    },
                );
            });
        }
        Op::Layer(layer) => {
            let buffers = &mut buffers[node.buffers.clone()];
            let (saved, scratch) = (&mut workspace.saved[index], &mut workspace.scratch);
            let memory = Memory { parameters, buffers, saved, scratch };
            layer.forward(pass, memory, x, y);
        }
    }
    workspace.values[node.output] = output;
    workspace.clock.add(index, Direction::Forward, start);
}

/// Carries the gradient of the network's output (already in its slot) back to all parameters.
pub fn backward<T: Real>(
    plan: &mut Plan<T>,
    parameters: &mut [T],
    workspace: &mut Workspace<T>,
    pass: &Pass,
    learning: &mut Learning<T>,
) {
    workspace.begun.fill(false);
    let Plan { nodes, sizes, tiles, .. } = plan;
    let extent = |value: usize| extent(sizes[value], tiles[value], pass.rows);
    for (index, node) in nodes.iter_mut().enumerate().rev() {
        if node.part == Part::Skipped {
            continue;
        }
        let start = workspace.clock.now();
        let Workspace { values, saved, gradients, gradient_of, begun, part: spare, scratch, clock, .. } = workspace;
        let mut upper = replace(&mut gradients[gradient_of[node.output]], Buffer::empty());
        let gy = &mut upper[..extent(node.output)];
        let parameters = &mut parameters[node.parameters.clone()];
        let gradient = &mut learning.gradient[node.parameters.clone()];
        let first = part(learning.first, &node.parameters);
        let second = part(learning.second, &node.parameters);
        let input = node.input;
        let count = extent(input);
        let trace = Trace { x: &values[input][..count], y: &values[node.output][..gy.len()], saved: &saved[index] };
        // A second reader's part of a gradient is computed beside it and added.
        let further = input != 0 && begun[input];
        let unread = input == 0 || node.part == Part::Lowest;
        let gx = match &node.op {
            Op::Layer(layer) if unread && layer.always_input_gradient() => Some(&mut spare[..count]),
            _ if unread => None,
            _ if further => Some(&mut spare[..count]),
            _ => Some(&mut gradients[gradient_of[input]][..count]),
        };
        match &mut node.op {
            Op::Linear(linear) => {
                let learn = Learn {
                    gradient,
                    first,
                    second,
                    scratch,
                    update: learning.update.as_ref(),
                    moment: learning.moment,
                };
                linear.backward(pass, parameters, trace, gy, gx, learn);
            }
            Op::Add { other } => {
                if let Some(gx) = gx {
                    gx.copy_from_slice(gy);
                }
                if *other != 0 {
                    let target = &mut gradients[gradient_of[*other]][..gy.len()];
                    if begun[*other] {
                        add(pass, target, gy);
                    } else {
                        target.copy_from_slice(gy);
                        begun[*other] = true;
                    }
                }
            }
            Op::Layer(layer) => {
                layer.backward(pass, parameters, trace, gy, gx, gradient, scratch);
                if let Some(update) = &learning.update {
                    update.apply(parameters, gradient, first, second);
                }
            }
        }
        if further {
            add(pass, &mut gradients[gradient_of[input]][..count], &spare[..count]);
        }
        begun[input] = true;
        let slot = gradient_of[node.output];
        gradients[slot] = upper;
        clock.add(index, Direction::Backward, start);
    }
}

/// sum += part.
pub fn add<T: Real>(pass: &Pass, sum: &mut [T], part: &[T]) {
    pass.par.for_work(sum.len() * 4).chunks_mut(sum, CHUNK, |start, sum| {
        let part = &part[start..start + sum.len()];
        kernels::isa::vectorize(
            #[inline(always)]
            || {
                for (sum, part) in sum.iter_mut().zip(part) {
                    *sum += *part;
                }
            },
        );
    });
}

/// A range of an optimizer's state, which may be empty altogether.
pub fn part<'a, T>(state: &'a mut [T], range: &Range<usize>) -> &'a mut [T] {
    if state.is_empty() { state } else { &mut state[range.clone()] }
}
