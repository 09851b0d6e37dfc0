//! Two linear layers in a row, trained without their hidden width: see [`kernels::pair`].
//!
//! The first layer's bias counts as the weight of an input that is always 1; the second layer's stays an ordinary parameter.

use super::super::StateTensor;
use crate::error::Result;
use crate::layers::Pass;
use crate::layers::linear::Linear;
use kernels::linear::{self, Dims};
use kernels::optimize::Descent;
use kernels::pair::{self, Products};
use kernels::{Activation, Buffer, Par, Real, reduce};
use serde_json::{Value, json};
use std::ops::Range;

/// The collapsed pair.
pub struct Pair<T> {
    /// Inputs of the first layer.
    inputs: usize,
    hidden: usize,
    outputs: usize,
    /// Whether the first layer has a bias.
    bias: bool,
    /// Places of the two biases among their layers' parameters.
    first_bias: usize,
    /// The product, (inputs + bias) × outputs.
    product: Buffer<T>,
    /// W₁ · W₁ᵀ.
    left: Buffer<T>,
    /// W₂ᵀ · W₂.
    right: Buffer<T>,
    /// What is added to each row: the first bias through the second layer, and the second bias.
    constant: Buffer<T>,
    gradient: Buffer<T>,
    scratch: Buffer<T>,
    /// This step's descent, where it is not that of the run.
    pub own: Option<Descent<T>>,
}

/// A layer with its parameters.
type Layer<'a, T> = (&'a Linear<T>, &'a [T]);

impl<T: Real> Pair<T> {
    /// Computes the three products.
    pub fn new(par: Par, (first, one): Layer<T>, (second, two): Layer<T>) -> Result<Pair<T>> {
        let (inputs, hidden, outputs) = (first.map.inputs(), first.map.outputs(), second.map.outputs());
        let size = inputs + usize::from(first.bias);
        let mut pair = Pair {
            inputs,
            hidden,
            outputs,
            bias: first.bias,
            first_bias: first.bias_start(),
            product: Buffer::zeroed(size * outputs)?,
            left: Buffer::zeroed(size * size)?,
            right: Buffer::zeroed(outputs * outputs)?,
            constant: Buffer::zeroed(outputs)?,
            gradient: Buffer::zeroed(size * outputs)?,
            scratch: Buffer::zeroed(pair::scratch_elements(size, outputs))?,
            own: None,
        };
        let mut w1 = Buffer::zeroed(size * hidden)?;
        w1[..inputs * hidden].copy_from_slice(&one[..inputs * hidden]);
        if first.bias {
            w1[inputs * hidden..].copy_from_slice(&one[pair.first_bias..][..hidden]);
        }
        let into = Products { product: &mut pair.product, left: &mut pair.left, right: &mut pair.right };
        pair::collapse(par, (size, hidden, outputs), &w1, &two[..hidden * outputs], into);
        Ok(pair)
    }

    /// Inputs, with the one for the bias.
    fn size(&self) -> usize {
        self.inputs + usize::from(self.bias)
    }

    fn dims(&self, pass: &Pass) -> Dims {
        Dims { rows: pass.rows, inputs: self.inputs, outputs: self.outputs }
    }

    /// y = f(x · V + biases).
    pub fn forward(&mut self, pass: &Pass, bias: Option<&[T]>, activation: Activation<T>, x: &[T], y: &mut [T]) {
        let (weights, rest) = self.product.split_at(self.inputs * self.outputs);
        self.constant.fill(T::zero());
        for part in [self.bias.then_some(rest), bias].into_iter().flatten() {
            self.constant.iter_mut().zip(part).for_each(|(sum, part)| *sum += *part);
        }
        linear::forward(pass.par, self.dims(pass), x, weights, Some(&self.constant), activation, y);
    }

    /// gx = g · Vᵀ.
    pub fn input_gradient(&self, pass: &Pass, g: &[T], below: Option<(Activation<T>, &[T])>, gx: &mut [T]) {
        let weights = &self.product[..self.inputs * self.outputs];
        linear::input_gradient(pass.par, self.dims(pass), g, weights, below, gx);
    }

    /// Takes in the gradient of the batch's pre-activations.
    pub fn take_in(&mut self, pass: &Pass, x: &[T], g: &[T]) {
        let dims = self.dims(pass);
        let (gradient, rest) = self.gradient.split_at_mut(self.inputs * self.outputs);
        linear::weight_gradient(pass.par, dims, T::one(), x, g, false, gradient);
        if self.bias {
            reduce::column_sums(pass.par, g, self.outputs, false, rest);
        }
    }

    /// The squared norm of both layers' gradients, the first bias included.
    pub fn squared_norm(&mut self, par: Par) -> f64 {
        let sizes = (self.size(), self.outputs);
        pair::squared_norm(par, sizes, &self.gradient, (&self.left, &self.right), &mut self.scratch)
    }

    /// The step for the gradient that was taken in, times `scale`.
    pub fn step(&mut self, par: Par, by: &Descent<T>, scale: T) {
        let sizes = (self.size(), self.outputs);
        kernels::gram::shrink(&mut self.gradient, scale);
        let state = Products { product: &mut self.product, left: &mut self.left, right: &mut self.right };
        pair::pair_step(par, sizes, &self.gradient, (by.rate, by.shrink()), state, &mut self.scratch);
    }

    /// Two layers with these products, written over the parameters in `one` and `two`.
    pub fn export(&mut self, (one, two): (Range<usize>, Range<usize>), parameters: &mut [T]) {
        let (inputs, hidden, outputs, size) = (self.inputs, self.hidden, self.outputs, self.size());
        let mut w1 = vec![T::zero(); size * hidden];
        let w2 = &mut parameters[two][..hidden * outputs];
        let from = Products { product: &mut self.product, left: &mut self.left, right: &mut self.right };
        pair::expand((size, hidden, outputs), from, &mut w1, w2);
        let first = &mut parameters[one];
        first[..inputs * hidden].copy_from_slice(&w1[..inputs * hidden]);
        if self.bias {
            first[self.first_bias..][..hidden].copy_from_slice(&w1[inputs * hidden..]);
        }
    }

    /// What it keeps between steps.
    pub fn state(&mut self) -> Vec<StateTensor<'_, T>> {
        let (size, outputs) = (self.size(), self.outputs);
        vec![
            StateTensor { name: "front.product", shape: vec![size, outputs], values: &mut self.product },
            StateTensor { name: "front.left", shape: vec![size, size], values: &mut self.left },
            StateTensor { name: "front.right", shape: vec![outputs, outputs], values: &mut self.right },
        ]
    }

    /// Its figures.
    pub fn describe(&self) -> Value {
        json!({
            "kind": "linearPair",
            "hidden": self.hidden,
            "weights": self.hidden * (self.size() + self.outputs),
            "numbers": self.product.len() + self.left.len() + self.right.len(),
        })
    }
}
