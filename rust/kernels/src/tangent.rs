//! Tangents: how the dual part of a value passes through what is not linear.
//!
//! A value x moves along a direction: x + ε ẋ + ½ ε² ẍ. Linear maps carry ẋ and ẍ like further rows of the batch; this file has
//! the rules for all that is not linear. Arrays of tangents hold lanes, one after the other, each shaped like the value. Every
//! rule is the derivative of the forward pass, once or twice, along one direction; where a second tangent is wanted there is
//! one lane.

use crate::activation::{Activation, normal_density, normal_distribution, sigmoid};
use crate::isa::vectorize;
use crate::par::{self, Par, Shared};
use crate::real::Real;

/// Elements that one task handles.
const CHUNK: usize = 16_384;

/// Rough cost of one element.
const OPERATIONS: usize = 20;

/// Rows that one task handles.
const ROW_BLOCK: usize = 32;

/// ẏ = f'(z) ż in place, for any number of lanes. `z` is read only by activations whose derivative y does not tell.
pub fn activation<T: Real>(par: Par, f: Activation<T>, z: &[T], y: &[T], first: &mut [T]) {
    if f == Activation::Identity || y.is_empty() {
        return;
    }
    let known = if f.from_output() { y } else { z };
    assert!(known.len() == y.len() && first.len().is_multiple_of(y.len()), "lanes are shaped like the value");
    let par = par.for_work(first.len() * OPERATIONS);
    let per_lane = y.len().div_ceil(CHUNK);
    let tasks = first.len() / y.len() * per_lane;
    let first = Shared::new(first);
    par.each(tasks, |task| {
        let range = par::block(task % per_lane, y.len(), CHUNK);
        let start = task / per_lane * y.len();
        // SAFETY: chunks of lanes are disjoint.
        let first = unsafe { first.slice(start + range.start..start + range.end) };
        let known = &known[range];
        vectorize(
            #[inline(always)]
            || {
                if f.from_output() {
                    f.backward_from_output(known, first);
                } else {
                    f.backward_from_input(known, first);
                }
            },
        );
    });
}

/// ẏ = f'(z) ż and ÿ = f'(z) z̈ + f''(z) ż², in place, for one lane. `z` as in [`activation`].
pub fn activation_second<T: Real>(f: Activation<T>, z: &[T], y: &[T], first: &mut [T], second: &mut [T]) {
    let known = if f.from_output() { y } else { z };
    assert!(known.len() == first.len() && known.len() == second.len());
    let (one, two) = (T::one(), T::of(2.0));
    let each = |derivatives: &dyn Fn(T) -> (T, T), first: &mut [T], second: &mut [T]| {
        for ((first, second), known) in first.iter_mut().zip(second).zip(known) {
            let (slope, bend) = derivatives(*known);
            *second = slope * *second + bend * *first * *first;
            *first *= slope;
        }
    };
    match f {
        Activation::Identity => {}
        Activation::Relu => each(&|y| (if y > T::zero() { one } else { T::zero() }, T::zero()), first, second),
        Activation::LeakyRelu(slope) => each(&|y| (if y > T::zero() { one } else { slope }, T::zero()), first, second),
        Activation::Tanh => each(&|y| (one - y * y, -two * y * (one - y * y)), first, second),
        Activation::Sigmoid => each(&|y| (y * (one - y), y * (one - y) * (one - two * y)), first, second),
        Activation::Gelu => each(
            &|z| {
                let density = normal_density(z);
                (normal_distribution(z) + z * density, density * (two - z * z))
            },
            first,
            second,
        ),
    }
}

/// The sums that decide how the scale of a normalisation moves: over the elements that are normalised together.
#[derive(Clone, Copy, Debug, Default)]
pub struct Moments<T> {
    /// Σ ẋ.
    pub first: T,
    /// Σ (x − mean) ẋ.
    pub inner: T,
    /// Σ ẋ².
    pub square: T,
    /// Σ ẍ.
    pub second: T,
    /// Σ (x − mean) ẍ.
    pub second_inner: T,
}

impl<T: Real> Moments<T> {
    /// Adds an element: x − mean, ẋ, ẍ.
    #[inline(always)]
    pub fn add(&mut self, centred: T, first: T, second: T) {
        self.first += first;
        self.inner += centred * first;
        self.square += first * first;
        self.second += second;
        self.second_inner += centred * second;
    }

