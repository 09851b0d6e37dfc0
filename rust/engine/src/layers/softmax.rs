//! Softmax as a layer inside a network. (For classification leave it out: the loss takes logits and prediction gives
//! probabilities by itself.)

use super::{Layer, Memory, Pass, Trace};
use kernels::{Real, loss};

/// eˣ / Σ eˣ over the `size` features of a sample.
pub struct Softmax {
    /// Features of a sample.
    pub size: usize,
}

impl<T: Real> Layer<T> for Softmax {
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
