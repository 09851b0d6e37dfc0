//! Cholesky factors and inverses of triangular matrices: size³ / 3 operations each way that products of panels do.

use crate::gemm::{Matrix, gemm_into};
use crate::par::{self, Par, Shared};
use crate::real::Real;

/// Columns that are factored one after the other before a product takes them out of all that come after.
const PANEL: usize = 48;

/// Elements of scratch memory that [`cholesky`] and [`invert_lower`] need.
pub(super) fn scratch(size: usize) -> usize {
    PANEL * (size + PANEL)
}

/// a = L Lᵀ: L takes the place of `a` on and below the diagonal; above it `a` is neither read nor written. False where `a` is
/// not positive definite, or not finite.
pub(super) fn cholesky<T: Real>(par: Par, a: &mut [T], size: usize, scratch: &mut [T]) -> bool {
    for start in (0..size).step_by(PANEL) {
        let end = (start + PANEL).min(size);
        for j in start..end {
            let (above, below) = a.split_at_mut((j + 1) * size);
            let own = &mut above[j * size..];
            let pivot = own[j] - dot(&own[start..j], &own[start..j]);
            if !(pivot > T::zero() && pivot.is_finite()) {
                return false;
            }
            own[j] = pivot.sqrt();
            let share = T::one() / own[j];
            for row in below.chunks_exact_mut(size) {
                row[j] = (row[j] - dot(&row[start..j], &own[start..j])) * share;
            }
        }
        let (left, width) = (size - end, end - start);
        let panel = &mut scratch[..left * width];
        for (panel, row) in panel.chunks_exact_mut(width).zip(a.chunks_exact(size).skip(end)) {
            panel.copy_from_slice(&row[start..end]);
        }
        let panel = Matrix::new(&*panel, left, width);
        let a = Shared::new(a);
        par.for_work(left * left * width).each(left.div_ceil(PANEL), |index| {
            let c = par::block(index, left, PANEL);
            let (rows, columns) = (panel.rows(c.start, left), panel.rows(c.start, c.end).t());
            // SAFETY: column blocks are disjoint, inside `a` and right of the panel, which was copied.
            unsafe { gemm_into(-T::one(), rows, columns, true, a.at((end + c.start) * (size + 1)), size, 1) };
        });
    }
    true
}

/// x = L⁻¹ for the L on and below the diagonal of `l`; zeros above.
pub(super) fn invert_lower<T: Real>(par: Par, l: &[T], size: usize, x: &mut [T], scratch: &mut [T]) {
    x.fill(T::zero());
    let (own, product) = scratch.split_at_mut(PANEL * PANEL);
    for start in (0..size).step_by(PANEL) {
        let end = (start + PANEL).min(size);
        let width = end - start;
        let own = &mut own[..width * width];
        own.fill(T::zero());
        for i in 0..width {
            let row = &l[(start + i) * size + start..][..=i];
            let share = T::one() / row[i];
            for j in 0..i {
                let sum: T = (j..i).map(|k| row[k] * own[k * width + j]).sum();
                own[i * width + j] = -sum * share;
            }
            own[i * width + i] = share;
        }
        for (row, own) in x[start * size..].chunks_exact_mut(size).zip(own.chunks_exact(width)) {
            row[start..end].copy_from_slice(own);
        }
        let (done, rest) = x.split_at_mut(start * size);
        let done = Matrix::new(&*done, start, size).columns(0, start);
        let l = Matrix::new(l, size, size).rows(start, end).columns(0, start);
        let own = Matrix::new(&*own, width, width);
        let product = &mut product[..width * start];
        columns(par, T::one(), l, done, product, start);
        columns(par, -T::one(), own, Matrix::new(&*product, width, start), rest, size);
    }
}

/// out = alpha · a · b in column blocks, into rows of `stride` elements.
fn columns<T: Real>(par: Par, alpha: T, a: Matrix<T>, b: Matrix<T>, out: &mut [T], stride: usize) {
    let (height, width, depth) = (a.height(), b.width(), a.width());
    let out = Shared::new(out);
    par.for_work(2 * height * depth * width).each(width.div_ceil(PANEL), |index| {
        let c = par::block(index, width, PANEL);
        // SAFETY: column blocks are disjoint and inside the rows of `out`.
        unsafe { gemm_into(alpha, a, b.columns(c.start, c.end), false, out.at(c.start), stride, 1) };
    });
}

fn dot<T: Real>(a: &[T], b: &[T]) -> T {
    a.iter().zip(b).map(|(a, b)| *a * *b).sum()
}
