//! Batch normalisation (Ioffe, Szegedy 2015): each column of a rows × columns matrix to mean 0 and variance 1 over the
//! rows, then scale and shift. With NHWC images a row is a pixel, so the same kernels serve dense and convolutional
//! layers. What often follows is fused, because all of this runs at the speed of memory: a ReLU, or the addition of a
//! residual branch and a ReLU.
//!
//! Statistics are taken by blocks of rows that stay in the cache: mean and squared deviation of each block, joined over
//! the blocks in order and in `f64` (Chan, Golub, LeVeque 1979). One pass over memory, no cancellation.

use crate::isa::vectorize;
use crate::par::{self, Par, Shared};
use crate::real::Real;
use std::ops::Range;

/// Elements of a block of rows: read twice, so it should stay in the second-level cache.
const BLOCK: usize = 16_384;

/// Rough cost of one element.
const OPERATIONS: usize = 8;

/// Running statistics of a layer, for use after training.
pub struct Running<'a, T> {
    /// Running mean of each column.
    pub mean: &'a mut [T],
    /// Running variance of each column; a batch counts with its unbiased variance, as in PyTorch.
    pub variance: &'a mut [T],
    /// Weight of the new batch, 0.1 in PyTorch.
    pub momentum: T,
}

/// What follows the normalisation z in the same pass.
#[derive(Clone, Copy, Debug)]
pub enum After<'a, T> {
    /// y = z.
    Nothing,
    /// y = max(z, 0).
    Relu,
    /// y = max(z + branch, 0).
    AddRelu(&'a [T]),
}

/// [`After`] in the backward pass.
pub enum Before<'a, T> {
    /// gz = gy.
    Nothing,
    /// gz = gy where z > 0, which is told from x again.
    Relu,
    /// gz = gy where y > 0.
    AddRelu {
        /// The layer's output.
        y: &'a [T],
        /// Receives gz, which is also the gradient of the branch.
        branch: &'a mut [T],
    },
}

fn block_rows(columns: usize) -> usize {
    (BLOCK / columns).max(16)
}

/// Elements of scratch memory for all kernels here.
pub fn scratch_elements(rows: usize, columns: usize) -> usize {
    2 * columns * (rows.div_ceil(block_rows(columns)) + 2)
}

/// y = after((x − mean) / √(variance + ε) · gamma + beta) with the statistics of this batch, which must have at least
/// 2 rows. `saved` receives the columns' means, then their 1/√(variance + ε).
#[allow(clippy::too_many_arguments)] // The usual signature of batch normalisation.
pub fn train<T: Real>(
    par: Par,
    x: &[T],
    (gamma, beta): (&[T], &[T]),
    epsilon: T,
    running: Running<T>,
    after: After<T>,
    y: &mut [T],
    saved: &mut [T],
    scratch: &mut [T],
) {
    let columns = gamma.len();
    assert!(columns > 0 && saved.len() == 2 * columns && x.len().is_multiple_of(columns));
    assert!(running.mean.len() == columns && running.variance.len() == columns);
    let rows = x.len() / columns;
    assert!(rows > 1, "batch normalisation needs more than {rows} row");
    let parts = blocks_of(
        par,
        rows,
        columns,
        scratch,
        #[inline(always)]
        |rows, sums, squares| {
            let block = &x[rows.start * columns..rows.end * columns];
            let count = T::of(rows.len() as f64);
            sums.fill(T::zero());
            squares.fill(T::zero());
            for row in block.chunks_exact(columns) {
                for (sum, x) in sums.iter_mut().zip(row) {
                    *sum += *x;
                }
            }
            for mean in sums.iter_mut() {
                *mean /= count;
            }
            for row in block.chunks_exact(columns) {
                for ((square, mean), x) in squares.iter_mut().zip(sums.iter()).zip(row) {
                    *square += (*x - *mean) * (*x - *mean);
                }
            }
        },
    );
    let (mean, inverse) = saved.split_at_mut(columns);
    for column in 0..columns {
        let of_blocks = || {
            parts.chunks_exact(2 * columns).enumerate().map(|(index, part)| {
                let count = par::block(index, rows, block_rows(columns)).len() as f64;
                (count, part[column].wide(), part[columns + column].wide())
            })
        };
        let centre = of_blocks().map(|(count, mean, _)| count * mean).sum::<f64>() / rows as f64;
        let squares: f64 = of_blocks().map(|(n, mean, squares)| squares + n * (mean - centre) * (mean - centre)).sum();
        let variance = squares / rows as f64;
        mean[column] = T::of(centre);
        inverse[column] = T::of(1.0 / (variance + epsilon.wide()).sqrt());
        let unbiased = squares / (rows - 1) as f64;
        let mix = |old: T, new: f64| old + running.momentum * (T::of(new) - old);
        running.mean[column] = mix(running.mean[column], centre);
        running.variance[column] = mix(running.variance[column], unbiased);
    }
    normalise(par, x, (gamma, beta), (mean, inverse), after, y, scratch);
}

