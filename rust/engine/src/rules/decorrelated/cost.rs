//! Multiply-adds of the products that R takes part in.

use super::{Config, Form, Way};
use crate::rules::Site;
use kernels::decorrelation::{self, Blocks};

/// Multiply-adds of a step with R, as a mean over steps, since R may stand still in most of them; those of the map itself, which are
/// the same without R, are not among them.
pub fn multiply_adds(config: &Config, site: &Site, blocks: Blocks, way: Way, learns: bool) -> f64 {
    let rows = site.map.rows(site.batch);
    let passes = match way {
        // Values through R, and but for the network's input gradients back through it.
        Way::TwoStage => rows * if site.first { 1 } else { 2 },
        // S · W, and the gradient of that turned into W's; or the gradient of A times Rᵀ R.
        Way::Fused | Way::Around => 2 * site.map.outputs(),
        // There is no R.
        Way::Centered => return 0.0,
    };
    let step = (passes * blocks.elements()) as f64;
    if !learns || config.rate == Some(0.0) {
        return step;
    }
    let count = config.budget(way, blocks, rows);
    let learning = match config.form {
        Form::Local | Form::DriftFree => {
            // Of rows that have passed R in the forward pass, z is known.
            let chosen = if way == Way::TwoStage && count == rows { 0 } else { count * blocks.elements() };
            (chosen + decorrelation::update_multiply_adds(blocks, count)) as f64
        }
        // Half of Σ, which is symmetric; C and the step, and the inverse of that, which is symmetric too.
        Form::NewtonSchulz => averaged(site, blocks, count, 3.5),
        // L takes a sixth of a product of blocks, its inverse a third.
        Form::Cholesky => averaged(site, blocks, count, 0.5),
    };
    step + learning / config.every(site) as f64
}

/// Σ from `count` rows, R by as many products of its blocks, and what the weights take up.
fn averaged(site: &Site, blocks: Blocks, count: usize, products: f64) -> f64 {
    let cubes: usize = (0..blocks.count()).map(|index| blocks.range(index).len().pow(3)).sum();
    let rows = count as f64 / 2.0 + 2.0 * site.map.outputs() as f64;
    rows * blocks.elements() as f64 + products * cubes as f64
}
