//! How close the approximate product is to the exact one, where a run asks for it: an exact product more in each step.

use super::Chosen;
use crate::error::Result;
use crate::layers::Pass;
use crate::layers::map::Map;
use kernels::{Buffer, Real, reduce};

/// Two products to compare.
pub struct Comparison<T> {
    exact: Buffer<T>,
    found: Buffer<T>,
    /// Cosine between the two in the last step; 0 where one of them is 0.
    pub cosine: f64,
}

impl<T: Real> Comparison<T> {
    /// Room for products of `weights` elements.
    pub fn new(weights: usize) -> Result<Comparison<T>> {
        Ok(Comparison { exact: Buffer::zeroed(weights)?, found: Buffer::zeroed(weights)?, cosine: 0.0 })
    }

    /// Compares what `chosen` makes with the product of all rows.
    pub fn measure(&mut self, map: &Map, pass: &Pass, (x, g): (&[T], &[T]), chosen: &mut Chosen<T>, scratch: &mut [T]) {
        map.weight_gradient(pass.par, pass.rows, x, g, &mut self.exact, scratch);
        chosen.weight_gradient(map, pass.par, &mut self.found, scratch);
        let norm = |product: &[T]| reduce::sum_of_squares(product).wide().sqrt();
        let norms = norm(&self.exact) * norm(&self.found);
        self.cosine = if norms > 0.0 { reduce::dot(&self.exact, &self.found).wide() / norms } else { 0.0 };
    }
}
