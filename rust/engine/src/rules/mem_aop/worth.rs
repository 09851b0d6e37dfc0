//! Where keeping fewer rows saves time.

use super::Config;
use crate::layers::map::Map;

/// Inputs · outputs / (inputs + outputs) of a row: the work that an outer product costs for each of the elements that choosing it
/// has to read.
pub fn size(map: &Map) -> f64 {
    let (inputs, outputs) = (map.inputs() as f64, map.outputs() as f64);
    inputs * outputs / (inputs + outputs)
}

/// Whether a layer is faster with fewer rows.
pub fn wins(config: &Config, map: &Map, batch: usize, patches: bool) -> bool {
    let share = config.keep(batch) as f64 / batch as f64;
    let least = if patches { 48.0 } else { 32.0 };
    share < 1.0 && size(map) * (1.0 - share) / (1.0 + share) >= least * 0.6
}
