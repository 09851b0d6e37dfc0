//! The first layer, trained through the products of the rows.
//!
//! With fixed rows X (N × inputs) the weights never leave W(t) = s · W(0) + Xᵀ · C(t), so their effect on all rows,
//! Z(t) = X · W(t), can be kept instead of them: a step on the rows b with gradient D changes Z by −rate · K[:, b] · D, where
//! K = X · Xᵀ is known before training. Momentum and weight decay act on Z and on (s, C) as they act on W, because both are linear
//! in W. Biases stay outside, as ordinary parameters.
//!
//! With `kernel`, X is itself a kernel matrix: row n holds k(xₙ, ·) for all training rows. K is X then, W(0) and C(t) are weights
//! of the training rows, and W(t) = s · W(0) + C(t): gradient descent on a first layer in the kernel's own feature space.

use super::super::StateTensor;
use crate::dataset::Dataset;
use crate::error::Result;
use crate::layers::Pass;
use crate::layers::linear::Linear;
use kernels::gram::{self, Panel};
use kernels::linear::{self, Dims};
use kernels::optimize::Descent;
use kernels::{Activation, Buffer, Par, Real, isa};
use serde_json::{Value, json};
use std::sync::Arc;

/// Rows of features that are converted at once.
const BLOCK: usize = 256;

/// All parameters and what belongs to them, in the layout of the parameters.
pub struct Whole<'a, T> {
    /// The parameters.
    pub parameters: &'a mut [T],
    /// Their gradient.
    pub gradient: &'a [T],
    /// First optimizer state, or empty.
    pub first: &'a mut [T],
    /// Second optimizer state, or empty.
    pub second: &'a mut [T],
}

/// What a collapse of the first layer begins with.
pub struct Setting<'a, T> {
    /// The layer.
    pub map: &'a Linear<T>,
    /// Its parameters.
    pub weights: &'a [T],
    /// The training rows.
    pub data: &'a Arc<Dataset>,
    /// Whether the features are rows of a kernel matrix.
    pub kernel: bool,
    /// Whether there is momentum.
    pub velocity: bool,
    /// Most rows of a batch.
    pub batch: usize,
    /// Threads to use.
    pub par: Par,
}

/// The collapsed first layer.
pub struct Gram<T> {
    /// N.
    rows: usize,
    inputs: usize,
    outputs: usize,
    kernel: bool,
    /// K: N × N.
    k: Arc<Buffer<T>>,
    /// Z: N × outputs.
    z: Buffer<T>,
    /// The velocity of Z, or empty.
    velocity: Buffer<T>,
    /// C: N × outputs.
    sum: Buffer<T>,
    /// The velocity of C, or empty.
    sum_velocity: Buffer<T>,
    /// s and its velocity.
    scale: [T; 2],
    /// W(0), once the parameters hold something newer.
    start: Option<Buffer<T>>,
    /// The batch's rows of K; empty where every batch has all rows.
    panel: Buffer<T>,
    /// The batch's gradient: in the order of the batch, or of the data where the batch has all rows.
    held: Buffer<T>,
    /// Room for the norm.
    room: Buffer<T>,
    samples: Vec<u32>,
    /// This step's descent, where it is not that of the run.
    pub own: Option<Descent<T>>,
}

impl<T: Real> Gram<T> {
    /// Computes K and Z.
    pub fn new(setting: Setting<T>) -> Result<Gram<T>> {
        let Setting { map, weights, data, kernel, velocity, batch, par } = setting;
        let (rows, inputs, outputs) = (data.rows(), map.map.inputs(), map.map.outputs());
        let k = if kernel { data.kernel_matrix()? } else { data.gram(par)? };
        let mut z = Buffer::zeroed(rows * outputs)?;
        let weights = &weights[..inputs * outputs];
        for_blocks(data, inputs, &mut block(data, inputs)?, |first, x: &[T]| {
            let dims = Dims { rows: x.len() / inputs, inputs, outputs };
            let z = &mut z[first * outputs..][..dims.rows * outputs];
            linear::forward(par, dims, x, weights, None, Activation::Identity, z);
        });
        let wanted = |wanted: bool, count: usize| Buffer::zeroed(if wanted { count } else { 0 });
        Ok(Gram {
            rows,
            inputs,
            outputs,
            kernel,
            k,
            z,
            velocity: wanted(velocity, rows * outputs)?,
            sum: Buffer::zeroed(rows * outputs)?,
            sum_velocity: wanted(velocity, rows * outputs)?,
            scale: [T::one(), T::zero()],
            start: None,
            panel: wanted(batch < rows, batch * rows)?,
            held: Buffer::zeroed(batch * outputs)?,
            room: Buffer::zeroed(batch * outputs)?,
            samples: Vec::with_capacity(batch),
            own: None,
        })
    }

