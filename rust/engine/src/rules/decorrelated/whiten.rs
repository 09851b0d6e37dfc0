//! R from an averaged covariance, every T-th step.

use super::Form;
use crate::error::Result;
use kernels::decorrelation::{self, Blocks};
use kernels::{Buffer, Par, Real};

/// The least weight of a new covariance in the average.
const GAIN: f64 = 0.1;

/// ε, as a share of the mean variance: what keeps noise from being blown up.
const DAMPING: f64 = 0.1;

/// Variance below which an input is dead and stays as it is.
const DEAD: f64 = 1e-6;

/// Steps towards the root in one change.
const STEPS: usize = 2;

/// An averaged covariance, and memory to work with.
pub struct Whitening<T> {
    /// In blocks, like S.
    pub covariance: Buffer<T>,
    part: Buffer<T>,
    fresh: Buffer<T>,
    scratch: Buffer<T>,
}

impl<T: Real> Whitening<T> {
    /// Room for covariances of up to `rows` rows.
    pub fn new(blocks: Blocks, rows: usize) -> Result<Self> {
        let square = blocks.block * blocks.block;
        Ok(Whitening {
            covariance: Buffer::zeroed(blocks.elements())?,
            part: Buffer::zeroed(rows * blocks.block)?,
            fresh: Buffer::zeroed(square)?,
            scratch: Buffer::zeroed(decorrelation::whiten_scratch(blocks.block))?,
        })
    }

    /// Moves S with `count` rows of x − μ; `change` counts the changes before. Gives how many blocks had no R and started anew.
    pub fn change(
        &mut self,
        par: Par,
        form: Form,
        (blocks, count): (Blocks, usize),
        (x, mean): (&[T], &[T]),
        change: u64,
        s: &mut [T],
    ) -> usize {
        let gain = T::of((1.0 / (change + 1) as f64).max(GAIN));
        let mut resets = 0;
        for index in 0..blocks.count() {
            let of = blocks.range(index);
            let size = of.len();
            let part = &mut self.part[..count * size];
            for (part, x) in part.chunks_exact_mut(size).zip(x.chunks_exact(blocks.size)) {
                part.copy_from_slice(&x[of.clone()]);
                if !mean.is_empty() {
                    part.iter_mut().zip(&mean[of.clone()]).for_each(|(x, mean)| *x -= *mean);
                }
            }
            let fresh = &mut self.fresh[..size * size];
            decorrelation::second_moment(par, count, part, size, fresh);
            let average = &mut self.covariance[blocks.place(index)];
            average.iter_mut().zip(&*fresh).for_each(|(average, fresh)| *average += gain * (*fresh - *average));
            fresh.copy_from_slice(average);
            dampen(fresh, size);
            let s = &mut s[blocks.place(index)];
            let done = match form {
                Form::Cholesky => decorrelation::inverse_cholesky(par, fresh, size, s, &mut self.scratch),
                Form::NewtonSchulz | Form::Local | Form::DriftFree => {
                    decorrelation::newton_schulz(par, fresh, size, STEPS, s, &mut self.scratch);
                    kernels::reduce::all_finite(s)
                }
            };
            if !done {
                Blocks { size, block: size }.identity(s);
                resets += 1;
            }
        }
        resets
    }
}

/// Adds ε to a covariance; dead inputs get variance 1, which leaves them as they are.
pub fn dampen<T: Real>(covariance: &mut [T], size: usize) {
    let diagonal = || (0..size).map(|index| covariance[index * (size + 1)].wide()).filter(|value| *value >= DEAD);
    let epsilon = T::of(DAMPING * diagonal().sum::<f64>() / diagonal().count().max(1) as f64);
    for value in covariance.iter_mut().step_by(size + 1) {
        *value = if value.wide() < DEAD { T::one() } else { *value + epsilon };
    }
}
