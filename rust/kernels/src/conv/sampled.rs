//! Weight gradients from some of the patches: their norms without building them, and the product of those that were chosen.

use super::blocked::{self, Rows};
use super::{Geometry, bias_scratch_elements};
use crate::isa::vectorize;
use crate::par::{self, Par};
use crate::real::Real;

/// Rough cost of one product.
const OPERATIONS: usize = 4;

/// squares[row] = the sum of `pixels` (one number for each pixel of the images) under the kernel at patch row `row`: with squared
/// norms of pixels, the squared norms of patches.
pub fn patch_squares(par: Par, g: &Geometry, pixels: &[f64], squares: &mut [f64]) {
    let (positions, of_image) = (g.positions(), g.height * g.width);
    let images = squares.len() / positions;
    assert_eq!((pixels.len(), squares.len()), (images * of_image, images * positions), "whole images");
    let out_width = g.out_width();
    let work = squares.len() * g.kernel[0] * g.kernel[1] * OPERATIONS;
    par.for_work(work).chunks_mut(squares, positions, |start, squares| {
        let image = &pixels[start / positions * of_image..][..of_image];
        vectorize(
            #[inline(always)]
            || {
                squares.fill(0.0);
                for (i, squares) in squares.chunks_exact_mut(out_width).enumerate() {
                    for row in 0..g.kernel[0] {
                        let Some(y) = inside(i * g.stride[0] + row, g.padding[0], g.height) else { continue };
                        let line = &image[y * g.width..(y + 1) * g.width];
                        for column in 0..g.kernel[1] {
                            add_line(squares, line, column, g.stride[1], g.padding[1]);
                        }
                    }
                }
            },
        );
    });
}

/// sums[j] += line[j · stride + column − padding], where that is inside.
#[inline(always)]
fn add_line(sums: &mut [f64], line: &[f64], column: usize, stride: usize, padding: usize) {
    let first = padding.saturating_sub(column).div_ceil(stride);
    let end = (line.len() + padding).saturating_sub(column).div_ceil(stride).min(sums.len());
    if first >= end {
        return;
    }
    let from = first * stride + column - padding;
    if stride == 1 {
        for (sum, value) in sums[first..end].iter_mut().zip(&line[from..]) {
            *sum += *value;
        }
    } else {
        for (sum, value) in sums[first..end].iter_mut().zip(line[from..].iter().step_by(stride)) {
            *sum += *value;
        }
    }
}

/// The place in an image of a place in its padded form, where it is not on the padding.
#[inline(always)]
fn inside(padded: usize, padding: usize, size: usize) -> Option<usize> {
    padded.checked_sub(padding).filter(|place| *place < size)
}

/// Elements of scratch memory for [`weight_gradient`] of up to `rows` patches, and for sums over all pixels by
/// [`super::bias_gradient`].
pub fn scratch_elements<T: Real>(par: Par, g: &Geometry, rows: usize) -> usize {
    blocked::gradient_scratch::<T>(par, g, rows).max(bias_scratch_elements(g.inputs))
}

/// dw = patchesᵀ · gradient over the patch rows that are listed; `gradient` has a row for each of them.
pub fn weight_gradient<T: Real>(
    par: Par,
    g: &Geometry,
    x: &[T],
    rows: &[u32],
    gradient: &[T],
    dw: &mut [T],
    scratch: &mut [T],
) {
    assert_eq!((dw.len(), gradient.len()), (g.weights(), rows.len() * g.outputs));
    if rows.is_empty() {
        dw.fill(T::zero());
        return;
    }
    let par = par.for_work(2 * rows.len() * g.weights());
    blocked::weight_gradient(par, g, Rows::Chosen(rows), (x, gradient), false, dw, scratch);
}

/// dw += the gradient of images whose pixels are all `mean`, under `gradient` for each position (summed over images); no groups.
pub fn add_mean_term<T: Real>(g: &Geometry, mean: &[T], gradient: &[T], dw: &mut [T]) {
    let outputs = g.outputs;
    assert_eq!((g.groups, mean.len(), gradient.len()), (1, g.inputs, g.positions() * outputs));
    assert_eq!(dw.len(), g.weights());
    vectorize(
        #[inline(always)]
        || {
            // Each place under the kernel sees the positions at which it lies inside the image.
            let place = g.inputs * outputs;
            for (at, dw) in dw.chunks_exact_mut(place).enumerate() {
                let (row, column) = (at / g.kernel[1], at % g.kernel[1]);
                add_place(g, (row, column), mean, gradient, dw);
            }
        },
    );
}

