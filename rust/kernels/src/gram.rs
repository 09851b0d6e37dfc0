//! Products of rows with rows (Gram matrices), and a first layer that is trained through them.
//!
//! For fixed training rows X (N × d) and a first layer Z = X · W, a step of gradient descent on the weights,
//! W ← W − rate · X_bᵀ · D, changes the pre-activations by Z ← Z − rate · K[:, b] · D with K = X · Xᵀ. [`panel_step`] does
//! that, with momentum and weight decay; W is neither read nor written.

use crate::gemm::{Matrix, gemm_into};
use crate::isa::vectorize;
use crate::optimize::Descent;
use crate::par::{self, Par, Shared};
use crate::real::Real;

/// Rows and columns of one task of [`gram_block`].
const TILE: usize = 96;

/// Rows of Z that one task of [`panel_step`] updates: few enough that a hundred rows keep two threads busy.
const PANEL_ROWS: usize = 48;

/// Where a block of K lies and how long the rows are that make it.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Rows and columns of K.
    pub size: usize,
    /// Features of a row of X.
    pub columns: usize,
    /// First row of the block.
    pub row: usize,
    /// First column of the block.
    pub column: usize,
}

/// K = X · Xᵀ for X with `rows` rows: the upper triangle is computed, the lower one mirrors it to the last bit.
pub fn gram<T: Real>(par: Par, x: &[T], rows: usize, columns: usize, k: &mut [T]) {
    gram_block(par, x, None, Place { size: rows, columns, row: 0, column: 0 }, k);
}

/// The part of K = X · Xᵀ that two blocks of rows of X make: left · rightᵀ and its mirror image. Without `right` both blocks
/// are the same.
pub fn gram_block<T: Real>(par: Par, left: &[T], right: Option<&[T]>, place: Place, k: &mut [T]) {
    let Place { size, columns, row, column } = place;
    assert_eq!(k.len(), size * size, "K has {size}×{size} elements");
    assert!(columns > 0);
    let (same, right) = (right.is_none(), right.unwrap_or(left));
    let (m, n) = (left.len() / columns, right.len() / columns);
    assert!(row + m <= size && column + n <= size && if same { row == column } else { row + m <= column });
    let (a, b) = (Matrix::new(left, m, columns), Matrix::new(right, n, columns));
    let (down, across) = (m.div_ceil(TILE), n.div_ceil(TILE));
    let k = Shared::new(k);
    par.for_work(2 * m * n * columns).each(down * across, |task| {
        let (i, j) = (task / across, task % across);
        if same && j < i {
            return;
        }
        let (r, c) = (par::block(i, m, TILE), par::block(j, n, TILE));
        // SAFETY: a task writes its tile and the mirror image of it. Tiles lie on or above the diagonal (asserted for two
        // blocks, by the return above for one), so no task writes the mirror image of another's.
        unsafe {
            let at = k.at((row + r.start) * size + column + c.start);
            gemm_into(T::one(), a.rows(r.start, r.end), b.rows(c.start, c.end).t(), false, at, size, 1);
            for p in r {
                let from = if same { c.start.max(p + 1) } else { c.start };
                for q in from..c.end {
                    *k.at((column + q) * size + row + p) = *k.at((row + p) * size + column + q);
                }
            }
        }
    });
}

/// A first layer in the collapsed form, N × outputs each.
pub struct Panel<'a, T> {
    /// Pre-activations of all rows, biases left out.
    pub z: &'a mut [T],
    /// Their velocity; empty without momentum.
    pub velocity: &'a mut [T],
}

