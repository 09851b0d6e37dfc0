//! The linear map: what the slots of a learning rule act on.

use super::{Pass, Specification, Trace};
use crate::config::Init;
use kernels::linear::{self, Dims, Weights};
use kernels::optimize::Update;
use kernels::{Activation, Real, reduce};

/// y = f(x · W + b). W is stored inputs × outputs and shown to users as outputs × inputs.
pub struct Linear<T> {
    /// Inputs of a row.
    pub inputs: usize,
    /// Outputs of a row.
    pub outputs: usize,
    /// Whether there is a bias.
    pub bias: bool,
    /// Initial weights.
    pub weight_init: Init,
    /// Initial bias.
    pub bias_init: Init,
    /// The activation that follows, where it could be fused.
    pub activation: Activation<T>,
    /// The activation that made the input, when this map is its only reader: the input gradient then takes its derivative
    /// along while the block is in the cache.
    pub below: Option<Activation<T>>,
    /// Whether the layer above has already taken this map's own activation along.
    pub derivative_done: bool,
}

/// What a backward pass may change for one node: its ranges of the gradient and of the optimizer's state.
pub struct Learn<'a, T> {
    /// Gradient of the node's parameters.
    pub gradient: &'a mut [T],
    /// First optimizer state, or empty.
    pub first: &'a mut [T],
    /// Second optimizer state, or empty.
    pub second: &'a mut [T],
    /// Scratch memory for all threads.
    pub scratch: &'a mut [T],
    /// The update to apply at once; without it the gradient is stored.
    pub update: Option<&'a Update<T>>,
}

impl<T: Real> Linear<T> {
    fn dims(&self, rows: usize) -> Dims {
        Dims { rows, inputs: self.inputs, outputs: self.outputs }
    }

    /// Place of the bias among the node's parameters.
    fn bias_start(&self) -> usize {
        crate::plan::aligned::<T>(self.inputs * self.outputs)
    }

    /// The parameters it wants.
    pub fn parameters(&self) -> Vec<Specification> {
        let fans = (self.inputs, self.outputs);
        let mut list = vec![Specification {
            name: "weight",
            shape: vec![self.outputs, self.inputs],
            transposed: true,
            init: self.weight_init,
            fans,
        }];
        if self.bias {
            let shape = vec![self.outputs];
            list.push(Specification { name: "bias", shape, transposed: false, init: self.bias_init, fans });
        }
        list
    }

    /// Scratch elements that one thread needs in the backward pass.
    pub fn scratch(&self) -> usize {
        linear::step_scratch(self.outputs)
    }

    /// Multiplications and additions of one row's forward pass, in pairs.
    pub fn multiply_adds(&self) -> usize {
        self.inputs * self.outputs
    }

    /// y from x.
    pub fn forward(&self, pass: &Pass, parameters: &[T], x: &[T], y: &mut [T]) {
        let weight = &parameters[..self.inputs * self.outputs];
        let bias = self.bias.then(|| &parameters[self.bias_start()..][..self.outputs]);
        linear::forward(pass.par, self.dims(pass.rows), x, weight, bias, self.activation, y);
    }

    /// gx from gy, and the weight gradient or, with an update, the next weights. `gy` is used up.
    pub fn backward(
        &self,
        pass: &Pass,
        parameters: &mut [T],
        trace: Trace<T>,
        gy: &mut [T],
        gx: Option<&mut [T]>,
        learn: Learn<T>,
    ) {
        let (dims, par) = (self.dims(pass.rows), pass.par);
        let Learn { gradient, first, second, scratch, update } = learn;
        if !self.derivative_done && self.activation != Activation::Identity {
            par.for_work(gy.len() * 20).chunks_mut(gy, 16_384, |start, gy| {
                let y = &trace.y[start..start + gy.len()];
                kernels::isa::vectorize(|| self.activation.backward_from_output(y, gy));
            });
        }
        let size = self.inputs * self.outputs;
        if let Some(gx) = gx {
            let below = self.below.map(|activation| (activation, trace.x));
            linear::input_gradient(par, dims, gy, &parameters[..size], below, gx);
        }
        match update {
            None => linear::weight_gradient(par, dims, T::one(), trace.x, gy, false, &mut gradient[..size]),
            Some(update) => {
                let weights =
                    Weights { w: &mut parameters[..size], first: part(first, 0, size), second: part(second, 0, size) };
                linear::weight_step(par, dims, trace.x, gy, update, weights, scratch);
            }
        }
        if self.bias {
            let (start, count) = (self.bias_start(), self.outputs);
            let bias_gradient = &mut gradient[start..start + count];
            reduce::column_sums(par, gy, count, false, bias_gradient);
            if let Some(update) = update {
                let bias = &mut parameters[start..start + count];
                update.apply(bias, bias_gradient, part(first, start, count), part(second, start, count));
            }
        }
    }
}

/// A range of an optimizer's state, which may be empty altogether.
fn part<T>(state: &mut [T], start: usize, count: usize) -> &mut [T] {
    if state.is_empty() { state } else { &mut state[start..start + count] }
}