/// The part of [`add_mean_term`] for one place under the kernel.
#[inline(always)]
fn add_place<T: Real>(g: &Geometry, (row, column): (usize, usize), mean: &[T], gradient: &[T], dw: &mut [T]) {
    const BLOCK: usize = 32;
    for outputs in par::blocks(g.outputs, BLOCK) {
        let mut sums = [T::zero(); BLOCK];
        let sums = &mut sums[..outputs.len()];
        for (position, gradient) in gradient.chunks_exact(g.outputs).enumerate() {
            let (i, j) = (position / g.out_width(), position % g.out_width());
            let seen = inside(i * g.stride[0] + row, g.padding[0], g.height).is_some()
                && inside(j * g.stride[1] + column, g.padding[1], g.width).is_some();
            if seen {
                sums.iter_mut().zip(&gradient[outputs.clone()]).for_each(|(sum, g)| *sum += *g);
            }
        }
        for (mean, dw) in mean.iter().zip(dw.chunks_exact_mut(g.outputs)) {
            dw[outputs.clone()].iter_mut().zip(&*sums).for_each(|(dw, sum)| *dw += *mean * *sum);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{gather, weight_gradient as exact};
    use super::*;
    use crate::carry::{copy_rows, row_squares};
    use crate::rng::{Philox, Purpose};

    fn numbers(count: usize, seed: u64) -> Vec<f64> {
        let rng = Philox::new(seed, Purpose::Initialise);
        (0..count).map(|i| rng.uniform(i as u64, [0, 0]) - 0.4).collect()
    }

    const SHAPES: [Geometry; 5] = [
        Geometry {
            height: 7,
            width: 6,
            inputs: 3,
            outputs: 5,
            kernel: [3, 3],
            stride: [1, 1],
            padding: [1, 1],
            groups: 1,
        },
        Geometry {
            height: 9,
            width: 8,
            inputs: 2,
            outputs: 40,
            kernel: [3, 2],
            stride: [2, 3],
            padding: [2, 1],
            groups: 1,
        },
        Geometry {
            height: 5,
            width: 5,
            inputs: 4,
            outputs: 3,
            kernel: [5, 5],
            stride: [1, 2],
            padding: [0, 0],
            groups: 1,
        },
        Geometry {
            height: 6,
            width: 4,
            inputs: 8,
            outputs: 8,
            kernel: [1, 1],
            stride: [1, 1],
            padding: [0, 0],
            groups: 1,
        },
        Geometry {
            height: 3,
            width: 3,
            inputs: 1,
            outputs: 2,
            kernel: [3, 3],
            stride: [2, 2],
            padding: [3, 3],
            groups: 1,
        },
    ];

    #[test]
    fn patch_squares_equal_the_norms_of_patches() {
        for g in SHAPES {
            let images = 3;
            let x = numbers(images * g.height * g.width * g.inputs, 1);
            let mut pixels = vec![0.0; images * g.height * g.width];
            row_squares(&x, &[], &mut pixels).run(Par::SEQUENTIAL);
            let mut found = vec![7.0; images * g.positions()];
            patch_squares(Par::SEQUENTIAL, &g, &pixels, &mut found);
            let mut patch = vec![0.0; g.patch()];
            for (row, found) in found.iter().enumerate() {
                gather(&g, &x, [row], 0, 0..g.patch(), &mut patch);
                let expected: f64 = patch.iter().map(|v| v * v).sum();
                assert!((found - expected).abs() < 1e-13, "{g:?} row {row}: {found} against {expected}");
            }
        }
    }

    #[test]
    fn chosen_rows_and_the_rest_make_the_whole_gradient_and_the_mean_term_is_exact() {
        for g in SHAPES {
            let images = 4;
            let rows = images * g.positions();
            let (x, gradient) = (numbers(images * g.height * g.width * g.inputs, 1), numbers(rows * g.outputs, 2));
            let par = Par::SEQUENTIAL;
            let need =
                super::super::scratch_elements::<f64>(par, &g, images).max(scratch_elements::<f64>(par, &g, rows));
            let mut scratch = vec![0.0; need];
            let mut whole = vec![0.0; g.weights()];
            exact(par, &g, images, &x, &gradient, false, &mut whole, &mut scratch);
            let mut sum = vec![0.0; g.weights()];
            for part in 0..2 {
                let list: Vec<u32> = (0..rows as u32).filter(|row| row % 3 / 2 == part).collect();
                let mut own = vec![0.0; list.len() * g.outputs];
                copy_rows(&gradient, &[], &list, &[], &mut own).run(par);
                let mut dw = vec![9.0; g.weights()];
                weight_gradient(par, &g, &x, &list, &own, &mut dw, &mut scratch);
                sum.iter_mut().zip(&dw).for_each(|(sum, dw)| *sum += dw);
            }
            for (sum, whole) in sum.iter().zip(&whole) {
                assert!((sum - whole).abs() < 1e-12, "{g:?}: {sum} against {whole}");
            }
            // Images of one colour.
            let mean = numbers(g.inputs, 3);
            let flat: Vec<f64> = (0..x.len()).map(|at| mean[at % g.inputs]).collect();
            exact(par, &g, images, &flat, &gradient, false, &mut whole, &mut scratch);
            let mut summed = vec![0.0; g.positions() * g.outputs];
            crate::reduce::column_sums(par, &gradient, summed.len(), false, &mut summed);
            let mut found = vec![0.0; g.weights()];
            add_mean_term(&g, &mean, &summed, &mut found);
            for (found, whole) in found.iter().zip(&whole) {
                assert!((found - whole).abs() < 1e-12, "{g:?}: {found} against {whole}");
            }
        }
    }
}
