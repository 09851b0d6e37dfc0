//! How work is shared between threads: fixed blocks, disjoint writes, no order that depends on timing.
//!
//! A kernel cuts its result into blocks; each block is computed by one thread in one fixed order, so the bits do not
//! depend on how many threads there are or which of them is faster. Threads take blocks from counters, which keeps
//! all busy when one of them is slowed by a neighbour.

use std::marker::PhantomData;
use std::ops::Range;

/// Work below this many floating-point operations stays on the calling thread: a second one of a team takes its part
/// after a microsecond or two, but its caches do not hold what the first one has just written. Tests share everything.
const WORTH_SHARING: usize = if cfg!(test) { 1 } else { 1_000_000 };

/// A number of threads to use. There are others than the caller's inside [`crate::team::Crew::run`] only, and not inside a block.
#[derive(Clone, Copy, Debug)]
pub struct Par {
    threads: usize,
}

impl Par {
    /// Everything on the calling thread.
    pub const SEQUENTIAL: Par = Par { threads: 1 };

    /// Use up to `threads` threads of the crew that runs this.
    pub fn new(threads: usize) -> Par {
        Par { threads: threads.max(1) }
    }

    /// The number of threads.
    pub fn threads(self) -> usize {
        self.threads
    }

    /// This, or sequential when `operations` floating-point operations are too few to share.
    pub fn for_work(self, operations: usize) -> Par {
        let shared = self.threads > 1 && operations >= WORTH_SHARING && crate::team::shares(operations);
        if shared { self } else { Par::SEQUENTIAL }
    }

    /// Runs `body(block)` for every block from 0 to `blocks`, each exactly once, in any order.
    pub fn each(self, blocks: usize, body: impl Fn(usize) + Sync) {
        self.each_with_slot(blocks, |block, _| body(block));
    }

    /// As [`Par::each`], with the number of the worker (below `threads`) that may use scratch memory of its own.
    pub fn each_with_slot(self, blocks: usize, body: impl Fn(usize, usize) + Sync) {
        if self.threads.min(blocks) > 1 && crate::team::each(blocks, &body) {
            return;
        }
        for block in 0..blocks {
            body(block, 0);
        }
    }

    /// Cuts `out` into chunks of `chunk` elements and runs `body(first_index, chunk)` on each.
    pub fn chunks_mut<T: Send>(self, out: &mut [T], chunk: usize, body: impl Fn(usize, &mut [T]) + Sync) {
        let (length, chunk) = (out.len(), chunk.max(1));
        let out = Shared::new(out);
        self.each(length.div_ceil(chunk), |block| {
            let range = block * chunk..((block + 1) * chunk).min(length);
            let first = range.start;
            // SAFETY: blocks are disjoint and each runs once.
            body(first, unsafe { out.slice(range) });
        });
    }
}

/// Blocks of work that are not under way yet.
pub struct Job<F> {
    blocks: usize,
    operations: usize,
    body: F,
}

impl<F: Fn(usize) + Sync> Job<F> {
    /// `body(block)` for every block from 0 to `blocks`, `operations` floating-point operations in all.
    pub fn new(blocks: usize, operations: usize, body: F) -> Job<F> {
        Job { blocks, operations, body }
    }

    /// Both, as one: the threads share them without waiting for each other in between.
    pub fn with<G: Fn(usize) + Sync>(self, other: Job<G>) -> Job<impl Fn(usize) + Sync> {
        let (own, first, second) = (self.blocks, self.body, other.body);
        Job::new(own + other.blocks, self.operations + other.operations, move |block| match block.checked_sub(own) {
            Some(block) => second(block),
            None => first(block),
        })
    }

    /// Does it.
    pub fn run(self, par: Par) {
        par.for_work(self.operations).each(self.blocks, self.body);
    }
}

/// The ranges of `0..length` cut into blocks of `block`.
pub fn blocks(length: usize, block: usize) -> impl Iterator<Item = Range<usize>> {
    (0..length).step_by(block.max(1)).map(move |start| start..(start + block).min(length))
}

/// The `index`-th range of `0..length` cut into blocks of `block`.
#[inline]
pub fn block(index: usize, length: usize, block: usize) -> Range<usize> {
    index * block..((index + 1) * block).min(length)
}

/// A slice that several threads write, each its own part.
pub struct Shared<'a, T> {
    pointer: *mut T,
    length: usize,
    lifetime: PhantomData<&'a mut [T]>,
}

// SAFETY: `Shared` only hands out parts through `unsafe` methods whose callers keep the parts disjoint.
unsafe impl<T: Send> Send for Shared<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Shared<'_, T> {}

impl<'a, T> Shared<'a, T> {
    /// Borrows `slice` for shared writing.
    pub fn new(slice: &'a mut [T]) -> Self {
        Shared { pointer: slice.as_mut_ptr(), length: slice.len(), lifetime: PhantomData }
    }

    /// Whether the slice has no elements.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The elements in `range`.
    ///
    /// # Safety
    /// No other live reference may overlap the range.
    #[allow(clippy::mut_from_ref)] // The point of the type: callers prove that parts are disjoint.
    #[inline]
    pub unsafe fn slice(&self, range: Range<usize>) -> &'a mut [T] {
        assert!(range.start <= range.end && range.end <= self.length, "{range:?} outside 0..{}", self.length);
        // SAFETY: inside the borrowed slice (asserted); not aliased (the caller's promise).
        unsafe { std::slice::from_raw_parts_mut(self.pointer.add(range.start), range.len()) }
    }

    /// The elements in `range`, or nothing where the whole slice is empty: for state that a caller may not have.
    ///
    /// # Safety
    /// As [`Shared::slice`].
    #[allow(clippy::mut_from_ref)] // As `slice`.
    #[inline]
    pub unsafe fn part(&self, range: Range<usize>) -> &'a mut [T] {
        // SAFETY: the caller's promise; an empty range overlaps nothing.
        unsafe { self.slice(if self.is_empty() { 0..0 } else { range }) }
    }

    /// A pointer to element `index`, for kernels that write strided parts.
    ///
    /// # Safety
    /// Writes through it must stay inside the slice and must not overlap another thread's.
    #[inline]
    pub unsafe fn at(&self, index: usize) -> *mut T {
        debug_assert!(index <= self.length);
        // SAFETY: inside or one past the end, by the caller's promise.
        unsafe { self.pointer.add(index) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::team::Crew;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn each_runs_every_block_once_for_any_number_of_threads() {
        for threads in 1..=3 {
            let crew = Crew::new(threads).unwrap();
            for blocks in [0, 1, 2, 7, 100] {
                let counts: Vec<AtomicUsize> = (0..blocks).map(|_| AtomicUsize::new(0)).collect();
                crew.run(|par| {
                    par.each_with_slot(blocks, |block, slot| {
                        assert!(slot < threads);
                        counts[block].fetch_add(1, Ordering::Relaxed);
                    });
                });
                assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == 1));
            }
        }
    }

    #[test]
    fn chunks_mut_covers_the_slice() {
        let mut out = vec![0; 10];
        Par::SEQUENTIAL.chunks_mut(&mut out, 4, |first, chunk| {
            for (i, value) in chunk.iter_mut().enumerate() {
                *value = first + i;
            }
        });
        assert_eq!(out, (0..10).collect::<Vec<_>>());
    }
}
