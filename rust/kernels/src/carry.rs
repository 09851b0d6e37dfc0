//! Rows of a matrix and what is carried over from earlier ones: adding, norms, taking some rows out.
//!
//! The residual memory of Mem-AOP-GD (Hernandez, Rini, Duman 2021, algorithm 1) holds for every row what was not used so far. Each
//! step adds to it and needs the norms of the sums: one pass does both ([`add_rows`]).

use crate::isa::{Isa, isa, vectorize};
use crate::par::{self, Job, Shared};
use crate::real::Real;
use crate::sparse::Vector;

/// Elements that one task handles, about.
const CHUNK: usize = 16_384;

/// Rough cost of one element: the passes wait for memory.
const OPERATIONS: usize = 30;

fn rows_of_task(size: usize) -> usize {
    (CHUNK / size.max(1)).max(1)
}

/// Compiles `$body` for every instruction set and runs it for `$isa`. (Plain loops over lanes of partial sums were compiled to a
/// quarter of the speed.)
macro_rules! for_isa {
    ($isa:expr, $body:ident($($argument:ident: $type:ty),*)) => {{
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx2,fma")]
        unsafe fn avx2<T: Real>($($argument: $type),*) {
            // SAFETY: the caller's promise.
            unsafe { $body::<T, T::Avx2>($($argument),*) }
        }
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")]
        unsafe fn avx512<T: Real>($($argument: $type),*) {
            // SAFETY: the caller's promise.
            unsafe { $body::<T, T::Avx512>($($argument),*) }
        }
        // SAFETY: the set is available (`isa()`, or the tests' check); every machine has the portable one.
        unsafe {
            match $isa {
                Isa::Portable => $body::<T, T::Portable>($($argument),*),
                #[cfg(target_arch = "x86_64")]
                Isa::Avx2 => avx2($($argument),*),
                #[cfg(target_arch = "x86_64")]
                Isa::Avx512 => avx512($($argument),*),
                #[cfg(not(target_arch = "x86_64"))]
                Isa::Avx2 | Isa::Avx512 => $body::<T, T::Portable>($($argument),*),
            }
        }
    }};
}

/// To be done: memory[r] = keep · memory[r] + scale · (new[r] − mean), and squares[r] = ‖memory[r]‖²; `mean` may be empty for none.
pub fn add_rows<'a, T: Real>(
    memory: &'a mut [T],
    new: &'a [T],
    mean: &'a [T],
    factors: (T, T),
    squares: &'a mut [f64],
) -> Job<impl Fn(usize) + Sync + 'a> {
    add_rows_for(isa(), memory, new, mean, factors, squares)
}

fn add_rows_for<'a, T: Real>(
    isa: Isa,
    memory: &'a mut [T],
    new: &'a [T],
    mean: &'a [T],
    factors: (T, T),
    squares: &'a mut [f64],
) -> Job<impl Fn(usize) + Sync + 'a> {
    assert_eq!(memory.len(), new.len());
    let (size, count) = (row_size(new, mean, squares), squares.len());
    let (memory, squares) = (Shared::new(memory), Shared::new(squares));
    let block = rows_of_task(size);
    Job::new(count.div_ceil(block), new.len() * OPERATIONS, move |index| {
        let rows = par::block(index, count, block);
        let elements = rows.start * size..rows.end * size;
        // SAFETY: blocks of rows are disjoint.
        let (memory, squares) = unsafe { (memory.slice(elements.clone()), squares.slice(rows)) };
        let new = &new[elements];
        for_isa!(isa, add(memory: &mut [T], new: &[T], mean: &[T], factors: (T, T), squares: &mut [f64]));
    })
}

/// The body of [`add_rows`] for one set of vector instructions.
///
/// # Safety
/// The machine must have V's set.
#[inline(always)]
unsafe fn add<T: Real, V: Vector<T>>(
    memory: &mut [T],
    new: &[T],
    mean: &[T],
    (keep, scale): (T, T),
    squares: &mut [f64],
) {
    let size = new.len() / squares.len().max(1);
    let (fours, whole) = (size / (4 * V::LANES) * (4 * V::LANES), size / V::LANES * V::LANES);
    for ((memory, new), square) in memory.chunks_exact_mut(size).zip(new.chunks_exact(size)).zip(squares) {
        // SAFETY: registers lie in the first `whole` elements of a row; a mean is as long as a row.
        let sums = unsafe {
            let (kept, scaled) = (V::splat(keep), V::splat(scale));
            let mut sums = [V::splat(T::zero()); 4];
            let mut one = |at: usize, sum: &mut V| {
                let mut value = V::load(new.as_ptr().add(at));
                if !mean.is_empty() {
                    value = value.sub(V::load(mean.as_ptr().add(at)));
                }
                let value = V::load(memory.as_ptr().add(at)).mul_add(kept, value.mul(scaled));
                value.store(memory.as_mut_ptr().add(at));
                *sum = value.mul_add(value, *sum);
            };
            for at in (0..fours).step_by(4 * V::LANES) {
                sums.iter_mut().enumerate().for_each(|(register, sum)| one(at + register * V::LANES, sum));
            }
            (fours..whole).step_by(V::LANES).for_each(|at| one(at, &mut sums[0]));
            if whole > 0 { V::sums(sums) } else { [T::zero(); 4] }
        };
        let mut rest = T::zero();
        for at in whole..size {
            let value = if mean.is_empty() { new[at] } else { new[at] - mean[at] };
            memory[at] = keep * memory[at] + scale * value;
            rest += memory[at] * memory[at];
        }
        *square = ((sums[0] + sums[1]) + (sums[2] + sums[3]) + rest).wide();
    }
}

