//! R that follows an average of the covariances of x − μ: by Newton–Schulz steps, or from its Cholesky factor.
//!
//! Far steps of R would change the function that the network has learned, so the weights take them up: W ← R'⁻¹ R W. Then R only
//! decides in which directions the next steps go.

use super::{Config, Decorrelated, Way, add_product};
use crate::error::Result;
use crate::rules::{Moment, Site};
use kernels::decorrelation::{self, Blocks, Form};
use kernels::{Buffer, Par, Real};

/// Covariances of which a multiple of the identity is one too many at first: it keeps the directions that few rows happen to lack
/// from being blown up, and is forgotten as 1 / t.
const PRIOR: f64 = 10.0;

/// The average and what it takes to follow it.
pub struct Averaged<T> {
    form: Form,
    ridge: f64,
    covariance: Buffer<T>,
    /// What weights are multiplied with, one after the other.
    factors: [Buffer<T>; 2],
    turned: Buffer<T>,
    scratch: Buffer<T>,
}

impl<T: Real> Averaged<T> {
    /// Room for a map.
    pub fn new(config: &Config, form: Form, site: &Site, blocks: Blocks) -> Result<Self> {
        Ok(Averaged {
            form,
            ridge: config.ridge(&site.map, site.first),
            covariance: Buffer::zeroed(blocks.elements())?,
            factors: [Buffer::zeroed(blocks.elements())?, Buffer::zeroed(blocks.elements())?],
            turned: Buffer::zeroed(blocks.size * site.map.outputs())?,
            scratch: Buffer::zeroed(decorrelation::averaged_scratch(blocks))?,
        })
    }

    /// The average.
    pub fn covariance(&mut self) -> &mut [T] {
        &mut self.covariance
    }

    /// Takes centred rows into the average.
    pub fn see(&mut self, par: Par, blocks: Blocks, rows: usize, x: &[T], gain: f64) {
        decorrelation::average(par, blocks, rows, x, gain, &mut self.covariance, &mut self.scratch);
    }
}

impl<T: Real> Decorrelated<T> {
    /// Lets the means, and R where it follows an average, follow what [`Self::update`] has seen in this step, once the weights have
    /// taken it. The bias takes up what the means change by: they are those of a few rows, and what they waver by would be an error
    /// of every output that no learning rate near 0 can make up for.
    pub fn settle(&mut self, par: Par, moment: &Moment, w: &mut [T], bias: Option<&mut [T]>) {
        let Decorrelated { blocks, outputs, way, s, mean, shift, learner: Some(learner), .. } = self else { return };
        let Some(number) = learner.due(moment) else { return };
        let (blocks, outputs) = (*blocks, *outputs);
        for (mean, next) in mean.iter_mut().zip(learner.mean.iter_mut()) {
            (*mean, *next) = (*next, *next - *mean);
        }
        // The first means of the network's input come before anything is learnt: taken as they are, units begin centred.
        let fresh = number == 1 && learner.first && learner.averaged().is_none();
        if let (Some(bias), false) = (bias, fresh || mean.is_empty() || *way == Way::Around) {
            if *way == Way::Centered {
                shift.copy_from_slice(&learner.mean);
            } else {
                decorrelation::apply(Par::SEQUENTIAL, blocks, 1, &learner.mean, s, None, shift);
            }
            add_product(shift, w, bias);
        }
        let Some(averaged) = learner.averaged() else { return };
        let Averaged { form, ridge, covariance, factors: [first, second], turned, scratch } = averaged;
        let ridge = *ridge + PRIOR / number as f64;
        let outcome = decorrelation::follow(par, blocks, *form, ridge, covariance, s, (first, second), scratch);
        decorrelation::multiply(par, blocks, outputs, first, false, w, turned);
        decorrelation::multiply(par, blocks, outputs, second, false, turned, w);
        learner.resets += outcome.resets;
        learner.last = learner.last.map(|(rows, _)| (rows, outcome));
    }
}