/// y = after((x − mean) / √(variance + ε) · gamma + beta) with given statistics.
#[allow(clippy::too_many_arguments)] // As `train`.
pub fn eval<T: Real>(
    par: Par,
    x: &[T],
    (gamma, beta): (&[T], &[T]),
    (mean, variance): (&[T], &[T]),
    epsilon: T,
    after: After<T>,
    y: &mut [T],
    scratch: &mut [T],
) {
    let (inverse, rest) = scratch.split_at_mut(gamma.len());
    for (inverse, variance) in inverse.iter_mut().zip(variance) {
        *inverse = T::one() / (*variance + epsilon).sqrt();
    }
    normalise(par, x, (gamma, beta), (mean, inverse), after, y, rest);
}

/// z of one row, in the one way that both passes compute it: the ReLU's mask is told from z again.
#[inline(always)]
fn z<T: Real>(x: T, mean: T, scale: T, beta: T) -> T {
    (x - mean) * scale + beta
}

fn normalise<T: Real>(
    par: Par,
    x: &[T],
    (gamma, beta): (&[T], &[T]),
    (mean, inverse): (&[T], &[T]),
    after: After<T>,
    y: &mut [T],
    scratch: &mut [T],
) {
    let columns = gamma.len();
    assert!(x.len() == y.len() && beta.len() == columns && mean.len() == columns);
    let scale = &mut scratch[..columns];
    for ((scale, gamma), inverse) in scale.iter_mut().zip(gamma).zip(inverse) {
        *scale = *gamma * *inverse;
    }
    let scale = &*scale;
    par.for_work(x.len() * OPERATIONS).chunks_mut(y, block_rows(columns) * columns, |first, y| {
        let x = &x[first..first + y.len()];
        vectorize(
            #[inline(always)]
            || {
                for (number, (y, x)) in y.chunks_exact_mut(columns).zip(x.chunks_exact(columns)).enumerate() {
                    for ((((y, x), mean), scale), beta) in y.iter_mut().zip(x).zip(mean).zip(scale).zip(beta) {
                        *y = z(*x, *mean, *scale, *beta);
                    }
                    match after {
                        After::Nothing => {}
                        After::Relu => {
                            for y in y {
                                *y = relu(*y);
                            }
                        }
                        After::AddRelu(branch) => {
                            let from = first + number * columns;
                            for (y, branch) in y.iter_mut().zip(&branch[from..from + columns]) {
                                *y = relu(*y + *branch);
                            }
                        }
                    }
                }
            },
        );
    });
}

/// The gradient of z: all of g, or with `mask` only where z is positive. Without a branch, so that loops vectorise.
#[inline(always)]
fn passed<T: Real>(g: T, mask: bool, z: T) -> T {
    if !mask | (z > T::zero()) { g } else { T::zero() }
}

/// max(z, 0); NaN stays NaN.
#[inline(always)]
fn relu<T: Real>(z: T) -> T {
    if z < T::zero() { T::zero() } else { z }
}

