//! Products of small matrices, read where they lie. The libraries' kernels pack their operands and are made for wide results:
//! packing and dispatch are a sixth of the time of a 32×64×64 product, and with ten columns they reach a third of their speed.
//!
//! A tile of the result is some rows of a panel of columns, in registers, which are finished before they are stored. Rows of
//! the right matrix are read with what follows them in the lanes past their end, which nobody looks at.

use crate::gemm::Matrix;
use crate::isa::{Isa, isa};
use crate::real::Real;
use crate::sparse::Vector;
use std::ops::Range;

/// Most elements of the right matrix: it stays in the first cache, which the rows of the left one walk through again and again.
pub const MOST: usize = 16_384;

/// Most registers in a row of a tile.
const ACROSS: usize = 4;

/// Most elements in a row of a tile, whatever the instruction set.
const WIDEST: usize = ACROSS * 16;

/// Whether `b` is a right matrix, or some columns of one with `columns` in all, that this is made for.
pub fn fits<T: Real>(b: Matrix<T>, columns: usize) -> bool {
    // A single column is a product of a matrix and a vector, for which the libraries have kernels.
    b.col_stride() == 1 && columns > 1 && (1..=MOST).contains(&(columns * b.height()))
}

/// c = alpha · (a · b + bias), or c += …, for a right matrix that [`fits`]; rows of c lie `stride` apart. `finish(row, columns, values)`
/// completes each piece of a row.
///
/// # Safety
/// The elements of the result must be writable and not read or written by anyone else during the call.
pub unsafe fn product_into<T: Real>(
    alpha: T,
    a: Matrix<T>,
    b: Matrix<T>,
    bias: Option<&[T]>,
    accumulate: bool,
    (c, stride): (*mut T, usize),
    finish: impl Fn(usize, Range<usize>, &mut [T]),
) {
    // SAFETY: the set is available; the elements by the caller's promise.
    unsafe { Job { alpha, a, b, bias, accumulate, c, stride, finish }.run(isa()) }
}

struct Job<'a, T, F> {
    alpha: T,
    a: Matrix<'a, T>,
    b: Matrix<'a, T>,
    bias: Option<&'a [T]>,
    accumulate: bool,
    c: *mut T,
    stride: usize,
    finish: F,
}

/// Some columns of b, as far as registers hold their sums.
struct Panel<T> {
    columns: Range<usize>,
    /// Where the first row begins, and how far apart rows lie, wherever they are.
    lines: *const T,
    apart: usize,
    /// Rows that are read in place, and where the copy of the others begins.
    direct: usize,
    tail: *const T,
}

