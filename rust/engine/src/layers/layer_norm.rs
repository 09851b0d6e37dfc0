//! Layer normalisation over the last axis.

use super::{Lane, Layer, Memory, Order, Pass, Specification, TangentRule, Trace};
use crate::config::Init;
use kernels::{Real, norm, tangent};

/// Mean 0 and variance 1 over the last axis (`size` values), then weight and bias.
pub struct LayerNorm {
    /// Length of the last axis.
    pub size: usize,
    /// How many such groups a sample has.
    pub groups: usize,
    /// Added to the variance.
    pub epsilon: f64,
}

impl<T: Real> TangentRule<T> for LayerNorm {
    fn tangent(&self, pass: &Pass, parameters: &[T], trace: Trace<T>, lane: Lane<T>) {
        let Lane { x, y, second, direction } = lane;
        let moving = direction.map(|d| (&d[..self.size], &d[self.size..2 * self.size]));
        let affine = tangent::Affine { gamma: &parameters[..self.size], moving };
        tangent::layer_norm(pass.par, trace.x, trace.saved, affine, (x, y), second);
    }
}

impl<T: Real> Layer<T> for LayerNorm {
    fn tangent_rule(&self) -> Option<&dyn TangentRule<T>> {
        Some(self)
    }

    fn parameters(&self) -> Vec<Specification> {
        let one = |name, init| Specification {
            name,
            shape: vec![self.size],
            order: Order::Same,
            init,
            fans: (self.size, self.size),
        };
        vec![one("weight", Init::Ones), one("bias", Init::Zeros)]
    }

    fn saved(&self, rows: usize) -> usize {
        2 * rows * self.groups
    }

    fn separate(&self) -> bool {
        true
    }

    fn forward(&self, pass: &Pass, memory: Memory<T>, x: &[T], y: &mut [T]) {
        let Memory { parameters, saved, .. } = memory;
        let (gamma, beta) = parameters.split_at(self.size);
        norm::layer_norm(pass.par, x, gamma, &beta[..self.size], T::of(self.epsilon), y, saved);
    }

    fn backward(
        &self,
        pass: &Pass,
        parameters: &[T],
        trace: Trace<T>,
        gy: &[T],
        gx: Option<&mut [T]>,
        gradient: &mut [T],
        _: &mut [T],
    ) {
        let (gamma_gradient, beta_gradient) = gradient.split_at_mut(self.size);
        norm::layer_norm_backward(
            pass.par,
            trace.x,
            &parameters[..self.size],
            trace.saved,
            gy,
            gx,
            gamma_gradient,
            &mut beta_gradient[..self.size],
        );
    }
}
