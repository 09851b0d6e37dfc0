//! The local rule: one step against the correlations of z, and towards variance 1.
//!
//! ```text
//! C = zᵀ z / n,  q = diag C,  v = q − 1
//! M = (1 − κ) (C − diag q) + κ diag v          S ← S · (1 − η M)
//! ```
//!
//! With fewer rows than columns S · zᵀ z is computed as (z · Sᵀ)ᵀ · z, which never makes C; otherwise C is made.
//!
//! A step is shortened to `limit` / (B + 2 w Λ), where B = (1 − κ) ‖C − diag q‖_F + κ max |v| is at least the largest eigenvalue of
//! M, Λ at least that of C, and w = max(κ, 1 − κ). Why both: with a = η B and c = η Λ the loss L = (1 − κ) ‖C − diag q‖² + κ ‖v‖²
//! changes by at most −η tr(M C M) · (4 − 2 a − w c (2 + a)²), since L's gradient by C is 2 M, C changes by −η (M C + C M) + η² M C M
//! and ‖M C‖² ≤ Λ tr(M C M). With a + 2 w c ≤ 1.4 the bracket is above 0 for every a: on fixed rows L cannot rise. B alone does not
//! do: it vanishes where C nears the identity, and steps would become as long as one likes.

use super::{Blocks, apply_transposed};
use crate::gemm::{Matrix, gemm_into};
use crate::isa::vectorize;
use crate::par::{self, Par, Shared};
use crate::real::Real;

/// Below this mean square an input counts as dead: nothing pulls its variance up.
pub(super) const DEAD: f64 = 1e-6;

/// What v is cut to, from above: one outlier must not shorten the step of all.
const MOST_EXCESS: f64 = 10.0;

/// Rows and columns of one task of a symmetric product.
const TILE: usize = 96;

/// How a step is taken.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// η.
    pub rate: f64,
    /// κ: 0 for correlations alone, 1 for variances alone.
    pub kappa: f64,
    /// The most that η times the bound may be, below 1.4 for steps that cannot raise the loss; none for η as it is.
    pub limit: Option<f64>,
    /// The largest norm that a row of R (a column of S) may have.
    pub cap: f64,
    /// Whether C is made whatever the sizes: to compare both ways.
    pub explicit: bool,
}

/// What a step did.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Outcome {
    /// The smallest η that was used.
    pub rate: f64,
    /// The loss of decorrelation before the step, per element: (1 − κ) Σ C² off the diagonal + κ Σ v², over size².
    pub loss: f64,
    /// Blocks that were not finite afterwards and were set to the identity.
    pub resets: usize,
}

/// Elements of scratch memory that [`update`] needs for up to `rows` rows.
pub fn scratch_elements(b: Blocks, rows: usize, explicit: bool) -> usize {
    let square = if explicit { b.block } else { rows.min(b.block) };
    2 * b.block + rows * b.size + 2 * square * square
}

/// Multiply-adds of the products of [`update`] with `rows` rows, but for `explicit`.
pub fn update_multiply_adds(b: Blocks, rows: usize) -> usize {
    // Tiles on the diagonal are computed whole, those below it not at all.
    let symmetric = |size: usize, depth: usize| {
        let tiles = (0..size.div_ceil(TILE)).map(|tile| par::block(tile, size, TILE));
        depth * tiles.map(|tile| tile.len() * (size - tile.start)).sum::<usize>()
    };
    let sizes = || (0..b.count()).map(|index| b.range(index).len());
    let back = if sizes().any(|size| rows < size) { rows * b.elements() } else { 0 };
    let low_rank = |size: usize| symmetric(rows, size) + size * size * rows;
    let of_block = |size: usize| if rows < size { low_rank(size) } else { symmetric(size, rows) + size.pow(3) };
    back + sizes().map(of_block).sum::<usize>()
}

