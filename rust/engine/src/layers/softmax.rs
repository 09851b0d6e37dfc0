//! Softmax as a layer inside a network. (For classification leave it out: the loss takes logits and prediction gives
//! probabilities by itself.)

use super::{Lane, Layer, Memory, Pass, TangentRule, Trace};
use kernels::{Real, loss, tangent};

/// eˣ / Σ eˣ over the `size` features of a sample.
pub struct Softmax {
    /// Features of a sample.
    pub size: usize,
}

impl<T: Real> TangentRule<T> for Softmax {
    fn tangent(&self, _: &Pass, _: &[T], trace: Trace<T>, lane: Lane<T>) {
        tangent::softmax(trace.y, self.size, (lane.x, lane.y), lane.second);
    }
}

impl<T: Real> Layer<T> for Softmax {
    fn tangent_rule(&self) -> Option<&dyn TangentRule<T>> {
        Some(self)
    }

    fn forward(&self, _: &Pass, _: Memory<T>, x: &[T], y: &mut [T]) {
        y.copy_from_slice(x);
        loss::softmax(y, self.size);
    }

    fn backward(&self, _: &Pass, _: &[T], trace: Trace<T>, gy: &[T], gx: Option<&mut [T]>, _: &mut [T], _: &mut [T]) {
        if let Some(gx) = gx {
            loss::softmax_backward(trace.y, gy, gx, self.size);
        }
    }
}