    /// How the normalised value moves, for `count` elements and u = 1 / √(variance + ε).
    pub fn finish(self, count: usize, u: T) -> Moving<T> {
        let n = T::of(count as f64);
        let (mean1, mean2) = (self.first / n, self.second / n);
        // V̇ and V̈ of the variance, then of its root s and of u = 1 / s.
        let two = T::of(2.0);
        let v1 = two * self.inner / n;
        let v2 = two * (self.square / n - mean1 * mean1) + two * self.second_inner / n;
        let s1 = v1 * u / two;
        let s2 = v2 * u / two - v1 * v1 * u * u * u / T::of(4.0);
        Moving { mean1, mean2, u, u1: -s1 * u * u, u2: (two * s1 * s1 * u - s2) * u * u }
    }
}

/// First and second tangents of mean and scale of a normalisation.
#[derive(Clone, Copy, Debug)]
pub struct Moving<T> {
    mean1: T,
    mean2: T,
    u: T,
    u1: T,
    u2: T,
}

impl<T: Real> Moving<T> {
    /// First tangent of (x − mean) u.
    #[inline(always)]
    pub fn first(&self, centred: T, first: T) -> T {
        (first - self.mean1) * self.u + centred * self.u1
    }

    /// Second tangent of (x − mean) u.
    #[inline(always)]
    pub fn second(&self, centred: T, first: T, second: T) -> T {
        (second - self.mean2) * self.u + T::of(2.0) * (first - self.mean1) * self.u1 + centred * self.u2
    }
}

/// What moves with a normalisation beside its inputs.
#[derive(Clone, Copy)]
pub struct Affine<'a, T> {
    /// The factors.
    pub gamma: &'a [T],
    /// Tangents of the factors and of the shifts; none where the parameters stand still.
    pub moving: Option<(&'a [T], &'a [T])>,
}

/// Tangents through layer normalisation, for one lane. `saved` holds mean and 1/√(variance + ε) of each row, as
/// [`crate::norm::layer_norm`] left them; `second` are ẍ and ÿ.
pub fn layer_norm<T: Real>(
    par: Par,
    x: &[T],
    saved: &[T],
    affine: Affine<T>,
    (x1, y1): (&[T], &mut [T]),
    second: Option<(&[T], &mut [T])>,
) {
    let size = affine.gamma.len();
    let rows = x.len() / size;
    assert!(x1.len() == x.len() && y1.len() == x.len() && saved.len() >= 2 * rows);
    let (x2, y2) = second.map_or((None, None), |(x2, y2)| (Some(x2), Some(Shared::new(y2))));
    let y1 = Shared::new(y1);
    par.for_work(x.len() * OPERATIONS).each(rows.div_ceil(ROW_BLOCK), |index| {
        vectorize(|| {
            for row in par::block(index, rows, ROW_BLOCK) {
                let at = row * size..(row + 1) * size;
                let (mean, u) = (saved[2 * row], saved[2 * row + 1]);
                let (x, x1, x2) = (&x[at.clone()], &x1[at.clone()], x2.map(|x2| &x2[at.clone()]));
                let two = |i: usize| x2.map_or(T::zero(), |x2| x2[i]);
                let mut moments = Moments::default();
                for i in 0..size {
                    moments.add(x[i] - mean, x1[i], two(i));
                }
                let moving = moments.finish(size, u);
                // SAFETY: rows are disjoint.
                let (y1, y2) = unsafe { (y1.slice(at.clone()), y2.as_ref().map(|y2| y2.slice(at))) };
                for i in 0..size {
                    let centred = x[i] - mean;
                    let n1 = moving.first(centred, x1[i]);
                    y1[i] = affine.gamma[i] * n1;
                    if let Some((gamma1, beta1)) = affine.moving {
                        y1[i] += gamma1[i] * centred * u + beta1[i];
                    }
                }
                let Some(y2) = y2 else { continue };
                for i in 0..size {
                    let centred = x[i] - mean;
                    y2[i] = affine.gamma[i] * moving.second(centred, x1[i], two(i));
                    if let Some((gamma1, _)) = affine.moving {
                        y2[i] += T::of(2.0) * gamma1[i] * moving.first(centred, x1[i]);
                    }
                }
            }
        });
    });
}

