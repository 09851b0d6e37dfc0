//! Group normalisation (Wu, He 2018) of NHWC images: each group of channels of each image to mean 0 and variance 1 over
//! its pixels, then scale and shift of each channel.

use crate::isa::vectorize;
use crate::par::{Par, Shared};
use crate::real::Real;
use std::ops::Range;

/// Rough cost of one element.
const OPERATIONS: usize = 10;

/// Elements of scratch memory for both passes.
pub fn scratch_elements(images: usize, channels: usize) -> usize {
    2 * images * channels
}

/// y = (x − mean) / √(variance + ε) · gamma + beta, statistics of each image's groups. `saved` receives mean and
/// 1/√(variance + ε) of each group of each image.
#[allow(clippy::too_many_arguments)] // The usual signature of a normalisation.
pub fn group_norm<T: Real>(
    par: Par,
    images: usize,
    groups: usize,
    x: &[T],
    (gamma, beta): (&[T], &[T]),
    epsilon: T,
    y: &mut [T],
    saved: &mut [T],
    scratch: &mut [T],
) {
    let channels = gamma.len();
    let (of_image, members) = sizes(images, groups, channels, x.len());
    assert!(beta.len() == channels && y.len() == x.len() && saved.len() == 2 * images * groups);
    let (saved, scratch) = (Shared::new(saved), Shared::new(scratch));
    let count = T::of((of_image / groups) as f64);
    par.for_work(x.len() * OPERATIONS).chunks_mut(y, of_image, |first, y| {
        let image = first / of_image;
        // SAFETY: each image has its own parts.
        let (saved, sums) = unsafe { (own(&saved, image, 2 * groups), own(&scratch, image, 2 * channels)) };
        let (sums, means) = sums.split_at_mut(channels);
        let x = &x[first..first + of_image];
        vectorize(
            #[inline(always)]
            || {
                sums.fill(T::zero());
                for pixel in x.chunks_exact(channels) {
                    for (sum, x) in sums.iter_mut().zip(pixel) {
                        *sum += *x;
                    }
                }
                for (group, saved) in saved.chunks_exact_mut(2).enumerate() {
                    let range = group * members..(group + 1) * members;
                    saved[0] = total(&sums[range.clone()]) / count;
                    means[range].fill(saved[0]);
                }
                sums.fill(T::zero());
                for pixel in x.chunks_exact(channels) {
                    for ((sum, x), mean) in sums.iter_mut().zip(pixel).zip(means.iter()) {
                        *sum += (*x - *mean) * (*x - *mean);
                    }
                }
                for (group, saved) in saved.chunks_exact_mut(2).enumerate() {
                    let range = group * members..(group + 1) * members;
                    saved[1] = T::one() / (total(&sums[range.clone()]) / count + epsilon).sqrt();
                    for (scale, gamma) in sums[range.clone()].iter_mut().zip(&gamma[range]) {
                        *scale = saved[1] * *gamma;
                    }
                }
                for (y, x) in y.chunks_exact_mut(channels).zip(x.chunks_exact(channels)) {
                    for ((((y, x), mean), scale), beta) in
                        y.iter_mut().zip(x).zip(means.iter()).zip(sums.iter()).zip(beta)
                    {
                        *y = (*x - *mean) * *scale + *beta;
                    }
                }
            },
        );
    });
}