/// The step Z ← Z − rate · K[:, b] · D with the optimizer's momentum and decay. `k` has the rows of K that belong to the batch,
/// b × N, and `d` the gradient of the batch's pre-activations, b × outputs, which is multiplied by `scale`.
pub fn panel_step<T: Real>(
    par: Par,
    (rows, outputs): (usize, usize),
    k: &[T],
    d: &[T],
    scale: T,
    by: &Descent<T>,
    panel: Panel<T>,
) {
    let Panel { z, velocity } = panel;
    let batch = d.len() / outputs;
    assert_eq!((k.len(), d.len(), z.len()), (batch * rows, batch * outputs, rows * outputs));
    assert!(by.momentum == T::zero() || velocity.len() == z.len());
    let (k, d) = (Matrix::new(k, batch, rows), Matrix::new(d, batch, outputs));
    let (z, velocity) = (Shared::new(z), Shared::new(velocity));
    par.for_work(2 * batch * rows * outputs).each(rows.div_ceil(PANEL_ROWS), |index| {
        let r = par::block(index, rows, PANEL_ROWS);
        let (from, to) = (r.start * outputs, r.end * outputs);
        let k = k.columns(r.start, r.end).t();
        // SAFETY: blocks of rows are disjoint.
        let (z, velocity) = unsafe { (z.slice(from..to), velocity.part(from..to)) };
        let product = |alpha: T, into: &mut [T]| {
            // SAFETY: `into` is a whole block, borrowed mutably.
            unsafe { gemm_into(alpha * scale, k, d, true, into.as_mut_ptr(), outputs, 1) }
        };
        if by.momentum == T::zero() {
            shrink(z, by.shrink());
            product(-by.rate, z);
        } else if by.nesterov {
            // The look-ahead g + momentum · v, with v new, is (1 + momentum) · g + momentum² · v with v old.
            vectorize(|| {
                for (z, v) in z.iter_mut().zip(&mut *velocity) {
                    let pull = by.decay * *z;
                    *z -= by.rate * (pull + by.momentum * (by.momentum * *v + pull));
                    *v = by.momentum * *v + pull;
                }
            });
            product(T::one(), velocity);
            product(-by.rate * (T::one() + by.momentum), z);
        } else {
            vectorize(|| {
                for (z, v) in z.iter().zip(&mut *velocity) {
                    *v = by.momentum * *v + by.decay * *z;
                }
            });
            product(T::one(), velocity);
            vectorize(|| {
                for (z, v) in z.iter_mut().zip(&*velocity) {
                    *z -= by.rate * *v;
                }
            });
        }
    });
}

/// tr(Dᵀ · K_bb · D): the squared norm of the gradient of the weights, X_bᵀ · D. `k` has the batch's rows of K, `columns` tells
/// where each row of the batch stands in them; `scratch` holds as many elements as `d`.
pub fn squared_norm<T: Real>(
    par: Par,
    (rows, outputs): (usize, usize),
    (k, columns): (&[T], &[u32]),
    d: &[T],
    scratch: &mut [T],
) -> f64 {
    let batch = columns.len();
    assert_eq!((k.len(), d.len(), scratch.len()), (batch * rows, batch * outputs, batch * outputs));
    let out = Shared::new(scratch);
    par.for_work(2 * batch * batch * outputs).each(batch, |row| {
        // SAFETY: rows are disjoint.
        let out = unsafe { out.slice(row * outputs..(row + 1) * outputs) };
        let k = &k[row * rows..(row + 1) * rows];
        vectorize(|| {
            out.fill(T::zero());
            for (column, d) in columns.iter().zip(d.chunks_exact(outputs)) {
                let weight = k[*column as usize];
                for (out, d) in out.iter_mut().zip(d) {
                    *out += weight * *d;
                }
            }
        });
    });
    // Rounding may leave a tiny negative sum where the gradient is 0.
    crate::reduce::dot(scratch, d).wide().max(0.0)
}

