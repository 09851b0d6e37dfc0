//! Pooling of NHWC images: the maximum or the mean under a window, and the mean of whole images.

use crate::isa::vectorize;
use crate::par::{self, Par};
use crate::real::Real;
use std::ops::Range;

/// Channels handled together.
const LANES: usize = 32;

/// Result rows that one task computes.
const ROW_BLOCK: usize = 4;

/// Sizes of a pooling of NHWC images; pairs are (vertical, horizontal).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Rows of an image.
    pub height: usize,
    /// Columns of an image.
    pub width: usize,
    /// Channels.
    pub channels: usize,
    /// Size of the window.
    pub size: [usize; 2],
    /// Distance between neighbouring windows.
    pub stride: [usize; 2],
    /// Rows and columns around the image: never the maximum, zeros for the mean (which divides by the whole window, as
    /// PyTorch does unless told otherwise).
    pub padding: [usize; 2],
}

impl Window {
    /// What is wrong with the sizes, as "expected … but found …"; the caller names the layer.
    pub fn check(&self) -> Result<(), String> {
        let of = |[a, b]: [usize; 2]| format!("{a}×{b}");
        let [size, stride, padding] = [self.size, self.stride, self.padding];
        if self.height == 0 || self.width == 0 || self.channels == 0 {
            let (height, width, channels) = (self.height, self.width, self.channels);
            return Err(format!("expected images with pixels and channels but found {height}×{width}×{channels}"));
        }
        if size.contains(&0) || size[0] * size[1] > usize::from(u8::MAX) {
            return Err(format!("expected a window of 1 to 255 pixels but found {}", of(size)));
        }
        if stride.contains(&0) {
            return Err(format!("expected a stride of at least 1×1 but found {}", of(stride)));
        }
        if padding[0] >= size[0] || padding[1] >= size[1] {
            return Err(format!("expected a padding smaller than the window ({}) but found {}", of(size), of(padding)));
        }
        let padded = [self.height + 2 * padding[0], self.width + 2 * padding[1]];
        if size[0] > padded[0] || size[1] > padded[1] {
            let padded = of(padded);
            return Err(format!("expected a window no larger than the padded image ({padded}) but found {}", of(size)));
        }
        Ok(())
    }

    /// Rows of a result image.
    pub fn out_height(&self) -> usize {
        (self.height + 2 * self.padding[0] - self.size[0]) / self.stride[0] + 1
    }

    /// Columns of a result image.
    pub fn out_width(&self) -> usize {
        (self.width + 2 * self.padding[1] - self.size[1]) / self.stride[1] + 1
    }

    /// Elements of a result image.
    pub fn outputs(&self) -> usize {
        self.out_height() * self.out_width() * self.channels
    }

    /// Elements of an image.
    pub fn inputs(&self) -> usize {
        self.height * self.width * self.channels
    }

    /// Window rows and columns that lie inside the image at result pixel (i, j).
    #[inline(always)]
    fn inside(&self, i: usize, j: usize) -> [Range<usize>; 2] {
        let side = |start: usize, padding: usize, image: usize, window: usize| {
            let from = padding.saturating_sub(start).min(window);
            from..(image + padding).saturating_sub(start).clamp(from, window)
        };
        [
            side(i * self.stride[0], self.padding[0], self.height, self.size[0]),
            side(j * self.stride[1], self.padding[1], self.width, self.size[1]),
        ]
    }

    /// First element of the image pixel at window cell (r, c) of result pixel (i, j).
    #[inline(always)]
    fn pixel(&self, [i, j]: [usize; 2], [r, c]: [usize; 2]) -> usize {
        let line = i * self.stride[0] + r - self.padding[0];
        (line * self.width + j * self.stride[1] + c - self.padding[1]) * self.channels
    }

    fn operations(&self, images: usize) -> usize {
        4 * images * self.outputs() * self.size[0] * self.size[1]
    }
}

/// Channels in blocks of [`LANES`].
#[inline(always)]
fn channel_blocks(channels: usize) -> impl Iterator<Item = Range<usize>> {
    par::blocks(channels, LANES)
}

