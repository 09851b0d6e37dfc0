//! How far a step goes: from the loss's exact first and second derivative along it, so that no learning rate is needed.

use super::{Along, Config, Frame, StepRule};
use crate::error::Result;
use crate::plan::Plan;
use crate::rules::StateTensor;
use kernels::{Buffer, Real, reduce};

/// Share of the averages that is kept from step to step.
const KEEP: f64 = 0.9;

/// Step lengths of a run.
pub struct Length<T> {
    along: Option<Along<T>>,
    /// Averages of L' and |L''|; empty where the optimizer decides.
    averages: Buffer<T>,
}

impl<T: Real> Length<T> {
    /// Room for `rows` rows, where lengths are wanted.
    pub fn new(config: &Config, plan: &Plan<T>, rows: usize, threads: usize) -> Result<Length<T>> {
        let wanted = config.step == StepRule::Hyperdual;
        Ok(Length {
            along: wanted.then(|| Along::new(plan, 1, true, rows, threads)).transpose()?,
            averages: Buffer::zeroed(if wanted { 2 } else { 0 })?,
        })
    }

    /// Bytes of the tangents.
    pub fn bytes(&self) -> usize {
        self.along.as_ref().map_or(0, Along::bytes)
    }

    /// The averages, to be saved and restored.
    pub fn state(&mut self) -> Option<StateTensor<'_, T>> {
        let values = &mut self.averages[..];
        (!values.is_empty()).then_some(StateTensor { name: "length", shape: vec![2], values })
    }

    /// How far to go against `direction`: to the minimum of the parabola, L' / |L''|, but no further than the averages of both
    /// say, since one batch's curvature may be small by chance; 0 where the loss does not fall. `kept` tells whether the
    /// workspace still holds the values of the forward pass; `bend(outputs, ȯ)` is the loss's own part of L''.
    pub fn measure(
        &mut self,
        mut frame: Frame<T>,
        direction: &[T],
        kept: bool,
        bend: &dyn Fn(&[T], &[T]) -> f64,
    ) -> f64 {
        let Some(along) = &mut self.along else { return 0.0 };
        along.run(&mut frame, direction, kept);
        let (slope, curvature) = derivatives(along, &frame, bend);
        if !(slope > 0.0 && curvature.is_finite()) {
            return 0.0;
        }
        let curvature = curvature.abs();
        for (average, new) in self.averages.iter_mut().zip([slope, curvature]) {
            // Both begin at 0, which the quotient cancels.
            *average = T::of(KEEP * average.wide() + (1.0 - KEEP) * new);
        }
        let smooth = self.averages[0].wide() / self.averages[1].wide();
        let length = smooth.min(slope / curvature);
        if length.is_finite() { length } else { 0.0 }
    }
}

/// First and second derivative of the loss along the direction of the last pass of `along`; the loss's gradient lies in the
/// workspace.
pub fn derivatives<T: Real>(along: &Along<T>, frame: &Frame<T>, bend: &dyn Fn(&[T], &[T]) -> f64) -> (f64, f64) {
    let output = frame.plan.output;
    let elements = frame.pass.rows * frame.plan.sizes[output];
    let gradient = &frame.workspace.gradients[0][..elements];
    let (first, second) = (along.first(output, elements), along.second(output, elements));
    let outputs = &frame.workspace.values[output][..elements];
    (reduce::dot(gradient, first).wide(), reduce::dot(gradient, second).wide() + bend(outputs, first))
}
