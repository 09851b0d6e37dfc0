//! Threads that help whoever computes.
//!
//! A training step is a dozen short parallel kernels with serial gaps of a few microseconds between them, and a call from outside may
//! be a single one. Handing such work to Rayon's pool costs two wake-ups, 5 to 60 µs each: the worker's, and the caller's when it is
//! done. So the caller leads: it begins at once, and the pool's threads wait for kernels to take part in, spinning for a while before
//! they sleep. They are woken only for work that is worth it. Which thread computes a block does not matter to any result.

use crate::par::Par;
use crate::subnormal;
use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};
use std::cell::{Cell, UnsafeCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering::SeqCst};

/// How often a waiting thread looks before it sleeps: about 100 µs, longer than the gaps inside a step.
const LOOKS: u32 = 4_000;

/// Floating-point operations of a caller from which on sleeping helpers are woken: 50 to 100 µs on one thread. A wake-up costs the
/// caller some 10 µs, and the helper arrives 50 µs later. Tests share everything.
const WORTH_WAKING: usize = if cfg!(test) { 1 } else { 4_000_000 };

/// Parts that a kernel's blocks are cut into, at most.
const PARTS: usize = 64;

/// A kernel's body: (block, slot).
type Body<'a> = dyn Fn(usize, usize) + Sync + 'a;

/// The state that leader and helpers share.
struct Team {
    /// Whether somebody leads.
    led: AtomicBool,
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
// SAFETY: as above; what `job` points at is used by helpers only while the leader keeps it alive.
unsafe impl Send for Team {}

/// The team that a thread leads.
#[derive(Clone, Copy)]
struct Led {
    team: NonNull<Team>,
    /// Operations that the leader has done alone so far, while the helpers slept.
    alone: usize,
}

thread_local! {
    /// The team that this thread leads, if any.
    static LED: Cell<Option<Led>> = const { Cell::new(None) };
}

/// A number of threads: the caller's, and helpers from a pool of their own.
pub struct Crew {
    threads: usize,
    helpers: Option<(Arc<Team>, ThreadPool)>,
}

impl Crew {
    /// `threads` threads, one of which is the caller's; at least one.
    pub fn new(threads: usize) -> Result<Crew, ThreadPoolBuildError> {
        if threads <= 1 {
            return Ok(Crew { threads: 1, helpers: None });
        }
        let team = Arc::new(Team::new(threads));
        let pool = ThreadPoolBuilder::new()
            .num_threads(threads - 1)
            .thread_name(|i| format!("leanprop-{}", i + 1))
            .spawn_handler(|thread| {
                let named = std::thread::Builder::new().name(thread.name().unwrap_or("leanprop").into());
                named.spawn(|| subnormal::flushed(|| thread.run())).map(drop)
            })
            .build()?;
        // Products keep packing memory for each thread, made on first use: now, not inside a step.
        pool.broadcast(|_| warm_up());
        let helped = team.clone();
        pool.spawn_broadcast(move |context| helped.help(context.index() + 1));
        Ok(Crew { threads, helpers: Some((team, pool)) })
    }

