//! The bodies of the exported kernels: thin, synchronous, over the caller's arrays.

use crate::arguments::{slice, slice_mut};
use crate::status::Fault;
use engine::Error;
use engine::rules::mem_aop::PolicyName;
use engine::rules::mem_aop::samples::Approximation;
use kernels::Real;
use kernels::gemm::{Matrix, gemm};
use kernels::select::{Choice, Stream};

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

fn policy(number: u32) -> Result<PolicyName, Fault> {
    let policy = PolicyName::ALL.get(number as usize).copied();
    policy.ok_or_else(|| Error::config("policy", "a number from 0 to 4", number))
}

fn check_length(name: &str, expected: usize, found: usize) -> Result<(), Fault> {
    if expected == found { Ok(()) } else { Err(Error::shape(name, format!("{expected} elements"), found)) }
}

#[allow(clippy::too_many_arguments)] // The signature of the exported function.
pub unsafe fn choose_rows(
    policy_number: u32,
    k: u32,
    seed: f64,
    step: u32,
    scores: *const f64,
    score_count: u32,
    rows: *mut u32,
    row_count: u32,
    weights: *mut f64,
    weight_count: u32,
    chosen: *mut u32,
) -> Result<(), Fault> {
    // SAFETY: the caller's promise.
    let (scores, rows, weights, chosen) = unsafe {
        let (rows, weights) = (slice_mut(rows, row_count)?, slice_mut(weights, weight_count)?);
        (slice(scores, score_count)?, rows, weights, slice_mut(chosen, 1)?)
    };
    let most = (k as usize).min(scores.len());
    check_length("rows", most, rows.len())?;
    check_length("weights", most, weights.len())?;
    let mut choice = Choice::new(scores.len());
    let stream = Stream::new(seed as u64, step.into(), 0);
    choice.choose(policy(policy_number)?.policy(), scores, k as usize, &stream);
    let count = choice.rows().len();
    rows[..count].copy_from_slice(choice.rows());
    weights[..count].copy_from_slice(choice.weights());
    chosen[0] = count as u32;
    Ok(())
}

#[allow(clippy::too_many_arguments)] // The signature of the exported function.
pub unsafe fn approximate_product<T: Real>(
    rows: u32,
    policy_number: u32,
    k: u32,
    center: u32,
    seed: f64,
    step: u32,
    x: *const T,
    x_length: u32,
    g: *const T,
    g_length: u32,
    memory_x: *mut T,
    memory_x_length: u32,
    memory_g: *mut T,
    memory_g_length: u32,
    out: *mut T,
    out_length: u32,
) -> Result<(), Fault> {
    let rows = rows as usize;
    // SAFETY: the caller's promise.
    let (x, g, out) = unsafe { (slice(x, x_length)?, slice(g, g_length)?, slice_mut(out, out_length)?) };
    // SAFETY: as above.
    let (memory_x, memory_g) =
        unsafe { (slice_mut(memory_x, memory_x_length)?, slice_mut(memory_g, memory_g_length)?) };
    for (name, values) in [("x", x), ("g", g)] {
        if rows == 0 || values.is_empty() || !values.len().is_multiple_of(rows) {
            return Err(Error::shape(name, format!("a multiple of {rows} elements, from {rows} up"), values.len()));
        }
    }
    check_length("out", x.len() / rows * (g.len() / rows), out.len())?;
    let memory = if memory_x.is_empty() && memory_g.is_empty() {
        None
    } else {
        check_length("the memory of x", x.len(), memory_x.len())?;
        check_length("the memory of g", g.len(), memory_g.len())?;
        Some((memory_x, memory_g))
    };
    let (policy, k, seed) = (policy(policy_number)?, (k as usize).min(rows), seed as u64);
    let approximation = Approximation { policy, k, center: center != 0, seed, step: step.into() };
    approximation.product(rows, (x, g), memory, out)
}
