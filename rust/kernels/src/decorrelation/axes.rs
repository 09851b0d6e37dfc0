//! Principal axes of a covariance.

use super::Blocks;
use super::averaged::mean_variance;
use crate::real::Real;
use nalgebra::{DMatrix, SymmetricEigen};

/// Share of the mean variance below which an axis is rounding, and is left out.
const NOTHING: f64 = 1e-7;

/// S = U diag(c (λ / mean λ)^power) for a covariance Σ = U diag(λ) Uᵀ, size × size: x · S are the components of x along its principal
/// axes, uncorrelated whatever the power. c keeps the sum of their variances that of x. The identity where there is no variance, or
/// where the covariance is not finite.
pub fn principal_axes<T: Real>(covariance: &[T], size: usize, power: f64, s: &mut [T]) {
    assert_eq!((covariance.len(), s.len()), (size * size, size * size));
    let mean = mean_variance(covariance, size);
    if !(mean > 0.0 && covariance.iter().all(|value| value.is_finite())) {
        return Blocks { size, block: size }.identity(s);
    }
    // Relative to the mean variance, so that no scale is too small for the search to end.
    let matrix = DMatrix::from_fn(size, size, |i, j| covariance[i * size + j].wide() / mean);
    let SymmetricEigen { eigenvectors, eigenvalues } = matrix.symmetric_eigen();
    let stretch = |of: &f64| if *of > NOTHING { of.powf(power) } else { 0.0 };
    let after: f64 = eigenvalues.iter().map(|of| of * stretch(of).powi(2)).sum();
    let keep = (size as f64 / after).sqrt();
    for (i, row) in s.chunks_exact_mut(size).enumerate() {
        for (j, (value, of)) in row.iter_mut().zip(eigenvalues.iter()).enumerate() {
            *value = T::of(eigenvectors[(i, j)] * stretch(of) * keep);
        }
    }
}
