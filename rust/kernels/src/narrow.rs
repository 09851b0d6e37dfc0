//! Products with a few columns, such as those of a last layer with ten outputs: the libraries' kernels are made for wide
//! results and reach a third of their speed here.
//!
//! A row of the result is [`WIDTH`] lanes in registers. Rows of the right matrix are read where they are, with what follows
//! them in the lanes past their end, which nobody looks at.

use crate::gemm::Matrix;
use crate::isa::{Isa, isa};
use crate::real::Real;
use crate::sparse::Vector;

/// Most columns of the result.
pub const WIDTH: usize = 16;

/// `c = alpha · a · b`, or `c += …` when `accumulate`; b has at most [`WIDTH`] columns and lies row after row, as does c.
///
/// # Safety
/// The elements of the result must be writable and not read or written by anyone else during the call.
pub unsafe fn product_into<T: Real>(alpha: T, a: Matrix<T>, b: Matrix<T>, accumulate: bool, c: *mut T) {
    // SAFETY: the set is available; the elements by the caller's promise.
    unsafe { Job { alpha, a, b, accumulate, c }.run(isa()) }
}

struct Job<'a, T> {
    alpha: T,
    a: Matrix<'a, T>,
    b: Matrix<'a, T>,
    accumulate: bool,
    c: *mut T,
}

