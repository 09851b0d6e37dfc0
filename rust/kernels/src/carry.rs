//! Rows of a matrix and what is carried over from earlier ones: adding, norms, taking some rows out.
//!
//! The residual memory of Mem-AOP-GD (Hernandez, Rini, Duman 2021, algorithm 1) holds for every row what was not used so far. Each
//! step adds to it and needs the norms of the sums: one pass does both ([`add_rows`]).

use crate::isa::vectorize;
use crate::par::{self, Par, Shared};
use crate::real::Real;

/// Independent partial sums of a norm, as in [`crate::reduce`].
const LANES: usize = 32;

/// Elements that one task handles, about.
const CHUNK: usize = 16_384;

/// Rough cost of one element: the passes move memory.
const OPERATIONS: usize = 10;

fn rows_of_task(size: usize) -> usize {
    (CHUNK / size.max(1)).max(1)
}

/// memory[r] = keep · memory[r] + scale · (new[r] − mean), and squares[r] = ‖memory[r]‖²; `mean` may be empty for none.
pub fn add_rows<T: Real>(
    par: Par,
    memory: &mut [T],
    new: &[T],
    mean: &[T],
    (keep, scale): (T, T),
    squares: &mut [f64],
) {
    assert_eq!(memory.len(), new.len());
    let (size, count) = (row_size(new, mean, squares), squares.len());
    let (memory, squares) = (Shared::new(memory), Shared::new(squares));
    let block = rows_of_task(size);
    par.for_work(new.len() * OPERATIONS).each(count.div_ceil(block), |index| {
        let rows = par::block(index, count, block);
        // SAFETY: blocks of rows are disjoint.
        let (memory, squares) =
            unsafe { (memory.slice(rows.start * size..rows.end * size), squares.slice(rows.clone())) };
        let new = &new[rows.start * size..rows.end * size];
        vectorize(
            #[inline(always)]
            || {
                for ((memory, new), square) in memory.chunks_exact_mut(size).zip(new.chunks_exact(size)).zip(squares) {
                    *square = if mean.is_empty() {
                        add_row(memory, new, |new, _| new * scale, keep)
                    } else {
                        add_row(memory, new, |new, at| (new - mean[at]) * scale, keep)
                    };
                }
            },
        );
    });
}

/// One row of [`add_rows`]; `shape(value, column)` makes what is added.
#[inline(always)]
fn add_row<T: Real>(memory: &mut [T], new: &[T], shape: impl Fn(T, usize) -> T, keep: T) -> f64 {
    let mut lanes = [T::zero(); LANES];
    let whole = new.len() / LANES * LANES;
    let (memory, memory_rest) = memory.split_at_mut(whole);
    let (new, new_rest) = new.split_at(whole);
    for (chunk, (memory, new)) in memory.chunks_exact_mut(LANES).zip(new.chunks_exact(LANES)).enumerate() {
        for lane in 0..LANES {
            let value = keep * memory[lane] + shape(new[lane], chunk * LANES + lane);
            memory[lane] = value;
            lanes[lane] += value * value;
        }
    }
    for (lane, (memory, new)) in memory_rest.iter_mut().zip(new_rest).enumerate() {
        *memory = keep * *memory + shape(*new, whole + lane);
        lanes[lane] += *memory * *memory;
    }
    fold(&mut lanes)
}

/// squares[r] = ‖rows[r] − mean‖²; `mean` may be empty for none.
pub fn row_squares<T: Real>(par: Par, rows: &[T], mean: &[T], squares: &mut [f64]) {
    let (size, count) = (row_size(rows, mean, squares), squares.len());
    let squares = Shared::new(squares);
    let block = rows_of_task(size);
    par.for_work(rows.len() * OPERATIONS).each(count.div_ceil(block), |index| {
        let range = par::block(index, count, block);
        // SAFETY: blocks of rows are disjoint.
        let squares = unsafe { squares.slice(range.clone()) };
        vectorize(
            #[inline(always)]
            || {
                let rows = &rows[range.start * size..range.end * size];
                for (row, square) in rows.chunks_exact(size).zip(squares) {
                    *square = if mean.is_empty() {
                        square_of(row, |value, _| value)
                    } else {
                        square_of(row, |value, at| value - mean[at])
                    };
                }
            },
        );
    });
}

#[inline(always)]
fn square_of<T: Real>(row: &[T], shape: impl Fn(T, usize) -> T) -> f64 {
    // Pixels of few channels are many: filling and folding lanes would cost more than the sum.
    if row.len() < LANES / 2 {
        return row.iter().enumerate().fold(T::zero(), |sum, (at, value)| sum + shape(*value, at).powi(2)).wide();
    }
    let mut lanes = [T::zero(); LANES];
    let whole = row.len() / LANES * LANES;
    for (chunk, values) in row[..whole].chunks_exact(LANES).enumerate() {
        for lane in 0..LANES {
            let value = shape(values[lane], chunk * LANES + lane);
            lanes[lane] += value * value;
        }
    }
    for (lane, value) in row[whole..].iter().enumerate() {
        let value = shape(*value, whole + lane);
        lanes[lane] += value * value;
    }
    fold(&mut lanes)
}

/// Adds the lanes pairwise.
#[inline(always)]
fn fold<T: Real>(lanes: &mut [T; LANES]) -> f64 {
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            lanes[i] += lanes[i + width];
        }
        width /= 2;
    }
    lanes[0].wide()
}