/// gx, and the gradients of gamma and beta (overwritten), from gy and what [`train`] saved.
#[allow(clippy::too_many_arguments)] // The usual signature of a normalisation's backward pass.
pub fn backward<T: Real>(
    par: Par,
    x: &[T],
    (gamma, beta): (&[T], &[T]),
    saved: &[T],
    gy: &[T],
    before: Before<T>,
    gx: &mut [T],
    (gamma_gradient, beta_gradient): (&mut [T], &mut [T]),
    scratch: &mut [T],
) {
    let columns = gamma.len();
    assert!(saved.len() == 2 * columns && gy.len() == x.len() && gx.len() == x.len());
    assert!(gamma_gradient.len() == columns && beta_gradient.len() == columns);
    let rows = x.len() / columns;
    let (mean, inverse) = saved.split_at(columns);
    let (sums, coefficients) = scratch.split_at_mut(2 * columns * rows.div_ceil(block_rows(columns)));
    let (scale, rest) = coefficients.split_at_mut(columns);
    for ((scale, gamma), inverse) in scale.iter_mut().zip(gamma).zip(inverse) {
        *scale = *gamma * *inverse;
    }
    let scale = &*scale;
    // The gradient of z: a mask over gy, or the masked gradient itself where the branch needs it anyway.
    let (mask, gz) = match before {
        Before::Nothing => (false, gy),
        Before::Relu => (true, gy),
        Before::AddRelu { y, branch } => {
            assert!(y.len() == x.len() && branch.len() == x.len());
            par.for_work(x.len() * OPERATIONS).chunks_mut(branch, BLOCK, |first, branch| {
                vectorize(
                    #[inline(always)]
                    || {
                        let range = first..first + branch.len();
                        for ((out, gy), y) in branch.iter_mut().zip(&gy[range.clone()]).zip(&y[range]) {
                            *out = if *y > T::zero() { *gy } else { T::zero() };
                        }
                    },
                );
            });
            (false, &*branch)
        }
    };
    let parts = blocks_of(
        par,
        rows,
        columns,
        sums,
        #[inline(always)]
        |rows, plain, weighted| {
            plain.fill(T::zero());
            weighted.fill(T::zero());
            let range = rows.start * columns..rows.end * columns;
            for (x, g) in x[range.clone()].chunks_exact(columns).zip(gz[range].chunks_exact(columns)) {
                let sums = plain.iter_mut().zip(weighted.iter_mut());
                for (((plain, weighted), (x, g)), ((mean, scale), beta)) in
                    sums.zip(x.iter().zip(g)).zip(mean.iter().zip(scale).zip(beta))
                {
                    let g = passed(*g, mask, z(*x, *mean, *scale, *beta));
                    *plain += g;
                    *weighted += g * (*x - *mean);
                }
            }
        },
    );
    // gx = scale · (gz − Σ gz / n − (x − mean) · inverse² · Σ gz (x − mean) / n)
    let (slope, offset) = (&mut rest[..columns], &mut *beta_gradient);
    for column in 0..columns {
        let sum = |at: usize| parts.iter().skip(at).step_by(2 * columns).map(|v| v.wide()).sum::<f64>();
        let (plain, weighted, inverse) = (sum(column), sum(columns + column), inverse[column].wide());
        offset[column] = T::of(plain);
        gamma_gradient[column] = T::of(weighted * inverse);
        slope[column] = T::of(weighted * inverse * inverse / rows as f64);
    }
    let (slope, offset, count) = (&*slope, &*offset, T::of(1.0 / rows as f64));
    par.for_work(x.len() * OPERATIONS).chunks_mut(gx, block_rows(columns) * columns, |first, gx| {
        let range = first..first + gx.len();
        let (x, gz) = (&x[range.clone()], &gz[range]);
        vectorize(
            #[inline(always)]
            || {
                let rows = x.chunks_exact(columns).zip(gz.chunks_exact(columns));
                for (gx, (x, g)) in gx.chunks_exact_mut(columns).zip(rows) {
                    let values = gx.iter_mut().zip(x.iter().zip(g));
                    let statistics = mean.iter().zip(scale).zip(beta).zip(slope.iter().zip(offset));
                    for ((gx, (x, g)), (((mean, scale), beta), (slope, offset))) in values.zip(statistics) {
                        let g = passed(*g, mask, z(*x, *mean, *scale, *beta));
                        *gx = *scale * (g - *offset * count - (*x - *mean) * *slope);
                    }
                }
            },
        );
    });
}

