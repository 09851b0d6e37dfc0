//! Dropout (Srivastava et al. 2014) and its form for images, which drops whole channels.
//!
//! Whether an element is kept is a function of (seed, epoch, sample, layer, element): no mask is stored, the backward
//! pass multiplies by the same mask again, and neither threads nor a resumed run can change it.

use crate::isa::vectorize;
use crate::par::Par;
use crate::real::Real;
use crate::rng::Philox;

/// Random words made together: 16 blocks of the generator.
const WORDS: usize = 64;

/// Rough cost of one random element.
const OPERATIONS: usize = 30;

/// Where a mask is applied.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// The stream of the run's seed for [`crate::rng::Purpose::Dropout`].
    pub rng: Philox,
    /// The epoch.
    pub epoch: u32,
    /// The number of the layer.
    pub layer: u32,
}

impl Place {
    /// `WORDS` random words of one sample, from element `first` (a multiple of 4) on.
    #[inline(always)]
    fn words(&self, sample: u32, first: u32) -> [u32; WORDS] {
        let mut parts = [[0; WORDS / 4]; 4];
        for block in 0..WORDS / 4 {
            let four = self.rng.block([(first >> 2) + block as u32, self.epoch, sample, self.layer]);
            for (part, word) in parts.iter_mut().zip(four) {
                part[block] = word;
            }
        }
        let mut words = [0; WORDS];
        for (index, word) in words.iter_mut().enumerate() {
            *word = parts[index % 4][index / 4];
        }
        words
    }
}

/// A word below this is dropped.
fn threshold(rate: f64) -> u32 {
    assert!((0.0..1.0).contains(&rate), "a dropout rate is at least 0 and below 1, not {rate}");
    (rate * 4_294_967_296.0) as u32
}

/// Zeroes elements with probability `rate` and divides the others by 1 − `rate`, in place; rows of `values` belong to
/// `samples`. The gradient takes the same call.
pub fn dropout<T: Real>(par: Par, place: Place, samples: &[u32], rate: f64, values: &mut [T]) {
    channels(par, place, samples, 1, rate, values);
}

/// As [`dropout`], for whole channels of NHWC images with `pixels` pixels.
pub fn channels<T: Real>(par: Par, place: Place, samples: &[u32], pixels: usize, rate: f64, values: &mut [T]) {
    assert!(!samples.is_empty() && values.len().is_multiple_of(samples.len() * pixels));
    let (below, scale) = (threshold(rate), T::of(1.0 / (1.0 - rate)));
    let of_sample = values.len() / samples.len();
    let columns = of_sample / pixels;
    let work = samples.len() * (columns * OPERATIONS + of_sample);
    par.for_work(work).chunks_mut(values, of_sample, |at, values| {
        let sample = samples[at / of_sample.max(1)];
        vectorize(
            #[inline(always)]
            || {
                for first in (0..columns).step_by(WORDS) {
                    let words = place.words(sample, first as u32);
                    let count = WORDS.min(columns - first);
                    for pixel in values.chunks_exact_mut(columns) {
                        for (value, word) in pixel[first..first + count].iter_mut().zip(&words) {
                            *value = if *word < below { T::zero() } else { *value * scale };
                        }
                    }
                }
            },
        );
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Purpose;

    const SAMPLES: [u32; 3] = [5, 70_000, 5];

    fn place(epoch: u32, layer: u32) -> Place {
        Place { rng: Philox::new(1, Purpose::Dropout), epoch, layer }
    }

    fn mask(par: Par, place: Place, pixels: usize, columns: usize, rate: f64) -> Vec<f32> {
        let mut values = vec![1.0; SAMPLES.len() * pixels * columns];
        channels(par, place, &SAMPLES, pixels, rate, &mut values);
        values
    }

    #[test]
    fn dropout_follows_the_generator_element_by_element() {
        for columns in [1, 4, 63, 64, 130] {
            for pixels in [1, 3] {
                let found = mask(Par::SEQUENTIAL, place(2, 7), pixels, columns, 0.25);
                for (i, value) in found.iter().enumerate() {
                    let (sample, channel) = (SAMPLES[i / columns / pixels], i % columns);
                    let word = place(2, 7).rng.word(channel as u32, [2, sample, 7]);
                    let kept = f64::from(word) / 4_294_967_296.0 >= 0.25;
                    assert_eq!(*value, if kept { 1.0 / 0.75 } else { 0.0 }, "element {i} of {pixels} × {columns}");
                }
            }
        }
    }

    #[test]
    fn dropout_drops_the_rate_and_keeps_the_mean() {
        let mut values = vec![1.0; 200_000];
        dropout(Par::SEQUENTIAL, place(0, 0), &[1, 2], 0.3, &mut values);
        let dropped = values.iter().filter(|v| **v == 0.0).count() as f64 / values.len() as f64;
        let mean: f64 = values.iter().sum::<f64>() / values.len() as f64;
        assert!((dropped - 0.3).abs() < 0.005 && (mean - 1.0).abs() < 0.005, "{dropped} dropped, mean {mean}");
        let before = values.clone();
        dropout(Par::SEQUENTIAL, place(0, 0), &[1, 2], 0.0, &mut values);
        assert_eq!(values, before);
    }

    #[test]
    fn masks_depend_on_epoch_sample_and_layer_and_not_on_threads() {
        let one = mask(Par::SEQUENTIAL, place(1, 1), 1, 200_000, 0.5);
        assert_eq!(one[..200_000], one[400_000..], "the same sample twice");
        assert_ne!(one[..200_000], one[200_000..400_000], "two samples");
        for other in [place(2, 1), place(1, 2)] {
            assert_ne!(one, mask(Par::SEQUENTIAL, other, 1, 200_000, 0.5));
        }
        for threads in [2, 3] {
            assert!(crate::team::in_crew(threads, |par| mask(par, place(1, 1), 1, 200_000, 0.5)) == one);
        }
    }
}
