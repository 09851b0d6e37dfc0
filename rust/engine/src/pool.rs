//! Rayon pools, one per size, kept for the life of the process.

use crate::error::{Code, Error, Result};
use kernels::Par;
use kernels::gemm::{Matrix, gemm};
use kernels::subnormal;
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex};

static POOLS: LazyLock<Mutex<HashMap<usize, Arc<ThreadPool>>>> = LazyLock::new(Mutex::default);

/// More threads than this are refused: nobody has them, and each costs memory.
const MOST: usize = 1024;

/// A number of threads to work with.
#[derive(Clone)]
pub struct Threads {
    count: usize,
    /// Absent for one thread: then everything runs on the caller's.
    pool: Option<Arc<ThreadPool>>,
}

impl Threads {
    /// `requested` threads; 0 means one for each core.
    pub fn new(requested: usize) -> Result<Threads> {
        if requested > MOST {
            return Err(Error::config("threads", format!("a whole number from 1 to {MOST}"), requested));
        }
        let count = if requested == 0 { available() } else { requested };
        if count == 1 {
            return Ok(Threads { count, pool: None });
        }
        let mut pools = POOLS.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let pool = match pools.get(&count) {
            Some(pool) => pool.clone(),
            None => {
                let pool = ThreadPoolBuilder::new()
                    .num_threads(count)
                    .thread_name(|i| format!("leanprop-{i}"))
                    .spawn_handler(|thread| {
                        let named = std::thread::Builder::new().name(thread.name().unwrap_or("leanprop").into());
                        named.spawn(|| subnormal::flushed(|| thread.run())).map(drop)
                    })
                    .build()
                    .map_err(|fault| Error::new(Code::OutOfMemory, format!("Cannot start {count} threads: {fault}")))?;
                // Products keep packing memory for each thread, made on first use: now, not inside a step.
                pool.broadcast(|_| {
                    gemm(1.0f32, Matrix::new(&[1.0], 1, 1), Matrix::new(&[1.0], 1, 1), false, &mut [0.0])
                });
                pools.entry(count).or_insert(Arc::new(pool)).clone()
            }
        };
        Ok(Threads { count, pool: Some(pool) })
    }

    /// How many.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Runs `body` inside the pool: entering costs up to 60 µs, so enter once per call from outside, not per kernel.
    pub fn run<R: Send>(&self, body: impl FnOnce(Par) -> R + Send) -> R {
        match &self.pool {
            None => subnormal::flushed(|| body(Par::SEQUENTIAL)),
            Some(pool) => pool.install(|| kernels::team::run(self.count, || body(Par::new(self.count)))),
        }
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

    #[test]
    fn every_thread_takes_subnormal_numbers_for_zero() {
        for count in [1, 2, 3] {
            let mut halves = vec![1.0f32; 64];
            Threads::new(count).unwrap().run(|par| {
                par.chunks_mut(&mut halves, 1, |_, out| out[0] = black_box(black_box(f32::MIN_POSITIVE) * 0.5));
            });
            assert_eq!(halves, [0.0; 64], "{count} threads");
        }
        assert!(black_box(f32::MIN_POSITIVE) * 0.5 > 0.0);
    }
}
