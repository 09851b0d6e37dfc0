//! An activation that could not be fused into the linear map before it.

use super::{Lane, Layer, Memory, Pass, TangentRule, Trace};
use kernels::{Activation, Real, activation, tangent};

/// Elements that one task handles.
const CHUNK: usize = 16_384;

/// Rough cost of one element.
const OPERATIONS: usize = 20;

/// y = f(x).
pub struct ActivationLayer<T>(pub Activation<T>);

impl<T: Real> TangentRule<T> for ActivationLayer<T> {
    fn elementwise(&self) -> bool {
        true
    }

    fn tangent(&self, pass: &Pass, _: &[T], trace: Trace<T>, lane: Lane<T>) {
        lane.y.copy_from_slice(lane.x);
        match lane.second {
            None => tangent::activation(pass.par, self.0, trace.x, trace.y, lane.y),
            Some((x2, y2)) => {
                y2.copy_from_slice(x2);
                tangent::activation_second(self.0, trace.x, trace.y, lane.y, y2);
            }
        }
    }
}

impl<T: Real> Layer<T> for ActivationLayer<T> {
    fn tangent_rule(&self) -> Option<&dyn TangentRule<T>> {
        Some(self)
    }

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