/// One step of S from `rows` rows of z = x · S (rows × size).
pub fn update<T: Real>(
    par: Par,
    b: Blocks,
    rows: usize,
    z: &[T],
    s: &mut [T],
    rule: &Rule,
    scratch: &mut [T],
) -> Outcome {
    assert_eq!((z.len(), s.len()), (rows * b.size, b.elements()));
    let (y, scratch) = scratch.split_at_mut(rows * b.size);
    let low_rank = |size: usize| rows < size && !rule.explicit;
    if (0..b.count()).any(|index| low_rank(b.range(index).len())) {
        apply_transposed(par, b, rows, z, s, None, y);
    }
    let mut outcome = Outcome { rate: rule.rate, ..Outcome::default() };
    for index in 0..b.count() {
        let of = b.range(index);
        let size = of.len();
        let z = Matrix::new(z, rows, b.size).columns(of.start, of.end);
        let (factors, scratch) = scratch.split_at_mut(2 * b.block);
        let (q, v) = factors.split_at_mut(b.block);
        let (q, v) = (&mut q[..size], &mut v[..size]);
        let s = &mut s[b.place(index)];
        let share = T::of(1.0 / rows as f64);
        let (squares, width) = if low_rank(size) {
            let k = &mut scratch[..rows * rows];
            symmetric(par, share, z, k);
            mean_squares(z, rows, q);
            (sum_of_squares(k), widest(k, rows, &mut v[..rows]))
        } else {
            let c = &mut scratch[..size * size];
            symmetric(par, share, z.t(), c);
            diagonal(c, size, q);
            (sum_of_squares(c), widest(c, size, v))
        };
        let off = (squares - sum_of_squares(q)).max(0.0);
        let (most, excess) = excesses(q, v);
        let steepest = (1.0 - rule.kappa) * off.sqrt() + rule.kappa * most;
        let bound = steepest + 2.0 * rule.kappa.max(1.0 - rule.kappa) * squares.sqrt().min(width);
        let rate = rule.limit.map_or(rule.rate, |limit| rule.rate.min(limit / bound.max(f64::MIN_POSITIVE)));
        outcome.rate = outcome.rate.min(rate);
        outcome.loss += (1.0 - rule.kappa) * off + rule.kappa * excess;
        if low_rank(size) {
            let (eta, kappa) = (T::of(rate), T::of(rule.kappa));
            let against = eta * (T::one() - kappa);
            for row in s.chunks_exact_mut(size) {
                for ((s, q), v) in row.iter_mut().zip(&*q).zip(&*v) {
                    *s += *s * (against * *q - eta * kappa * *v);
                }
            }
            let y = Matrix::new(&*y, rows, b.size).columns(of.start, of.end);
            product(par, -against * share, y.t(), z, (size, rows), true, s);
        } else {
            let (m, next) = scratch[..2 * size * size].split_at_mut(size * size);
            turn(par, s, size, (rate, rule.kappa), v, m, next);
        }
        if !cap_columns(s, size, rule.cap, q) {
            Blocks { size, block: size }.identity(s);
            outcome.resets += 1;
        }
    }
    outcome.loss /= (b.size * b.size) as f64;
    outcome
}

/// v = q − 1 for the variances q, cut where they are far above 1 and 0 where an input is dead; gives max |v| and Σ v².
pub(super) fn excesses<T: Real>(q: &[T], v: &mut [T]) -> (f64, f64) {
    let (mut most, mut sum) = (0.0f64, 0.0);
    for (v, q) in v.iter_mut().zip(q) {
        let value = (q.wide() - 1.0).clamp(-1.0, MOST_EXCESS);
        let value = if q.wide() < DEAD { 0.0 } else { value };
        (most, sum) = (most.max(value.abs()), sum + value * value);
        *v = T::of(value);
    }
    (most, sum)
}

/// S ← S · (1 − η M), where `c` is C and becomes 1 − η M.
pub(super) fn turn<T: Real>(
    par: Par,
    s: &mut [T],
    size: usize,
    (rate, kappa): (f64, f64),
    v: &[T],
    c: &mut [T],
    next: &mut [T],
) {
    let (off, own) = (T::of(-rate * (1.0 - kappa)), T::of(rate * kappa));
    for (row, c) in c.chunks_exact_mut(size).enumerate() {
        c.iter_mut().for_each(|c| *c *= off);
        c[row] = T::one() - own * v[row];
    }
    product(par, T::one(), Matrix::new(s, size, size), Matrix::new(c, size, size), (size, size), false, next);
    s.copy_from_slice(next);
}

