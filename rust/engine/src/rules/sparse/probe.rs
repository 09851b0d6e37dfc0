//! How long a step of one layer takes here, sparse and dense.

use super::{growth, kept, pattern_of};
use crate::error::Result;
use crate::layers::map::Map;
use crate::layers::support::Support;
use crate::layers::{Mode, Pass};
use kernels::rng::{Philox, Purpose};
use kernels::{Activation, Buffer, Par, Real};
use std::time::Instant;

/// Measurements of which the median counts.
const RUNS: usize = 3;

/// Seconds of a forward and a backward pass of `samples` samples: (sparse, dense), each on rows.
pub fn times<T: Real>(par: Par, map: &Map, sparsity: f64, samples: usize, lanes: usize) -> Result<(f64, f64)> {
    let pass = Pass { par, rows: samples, mode: Mode::Evaluate, samples: &[] };
    let inputs = match map {
        Map::Dense { inputs, .. } => *inputs,
        Map::Conv(geometry) => geometry.height * geometry.width * geometry.inputs,
    };
    let numbers = |length: usize| -> Result<Buffer<T>> {
        let rng = Philox::new(1, Purpose::Rule);
        let mut buffer = Buffer::zeroed(length)?;
        buffer.iter_mut().zip(0..).for_each(|(value, i)| *value = T::of(rng.uniform(i, [0, 0]) - 0.5));
        Ok(buffer)
    };
    let outputs = map.rows(samples) * map.outputs();
    let (x, mut y, mut g) = (numbers(samples * inputs)?, numbers(outputs)?, numbers(outputs)?);
    let (w, mut dw, mut dx) = (numbers(map.weights())?, Buffer::zeroed(map.weights())?, Buffer::zeroed(x.len())?);
    let mut scratch = Buffer::zeroed(map.scratch::<T>(par, samples))?;
    let dense = median(|| {
        map.forward(par, samples, &x, &w, None, Activation::Identity, &mut y, &mut scratch);
        map.input_gradient(par, samples, &g, &w, None, &mut dx, &mut scratch);
        map.weight_gradient(par, samples, &x, &g, &mut dw, &mut scratch);
    });
    let keep = kept(map.weights(), sparsity);
    let pattern = pattern_of(map, &growth::random(map.weights(), keep, (1, 0, 0)));
    let mut support = Support::<T>::new(map, pattern, lanes);
    support.reserve(samples)?;
    let mut scratch = Buffer::zeroed(support.scratch(samples))?;
    let (w, dw) = (&w[..keep], &mut dw[..keep]);
    let sparse = median(|| {
        support.forward(&pass, &x, w, None, Activation::Identity, &mut y, &mut scratch);
        support.backward(&pass, &x, &mut g, w, None, Some(&mut dx), (dw, None), &mut scratch);
    });
    Ok((sparse, dense))
}

/// The median time of some runs, after one that warms up.
fn median(mut body: impl FnMut()) -> f64 {
    body();
    let mut times = [0.0; RUNS];
    for time in &mut times {
        let start = Instant::now();
        body();
        *time = start.elapsed().as_secs_f64();
    }
    times.sort_by(f64::total_cmp);
    times[RUNS / 2]
}