    /// Number of collapsed weights.
    pub fn weights(&self) -> usize {
        self.inputs * self.outputs
    }

    /// y = f(z + bias).
    pub fn forward(&self, pass: &Pass, bias: Option<&[T]>, activation: Activation<T>, y: &mut [T]) {
        let size = self.outputs;
        pass.par.for_work(y.len() * 20).chunks_mut(y, BLOCK * size, |from, y| {
            for (sample, y) in pass.samples[from / size..].iter().zip(y.chunks_exact_mut(size)) {
                y.copy_from_slice(&self.z[*sample as usize * size..][..size]);
                isa::vectorize(|| {
                    if let Some(bias) = bias {
                        y.iter_mut().zip(bias).for_each(|(y, b)| *y += *b);
                    }
                    activation.apply(y);
                });
            }
        });
    }

    /// Takes in the gradient of the batch's pre-activations.
    pub fn take_in(&mut self, pass: &Pass, g: &[T]) {
        let (rows, size) = (self.rows, self.outputs);
        self.samples.clear();
        self.samples.extend_from_slice(pass.samples);
        if self.panel.is_empty() {
            // All rows: in the order of the data, so that K can be used as it is.
            for (sample, g) in pass.samples.iter().zip(g.chunks_exact(size)) {
                self.held[*sample as usize * size..][..size].copy_from_slice(g);
            }
            self.samples.sort_unstable();
            return;
        }
        self.held[..g.len()].copy_from_slice(g);
        let (k, samples) = (&self.k, &self.samples);
        let panel = &mut self.panel[..samples.len() * rows];
        pass.par.for_work(panel.len() * 8).chunks_mut(panel, 8 * rows, |from, panel| {
            for (sample, row) in samples[from / rows..].iter().zip(panel.chunks_exact_mut(rows)) {
                row.copy_from_slice(&k[*sample as usize * rows..][..rows]);
            }
        });
    }

    /// The squared norm of Xᵀ · D.
    pub fn squared_norm(&mut self, par: Par) -> f64 {
        let count = self.samples.len();
        let k = if self.panel.is_empty() { &self.k[..] } else { &self.panel[..count * self.rows] };
        let (d, room) = (&self.held[..count * self.outputs], &mut self.room[..count * self.outputs]);
        gram::squared_norm(par, (self.rows, self.outputs), (k, &self.samples), d, room)
    }

    /// The step for the gradient that was taken in, times `scale`.
    pub fn step(&mut self, par: Par, by: &Descent<T>, scale: T) {
        let (count, size) = (self.samples.len(), self.outputs);
        let k = if self.panel.is_empty() { &self.k[..] } else { &self.panel[..count * self.rows] };
        let d = &self.held[..count * size];
        let panel = Panel { z: &mut self.z, velocity: &mut self.velocity };
        gram::panel_step(par, (self.rows, size), k, d, scale, by, panel);
        // The same step on (s, C).
        let [s, v] = self.scale;
        let pull = by.decay * s;
        let ahead = if by.momentum == T::zero() {
            pull
        } else {
            self.scale[1] = by.momentum * v + pull;
            if by.nesterov { pull + by.momentum * self.scale[1] } else { self.scale[1] }
        };
        self.scale[0] = s - by.rate * ahead;
        sum_step(by, scale, (&self.samples, d), &mut self.sum, &mut self.sum_velocity);
    }

    /// Brings `weights` up to date. With `keep`, what they held before, W(0), is kept for later.
    pub fn export(&mut self, par: Par, data: &Dataset, weights: &mut [T], (keep, stale): (bool, bool)) -> Result<()> {
        if keep && self.start.is_none() {
            let mut start = Buffer::zeroed(weights.len())?;
            start.copy_from_slice(weights);
            self.start = Some(start);
        }
        if !stale {
            return Ok(());
        }
        if let Some(start) = &self.start {
            weights.copy_from_slice(start);
        }
        self.combine(par, data, (self.scale[0], &self.sum), weights)
    }

    /// The velocity of the weights, which momentum keeps.
    pub fn export_velocity(&self, par: Par, data: &Dataset, weights: &[T], velocity: &mut [T]) -> Result<()> {
        velocity.copy_from_slice(self.start.as_deref().unwrap_or(weights));
        self.combine(par, data, (self.scale[1], &self.sum_velocity), velocity)
    }

