//! The bodies of the exported kernels: thin, synchronous, over the caller's arrays.

use crate::arguments::{slice, slice_mut};
use crate::status::Fault;
use engine::Error;
use kernels::Real;
use kernels::gemm::{Matrix, gemm};

#[allow(clippy::too_many_arguments)] // The signature of the exported function.
pub unsafe fn matmul<T: Real>(
    m: u32,
    n: u32,
    k: u32,
    alpha: f64,
    a: *const T,
    a_length: u32,
    transpose_a: u32,
    b: *const T,
    b_length: u32,
    transpose_b: u32,
    accumulate: u32,
    c: *mut T,
    c_length: u32,
) -> Result<(), Fault> {
    let (m, n, k) = (m as usize, n as usize, k as usize);
    // SAFETY: the caller's promise.
    let (a, b, c) = unsafe { (slice(a, a_length)?, slice(b, b_length)?, slice_mut(c, c_length)?) };
    for (name, expected, found) in [("a", m * k, a.len()), ("b", k * n, b.len()), ("c", m * n, c.len())] {
        if expected != found {
            return Err(Error::shape(name, format!("{expected} elements"), found));
        }
    }
    let a = if transpose_a != 0 { Matrix::new(a, k, m).t() } else { Matrix::new(a, m, k) };
    let b = if transpose_b != 0 { Matrix::new(b, n, k).t() } else { Matrix::new(b, k, n) };
    gemm(T::of(alpha), a, b, accumulate != 0, c);
    Ok(())
}
