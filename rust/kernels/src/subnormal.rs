//! Numbers too small for the normal range.

use no_denormals::no_denormals;

/// Runs `body` on this thread with subnormal numbers taken for 0, as XLA does. Adam's mean of a gradient that stays away decays
/// below the normal range and, rounded to nearest, never leaves the subnormal one; there an operation takes a hundred times as
/// long on many processors. All threads of a computation must run so, or its bits depend on which of them does what.
pub fn flushed<R>(body: impl FnOnce() -> R) -> R {
    // SAFETY: two bits of the control register say what becomes of subnormal results and operands; rounding stays as it is, and
    // the caller finds the register as it was, after a panic too. Rust promises nothing about arithmetic with these bits set:
    // where the compiler folds constants it may keep a subnormal number, which no kernel has.
    unsafe { no_denormals(body) }
}

#[cfg(test)]
mod tests {
    use super::flushed;
    use std::hint::black_box;

    #[test]
    fn subnormal_numbers_are_zero_inside_and_only_there() {
        let halve = |x: f32| black_box(black_box(x) * 0.5);
        assert_eq!(flushed(|| halve(f32::MIN_POSITIVE)), 0.0);
        assert!(halve(f32::MIN_POSITIVE) > 0.0);
        assert!(std::panic::catch_unwind(|| flushed(|| panic!("on purpose"))).is_err());
        assert!(halve(f32::MIN_POSITIVE) > 0.0);
    }
}