/// y = the largest value under each window; `cells` receives which cell of the window it was, row after row.
/// Of equal values the first counts; NaN counts as largest.
pub fn max<T: Real>(par: Par, w: &Window, x: &[T], y: &mut [T], cells: &mut [u8]) {
    let images = x.len() / w.inputs();
    assert_eq!((x.len(), y.len(), cells.len()), (images * w.inputs(), images * w.outputs(), images * w.outputs()));
    let (channels, line) = (w.channels, w.out_width() * w.channels);
    let cells = par::Shared::new(cells);
    par.for_work(w.operations(images)).chunks_mut(y, ROW_BLOCK * line, |first, y| {
        // SAFETY: as the chunks of y, these are disjoint.
        let cells = unsafe { cells.slice(first..first + y.len()) };
        vectorize(
            #[inline(always)]
            || {
                for (number, (y, cells)) in
                    y.chunks_exact_mut(channels).zip(cells.chunks_exact_mut(channels)).enumerate()
                {
                    let row = (first + number * channels) / line;
                    let (image, i, j) = (row / w.out_height(), row % w.out_height(), number % w.out_width());
                    let x = &x[image * w.inputs()..(image + 1) * w.inputs()];
                    let [rows, columns] = w.inside(i, j);
                    for range in channel_blocks(channels) {
                        // Indices as wide as the values, so that both fill whole vectors.
                        let (mut best, mut cell) = ([T::neg_infinity(); LANES], [0u32; LANES]);
                        let start = (rows.start * w.size[1] + columns.start) as u32;
                        cell.fill(start);
                        for r in rows.clone() {
                            for c in columns.clone() {
                                let at = w.pixel([i, j], [r, c]);
                                let index = (r * w.size[1] + c) as u32;
                                let x = &x[at + range.start..at + range.end];
                                for ((best, cell), x) in best.iter_mut().zip(&mut cell).zip(x) {
                                    // A comparison with itself finds NaN.
                                    #[allow(clippy::eq_op)]
                                    let larger = (*x > *best) | (*x != *x);
                                    *best = if larger { *x } else { *best };
                                    *cell = if larger { index } else { *cell };
                                }
                            }
                        }
                        let count = range.len();
                        y[range.clone()].copy_from_slice(&best[..count]);
                        for (out, cell) in cells[range].iter_mut().zip(&cell) {
                            *out = *cell as u8;
                        }
                    }
                }
            },
        );
    });
}

/// y = x at the pixels that [`max`] chose: how tangents pass it.
pub fn max_tangent<T: Real>(par: Par, w: &Window, x: &[T], cells: &[u8], y: &mut [T]) {
    let images = x.len() / w.inputs();
    assert_eq!((x.len(), y.len(), cells.len()), (images * w.inputs(), images * w.outputs(), images * w.outputs()));
    let (channels, line) = (w.channels, w.out_width() * w.channels);
    par.for_work(8 * y.len()).chunks_mut(y, ROW_BLOCK * line, |first, y| {
        let cells = &cells[first..first + y.len()];
        for (number, (y, cells)) in y.chunks_exact_mut(channels).zip(cells.chunks_exact(channels)).enumerate() {
            let row = (first + number * channels) / line;
            let (image, i, j) = (row / w.out_height(), row % w.out_height(), number % w.out_width());
            let x = &x[image * w.inputs()..(image + 1) * w.inputs()];
            for (channel, (y, cell)) in y.iter_mut().zip(cells).enumerate() {
                let cell = usize::from(*cell);
                *y = x[w.pixel([i, j], [cell / w.size[1], cell % w.size[1]]) + channel];
            }
        }
    });
}

/// gx = gy at the pixels that [`max`] chose, added up where windows overlap.
pub fn max_backward<T: Real>(par: Par, w: &Window, gy: &[T], cells: &[u8], gx: &mut [T]) {
    let images = gx.len() / w.inputs();
    assert_eq!((gx.len(), gy.len(), cells.len()), (images * w.inputs(), images * w.outputs(), images * w.outputs()));
    spread(
        par,
        w,
        gx,
        #[inline(always)]
        |at, range, cell, gx| {
            let range = at + range.start..at + range.end;
            for ((gx, g), chosen) in gx.iter_mut().zip(&gy[range.clone()]).zip(&cells[range]) {
                *gx += if *chosen == cell { *g } else { T::zero() };
            }
        },
    );
}