    /// w ← scale · w + Xᵀ · sum. Where there is no memory for that, `w` stays as it is.
    fn combine(&self, par: Par, data: &Dataset, (scale, sum): (T, &[T]), w: &mut [T]) -> Result<()> {
        if self.kernel {
            gram::shrink(w, scale);
            isa::vectorize(|| w.iter_mut().zip(sum).for_each(|(w, c)| *w += *c));
            return Ok(());
        }
        let (inputs, outputs) = (self.inputs, self.outputs);
        let mut room = block(data, inputs)?;
        gram::shrink(w, scale);
        for_blocks(data, inputs, &mut room, |first, x: &[T]| {
            let dims = Dims { rows: x.len() / inputs, inputs, outputs };
            let sum = &sum[first * outputs..][..dims.rows * outputs];
            linear::weight_gradient(par, dims, T::one(), x, sum, true, w);
        });
        Ok(())
    }

    /// What it keeps between steps; W(0) must have been kept before.
    pub fn state(&mut self) -> Vec<StateTensor<'_, T>> {
        let (rows, inputs, outputs) = (self.rows, self.inputs, self.outputs);
        let tensor = |name, shape, values| StateTensor { name, shape, values };
        let mut list = vec![
            tensor("front.preactivations", vec![rows, outputs], &mut self.z[..]),
            tensor("front.sum", vec![rows, outputs], &mut self.sum[..]),
            tensor("front.scale", vec![2], &mut self.scale[..]),
        ];
        if let Some(start) = &mut self.start {
            list.push(tensor("front.start", vec![inputs, outputs], &mut start[..]));
        }
        if !self.velocity.is_empty() {
            list.push(tensor("front.velocity", vec![rows, outputs], &mut self.velocity[..]));
            list.push(tensor("front.sumVelocity", vec![rows, outputs], &mut self.sum_velocity[..]));
        }
        list
    }

    /// Its figures.
    pub fn describe(&self) -> Value {
        let kept = self.z.len() + self.velocity.len() + self.sum.len() + self.sum_velocity.len();
        json!({
            "kind": "gram",
            "rows": self.rows,
            "weights": self.weights(),
            "numbers": kept + 2,
            "kernelNumbers": self.k.len(),
            "kernelShared": Arc::strong_count(&self.k) > 1,
        })
    }
}

/// The step on C: a gradient that has rows for the batch only.
fn sum_step<T: Real>(by: &Descent<T>, scale: T, (samples, d): (&[u32], &[T]), sum: &mut [T], velocity: &mut [T]) {
    let size = d.len() / samples.len();
    let add = |into: &mut [T], factor: T| {
        isa::vectorize(|| {
            for (sample, d) in samples.iter().zip(d.chunks_exact(size)) {
                let row = &mut into[*sample as usize * size..][..size];
                row.iter_mut().zip(d).for_each(|(c, d)| *c += factor * *d);
            }
        });
    };
    if by.momentum == T::zero() {
        gram::shrink(sum, by.shrink());
        add(sum, -by.rate * scale);
    } else if by.nesterov {
        isa::vectorize(|| {
            for (c, v) in sum.iter_mut().zip(&mut *velocity) {
                let pull = by.decay * *c;
                *c -= by.rate * (pull + by.momentum * (by.momentum * *v + pull));
                *v = by.momentum * *v + pull;
            }
        });
        add(velocity, scale);
        add(sum, -by.rate * scale * (T::one() + by.momentum));
    } else {
        isa::vectorize(|| {
            for (c, v) in sum.iter().zip(&mut *velocity) {
                *v = by.momentum * *v + by.decay * *c;
            }
        });
        add(velocity, scale);
        isa::vectorize(|| sum.iter_mut().zip(&*velocity).for_each(|(c, v)| *c -= by.rate * *v));
    }
}

/// Memory for [`for_blocks`].
fn block<T: Real>(data: &Dataset, size: usize) -> Result<Buffer<T>> {
    Ok(Buffer::zeroed(data.rows().min(BLOCK) * size)?)
}

/// Runs `body(first row, features)` on blocks of rows, in memory from [`block`].
fn for_blocks<T: Real>(data: &Dataset, size: usize, room: &mut [T], mut body: impl FnMut(usize, &[T])) {
    for range in kernels::par::blocks(data.rows(), BLOCK) {
        let samples: Vec<u32> = range.clone().map(|row| row as u32).collect();
        let x = &mut room[..range.len() * size];
        data.gather(&samples, x);
        body(range.start, x);
    }
}
