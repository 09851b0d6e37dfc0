//! Losses: the value of each row, and the gradient of their mean.
//!
//! Each function writes one loss a row (the caller adds them in row order, so that threads cannot change the sum) and, where
//! asked, the gradient of the mean loss with respect to the network's outputs.

use crate::activation::sigmoid;
use crate::isa::vectorize;
use crate::par::{self, Par, Shared};
use crate::real::Real;

/// Rows that one task handles.
const ROW_BLOCK: usize = 64;

/// Rough cost of one element (an exponential and a few multiplications).
const OPERATIONS: usize = 40;

/// Softmax cross-entropy of logits against class labels, as `torch.nn.CrossEntropyLoss(label_smoothing=…)`.
///
/// Row loss = log Σ eᶻ − (1 − s) z[label] − s · mean z. Gradient = (softmax(z) − target) · scale, with scale = 1 / rows for a mean.
#[allow(clippy::too_many_arguments)] // A loss has that many parts.
pub fn softmax_cross_entropy<T: Real>(
    par: Par,
    z: &[T],
    labels: &[u32],
    classes: usize,
    smoothing: T,
    scale: T,
    losses: &mut [T],
    gradient: Option<&mut [T]>,
) {
    assert_eq!(labels.len() * classes, z.len());
    assert!(classes > 0 && losses.len() == labels.len());
    let count = losses.len();
    let (losses, gradient) = (Shared::new(losses), gradient.map(Shared::new));
    par.for_work(z.len() * OPERATIONS).each(count.div_ceil(ROW_BLOCK), |index| {
        let rows = par::block(index, count, ROW_BLOCK);
        let range = rows.start * classes..rows.end * classes;
        // SAFETY: blocks of rows are disjoint.
        let (losses, gradient) =
            unsafe { (losses.slice(rows.clone()), gradient.as_ref().map(|g| g.slice(range.clone()))) };
        let smoothing = (smoothing, smoothing / T::of(classes as f64));
        vectorize(
            #[inline(always)]
            || cross_entropy_block(&z[range], &labels[rows], classes, smoothing, scale, losses, gradient),
        );
    });
}

/// A block of rows. The exponentials of all rows are taken in one loop: a row of ten would leave most of a vector idle.
#[inline(always)]
fn cross_entropy_block<T: Real>(
    z: &[T],
    labels: &[u32],
    classes: usize,
    (smoothing, spread): (T, T),
    scale: T,
    losses: &mut [T],
    gradient: Option<&mut [T]>,
) {
    // Finishes a row from log Σ eᶻ.
    let loss = |z: &[T], label: u32, log: T| {
        let mean = if smoothing == T::zero() { T::zero() } else { z.iter().copied().sum::<T>() };
        log - (T::one() - smoothing) * z[label as usize] - spread * mean
    };
    let Some(gradient) = gradient else {
        for ((z, loss_of), label) in z.chunks_exact(classes).zip(losses).zip(labels) {
            let most = largest(z);
            let sum = z.iter().fold(T::zero(), |sum, v| sum + (*v - most).exp_fast());
            *loss_of = loss(z, *label, most + sum.ln_fast());
        }
        return;
    };
    let (mut most, mut sum) = ([T::zero(); ROW_BLOCK], [T::zero(); ROW_BLOCK]);
    let rows = labels.len();
    fold_rows(z, classes, &mut most[..rows], |most, v| if v > most { v } else { most });
    for ((z, g), most) in z.chunks_exact(classes).zip(gradient.chunks_exact_mut(classes)).zip(&most) {
        for (g, v) in g.iter_mut().zip(z) {
            *g = *v - *most;
        }
    }
    for g in gradient.iter_mut() {
        *g = g.exp_fast();
    }
    fold_rows(gradient, classes, &mut sum[..rows], |sum, e| sum + e);
    // All logarithms in one loop, as the exponentials.
    for (most, sum) in most.iter_mut().zip(&sum) {
        *most += sum.ln_fast();
    }
    let rows = z.chunks_exact(classes).zip(gradient.chunks_exact_mut(classes)).zip(most.iter().zip(&sum));
    for ((((z, g), (log, sum)), loss_of), label) in rows.zip(losses).zip(labels) {
        *loss_of = loss(z, *label, *log);
        let to_probability = T::one() / *sum;
        for g in g.iter_mut() {
            *g = (*g * to_probability - spread) * scale;
        }
        g[*label as usize] -= (T::one() - smoothing) * scale;
    }
}

