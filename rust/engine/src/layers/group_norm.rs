//! Group normalisation (Wu, He 2018) of images.

use super::{Layer, Memory, Order, Pass, Specification, Trace};
use crate::config::Init;
use kernels::{Real, group_norm};

/// Each group of channels of each sample to mean 0 and variance 1 over its pixels, then weight and bias of each channel.
pub struct GroupNorm {
    /// Channels: the last axis.
    pub channels: usize,
    /// Groups of neighbouring channels.
    pub groups: usize,
    /// Added to the variance.
    pub epsilon: f64,
}

impl<T: Real> Layer<T> for GroupNorm {
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

    fn saved(&self, rows: usize) -> usize {
        2 * rows * self.groups
    }

    fn scratch(&self, rows: usize) -> usize {
        group_norm::scratch_elements(rows, self.channels)
    }

    fn separate(&self) -> bool {
        true
    }

    fn always_input_gradient(&self) -> bool {
        true
    }

    fn forward(&self, pass: &Pass, memory: Memory<T>, x: &[T], y: &mut [T]) {
        let Memory { parameters, saved, scratch, .. } = memory;
        let affine = (&parameters[..self.channels], &parameters[self.channels..2 * self.channels]);
        let saved = &mut saved[..2 * pass.rows * self.groups];
        let epsilon = T::of(self.epsilon);
        group_norm::group_norm(pass.par, pass.rows, self.groups, x, affine, epsilon, y, saved, scratch);
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
        let gradients = gradient[..2 * self.channels].split_at_mut(self.channels);
        let gx = gx.expect("memory is given for a gradient that is computed in any case");
        group_norm::group_norm_backward(
            pass.par,
            pass.rows,
            self.groups,
            trace.x,
            &parameters[..self.channels],
            &trace.saved[..2 * pass.rows * self.groups],
            gy,
            gx,
            gradients,
            scratch,
        );
    }
}
