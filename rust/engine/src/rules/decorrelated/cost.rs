//! Multiply-adds of the products that R takes part in.

use super::{Config, Way};
use crate::rules::Site;
use kernels::decorrelation::{self, Blocks};

/// Multiply-adds of a step with R, as a mean over steps, since R may stand still in most of them; those of the map itself, which are
/// the same without R, are not among them.
pub fn multiply_adds(config: &Config, site: &Site, blocks: Blocks, way: Way, learns: bool) -> f64 {
    let rows = site.map.rows(site.batch);
    let passes = match way {
        // Values through R, and but for the network's input gradients back through it.
        Way::TwoStage => rows * if site.first { 1 } else { 2 },
        // S · W, and the gradient of that turned into W's.
        Way::Fused => 2 * site.map.outputs(),
        // The gradient of A times Rᵀ R.
        Way::Around => 2 * site.map.outputs(),
    };
    let step = (passes * blocks.elements()) as f64;
    if !learns || config.rate == 0.0 {
        return step;
    }
    let count = config.budget(blocks.size, rows);
    // Of rows that have passed R in the forward pass, z is known.
    let chosen = if way == Way::TwoStage && count == rows { 0 } else { count * blocks.elements() };
    step + (chosen + decorrelation::update_multiply_adds(blocks, count)) as f64 / config.every(site) as f64
}
