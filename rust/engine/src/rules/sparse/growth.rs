//! Which weights leave a mask and which join it.

use crate::layers::Pass;
use crate::layers::map::Map;
use crate::layers::support::{Side, Support};
use kernels::linear::{self, Dims};
use kernels::rng::{Philox, Purpose};
use kernels::sparse::Pattern;
use kernels::{Par, Real, conv};
use std::cmp::Ordering;

/// Rows of the dense gradient that exist at a time, at most.
const BLOCK: usize = 64;

/// Elements of inputs gathered for such a block, about at most.
const GATHERED: usize = 1 << 21;

/// The largest `k` of many scored positions, in the memory of a few times as many. Equal scores: the lower position.
struct Top<T> {
    k: usize,
    found: Vec<(T, u32)>,
    /// Scores up to this one cannot be among the largest.
    floor: Option<T>,
}

fn higher_first<T: Real>(a: &(T, u32), b: &(T, u32)) -> Ordering {
    b.0.partial_cmp(&a.0).unwrap_or(Ordering::Equal).then(a.1.cmp(&b.1))
}

impl<T: Real> Top<T> {
    fn new(k: usize) -> Top<T> {
        Top { k, found: Vec::with_capacity(2 * k + 1), floor: None }
    }

    fn push(&mut self, score: T, position: usize) {
        if self.k == 0 || self.floor.is_some_and(|floor| score < floor) {
            return;
        }
        self.found.push((score, position as u32));
        if self.found.len() > 2 * self.k {
            self.cut();
        }
    }

    fn cut(&mut self) {
        if self.found.len() > self.k {
            let (_, last, _) = self.found.select_nth_unstable_by(self.k - 1, higher_first);
            self.floor = Some(last.0);
            self.found.truncate(self.k);
        }
    }

    /// Their positions.
    fn positions(mut self) -> Vec<usize> {
        self.cut();
        self.found.into_iter().map(|(_, position)| position as usize).collect()
    }
}

/// The pattern with the `keep` largest weights of this one: `values` in the order of its slots.
pub fn largest<T: Real>(pattern: &Pattern, values: &[T], keep: usize) -> Pattern {
    let mut top = Top::new(keep);
    for (position, value) in pattern.positions().zip(values) {
        top.push(value.abs(), position);
    }
    with_positions(pattern, top.positions())
}

/// As [`largest`], of all weights of a dense tensor.
pub fn largest_of_dense<T: Real>(values: &[T], keep: usize) -> Vec<usize> {
    let mut top = Top::new(keep);
    for (position, value) in values.iter().enumerate() {
        top.push(value.abs(), position);
    }
    let mut positions = top.positions();
    positions.sort_unstable();
    positions
}

/// `keep` random positions of `all`, ascending, keyed by seed, layer and step.
pub fn random(all: usize, keep: usize, key: (u64, u32, u32)) -> Vec<usize> {
    let mut positions = random_among(0..all, keep, key);
    positions.sort_unstable();
    positions
}

fn random_among(
    candidates: impl Iterator<Item = usize>,
    keep: usize,
    (seed, layer, step): (u64, u32, u32),
) -> Vec<usize> {
    let rng = Philox::new(seed, Purpose::Rule);
    let mut top = Top::new(keep);
    for position in candidates {
        top.push(rng.uniform(position as u64, [layer, step]), position);
    }
    top.positions()
}

/// A pattern of the same shape with these weights, in any order.
fn with_positions(pattern: &Pattern, mut positions: Vec<usize>) -> Pattern {
    positions.sort_unstable();
    match Pattern::from_positions(pattern.shape(), &positions) {
        Ok(pattern) => pattern,
        Err(fault) => unreachable!("positions of weights of the same map: {fault}"),
    }
}

/// Marks where there are weights.
fn occupied(pattern: &Pattern) -> Vec<bool> {
    let mut occupied = vec![false; pattern.shape().dense_len()];
    pattern.positions().for_each(|position| occupied[position] = true);
    occupied
}

/// The pattern without its `drop` smallest weights and with as many others.
fn exchange<T: Real>(pattern: &Pattern, values: &[T], grown: Vec<usize>) -> Pattern {
    let kept = largest(pattern, values, pattern.len() - grown.len());
    let mut positions = grown;
    positions.extend(kept.positions());
    with_positions(pattern, positions)
}

