//! How R and the means change: from some rows of a batch, by the local rule or with an average of their covariances.

use super::averaged::Averaged;
use super::{Config, Decorrelated, Way, add_product};
use crate::error::Result;
use crate::layers::Pass;
use crate::layers::map::Map;
use crate::rules::{Moment, Site};
use kernels::decorrelation::{self, Blocks, Outcome, Rule};
use kernels::rng::{Philox, Purpose};
use kernels::{Buffer, Par, Real, carry, reduce};
use serde_json::{Map as Object, Value, json};

/// The least weight of new rows in the means and covariances.
const GAIN: f64 = 0.1;

/// The longest row of R.
const CAP: f64 = 20.0;

/// What changes R and the means.
pub struct Learner<T> {
    config: Config,
    every: u64,
    number: u32,
    /// Whether the bias does not take up the first means.
    as_they_come: bool,
    /// Rows of a batch in any order, the first of them chosen.
    order: Vec<u32>,
    /// Chosen rows of x.
    x: Buffer<T>,
    /// The means that the next step has; empty without centring.
    mean: Buffer<T>,
    how: How<T>,
    last: Option<(usize, Outcome)>,
    resets: usize,
}

/// How R changes.
enum How<T> {
    /// Not at all: there are only means.
    Means,
    /// By the local rule.
    Local {
        kappa: f64,
        /// Chosen rows of z.
        z: Buffer<T>,
        scratch: Buffer<T>,
    },
    /// With an averaged covariance.
    Averaged(Averaged<T>),
}

impl<T: Real> Learner<T> {
    /// Room for the batches of a run, in a map that takes that way.
    pub fn new(config: &Config, site: &Site, blocks: Blocks, way: Way) -> Result<Self> {
        let rows = site.map.rows(site.batch);
        let count = config.budget(way, blocks, rows);
        let center = config.center.unwrap_or(site.bias);
        let how = match config.form.averaged() {
            _ if way == Way::Centered => How::Means,
            Some(form) => How::Averaged(Averaged::new(config, form, site, blocks)?),
            None => How::Local {
                kappa: config.kappa(&site.map),
                z: Buffer::zeroed(count * blocks.size)?,
                scratch: Buffer::zeroed(decorrelation::scratch_elements(blocks, count, false))?,
            },
        };
        Ok(Learner {
            config: config.clone(),
            every: config.every(site),
            number: site.number,
            as_they_come: site.first && site.untrained,
            order: vec![0; rows],
            x: Buffer::zeroed(count * blocks.size)?,
            mean: if center { Buffer::zeroed(blocks.size)? } else { Buffer::empty() },
            how,
            last: None,
            resets: 0,
        })
    }

    /// How many changes there have been when that of a step is due, itself counted; none where it is not.
    pub fn due(&self, moment: &Moment) -> Option<u64> {
        let still = moment.factor == 0.0 || matches!(self.how, How::Local { .. }) && self.config.rate == Some(0.0);
        (!still && moment.step.is_multiple_of(self.every)).then_some(moment.step / self.every + 1)
    }

    /// The averaged covariance, where R follows one.
    pub fn averaged(&mut self) -> Option<&mut Averaged<T>> {
        match &mut self.how {
            How::Averaged(averaged) => Some(averaged),
            How::Local { .. } | How::Means => None,
        }
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
    /// Learns from a step whose forward pass had inputs `x`, where it is time to: R moves at once by the local rule, the means and what
    /// follows an average do in [`Self::settle`].
    pub fn update(&mut self, map: &Map, pass: &Pass, x: &[T], moment: &Moment) {
        let Decorrelated { blocks, way, s, mean, shift, z, learner, .. } = self;
        let Some(learner) = learner else { return };
        let Some(number) = learner.due(moment) else { return };
        let (par, rows) = (pass.par, map.rows(pass.rows));
        let count = learner.config.budget(*way, *blocks, rows);
        learner.draw(rows, count, moment);
        let chosen = &learner.order[..count];
        let size = count * blocks.size;
        let local = matches!(learner.how, How::Local { .. });
        let all = local && *way == Way::TwoStage && count == rows;
        if !all || !mean.is_empty() {
            match map {
                Map::Dense { .. } => carry::copy_rows(x, &[], chosen, &[], &mut learner.x[..size]).run(par),
                Map::Conv(_) => map.gather(x, chosen, 0, &mut learner.x[..size]),
            }
        }
        let gain = (1.0 / number as f64).max(GAIN);
        if !mean.is_empty() {
            reduce::column_sums(par, &learner.x[..size], blocks.size, false, &mut learner.mean);
            let (share, kept) = (T::of(gain / count as f64), T::of(1.0 - gain));
            learner.mean.iter_mut().zip(&**mean).for_each(|(next, mean)| *next = kept * *mean + share * *next);
        }
        match &mut learner.how {
            How::Means => {}
            How::Local { kappa, z: own, scratch } => {
                if !all {
                    let shift = (!shift.is_empty()).then_some(&shift[..]);
                    decorrelation::apply(par, *blocks, count, &learner.x[..size], s, shift, &mut own[..size]);
                }
                let rate = learner.config.rate.unwrap_or(0.0) * moment.factor;
                let rule = Rule { rate, kappa: *kappa, limit: learner.config.auto_step, cap: CAP, explicit: false };
                let z = if all { &z[..size] } else { &own[..size] };
                let outcome = decorrelation::update(par, *blocks, count, z, s, &rule, scratch);
                learner.resets += outcome.resets;
                learner.last = Some((count, outcome));
            }
            How::Averaged(averaged) => {
                center(par, &learner.mean, &mut learner.x[..size]);
                averaged.see(par, *blocks, count, &learner.x[..size], gain);
                learner.last = Some((count, Outcome::default()));
            }
        }
    }

    /// Lets the means, and R where it follows an average, follow what [`Self::update`] has seen in this step, once the weights have
    /// taken it. The bias takes up what the means change by: they are those of a few rows, and what they waver by would be an error
    /// of every output that no learning rate near 0 can make up for.
    pub fn settle(&mut self, par: Par, moment: &Moment, w: &mut [T], bias: Option<&mut [T]>) {
        let Decorrelated { blocks, outputs, way, s, mean, shift, learner: Some(learner), .. } = self else { return };
        let Some(number) = learner.due(moment) else { return };
        for (mean, next) in mean.iter_mut().zip(learner.mean.iter_mut()) {
            (*mean, *next) = (*next, *next - *mean);
        }
        // The first means of the network's input, where they come before anything is learnt: units then begin centred.
        let fresh = number == 1 && learner.as_they_come && learner.averaged().is_none();
        if let (Some(bias), false) = (bias, fresh || mean.is_empty() || *way == Way::Around) {
            way.turn(*blocks, s, &learner.mean, shift);
            add_product(shift, w, bias);
        }
        let Some(averaged) = learner.averaged() else { return };
        let outcome = averaged.follow(par, (*blocks, *outputs), number, s, w);
        learner.resets += outcome.resets;
        learner.last = learner.last.map(|(rows, _)| (rows, outcome));
    }
}

/// x − μ, row by row, where there is a μ.
fn center<T: Real>(par: Par, mean: &[T], x: &mut [T]) {
    if mean.is_empty() {
        return;
    }
    par.for_work(x.len()).chunks_mut(x, 64 * mean.len(), |_, x| {
        for row in x.chunks_exact_mut(mean.len()) {
            row.iter_mut().zip(mean).for_each(|(x, mean)| *x -= *mean);
        }
    });
}
