//! How zeros are shared out between layers.

use crate::layers::map::Map;
use kernels::conv::Geometry;
use serde::{Deserialize, Serialize};

/// How zeros are shared out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Distribution {
    /// The same share in every layer.
    Uniform,
    /// Erdős–Rényi kernel (Mocanu et al. 2018, Evci et al. 2020): a layer keeps weights in proportion to the sum of its sizes, so
    /// that small layers stay denser.
    Erk,
}

/// Sparsity of each map, so that all of them together have `sparsity`.
pub fn share_out(distribution: Distribution, sparsity: f64, maps: &[&Map]) -> Vec<f64> {
    match distribution {
        Distribution::Uniform => vec![sparsity; maps.len()],
        Distribution::Erk => erk(sparsity, maps),
    }
}

/// Sum of a map's sizes over their product.
fn rawness(map: &Map) -> f64 {
    let sizes = match map {
        Map::Dense { inputs, outputs } => vec![*inputs, *outputs],
        Map::Conv(Geometry { inputs, outputs, kernel: [height, width], .. }) => {
            vec![*inputs, *outputs, *height, *width]
        }
    };
    sizes.iter().sum::<usize>() as f64 / sizes.iter().product::<usize>() as f64
}

fn erk(sparsity: f64, maps: &[&Map]) -> Vec<f64> {
    let weights: Vec<f64> = maps.iter().map(|map| map.weights() as f64).collect();
    let raw: Vec<f64> = maps.iter().map(|map| rawness(map)).collect();
    let wanted = (1.0 - sparsity) * weights.iter().sum::<f64>();
    // Layers that would keep more than all keep all; the others share the rest.
    let mut full = vec![false; maps.len()];
    loop {
        let (whole, rest): (Vec<usize>, Vec<usize>) = (0..maps.len()).partition(|i| full[*i]);
        let left = wanted - whole.iter().map(|i| weights[*i]).sum::<f64>();
        let scale = left / rest.iter().map(|i| raw[*i] * weights[*i]).sum::<f64>();
        let largest = rest.iter().copied().max_by(|a, b| raw[*a].total_cmp(&raw[*b]));
        match largest {
            Some(largest) if scale * raw[largest] > 1.0 => {
                let most = raw[largest];
                rest.iter().filter(|i| raw[**i] == most).for_each(|i| full[*i] = true);
            }
            Some(_) | None => {
                return (0..maps.len()).map(|i| if full[i] { 0.0 } else { 1.0 - (scale * raw[i]).max(0.0) }).collect();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_right_and_small_layers_are_denser() {
        let maps = [
            Map::Dense { inputs: 784, outputs: 300 },
            Map::Dense { inputs: 300, outputs: 100 },
            Map::Dense { inputs: 100, outputs: 10 },
        ];
        let maps: Vec<&Map> = maps.iter().collect();
        for sparsity in [0.0, 0.5, 0.9, 0.98] {
            let shares = share_out(Distribution::Erk, sparsity, &maps);
            let zeros: f64 = shares.iter().zip(&maps).map(|(share, map)| share * map.weights() as f64).sum();
            let all: f64 = maps.iter().map(|map| map.weights() as f64).sum();
            assert!((zeros / all - sparsity).abs() < 1e-9, "{sparsity}: {shares:?}");
            assert!(shares.windows(2).all(|pair| pair[0] >= pair[1]), "{shares:?}");
            assert!(shares.iter().all(|share| (0.0..1.0).contains(share)), "{shares:?}");
        }
    }
}