impl<T: Real> Job<'_, T> {
    /// # Safety
    /// As [`product_into`], on a machine that has `isa`.
    unsafe fn run(&self, isa: Isa) {
        assert!((1..=WIDTH).contains(&self.b.width()) && self.b.is_whole(), "rows of a narrow matrix");
        assert!(self.a.width() == self.b.height(), "inner dimensions of a product");
        // SAFETY: the caller's promise.
        unsafe {
            match isa {
                Isa::Portable => product::<T, T::Portable>(self),
                #[cfg(target_arch = "x86_64")]
                Isa::Avx2 => on_avx2(self),
                #[cfg(target_arch = "x86_64")]
                Isa::Avx512 => on_avx512(self),
                #[cfg(not(target_arch = "x86_64"))]
                Isa::Avx2 | Isa::Avx512 => product::<T, T::Portable>(self),
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn on_avx2<T: Real>(job: &Job<T>) {
    // SAFETY: the caller's promise.
    unsafe { product::<T, T::Avx2>(job) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn on_avx512<T: Real>(job: &Job<T>) {
    // SAFETY: the caller's promise.
    unsafe { product::<T, T::Avx512>(job) }
}

/// # Safety
/// As [`product_into`], with a register that the machine has.
#[inline(always)]
unsafe fn product<T: Real, V: Vector<T>>(job: &Job<T>) {
    // SAFETY: the caller's promise; eight registers of sums, whatever their width.
    unsafe {
        match WIDTH / V::LANES {
            1 => rows::<T, V, 1, 8>(job),
            2 => rows::<T, V, 2, 4>(job),
            4 => rows::<T, V, 4, 2>(job),
            _ => rows::<T, V, 8, 1>(job),
        }
    }
}

/// All rows of the result, `ROWS` at a time.
///
/// # Safety
/// As [`product`]; `R` registers hold a row.
#[inline(always)]
#[allow(clippy::needless_range_loop)] // Loops over constants by index become registers; iterators over arrays did not.
unsafe fn rows<T: Real, V: Vector<T>, const R: usize, const ROWS: usize>(job: &Job<T>) {
    let (height, inner, columns) = (job.a.height(), job.a.width(), job.b.width());
    let b = job.b.data();
    // Rows of b that have `WIDTH` elements before the end of the matrix are read in place; the rest from a longer copy.
    let direct = if b.len() < WIDTH { 0 } else { ((b.len() - WIDTH) / columns + 1).min(inner) };
    let mut tail = [T::zero(); 2 * WIDTH];
    tail[..b.len() - direct * columns].copy_from_slice(&b[direct * columns..]);
    for first in (0..height).step_by(ROWS) {
        // Rows past the end repeat the last one and are thrown away.
        let a: [*const T; ROWS] = std::array::from_fn(|row| job.a.pointer((first + row).min(height - 1), 0));
        let step = job.a.col_stride();
        let mut sums = [[T::zero(); WIDTH]; ROWS];
        // SAFETY: rows of `a` have `inner` elements, `step` apart; from every row before `direct` on b has `WIDTH` elements, and so
        // has the copy from every later one; rows of `sums` have `WIDTH` elements, which `R` registers hold.
        unsafe {
            let mut registers = [[V::splat(T::zero()); R]; ROWS];
            add(&mut registers, a, step, (b.as_ptr(), columns), direct);
            let rest = a.map(|a| a.wrapping_add(direct * step));
            add(&mut registers, rest, step, (tail.as_ptr(), columns), inner - direct);
            for i in 0..ROWS {
                for r in 0..R {
                    registers[i][r].store(sums[i].as_mut_ptr().add(r * V::LANES));
                }
            }
        }
        for (row, sums) in (first..height).zip(&sums) {
            // SAFETY: writable by the caller's promise.
            let c = unsafe { std::slice::from_raw_parts_mut(job.c.add(row * columns), columns) };
            for (c, sum) in c.iter_mut().zip(sums) {
                *c = job.alpha * *sum + if job.accumulate { *c } else { T::zero() };
            }
        }
    }
}

/// registers += the first `inner` elements of the rows `a`, `step` apart, times as many rows of `b`, `columns` apart.
///
/// # Safety
/// All of them must be readable, and `WIDTH` elements from each row of `b` on.
#[inline(always)]
#[allow(clippy::needless_range_loop)] // As above.
unsafe fn add<T: Real, V: Vector<T>, const R: usize, const ROWS: usize>(
    registers: &mut [[V; R]; ROWS],
    mut a: [*const T; ROWS],
    step: usize,
    (mut b, columns): (*const T, usize),
    inner: usize,
) {
    let mut sums = *registers;
    for _ in 0..inner {
        // SAFETY: the caller's promise.
        unsafe {
            let mut row = [V::splat(T::zero()); R];
            for r in 0..R {
                row[r] = V::load(b.add(r * V::LANES));
            }
            for i in 0..ROWS {
                let factor = V::splat(*a[i]);
                for r in 0..R {
                    sums[i][r] = factor.mul_add(row[r], sums[i][r]);
                }
                a[i] = a[i].wrapping_add(step);
            }
        }
        b = b.wrapping_add(columns);
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
        let (a, b, c0) = (numbers(m * k, 1), numbers(k * n, 2), numbers(m * n, 3));
        let a = if ta { Matrix::new(&a, k, m).t() } else { Matrix::new(&a, m, k) };
        let b = Matrix::new(&b, k, n);
        let (mut fast, mut plain) = (c0.clone(), c0);
        let job = Job { alpha: T::of(0.5), a, b, accumulate, c: fast.as_mut_ptr() };
        // SAFETY: the whole result is borrowed; the set is available.
        unsafe { job.run(isa) };
        reference::gemm(T::of(0.5), a, b, accumulate, &mut plain);
        for (f, p) in fast.iter().zip(&plain) {
            assert!((f.wide() - p.wide()).abs() < tolerance, "{} {m}×{n}×{k}: {f} against {p}", isa.name());
        }
    }

    proptest! {
        #[test]
        fn product_equals_plain_loops_on_every_instruction_set(
            m in 1usize..40, n in 1usize..=WIDTH, k in 1usize..600, ta: bool, accumulate: bool,
        ) {
            for isa in Isa::ALL.into_iter().filter(|isa| isa.available()) {
                check::<f32>(isa, (m, n, k), (ta, accumulate), 5e-5);
                check::<f64>(isa, (m, n, k), (ta, accumulate), 1e-12);
            }
        }
    }
}