/// To be done: squares[r] = ‖rows[r] − mean‖²; `mean` may be empty for none.
pub fn row_squares<'a, T: Real>(
    rows: &'a [T],
    mean: &'a [T],
    squares: &'a mut [f64],
) -> Job<impl Fn(usize) + Sync + 'a> {
    row_squares_for(isa(), rows, mean, squares)
}

fn row_squares_for<'a, T: Real>(
    isa: Isa,
    rows: &'a [T],
    mean: &'a [T],
    squares: &'a mut [f64],
) -> Job<impl Fn(usize) + Sync + 'a> {
    let (size, count) = (row_size(rows, mean, squares), squares.len());
    let squares = Shared::new(squares);
    let block = rows_of_task(size);
    Job::new(count.div_ceil(block), rows.len() * OPERATIONS, move |index| {
        let range = par::block(index, count, block);
        let rows = &rows[range.start * size..range.end * size];
        // SAFETY: blocks of rows are disjoint.
        let squares = unsafe { squares.slice(range) };
        for_isa!(isa, square(rows: &[T], mean: &[T], squares: &mut [f64]));
    })
}

/// The body of [`row_squares`] for one set of vector instructions.
///
/// # Safety
/// The machine must have V's set.
#[inline(always)]
unsafe fn square<T: Real, V: Vector<T>>(rows: &[T], mean: &[T], squares: &mut [f64]) {
    let size = rows.len() / squares.len().max(1);
    let (fours, whole) = (size / (4 * V::LANES) * (4 * V::LANES), size / V::LANES * V::LANES);
    for (row, square) in rows.chunks_exact(size).zip(squares) {
        // SAFETY: registers lie in the first `whole` elements of a row; a mean is as long as a row.
        let sums = unsafe {
            let mut sums = [V::splat(T::zero()); 4];
            let one = |at: usize, sum: &mut V| {
                let mut value = V::load(row.as_ptr().add(at));
                if !mean.is_empty() {
                    value = value.sub(V::load(mean.as_ptr().add(at)));
                }
                *sum = value.mul_add(value, *sum);
            };
            for at in (0..fours).step_by(4 * V::LANES) {
                sums.iter_mut().enumerate().for_each(|(register, sum)| one(at + register * V::LANES, sum));
            }
            (fours..whole).step_by(V::LANES).for_each(|at| one(at, &mut sums[0]));
            if whole > 0 { V::sums(sums) } else { [T::zero(); 4] }
        };
        let mut rest = T::zero();
        for at in whole..size {
            let value = if mean.is_empty() { row[at] } else { row[at] - mean[at] };
            rest += value * value;
        }
        *square = ((sums[0] + sums[1]) + (sums[2] + sums[3]) + rest).wide();
    }
}

fn row_size<T>(values: &[T], mean: &[T], squares: &[f64]) -> usize {
    let size = values.len() / squares.len().max(1);
    assert_eq!(values.len(), size * squares.len(), "whole rows");
    assert!(mean.is_empty() || mean.len() == size, "a mean of {} for rows of {size}", mean.len());
    size
}

