//! The inverse square root of a covariance, by products alone.

use super::rule::product;
use crate::gemm::Matrix;
use crate::par::Par;
use crate::real::Real;

/// Most rounds; each doubles the digits once it is near, and before that gains a factor of 1.5.
const ROUNDS: usize = 60;

/// Elements of scratch memory that [`inverse_root`] needs.
pub fn root_scratch(size: usize) -> usize {
    4 * size * size
}

/// s = a^(−1/2) for a symmetric positive definite `a`, size × size, by the coupled Newton–Schulz iteration (Higham 2008,
/// "Functions of matrices", section 6.7): Y ← Y T, Z ← T Z with T = (3 I − Z Y) / 2, where Z tends to the inverse root.
pub fn inverse_root<T: Real>(par: Par, a: &[T], size: usize, s: &mut [T], scratch: &mut [T]) {
    assert_eq!((a.len(), s.len()), (size * size, size * size));
    let norm = crate::reduce::sum_of_squares(a).sqrt();
    let mut parts = scratch.chunks_exact_mut(size * size);
    let [Some(y), Some(z), Some(t), Some(next)] = [parts.next(), parts.next(), parts.next(), parts.next()] else {
        unreachable!("scratch of root_scratch elements")
    };
    y.iter_mut().zip(a).for_each(|(y, a)| *y = *a / norm);
    z.fill(T::zero());
    z.iter_mut().step_by(size + 1).for_each(|z| *z = T::one());
    let half = T::of(-0.5);
    let times = |a: &[T], b: &[T], alpha: T, out: &mut [T]| {
        product(par, alpha, Matrix::new(a, size, size), Matrix::new(b, size, size), (size, size), false, out);
    };
    let mut before = f64::INFINITY;
    for _ in 0..ROUNDS {
        times(z, y, half, t);
        // ‖Z Y − I‖²: stops falling where rounding begins.
        let squares: f64 = crate::reduce::sum_of_squares(t).wide() * 4.0;
        let trace: f64 = t.iter().step_by(size + 1).map(|t| -2.0 * t.wide()).sum();
        let error = squares - 2.0 * trace + size as f64;
        if error < 1e-3 && error >= before {
            break;
        }
        before = error;
        t.iter_mut().step_by(size + 1).for_each(|t| *t += T::of(1.5));
        times(y, t, T::one(), next);
        y.copy_from_slice(next);
        times(t, z, T::one(), next);
        z.copy_from_slice(next);
    }
    let scale = T::one() / norm.sqrt();
    s.iter_mut().zip(&*z).for_each(|(s, z)| *s = *z * scale);
}
