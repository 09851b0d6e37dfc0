//! Sums in a fixed order: one thread and eight give the same bits.

use crate::isa::vectorize;
use crate::par::{self, Job, Par, Shared};
use crate::real::Real;

/// Independent partial sums of one reduction: wide enough to fill the vector units, always the same number.
const LANES: usize = 32;

/// Columns that one task adds up.
const COLUMN_BLOCK: usize = 256;

/// Rough cost of one element of a sum over rows, which waits for memory.
const OPERATIONS: usize = 30;

/// Columns whose sums are in registers at once.
const STRIP: usize = 64;

/// out[j] = Σ over rows of g[row, j] (added to `out` when `accumulate`).
pub fn column_sums<T: Real>(par: Par, g: &[T], columns: usize, accumulate: bool, out: &mut [T]) {
    column_sums_job(g, columns, accumulate, out).run(par);
}

/// What [`column_sums`] does, to be done together with other work.
pub fn column_sums_job<'a, T: Real>(
    g: &'a [T],
    columns: usize,
    accumulate: bool,
    out: &'a mut [T],
) -> Job<impl Fn(usize) + Sync + 'a> {
    assert_eq!(out.len(), columns);
    assert!(columns == 0 || g.len().is_multiple_of(columns));
    let out = Shared::new(out);
    Job::new(columns.div_ceil(COLUMN_BLOCK), g.len() * OPERATIONS, move |index| {
        let range = par::block(index, columns, COLUMN_BLOCK);
        // SAFETY: column blocks are disjoint.
        let out = unsafe { out.slice(range.clone()) };
        vectorize(
            #[inline(always)]
            || {
                if !accumulate {
                    out.fill(T::zero());
                }
                let mut from = range.start;
                let mut strips = out.chunks_exact_mut(STRIP);
                for strip in &mut strips {
                    // A copy of known length stays in registers.
                    let mut sums: [T; STRIP] = std::array::from_fn(|i| strip[i]);
                    for row in g.chunks_exact(columns) {
                        for (sum, value) in sums.iter_mut().zip(&row[from..from + STRIP]) {
                            *sum += *value;
                        }
                    }
                    strip.copy_from_slice(&sums);
                    from += STRIP;
                }
                let rest = strips.into_remainder();
                let count = rest.len();
                if count == 0 {
                    return;
                }
                // Rows are read with what follows them, as far as anything does: of the sums of that nobody asks.
                let mut sums: [T; STRIP] = std::array::from_fn(|i| if i < count { rest[i] } else { T::zero() });
                while let Some(row) = g.get(from..from + STRIP) {
                    for (sum, value) in sums.iter_mut().zip(row) {
                        *sum += *value;
                    }
                    from += columns;
                }
                rest.copy_from_slice(&sums[..count]);
                while let Some(row) = g.get(from..from + count) {
                    for (sum, value) in rest.iter_mut().zip(row) {
                        *sum += *value;
                    }
                    from += columns;
                }
            },
        );
    })
}

/// Σ xᵢ², in `LANES` interleaved sums.
pub fn sum_of_squares<T: Real>(x: &[T]) -> T {
    vectorize(
        #[inline(always)]
        || {
            let mut lanes = [T::zero(); LANES];
            let mut chunks = x.chunks_exact(LANES);
            for chunk in &mut chunks {
                for (sum, value) in lanes.iter_mut().zip(chunk) {
                    *sum += *value * *value;
                }
            }
            for (sum, value) in lanes.iter_mut().zip(chunks.remainder()) {
                *sum += *value * *value;
            }
            fold(&mut lanes)
        },
    )
}

/// Σ xᵢ yᵢ, in `LANES` interleaved sums.
pub fn dot<T: Real>(x: &[T], y: &[T]) -> T {
    assert_eq!(x.len(), y.len());
    vectorize(
        #[inline(always)]
        || {
            let mut lanes = [T::zero(); LANES];
            let (mut xs, mut ys) = (x.chunks_exact(LANES), y.chunks_exact(LANES));
            for (x, y) in (&mut xs).zip(&mut ys) {
                for ((sum, x), y) in lanes.iter_mut().zip(x).zip(y) {
                    *sum += *x * *y;
                }
            }
            for ((sum, x), y) in lanes.iter_mut().zip(xs.remainder()).zip(ys.remainder()) {
                *sum += *x * *y;
            }
            fold(&mut lanes)
        },
    )
}

/// Adds the lanes pairwise.
#[inline(always)]
fn fold<T: Real>(lanes: &mut [T; LANES]) -> T {
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            lanes[i] += lanes[i + width];
        }
        width /= 2;
    }
    lanes[0]
}

/// Whether every value is finite.
pub fn all_finite<T: Real>(x: &[T]) -> bool {
    // x · 0 is 0 for finite x and NaN otherwise; the sum keeps a NaN. Branch-free, so it runs at memory speed.
    vectorize(
        #[inline(always)]
        || x.chunks(1024).all(|chunk| chunk.iter().fold(T::zero(), |sum, v| sum + *v * T::zero()) == T::zero()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_equal_plain_loops_at_every_length() {
        for length in 0..=3 * LANES + 1 {
            let x: Vec<f64> = (0..length).map(|i| (i as f64).sin()).collect();
            let y: Vec<f64> = (0..length).map(|i| (i as f64).cos()).collect();
            assert!((dot(&x, &y) - x.iter().zip(&y).map(|(x, y)| x * y).sum::<f64>()).abs() < 1e-12);
            assert!((sum_of_squares(&x) - x.iter().map(|x| x * x).sum::<f64>()).abs() < 1e-12);
        }
    }

    #[test]
    fn column_sums_equal_plain_loops_at_every_width() {
        for (rows, columns) in [(1, 1), (3, 5), (32, 10), (2, 63), (5, 64), (7, 130), (4, 300)] {
            let g: Vec<f64> = (0..rows * columns).map(|i| (i as f64).sin()).collect();
            for accumulate in [false, true] {
                let mut out = vec![2.0; columns];
                column_sums(Par::SEQUENTIAL, &g, columns, accumulate, &mut out);
                let start = if accumulate { 2.0 } else { 0.0 };
                for (column, sum) in out.iter().enumerate() {
                    let expected = (0..rows).fold(start, |sum, row| sum + g[row * columns + column]);
                    assert_eq!(*sum, expected, "{rows}×{columns}, column {column}");
                }
            }
        }
    }

    #[test]
    fn column_sums_give_the_same_bits_for_any_number_of_threads() {
        let (rows, columns) = (400, 9000);
        let g: Vec<f32> = (0..rows * columns).map(|i| (i as f32 * 0.1).sin()).collect();
        let run = |threads: usize| {
            let mut out = vec![0.0; columns];
            crate::team::in_crew(threads, |par| column_sums(par, &g, columns, false, &mut out));
            out
        };
        let one = run(1);
        assert_eq!(one, run(2));
        assert_eq!(one, run(3));
        let exact: f64 = (0..rows).map(|r| f64::from(g[r * columns + 17])).sum();
        assert!((f64::from(one[17]) - exact).abs() < 1e-3);
    }

    #[test]
    fn all_finite_finds_one_bad_value() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut x = vec![1.0; 5000];
            assert!(all_finite(&x));
            x[4321] = bad;
            assert!(!all_finite(&x));
        }
    }
}