/// gx, and the gradients of gamma and beta (overwritten), from gy and what [`group_norm`] saved.
#[allow(clippy::too_many_arguments)] // The usual signature of a normalisation's backward pass.
pub fn group_norm_backward<T: Real>(
    par: Par,
    images: usize,
    groups: usize,
    x: &[T],
    gamma: &[T],
    saved: &[T],
    gy: &[T],
    gx: &mut [T],
    (gamma_gradient, beta_gradient): (&mut [T], &mut [T]),
    scratch: &mut [T],
) {
    let channels = gamma.len();
    let (of_image, members) = sizes(images, groups, channels, x.len());
    assert!(gy.len() == x.len() && gx.len() == x.len() && saved.len() == 2 * images * groups);
    assert!(gamma_gradient.len() == channels && beta_gradient.len() == channels);
    let scratch = &mut scratch[..2 * images * channels];
    let shared = Shared::new(&mut *scratch);
    let count = T::of((of_image / groups) as f64);
    par.for_work(x.len() * OPERATIONS).chunks_mut(gx, of_image, |first, gx| {
        let image = first / of_image;
        // SAFETY: each image has its own part.
        let sums = unsafe { own(&shared, image, 2 * channels) };
        let (plain, weighted) = sums.split_at_mut(channels);
        let (x, gy) = (&x[first..first + of_image], &gy[first..first + of_image]);
        vectorize(
            #[inline(always)]
            || {
                plain.fill(T::zero());
                weighted.fill(T::zero());
                for group in 0..groups {
                    let [mean, scale] = [saved[2 * (image * groups + group)], saved[2 * (image * groups + group) + 1]];
                    let range = group * members..(group + 1) * members;
                    for (x, g) in x.chunks_exact(channels).zip(gy.chunks_exact(channels)) {
                        let sums = plain[range.clone()].iter_mut().zip(&mut weighted[range.clone()]);
                        for ((plain, weighted), (x, g)) in sums.zip(x[range.clone()].iter().zip(&g[range.clone()])) {
                            *plain += *g;
                            *weighted += *g * (*x - mean) * scale;
                        }
                    }
                    let inner = |sums: &[T], range: Range<usize>| {
                        sums[range.clone()]
                            .iter()
                            .zip(&gamma[range])
                            .fold(T::zero(), |sum, (s, gamma)| sum + *s * *gamma)
                    };
                    let (sum, product) = (inner(plain, range.clone()) / count, inner(weighted, range.clone()) / count);
                    for (gx, (x, g)) in
                        gx.chunks_exact_mut(channels).zip(x.chunks_exact(channels).zip(gy.chunks_exact(channels)))
                    {
                        let values = x[range.clone()].iter().zip(&g[range.clone()]).zip(&gamma[range.clone()]);
                        for (gx, ((x, g), gamma)) in gx[range.clone()].iter_mut().zip(values) {
                            *gx = scale * (*g * *gamma - sum - (*x - mean) * scale * product);
                        }
                    }
                }
            },
        );
    });
    beta_gradient.fill(T::zero());
    gamma_gradient.fill(T::zero());
    for sums in scratch.chunks_exact(2 * channels) {
        let gradients = beta_gradient.iter_mut().zip(gamma_gradient.iter_mut());
        for ((beta, gamma), (plain, weighted)) in gradients.zip(sums[..channels].iter().zip(&sums[channels..])) {
            *beta += *plain;
            *gamma += *weighted;
        }
    }
}

/// Elements of an image and channels of a group.
fn sizes(images: usize, groups: usize, channels: usize, elements: usize) -> (usize, usize) {
    assert!(
        images > 0 && groups > 0 && channels > 0 && channels.is_multiple_of(groups),
        "{channels} in {groups} groups"
    );
    assert!(elements > 0 && elements.is_multiple_of(images * channels));
    (elements / images, channels / groups)
}

#[inline(always)]
fn total<T: Real>(values: &[T]) -> T {
    values.iter().fold(T::zero(), |sum, v| sum + *v)
}

