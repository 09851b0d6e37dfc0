//! Threads to compute with, kept for the life of the process: one crew for each number of them.

use crate::error::{Code, Error, Result};
use kernels::Par;
use kernels::team::Crew;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex};

static CREWS: LazyLock<Mutex<HashMap<usize, Arc<Crew>>>> = LazyLock::new(Mutex::default);

/// More threads than this are refused: nobody has them, and each costs memory.
const MOST: usize = 1024;

/// A number of threads to work with.
#[derive(Clone)]
pub struct Threads(Arc<Crew>);

impl Threads {
    /// `requested` threads; 0 means one for each core.
    pub fn new(requested: usize) -> Result<Threads> {
        if requested > MOST {
            return Err(Error::config("threads", format!("a whole number from 1 to {MOST}"), requested));
        }
        let count = if requested == 0 { available() } else { requested };
        let mut crews = CREWS.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(crew) = crews.get(&count) {
            return Ok(Threads(crew.clone()));
        }
        let crew = Crew::new(count)
            .map_err(|fault| Error::new(Code::OutOfMemory, format!("Cannot start {count} threads: {fault}")))?;
        Ok(Threads(crews.entry(count).or_insert(Arc::new(crew)).clone()))
    }

    /// How many.
    pub fn count(&self) -> usize {
        self.0.threads()
    }

    /// Runs `body` on this thread, which the others help.
    pub fn run<R>(&self, body: impl FnOnce(Par) -> R) -> R {
        self.0.run(body)
    }
}

/// The number of cores this process may use.
pub fn available() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(MOST)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::hint::black_box;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn every_thread_takes_subnormal_numbers_for_zero() {
        for count in [1, 2, 3] {
            let (arrived, mut halves) = (AtomicUsize::new(0), vec![1.0f32; count]);
            Threads::new(count).unwrap().run(|par| {
                par.chunks_mut(&mut halves, 1, |_, out| {
                    // A block for each thread: all of them must come.
                    arrived.fetch_add(1, Ordering::SeqCst);
                    while arrived.load(Ordering::SeqCst) < par.threads() {
                        std::thread::yield_now();
                    }
                    out[0] = black_box(black_box(f32::MIN_POSITIVE) * 0.5);
                });
            });
            assert_eq!(halves, vec![0.0; count], "{count} threads");
        }
        assert!(black_box(f32::MIN_POSITIVE) * 0.5 > 0.0);
    }
}
