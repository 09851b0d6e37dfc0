//! Batch normalisation (Ioffe, Szegedy 2015) of dense layers and of images: in both, a channel is a column of a matrix whose
//! rows are samples or pixels.

use super::{Layer, Memory, Mode, Order, Pass, Specification, Trace};
use crate::config::Init;
use kernels::batch_norm::{self, After, Before, Running};
use kernels::{Activation, Real};

/// Each channel to mean 0 and variance 1 over all pixels of the batch, then weight and bias. Evaluation takes running statistics.
pub struct BatchNorm {
    /// Channels: the last axis.
    pub channels: usize,
    /// Pixels of a sample; 1 for a dense layer.
    pub pixels: usize,
    /// Added to the variance.
    pub epsilon: f64,
    /// Weight of a new batch in the running statistics.
    pub momentum: f64,
    /// Whether a ReLU follows in the same pass.
    pub relu: bool,
}

/// Means and 1/√(variance + ε) of the channels that a forward pass normalised with.
fn statistics<T>(channels: usize, saved: &[T]) -> (&[T], &[T]) {
    saved[..2 * channels].split_at(channels)
}

impl BatchNorm {
    /// gx and the parameters' gradient where the statistics are given numbers and no functions of the batch.
    fn backward_evaluated<T: Real>(
        &self,
        parameters: &[T],
        trace: &Trace<T>,
        gy: &[T],
        mut gx: Option<&mut [T]>,
        gradient: &mut [T],
    ) {
        let channels = self.channels;
        let (mean, inverse) = statistics(channels, trace.saved);
        let (gamma_gradient, beta_gradient) = gradient[..2 * channels].split_at_mut(channels);
        gamma_gradient.fill(T::zero());
        beta_gradient.fill(T::zero());
        for (row, gy) in gy.chunks_exact(channels).enumerate() {
            for (channel, g) in gy.iter().enumerate() {
                let at = row * channels + channel;
                let g = if self.relu && trace.y[at] <= T::zero() { T::zero() } else { *g };
                beta_gradient[channel] += g;
                gamma_gradient[channel] += g * (trace.x[at] - mean[channel]) * inverse[channel];
                if let Some(gx) = &mut gx {
                    gx[at] = g * parameters[channel] * inverse[channel];
                }
            }
        }
    }
}

impl<T: Real> Layer<T> for BatchNorm {
    fn parameters(&self) -> Vec<Specification> {
        let one = |name, init| Specification {
            name,
            shape: vec![self.channels],
            order: Order::Same,
            init,
            fans: (self.channels, self.channels),
        };
        vec![one("weight", Init::Ones), one("bias", Init::Zeros)]
    }

    fn buffers(&self) -> Vec<Specification> {
        let one = |name, init| Specification {
            name,
            shape: vec![self.channels],
            order: Order::Same,
            init,
            fans: (self.channels, self.channels),
        };
        vec![one("running_mean", Init::Zeros), one("running_var", Init::Ones)]
    }

    fn fuse(&mut self, activation: Activation<T>) -> bool {
        let fused = activation == Activation::Relu && !self.relu;
        self.relu |= fused;
        fused
    }

    fn saved(&self, _: usize) -> usize {
        2 * self.channels
    }

    fn scratch(&self, rows: usize) -> usize {
        batch_norm::scratch_elements(rows * self.pixels, self.channels)
    }

    fn always_input_gradient(&self) -> bool {
        true
    }

    fn least_rows(&self) -> usize {
        if self.pixels > 1 { 1 } else { 2 }
    }

    fn forward(&self, pass: &Pass, memory: Memory<T>, x: &[T], y: &mut [T]) {
        let Memory { parameters, buffers, saved, scratch } = memory;
        let channels = self.channels;
        let affine = (&parameters[..channels], &parameters[channels..2 * channels]);
        let (mean, variance) = buffers[..2 * channels].split_at_mut(channels);
        let after = if self.relu { After::Relu } else { After::Nothing };
        let epsilon = T::of(self.epsilon);
        let saved = &mut saved[..2 * channels];
        match pass.mode {
            Mode::Train { .. } => {
                let running = Running { mean, variance, momentum: T::of(self.momentum) };
                batch_norm::train(pass.par, x, affine, epsilon, running, after, y, saved, scratch);
            }
            Mode::Evaluate => {
                let (means, inverses) = saved.split_at_mut(channels);
                means.copy_from_slice(mean);
                for (inverse, variance) in inverses.iter_mut().zip(&*variance) {
                    *inverse = T::one() / (*variance + epsilon).sqrt();
                }
                batch_norm::eval(pass.par, x, affine, (mean, variance), epsilon, after, y, scratch);
            }
        }
    }

    fn backward(
        &self,
        pass: &Pass,
        parameters: &[T],
        trace: Trace<T>,
        gy: &[T],
        gx: Option<&mut [T]>,
        gradient: &mut [T],
        scratch: &mut [T],
    ) {
        if pass.mode == Mode::Evaluate {
            return self.backward_evaluated(parameters, &trace, gy, gx, gradient);
        }
        let channels = self.channels;
        let affine = (&parameters[..channels], &parameters[channels..2 * channels]);
        let before = if self.relu { Before::Relu } else { Before::Nothing };
        let gradients = gradient[..2 * channels].split_at_mut(channels);
        let saved = &trace.saved[..2 * channels];
        let gx = gx.expect("memory is given for a gradient that is computed in any case");
        batch_norm::backward(pass.par, trace.x, affine, saved, gy, before, gx, gradients, scratch);
    }
}
