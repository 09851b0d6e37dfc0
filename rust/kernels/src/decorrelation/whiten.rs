//! Matrices that whiten a covariance: steps towards one, and one at once.

use super::rule::product;
use crate::gemm::Matrix;
use crate::par::{Par, Shared};
use crate::real::Real;
use crate::reduce;

/// Rounds of the power iteration that finds how large C is.
const ROUNDS: usize = 12;

/// What the largest eigenvalue found may be too small by.
const MARGIN: f64 = 1.2;

/// Columns that one task finds.
const COLUMNS: usize = 16;

/// Elements of scratch memory that [`newton_schulz`] and [`inverse_cholesky`] need.
pub fn whiten_scratch(size: usize) -> usize {
    2 * size * size + 2 * size
}

/// Steps S ← S · (3 I − C) / 2 with C = Sᵀ Σ S: the local rule with κ = ½ and η = 1, exactly. They converge to Sᵀ Σ S = I where
/// the largest eigenvalue of C is below 3; S is scaled down to that first where it is not.
pub fn newton_schulz<T: Real>(par: Par, covariance: &[T], size: usize, steps: usize, s: &mut [T], scratch: &mut [T]) {
    assert_eq!((covariance.len(), s.len()), (size * size, size * size));
    let (c, rest) = scratch.split_at_mut(size * size);
    let (half, rest) = rest.split_at_mut(size * size);
    let (v, cv) = rest[..2 * size].split_at_mut(size);
    let times = |a: Matrix<T>, b: &[T], out: &mut [T]| {
        product(par, T::one(), a, Matrix::new(b, size, size), (size, size), false, out);
    };
    for _ in 0..steps {
        times(Matrix::new(covariance, size, size), s, half);
        times(Matrix::new(s, size, size).t(), half, c);
        let largest = largest_eigenvalue(c, v, cv) * MARGIN;
        let scale = if largest < 3.0 { 1.0 } else { 1.0 / largest };
        // (3 I − scale C) √scale / 2.
        let (diagonal, factor) = (1.5 * scale.sqrt(), -0.5 * scale * scale.sqrt());
        c.iter_mut().for_each(|c| *c *= T::of(factor));
        c.iter_mut().step_by(size + 1).for_each(|c| *c += T::of(diagonal));
        times(Matrix::new(s, size, size), c, half);
        s.copy_from_slice(half);
    }
}

/// The largest eigenvalue of a symmetric matrix without negative ones, from below.
fn largest_eigenvalue<T: Real>(c: &[T], v: &mut [T], cv: &mut [T]) -> f64 {
    let size = v.len();
    // No vector that a covariance is likely to be at right angles to.
    v.iter_mut().enumerate().for_each(|(index, v)| *v = T::of(1.0 + (index % 7) as f64 / 16.0));
    let mut value = 0.0;
    for _ in 0..ROUNDS {
        let norm = reduce::sum_of_squares(v).sqrt();
        if norm == T::zero() {
            return 0.0;
        }
        v.iter_mut().for_each(|v| *v = *v / norm);
        for (cv, row) in cv.iter_mut().zip(c.chunks_exact(size)) {
            *cv = reduce::dot(row, v);
        }
        value = reduce::sum_of_squares(cv).wide().sqrt();
        v.copy_from_slice(cv);
    }
    value
}

/// S = L⁻ᵀ with L Lᵀ = Σ, so that R = L⁻¹ is lower triangular; false, and S as it was, where Σ is not positive definite.
pub fn inverse_cholesky<T: Real>(par: Par, covariance: &[T], size: usize, s: &mut [T], scratch: &mut [T]) -> bool {
    assert_eq!((covariance.len(), s.len()), (size * size, size * size));
    let l = &mut scratch[..size * size];
    for i in 0..size {
        let (above, row) = l.split_at_mut(i * size);
        let row = &mut row[..size];
        for j in 0..i {
            let other = &above[j * size..(j + 1) * size];
            row[j] = (covariance[i * size + j] - reduce::dot(&row[..j], &other[..j])) / other[j];
        }
        let rest = covariance[i * size + i] - reduce::sum_of_squares(&row[..i]);
        if !(rest > T::zero() && rest.is_finite()) {
            return false;
        }
        row[i] = rest.sqrt();
    }
    let l = &*l;
    let out = Shared::new(s);
    par.for_work(size * size * size / 3).each(size.div_ceil(COLUMNS), |block| {
        for k in crate::par::block(block, size, COLUMNS) {
            // SAFETY: rows are disjoint.
            let row = unsafe { out.slice(k * size..(k + 1) * size) };
            row[..k].fill(T::zero());
            row[k] = T::one() / l[k * size + k];
            for i in k + 1..size {
                row[i] = -reduce::dot(&l[i * size + k..i * size + i], &row[k..i]) / l[i * size + i];
            }
        }
    });
    true
}
