//! The running average of parameters and running statistics: often better on new rows than the parameters of the last step
//! (Polyak and Juditsky 1992, with exponential weights).
//!
//! average ← average + (1 − d) · (value − average) after each step, with d = min(decay, (1 + t) / (10 + t)) after t earlier steps,
//! so that the first values do not hang on.

use crate::error::{Code, Error, Result};
use crate::network::Network;
use crate::rules::{RuleConfig, inputs, propagation, weights};
use kernels::{Buffer, Par, Real};
use serde_json::{Value, json};

/// Elements that one task handles.
const CHUNK: usize = 65_536;

/// The average of a training run.
pub struct Average<T> {
    decay: f64,
    /// Of the parameters, in their layout; the parameters themselves while `in_use`.
    pub values: Buffer<T>,
    /// Of the buffers.
    pub buffers: Buffer<T>,
    /// Whether the network has the averages, and this the parameters.
    pub in_use: bool,
}

impl<T: Real> Average<T> {
    /// An average that begins at the values that there are.
    pub fn new(decay: f64, values: &[T], buffers: &[T]) -> Result<Average<T>> {
        let copy = |from: &[T]| -> Result<Buffer<T>> {
            let mut to = Buffer::zeroed(from.len())?;
            to.copy_from_slice(from);
            Ok(to)
        };
        Ok(Average { decay, values: copy(values)?, buffers: copy(buffers)?, in_use: false })
    }

    /// Takes in the values after a step, before which there were `steps`.
    pub fn follow(&mut self, par: Par, steps: u64, values: &[T], buffers: &[T]) {
        let t = steps as f64;
        let share = T::of(1.0 - self.decay.min((1.0 + t) / (10.0 + t)));
        for (average, values) in [(&mut self.values, values), (&mut self.buffers, buffers)] {
            par.for_work(values.len() * 4).chunks_mut(average, CHUNK, |start, average| {
                let values = &values[start..start + average.len()];
                kernels::isa::vectorize(
                    #[inline(always)]
                    || {
                        for (average, value) in average.iter_mut().zip(values) {
                            *average += share * (*value - *average);
                        }
                    },
                );
            });
        }
    }
}

/// Refuses a decay that is none, and rules whose weights have no meaning apart from what they keep beside them.
pub fn check(decay: f64, rule: &RuleConfig) -> Result<()> {
    if !(0.0..1.0).contains(&decay) {
        return Err(Error::config("averageDecay", "a number from 0 up to below 1", decay));
    }
    let found = if matches!(rule.propagation, propagation::Config::FrontContribution(_)) {
        "front-contribution, which keeps weights in another form"
    } else if matches!(rule.weights, weights::Config::Sparse(_)) {
        "sparse, which changes the masks of the weights"
    } else if !matches!(rule.inputs, inputs::Config::Raw {}) {
        "decorrelated, whose weights belong to the matrices of one step"
    } else {
        return Ok(());
    };
    let found = format!("{found}; leave it out, or use backprop()");
    Err(Error::config("averageDecay", "a rule under which weights can be averaged", found))
}

impl<T: Real> Network<T> {
    /// Exchanges parameters and averages, unless that is how they are.
    pub(crate) fn use_average(&mut self, on: bool) -> Result<Value> {
        let Some(average) = self.training.as_mut().and_then(|training| training.average.as_mut()) else {
            let message = "Cannot use averages: no training run with averageDecay is attached to this network";
            return Err(Error::new(Code::Busy, message));
        };
        if average.in_use != on {
            std::mem::swap(&mut self.values, &mut average.values);
            std::mem::swap(&mut self.buffers, &mut average.buffers);
            average.in_use = on;
        }
        Ok(json!({ "on": on }))
    }
}
