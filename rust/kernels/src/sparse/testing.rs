//! What the tests of sparse kernels share: numbers, masks, and the dense reference in plain f64 loops.

use super::{Lanes, Pattern};
use crate::isa::Isa;
use crate::real::Real;
use crate::rng::{Philox, Purpose};

/// Uniform numbers in −0.5..0.5.
pub fn numbers<T: Real>(n: usize, seed: u64) -> Vec<T> {
    let rng = Philox::new(seed, Purpose::Initialise);
    (0..n).map(|i| T::of(rng.uniform(i as u64, [0, 0]) - 0.5)).collect()
}

/// A mask that is false with probability `sparsity`.
pub fn mask(n: usize, sparsity: f64, seed: u64) -> Vec<bool> {
    let rng = Philox::new(seed, Purpose::Initialise);
    (0..n).map(|i| rng.uniform(i as u64, [1, 0]) >= sparsity).collect()
}

/// The sets this machine has.
pub fn isas() -> impl Iterator<Item = Isa> {
    Isa::ALL.into_iter().filter(|isa| isa.available())
}

/// The numbers in f64.
pub fn wide<T: Real>(values: &[T]) -> Vec<f64> {
    values.iter().map(|v| v.wide()).collect()
}

/// Asserts that numbers agree to a relative error of about `scale` roundings of T.
pub fn close<T: Real>(name: &str, found: &[T], expected: &[f64], scale: f64) {
    assert_eq!(found.len(), expected.len(), "{name}");
    let tolerance = scale * T::epsilon().wide();
    for (i, (f, e)) in found.iter().zip(expected).enumerate() {
        let difference = (f.wide() - e).abs();
        assert!(difference <= tolerance * (1.0 + e.abs()), "{name}[{i}]: {f} against {e}, difference {difference}");
    }
}

/// The dense tensor of a pattern's values.
pub fn dense<T: Real + Lanes>(pattern: &Pattern, values: &[T]) -> Vec<f64> {
    let mut dense = vec![T::zero(); pattern.shape().dense_len()];
    pattern.scatter(values, &mut dense);
    wide(&dense)
}
