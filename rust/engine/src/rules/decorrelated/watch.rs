//! How correlated the inputs of linear maps are, counted while a network is evaluated.

use super::{Decorrelated, Way};
use crate::error::Result;
use crate::layers::Pass;
use crate::layers::map::Map;
use crate::network::Network;
use crate::plan::{Op, Parameter, Plan};
use crate::rules::Moment;
use crate::rules::inputs::{self, Inputs};
use kernels::decorrelation;
use kernels::rng::{Philox, Purpose};
use kernels::{Buffer, Par, Real};
use serde_json::{Value, json};

/// Rows that are multiplied at once; sums of parts are added in f64.
const CHUNK: usize = 256;

/// Sums over what a map sees.
pub struct Watch<T> {
    size: usize,
    patches: usize,
    rows: usize,
    sums: Vec<f64>,
    products: Vec<f64>,
    x: Buffer<T>,
    z: Buffer<T>,
    part: Buffer<T>,
}

impl<T: Real> Watch<T> {
    /// Counts a map with `size` inputs by `patches` of each sample.
    pub fn new(size: usize, patches: usize) -> Result<Self> {
        Ok(Watch {
            size,
            patches,
            rows: 0,
            sums: vec![0.0; size],
            products: vec![0.0; size * size],
            x: Buffer::zeroed(CHUNK * size)?,
            z: Buffer::zeroed(CHUNK * size)?,
            part: Buffer::zeroed(size * size)?,
        })
    }

    /// Counts rows of a pass with inputs `x`.
    pub fn see(&mut self, map: &Map, pass: &Pass, x: &[T], rule: Option<&mut Decorrelated<T>>) {
        let positions = map.rows(1);
        let per = self.patches.min(positions);
        let random = Philox::new(0, Purpose::Decorrelate);
        let row = |index: usize| {
            let (sample, at) = (index / per, index % per);
            (sample * positions) as u32 + random.below(positions as u32, at as u64, [pass.samples[sample], 0])
        };
        let wanted: Vec<u32> = (0..pass.rows * per).map(row).collect();
        let mut rule = rule;
        if let Some(rule) = &mut rule {
            rule.prepare();
        }
        for rows in wanted.chunks(CHUNK) {
            let count = rows.len();
            let x_rows = &mut self.x[..count * self.size];
            map.gather(x, rows, 0, x_rows);
            let z = match &rule {
                None => x_rows,
                Some(rule) => {
                    let z = &mut self.z[..count * self.size];
                    rule.transform(pass.par, x_rows, z);
                    z
                }
            };
            decorrelation::second_moment(pass.par, count, z, self.size, &mut self.part);
            self.products.iter_mut().zip(&*self.part).for_each(|(sum, part)| *sum += part.wide() * count as f64);
            for z in z.chunks_exact(self.size) {
                self.sums.iter_mut().zip(z).for_each(|(sum, z)| *sum += z.wide());
            }
            self.rows += count;
        }
    }

    /// Mean absolute correlation of different inputs, and the loss of decorrelation with κ.
    fn figures(&self, kappa: f64) -> Value {
        let (size, rows) = (self.size, self.rows as f64);
        let mean: Vec<f64> = self.sums.iter().map(|sum| sum / rows).collect();
        let moment = |i: usize, j: usize| self.products[i * size + j] / rows;
        let deviation: Vec<f64> = (0..size).map(|i| (moment(i, i) - mean[i] * mean[i]).max(0.0).sqrt()).collect();
        // Inputs that never change have no correlations.
        let alive: Vec<usize> = (0..size).filter(|i| deviation[*i] > 1e-6).collect();
        let mut sum = 0.0;
        for i in &alive {
            for j in alive.iter().filter(|j| *j < i) {
                sum += ((moment(*i, *j) - mean[*i] * mean[*j]) / (deviation[*i] * deviation[*j])).abs();
            }
        }
        let pairs = alive.len() * alive.len().saturating_sub(1) / 2;
        let mut loss = 0.0;
        for i in 0..size {
            for j in 0..size {
                let c = moment(i, j);
                loss += if i == j { kappa * (c - 1.0).powi(2) } else { (1.0 - kappa) * c * c };
            }
        }
        let variance = deviation.iter().map(|deviation| deviation * deviation).sum::<f64>() / size as f64;
        json!({
            "inputs": size, "rows": self.rows, "correlation": if pairs == 0 { 0.0 } else { sum / pairs as f64 },
            "loss": loss / (size * size) as f64, "variance": variance,
        })
    }
}

