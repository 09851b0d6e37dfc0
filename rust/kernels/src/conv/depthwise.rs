//! Depthwise convolution (one filter for each channel), directly: no product is large enough to pay for patches.

use super::Geometry;
use super::blocked::add_partials;
use super::scratch::{Pieces, piece};
use crate::isa::vectorize;
use crate::par::{self, Par};
use crate::real::Real;
use std::ops::Range;

/// Channels whose sums stay in registers.
const LANES: usize = 32;

/// Image rows that one task computes.
const ROW_BLOCK: usize = 4;

/// Partial weight gradients at most; fixed, so that sums have one order.
const PARTIALS: usize = 8;

/// Whether every channel has exactly one filter.
pub(super) fn supports(g: &Geometry) -> bool {
    g.groups == g.inputs && g.outputs == g.inputs
}

fn cells(g: &Geometry) -> usize {
    g.kernel[0] * g.kernel[1]
}

/// Elements of scratch memory for [`forward`] and [`input_gradient`].
pub(super) fn scratch(g: &Geometry) -> usize {
    piece(g.weights())
}

/// Elements of scratch memory for [`weight_gradient`].
pub(super) fn gradient_scratch(g: &Geometry, images: usize) -> usize {
    piece(images.min(PARTIALS) * g.weights())
}

/// Weights are stored channel by channel; the loops here want all channels of one cell of the kernel together.
fn by_cell<'a, T: Real>(g: &Geometry, w: &[T], scratch: &'a mut [T]) -> &'a [T] {
    let out = Pieces(scratch).take(g.weights());
    for (channel, filter) in w.chunks_exact(cells(g)).enumerate() {
        for (cell, value) in filter.iter().enumerate() {
            out[cell * g.inputs + channel] = *value;
        }
    }
    out
}

/// sums[lane] = Σ over `terms` (index into `a`, index into `b`) of a · b, for up to [`LANES`] channels.
#[inline(always)]
fn sum_products<T: Real>(
    a: &[T],
    b: &[T],
    terms: impl Iterator<Item = (usize, usize)>,
    channels: Range<usize>,
) -> [T; LANES] {
    let mut sums = [T::zero(); LANES];
    let count = channels.len();
    for (at, bt) in terms {
        let (a, b) = (&a[at + channels.start..at + channels.end], &b[bt + channels.start..bt + channels.end]);
        if count == LANES {
            for lane in 0..LANES {
                sums[lane] += a[lane] * b[lane];
            }
        } else {
            for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
                *sum += *a * *b;
            }
        }
    }
    sums
}

/// y = finish(conv(x, w)); `finish(pixel, channels, values)` sees channels of one pixel of y.
pub(super) fn forward<T: Real>(
    par: Par,
    g: &Geometry,
    images: usize,
    (x, w): (&[T], &[T]),
    y: &mut [T],
    scratch: &mut [T],
    finish: impl Fn(usize, Range<usize>, &mut [T]) + Sync,
) {
    let (w, channels) = (by_cell(g, w, scratch), g.inputs);
    let (out_height, out_width) = (g.out_height(), g.out_width());
    let chunk = ROW_BLOCK * out_width * channels;
    par.chunks_mut(&mut y[..images * out_height * out_width * channels], chunk, |first, y| {
        vectorize(
            #[inline(always)]
            || {
                for (number, values) in y.chunks_exact_mut(channels).enumerate() {
                    let pixel = first / channels + number;
                    let (image, i, j) =
                        (pixel / out_width / out_height, pixel / out_width % out_height, pixel % out_width);
                    let (top, left) = (i * g.stride[0], j * g.stride[1]);
                    let rows = inside(top, g.padding[0], g.height, g.kernel[0]);
                    let columns = inside(left, g.padding[1], g.width, g.kernel[1]);
                    for range in par::blocks(channels, LANES) {
                        let terms = rows.clone().flat_map(|r| columns.clone().map(move |c| (r, c))).map(|(r, c)| {
                            let line = (image * g.height + top + r - g.padding[0]) * g.width;
                            ((line + left + c - g.padding[1]) * channels, (r * g.kernel[1] + c) * channels)
                        });
                        let sums = sum_products(x, w, terms, range.clone());
                        let values = &mut values[range.clone()];
                        values.copy_from_slice(&sums[..range.len()]);
                        finish(pixel, range, values);
                    }
                }
            },
        );
    });
}