/// SET (Mocanu et al. 2018): `count` of the smallest weights give way to as many random ones.
pub fn by_chance<T: Real>(pattern: &Pattern, values: &[T], count: usize, key: (u64, u32, u32)) -> Pattern {
    let occupied = occupied(pattern);
    let free = (0..occupied.len()).filter(|position| !occupied[*position]);
    exchange(pattern, values, random_among(free, count, key))
}

/// RigL (Evci et al. 2020): `count` of the smallest weights give way to those with the largest gradients among the ones that
/// there are not. `x` and `g` are inputs and gradients of the pre-activations as the map gets them; `scratch` has at least
/// [`scratch`] elements.
pub fn by_gradient<T: Real>(
    pass: &Pass,
    map: &Map,
    support: &Support<T>,
    values: &[T],
    (x, g): (&[T], &[T]),
    count: usize,
    scratch: &mut [T],
) -> Pattern {
    let [of_x, of_g] = support.joined_rows(pass.rows);
    let (x_rows, scratch) = scratch.split_at_mut(of_x);
    let (g_rows, scratch) = scratch.split_at_mut(of_g);
    let x = if of_x > 0 { support.unpack(pass, Side::Inputs, x, x_rows) } else { x };
    let g = if of_g > 0 { support.unpack(pass, Side::Outputs, g, g_rows) } else { g };
    let pattern = support.pattern();
    let grown = steepest(pass.par, map, pass.rows, (x, g), &occupied(pattern), count, scratch);
    exchange(pattern, values, grown)
}

/// Scratch elements that [`by_gradient`] needs for `samples` samples. A run has them from its beginning: were they asked for in the
/// step that exchanges weights, what a run learns would depend on the memory that is free at that moment.
pub fn scratch<T: Real>(map: &Map, support: &Support<T>, samples: usize) -> usize {
    support.joined_rows(samples).iter().sum::<usize>() + block_scratch(map, samples)
}

/// Rows of the dense gradient that exist at a time.
fn block(map: &Map, samples: usize) -> usize {
    BLOCK.min(GATHERED / map.rows(samples)).max(1)
}

/// Scratch elements of [`steepest`]: a block of the gradient, and the inputs gathered for it.
fn block_scratch(map: &Map, samples: usize) -> usize {
    block(map, samples) * (map.rows(samples) + map.outputs())
}

/// The `count` weights with the largest gradients among those that are not occupied. The dense gradient is computed by blocks of
/// rows and never exists as a whole.
fn steepest<T: Real>(
    par: Par,
    map: &Map,
    samples: usize,
    (x, g): (&[T], &[T]),
    occupied: &[bool],
    count: usize,
    scratch: &mut [T],
) -> Vec<usize> {
    let (rows, inputs, outputs) = (map.rows(samples), map.inputs(), map.outputs());
    let block = block(map, samples);
    let (gathered, gradient) = scratch.split_at_mut(rows * block);
    let mut top = Top::new(count);
    for first in (0..inputs).step_by(block) {
        let columns = first..(first + block).min(inputs);
        let gathered = &mut gathered[..rows * columns.len()];
        match map {
            Map::Dense { .. } => {
                for (out, row) in gathered.chunks_exact_mut(columns.len()).zip(x.chunks_exact(inputs)) {
                    out.copy_from_slice(&row[columns.clone()]);
                }
            }
            Map::Conv(geometry) => conv::gather(geometry, x, 0..rows, 0, columns.clone(), gathered),
        }
        let gradient = &mut gradient[..columns.len() * outputs];
        let dims = Dims { rows, inputs: columns.len(), outputs };
        linear::weight_gradient(par, dims, T::one(), gathered, g, false, gradient);
        for (position, value) in (first * outputs..).zip(gradient.iter()) {
            if !occupied[position] {
                top.push(value.abs(), position);
            }
        }
    }
    top.positions()
}

#[cfg(test)]
mod tests {
    use super::*;
    use kernels::sparse::Shape;