/// out = xᵀ · x / rows for x with `rows` rows.
pub fn second_moment<T: Real>(par: Par, rows: usize, x: &[T], size: usize, out: &mut [T]) {
    symmetric(par, T::of(1.0 / rows as f64), Matrix::new(x, rows, size).t(), out);
}

/// out = alpha · a · aᵀ: tiles on and above the diagonal are computed, the others mirror them to the last bit.
pub(super) fn symmetric<T: Real>(par: Par, alpha: T, a: Matrix<T>, out: &mut [T]) {
    let size = a.height();
    assert_eq!(out.len(), size * size);
    let across = size.div_ceil(TILE);
    let out = Shared::new(out);
    par.for_work(size * size * a.width()).each(across * across, |task| {
        let (r, c) = (par::block(task / across, size, TILE), par::block(task % across, size, TILE));
        if c.start < r.start {
            return;
        }
        // SAFETY: a task writes its tile and the mirror image of it; tiles lie on or above the diagonal.
        unsafe {
            let at = out.at(r.start * size + c.start);
            gemm_into(alpha, a.rows(r.start, r.end), a.rows(c.start, c.end).t(), false, at, size, 1);
            for p in r {
                for q in c.start.max(p + 1)..c.end {
                    *out.at(q * size + p) = *out.at(p * size + q);
                }
            }
        }
    });
}

/// out (+)= alpha · a · b, a square matrix, in column blocks.
pub(super) fn product<T: Real>(
    par: Par,
    alpha: T,
    a: Matrix<T>,
    b: Matrix<T>,
    (size, depth): (usize, usize),
    accumulate: bool,
    out: &mut [T],
) {
    let width = super::TILE[1];
    let out = Shared::new(out);
    par.for_work(2 * size * size * depth).each(size.div_ceil(width), |index| {
        let c = par::block(index, size, width);
        // SAFETY: column blocks are disjoint and inside `out`, size × size.
        unsafe { gemm_into(alpha, a, b.columns(c.start, c.end), accumulate, out.at(c.start), size, 1) };
    });
}

fn mean_squares<T: Real>(z: Matrix<T>, rows: usize, q: &mut [T]) {
    q.fill(T::zero());
    for row in 0..rows {
        q.iter_mut().zip(z.row(row)).for_each(|(q, z)| *q += *z * *z);
    }
    let share = T::of(1.0 / rows as f64);
    q.iter_mut().for_each(|q| *q *= share);
}

/// Row by row, so that long sums keep their precision.
pub(super) fn sum_of_squares<T: Real>(values: &[T]) -> f64 {
    values.chunks(1024).map(|values| crate::reduce::sum_of_squares(values).wide()).sum()
}

pub(super) fn diagonal<T: Real>(c: &[T], size: usize, q: &mut [T]) {
    q.iter_mut().zip(c.iter().step_by(size + 1)).for_each(|(q, c)| *q = *c);
}

/// The largest sum of absolute values in a column (or row) of a symmetric matrix, at least its largest eigenvalue; `sums` has room
/// for those of all columns.
fn widest<T: Real>(c: &[T], size: usize, sums: &mut [T]) -> f64 {
    sums.fill(T::zero());
    vectorize(
        #[inline(always)]
        || c.chunks_exact(size).for_each(|row| sums.iter_mut().zip(row).for_each(|(sum, c)| *sum += c.abs())),
    );
    sums.iter().map(|sum| sum.wide()).fold(0.0, f64::max)
}

/// Shortens columns that are longer than `cap`; false where a number is not finite.
fn cap_columns<T: Real>(s: &mut [T], size: usize, cap: f64, squares: &mut [T]) -> bool {
    squares.fill(T::zero());
    for row in s.chunks_exact(size) {
        squares.iter_mut().zip(row).for_each(|(sum, s)| *sum += *s * *s);
    }
    if !squares.iter().all(|sum| sum.is_finite()) {
        return false;
    }
    let cap = T::of(cap);
    if squares.iter().any(|sum| *sum > cap * cap) {
        squares.iter_mut().for_each(|sum| *sum = (cap / sum.sqrt()).min(T::one()));
        for row in s.chunks_exact_mut(size) {
            row.iter_mut().zip(&*squares).for_each(|(s, factor)| *s *= *factor);
        }
    }
    true
}