/// Folds each row from its first value on. Several rows advance together: one alone would wait for every result in turn.
#[inline(always)]
fn fold_rows<T: Real>(x: &[T], columns: usize, out: &mut [T], step: impl Fn(T, T) -> T) {
    const TOGETHER: usize = 8;
    for (x, out) in x.chunks(TOGETHER * columns).zip(out.chunks_mut(TOGETHER)) {
        assert!(x.len() == out.len() * columns);
        let (mut starts, mut folded) = ([0; TOGETHER], [T::zero(); TOGETHER]);
        for (i, (start, folded)) in starts.iter_mut().zip(&mut folded).enumerate() {
            // Where rows are missing at the end the last one stands in.
            *start = i.min(out.len() - 1) * columns;
            *folded = x[*start];
        }
        for column in 1..columns {
            for (folded, start) in folded.iter_mut().zip(&starts) {
                // SAFETY: a column of one of `out.len()` rows, which `x` has.
                *folded = step(*folded, unsafe { *x.get_unchecked(start + column) });
            }
        }
        out.copy_from_slice(&folded[..out.len()]);
    }
}

/// The largest of a row; a NaN elsewhere in the row still reaches the loss through the sum.
#[inline(always)]
fn largest<T: Real>(row: &[T]) -> T {
    row.iter().fold(row[0], |most, v| if *v > most { *v } else { most })
}

/// Mean squared error against real targets, as `torch.nn.MSELoss`: row loss = mean over outputs of (y − t)²;
/// gradient = 2 (y − t) / size · scale.
pub fn mean_squared_error<T: Real>(
    par: Par,
    y: &[T],
    targets: &[T],
    size: usize,
    scale: T,
    losses: &mut [T],
    gradient: Option<&mut [T]>,
) {
    assert_eq!(y.len(), targets.len());
    let each = T::one() / T::of(size as f64);
    rows(par, y, size, losses, gradient, |row, y, g| {
        let targets = &targets[row * size..][..size];
        if let Some(g) = g {
            for ((g, y), t) in g.iter_mut().zip(y).zip(targets) {
                *g = T::of(2.0) * (*y - *t) * each * scale;
            }
        }
        y.iter().zip(targets).fold(T::zero(), |sum, (y, t)| sum + (*y - *t) * (*y - *t)) * each
    });
}

/// Binary cross-entropy of logits against targets in [0, 1], as `torch.nn.BCEWithLogitsLoss`: row loss = mean over outputs of
/// max(z, 0) − z t + ln(1 + e^−|z|); gradient = (sigmoid(z) − t) / size · scale. With smoothing s, t becomes t (1 − s) + s / 2.
#[allow(clippy::too_many_arguments)] // A loss has that many parts.
pub fn binary_cross_entropy<T: Real>(
    par: Par,
    z: &[T],
    targets: &[T],
    size: usize,
    smoothing: T,
    scale: T,
    losses: &mut [T],
    gradient: Option<&mut [T]>,
) {
    assert_eq!(z.len(), targets.len());
    let each = T::one() / T::of(size as f64);
    let (keep, add) = (T::one() - smoothing, smoothing * T::of(0.5));
    rows(par, z, size, losses, gradient, |row, z, g| {
        let targets = &targets[row * size..][..size];
        if let Some(g) = g {
            for ((g, z), t) in g.iter_mut().zip(z).zip(targets) {
                *g = (sigmoid(*z) - (*t * keep + add)) * each * scale;
            }
        }
        let value = |z: T, t: T| {
            let positive = if z < T::zero() { T::zero() } else { z };
            positive - z * (t * keep + add) + (-z.abs()).exp_fast().ln_1p()
        };
        z.iter().zip(targets).fold(T::zero(), |sum, (z, t)| sum + value(*z, *t)) * each
    });
}

