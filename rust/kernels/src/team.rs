//! Threads that wait for the next kernel instead of going to sleep.
//!
//! A training step is a dozen short parallel kernels with serial gaps of a few microseconds between them. Rayon's idle threads go to
//! sleep in such gaps, and waking one costs 5 to 60 µs: as much as the kernel. Inside [`run`] the pool's threads spin for the
//! next kernel and sleep only when none comes for a while. Which thread computes a block does not matter to any result.

use std::cell::{Cell, UnsafeCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering::SeqCst};

/// How often a waiting thread looks before it sleeps: about 100 µs, longer than the gaps inside a step.
const LOOKS: u32 = 4_000;

/// Parts that a kernel's blocks are cut into, at most.
const PARTS: usize = 64;

/// A kernel's body: (block, slot).
type Body<'a> = dyn Fn(usize, usize) + Sync + 'a;

/// The state that leader and helpers share.
struct Team {
    /// Counts kernels; helpers wait for it to change.
    generation: AtomicU32,
    /// Helpers that sleep until it changes.
    sleeping: AtomicU32,
    /// The kernel under way. Read only between entering (`inside`) and leaving while `open`.
    job: UnsafeCell<Option<(NonNull<Body<'static>>, usize)>>,
    open: AtomicBool,
    inside: AtomicUsize,
    /// Blocks taken of each thread's part; where there are more threads than this, several have the same part.
    taken: [Taken; PARTS],
    parts: usize,
    panicked: AtomicBool,
    finished: AtomicBool,
}

/// A counter with a cache line of its own.
#[repr(align(64))]
struct Taken(AtomicUsize);

// SAFETY: `job` is written by the leader only while no helper is inside, which `open` and `inside` see to.
unsafe impl Sync for Team {}

thread_local! {
    /// The team that this thread leads, if any.
    static LED: Cell<Option<NonNull<Team>>> = const { Cell::new(None) };
}

/// Runs `leader` with `threads - 1` helpers from the current Rayon pool at hand for its kernels.
pub fn run<R: Send>(threads: usize, leader: impl FnOnce() -> R + Send) -> R {
    if threads <= 1 {
        return leader();
    }
    let team = Team {
        generation: AtomicU32::new(0),
        sleeping: AtomicU32::new(0),
        job: UnsafeCell::new(None),
        open: AtomicBool::new(false),
        inside: AtomicUsize::new(0),
        taken: [const { Taken(AtomicUsize::new(0)) }; PARTS],
        parts: threads.min(PARTS),
        panicked: AtomicBool::new(false),
        finished: AtomicBool::new(false),
    };
    let lead = || {
        // Ends the team however the leader ends, or the helpers would wait for ever.
        let _end = End(&team, LED.replace(Some(NonNull::from(&team))));
        leader()
    };
    rayon::join(lead, || help_all(&team, 1, threads - 1)).0
}

/// Runs `body(block, slot)` for all blocks with the team that this thread leads; false where it leads none.
pub(crate) fn each(blocks: usize, body: &Body<'_>) -> bool {
    let Some(team) = LED.take() else { return false };
    // SAFETY: the team lives on the stack of `run`, which is still below us on this thread.
    let led = unsafe { team.as_ref() };
    let result = catch_unwind(AssertUnwindSafe(|| led.lead(blocks, body)));
    LED.set(Some(team));
    match result {
        Ok(()) => true,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

struct End<'a>(&'a Team, Option<NonNull<Team>>);

impl Drop for End<'_> {
    fn drop(&mut self) {
        LED.set(self.1);
        self.0.finished.store(true, SeqCst);
        self.0.announce();
    }
}

fn help_all(team: &Team, first: usize, count: usize) {
    if count == 1 {
        team.help(first);
    } else {
        let half = count / 2;
        rayon::join(|| help_all(team, first, half), || help_all(team, first + half, count - half));
    }
}

impl Team {
    /// Tells the helpers that something has changed.
    fn announce(&self) {
        self.generation.fetch_add(1, SeqCst);
        if self.sleeping.load(SeqCst) > 0 {
            atomic_wait::wake_all(&self.generation);
        }
    }

    fn lead(&self, blocks: usize, body: &Body<'_>) {
        // SAFETY: only the lifetime changes; no helper uses the body after `close`, which comes before it ends.
        let job = unsafe { std::mem::transmute::<NonNull<Body<'_>>, NonNull<Body<'static>>>(NonNull::from(body)) };
        // SAFETY: the last kernel was closed: no helper is inside.
        unsafe { *self.job.get() = Some((job, blocks)) };
        self.taken[..self.parts].iter().for_each(|taken| taken.0.store(0, SeqCst));
        self.open.store(true, SeqCst);
        self.announce();
        let close = Close(self);
        self.take_blocks(body, blocks, 0);
        drop(close);
        assert!(!self.panicked.load(SeqCst), "a kernel panicked on another thread");
    }