/// Zeroes gx, then calls `add(first element of the result pixel, channels, cell, gx of one pixel)` for every result
/// pixel and every cell of its window, in order. Images are independent, so each is one task.
#[inline(always)]
fn spread<T: Real>(par: Par, w: &Window, gx: &mut [T], add: impl Fn(usize, Range<usize>, u8, &mut [T]) + Sync) {
    let (channels, outputs) = (w.channels, w.outputs());
    let images = gx.len() / w.inputs();
    par.for_work(w.operations(images)).chunks_mut(gx, w.inputs(), |first, gx| {
        let image = first / w.inputs();
        vectorize(
            #[inline(always)]
            || {
                gx.fill(T::zero());
                for i in 0..w.out_height() {
                    for j in 0..w.out_width() {
                        let from = image * outputs + (i * w.out_width() + j) * channels;
                        let [rows, columns] = w.inside(i, j);
                        for r in rows {
                            for c in columns.clone() {
                                let at = w.pixel([i, j], [r, c]);
                                let cell = (r * w.size[1] + c) as u8;
                                add(from, 0..channels, cell, &mut gx[at..at + channels]);
                            }
                        }
                    }
                }
            },
        );
    });
}

/// y = the mean under each window, padding counted as zeros.
pub fn average<T: Real>(par: Par, w: &Window, x: &[T], y: &mut [T]) {
    let images = x.len() / w.inputs();
    assert_eq!((x.len(), y.len()), (images * w.inputs(), images * w.outputs()));
    let (channels, line) = (w.channels, w.out_width() * w.channels);
    let share = T::of(1.0 / (w.size[0] * w.size[1]) as f64);
    par.for_work(w.operations(images)).chunks_mut(y, ROW_BLOCK * line, |first, y| {
        vectorize(
            #[inline(always)]
            || {
                for (number, y) in y.chunks_exact_mut(channels).enumerate() {
                    let row = (first + number * channels) / line;
                    let (image, i, j) = (row / w.out_height(), row % w.out_height(), number % w.out_width());
                    let x = &x[image * w.inputs()..(image + 1) * w.inputs()];
                    let [rows, columns] = w.inside(i, j);
                    for range in channel_blocks(channels) {
                        let mut sums = [T::zero(); LANES];
                        for r in rows.clone() {
                            for c in columns.clone() {
                                let at = w.pixel([i, j], [r, c]);
                                for (sum, x) in sums.iter_mut().zip(&x[at + range.start..at + range.end]) {
                                    *sum += *x;
                                }
                            }
                        }
                        for (y, sum) in y[range].iter_mut().zip(&sums) {
                            *y = *sum * share;
                        }
                    }
                }
            },
        );
    });
}

/// gx = gy / window, added up where windows overlap.
pub fn average_backward<T: Real>(par: Par, w: &Window, gy: &[T], gx: &mut [T]) {
    let images = gx.len() / w.inputs();
    assert_eq!((gx.len(), gy.len()), (images * w.inputs(), images * w.outputs()));
    let share = T::of(1.0 / (w.size[0] * w.size[1]) as f64);
    spread(
        par,
        w,
        gx,
        #[inline(always)]
        |at, range, _, gx| {
            for (gx, g) in gx.iter_mut().zip(&gy[at + range.start..at + range.end]) {
                *gx += *g * share;
            }
        },
    );
}

/// y = the mean over the pixels of each image: x is images × pixels × channels, y images × channels.
pub fn global_average<T: Real>(par: Par, pixels: usize, channels: usize, x: &[T], y: &mut [T]) {
    assert!(pixels > 0 && channels > 0 && x.len() == y.len() * pixels && y.len().is_multiple_of(channels));
    let share = T::of(1.0 / pixels as f64);
    par.for_work(x.len()).chunks_mut(y, channels, |first, y| {
        vectorize(
            #[inline(always)]
            || {
                y.fill(T::zero());
                for pixel in x[first * pixels..(first + channels) * pixels].chunks_exact(channels) {
                    for (y, x) in y.iter_mut().zip(pixel) {
                        *y += *x;
                    }
                }
                for y in y {
                    *y *= share;
                }
            },
        );
    });
}