/// Runs `body(row, outputs, gradient) -> loss` over all rows.
fn rows<T: Real>(
    par: Par,
    y: &[T],
    size: usize,
    losses: &mut [T],
    gradient: Option<&mut [T]>,
    body: impl Fn(usize, &[T], Option<&mut [T]>) -> T + Sync,
) {
    let count = losses.len();
    assert_eq!(count * size, y.len());
    assert!(size > 0, "a loss needs at least one output");
    if let Some(g) = &gradient {
        assert_eq!(g.len(), y.len());
    }
    let losses = Shared::new(losses);
    let gradient = gradient.map(Shared::new);
    par.for_work(y.len() * OPERATIONS).each(count.div_ceil(ROW_BLOCK), |index| {
        vectorize(
            #[inline(always)]
            || {
                for row in par::block(index, count, ROW_BLOCK) {
                    // SAFETY: rows are disjoint.
                    let (loss, g) = unsafe {
                        let range = row * size..(row + 1) * size;
                        (&mut losses.slice(row..row + 1)[0], gradient.as_ref().map(|g| g.slice(range)))
                    };
                    *loss = body(row, &y[row * size..(row + 1) * size], g);
                }
            },
        );
    });
}

/// Softmax of each row in place: e^(z − max) / Σ.
pub fn softmax<T: Real>(z: &mut [T], classes: usize) {
    assert!(classes > 0);
    vectorize(
        #[inline(always)]
        || {
            for row in z.chunks_exact_mut(classes) {
                let most = largest(row);
                let mut sum = T::zero();
                for v in row.iter_mut() {
                    *v = (*v - most).exp_fast();
                    sum += *v;
                }
                let scale = T::one() / sum;
                row.iter_mut().for_each(|v| *v *= scale);
            }
        },
    );
}

/// Gradient through a softmax: gz = p · (gy − Σ gy p), row by row.
pub fn softmax_backward<T: Real>(p: &[T], gy: &[T], gz: &mut [T], classes: usize) {
    assert!(p.len() == gy.len() && p.len() == gz.len() && classes > 0);
    vectorize(
        #[inline(always)]
        || {
            for ((p, gy), gz) in p.chunks_exact(classes).zip(gy.chunks_exact(classes)).zip(gz.chunks_exact_mut(classes))
            {
                let inner = p.iter().zip(gy).fold(T::zero(), |sum, (p, g)| sum + *p * *g);
                for ((z, p), g) in gz.iter_mut().zip(p).zip(gy) {
                    *z = *p * (*g - inner);
                }
            }
        },
    );
}

/// How many classes are ranked before the label (ties: the lower index first): 0 means the label wins.
#[inline(always)]
pub fn rank<T: Real>(row: &[T], label: usize) -> usize {
    let score = row[label];
    // Of four bytes, so that a vector holds as many indices as values.
    let (label, mut before) = (label as u32, 0u32);
    // Without a branch on the values: which of them are larger cannot be foretold.
    for (i, v) in (0u32..).zip(row) {
        before += u32::from((*v > score) | ((*v == score) & (i < label)) | v.is_nan());
    }
    before as usize
}

/// Rows whose largest output is the label's (ties: the lowest index).
pub fn count_right<T: Real>(outputs: &[T], labels: &[u32]) -> usize {
    let classes = outputs.len() / labels.len().max(1);
    vectorize(
        #[inline(always)]
        || {
            let mut right = 0;
            for (row, label) in outputs.chunks_exact(classes.max(1)).zip(labels) {
                right += usize::from(rank(row, *label as usize) == 0);
            }
            right
        },
    )
}

