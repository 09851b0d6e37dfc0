//! Tangents through normalisations: mean and scale move with the values that are normalised together.

use crate::isa::vectorize;
use crate::par::{self, Par, Shared};
use crate::real::Real;

/// Rough cost of one element.
const OPERATIONS: usize = 20;

/// Rows that one task of layer normalisation handles.
const ROW_BLOCK: usize = 32;

/// Channels that one task of batch normalisation handles.
const CHANNEL_BLOCK: usize = 16;

/// The sums that decide how the scale of a normalisation moves: over the elements that are normalised together.
#[derive(Clone, Copy, Debug, Default)]
struct Moments<T> {
    /// Σ ẋ.
    first: T,
    /// Σ (x − mean) ẋ.
    inner: T,
    /// Σ ẋ².
    square: T,
    /// Σ ẍ.
    second: T,
    /// Σ (x − mean) ẍ.
    second_inner: T,
}

impl<T: Real> Moments<T> {
    /// Adds an element: x − mean, ẋ, ẍ.
    #[inline(always)]
    fn add(&mut self, centred: T, first: T, second: T) {
        self.first += first;
        self.inner += centred * first;
        self.square += first * first;
        self.second += second;
        self.second_inner += centred * second;
    }

    /// How the normalised value moves, for `count` elements and u = 1 / √(variance + ε).
    fn finish(self, count: usize, u: T) -> Moving<T> {
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
struct Moving<T> {
    mean1: T,
    mean2: T,
    u: T,
    u1: T,
    u2: T,
}

impl<T: Real> Moving<T> {
    /// Of statistics that do not move, as batch normalisation has them in evaluation.
    fn still(u: T) -> Moving<T> {
        Moving { mean1: T::zero(), mean2: T::zero(), u, u1: T::zero(), u2: T::zero() }
    }

    /// First tangent of (x − mean) u.
    #[inline(always)]
    fn first(&self, centred: T, first: T) -> T {
        (first - self.mean1) * self.u + centred * self.u1
    }

    /// Second tangent of (x − mean) u.
    #[inline(always)]
    fn second(&self, centred: T, first: T, second: T) -> T {
        (second - self.mean2) * self.u + T::of(2.0) * (first - self.mean1) * self.u1 + centred * self.u2
    }
}

impl Moving<f64> {
    /// In the precision of the values.
    fn round<T: Real>(self) -> Moving<T> {
        let Moving { mean1, mean2, u, u1, u2 } = self;
        Moving { mean1: T::of(mean1), mean2: T::of(mean2), u: T::of(u), u1: T::of(u1), u2: T::of(u2) }
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

/// The affine part of one channel and how it moves.
#[derive(Clone, Copy)]
struct Channel<T> {
    gamma: T,
    gamma1: T,
    beta1: T,
}

impl<T: Real> Affine<'_, T> {
    #[inline(always)]
    fn channel(&self, at: usize) -> Channel<T> {
        let (gamma1, beta1) = self.moving.map_or((T::zero(), T::zero()), |(gamma, beta)| (gamma[at], beta[at]));
        Channel { gamma: self.gamma[at], gamma1, beta1 }
    }
}

impl<T: Real> Channel<T> {
    /// ẏ of one element.
    #[inline(always)]
    fn first(self, moving: &Moving<T>, centred: T, first: T) -> T {
        self.gamma * moving.first(centred, first) + self.gamma1 * centred * moving.u + self.beta1
    }

    /// ÿ of one element.
    #[inline(always)]
    fn second(self, moving: &Moving<T>, centred: T, first: T, second: T) -> T {
        let normalised = moving.first(centred, first);
        self.gamma * moving.second(centred, first, second) + T::of(2.0) * self.gamma1 * normalised
    }
}

/// Tangents through group normalisation of NHWC images, for one lane. `saved` holds mean and 1/√(variance + ε) of each group of
/// each image, as [`crate::group_norm::group_norm`] left them; `second` are ẍ and ÿ.
#[allow(clippy::too_many_arguments)] // As layer normalisation, and the groups.
pub fn group_norm<T: Real>(
    par: Par,
    images: usize,
    groups: usize,
    x: &[T],
    saved: &[T],
    affine: Affine<T>,
    (x1, y1): (&[T], &mut [T]),
    second: Option<(&[T], &mut [T])>,
) {
    let channels = affine.gamma.len();
    assert!(images > 0 && groups > 0 && channels.is_multiple_of(groups) && x.len().is_multiple_of(images * channels));
    assert!(x1.len() == x.len() && y1.len() == x.len() && saved.len() == 2 * images * groups);
    let (of_image, members) = (x.len() / images, channels / groups);
    let (x2, y2) = second.map_or((None, None), |(x2, y2)| (Some(x2), Some(Shared::new(y2))));
    let y1 = Shared::new(y1);
    par.for_work(x.len() * OPERATIONS).each(images, |image| {
        let at = image * of_image..(image + 1) * of_image;
        let (x, x1, x2) = (&x[at.clone()], &x1[at.clone()], x2.map(|x2| &x2[at.clone()]));
        // SAFETY: images are disjoint.
        let (y1, y2) = unsafe { (y1.slice(at.clone()), y2.as_ref().map(|y2| y2.slice(at))) };
        let mut y2 = y2;
        for group in 0..groups {
            let [mean, u] = [0, 1].map(|which| saved[2 * (image * groups + group) + which]);
            let own = group * members..(group + 1) * members;
            let elements = || (0..x.len()).step_by(channels).flat_map(|pixel| own.clone().map(move |c| (pixel + c, c)));
            let two = |i: usize| x2.map_or(T::zero(), |x2| x2[i]);
            let mut moments = Moments::<f64>::default();
            for (i, _) in elements() {
                moments.add((x[i] - mean).wide(), x1[i].wide(), two(i).wide());
            }
            let moving = moments.finish(of_image / groups, u.wide()).round::<T>();
            for (i, channel) in elements() {
                let (channel, centred) = (affine.channel(channel), x[i] - mean);
                y1[i] = channel.first(&moving, centred, x1[i]);
                if let Some(y2) = &mut y2 {
                    y2[i] = channel.second(&moving, centred, x1[i], two(i));
                }
            }
        }
    });
}

/// What tangents through batch normalisation need of the forward pass.
#[derive(Clone, Copy)]
pub struct BatchNorm<'a, T> {
    /// Inputs, rows × channels; a row is a pixel.
    pub x: &'a [T],
    /// Means of the channels, then 1/√(variance + ε).
    pub saved: &'a [T],
    /// Whether these are functions of the batch, as in training, or given numbers.
    pub of_batch: bool,
    /// The outputs, where a ReLU followed in the same pass.
    pub rectified: Option<&'a [T]>,
}

/// Tangents through batch normalisation, for one lane; `second` are ẍ and ÿ.
pub fn batch_norm<T: Real>(
    par: Par,
    forward: BatchNorm<T>,
    affine: Affine<T>,
    (x1, y1): (&[T], &mut [T]),
    second: Option<(&[T], &mut [T])>,
) {
    let BatchNorm { x, saved, of_batch, rectified } = forward;
    let channels = affine.gamma.len();
    assert!(x1.len() == x.len() && y1.len() == x.len() && saved.len() == 2 * channels);
    let rows = x.len() / channels;
    let (means, inverses) = saved.split_at(channels);
    let (x2, y2) = second.map_or((None, None), |(x2, y2)| (Some(x2), Some(Shared::new(y2))));
    let y1 = Shared::new(y1);
    par.for_work(x.len() * OPERATIONS).each(channels.div_ceil(CHANNEL_BLOCK), |index| {
        let own = par::block(index, channels, CHANNEL_BLOCK);
        let two = |i: usize| x2.map_or(T::zero(), |x2| x2[i]);
        let mut moments = [Moments::<f64>::default(); CHANNEL_BLOCK];
        for row in (0..if of_batch { x.len() } else { 0 }).step_by(channels) {
            for (moments, channel) in moments.iter_mut().zip(own.clone()) {
                let i = row + channel;
                moments.add((x[i] - means[channel]).wide(), x1[i].wide(), two(i).wide());
            }
        }
        let mut moving = [Moving::still(T::zero()); CHANNEL_BLOCK];
        for ((moving, moments), channel) in moving.iter_mut().zip(moments).zip(own.clone()) {
            let u = inverses[channel];
            *moving = if of_batch { moments.finish(rows, u.wide()).round() } else { Moving::still(u) };
        }
        for row in (0..x.len()).step_by(channels) {
            let at = row + own.start..row + own.end;
            // SAFETY: blocks of channels are disjoint.
            let (y1, mut y2) = unsafe { (y1.slice(at.clone()), y2.as_ref().map(|y2| y2.slice(at.clone()))) };
            for (place, (moving, number)) in moving.iter().zip(own.clone()).enumerate() {
                let (i, channel) = (at.start + place, affine.channel(number));
                let (centred, passes) = (x[i] - means[number], rectified.is_none_or(|y| y[i] > T::zero()));
                y1[place] = if passes { channel.first(moving, centred, x1[i]) } else { T::zero() };
                if let Some(y2) = &mut y2 {
                    y2[place] = if passes { channel.second(moving, centred, x1[i], two(i)) } else { T::zero() };
                }
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::super::tests::{check, moved, wave};
    use super::*;
    use crate::batch_norm::{self as bn, After, Running};
    use crate::{group_norm as gn, norm};

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
    fn group_norm_agrees_with_finite_differences() {
        let (images, channels, groups, pixels) = (2, 6, 3, 4);
        let count = images * pixels * channels;
        let (x, x1, x2) = (wave(count, 1.7), wave(count, 0.9), wave(count, 2.3));
        let (gamma, beta, gamma1, beta1) = (wave(6, 0.4), wave(6, 3.1), wave(6, 1.1), wave(6, 2.7));
        let still = vec![0.0; channels];
        for moving in [false, true] {
            let value = |h: f64, saved: &mut [f64]| {
                let mut y = vec![0.0; count];
                let h2 = if moving { h } else { 0.0 };
                let (gamma, beta) = (moved(&gamma, &gamma1, &still, h2), moved(&beta, &beta1, &still, h2));
                let mut scratch = vec![0.0; gn::scratch_elements(images, channels)];
                let x = moved(&x, &x1, &x2, h);
                gn::group_norm(Par::SEQUENTIAL, images, groups, &x, (&gamma, &beta), 1e-2, &mut y, saved, &mut scratch);
                y
            };
            let mut saved = vec![0.0; 2 * images * groups];
            value(0.0, &mut saved);
            let affine = Affine { gamma: &gamma, moving: moving.then_some((&gamma1[..], &beta1[..])) };
            let (mut y1, mut y2) = (vec![0.0; count], vec![0.0; count]);
            group_norm(Par::SEQUENTIAL, images, groups, &x, &saved, affine, (&x1, &mut y1), Some((&x2, &mut y2)));
            check("group norm", |h| value(h, &mut [0.0; 12]), &y1, &y2);
            let mut alone = vec![0.0; count];
            group_norm(Par::SEQUENTIAL, images, groups, &x, &saved, affine, (&x1, &mut alone), None);
            assert_eq!(alone, y1);
        }
    }

    #[test]
    fn batch_norm_agrees_with_finite_differences() {
        // More channels than one task takes, and a ReLU whose inputs stay away from 0.
        let (rows, channels) = (5, 19);
        let count = rows * channels;
        let (x, x1, x2) = (wave(count, 1.7), wave(count, 0.9), wave(count, 2.3));
        let (gamma, beta, gamma1, beta1) = (wave(19, 0.4), wave(19, 3.1), wave(19, 1.1), wave(19, 2.7));
        let still = vec![0.0; channels];
        for (of_batch, moving, relu) in
            [(true, false, false), (true, true, false), (true, true, true), (false, true, false), (false, true, true)]
        {
            let value = |h: f64, saved: &mut [f64]| {
                let mut y = vec![0.0; count];
                let h2 = if moving { h } else { 0.0 };
                let (gamma, beta) = (moved(&gamma, &gamma1, &still, h2), moved(&beta, &beta1, &still, h2));
                let mut scratch = vec![0.0; bn::scratch_elements(rows, channels)];
                let x = moved(&x, &x1, &x2, h);
                let after = if relu { After::Relu } else { After::Nothing };
                let (mut mean, mut variance) = (vec![0.2; channels], vec![0.7; channels]);
                let (par, scratch) = (Par::SEQUENTIAL, &mut scratch[..]);
                if of_batch {
                    let running = Running { mean: &mut mean, variance: &mut variance, momentum: 0.1 };
                    bn::train(par, &x, (&gamma, &beta), 1e-2, running, after, &mut y, saved, scratch);
                } else {
                    bn::eval(par, &x, (&gamma, &beta), (&mean, &variance), 1e-2, after, &mut y, scratch);
                    saved[..channels].copy_from_slice(&mean);
                    saved[channels..].fill(1.0 / (0.7f64 + 1e-2).sqrt());
                }
                y
            };
            let mut saved = vec![0.0; 2 * channels];
            let y = value(0.0, &mut saved);
            let affine = Affine { gamma: &gamma, moving: moving.then_some((&gamma1[..], &beta1[..])) };
            let forward = BatchNorm { x: &x, saved: &saved, of_batch, rectified: relu.then_some(&y[..]) };
            let (mut y1, mut y2) = (vec![0.0; count], vec![0.0; count]);
            batch_norm(Par::SEQUENTIAL, forward, affine, (&x1, &mut y1), Some((&x2, &mut y2)));
            check("batch norm", |h| value(h, &mut [0.0; 38]), &y1, &y2);
            let mut alone = vec![0.0; count];
            batch_norm(Par::SEQUENTIAL, forward, affine, (&x1, &mut alone), None);
            assert_eq!(alone, y1);
        }
    }

    #[test]
    fn any_number_of_threads_gives_the_same_bits() {
        let (images, channels, groups, pixels) = (7, 48, 4, 100);
        let count = images * pixels * channels;
        let numbers = |rate: f64| wave(count, rate).iter().map(|value| *value as f32).collect::<Vec<_>>();
        let (x, x1, x2) = (numbers(1.7), numbers(0.9), numbers(2.3));
        let (gamma, beta) = (vec![0.7f32; channels], vec![0.1f32; channels]);
        let run = |threads: usize| {
            let mut out = vec![vec![0.0f32; count]; 4];
            let [a, b, c, d] = &mut out[..] else { unreachable!("four") };
            let affine = Affine { gamma: &gamma, moving: Some((&gamma, &beta)) };
            let (of_groups, of_batch) = (vec![0.3; 2 * images * groups], vec![0.3; 2 * channels]);
            let forward = BatchNorm { x: &x, saved: &of_batch, of_batch: true, rectified: None };
            crate::team::in_crew(threads, |par| {
                group_norm(par, images, groups, &x, &of_groups, affine, (&x1, a), Some((&x2, b)));
                batch_norm(par, forward, affine, (&x1, c), Some((&x2, d)));
            });
            out
        };
        let one = run(1);
        assert!(run(2) == one && run(3) == one);
    }
}
