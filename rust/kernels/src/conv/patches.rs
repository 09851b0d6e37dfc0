//! Patches of images: the rows of the matrix that turns a convolution into a product.
//!
//! Row (image, i, j) holds the pixels under the kernel at output (i, j), in the order kernel row, kernel column, channel
//! of the group; zero where the kernel lies on the padding.

use super::Geometry;
use crate::isa::vectorize;
use crate::real::Real;
use std::ops::Range;

/// Where the kernel lies for one patch row.
struct Place {
    image: usize,
    /// First image row and column under the kernel, before the padding is taken off.
    top: usize,
    left: usize,
    /// Kernel columns that lie inside the image.
    columns: Range<usize>,
}

impl Geometry {
    #[inline(always)]
    fn place(&self, row: usize) -> Place {
        let (image, rest) = (row / self.positions(), row % self.positions());
        let (top, left) = (rest / self.out_width() * self.stride[0], rest % self.out_width() * self.stride[1]);
        let from = self.padding[1].saturating_sub(left).min(self.kernel[1]);
        let to = (self.width + self.padding[1]).saturating_sub(left).clamp(from, self.kernel[1]);
        Place { image, top, left, columns: from..to }
    }

    /// Calls `body(run of patch columns, index of its first pixel element in the images)` for every stretch of
    /// one patch row that is contiguous in memory; columns that it leaves out lie on the padding.
    #[inline(always)]
    fn runs(&self, row: usize, group: usize, mut body: impl FnMut(Range<usize>, usize)) {
        let place = self.place(row);
        let channels = self.inputs / self.groups;
        for kernel_row in 0..self.kernel[0] {
            let y = place.top + kernel_row;
            if y < self.padding[0] || y >= self.height + self.padding[0] {
                continue;
            }
            let line = (place.image * self.height + y - self.padding[0]) * self.width;
            let first = kernel_row * self.kernel[1] * channels;
            if place.columns.is_empty() {
                continue;
            }
            let at = |column: usize| (line + place.left + column - self.padding[1]) * self.inputs + group * channels;
            if self.groups == 1 {
                let run = first + place.columns.start * channels..first + place.columns.end * channels;
                body(run, at(place.columns.start));
            } else {
                for column in place.columns.clone() {
                    let start = first + column * channels;
                    body(start..start + channels, at(column));
                }
            }
        }
    }
}

/// Writes `columns` of the patch rows named by `rows` into `out`, row after row.
///
/// # Panics
/// When `out` does not hold exactly the rows named.
pub fn gather<T: Real>(
    g: &Geometry,
    x: &[T],
    rows: impl IntoIterator<Item = usize>,
    group: usize,
    columns: Range<usize>,
    out: &mut [T],
) {
    assert!(group < g.groups && columns.end <= g.patch() && !columns.is_empty());
    vectorize(
        #[inline(always)]
        || {
            let mut left = out.chunks_exact_mut(columns.len());
            for row in rows {
                let out = left.next().expect("a row of the patch block");
                let mut filled = 0;
                g.runs(
                    row,
                    group,
                    #[inline(always)]
                    |run, at| {
                        let (from, to) = (run.start.max(columns.start), run.end.min(columns.end));
                        if from < to {
                            let (start, end) = (from - columns.start, to - columns.start);
                            out[filled..start].fill(T::zero());
                            copy(&x[at + from - run.start..at + to - run.start], &mut out[start..end]);
                            filled = end;
                        }
                    },
                );
                out[filled..].fill(T::zero());
            }
            assert!(left.next().is_none(), "as many rows as the patch block has");
        },
    );
}

/// Adds whole patch rows back onto the pixels they came from: the adjoint of [`gather`].
pub fn scatter_add<T: Real>(g: &Geometry, patches: &[T], rows: Range<usize>, group: usize, x: &mut [T]) {
    assert_eq!(patches.len(), rows.len() * g.patch());
    vectorize(
        #[inline(always)]
        || {
            for (patch, row) in patches.chunks_exact(g.patch()).zip(rows) {
                g.runs(
                    row,
                    group,
                    #[inline(always)]
                    |run, at| {
                        for (x, value) in x[at..at + run.len()].iter_mut().zip(&patch[run]) {
                            *x += *value;
                        }
                    },
                );
            }
        },
    );
}

/// Copies a short run by pieces of fixed size, the last two overlapping: calling the library costs more than this.
#[inline(always)]
fn copy<T: Real>(from: &[T], to: &mut [T]) {
    #[inline(always)]
    fn pieces<T: Real, const N: usize>(from: &[T], to: &mut [T]) {
        let last = from.len() - N;
        let mut at = 0;
        while at < last {
            to[at..at + N].copy_from_slice(&from[at..at + N]);
            at += N;
        }
        to[last..].copy_from_slice(&from[last..]);
    }
    match from.len() {
        0 => {}
        1 => to[0] = from[0],
        2..4 => pieces::<T, 2>(from, to),
        4..8 => pieces::<T, 4>(from, to),
        8..16 => pieces::<T, 8>(from, to),
        16..128 => pieces::<T, 16>(from, to),
        _ => to.copy_from_slice(from),
    }
}