/// The index of the largest value (ties: the lowest index).
pub fn argmax<T: Real>(row: &[T]) -> usize {
    let mut best = 0;
    for (i, v) in row.iter().enumerate() {
        if *v > row[best] {
            best = i;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    const Z: [f64; 6] = [0.3, -1.2, 2.0, 0.0, 0.7, -0.4];

    /// Compares the gradient with central differences of the mean row loss.
    fn check(loss: impl Fn(&[f64], &mut [f64], Option<&mut [f64]>)) {
        let mut gradient = [0.0; 6];
        let mut losses = [0.0; 2];
        loss(&Z, &mut losses, Some(&mut gradient));
        let mut plain = [0.0; 2];
        loss(&Z, &mut plain, None);
        assert_eq!(losses, plain, "the loss does not depend on whether a gradient is asked");
        for i in 0..6 {
            let at = |h: f64| {
                let mut z = Z;
                z[i] += h;
                let mut losses = [0.0; 2];
                loss(&z, &mut losses, None);
                (losses[0] + losses[1]) / 2.0
            };
            let slope = (at(1e-6) - at(-1e-6)) / 2e-6;
            assert!((gradient[i] - slope).abs() < 1e-8, "element {i}: {} against {slope}", gradient[i]);
        }
    }

    #[test]
    fn gradients_agree_with_finite_differences() {
        let par = Par::SEQUENTIAL;
        for s in [0.0, 0.1] {
            check(|z, l, g| softmax_cross_entropy(par, z, &[2, 0], 3, s, 0.5, l, g));
            check(|z, l, g| binary_cross_entropy(par, z, &[0.0, 1.0, 0.3, 1.0, 0.0, 0.5], 3, s, 0.5, l, g));
        }
        check(|y, l, g| mean_squared_error(par, y, &[1.0, 0.0, -1.0, 0.5, 2.0, 0.1], 3, 0.5, l, g));
    }

    #[test]
    fn softmax_cross_entropy_of_equal_logits_is_log_classes() {
        let mut losses = [0.0];
        softmax_cross_entropy(Par::SEQUENTIAL, &[3.0f64; 4], &[1], 4, 0.0, 1.0, &mut losses, None);
        assert!((losses[0] - 4.0f64.ln()).abs() < 1e-12);
    }

    #[test]
    fn a_nan_among_the_logits_reaches_the_loss() {
        let mut losses = [0.0f32];
        softmax_cross_entropy(Par::SEQUENTIAL, &[1.0, f32::NAN, 0.0], &[0], 3, 0.0, 1.0, &mut losses, None);
        assert!(losses[0].is_nan());
    }

    #[test]
    fn softmax_backward_agrees_with_finite_differences() {
        let gy = [0.2, -0.5, 1.0];
        let of = |z: &[f64]| {
            let mut p = z.to_vec();
            softmax(&mut p, 3);
            p
        };
        let mut gz = [0.0; 3];
        softmax_backward(&of(&Z[..3]), &gy, &mut gz, 3);
        for i in 0..3 {
            let at = |h: f64| {
                let mut z = Z[..3].to_vec();
                z[i] += h;
                of(&z).iter().zip(&gy).map(|(p, g)| p * g).sum::<f64>()
            };
            assert!((gz[i] - (at(1e-6) - at(-1e-6)) / 2e-6).abs() < 1e-8);
        }
    }

    #[test]
    fn rank_and_argmax_break_ties_by_index() {
        assert_eq!(argmax(&[1.0, 3.0, 3.0]), 1);
        let rows = [1.0, 3.0, 3.0, 1.0, 3.0, 3.0, 4.0, 3.0, 3.0];
        assert_eq!(count_right(&rows, &[1, 2, 0]), 2);
        assert_eq!(count_right::<f64>(&[], &[]), 0);
        assert_eq!((rank(&[1.0, 3.0, 3.0], 1), rank(&[1.0, 3.0, 3.0], 2), rank(&[1.0, 3.0, 3.0], 0)), (0, 1, 2));
    }
}