/// To be done: to[i] = weights[i] · (from[rows[i]] − mean); `mean` and `weights` may be empty for none.
pub fn copy_rows<'a, T: Real>(
    from: &'a [T],
    mean: &'a [T],
    rows: &'a [u32],
    weights: &'a [f64],
    to: &'a mut [T],
) -> Job<impl Fn(usize) + Sync + 'a> {
    let size = to.len() / rows.len().max(1);
    assert_eq!(to.len(), size * rows.len(), "whole rows");
    assert!(weights.is_empty() || weights.len() == rows.len());
    assert!(mean.is_empty() || mean.len() == size);
    let (operations, block) = (to.len() * OPERATIONS, rows_of_task(size));
    let to = Shared::new(to);
    Job::new(rows.len().div_ceil(block), operations, move |index| {
        let range = par::block(index, rows.len(), block);
        // SAFETY: blocks of rows are disjoint.
        let to = unsafe { to.slice(range.start * size..range.end * size) };
        vectorize(
            #[inline(always)]
            || {
                for (index, to) in range.zip(to.chunks_exact_mut(size.max(1))) {
                    let at = rows[index] as usize * size;
                    let from = &from[at..at + size];
                    let weight = weights.get(index).map_or(T::one(), |weight| T::of(*weight));
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
    })
}

/// To be done: to[i] = scale · from[rows[i]], and those rows of `from` become zero; `rows` ascend.
pub fn take_rows<'a, T: Real>(
    from: &'a mut [T],
    rows: &'a [u32],
    scale: T,
    to: &'a mut [T],
) -> Job<impl Fn(usize) + Sync + 'a> {
    let size = to.len() / rows.len().max(1);
    assert_eq!(to.len(), size * rows.len(), "whole rows");
    assert!(rows.is_sorted_by(|a, b| a < b), "each row once");
    let (operations, block) = (to.len() * OPERATIONS, rows_of_task(size));
    let (from, to) = (Shared::new(from), Shared::new(to));
    Job::new(rows.len().div_ceil(block), operations, move |index| {
        let range = par::block(index, rows.len(), block);
        // SAFETY: blocks of rows are disjoint.
        let to = unsafe { to.slice(range.start * size..range.end * size) };
        vectorize(
            #[inline(always)]
            || {
                for (row, to) in rows[range].iter().zip(to.chunks_exact_mut(size.max(1))) {
                    let at = *row as usize * size;
                    // SAFETY: rows are disjoint, because each is listed once (asserted).
                    let from = unsafe { from.slice(at..at + size) };
                    to.iter_mut().zip(&*from).for_each(|(to, from)| *to = *from * scale);
                    from.fill(T::zero());
                }
            },
        );
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::par::Par;
    use crate::rng::{Philox, Purpose};
    use crate::team::in_crew;

    fn numbers<T: Real>(count: usize, seed: u64) -> Vec<T> {
        let rng = Philox::new(seed, Purpose::Initialise);
        (0..count).map(|i| T::of(rng.uniform(i as u64, [0, 0]) - 0.5)).collect()
    }

    #[test]
    fn sums_and_norms_equal_plain_loops_at_every_length() {
        for size in 1..=100 {
            let rows = 3;
            let (old, new) = (numbers::<f64>(rows * size, 1), numbers::<f64>(rows * size, 2));
            for mean in [vec![], numbers::<f64>(size, 3)] {
                for isa in Isa::ALL.into_iter().filter(|isa| isa.available()) {
                    let (mut memory, mut squares, mut of_new) = (old.clone(), vec![0.0; rows], vec![0.0; rows]);
                    add_rows_for(isa, &mut memory, &new, &mean, (0.5, 3.0), &mut squares).run(Par::SEQUENTIAL);
                    row_squares_for(isa, &new, &mean, &mut of_new).run(Par::SEQUENTIAL);
                    for row in 0..rows {
                        let (mut sum, mut plain) = (0.0, 0.0);
                        for at in row * size..(row + 1) * size {
                            let centred = new[at] - mean.get(at % size).copied().unwrap_or(0.0);
                            let expected = 0.5 * old[at] + 3.0 * centred;
                            assert!((memory[at] - expected).abs() < 1e-15, "{} {size}", isa.name());
                            sum += expected * expected;
                            plain += centred * centred;
                        }
                        let close = (squares[row] - sum).abs() < 1e-12 && (of_new[row] - plain).abs() < 1e-12;
                        assert!(close, "{} {size}", isa.name());
                    }
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
            in_crew(threads, |par| {
                let (mut memory, mut squares, mut plain) = (old.clone(), vec![0.0; rows], vec![0.0; rows]);
                add_rows(&mut memory, &new, &mean, (0.9, 0.1), &mut squares).run(par);
                row_squares(&new, &[], &mut plain).run(par);
                (memory, squares, plain)
            })
        };
        let one = run(1);
        assert!(run(2) == one && run(3) == one);
    }

    #[test]
    fn copying_and_taking_rows_touches_those_alone() {
        let mut values: Vec<f64> = (0..12).map(f64::from).collect();
        let mut to = [0.0; 6];
        copy_rows(&values, &[], &[1, 3], &[1.0, 2.0], &mut to).run(Par::SEQUENTIAL);
        assert_eq!(to, [3.0, 4.0, 5.0, 18.0, 20.0, 22.0]);
        copy_rows(&values, &[1.0, 1.0, 1.0], &[0, 2], &[], &mut to).run(Par::SEQUENTIAL);
        assert_eq!(to, [-1.0, 0.0, 1.0, 5.0, 6.0, 7.0]);
        take_rows(&mut values, &[1, 3], 0.5, &mut to).run(Par::SEQUENTIAL);
        assert_eq!(to, [1.5, 2.0, 2.5, 4.5, 5.0, 5.5]);
        assert_eq!(values, [0.0, 1.0, 2.0, 0.0, 0.0, 0.0, 6.0, 7.0, 8.0, 0.0, 0.0, 0.0]);
    }
}
