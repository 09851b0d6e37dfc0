//! S from an averaged covariance Σ of the inputs, beside what the weights behind it have to be multiplied with so that S · W, and with
//! it the function of the map, stays as it is.
//!
//! With A = Σ + ε I, ε a share of the mean variance of a block, which bounds what noise is blown up by:
//!
//! ```text
//! Newton–Schulz    C = Sᵀ A S          S ← S N,  N = (3 I − C) / 2         W ← N⁻¹ W
//! Cholesky         A = L Lᵀ            S ← L⁻ᵀ                              W ← Lᵀ S W
//! ```
//!
//! Newton–Schulz is the local rule with κ = ½ and η = 1, on Σ instead of rows. From S = I it tends to A^(−1/2), quadratically once
//! it is near; far from it η is shortened so that N stays positive definite. It is inverted by its Cholesky factor.

use super::Blocks;
use super::factor::{self, cholesky, invert_lower};
use super::rule::{DEAD, Outcome, diagonal, excesses, product, sum_of_squares, symmetric, turn};
use crate::gemm::Matrix;
use crate::par::Par;
use crate::real::Real;

/// The most that η times a bound on the largest eigenvalue of (C − I) / 2 may be: with less than 1, N is positive definite.
const LIMIT: f64 = 0.5;

/// How S follows the covariance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// One step of the Newton–Schulz iteration.
    NewtonSchulz,
    /// The inverse of the Cholesky factor.
    Cholesky,
}

/// Elements of scratch memory that [`average`] and [`follow`] need.
pub fn averaged_scratch(b: Blocks) -> usize {
    2 * b.block + 4 * b.block * b.block + factor::scratch(b.block)
}

/// Σ ← (1 − gain) Σ + gain · xᵀ x / rows, block by block. Rows that are not finite leave Σ as it is.
pub fn average<T: Real>(par: Par, b: Blocks, rows: usize, x: &[T], gain: f64, covariance: &mut [T], scratch: &mut [T]) {
    assert_eq!((x.len(), covariance.len()), (rows * b.size, b.elements()));
    for index in 0..b.count() {
        let of = b.range(index);
        let size = of.len();
        let found = &mut scratch[..size * size];
        symmetric(par, T::of(1.0 / rows as f64), Matrix::new(x, rows, b.size).columns(of.start, of.end).t(), found);
        if !sum_of_squares(found).is_finite() {
            continue;
        }
        let covariance = &mut covariance[b.place(index)];
        let (kept, share) = (T::of(1.0 - gain), T::of(gain));
        covariance.iter_mut().zip(&*found).for_each(|(value, found)| *value = kept * *value + share * *found);
    }
}

/// Lets S follow Σ. `factors` are two matrices with the blocks of S: weights become second · first · W. A block whose mean variance is
/// next to nothing becomes the identity, and so does one that is not positive definite or not finite, which counts as a reset. The
/// loss is that of S before; 0 for the Cholesky form, which does not make the C that it comes from.
#[allow(clippy::too_many_arguments)] // Two states, two results.
pub fn follow<T: Real>(
    par: Par,
    b: Blocks,
    form: Form,
    ridge: f64,
    covariance: &[T],
    s: &mut [T],
    factors: (&mut [T], &mut [T]),
    scratch: &mut [T],
) -> Outcome {
    let (first, second) = factors;
    let mut outcome = Outcome { rate: 1.0, ..Outcome::default() };
    for index in 0..b.count() {
        let size = b.range(index).len();
        let place = b.place(index);
        let (s, first, second) = (&mut s[place.clone()], &mut first[place.clone()], &mut second[place.clone()]);
        let covariance = &covariance[place];
        let own = Blocks { size, block: size };
        first.copy_from_slice(s);
        let mean = mean_variance(covariance, size);
        let found = mean >= DEAD && {
            let (a, rest) = scratch.split_at_mut(size * size);
            a.copy_from_slice(covariance);
            a.iter_mut().step_by(size + 1).for_each(|value| *value += T::of(ridge * mean));
            match form {
                Form::NewtonSchulz => newton_schulz(par, a, s, size, (first, second), rest, &mut outcome),
                Form::Cholesky => from_factor(par, a, s, size, second, rest),
            }
        };
        if !found {
            outcome.resets += usize::from(mean.is_nan() || mean >= DEAD);
            own.identity(s);
            own.identity(second);
        }
    }
    outcome.loss /= (b.size * b.size) as f64;
    outcome
}

/// S = L⁻ᵀ and Lᵀ; false where there is no L.
fn from_factor<T: Real>(par: Par, a: &mut [T], s: &mut [T], size: usize, second: &mut [T], scratch: &mut [T]) -> bool {
    let (inverse, scratch) = scratch.split_at_mut(size * size);
    if !cholesky(par, a, size, scratch) {
        return false;
    }
    invert_lower(par, a, size, inverse, scratch);
    if !sum_of_squares(inverse).is_finite() {
        return false;
    }
    transpose_lower(inverse, size, s);
    transpose_lower(a, size, second);
    true
}

/// S · N and the two factors of N⁻¹; false where a number is not finite.
fn newton_schulz<T: Real>(
    par: Par,
    a: &[T],
    s: &mut [T],
    size: usize,
    (first, second): (&mut [T], &mut [T]),
    scratch: &mut [T],
    outcome: &mut Outcome,
) -> bool {
    let (c, scratch) = scratch.split_at_mut(size * size);
    let (next, scratch) = scratch.split_at_mut(size * size);
    let (q, scratch) = scratch.split_at_mut(size);
    let (v, scratch) = scratch.split_at_mut(size);
    let square = |values| Matrix::new(values, size, size);
    product(par, T::one(), square(a), square(s), (size, size), false, next);
    product(par, T::one(), square(s).t(), square(next), (size, size), false, c);
    diagonal(c, size, q);
    let off = (sum_of_squares(c) - sum_of_squares(q)).max(0.0);
    let (most, excess) = excesses(q, v);
    let rate = (LIMIT / (0.5 * off.sqrt() + 0.5 * most).max(f64::MIN_POSITIVE)).min(1.0);
    outcome.rate = outcome.rate.min(rate);
    outcome.loss += 0.5 * (off + excess);
    turn(par, s, size, (rate, 0.5), v, c, next);
    if !sum_of_squares(s).is_finite() || !cholesky(par, c, size, scratch) {
        return false;
    }
    invert_lower(par, c, size, first, scratch);
    transpose_lower(first, size, second);
    true
}

pub(super) fn mean_variance<T: Real>(covariance: &[T], size: usize) -> f64 {
    covariance.iter().step_by(size + 1).map(|value| value.wide()).sum::<f64>() / size as f64
}

/// out = lᵀ for what `l` has on and below the diagonal; zeros below that of `out`.
fn transpose_lower<T: Real>(l: &[T], size: usize, out: &mut [T]) {
    for (row, out) in out.chunks_exact_mut(size).enumerate() {
        out[..row].fill(T::zero());
        out.iter_mut().enumerate().skip(row).for_each(|(column, out)| *out = l[column * size + row]);
    }
}
