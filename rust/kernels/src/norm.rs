//! Layer normalisation (Ba, Kiros, Hinton 2016): each row to mean 0 and variance 1, then scale and shift.

use crate::isa::vectorize;
use crate::par::{self, Par, Shared};
use crate::real::Real;

/// Rows that one task handles.
const ROW_BLOCK: usize = 32;

/// Columns that one task adds up for the parameters' gradients.
const COLUMN_BLOCK: usize = 128;

/// Rough cost of one element.
const OPERATIONS: usize = 10;

/// y = (x − mean) / √(variance + ε) · gamma + beta. `saved` receives mean and 1/√(variance + ε) of each row.
pub fn layer_norm<T: Real>(par: Par, x: &[T], gamma: &[T], beta: &[T], epsilon: T, y: &mut [T], saved: &mut [T]) {
    let size = gamma.len();
    assert!(size > 0 && beta.len() == size && x.len() == y.len());
    let rows = x.len() / size;
    assert!(saved.len() >= 2 * rows);
    let (y, saved) = (Shared::new(y), Shared::new(saved));
    par.for_work(x.len() * OPERATIONS).each(rows.div_ceil(ROW_BLOCK), |index| {
        vectorize(
            #[inline(always)]
            || {
                for row in par::block(index, rows, ROW_BLOCK) {
                    // SAFETY: rows are disjoint.
                    let (y, saved) =
                        unsafe { (y.slice(row * size..(row + 1) * size), saved.slice(2 * row..2 * row + 2)) };
                    let x = &x[row * size..(row + 1) * size];
                    let count = T::of(size as f64);
                    let mean = x.iter().copied().sum::<T>() / count;
                    let variance = x.iter().fold(T::zero(), |sum, v| sum + (*v - mean) * (*v - mean)) / count;
                    let scale = T::one() / (variance + epsilon).sqrt();
                    saved.copy_from_slice(&[mean, scale]);
                    for (((y, x), gamma), beta) in y.iter_mut().zip(x).zip(gamma).zip(beta) {
                        *y = (*x - mean) * scale * *gamma + *beta;
                    }
                }
            },
        );
    });
}

/// gx, and the gradients of gamma and beta (overwritten), from gy and what [`layer_norm`] saved.
#[allow(clippy::too_many_arguments)] // The usual signature of a normalisation's backward pass.
pub fn layer_norm_backward<T: Real>(
    par: Par,
    x: &[T],
    gamma: &[T],
    saved: &[T],
    gy: &[T],
    gx: Option<&mut [T]>,
    gamma_gradient: &mut [T],
    beta_gradient: &mut [T],
) {
    let size = gamma.len();
    let rows = x.len() / size;
    let par = par.for_work(x.len() * OPERATIONS);
    let (dgamma, dbeta) = (Shared::new(gamma_gradient), Shared::new(beta_gradient));
    par.each(size.div_ceil(COLUMN_BLOCK), |index| {
        let range = par::block(index, size, COLUMN_BLOCK);
        // SAFETY: column blocks are disjoint.
        let (dgamma, dbeta) = unsafe { (dgamma.slice(range.clone()), dbeta.slice(range.clone())) };
        vectorize(
            #[inline(always)]
            || {
                dgamma.fill(T::zero());
                dbeta.fill(T::zero());
                for row in 0..rows {
                    let (mean, scale) = (saved[2 * row], saved[2 * row + 1]);
                    let at = row * size + range.start..row * size + range.end;
                    for (((dgamma, dbeta), x), g) in
                        dgamma.iter_mut().zip(dbeta.iter_mut()).zip(&x[at.clone()]).zip(&gy[at])
                    {
                        *dgamma += *g * (*x - mean) * scale;
                        *dbeta += *g;
                    }
                }
            },
        );
    });
    let Some(gx) = gx else { return };
    assert_eq!(gx.len(), x.len());
    let gx = Shared::new(gx);
    par.each(rows.div_ceil(ROW_BLOCK), |index| {
        vectorize(
            #[inline(always)]
            || {
                for row in par::block(index, rows, ROW_BLOCK) {
                    let at = row * size..(row + 1) * size;
                    // SAFETY: rows are disjoint.
                    let gx = unsafe { gx.slice(at.clone()) };
                    let (x, gy, mean, scale) = (&x[at.clone()], &gy[at], saved[2 * row], saved[2 * row + 1]);
                    let (mut sum, mut inner) = (T::zero(), T::zero());
                    for ((x, g), gamma) in x.iter().zip(gy).zip(gamma) {
                        let g = *g * *gamma;
                        sum += g;
                        inner += g * (*x - mean) * scale;
                    }
                    let count = T::of(size as f64);
                    let (sum, inner) = (sum / count, inner / count);
                    for (((out, x), g), gamma) in gx.iter_mut().zip(x).zip(gy).zip(gamma) {
                        *out = scale * (*g * *gamma - sum - (*x - mean) * scale * inner);
                    }
                }
            },
        );
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layer_norm_backward_agrees_with_finite_differences() {
        let (rows, size) = (3, 5);
        let x: Vec<f64> = (0..rows * size).map(|i| (i as f64 * 1.7).sin()).collect();
        let gy: Vec<f64> = (0..rows * size).map(|i| (i as f64 * 0.9).cos()).collect();
        let (gamma, beta): (Vec<f64>, Vec<f64>) = ((1..=5).map(f64::from).collect(), vec![0.5; size]);
        let value = |x: &[f64], gamma: &[f64], beta: &[f64]| {
            let (mut y, mut saved) = (vec![0.0; x.len()], vec![0.0; 2 * rows]);
            layer_norm(Par::SEQUENTIAL, x, gamma, beta, 1e-5, &mut y, &mut saved);
            (y.iter().zip(&gy).map(|(y, g)| y * g).sum::<f64>(), saved)
        };
        let (_, saved) = value(&x, &gamma, &beta);
        let (mut gx, mut dgamma, mut dbeta) = (vec![0.0; x.len()], vec![0.0; size], vec![0.0; size]);
        layer_norm_backward(Par::SEQUENTIAL, &x, &gamma, &saved, &gy, Some(&mut gx), &mut dgamma, &mut dbeta);
        let slope = |which: usize, i: usize| {
            let at = |h: f64| {
                let mut parts = [x.clone(), gamma.clone(), beta.clone()];
                parts[which][i] += h;
                value(&parts[0], &parts[1], &parts[2]).0
            };
            (at(1e-6) - at(-1e-6)) / 2e-6
        };
        for (which, found) in [&gx, &dgamma, &dbeta].into_iter().enumerate() {
            for (i, f) in found.iter().enumerate() {
                assert!(
                    (f - slope(which, i)).abs() < 1e-7,
                    "part {which} element {i}: {f} against {}",
                    slope(which, i)
                );
            }
        }
    }
}