    #[test]
    fn the_largest_are_kept_and_ties_go_to_the_lower_position() {
        let values = [1.0, -3.0, 2.0, 0.0, 3.0, -2.0];
        assert_eq!(largest_of_dense(&values, 3), [1, 2, 4]);
        assert_eq!(largest_of_dense(&values, 0), [0; 0]);
        assert_eq!(largest_of_dense(&values, 6), [0, 1, 2, 3, 4, 5]);
        let pattern = Pattern::from_positions(Shape::linear(3, 2), &[1, 2, 5]).unwrap();
        let ordered: Vec<usize> = pattern.positions().collect();
        let of: Vec<f64> = ordered.iter().map(|position| values[*position]).collect();
        let kept: Vec<usize> = largest(&pattern, &of, 2).positions().collect();
        assert_eq!(kept, [1, 2]);
    }

    #[test]
    fn a_running_choice_equals_a_sort() {
        let rng = Philox::new(3, Purpose::Rule);
        let scores: Vec<f64> = (0..5000).map(|i| (rng.uniform(i, [0, 0]) * 50.0).floor()).collect();
        for k in [1, 7, 500, 4999, 5000] {
            let mut top = Top::new(k);
            scores.iter().enumerate().for_each(|(position, score)| top.push(*score, position));
            let mut found = top.positions();
            found.sort_unstable();
            let mut order: Vec<usize> = (0..scores.len()).collect();
            order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]).then(a.cmp(b)));
            let mut expected = order[..k].to_vec();
            expected.sort_unstable();
            assert!(found == expected, "k = {k}");
        }
    }

    #[test]
    fn random_masks_have_the_count_and_depend_on_every_part_of_the_key() {
        let mask = random(1000, 100, (1, 2, 3));
        assert_eq!(mask.len(), 100);
        assert!(mask.windows(2).all(|pair| pair[0] < pair[1]));
        for other in [(2, 2, 3), (1, 3, 3), (1, 2, 4)] {
            assert_ne!(random(1000, 100, other), mask);
        }
    }

    #[test]
    fn chance_keeps_the_number_and_the_largest() {
        let shape = Shape::linear(20, 10);
        let pattern = Pattern::from_positions(shape, &random(200, 50, (1, 0, 0))).unwrap();
        let values: Vec<f64> = (0..50).map(|i| f64::from(i + 1)).collect();
        let after = by_chance(&pattern, &values, 15, (1, 0, 7));
        let (before, after) = (occupied(&pattern), occupied(&after));
        let both = before.iter().zip(&after).filter(|(a, b)| **a && **b).count();
        assert_eq!((after.iter().filter(|kept| **kept).count(), both), (50, 35));
        let mut kept = vec![0.0; 200];
        pattern.scatter(&values, &mut kept);
        assert!(kept.iter().zip(&after).all(|(value, after)| *value <= 15.0 || *after), "the largest 35 stay");
    }

    #[test]
    fn the_steepest_gradients_are_those_of_the_dense_product() {
        let geometry = kernels::conv::Geometry {
            height: 5,
            width: 4,
            inputs: 3,
            outputs: 4,
            kernel: [3, 3],
            stride: [2, 2],
            padding: [1, 1],
            groups: 1,
        };
        for map in [Map::Dense { inputs: 150, outputs: 7 }, Map::Conv(geometry)] {
            let samples = 6;
            let rng = Philox::new(5, Purpose::Rule);
            let numbers =
                |n: usize, key: u32| -> Vec<f64> { (0..n).map(|i| rng.uniform(i as u64, [key, 0]) - 0.5).collect() };
            let inputs = if let Map::Conv(g) = &map { g.height * g.width * g.inputs } else { map.inputs() };
            let (x, g) = (numbers(samples * inputs, 1), numbers(map.rows(samples) * map.outputs(), 2));
            let mut dense = vec![0.0; map.weights()];
            let mut scratch = vec![0.0; map.scratch::<f64>(Par::SEQUENTIAL, samples)];
            map.weight_gradient(Par::SEQUENTIAL, samples, &x, &g, &mut dense, &mut scratch);
            let occupied: Vec<bool> = (0..dense.len()).map(|i| i % 3 == 0).collect();
            // No more scratch than is asked for, and nothing in it that matters.
            let mut scratch = vec![f64::NAN; block_scratch(&map, samples)];
            let found = steepest(Par::SEQUENTIAL, &map, samples, (&x, &g), &occupied, 20, &mut scratch);
            let free: Vec<f64> = dense.iter().zip(&occupied).map(|(v, o)| if *o { 0.0 } else { *v }).collect();
            let mut found = found;
            found.sort_unstable();
            assert_eq!(found, largest_of_dense(&free, 20), "{map:?}");
        }
    }
}
