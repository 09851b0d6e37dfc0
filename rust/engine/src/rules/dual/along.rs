//! The whole network along directions of its parameters: first derivatives for any number of directions at once, first and
//! second for one.

use super::Frame;
use crate::error::Result;
use crate::layers::linear::Linear;
use crate::layers::{Lane, Pass, Trace};
use crate::passes;
use crate::plan::{Op, Plan};
use crate::workspace::{Workspace, last_readers, scratch, take_turns};
use kernels::{Activation, Buffer, Real, tangent};
use std::mem::replace;

/// Tangents of all values for directions of all parameters.
pub struct Along<T> {
    lanes: usize,
    first: Vec<Buffer<T>>,
    /// Empty where second tangents are not wanted.
    second: Vec<Buffer<T>>,
    memory_of: Vec<usize>,
    spare: Buffer<T>,
    scratch: Buffer<T>,
}

impl<T: Real> Along<T> {
    /// Room for `lanes` directions and `rows` rows.
    ///
    /// # Panics
    /// With second tangents for more than one direction.
    pub fn new(plan: &Plan<T>, lanes: usize, second: bool, rows: usize, threads: usize) -> Result<Along<T>> {
        assert!(lanes == 1 || !second, "second tangents have one direction");
        let last = last_readers(&plan.nodes, plan.sizes.len());
        let (memory_of, sizes) = take_turns(&plan.nodes, &plan.sizes, &last);
        let make =
            || sizes.iter().map(|size| Buffer::zeroed(rows * lanes * size)).collect::<std::result::Result<_, _>>();
        let linear = plan.nodes.iter().filter(|node| matches!(node.op, Op::Linear(_)));
        let widest = linear.map(|node| plan.sizes[node.output]).max().unwrap_or(0);
        Ok(Along {
            lanes,
            first: make()?,
            second: if second { make()? } else { vec![] },
            memory_of,
            spare: Buffer::zeroed(rows * widest)?,
            scratch: Buffer::zeroed(scratch::<T>(&plan.nodes, rows * lanes, threads))?,
        })
    }

    /// Bytes of the tangents.
    pub fn bytes(&self) -> usize {
        let sum = |buffers: &[Buffer<T>]| buffers.iter().map(|buffer| buffer.len()).sum::<usize>();
        (sum(&self.first) + sum(&self.second) + self.spare.len()) * T::BYTES
    }

    /// First tangents of a value: lanes × elements.
    pub fn first(&self, value: usize, elements: usize) -> &[T] {
        &self.first[self.memory_of[value]][..self.lanes * elements]
    }

    /// Second tangents of a value.
    pub fn second(&self, value: usize, elements: usize) -> &[T] {
        &self.second[self.memory_of[value]][..elements]
    }

    /// A pass over the whole network. `kept` tells whether the workspace still holds all values of a forward pass.
    pub fn run(&mut self, frame: &mut Frame<T>, directions: &[T], kept: bool) {
        self.begin();
        for index in 0..frame.plan.nodes.len() {
            if !kept {
                frame.node(index);
            }
            self.carry(frame.plan, index, frame.parameters, directions, frame.workspace, frame.pass);
            if !kept {
                frame.workspace.end(index);
            }
        }
    }

    /// Begins a pass: the network's input stands still.
    fn begin(&mut self) {
        let place = self.memory_of[0];
        self.first[place].fill(T::zero());
        if let Some(second) = self.second.get_mut(place) {
            second.fill(T::zero());
        }
    }