/// Cells of a kernel at `start` that lie inside an image.
#[inline(always)]
fn inside(start: usize, padding: usize, size: usize, kernel: usize) -> Range<usize> {
    let from = padding.saturating_sub(start).min(kernel);
    from..(size + padding).saturating_sub(start).clamp(from, kernel)
}

/// (cell, output) pairs along one side whose kernel covers input `at`.
#[inline(always)]
fn covering(
    at: usize,
    padding: usize,
    stride: usize,
    kernel: usize,
    outputs: usize,
) -> impl Iterator<Item = (usize, usize)> + Clone {
    let reach = at + padding;
    (0..kernel.min(reach + 1))
        .filter(move |cell| (reach - cell).is_multiple_of(stride) && (reach - cell) / stride < outputs)
        .map(move |cell| (cell, (reach - cell) / stride))
}

/// dx = finish(the adjoint of conv applied to `gradient`).
pub(super) fn input_gradient<T: Real>(
    par: Par,
    g: &Geometry,
    images: usize,
    (gradient, w): (&[T], &[T]),
    dx: &mut [T],
    scratch: &mut [T],
    finish: impl Fn(usize, Range<usize>, &mut [T]) + Sync,
) {
    let (w, channels) = (by_cell(g, w, scratch), g.inputs);
    let (out_height, out_width) = (g.out_height(), g.out_width());
    let chunk = ROW_BLOCK * g.width * channels;
    par.chunks_mut(&mut dx[..images * g.height * g.width * channels], chunk, |first, dx| {
        vectorize(
            #[inline(always)]
            || {
                for (number, values) in dx.chunks_exact_mut(channels).enumerate() {
                    let pixel = first / channels + number;
                    let (image, i, j) = (pixel / g.width / g.height, pixel / g.width % g.height, pixel % g.width);
                    let rows = covering(i, g.padding[0], g.stride[0], g.kernel[0], out_height);
                    let columns = covering(j, g.padding[1], g.stride[1], g.kernel[1], out_width);
                    for range in par::blocks(channels, LANES) {
                        let terms = rows.clone().flat_map(|r| columns.clone().map(move |c| (r, c))).map(|(r, c)| {
                            let pixel = (image * out_height + r.1) * out_width + c.1;
                            (pixel * channels, (r.0 * g.kernel[1] + c.0) * channels)
                        });
                        let sums = sum_products(gradient, w, terms, range.clone());
                        let values = &mut values[range.clone()];
                        values.copy_from_slice(&sums[..range.len()]);
                        finish(pixel, range, values);
                    }
                }
            },
        );
    });
}

/// dw (+)= for each channel and cell, the sum over pixels of input times gradient.
pub(super) fn weight_gradient<T: Real>(
    par: Par,
    g: &Geometry,
    images: usize,
    (x, gradient): (&[T], &[T]),
    accumulate: bool,
    dw: &mut [T],
    scratch: &mut [T],
) {
    let (channels, weights) = (g.inputs, g.weights());
    let partials = images.min(PARTIALS);
    let memory = Pieces(scratch).take(partials * weights);
    par.chunks_mut(memory, weights, |first, sums| {
        let partial = first / weights;
        vectorize(
            #[inline(always)]
            || {
                sums.fill(T::zero());
                for row in (partial..images).step_by(partials).flat_map(|i| i * g.positions()..(i + 1) * g.positions())
                {
                    let (image, rest) = (row / g.positions(), row % g.positions());
                    let (top, left) = (rest / g.out_width() * g.stride[0], rest % g.out_width() * g.stride[1]);
                    let gradient = &gradient[row * channels..(row + 1) * channels];
                    for r in inside(top, g.padding[0], g.height, g.kernel[0]) {
                        let line = (image * g.height + top + r - g.padding[0]) * g.width;
                        for c in inside(left, g.padding[1], g.width, g.kernel[1]) {
                            let at = (line + left + c - g.padding[1]) * channels;
                            let cell = (r * g.kernel[1] + c) * channels;
                            let sums = &mut sums[cell..cell + channels];
                            for ((sum, x), gradient) in sums.iter_mut().zip(&x[at..at + channels]).zip(gradient) {
                                *sum += *x * *gradient;
                            }
                        }
                    }
                }
            },
        );
    });
    // Add the partials into the first, then turn them round to the order of the weights.
    let (total, rest) = memory.split_at_mut(weights);
    add_partials(rest, true, total);
    for (channel, filter) in dw.chunks_exact_mut(cells(g)).enumerate() {
        for (cell, value) in filter.iter_mut().enumerate() {
            let sum = total[cell * channels + channel];
            *value = if accumulate { *value + sum } else { sum };
        }
    }
}
