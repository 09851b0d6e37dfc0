//! Matrix products on one thread: `c (+)= alpha · a · b` with any strides.
//!
//! The products themselves come from libraries (private-gemm-x86 where the machine has AVX2 or better, matrixmultiply
//! elsewhere); both add over the inner dimension in one fixed order, whatever block of `c` is asked for. That is what
//! lets [`crate::linear`] cut results between threads without changing a bit.

use crate::isa::isa;
use crate::real::Real;

/// A read-only matrix over a slice.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a, T> {
    data: &'a [T],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

impl<'a, T> Matrix<'a, T> {
    /// `rows × cols`, row after row.
    pub fn new(data: &'a [T], rows: usize, cols: usize) -> Self {
        Matrix::strided(data, rows, cols, cols, 1)
    }

    /// `rows × cols` with element (i, j) at `i · row_stride + j · col_stride`.
    pub fn strided(data: &'a [T], rows: usize, cols: usize, row_stride: usize, col_stride: usize) -> Self {
        let needed = extent(rows, cols, row_stride, col_stride);
        assert!(data.len() >= needed, "a {rows}×{cols} matrix needs {needed} elements, the slice has {}", data.len());
        Matrix { data, rows, cols, row_stride, col_stride }
    }

    /// The transpose, without moving anything.
    pub fn t(self) -> Self {
        Matrix {
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
            data: self.data,
        }
    }

    /// Number of rows.
    pub fn height(self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn width(self) -> usize {
        self.cols
    }

    /// Where element (i, j) lies.
    pub fn pointer(self, i: usize, j: usize) -> *const T {
        assert!(i < self.rows && j < self.cols);
        &raw const self.data[i * self.row_stride + j * self.col_stride]
    }

    /// The elements from the first one on, for a matrix whose rows have no gaps, and how far apart rows lie.
    pub fn lines(self) -> (&'a [T], usize) {
        assert!(self.col_stride == 1);
        (self.data, self.row_stride)
    }

    /// How far apart neighbours of a row lie.
    pub fn col_stride(self) -> usize {
        self.col_stride
    }

    /// A row, of a matrix that lies row after row.
    pub fn row(self, index: usize) -> &'a [T] {
        assert!(self.col_stride == 1 && index < self.rows);
        &self.data[index * self.row_stride..][..self.cols]
    }

    /// Columns `from..to`.
    pub fn columns(self, from: usize, to: usize) -> Self {
        assert!(from <= to && to <= self.cols);
        let start = (from * self.col_stride).min(self.data.len());
        Matrix { data: &self.data[start..], cols: to - from, ..self }
    }

    /// Rows `from..to`.
    pub fn rows(self, from: usize, to: usize) -> Self {
        self.t().columns(from, to).t()
    }
}

fn extent(rows: usize, cols: usize, row_stride: usize, col_stride: usize) -> usize {
    if rows == 0 || cols == 0 { 0 } else { (rows - 1) * row_stride + (cols - 1) * col_stride + 1 }
}

/// `c = alpha · a · b`, or `c += …` when `accumulate`; `c` is `a.rows × b.cols`, row after row.
pub fn gemm<T: Real>(alpha: T, a: Matrix<T>, b: Matrix<T>, accumulate: bool, c: &mut [T]) {
    assert_eq!(c.len(), a.rows * b.cols, "the result has {}×{} elements", a.rows, b.cols);
    // SAFETY: `c` is a whole row-major matrix (asserted) and borrowed mutably, so it overlaps nothing.
    unsafe { gemm_into(alpha, a, b, accumulate, c.as_mut_ptr(), b.cols, 1) }
}

/// [`gemm`] into a strided part of a larger matrix.
///
/// # Safety
/// Element (i, j) of the result, at `i · row_stride + j · col_stride` from `c`, must be writable and not read or written
/// by anyone else during the call.
pub(crate) unsafe fn gemm_into<T: Real>(
    alpha: T,
    a: Matrix<T>,
    b: Matrix<T>,
    accumulate: bool,
    c: *mut T,
    row_stride: usize,
    col_stride: usize,
) {
    assert_eq!(a.cols, b.rows, "inner dimensions of a product");
    let (m, n, k) = (a.rows, b.cols, a.cols);
    if k == 0 {
        if !accumulate {
            for i in 0..m {
                for j in 0..n {
                    // SAFETY: writable by the caller's promise.
                    unsafe { *c.add(i * row_stride + j * col_stride) = T::zero() };
                }
            }
        }
        return;
    }
    // SAFETY: `a` and `b` lie inside their slices (checked when they were made); `c` by the caller's promise; `isa()` is available.
    unsafe {
        T::gemm_raw(
            isa(),
            (m, n, k),
            alpha,
            (a.data.as_ptr(), a.row_stride as isize, a.col_stride as isize),
            (b.data.as_ptr(), b.row_stride as isize, b.col_stride as isize),
            accumulate,
            (c, row_stride as isize, col_stride as isize),
        );
    }
}

