//! Matrices that decorrelate the inputs of a linear map, and what learns them: the local rule, or an averaged covariance.
//!
//! A decorrelated map computes y = z · W with z = x · S; S is the transpose of what papers call R (z = R x), stored like weights:
//! inputs × outputs. It is one square matrix, or a row of square blocks on the diagonal of one ([`Blocks`]), one after the other.

mod averaged;
mod axes;
mod factor;
mod root;
mod rule;
#[cfg(test)]
mod tests;

pub use averaged::{Form, average, averaged_scratch, follow};
pub use axes::principal_axes;
pub use root::{inverse_root, root_scratch};
pub use rule::{Outcome, Rule, scratch_elements, second_moment, update, update_multiply_adds};

use crate::activation::Activation;
use crate::gemm::{Matrix, gemm_into};
use crate::isa::vectorize;
use crate::par::{self, Par, Shared};
use crate::real::Real;
use std::ops::Range;

/// Rows and columns of one task of a product.
const TILE: [usize; 2] = [512, 192];

/// A square matrix made of square blocks on its diagonal; the last one may be smaller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blocks {
    /// Rows and columns of the whole matrix.
    pub size: usize,
    /// Rows and columns of a block.
    pub block: usize,
}

impl Blocks {
    /// Number of blocks.
    pub fn count(self) -> usize {
        self.size.div_ceil(self.block)
    }

    /// Rows (and columns) of a block.
    pub fn range(self, index: usize) -> Range<usize> {
        par::block(index, self.size, self.block)
    }

    /// Where the elements of a block are stored.
    pub fn place(self, index: usize) -> Range<usize> {
        let (start, size) = (index * self.block * self.block, self.range(index).len());
        start..start + size * size
    }

    /// Elements that are stored.
    pub fn elements(self) -> usize {
        self.place(self.count() - 1).end
    }

    /// Floating-point operations of the product with `rows` rows.
    pub fn operations(self, rows: usize) -> usize {
        2 * rows * (0..self.count()).map(|index| self.range(index).len().pow(2)).sum::<usize>()
    }

    /// Writes the identity.
    pub fn identity<T: Real>(self, s: &mut [T]) {
        s.fill(T::zero());
        for index in 0..self.count() {
            let size = self.range(index).len();
            s[self.place(index)].iter_mut().step_by(size + 1).for_each(|value| *value = T::one());
        }
    }

    fn matrix<T>(self, s: &[T], index: usize) -> Matrix<'_, T> {
        let size = self.range(index).len();
        Matrix::new(&s[self.place(index)], size, size)
    }
}

/// z = x · S + shift: x and z are rows × size.
pub fn apply<T: Real>(par: Par, b: Blocks, rows: usize, x: &[T], s: &[T], shift: Option<&[T]>, z: &mut [T]) {
    let x = Matrix::new(x, rows, b.size);
    along_rows(
        par,
        b,
        rows,
        z,
        #[inline(always)]
        |index, r, from, c| {
            (x.rows(r.start, r.end).columns(from.start, from.end), b.matrix(s, index).columns(c.start, c.end))
        },
        #[inline(always)]
        |_, columns, z| {
            if let Some(shift) = shift {
                z.iter_mut().zip(&shift[columns]).for_each(|(z, shift)| *z += *shift);
            }
        },
    );
}

/// dx = u · Sᵀ, times the derivative of the activation that made x (told from x itself).
pub fn apply_transposed<T: Real>(
    par: Par,
    b: Blocks,
    rows: usize,
    u: &[T],
    s: &[T],
    below: Option<(Activation<T>, &[T])>,
    dx: &mut [T],
) {
    let u = Matrix::new(u, rows, b.size);
    along_rows(
        par,
        b,
        rows,
        dx,
        #[inline(always)]
        |index, r, from, c| {
            (u.rows(r.start, r.end).columns(from.start, from.end), b.matrix(s, index).rows(c.start, c.end).t())
        },
        #[inline(always)]
        |row, columns, dx| {
            if let Some((activation, x)) = below {
                activation.backward_from_output(&x[row * b.size..][columns], dx);
            }
        },
    );
}

/// A product whose result is rows × size, in tiles: `factors(block, rows, rows and columns of the block, columns in the block)`.
fn along_rows<'a, T: Real>(
    par: Par,
    b: Blocks,
    rows: usize,
    out: &mut [T],
    factors: impl Fn(usize, Range<usize>, Range<usize>, Range<usize>) -> (Matrix<'a, T>, Matrix<'a, T>) + Sync,
    finish: impl Fn(usize, Range<usize>, &mut [T]) + Sync,
) {
    assert_eq!(out.len(), rows * b.size);
    let [height, width] = [TILE[0], TILE[1].min(b.block)];
    let (down, across) = (rows.div_ceil(height), b.block.div_ceil(width));
    let out = Shared::new(out);
    par.for_work(b.operations(rows)).each(b.count() * across * down, |task| {
        let (index, r) = (task / (across * down), par::block(task % down, rows, height));
        let of = b.range(index);
        let c = par::block(task / down % across, of.len(), width);
        if c.is_empty() {
            return;
        }
        let (left, right) = factors(index, r.clone(), of.clone(), c.clone());
        let columns = of.start + c.start..of.start + c.end;
        // SAFETY: tiles are disjoint and inside the result (asserted above).
        unsafe { gemm_into(T::one(), left, right, false, out.at(r.start * b.size + columns.start), b.size, 1) };
        vectorize(
            #[inline(always)]
            || {
                for row in r {
                    // SAFETY: the same tile.
                    let tile = unsafe { out.slice(row * b.size + columns.start..row * b.size + columns.end) };
                    finish(row, columns.clone(), tile);
                }
            },
        );
    });
}

/// S · W, or Sᵀ · W where `transposed`: W and the result are size × outputs.
pub fn multiply<T: Real>(par: Par, b: Blocks, outputs: usize, s: &[T], transposed: bool, w: &[T], out: &mut [T]) {
    assert_eq!((w.len(), out.len()), (b.size * outputs, b.size * outputs));
    let w = Matrix::new(w, b.size, outputs);
    let out = Shared::new(out);
    let [height, width] = [TILE[1].min(b.block), TILE[0]];
    let (down, across) = (b.block.div_ceil(height), outputs.div_ceil(width));
    par.for_work(b.operations(outputs)).each(b.count() * down * across, |task| {
        let index = task / (down * across);
        let (of, c) = (b.range(index), par::block(task % across, outputs, width));
        let r = par::block(task / across % down, of.len(), height);
        if r.is_empty() {
            return;
        }
        let s = b.matrix(s, index);
        let left = if transposed { s.columns(r.start, r.end).t() } else { s.rows(r.start, r.end) };
        let right = w.rows(of.start, of.end).columns(c.start, c.end);
        // SAFETY: tiles are disjoint and inside the result (asserted above).
        unsafe {
            gemm_into(T::one(), left, right, false, out.at((of.start + r.start) * outputs + c.start), outputs, 1)
        };
    });
}