impl<T: Real> Plan<T> {
    /// Whether weights are behind an R, without which they are of another function.
    pub(crate) fn is_behind_matrices(&self) -> bool {
        self.nodes.iter().any(|node| match &node.op {
            Op::Linear(linear) => matches!(&linear.slots.inputs, Inputs::Decorrelated(rule) if rule.way != Way::Around),
            Op::Add { .. } | Op::Layer(_) => false,
        })
    }
}

impl<T: Real> Network<T> {
    /// Has evaluations count.
    pub(crate) fn watch_inputs(&mut self, patches: usize) -> Result<Value> {
        for node in &mut self.plan.nodes {
            if let Op::Linear(linear) = &mut node.op {
                linear.watch = Some(Box::new(Watch::new(linear.map.inputs(), patches)?));
            }
        }
        Ok(Value::Null)
    }

    /// What was counted; nobody counts any more.
    pub(crate) fn describe_inputs(&mut self) -> Value {
        let config = match self.training.as_ref().map(|training| &training.config.rule.inputs) {
            Some(inputs::Config::Decorrelated(config)) => Some(config),
            Some(inputs::Config::Raw {}) | None => None,
        };
        let maps = self.plan.nodes.iter_mut().filter_map(|node| match &mut node.op {
            Op::Linear(linear) => linear.watch.take().map(|watch| {
                let mut figures = watch.figures(config.map_or(0.5, |config| config.kappa(&linear.map)));
                figures["layer"] = json!(node.layer);
                figures["kind"] = json!(node.kind);
                figures
            }),
            Op::Add { .. } | Op::Layer(_) => None,
        });
        json!(maps.collect::<Vec<_>>())
    }

    /// Lets means and R of all maps follow what a step has seen, where they do that once it is taken.
    pub(crate) fn settle_inputs(&mut self, par: Par, moment: &Moment) {
        for node in &mut self.plan.nodes {
            let Op::Linear(linear) = &mut node.op else { continue };
            let (weights, bias) = linear.halves(&mut self.values[node.parameters.clone()]);
            if let Some(rule) = linear.slots.inputs.decorrelated() {
                rule.settle(par, moment, weights, bias);
            }
        }
    }

    /// Folds R of all maps into plain weights, for the end of a run.
    pub(crate) fn fold_inputs(&mut self) {
        for node in &mut self.plan.nodes {
            let Op::Linear(linear) = &mut node.op else { continue };
            let (weights, bias) = linear.halves(&mut self.values[node.parameters.clone()]);
            if let Some(rule) = linear.slots.inputs.decorrelated() {
                rule.fold(weights, bias);
            }
        }
    }

    /// A parameter as it is without the rule, where that differs.
    pub(crate) fn folded(&mut self, index: usize) -> Option<Vec<T>> {
        let Parameter { range, .. } = self.plan.parameters[index].clone();
        let node = self.plan.nodes.iter_mut().find(|node| node.parameters.contains(&range.start))?;
        let Op::Linear(linear) = &mut node.op else { return None };
        let at = range.start - node.parameters.start..range.end - node.parameters.start;
        let mut own = self.values[node.parameters.clone()].to_vec();
        let (weights, bias) = linear.halves(&mut own);
        linear.slots.inputs.decorrelated()?.fold(weights, bias);
        Some(own[at].to_vec())
    }
}