/// The `index`-th part of `size` elements.
///
/// # Safety
/// As [`Shared::slice`].
unsafe fn own<'a, T>(shared: &Shared<'a, T>, index: usize, size: usize) -> &'a mut [T] {
    // SAFETY: the caller's promise.
    unsafe { shared.slice(index * size..(index + 1) * size) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Philox, Purpose};

    fn numbers<T: Real>(n: usize, seed: u64) -> Vec<T> {
        let rng = Philox::new(seed, Purpose::Initialise);
        (0..n).map(|i| T::of(rng.uniform(i as u64, [0, 0]) * 3.0 - 1.0)).collect()
    }

    /// The definition, group by group.
    fn definition(images: usize, groups: usize, x: &[f64], gamma: &[f64], beta: &[f64]) -> Vec<f64> {
        let (channels, of_image) = (gamma.len(), x.len() / images);
        let group_of = |i: usize| (i / of_image, i % channels / (channels / groups));
        let moment = |which, of: &dyn Fn(f64) -> f64| {
            let all = x.iter().enumerate().filter(|(i, _)| group_of(*i) == which);
            all.map(|(_, x)| of(*x)).sum::<f64>() / (of_image / groups) as f64
        };
        let value = |(i, value): (usize, &f64)| {
            let mean = moment(group_of(i), &|x| x);
            let variance = moment(group_of(i), &|x| (x - mean).powi(2));
            (value - mean) / (variance + 1e-5).sqrt() * gamma[i % channels] + beta[i % channels]
        };
        x.iter().enumerate().map(value).collect()
    }

    fn run<T: Real>(par: Par, images: usize, groups: usize, parts: &[Vec<T>; 3], gy: &[T]) -> [Vec<T>; 4] {
        let [x, gamma, beta] = parts;
        let (mut y, mut saved) = (vec![T::nan(); x.len()], vec![T::nan(); 2 * images * groups]);
        let mut scratch = vec![T::nan(); scratch_elements(images, gamma.len())];
        group_norm(par, images, groups, x, (gamma, beta), T::of(1e-5), &mut y, &mut saved, &mut scratch);
        let (mut gx, mut dgamma, mut dbeta) = (y.clone(), gamma.clone(), beta.clone());
        let params = (&mut dgamma[..], &mut dbeta[..]);
        group_norm_backward(par, images, groups, x, gamma, &saved, gy, &mut gx, params, &mut scratch);
        [y, gx, dgamma, dbeta]
    }

    #[test]
    fn group_norm_follows_the_definition_and_finite_differences() {
        for (images, pixels, channels, groups) in [(1, 1, 4, 2), (2, 3, 6, 3), (2, 4, 5, 1), (1, 5, 3, 3)] {
            let size = images * pixels * channels;
            let parts = [numbers::<f64>(size, 1), numbers(channels, 2), numbers(channels, 3)];
            let gy: Vec<f64> = numbers(size, 4);
            let [y, gx, dgamma, dbeta] = run(Par::SEQUENTIAL, images, groups, &parts, &gy);
            let expected = definition(images, groups, &parts[0], &parts[1], &parts[2]);
            assert!(y.iter().zip(&expected).all(|(y, e)| (y - e).abs() < 1e-12));
            for (which, found) in [gx, dgamma, dbeta].iter().enumerate() {
                for (i, f) in found.iter().enumerate() {
                    let at = |h: f64| {
                        let mut moved = parts.clone();
                        moved[which][i] += h;
                        let y = definition(images, groups, &moved[0], &moved[1], &moved[2]);
                        y.iter().zip(&gy).map(|(y, g)| y * g).sum::<f64>()
                    };
                    let slope = (at(1e-6) - at(-1e-6)) / 2e-6;
                    assert!((f - slope).abs() < 1e-6, "part {which} element {i}: {f} against {slope}");
                }
            }
        }
    }

    #[test]
    fn group_norm_gives_the_same_bits_for_any_number_of_threads() {
        let (images, pixels, channels, groups) = (7, 1000, 64, 8);
        let size = images * pixels * channels;
        let parts = [numbers::<f32>(size, 1), numbers(channels, 2), numbers(channels, 3)];
        let gy: Vec<f32> = numbers(size, 4);
        let with = |threads: usize| crate::team::in_crew(threads, |par| run(par, images, groups, &parts, &gy));
        let one = with(1);
        assert!(with(2) == one && with(3) == one);
        let wide = parts.each_ref().map(|part| part.iter().map(|v| v.wide()).collect::<Vec<f64>>());
        let wide_gy: Vec<f64> = gy.iter().map(|v| v.wide()).collect();
        let exact = run(Par::SEQUENTIAL, images, groups, &wide, &wide_gy);
        for (found, exact) in one[..2].iter().zip(&exact) {
            assert!(found.iter().zip(exact).all(|(f, e)| (f.wide() - e).abs() < 2e-5));
        }
    }
}