fn row_size<T>(values: &[T], mean: &[T], squares: &[f64]) -> usize {
    let size = values.len() / squares.len().max(1);
    assert_eq!(values.len(), size * squares.len(), "whole rows");
    assert!(mean.is_empty() || mean.len() == size, "a mean of {} for rows of {size}", mean.len());
    size
}

/// to[i] = weights[i] · (from[rows[i]] − mean); `mean` and `weights` may be empty for none.
pub fn copy_rows<T: Real>(par: Par, from: &[T], mean: &[T], rows: &[u32], weights: &[f64], to: &mut [T]) {
    let size = to.len() / rows.len().max(1);
    assert_eq!(to.len(), size * rows.len(), "whole rows");
    assert!(weights.is_empty() || weights.len() == rows.len());
    assert!(mean.is_empty() || mean.len() == size);
    let block = rows_of_task(size);
    par.for_work(to.len() * OPERATIONS).chunks_mut(to, block * size, |start, to| {
        let first = start / size;
        vectorize(
            #[inline(always)]
            || {
                for (index, to) in to.chunks_exact_mut(size).enumerate() {
                    let at = rows[first + index] as usize * size;
                    let from = &from[at..at + size];
                    let weight = weights.get(first + index).map_or(T::one(), |weight| T::of(*weight));
                    if mean.is_empty() && weight == T::one() {
                        to.copy_from_slice(from);
                    } else if mean.is_empty() {
                        to.iter_mut().zip(from).for_each(|(to, from)| *to = *from * weight);
                    } else {
                        let pairs = to.iter_mut().zip(from).zip(mean);
                        pairs.for_each(|((to, from), mean)| *to = (*from - *mean) * weight);
                    }
                }
            },
        );
    });
}

/// Sets some rows to zero.
pub fn clear_rows<T: Real>(values: &mut [T], size: usize, rows: &[u32]) {
    for row in rows {
        values[*row as usize * size..(*row as usize + 1) * size].fill(T::zero());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Philox, Purpose};

    fn numbers<T: Real>(count: usize, seed: u64) -> Vec<T> {
        let rng = Philox::new(seed, Purpose::Initialise);
        (0..count).map(|i| T::of(rng.uniform(i as u64, [0, 0]) - 0.5)).collect()
    }

    fn in_pool<R: Send>(threads: usize, body: impl FnOnce(Par) -> R + Send) -> R {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| body(Par::new(threads)))
    }

    #[test]
    fn sums_and_norms_equal_plain_loops_at_every_length() {
        for size in 1..=3 * LANES + 1 {
            let rows = 3;
            let (old, new) = (numbers::<f64>(rows * size, 1), numbers::<f64>(rows * size, 2));
            for mean in [vec![], numbers::<f64>(size, 3)] {
                let (mut memory, mut squares) = (old.clone(), vec![0.0; rows]);
                add_rows(Par::SEQUENTIAL, &mut memory, &new, &mean, (0.5, 3.0), &mut squares);
                let mut of_new = vec![0.0; rows];
                row_squares(Par::SEQUENTIAL, &new, &mean, &mut of_new);
                for row in 0..rows {
                    let (mut sum, mut plain) = (0.0, 0.0);
                    for at in row * size..(row + 1) * size {
                        let centred = new[at] - mean.get(at % size).copied().unwrap_or(0.0);
                        let expected = 0.5 * old[at] + 3.0 * centred;
                        assert!((memory[at] - expected).abs() < 1e-15);
                        sum += expected * expected;
                        plain += centred * centred;
                    }
                    assert!((squares[row] - sum).abs() < 1e-12 && (of_new[row] - plain).abs() < 1e-12);
                }
            }
        }
    }

    #[test]
    fn passes_give_the_same_bits_for_any_number_of_threads() {
        let (rows, size) = (701, 1031);
        let (old, new, mean) =
            (numbers::<f32>(rows * size, 1), numbers::<f32>(rows * size, 2), numbers::<f32>(size, 3));
        let run = |threads| {
            in_pool(threads, |par| {
                let (mut memory, mut squares, mut plain) = (old.clone(), vec![0.0; rows], vec![0.0; rows]);
                add_rows(par, &mut memory, &new, &mean, (0.9, 0.1), &mut squares);
                row_squares(par, &new, &[], &mut plain);
                (memory, squares, plain)
            })
        };
        let one = run(1);
        assert!(run(2) == one && run(3) == one);
    }

    #[test]
    fn copying_and_clearing_rows_touches_those_alone() {
        let mut values: Vec<f64> = (0..12).map(f64::from).collect();
        let mut to = [0.0; 6];
        copy_rows(Par::SEQUENTIAL, &values, &[], &[1, 3], &[1.0, 2.0], &mut to);
        assert_eq!(to, [3.0, 4.0, 5.0, 18.0, 20.0, 22.0]);
        copy_rows(Par::SEQUENTIAL, &values, &[1.0, 1.0, 1.0], &[0, 2], &[], &mut to);
        assert_eq!(to, [-1.0, 0.0, 1.0, 5.0, 6.0, 7.0]);
        clear_rows(&mut values, 3, &[1, 3]);
        assert_eq!(values, [0.0, 1.0, 2.0, 0.0, 0.0, 0.0, 6.0, 7.0, 8.0, 0.0, 0.0, 0.0]);
    }
}