/// x ← factor · x.
pub fn shrink<T: Real>(x: &mut [T], factor: T) {
    if factor == T::one() {
        return;
    }
    vectorize(|| x.iter_mut().for_each(|x| *x *= factor));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linear::{Dims, Weights, weight_step};
    use crate::optimize::Update;
    use crate::rng::{Philox, Purpose};
    use crate::team::in_crew;

    fn numbers<T: Real>(n: usize, seed: u64) -> Vec<T> {
        let rng = Philox::new(seed, Purpose::Initialise);
        (0..n).map(|i| T::of(rng.uniform(i as u64, [0, 0]) - 0.5)).collect()
    }

    /// Plain loops.
    fn reference(x: &[f64], rows: usize, columns: usize) -> Vec<f64> {
        let row = |i: usize| &x[i * columns..(i + 1) * columns];
        let dot = |i: usize, j: usize| row(i).iter().zip(row(j)).map(|(a, b)| a * b).sum::<f64>();
        (0..rows * rows).map(|at| dot(at / rows, at % rows)).collect()
    }

    #[test]
    fn gram_equals_plain_loops_is_symmetric_and_the_same_in_blocks_and_on_threads() {
        for (rows, columns) in [(1, 1), (7, 3), (96, 50), (97, 11), (230, 700)] {
            let x = numbers::<f64>(rows * columns, 1);
            let plain = reference(&x, rows, columns);
            let mut k = vec![0.0; rows * rows];
            gram(Par::SEQUENTIAL, &x, rows, columns, &mut k);
            for (at, (k, plain)) in k.iter().zip(&plain).enumerate() {
                assert!((k - plain).abs() < 1e-11, "{rows}×{columns} element {at}: {k} against {plain}");
            }
            for at in 0..rows * rows {
                assert_eq!(k[at].to_bits(), k[at % rows * rows + at / rows].to_bits());
            }
            for threads in [2, 3] {
                let mut other = vec![0.0; rows * rows];
                in_crew(threads, |par| gram(par, &x, rows, columns, &mut other));
                assert!(other == k, "{threads} threads");
            }
            let mut other = vec![0.0; rows * rows];
            let half = rows / 2;
            let (top, bottom) = x.split_at(half * columns);
            let place = |row, column| Place { size: rows, columns, row, column };
            gram_block(Par::SEQUENTIAL, top, None, place(0, 0), &mut other);
            gram_block(Par::SEQUENTIAL, top, Some(bottom), place(0, half), &mut other);
            gram_block(Par::SEQUENTIAL, bottom, None, place(half, half), &mut other);
            assert!(other.iter().zip(&k).all(|(a, b)| (a - b).abs() < 1e-12));
        }
    }

    /// Steps on the weights and steps on the pre-activations stay together, for every kind of descent.
    #[test]
    fn panel_step_is_the_weight_step_seen_from_the_rows() {
        let (rows, columns, outputs, batch) = (130, 40, 9, 50);
        let x = numbers::<f64>(rows * columns, 1);
        let mut k = vec![0.0; rows * rows];
        gram(Par::SEQUENTIAL, &x, rows, columns, &mut k);
        let product = |w: &[f64]| {
            let mut z = vec![0.0; rows * outputs];
            crate::gemm::gemm(1.0, Matrix::new(&x, rows, columns), Matrix::new(w, columns, outputs), false, &mut z);
            z
        };
        for (momentum, nesterov) in [(0.0, false), (0.9, false), (0.9, true)] {
            for decay in [0.0, 0.01] {
                let by = Descent { rate: 0.01, decay, momentum, nesterov };
                let update = if momentum == 0.0 {
                    Update::Sgd { rate: 0.01, decay }
                } else {
                    Update::Momentum { rate: 0.01, decay, momentum, nesterov }
                };
                let (mut w, mut v) = (numbers::<f64>(columns * outputs, 2), vec![0.0; columns * outputs]);
                let (mut z, mut velocity) = (product(&w), vec![0.0; rows * outputs]);
                let dims = Dims { rows: batch, inputs: columns, outputs };
                let mut scratch = vec![0.0; crate::linear::step_scratch(Par::SEQUENTIAL, dims)];
                for step in 0..20 {
                    let samples: Vec<usize> = (0..batch).map(|i| (i * 7 + step * 13) % rows).collect();
                    let d = numbers::<f64>(batch * outputs, 100 + step as u64);
                    let gather = |from: &[f64], size: usize| -> Vec<f64> {
                        samples.iter().flat_map(|row| from[row * size..(row + 1) * size].to_vec()).collect()
                    };
                    let (xb, kb) = (gather(&x, columns), gather(&k, rows));
                    let columns_of: Vec<u32> = samples.iter().map(|row| *row as u32).collect();
                    let mut gradient = vec![0.0; columns * outputs];
                    crate::linear::weight_gradient(Par::SEQUENTIAL, dims, 1.0, &xb, &d, false, &mut gradient);
                    let expected: f64 = gradient.iter().map(|g| g * g).sum();
                    let mut room = vec![0.0; d.len()];
                    let sizes = (rows, outputs);
                    let found = squared_norm(Par::SEQUENTIAL, sizes, (&kb, &columns_of), &d, &mut room);
                    assert!((found - expected).abs() < 1e-10 * expected, "{found} against {expected}");
                    let weights = Weights { w: &mut w, first: &mut v, second: &mut [] };
                    weight_step(Par::SEQUENTIAL, dims, &xb, &d, &update, weights, &mut scratch);
                    let panel = Panel { z: &mut z, velocity: &mut velocity };
                    panel_step(Par::SEQUENTIAL, sizes, &kb, &d, 1.0, &by, panel);
                }
                for (found, expected) in z.iter().zip(product(&w)) {
                    assert!((found - expected).abs() < 1e-11, "{by:?}: {found} against {expected}");
                }
            }
        }
    }

    #[test]
    fn panel_step_gives_the_same_bits_for_any_number_of_threads() {
        let (rows, outputs, batch) = (500, 70, 120);
        let (k, d) = (numbers::<f32>(rows * batch, 1), numbers::<f32>(batch * outputs, 2));
        let by = Descent { rate: 0.1, decay: 0.01, momentum: 0.9, nesterov: false };
        let run = |par: Par| {
            let (mut z, mut velocity) = (numbers::<f32>(rows * outputs, 3), numbers::<f32>(rows * outputs, 4));
            panel_step(par, (rows, outputs), &k, &d, 0.5, &by, Panel { z: &mut z, velocity: &mut velocity });
            (z, velocity)
        };
        let one = run(Par::SEQUENTIAL);
        for threads in [2, 3] {
            assert!(in_crew(threads, run) == one, "{threads} threads");
        }
    }
}
