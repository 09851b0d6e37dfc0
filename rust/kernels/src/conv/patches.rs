//! Patches of images: the rows of the matrix that turns a convolution into a product.
//!
//! Row (image, i, j) holds the pixels under the kernel at output (i, j), in the order kernel row, kernel column, channel
//! of the group; zero where the kernel lies on the padding.

use super::Geometry;
use crate::isa::vectorize;
use crate::real::Real;
use std::ops::Range;

/// Walks through patch rows; consecutive rows, the usual case, cost no division.
struct Walk<'a> {
    g: &'a Geometry,
    out: [usize; 2],
    /// The patch row it stands at, and where that row's result pixel lies.
    row: usize,
    image: usize,
    i: usize,
    j: usize,
}

impl<'a> Walk<'a> {
    fn new(g: &'a Geometry) -> Self {
        Walk { g, out: [g.out_height(), g.out_width()], row: 0, image: 0, i: 0, j: 0 }
    }

    #[inline(always)]
    fn go_to(&mut self, row: usize) {
        let [height, width] = self.out;
        if row == self.row + 1 {
            self.j += 1;
            if self.j == width {
                (self.i, self.j) = (self.i + 1, 0);
                if self.i == height {
                    (self.image, self.i) = (self.image + 1, 0);
                }
            }
        } else {
            (self.image, self.i, self.j) = (row / width / height, row / width % height, row % width);
        }
        self.row = row;
    }

    /// Calls `body(run of patch columns, index of its first pixel element in the images)` for every stretch of
    /// the patch row that is contiguous in memory; columns that it leaves out lie on the padding.
    #[inline(always)]
    fn runs(&self, group: usize, mut body: impl FnMut(Range<usize>, usize)) {
        let g = self.g;
        let channels = g.inputs / g.groups;
        let (top, left) = (self.i * g.stride[0], self.j * g.stride[1]);
        // Kernel columns that lie inside the image.
        let from = g.padding[1].saturating_sub(left).min(g.kernel[1]);
        let to = (g.width + g.padding[1]).saturating_sub(left).clamp(from, g.kernel[1]);
        if from == to {
            return;
        }
        for kernel_row in 0..g.kernel[0] {
            let y = top + kernel_row;
            if y < g.padding[0] || y >= g.height + g.padding[0] {
                continue;
            }
            let line = (self.image * g.height + y - g.padding[0]) * g.width;
            let first = kernel_row * g.kernel[1] * channels;
            let at = |column: usize| (line + left + column - g.padding[1]) * g.inputs + group * channels;
            if g.groups == 1 {
                body(first + from * channels..first + to * channels, at(from));
            } else {
                for column in from..to {
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
            let mut walk = Walk::new(g);
            for row in rows {
                let out = left.next().expect("a row of the patch block");
                let mut filled = 0;
                walk.go_to(row);
                walk.runs(
                    group,
                    #[inline(always)]
                    |run, at| {
                        let (from, to) = (run.start.max(columns.start), run.end.min(columns.end));
                        if from < to {
                            let (start, end) = (from - columns.start, to - columns.start);
                            // Most gaps are empty, and even then `fill` would be a call.
                            if filled < start {
                                out[filled..start].fill(T::zero());
                            }
                            copy(&x[at + from - run.start..at + to - run.start], &mut out[start..end]);
                            filled = end;
                        }
                    },
                );
                if filled < out.len() {
                    out[filled..].fill(T::zero());
                }
            }
            assert!(left.next().is_none(), "as many rows as the patch block has");
        },
    );
}

/// Whether [`gather_turned`] can build the patches.
pub(super) fn turns(g: &Geometry) -> bool {
    g.inputs == 1 && g.stride[1] == 1
}

/// The patches of `rows` turned round, patch columns × rows, for images of one channel: a column is then a stretch of an
/// image line, where a patch row would be made of runs too short to copy well (measured ten times slower).
pub(super) fn gather_turned<T: Real>(g: &Geometry, x: &[T], rows: Range<usize>, out: &mut [T]) {
    let (count, width) = (rows.len(), g.out_width());
    assert!(turns(g) && out.len() == g.patch() * count);
    vectorize(
        #[inline(always)]
        || {
            let mut row = rows.start;
            while row < rows.end {
                // The rest of this line of the result.
                let (line, start) = (row / width, row % width);
                let end = width.min(start + rows.end - row);
                let (image, top) = (line / g.out_height(), line % g.out_height() * g.stride[0]);
                for cell in 0..g.patch() {
                    let (y, column) = (top + cell / g.kernel[1], cell % g.kernel[1]);
                    let out = &mut out[cell * count + row - rows.start..][..end - start];
                    // Positions whose pixel lies inside the image.
                    let mut from = g.padding[1].saturating_sub(column).clamp(start, end);
                    let mut to = (g.width + g.padding[1]).saturating_sub(column).clamp(from, end);
                    if y < g.padding[0] || y >= g.height + g.padding[0] {
                        (from, to) = (start, start);
                    }
                    out[..from - start].fill(T::zero());
                    out[to - start..].fill(T::zero());
                    if from < to {
                        let at = (image * g.height + y - g.padding[0]) * g.width + from + column - g.padding[1];
                        copy(&x[at..at + to - from], &mut out[from - start..to - start]);
                    }
                }
                row += end - start;
            }
        },
    );
}

/// Adds whole patch rows back onto the pixels they came from: the adjoint of [`gather`].
pub fn scatter_add<T: Real>(g: &Geometry, patches: &[T], rows: Range<usize>, group: usize, x: &mut [T]) {
    assert_eq!(patches.len(), rows.len() * g.patch());
    vectorize(
        #[inline(always)]
        || {
            let mut walk = Walk::new(g);
            for (patch, row) in patches.chunks_exact(g.patch()).zip(rows) {
                walk.go_to(row);
                walk.runs(
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