/// Runs `body(rows, first, second)` for every block of rows, with two rows of numbers of its own in `scratch`; gives
/// all of these, block after block.
fn blocks_of<T: Real>(
    par: Par,
    rows: usize,
    columns: usize,
    scratch: &mut [T],
    body: impl Fn(Range<usize>, &mut [T], &mut [T]) + Sync,
) -> &[T] {
    let size = block_rows(columns);
    let parts = &mut scratch[..2 * columns * rows.div_ceil(size)];
    let shared = Shared::new(&mut *parts);
    par.for_work(rows * columns * OPERATIONS).each(rows.div_ceil(size), |index| {
        // SAFETY: each block has its own part.
        let part = unsafe { shared.slice(2 * columns * index..2 * columns * (index + 1)) };
        let (first, second) = part.split_at_mut(columns);
        vectorize(
            #[inline(always)]
            || body(par::block(index, rows, size), first, second),
        );
    });
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Philox, Purpose};

    fn numbers<T: Real>(n: usize, seed: u64) -> Vec<T> {
        let rng = Philox::new(seed, Purpose::Initialise);
        (0..n).map(|i| T::of(rng.uniform(i as u64, [0, 0]) - 0.5)).collect()
    }

    #[derive(Clone, Copy, PartialEq, Debug)]
    enum Kind {
        Nothing,
        Relu,
        AddRelu,
    }

    const KINDS: [Kind; 3] = [Kind::Nothing, Kind::Relu, Kind::AddRelu];

    /// x, gamma, beta, branch.
    type Parts<T> = [Vec<T>; 4];

    fn parts<T: Real>(rows: usize, columns: usize) -> Parts<T> {
        let mut x: Vec<T> = numbers(rows * columns, 1);
        // A mean far from 0: naive sums of squares would fail.
        x.iter_mut().enumerate().for_each(|(i, x)| *x = *x * T::of(2.0) + T::of((i % columns) as f64));
        [x, numbers(columns, 2), numbers(columns, 3), numbers(rows * columns, 4)]
    }

    fn after<T>(kind: Kind, branch: &[T]) -> After<'_, T> {
        match kind {
            Kind::Nothing => After::Nothing,
            Kind::Relu => After::Relu,
            Kind::AddRelu => After::AddRelu(branch),
        }
    }

    /// y, saved, running mean, running variance.
    fn forward<T: Real>(par: Par, [x, gamma, beta, branch]: &Parts<T>, kind: Kind) -> [Vec<T>; 4] {
        let columns = gamma.len();
        let (mut y, mut saved) = (vec![T::nan(); x.len()], vec![T::nan(); 2 * columns]);
        let (mut mean, mut variance) = (vec![T::of(0.5); columns], vec![T::of(1.5); columns]);
        let mut scratch = vec![T::nan(); scratch_elements(x.len() / columns, columns)];
        let running = Running { mean: &mut mean, variance: &mut variance, momentum: T::of(0.1) };
        let after = after(kind, branch);
        train(par, x, (gamma, beta), T::of(1e-5), running, after, &mut y, &mut saved, &mut scratch);
        [y, saved, mean, variance]
    }

    /// Gradients of x, gamma, beta, branch.
    fn gradients<T: Real>(par: Par, parts: &Parts<T>, kind: Kind, gy: &[T]) -> Parts<T> {
        let [y, saved, _, _] = forward(par, parts, kind);
        let [x, gamma, beta, _] = parts;
        let (mut gx, mut branch) = (vec![T::nan(); x.len()], vec![T::zero(); x.len()]);
        let (mut dgamma, mut dbeta) = (vec![T::nan(); gamma.len()], vec![T::nan(); gamma.len()]);
        let mut scratch = vec![T::nan(); scratch_elements(x.len() / gamma.len(), gamma.len())];
        let before = match kind {
            Kind::Nothing => Before::Nothing,
            Kind::Relu => Before::Relu,
            Kind::AddRelu => Before::AddRelu { y: &y, branch: &mut branch },
        };
        let params = (&mut dgamma[..], &mut dbeta[..]);
        backward(par, x, (gamma, beta), &saved, gy, before, &mut gx, params, &mut scratch);
        [gx, dgamma, dbeta, branch]
    }

    /// The definition in plain loops: y, mean, variance (biased) of each column.
    fn definition([x, gamma, beta, branch]: &Parts<f64>, kind: Kind) -> (Vec<f64>, Vec<f64>, Vec<f64>) {
        let columns = gamma.len();
        let n = (x.len() / columns) as f64;
        let column = |c: usize| x.iter().skip(c).step_by(columns);
        let mean: Vec<f64> = (0..columns).map(|c| column(c).sum::<f64>() / n).collect();
        let variance: Vec<f64> =
            (0..columns).map(|c| column(c).map(|x| (x - mean[c]).powi(2)).sum::<f64>() / n).collect();
        let y = x.iter().enumerate().map(|(i, x)| {
            let c = i % columns;
            let z = (x - mean[c]) / (variance[c] + 1e-5).sqrt() * gamma[c] + beta[c];
            match kind {
                Kind::Nothing => z,
                Kind::Relu => z.max(0.0),
                Kind::AddRelu => (z + branch[i]).max(0.0),
            }
        });
        (y.collect(), mean, variance)
    }

    fn close<T: Real>(name: &str, found: &[T], expected: &[f64], tolerance: f64) {
        assert_eq!(found.len(), expected.len());
        for (i, (f, e)) in found.iter().zip(expected).enumerate() {
            assert!((f.wide() - e).abs() < tolerance, "{name}[{i}]: {f} against {e}");
        }
    }

    #[test]
    fn train_and_eval_follow_the_definition() {
        for (rows, columns) in [(2, 1), (7, 3), (40, 64), (2100, 33)] {
            for kind in KINDS {
                let wide = parts::<f64>(rows, columns);
                let (y, mean, variance) = definition(&wide, kind);
                let [found, _, running_mean, running_variance] = forward(Par::SEQUENTIAL, &wide, kind);
                close("y", &found, &y, 1e-11);
                let expected: Vec<f64> = mean.iter().map(|m| 0.9 * 0.5 + 0.1 * m).collect();
                close("running mean", &running_mean, &expected, 1e-12);
                let unbiased = rows as f64 / (rows - 1) as f64;
                let expected: Vec<f64> = variance.iter().map(|v| 0.9 * 1.5 + 0.1 * v * unbiased).collect();
                close("running variance", &running_variance, &expected, 1e-12);

                let [x, gamma, beta, branch] = &wide;
                let (mut again, mut scratch) = (vec![f64::NAN; x.len()], vec![f64::NAN; 2 * columns]);
                let (params, statistics) = ((&gamma[..], &beta[..]), (&mean[..], &variance[..]));
                let after = after(kind, branch);
                eval(Par::SEQUENTIAL, x, params, statistics, 1e-5, after, &mut again, &mut scratch);
                close("y in use", &again, &y, 1e-11);

                let narrow = wide.each_ref().map(|part| part.iter().map(|v| *v as f32).collect::<Vec<f32>>());
                let [found, ..] = forward(Par::SEQUENTIAL, &narrow, kind);
                close("y in f32", &found, &y, 3e-5);
            }
        }
    }

    #[test]
    fn backward_agrees_with_finite_differences() {
        let (rows, columns) = (9, 3);
        let gy: Vec<f64> = numbers(rows * columns, 9);
        for kind in KINDS {
            let at = parts::<f64>(rows, columns);
            let value = |parts: &Parts<f64>| definition(parts, kind).0.iter().zip(&gy).map(|(y, g)| y * g).sum::<f64>();
            let found = gradients(Par::SEQUENTIAL, &at, kind, &gy);
            for which in 0..4 {
                for i in 0..at[which].len() {
                    let shifted = |h: f64| {
                        let mut moved = at.clone();
                        moved[which][i] += h;
                        value(&moved)
                    };
                    let slope = (shifted(1e-6) - shifted(-1e-6)) / 2e-6;
                    let f = found[which][i];
                    assert!((f - slope).abs() < 1e-7, "{kind:?} part {which} element {i}: {f} against {slope}");
                }
            }
        }
    }

    #[test]
    fn passes_give_the_same_bits_for_any_number_of_threads() {
        let (rows, columns) = (20_000, 24);
        let gy: Vec<f32> = numbers(rows * columns, 9);
        let parts = parts::<f32>(rows, columns);
        for kind in KINDS {
            let run = |threads: usize| {
                crate::team::in_crew(threads, |par| (forward(par, &parts, kind), gradients(par, &parts, kind, &gy)))
            };
            let one = run(1);
            assert!(run(2) == one && run(3) == one, "{kind:?}");
        }
    }
}
