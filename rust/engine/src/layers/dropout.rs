//! Dropout (Srivastava et al. 2014), with masks keyed by (seed, epoch, sample, layer): nothing stored, the same at any
//! thread count and after a resume.

use super::{Lane, Layer, Memory, Mode, Pass, TangentRule, Trace};
use kernels::Real;
use kernels::rng::{Philox, Purpose};

/// Rough cost of one element (a quarter of a Philox block).
const OPERATIONS: usize = 60;

/// Drops each value with probability `rate` in training and scales the others by 1 / (1 − rate).
pub struct Dropout {
    /// Probability to drop, from 0 to below 1.
    pub rate: f64,
    /// Number of the layer, which keeps the masks of two layers apart.
    pub layer: u32,
}

impl Dropout {
    /// to = from · mask · scale, row by row.
    fn apply<T: Real>(&self, pass: &Pass, from: &[T], to: &mut [T]) {
        let Mode::Train { seed, epoch } = pass.mode else {
            to.copy_from_slice(from);
            return;
        };
        let size = from.len() / pass.rows.max(1);
        let scale = T::of(1.0 / (1.0 - self.rate));
        // A 32-bit word below the threshold is dropped.
        let threshold = (self.rate * 4_294_967_296.0) as u32;
        let stream = Philox::new(seed, Purpose::Dropout);
        let layer = self.layer;
        pass.par.for_work(from.len() * OPERATIONS).chunks_mut(to, size.max(1), |first, to| {
            let sample = pass.samples[first / size];
            let from = &from[first..first + to.len()];
            kernels::isa::vectorize(
                #[inline(always)]
                || {
                    for (index, (to, from)) in to.chunks_mut(4).zip(from.chunks(4)).enumerate() {
                        let words = stream.block([index as u32, sample, epoch, layer]);
                        for ((to, from), word) in to.iter_mut().zip(from).zip(words) {
                            *to = if word < threshold { T::zero() } else { *from * scale };
                        }
                    }
                },
            );
        });
    }
}

/// The mask of the forward pass again.
impl<T: Real> TangentRule<T> for Dropout {
    fn elementwise(&self) -> bool {
        true
    }

    fn tangent(&self, pass: &Pass, _: &[T], _: Trace<T>, lane: Lane<T>) {
        self.apply(pass, lane.x, lane.y);
        if let Some((x2, y2)) = lane.second {
            self.apply(pass, x2, y2);
        }
    }
}

impl<T: Real> Layer<T> for Dropout {
    fn tangent_rule(&self) -> Option<&dyn TangentRule<T>> {
        Some(self)
    }

    fn forward(&self, pass: &Pass, _: Memory<T>, x: &[T], y: &mut [T]) {
        self.apply(pass, x, y);
    }

    fn backward(&self, pass: &Pass, _: &[T], _: Trace<T>, gy: &[T], gx: Option<&mut [T]>, _: &mut [T], _: &mut [T]) {
        if let Some(gx) = gx {
            self.apply(pass, gy, gx);
        }
    }
}