/// Tangents through a softmax over rows of `classes`, for one lane: ṗ = p (ż − p·ż), and with `second` (z̈ and p̈)
/// p̈ = ṗ (ż − p·ż) + p (z̈ − ṗ·ż − p·z̈).
pub fn softmax<T: Real>(p: &[T], classes: usize, (z1, p1): (&[T], &mut [T]), mut second: Option<(&[T], &mut [T])>) {
    assert!(p.len() == z1.len() && p.len() == p1.len() && p.len().is_multiple_of(classes));
    let dot = |a: &[T], b: &[T]| a.iter().zip(b).fold(T::zero(), |sum, (a, b)| sum + *a * *b);
    for start in (0..p.len()).step_by(classes) {
        let at = start..start + classes;
        let (p, z1, p1) = (&p[at.clone()], &z1[at.clone()], &mut p1[at.clone()]);
        let mean = dot(p, z1);
        for ((p1, p), z1) in p1.iter_mut().zip(p).zip(z1) {
            *p1 = *p * (*z1 - mean);
        }
        let Some((z2, p2)) = &mut second else { continue };
        let (z2, p2) = (&z2[at.clone()], &mut p2[at]);
        let shift = dot(p1, z1) + dot(p, z2);
        for i in 0..classes {
            p2[i] = p1[i] * (z1[i] - mean) + p[i] * (z2[i] - shift);
        }
    }
}

/// Σ over rows of ȯᵀ H ȯ for the row loss of [`crate::loss::softmax_cross_entropy`] (smoothing does not bend it):
/// Σ p ȯ² − (Σ p ȯ)².
pub fn softmax_cross_entropy_bend<T: Real>(z: &[T], first: &[T], classes: usize) -> f64 {
    assert_eq!(z.len(), first.len());
    let row = |(z, first): (&[T], &[T])| {
        let most = z.iter().copied().fold(z[0], T::max);
        let (mut sum, mut mean, mut square) = (0.0, 0.0, 0.0);
        for (z, first) in z.iter().zip(first) {
            let (e, o) = ((*z - most).exp_fast().wide(), first.wide());
            sum += e;
            mean += e * o;
            square += e * o * o;
        }
        square / sum - (mean / sum).powi(2)
    };
    z.chunks_exact(classes).zip(first.chunks_exact(classes)).map(row).sum()
}

/// The same for [`crate::loss::mean_squared_error`]: 2 ȯ² / size.
pub fn mean_squared_error_bend<T: Real>(first: &[T], size: usize) -> f64 {
    first.iter().map(|o| 2.0 * o.wide() * o.wide()).sum::<f64>() / size as f64
}

