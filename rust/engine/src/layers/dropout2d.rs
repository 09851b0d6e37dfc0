//! Dropout of whole channels of images (Tompson et al. 2015), with masks keyed by (seed, epoch, sample, layer) as those of
//! [`super::dropout`].

use super::{Layer, Memory, Mode, Pass, Trace};
use kernels::Real;
use kernels::dropout::{self, Place};
use kernels::rng::{Philox, Purpose};

/// Drops each channel of each image with probability `rate` in training and scales the others by 1 / (1 − rate).
pub struct Dropout2d {
    /// Probability to drop, from 0 to below 1.
    pub rate: f64,
    /// Pixels of an image.
    pub pixels: usize,
    /// Number of the layer, which keeps the masks of two layers apart.
    pub layer: u32,
}

impl Dropout2d {
    fn apply<T: Real>(&self, pass: &Pass, from: &[T], to: &mut [T]) {
        to.copy_from_slice(from);
        if let Mode::Train { seed, epoch } = pass.mode {
            let place = Place { rng: Philox::new(seed, Purpose::Dropout), epoch, layer: self.layer };
            dropout::channels(pass.par, place, pass.samples, self.pixels, self.rate, to);
        }
    }
}

impl<T: Real> Layer<T> for Dropout2d {
    fn forward(&self, pass: &Pass, _: Memory<T>, x: &[T], y: &mut [T]) {
        self.apply(pass, x, y);
    }

    fn backward(&self, pass: &Pass, _: &[T], _: Trace<T>, gy: &[T], gx: Option<&mut [T]>, _: &mut [T], _: &mut [T]) {
        if let Some(gx) = gx {
            self.apply(pass, gy, gx);
        }
    }
}