    /// The tangents of the value that node `index` makes, after its forward pass. `directions` are laid out like the
    /// parameters, one after the other.
    fn carry(
        &mut self,
        plan: &mut Plan<T>,
        index: usize,
        parameters: &[T],
        directions: &[T],
        workspace: &Workspace<T>,
        pass: &Pass,
    ) {
        let Plan { nodes, sizes, .. } = plan;
        let node = &mut nodes[index];
        let (input, output) = (node.input, node.output);
        let (inputs, outputs) = (pass.rows * sizes[input], pass.rows * sizes[output]);
        let place = self.memory_of[output];
        let mut first = replace(&mut self.first[place], Buffer::empty());
        let mut second = self.second.get_mut(place).map(|second| replace(second, Buffer::empty()));
        let y1 = &mut first[..self.lanes * outputs];
        let mut y2 = second.as_mut().map(|second| &mut second[..outputs]);
        let stride = directions.len() / self.lanes;
        let direction = |lane: usize| &directions[lane * stride..][node.parameters.clone()];
        let own = &parameters[node.parameters.clone()];
        let (x, y) = (&workspace.values[input][..inputs], &workspace.values[output][..outputs]);
        match &mut node.op {
            Op::Linear(linear) => {
                let (spare, mut scratch) = (&mut self.spare[..outputs], replace(&mut self.scratch, Buffer::empty()));
                let x1 = &self.first[self.memory_of[input]][..self.lanes * inputs];
                if let Some(y2) = &mut y2 {
                    let x2 = &self.second[self.memory_of[input]][..inputs];
                    if input == 0 {
                        y2.fill(T::zero());
                    } else {
                        linear.multiply(pass.par, pass.rows, own, x2, y2, &mut scratch);
                        product(linear, pass, direction(0), false, x1, spare, &mut scratch);
                        passes::add(pass, y2, spare);
                        passes::add(pass, y2, spare);
                    }
                }
                if input != 0 {
                    linear.multiply(pass.par, self.lanes * pass.rows, own, x1, y1, &mut scratch);
                }
                for (lane, y1) in y1.chunks_exact_mut(outputs).enumerate() {
                    if input == 0 {
                        product(linear, pass, direction(lane), true, x, y1, &mut scratch);
                    } else {
                        product(linear, pass, direction(lane), true, x, spare, &mut scratch);
                        passes::add(pass, y1, spare);
                    }
                }
                match &mut y2 {
                    None => tangent::activation(pass.par, linear.activation, y, y, y1),
                    Some(y2) => tangent::activation_second(linear.activation, y, y, y1, y2),
                }
                self.scratch = scratch;
            }
            Op::Add { other } => {
                y1.copy_from_slice(self.first(input, outputs));
                passes::add(pass, y1, self.first(*other, outputs));
                if let Some(y2) = &mut y2 {
                    y2.copy_from_slice(self.second(input, outputs));
                    passes::add(pass, y2, self.second(*other, outputs));
                }
            }
            Op::Layer(layer) => {
                let rule = layer.tangent_rule();
                let x1 = &self.first[self.memory_of[input]][..self.lanes * inputs];
                for (lane, (x1, y1)) in x1.chunks_exact(inputs).zip(y1.chunks_exact_mut(outputs)).enumerate() {
                    let trace = Trace { x, y, saved: &workspace.saved[index] };
                    let second = y2.as_deref_mut().map(|y2| (&self.second[self.memory_of[input]][..inputs], y2));
                    let lane = Lane { x: x1, y: y1, second, direction: Some(direction(lane)) };
                    rule.tangent(pass, own, trace, lane);
                }
            }
        }
        self.first[place] = first;
        if let Some(second) = second {
            self.second[place] = second;
        }
    }
}

/// y = x · Ẇ, with the direction of the bias where `bias` is set and the map has one.
fn product<T: Real>(
    linear: &Linear<T>,
    pass: &Pass,
    direction: &[T],
    bias: bool,
    x: &[T],
    y: &mut [T],
    scratch: &mut [T],
) {
    let weight = &direction[..linear.map.weights()];
    let bias = (bias && linear.bias).then(|| &direction[linear.bias_start()..][..linear.map.outputs()]);
    linear.map.forward(pass.par, pass.rows, x, weight, bias, Activation::Identity, y, scratch);
}