/// The same for [`crate::loss::binary_cross_entropy`]: σ(z) (1 − σ(z)) ȯ² / size.
pub fn binary_cross_entropy_bend<T: Real>(z: &[T], first: &[T], size: usize) -> f64 {
    assert_eq!(z.len(), first.len());
    let each = |(z, o): (&T, &T)| {
        let p = sigmoid(*z).wide();
        p * (1.0 - p) * o.wide() * o.wide()
    };
    z.iter().zip(first).map(each).sum::<f64>() / size as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{loss, norm};

    const H: f64 = 1e-4;

    fn wave(count: usize, rate: f64) -> Vec<f64> {
        (0..count).map(|i| (i as f64 * rate + 0.3).sin()).collect()
    }

    /// x + h ẋ + ½ h² ẍ.
    fn moved(x: &[f64], x1: &[f64], x2: &[f64], h: f64) -> Vec<f64> {
        x.iter().zip(x1).zip(x2).map(|((x, a), b)| x + h * a + 0.5 * h * h * b).collect()
    }

    /// Compares ẏ and ÿ with central differences of y along the curve.
    fn check(name: &str, y: impl Fn(f64) -> Vec<f64>, first: &[f64], second: &[f64]) {
        let (up, middle, down) = (y(H), y(0.0), y(-H));
        for i in 0..middle.len() {
            let slope = (up[i] - down[i]) / (2.0 * H);
            let bend = (up[i] - 2.0 * middle[i] + down[i]) / (H * H);
            assert!((first[i] - slope).abs() < 1e-7, "{name} first {i}: {} against {slope}", first[i]);
            assert!((second[i] - bend).abs() < 2e-6, "{name} second {i}: {} against {bend}", second[i]);
        }
    }

    #[test]
    fn activations_agree_with_finite_differences() {
        use Activation::*;
        let (z, z1, z2) = (wave(9, 1.7), wave(9, 0.9), wave(9, 2.3));
        for f in [Identity, Relu, LeakyRelu(0.1), Tanh, Sigmoid, Gelu] {
            let value = |h: f64| {
                let mut y = moved(&z, &z1, &z2, h);
                f.apply(&mut y);
                y
            };
            let y = value(0.0);
            let (mut first, mut second) = (z1.clone(), z2.clone());
            activation_second(f, &z, &y, &mut first, &mut second);
            check(&format!("{f:?}"), value, &first, &second);
            let mut lanes = [z1.clone(), z1.iter().map(|v| 2.0 * v).collect()].concat();
            activation(Par::SEQUENTIAL, f, &z, &y, &mut lanes);
            for i in 0..9 {
                assert!((lanes[i] - first[i]).abs() < 1e-14 && (lanes[9 + i] - 2.0 * first[i]).abs() < 1e-14);
            }
        }
    }

    #[test]
    fn layer_norm_agrees_with_finite_differences() {
        let (rows, size) = (3, 5);
        let (x, x1, x2) = (wave(15, 1.7), wave(15, 0.9), wave(15, 2.3));
        let (gamma, beta, gamma1, beta1) = (wave(5, 0.4), wave(5, 3.1), wave(5, 1.1), wave(5, 2.7));
        let still = vec![0.0; size];
        for moving in [false, true] {
            let mut saved = vec![0.0; 2 * rows];
            let value = |h: f64, saved: &mut [f64]| {
                let mut y = vec![0.0; 15];
                let h2 = if moving { h } else { 0.0 };
                let (gamma, beta) = (moved(&gamma, &gamma1, &still, h2), moved(&beta, &beta1, &still, h2));
                norm::layer_norm(Par::SEQUENTIAL, &moved(&x, &x1, &x2, h), &gamma, &beta, 1e-2, &mut y, saved);
                y
            };
            value(0.0, &mut saved);
            let affine = Affine { gamma: &gamma, moving: moving.then_some((&gamma1[..], &beta1[..])) };
            let (mut y1, mut y2) = (vec![0.0; 15], vec![0.0; 15]);
            layer_norm(Par::SEQUENTIAL, &x, &saved, affine, (&x1, &mut y1), Some((&x2, &mut y2)));
            check("layer norm", |h| value(h, &mut [0.0; 6]), &y1, &y2);
            let mut alone = vec![0.0; 15];
            layer_norm(Par::SEQUENTIAL, &x, &saved, affine, (&x1, &mut alone), None);
            assert_eq!(alone, y1);
        }
    }

    #[test]
    fn softmax_agrees_with_finite_differences() {
        let (z, z1, z2) = (wave(6, 1.7), wave(6, 0.9), wave(6, 2.3));
        let value = |h: f64| {
            let mut p = moved(&z, &z1, &z2, h);
            loss::softmax(&mut p, 3);
            p
        };
        let (mut p1, mut p2) = (vec![0.0; 6], vec![0.0; 6]);
        softmax(&value(0.0), 3, (&z1, &mut p1), Some((&z2, &mut p2)));
        check("softmax", value, &p1, &p2);
    }

    #[test]
    fn losses_agree_with_finite_differences() {
        let (z, z1, z2) = (wave(6, 1.7), wave(6, 0.9), wave(6, 2.3));
        let targets = [0.0, 1.0, 0.3, 1.0, 0.0, 0.5];
        type Loss<'a> = &'a dyn Fn(&[f64], &mut [f64], Option<&mut [f64]>);
        let par = Par::SEQUENTIAL;
        let cases: [(&str, Loss, f64); 3] = [
            (
                "softmax cross-entropy",
                &|z, l, g| loss::softmax_cross_entropy(par, z, &[2, 0], 3, 0.1, 0.5, l, g),
                softmax_cross_entropy_bend(&z, &z1, 3),
            ),
            (
                "squared error",
                &|z, l, g| loss::mean_squared_error(par, z, &targets, 3, 0.5, l, g),
                mean_squared_error_bend(&z1, 3),
            ),
            (
                "binary cross-entropy",
                &|z, l, g| loss::binary_cross_entropy(par, z, &targets, 3, 0.2, 0.5, l, g),
                binary_cross_entropy_bend(&z, &z1, 3),
            ),
        ];
        for (name, loss, bend) in cases {
            let value = |h: f64| {
                let mut losses = [0.0; 2];
                loss(&moved(&z, &z1, &z2, h), &mut losses, None);
                vec![(losses[0] + losses[1]) / 2.0]
            };
            let mut e = [0.0; 6];
            loss(&z, &mut [0.0; 2], Some(&mut e));
            let first: f64 = e.iter().zip(&z1).map(|(e, o)| e * o).sum();
            let second: f64 = e.iter().zip(&z2).map(|(e, o)| e * o).sum::<f64>() + bend / 2.0;
            check(name, value, &[first], &[second]);
        }
    }
}
