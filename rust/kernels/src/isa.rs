//! Which vector instructions this run uses: detected once, pinned by an environment variable in tests.

use std::sync::OnceLock;

/// Instruction sets that kernels know, from plain to wide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Isa {
    /// What every machine of the target has.
    Portable,
    /// 256-bit vectors with fused multiply-add (x86-64-v3).
    Avx2,
    /// 512-bit vectors (x86-64-v4: F, BW, DQ, VL).
    Avx512,
}

/// Environment variable that pins the instruction set: `portable`, `avx2` or `avx512`.
pub const ISA_VARIABLE: &str = "LEANPROP_ISA";

impl Isa {
    /// All of them, for tests that run each kernel on each set the host has.
    pub const ALL: [Isa; 3] = [Isa::Portable, Isa::Avx2, Isa::Avx512];

    /// The name used in the environment variable and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Isa::Portable => "portable",
            Isa::Avx2 => "avx2",
            Isa::Avx512 => "avx512",
        }
    }

    /// Whether this machine can run it.
    pub fn available(self) -> bool {
        match self {
            Isa::Portable => true,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => {
                Isa::Avx2.available()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
            }
            #[cfg(not(target_arch = "x86_64"))]
            Isa::Avx2 | Isa::Avx512 => false,
        }
    }

    /// The widest available set.
    fn detect() -> Isa {
        Isa::ALL.into_iter().rev().find(|isa| isa.available()).unwrap_or(Isa::Portable)
    }
}

/// The instruction set in use. A pinned set that is unknown or that the machine lacks is refused by
/// [`check_pinned`]; here it falls back to what the machine has, so that kernels can never fault.
pub fn isa() -> Isa {
    static ISA: OnceLock<Isa> = OnceLock::new();
    *ISA.get_or_init(|| pinned().and_then(Result::ok).unwrap_or_else(Isa::detect))
}

/// Says what is wrong with the environment variable, if anything.
pub fn check_pinned() -> Result<(), String> {
    pinned().map_or(Ok(()), |found| found.map(|_| ()))
}

fn pinned() -> Option<Result<Isa, String>> {
    let name = std::env::var(ISA_VARIABLE).ok().filter(|name| !name.is_empty())?;
    let found = Isa::ALL.into_iter().find(|isa| isa.name() == name);
    Some(match found {
        Some(isa) if isa.available() => Ok(isa),
        Some(_) => Err(format!("Cannot use {ISA_VARIABLE}: this machine has no {name}, only {}", Isa::detect().name())),
        None => Err(format!("Cannot use {ISA_VARIABLE}: expected portable, avx2 or avx512 but found {name}")),
    })
}

/// Runs `body` compiled for the instruction set in use: plain loops inside it are vectorised for that set.
///
/// Everything `body` calls must be `#[inline]` to profit, and `body` itself `#[inline(always)]`: the compiler leaves larger
/// closures out of line, where they are compiled for the oldest machine (measured: ten times slower). Floating-point results do not depend on the set, because
/// plain loops neither reorder sums nor fuse multiply and add by themselves.
#[inline]
pub fn vectorize<R>(body: impl FnOnce() -> R) -> R {
    vectorize_for(isa(), body)
}

/// [`vectorize`] for a given set, which the machine must have.
#[inline]
pub fn vectorize_for<R>(isa: Isa, body: impl FnOnce() -> R) -> R {
    match isa {
        Isa::Portable => body(),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => {
            debug_assert!(isa.available());
            // SAFETY: `isa()` and the tests hand out `Avx2` only after detection.
            unsafe { with_avx2(body) }
        }
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => {
            debug_assert!(isa.available());
            // SAFETY: `isa()` and the tests hand out `Avx512` only after detection.
            unsafe { with_avx512(body) }
        }
        #[cfg(not(target_arch = "x86_64"))]
        Isa::Avx2 | Isa::Avx512 => body(),
    }
}

/// Asks for memory that is read soon. A hint: the values do not change, and other processors ignore it.
#[inline]
pub fn prefetch<T>(x: &[T]) {
    #[cfg(target_arch = "x86_64")]
    for line in x.chunks(64 / size_of::<T>().clamp(1, 64)) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a hint may name any address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = x;
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn with_avx2<R>(body: impl FnOnce() -> R) -> R {
    body()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")]
fn with_avx512<R>(body: impl FnOnce() -> R) -> R {
    body()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn detect_gives_an_available_set() {
        assert!(isa().available());
        assert!(Isa::detect().available());
    }

    /// CI names the sets it expects, so that a run on a lesser machine cannot pass for a full one.
    #[test]
    fn the_sets_that_ci_expects_are_there() {
        for name in std::env::var("LEANPROP_EXPECT_ISA").unwrap_or_default().split(',').filter(|n| !n.is_empty()) {
            let isa = Isa::ALL.into_iter().find(|isa| isa.name() == name).expect("a known name");
            assert!(isa.available(), "this machine has no {name}");
        }
    }
}