    /// How many threads.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Runs `body` on this thread, with the helpers at hand for its kernels. Where they already help another caller it computes
    /// alone: more threads at work than there are cores would make both slower.
    pub fn run<R>(&self, body: impl FnOnce(Par) -> R) -> R {
        let free = self.helpers.as_ref().filter(|(team, _)| !team.led.swap(true, SeqCst));
        let Some((team, _)) = free else { return subnormal::flushed(|| body(Par::SEQUENTIAL)) };
        // Leaves the team however the body ends.
        let _end = End(team, LED.replace(Some(Led { team: NonNull::from(&**team), alone: 0 })));
        subnormal::flushed(|| body(Par::new(self.threads)))
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        if let Some((team, _)) = &self.helpers {
            team.finished.store(true, SeqCst);
            team.announce();
        }
    }
}

fn warm_up() {
    use crate::gemm::{Matrix, gemm};
    gemm(1.0f32, Matrix::new(&[1.0], 1, 1), Matrix::new(&[1.0], 1, 1), false, &mut [0.0]);
}

/// Whether the team that this thread leads is to share a kernel of that many operations: it is awake, or worth waking. False
/// where this thread leads none.
pub(crate) fn shares(operations: usize) -> bool {
    let Some(mut led) = LED.get() else { return false };
    // SAFETY: the team outlives the call of `run` that is still below us on this thread.
    if unsafe { led.team.as_ref() }.sleeping.load(SeqCst) == 0 {
        return true;
    }
    led.alone = led.alone.saturating_add(operations);
    LED.set(Some(led));
    led.alone >= WORTH_WAKING
}

/// Runs `body(block, slot)` for all blocks with the team that this thread leads; false where it leads none.
pub(crate) fn each(blocks: usize, body: &Body<'_>) -> bool {
    let Some(led) = LED.take() else { return false };
    // SAFETY: the team outlives the call of `run` that is still below us on this thread.
    let team = unsafe { led.team.as_ref() };
    let result = catch_unwind(AssertUnwindSafe(|| team.lead(blocks, body)));
    LED.set(Some(led));
    match result {
        Ok(()) => true,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

struct End<'a>(&'a Team, Option<Led>);

impl Drop for End<'_> {
    fn drop(&mut self) {
        LED.set(self.1);
        self.0.led.store(false, SeqCst);
    }
}

impl Team {
    fn new(threads: usize) -> Team {
        Team {
            led: AtomicBool::new(false),
            generation: AtomicU32::new(0),
            sleeping: AtomicU32::new(0),
            job: UnsafeCell::new(None),
            open: AtomicBool::new(false),
            inside: AtomicUsize::new(0),
            taken: [const { Taken(AtomicUsize::new(0)) }; PARTS],
            parts: threads.min(PARTS),
            panicked: AtomicBool::new(false),
            finished: AtomicBool::new(false),
        }
    }

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
        // A leader whose own blocks panicked has not asked what became of the helpers'.
        self.panicked.store(false, SeqCst);
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

/// Runs `body` with so many threads of its own.
#[cfg(test)]
pub(crate) fn in_crew<R>(threads: usize, body: impl FnOnce(Par) -> R) -> R {
    Crew::new(threads).unwrap().run(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a kernel with a block for each thread, which wait for each other: it ends only if all threads take part.
    fn meet(par: Par) {
        let arrived = AtomicUsize::new(0);
        par.each(par.threads(), |_| {
            arrived.fetch_add(1, SeqCst);
            let start = std::time::Instant::now();
            while arrived.load(SeqCst) < par.threads() {
                assert!(start.elapsed() < std::time::Duration::from_secs(60), "a helper has not come");
                std::thread::yield_now();
            }
        });
    }

    #[test]
    fn every_block_of_many_kernels_runs_once() {
        for threads in 1..=4 {
            in_crew(threads, |_| {
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
    fn helpers_take_part_also_when_they_slept() {
        for threads in [2, 3] {
            in_crew(threads, |par| {
                for pause in [0, 2].repeat(20) {
                    std::thread::sleep(std::time::Duration::from_millis(pause));
                    meet(par);
                }
            });
        }
    }

    #[test]
    fn a_panic_in_a_kernel_reaches_the_leader_and_no_one_else() {
        let crew = Crew::new(2).unwrap();
        for bad in [&[0][..], &[7], &[0, 1, 2, 3, 4, 5, 6, 7]] {
            let kernel = |par: Par| par.each(8, |block| assert!(!bad.contains(&block)));
            assert!(catch_unwind(AssertUnwindSafe(|| crew.run(kernel))).is_err());
            // Nothing of it is left to the next caller.
            crew.run(meet);
        }
    }

    #[test]
    fn a_kernel_inside_a_kernel_still_runs() {
        let sum = in_crew(2, |_| {
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

    #[test]
    fn helpers_help_one_caller_at_a_time() {
        let crew = Crew::new(2).unwrap();
        let sum = |par: Par| {
            let sum = AtomicUsize::new(0);
            par.each(10, |block| {
                sum.fetch_add(block, SeqCst);
            });
            (par.threads(), sum.into_inner())
        };
        let (outer, inner) = crew.run(|par| (sum(par), crew.run(sum)));
        assert_eq!((outer, inner), ((2, 45), (1, 45)), "the second caller computes alone");
        assert!(catch_unwind(AssertUnwindSafe(|| crew.run(|_| panic!("on purpose")))).is_err());
        assert_eq!(crew.run(sum), (2, 45), "who has stopped leaves the helpers to the next");
    }

    #[test]
    fn a_crew_ends_its_threads() {
        let team = {
            let crew = Crew::new(3).unwrap();
            crew.helpers.as_ref().map(|(team, _)| Arc::downgrade(team)).unwrap()
        };
        while team.strong_count() > 0 {
            std::thread::yield_now();
        }
    }
}