/// Plain loops: what the fast product is tested against.
#[cfg(test)]
pub(crate) mod reference {
    use super::*;

    pub fn gemm<T: Real>(alpha: T, a: Matrix<T>, b: Matrix<T>, accumulate: bool, c: &mut [T]) {
        for i in 0..a.rows {
            for j in 0..b.cols {
                let mut sum = T::zero();
                for p in 0..a.cols {
                    sum += a.data[i * a.row_stride + p * a.col_stride] * b.data[p * b.row_stride + j * b.col_stride];
                }
                let old = if accumulate { c[i * b.cols + j] } else { T::zero() };
                c[i * b.cols + j] = old + alpha * sum;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::Isa;
    use proptest::prelude::*;

    fn numbers(n: usize, seed: u64) -> Vec<f64> {
        let rng = crate::rng::Philox::new(seed, crate::rng::Purpose::Initialise);
        (0..n).map(|i| rng.uniform(i as u64, [0, 0]) - 0.5).collect()
    }

    fn check<T: Real>(
        isa: Isa,
        m: usize,
        n: usize,
        k: usize,
        (ta, tb): (bool, bool),
        accumulate: bool,
        tolerance: f64,
    ) {
        let of = |v: Vec<f64>| v.into_iter().map(T::of).collect::<Vec<T>>();
        let (a, b, c0) = (of(numbers(m * k, 1)), of(numbers(k * n, 2)), of(numbers(m * n, 3)));
        let a = if ta { Matrix::new(&a, k, m).t() } else { Matrix::new(&a, m, k) };
        let b = if tb { Matrix::new(&b, n, k).t() } else { Matrix::new(&b, k, n) };
        let (mut fast, mut plain) = (c0.clone(), c0);
        // SAFETY: as in `gemm`; the caller has checked that `isa` is available.
        unsafe {
            T::gemm_raw(
                isa,
                (m, n, k),
                T::of(0.5),
                (a.data.as_ptr(), a.row_stride as isize, a.col_stride as isize),
                (b.data.as_ptr(), b.row_stride as isize, b.col_stride as isize),
                accumulate,
                (fast.as_mut_ptr(), n as isize, 1),
            );
        }
        reference::gemm(T::of(0.5), a, b, accumulate, &mut plain);
        for (i, (f, p)) in fast.iter().zip(&plain).enumerate() {
            let difference = (f.wide() - p.wide()).abs();
            assert!(difference < tolerance, "{} {m}×{n}×{k} element {i}: {f} against {p}", isa.name());
        }
    }

    proptest! {
        #[test]
        fn gemm_equals_plain_loops_on_every_instruction_set(
            m in 1usize..70, n in 1usize..70, k in 1usize..70, ta: bool, tb: bool, accumulate: bool,
        ) {
            for isa in Isa::ALL.into_iter().filter(|isa| isa.available()) {
                check::<f32>(isa, m, n, k, (ta, tb), accumulate, 2e-5);
                check::<f64>(isa, m, n, k, (ta, tb), accumulate, 1e-13);
            }
        }
    }

    #[test]
    fn gemm_with_a_deep_inner_dimension_equals_plain_loops() {
        for isa in Isa::ALL.into_iter().filter(|isa| isa.available()) {
            check::<f32>(isa, 33, 100, 1300, (false, false), true, 2e-4);
            check::<f64>(isa, 100, 33, 1300, (true, true), false, 1e-12);
        }
    }

    #[test]
    fn gemm_over_nothing_is_zero() {
        let mut c = [1.0; 6];
        gemm(1.0, Matrix::new(&[], 2, 0), Matrix::new(&[], 0, 3), true, &mut c);
        assert_eq!(c, [1.0; 6]);
        gemm(1.0, Matrix::new(&[], 2, 0), Matrix::new(&[], 0, 3), false, &mut c);
        assert_eq!(c, [0.0; 6]);
    }
}
