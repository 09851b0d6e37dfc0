//! An activation that could not be fused into the linear map before it.

use super::{Layer, Memory, Pass, Trace};
use kernels::{Activation, Real, activation};

/// Elements that one task handles.
const CHUNK: usize = 16_384;

/// Rough cost of one element.
const OPERATIONS: usize = 20;

/// y = f(x).
pub struct ActivationLayer<T>(pub Activation<T>);

impl<T: Real> Layer<T> for ActivationLayer<T> {
    fn forward(&self, pass: &Pass, _: Memory<T>, x: &[T], y: &mut [T]) {
        let par = pass.par.for_work(x.len() * OPERATIONS);
        par.chunks_mut(y, CHUNK, |first, y| activation::forward(self.0, &x[first..first + y.len()], y));
    }

    fn backward(
        &self,
        pass: &Pass,
        _: &[T],
        trace: Trace<T>,
        gy: &[T],
        gx: Option<&mut [T]>,
        _: &mut [T],
        _: &mut [T],
    ) {
        let Some(gx) = gx else { return };
        let par = pass.par.for_work(gx.len() * OPERATIONS);
        par.chunks_mut(gx, CHUNK, |first, gx| {
            let range = first..first + gx.len();
            activation::backward(self.0, &trace.x[range.clone()], &gy[range], gx);
        });
    }
}
