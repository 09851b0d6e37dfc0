//! How R and the means change: from some rows of a batch, by the local rule.

use super::{Config, Decorrelated, Way};
use crate::error::Result;
use crate::layers::Pass;
use crate::layers::map::Map;
use crate::rules::{Moment, Site};
use kernels::decorrelation::{self, Blocks, Outcome, Rule};
use kernels::rng::{Philox, Purpose};
use kernels::{Buffer, Real, carry, reduce};
use serde_json::{Map as Object, Value, json};

/// The least weight of new rows in the means.
const MEAN_GAIN: f64 = 0.1;

/// The longest row of R.
const CAP: f64 = 20.0;

/// What changes R.
pub struct Learner<T> {
    config: Config,
    kappa: f64,
    every: u64,
    number: u32,
    /// Rows of a batch in any order, the first of them chosen.
    order: Vec<u32>,
    /// Chosen rows of x and of z.
    x: Buffer<T>,
    z: Buffer<T>,
    /// Means of the chosen rows; empty without centring.
    mean: Buffer<T>,
    scratch: Buffer<T>,
    last: Option<(usize, Outcome)>,
    resets: usize,
}

impl<T: Real> Learner<T> {
    /// Room for the batches of a run.
    pub fn new(config: &Config, site: &Site, blocks: Blocks) -> Result<Self> {
        let rows = site.map.rows(site.batch);
        let count = config.budget(blocks.size, rows);
        let center = config.center.unwrap_or(site.bias);
        Ok(Learner {
            config: config.clone(),
            kappa: config.kappa(&site.map),
            every: config.every(site),
            number: site.number,
            order: vec![0; rows],
            x: Buffer::zeroed(count * blocks.size)?,
            z: Buffer::zeroed(count * blocks.size)?,
            mean: if center { Buffer::zeroed(blocks.size)? } else { Buffer::empty() },
            scratch: Buffer::zeroed(decorrelation::scratch_elements(blocks, count, false))?,
            last: None,
            resets: 0,
        })
    }

    /// Draws rows without replacement, the same for a seed, a step and a map; gives how many.
    fn draw(&mut self, rows: usize, count: usize, moment: &Moment) {
        let order = &mut self.order[..rows];
        order.iter_mut().enumerate().for_each(|(index, row)| *row = index as u32);
        if count == rows {
            return;
        }
        let random = Philox::new(moment.seed, Purpose::Decorrelate);
        for index in 0..count {
            let left = (rows - index) as u32;
            let step = [moment.step as u32, self.number];
            order.swap(index, index + random.below(left, index as u64, step) as usize);
        }
        // In the order of memory.
        order[..count].sort_unstable();
    }

    /// Adds what the last change did.
    pub fn describe(&self, figures: &mut Object<String, Value>) {
        figures.insert("resets".into(), json!(self.resets));
        if let Some((rows, Outcome { rate, loss, .. })) = self.last {
            figures.insert("rows".into(), json!(rows));
            figures.insert("rate".into(), json!(rate));
            figures.insert("loss".into(), json!(loss));
        }
    }
}

impl<T: Real> Decorrelated<T> {
    /// Changes R and the means after a step whose forward pass had inputs `x`, where it is time to.
    pub fn update(&mut self, map: &Map, pass: &Pass, x: &[T], moment: &Moment) {
        let Decorrelated { blocks, way, s, mean, shift, z, learner, .. } = self;
        let Some(learner) = learner else { return };
        let rate = learner.config.rate * moment.factor;
        if rate == 0.0 || !moment.step.is_multiple_of(learner.every) {
            return;
        }
        let (par, rows) = (pass.par, map.rows(pass.rows));
        let count = learner.config.budget(blocks.size, rows);
        learner.draw(rows, count, moment);
        let chosen = &learner.order[..count];
        let size = count * blocks.size;
        let all = *way == Way::TwoStage && count == rows;
        if !all || !mean.is_empty() {
            match map {
                Map::Dense { .. } => carry::copy_rows(x, &[], chosen, &[], &mut learner.x[..size]).run(par),
                Map::Conv(_) => map.gather(x, chosen, 0, &mut learner.x[..size]),
            }
        }
        if !all {
            let shift = (!shift.is_empty()).then_some(&shift[..]);
            decorrelation::apply(par, *blocks, count, &learner.x[..size], s, shift, &mut learner.z[..size]);
        }
        let rule = Rule { rate, kappa: learner.kappa, limit: learner.config.auto_step, cap: CAP, explicit: false };
        let z = if all { &z[..size] } else { &learner.z[..size] };
        let outcome = decorrelation::update(par, *blocks, count, z, s, &rule, &mut learner.scratch);
        learner.resets += outcome.resets;
        learner.last = Some((count, outcome));
        if !mean.is_empty() {
            reduce::column_sums(par, &learner.x[..size], blocks.size, false, &mut learner.mean);
            let gain = (1.0 / (moment.step / learner.every + 1) as f64).max(MEAN_GAIN);
            let (share, kept) = (T::of(gain / count as f64), T::of(1.0 - gain));
            mean.iter_mut().zip(&*learner.mean).for_each(|(mean, sum)| *mean = kept * *mean + share * *sum);
        }
    }
}