impl<T: Real, F: Fn(usize, Range<usize>, &mut [T])> Job<'_, T, F> {
    /// # Safety
    /// As [`product_into`], on a machine that has `isa`.
    unsafe fn run(&self, isa: Isa) {
        assert!(self.a.width() == self.b.height(), "inner dimensions of a product");
        assert!(self.bias.is_none_or(|bias| bias.len() == self.b.width()), "a bias for each column");
        // SAFETY: the caller's promise.
        unsafe {
            match isa {
                Isa::Portable => self.product::<T::Portable>(),
                #[cfg(target_arch = "x86_64")]
                Isa::Avx2 => on_avx2(self),
                #[cfg(target_arch = "x86_64")]
                Isa::Avx512 => on_avx512(self),
                #[cfg(not(target_arch = "x86_64"))]
                Isa::Avx2 | Isa::Avx512 => self.product::<T::Portable>(),
            }
        }
    }

    /// # Safety
    /// As [`product_into`], with a register that the machine has.
    #[inline(always)]
    unsafe fn product<V: Vector<T>>(&self) {
        // Fewer registers hold fewer sums beside what is read.
        let most = if V::REGISTERS < 32 { 2 } else { ACROSS };
        let (columns, mut first) = (self.b.width(), 0);
        while first < columns {
            let across = (columns - first).div_ceil(V::LANES).min(most);
            // SAFETY: the caller's promise. At least eight registers of sums hide how long an addition takes; with sixteen
            // registers in all, twelve of them gain a tenth over eight.
            unsafe {
                match across {
                    1 => self.panel::<V, 1, 8, 8>(first),
                    2 if V::REGISTERS < 32 => self.panel::<V, 2, 6, 4>(first),
                    2 => self.panel::<V, 2, 8, 8>(first),
                    3 => self.panel::<V, 3, 4, 4>(first),
                    _ => self.panel::<V, ACROSS, 4, 4>(first),
                }
            }
            first += across * V::LANES;
        }
    }

    /// The columns from `first` on that `R` registers hold, `ROWS` rows at a time; six and four of them add up to any even number.
    ///
    /// # Safety
    /// As [`Job::product`].
    #[inline(always)]
    unsafe fn panel<V: Vector<T>, const R: usize, const ROWS: usize, const FEWER: usize>(&self, first: usize) {
        let (height, inner, width) = (self.a.height(), self.a.width(), R * V::LANES);
        let columns = first..self.b.width().min(first + width);
        let (b, apart) = self.b.columns(columns.start, columns.end).lines();
        // Rows of b with whole registers before the end of the matrix are read in place; the rest from a longer copy.
        let direct = if b.len() < width { 0 } else { ((b.len() - width) / apart + 1).min(inner) };
        let mut tail = [T::zero(); 2 * WIDEST];
        if direct < inner {
            let rest = &b[direct * apart..];
            tail[..rest.len()].copy_from_slice(rest);
        }
        let b = Panel { columns, lines: b.as_ptr(), apart, direct, tail: tail.as_ptr() };
        let mut row = 0;
        while row < height {
            let fewer = FEWER < ROWS && (height - row).div_ceil(2) % 3 != 0;
            // SAFETY: from every row before `direct` on b has `width` elements, and so has the copy from every later one; the rest by the
            // caller's promise.
            unsafe {
                match fewer {
                    true => self.tile::<V, R, FEWER>(row, &b),
                    false => self.tile::<V, R, ROWS>(row, &b),
                }
            }
            row += if fewer { FEWER } else { ROWS };
        }
    }

    /// `ROWS` rows from `row` on of a panel.
    ///
    /// # Safety
    /// As [`Job::product`], with a panel of `R` registers.
    #[inline(always)]
    #[allow(clippy::needless_range_loop)] // Loops over constants by index become registers; iterators over arrays did not.
    unsafe fn tile<V: Vector<T>, const R: usize, const ROWS: usize>(&self, row: usize, b: &Panel<T>) {
        let (height, inner, width) = (self.a.height(), self.a.width(), R * V::LANES);
        let Panel { columns, lines, apart, direct, tail } = b;
        let (first, apart, direct) = (columns.start, *apart, *direct);
        // Lanes of the last register that belong to the result.
        let last = columns.len() - (R - 1) * V::LANES;
        let step = self.a.col_stride();
        // Rows past the end repeat the last one and are thrown away.
        let a: [*const T; ROWS] = std::array::from_fn(|i| self.a.pointer((row + i).min(height - 1), 0));
        // SAFETY: rows of `a` have `inner` elements, `step` apart; from every row before `direct` on b has `width` elements, and so
        // has the copy from every later one; the bias has an element for each column, and c is writable by the caller's promise.
        unsafe {
            let mut sums = [[V::splat(T::zero()); R]; ROWS];
            if let Some(bias) = self.bias {
                let bias = pieces::<T, V, R>(bias.as_ptr().add(first).cast_mut(), last)
                    .map(|(at, count)| V::load_first(at, count));
                sums = [bias; ROWS];
            }
            add(&mut sums, a, step, (*lines, apart), direct);
            let rest = a.map(|a| a.wrapping_add(direct * step));
            add(&mut sums, rest, step, (*tail, apart), inner - direct);
            // All is read before anything is stored: reading across what was just stored in part would wait for the cache.
            let alpha = V::splat(self.alpha);
            for i in 0..ROWS {
                let c = pieces::<T, V, R>(self.row(row + i).add(first), last);
                for r in 0..R {
                    let (at, count) = c[r];
                    sums[i][r] = match self.accumulate {
                        true => alpha.mul_add(sums[i][r], V::load_first(at, count)),
                        false => alpha.mul(sums[i][r]),
                    };
                }
            }
            for i in 0..ROWS {
                let c = pieces::<T, V, R>(self.row(row + i).add(first), last);
                for r in 0..R {
                    sums[i][r].store_first(c[r].0, c[r].1);
                }
            }
        }
        for row in row..height.min(row + ROWS) {
            // SAFETY: writable by the caller's promise.
            let c = unsafe { std::slice::from_raw_parts_mut(self.c.add(row * self.stride + first), columns.len()) };
            // Loops over a whole piece have a length that the compiler knows.
            if columns.len() == width {
                (self.finish)(row, first..first + width, &mut c[..width]);
            } else {
                (self.finish)(row, columns.clone(), c);
            }
        }
    }

    /// Where a row of the result begins; rows past the end are the last one.
    ///
    /// # Safety
    /// As [`Job::product`].
    #[inline(always)]
    unsafe fn row(&self, row: usize) -> *mut T {
        // SAFETY: inside the result.
        unsafe { self.c.add(row.min(self.a.height() - 1) * self.stride) }
    }
}