    /// Computes blocks of this thread's own part while there are any, then those that others have left of theirs. Kernels cut
    /// what they share in the same way again and again: what a thread wrote in one is then in its cache for the next.
    fn take_blocks(&self, body: &Body<'_>, blocks: usize, slot: usize) {
        let own = slot % self.parts;
        for part in (own..self.parts).chain(0..own) {
            let (first, end) = (part * blocks / self.parts, (part + 1) * blocks / self.parts);
            loop {
                let block = first + self.taken[part].0.fetch_add(1, SeqCst);
                if block >= end {
                    break;
                }
                body(block, slot);
            }
        }
    }

    /// Waits for kernels and takes part in them until the team ends.
    fn help(&self, slot: usize) {
        let mut seen = 0;
        loop {
            let now = self.wait(seen);
            seen = now;
            if self.finished.load(SeqCst) {
                return;
            }
            // Entering before looking whether the kernel is still open: either we see it closed, or the leader sees us.
            self.inside.fetch_add(1, SeqCst);
            if self.open.load(SeqCst) {
                // SAFETY: the kernel is open and cannot close before we leave.
                if let Some((body, blocks)) = unsafe { *self.job.get() } {
                    // SAFETY: the leader keeps the body alive until we leave.
                    let body = unsafe { body.as_ref() };
                    if catch_unwind(AssertUnwindSafe(|| self.take_blocks(body, blocks, slot))).is_err() {
                        self.panicked.store(true, SeqCst);
                    }
                }
            }
            self.inside.fetch_sub(1, SeqCst);
        }
    }

    /// The generation after `seen`.
    fn wait(&self, seen: u32) -> u32 {
        for _ in 0..LOOKS {
            let now = self.generation.load(SeqCst);
            if now != seen {
                return now;
            }
            std::hint::spin_loop();
        }
        loop {
            self.sleeping.fetch_add(1, SeqCst);
            atomic_wait::wait(&self.generation, seen);
            self.sleeping.fetch_sub(1, SeqCst);
            let now = self.generation.load(SeqCst);
            if now != seen {
                return now;
            }
        }
    }
}

/// Closes the kernel under way, also when its body panics on the leader, and waits for helpers that are inside.
struct Close<'a>(&'a Team);

impl Drop for Close<'_> {
    fn drop(&mut self) {
        self.0.open.store(false, SeqCst);
        let mut looks = 0u32;
        while self.0.inside.load(SeqCst) != 0 {
            looks += 1;
            // A helper may have lost its core to another program: let it have ours.
            if looks > LOOKS { std::thread::yield_now() } else { std::hint::spin_loop() }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::par::Par;

    fn in_team<R: Send>(threads: usize, leader: impl FnOnce() -> R + Send) -> R {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| run(threads, leader))
    }

    #[test]
    fn every_block_of_many_kernels_runs_once() {
        for threads in 1..=4 {
            in_team(threads, || {
                for kernel in 0..2_000 {
                    let counts: Vec<AtomicUsize> = (0..kernel % 9).map(|_| AtomicUsize::new(0)).collect();
                    Par::new(threads).each_with_slot(counts.len(), |block, slot| {
                        assert!(slot < threads);
                        counts[block].fetch_add(1, SeqCst);
                    });
                    assert!(counts.iter().all(|count| count.load(SeqCst) == 1), "kernel {kernel}, {threads} threads");
                }
            });
        }
    }

    #[test]
    fn helpers_that_went_to_sleep_wake_up() {
        in_team(2, || {
            for _ in 0..20 {
                std::thread::sleep(std::time::Duration::from_millis(2));
                let sum = AtomicUsize::new(0);
                Par::new(2).each(10, |block| {
                    sum.fetch_add(block, SeqCst);
                });
                assert_eq!(sum.load(SeqCst), 45);
            }
        });
    }

    #[test]
    fn a_panic_in_a_kernel_reaches_the_leader_and_ends_the_team() {
        for bad in [0, 7] {
            let result = catch_unwind(|| in_team(2, || Par::new(2).each(8, |block| assert_ne!(block, bad))));
            assert!(result.is_err());
        }
    }

    #[test]
    fn a_kernel_inside_a_kernel_still_runs() {
        let sum = in_team(2, || {
            let sum = AtomicUsize::new(0);
            Par::new(2).each(4, |_| {
                Par::new(2).each(4, |block| {
                    sum.fetch_add(block, SeqCst);
                });
            });
            sum.load(SeqCst)
        });
        assert_eq!(sum, 24);
    }
}