/// gx = gy / pixels at every pixel.
pub fn global_average_backward<T: Real>(par: Par, pixels: usize, channels: usize, gy: &[T], gx: &mut [T]) {
    assert!(pixels > 0 && channels > 0 && gx.len() == gy.len() * pixels && gy.len().is_multiple_of(channels));
    let share = T::of(1.0 / pixels as f64);
    par.for_work(gx.len()).chunks_mut(gx, channels * pixels, |first, gx| {
        let gy = &gy[first / pixels..first / pixels + channels];
        vectorize(
            #[inline(always)]
            || {
                for pixel in gx.chunks_exact_mut(channels) {
                    for (gx, g) in pixel.iter_mut().zip(gy) {
                        *gx = *g * share;
                    }
                }
            },
        );
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Philox, Purpose};
    use proptest::prelude::*;

    fn numbers<T: Real>(n: usize, seed: u64) -> Vec<T> {
        let rng = Philox::new(seed, Purpose::Initialise);
        // Few different values: equal maxima occur.
        (0..n).map(|i| T::of(((rng.uniform(i as u64, [0, 0]) - 0.5) * 40.0).round() / 8.0)).collect()
    }

    /// All (result element, window cell, image element) of one image, in order.
    fn definition(w: &Window) -> Vec<(usize, usize, usize)> {
        let mut all = Vec::new();
        for i in 0..w.out_height() {
            for j in 0..w.out_width() {
                for (r, c) in (0..w.size[0]).flat_map(|r| (0..w.size[1]).map(move |c| (r, c))) {
                    let y = (i * w.stride[0] + r).checked_sub(w.padding[0]).filter(|y| *y < w.height);
                    let x = (j * w.stride[1] + c).checked_sub(w.padding[1]).filter(|x| *x < w.width);
                    if let (Some(y), Some(x)) = (y, x) {
                        for channel in 0..w.channels {
                            let out = (i * w.out_width() + j) * w.channels + channel;
                            all.push((out, r * w.size[1] + c, (y * w.width + x) * w.channels + channel));
                        }
                    }
                }
            }
        }
        all
    }

    fn check(par: Par, w: Window, images: usize) -> Vec<Vec<f64>> {
        assert_eq!(w.check(), Ok(()));
        let x: Vec<f64> = numbers(images * w.inputs(), 1);
        let gy: Vec<f64> = numbers(images * w.outputs(), 2);
        let (mut y, mut cells) = (vec![f64::NAN; gy.len()], vec![99; gy.len()]);
        max(par, &w, &x, &mut y, &mut cells);
        let mut gx = vec![f64::NAN; x.len()];
        max_backward(par, &w, &gy, &cells, &mut gx);
        let mut tangents = vec![f64::NAN; gy.len()];
        max_tangent(par, &w, &numbers::<f64>(x.len(), 3), &cells, &mut tangents);
        let (mut mean, mut mean_gx) = (vec![f64::NAN; gy.len()], vec![f64::NAN; x.len()]);
        average(par, &w, &x, &mut mean);
        average_backward(par, &w, &gy, &mut mean_gx);

        let (mut best, mut chosen) = (vec![f64::NEG_INFINITY; y.len()], vec![0; y.len()]);
        let (mut sums, mut spread) = (vec![0.0; y.len()], vec![0.0; x.len()]);
        let (x1, mut at_chosen) = (numbers::<f64>(x.len(), 3), vec![f64::NAN; y.len()]);
        let size = (w.size[0] * w.size[1]) as f64;
        let places = definition(&w);
        for image in 0..images {
            for &(out, cell, at) in &places {
                let (out, at) = (out + image * w.outputs(), at + image * w.inputs());
                sums[out] += x[at] / size;
                spread[at] += gy[out] / size;
                if x[at] > best[out] {
                    (best[out], chosen[out]) = (x[at], cell);
                }
            }
        }
        let mut to_chosen = vec![0.0; x.len()];
        for image in 0..images {
            for &(out, cell, at) in &places {
                let (out, at) = (out + image * w.outputs(), at + image * w.inputs());
                if chosen[out] == cell {
                    to_chosen[at] += gy[out];
                    at_chosen[out] = x1[at];
                }
            }
        }
        assert_eq!(y, best, "maximum under {w:?}");
        assert_eq!(tangents, at_chosen, "tangents under {w:?}");
        assert_eq!(cells.iter().map(|c| usize::from(*c)).collect::<Vec<_>>(), chosen, "cells under {w:?}");
        for (name, found, expected) in
            [("max gx", &gx, &to_chosen), ("mean", &mean, &sums), ("mean gx", &mean_gx, &spread)]
        {
            for (i, (f, e)) in found.iter().zip(expected).enumerate() {
                assert!((f - e).abs() < 1e-12, "{name}[{i}] under {w:?}: {f} against {e}");
            }
        }
        vec![y, gx, mean, mean_gx, tangents]
    }

    proptest! {
        #[test]
        fn pooling_follows_the_definition(
            image in [1usize..9, 1..9], channels in 1usize..40, size in [1usize..5, 1..5], stride in [1usize..4, 1..4],
            padding in [0usize..3, 0..3], images in 1usize..3,
        ) {
            let [height, width] = image;
            let w = Window { height, width, channels, size, stride, padding };
            prop_assume!(w.check().is_ok());
            check(Par::SEQUENTIAL, w, images);
        }
    }

    #[test]
    fn pooling_gives_the_same_bits_for_any_number_of_threads() {
        let w = Window { height: 31, width: 30, channels: 48, size: [3, 3], stride: [2, 2], padding: [1, 1] };
        let run = |threads: usize| crate::team::in_crew(threads, |par| check(par, w, 9));
        let one = run(1);
        assert!(run(2) == one && run(3) == one);
    }

    #[test]
    fn max_keeps_not_a_number_visible() {
        let w = Window { height: 2, width: 2, channels: 1, size: [2, 2], stride: [2, 2], padding: [0, 0] };
        let (mut y, mut cells) = ([0.0], [9]);
        max(Par::SEQUENTIAL, &w, &[1.0, f32::NAN, 5.0, 2.0], &mut y, &mut cells);
        assert!(y[0].is_nan() && cells == [1]);
        max(Par::SEQUENTIAL, &w, &[f32::NEG_INFINITY; 4], &mut y, &mut cells);
        assert_eq!((y, cells), ([f32::NEG_INFINITY], [0]));
    }

    #[test]
    fn global_average_and_its_gradient_are_those_of_one_window() {
        let w = Window { height: 3, width: 5, channels: 7, size: [3, 5], stride: [1, 1], padding: [0, 0] };
        let (x, gy): (Vec<f64>, Vec<f64>) = (numbers(4 * w.inputs(), 1), numbers(4 * 7, 2));
        let (mut one, mut other) = (vec![0.0; 28], vec![0.0; 28]);
        average(Par::SEQUENTIAL, &w, &x, &mut one);
        global_average(Par::SEQUENTIAL, 15, 7, &x, &mut other);
        assert_eq!(one, other);
        let (mut one, mut other) = (vec![0.0; x.len()], vec![0.0; x.len()]);
        average_backward(Par::SEQUENTIAL, &w, &gy, &mut one);
        global_average_backward(Par::SEQUENTIAL, 15, 7, &gy, &mut other);
        assert_eq!(one, other);
    }

    #[test]
    fn check_says_what_is_wrong() {
        let good = Window { height: 5, width: 6, channels: 2, size: [2, 3], stride: [2, 2], padding: [1, 1] };
        for (bad, sentence) in [
            (Window { width: 0, ..good }, "expected images with pixels and channels but found 5×0×2"),
            (Window { size: [16, 16], ..good }, "expected a window of 1 to 255 pixels but found 16×16"),
            (Window { stride: [0, 1], ..good }, "expected a stride of at least 1×1 but found 0×1"),
            (Window { padding: [2, 1], ..good }, "expected a padding smaller than the window (2×3) but found 2×1"),
            (Window { size: [8, 3], ..good }, "expected a window no larger than the padded image (7×8) but found 8×3"),
        ] {
            assert_eq!(bad.check(), Err(sentence.to_string()));
        }
    }
}