/// Where the registers of a piece of a row lie, and how many of their lanes: all, of the last one `last`.
///
/// # Safety
/// All of them must be in one allocation.
#[inline(always)]
unsafe fn pieces<T: Real, V: Vector<T>, const R: usize>(start: *mut T, last: usize) -> [(*mut T, usize); R] {
    // SAFETY: the caller's promise.
    std::array::from_fn(|r| (unsafe { start.add(r * V::LANES) }, if r + 1 < R { V::LANES } else { last }))
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn on_avx2<T: Real, F: Fn(usize, Range<usize>, &mut [T])>(job: &Job<T, F>) {
    // SAFETY: the caller's promise.
    unsafe { job.product::<T::Avx2>() }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn on_avx512<T: Real, F: Fn(usize, Range<usize>, &mut [T])>(job: &Job<T, F>) {
    // SAFETY: the caller's promise.
    unsafe { job.product::<T::Avx512>() }
}

/// registers += the first `inner` elements of the rows `a`, `step` apart, times as many rows of `b`.
///
/// # Safety
/// All of them must be readable, and `R` registers from each row of `b` on.
#[inline(always)]
#[allow(clippy::needless_range_loop)] // As above.
unsafe fn add<T: Real, V: Vector<T>, const R: usize, const ROWS: usize>(
    registers: &mut [[V; R]; ROWS],
    a: [*const T; ROWS],
    step: usize,
    (mut b, apart): (*const T, usize),
    inner: usize,
) {
    let mut sums = *registers;
    for k in 0..inner {
        // SAFETY: the caller's promise.
        unsafe {
            let mut row = [V::splat(T::zero()); R];
            for r in 0..R {
                row[r] = V::load(b.add(r * V::LANES));
            }
            for i in 0..ROWS {
                let factor = V::splat(*a[i].add(k * step));
                for r in 0..R {
                    sums[i][r] = factor.mul_add(row[r], sums[i][r]);
                }
            }
        }
        b = b.wrapping_add(apart);
    }
    *registers = sums;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gemm::reference;
    use crate::rng::{Philox, Purpose};
    use proptest::prelude::*;

    fn check<T: Real>(isa: Isa, (m, n, k): (usize, usize, usize), (ta, accumulate): (bool, bool), tolerance: f64) {
        let rng = Philox::new(1, Purpose::Initialise);
        let numbers = |count: usize, stream: u32| -> Vec<T> {
            (0..count).map(|i| T::of(rng.uniform(i as u64, [stream, 0]) - 0.5)).collect()
        };
        let (a, b, c0, bias) = (numbers(m * k, 1), numbers(k * n, 2), numbers(m * n, 3), numbers(n, 4));
        let a = if ta { Matrix::new(&a, k, m).t() } else { Matrix::new(&a, m, k) };
        let b = Matrix::new(&b, k, n);
        let (mut fast, mut plain) = (c0.clone(), c0);
        // In two parts, as threads share a product.
        let c = fast.as_mut_ptr();
        for columns in [0..n / 3, n / 3..n] {
            let finish = |row: usize, k: Range<usize>, values: &mut [T]| {
                for (value, column) in values.iter_mut().zip(k) {
                    *value += T::of(((row + columns.start + column) % 8) as f64);
                }
            };
            let (b, bias) = (b.columns(columns.start, columns.end), accumulate.then_some(&bias[columns.clone()]));
            // SAFETY: the whole result is borrowed, and nobody else uses it; the set is available.
            unsafe {
                let c = c.add(columns.start);
                Job { alpha: T::of(0.5), a, b, bias, accumulate, c, stride: n, finish }.run(isa);
            }
        }
        reference::gemm(T::of(0.5), a, b, accumulate, &mut plain);
        for (i, (f, p)) in fast.iter().zip(&plain).enumerate() {
            let of_bias = if accumulate { 0.5 * bias[i % n].wide() } else { 0.0 };
            let difference = (f.wide() - p.wide() - of_bias - ((i / n + i % n) % 8) as f64).abs();
            assert!(difference < tolerance, "{} {m}×{n}×{k} element {i}: {difference}", isa.name());
        }
    }

    proptest! {
        #[test]
        fn product_equals_plain_loops_on_every_instruction_set(
            m in 1usize..40, n in 1usize..150, k in 1usize..200, ta: bool, accumulate: bool,
        ) {
            for isa in Isa::ALL.into_iter().filter(|isa| isa.available()) {
                check::<f32>(isa, (m, n, k), (ta, accumulate), 5e-5);
                check::<f64>(isa, (m, n, k), (ta, accumulate), 1e-11);
            }
        }
    }
}
