//! R that follows an average of the covariances of x − μ: by Newton–Schulz steps, or from its Cholesky factor.
//!
//! Far steps of R would change the function that the network has learned, so the weights take them up: W ← R'⁻¹ R W. Then R only
//! decides in which directions the next steps go.

use super::Config;
use crate::error::Result;
use crate::rules::Site;
use kernels::decorrelation::{self, Blocks, Form, Outcome};
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

    /// Lets R follow the average, with its `number`-th change, and the weights take that up.
    pub fn follow(
        &mut self,
        par: Par,
        (blocks, outputs): (Blocks, usize),
        number: u64,
        s: &mut [T],
        w: &mut [T],
    ) -> Outcome {
        let Averaged { form, ridge, covariance, factors: [first, second], turned, scratch } = self;
        let ridge = *ridge + PRIOR / number as f64;
        let outcome = decorrelation::follow(par, blocks, *form, ridge, covariance, s, (first, second), scratch);
        decorrelation::multiply(par, blocks, outputs, first, false, w, turned);
        decorrelation::multiply(par, blocks, outputs, second, false, turned, w);
        outcome
    }
}
