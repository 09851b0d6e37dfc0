//! Where keeping fewer rows saves time, told from shapes alone: the same network gets the same products on every machine.
//!
//! The constants come from `examples/mem_aop_speed.rs` on an EPYC core with AVX-512: with a share r of the rows, a layer takes r plus
//! 15 / size (in the cache) to 30 / size of the time of the exact product on one thread, up to 50 / size where two threads share it;
//! patches of 3 × 3 convolutions, whose exact product is fast, 2.5 r + 25 / size. `docs/mem_aop.md` has the table.

use super::Config;
use crate::layers::map::Map;

/// Time for norms, memory and copies, in units of the exact product's time · size: the most that was measured, on two threads.
const PASSES: f64 = 52.0;

/// Time for choosing, in multiply-adds of the exact product.
const CHOOSING: f64 = 125_000.0;

/// How much more a chosen patch costs than its share of the exact product.
const PATCH: f64 = 2.5;

/// As [`PASSES`], for patches, whose norms come from those of pixels.
const PATCH_PASSES: f64 = 30.0;

/// The most of the exact product's time that is still worth it.
const WORTH: f64 = 0.95;

/// Inputs · outputs / (inputs + outputs) of a row: the work that an outer product costs for each of the elements that choosing it
/// has to read.
pub fn size(map: &Map) -> f64 {
    let (inputs, outputs) = (map.inputs() as f64, map.outputs() as f64);
    inputs * outputs / (inputs + outputs)
}

/// Whether a layer with this share of its weights is faster with fewer rows.
pub fn wins(config: &Config, map: &Map, batch: usize, (density, patches): (f64, bool)) -> bool {
    let share = config.keep(batch) as f64 / batch as f64;
    let (rows, passes) = if patches { (PATCH * share, PATCH_PASSES) } else { (share, PASSES) };
    let multiply_adds = (batch * map.multiply_adds()) as f64 * density;
    rows + passes / (size(map) * density) + CHOOSING / multiply_adds < WORTH
}

#[cfg(test)]
mod tests {
    use super::*;
    use kernels::conv::Geometry;

    fn config(share: f64) -> Config {
        let json = serde_json::json!({
            "k": null, "fraction": share, "policy": "topK", "memory": true, "decay": 1.0, "center": true,
            "scope": "layer", "convolution": "patches", "minSize": null, "exactOutput": true, "wholeBatches": false,
            "cosine": false, "force": false,
        });
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn layers_take_part_where_it_was_measured_to_pay() {
        let dense = |inputs, outputs| Map::Dense { inputs, outputs };
        for (map, batch, share, expected) in [
            (dense(512, 512), 256, 0.25, true),
            (dense(256, 128), 64, 0.25, true),
            (dense(512, 512), 256, 0.75, false),
            (dense(64, 64), 64, 0.25, false),
            (dense(784, 32), 64, 0.25, false),
            (dense(128, 128), 16, 0.25, false),
            (dense(512, 512), 256, 1.0, false),
        ] {
            assert_eq!(wins(&config(share), &map, batch, (1.0, false)), expected, "{map:?} {batch} {share}");
        }
        assert!(!wins(&config(0.25), &dense(256, 256), 64, (0.2, false)), "few weights cost little");
        let conv = |channels| Geometry {
            height: 16,
            width: 16,
            inputs: channels,
            outputs: channels,
            kernel: [3, 3],
            stride: [1, 1],
            padding: [1, 1],
            groups: 1,
        };
        for (channels, share, expected) in [(128, 0.125, true), (16, 0.125, false), (64, 0.25, false)] {
            assert_eq!(
                wins(&config(share), &Map::Conv(conv(channels)), 16, (1.0, true)),
                expected,
                "{channels} {share}"
            );
        }
    }
}
