//! The network's input: its rows are the same all through a run, so R can be found before it, once, and a dense layer can be given
//! rows that have passed R already. The widest R then costs nothing in a step.
//!
//! R is the symmetric root of the inverse covariance, (Σ + ε I)^(−1/2), of all matrices that whiten the nearest to the identity, or it
//! turns the input into its principal axes.

use super::{Decorrelated, First, Fixed, Way, add_product};
use crate::dataset::Dataset;
use crate::error::{Error, Result};
use crate::layers::map::Map;
use crate::memory;
use crate::network::Network;
use crate::plan::Op;
use crate::rules::{Slots, inputs};
use crate::training::Training;
use kernels::decorrelation;
use kernels::rng::{Philox, Purpose};
use kernels::{Buffer, Par, Real, reduce};

/// Most rows that R is found from.
const ROWS: usize = 8192;

/// Variance below which an input is dead and stays as it is.
const DEAD: f64 = 1e-6;

/// Rows that pass R at once.
const CHUNK: usize = 1024;

/// The features of all rows as the first layer sees them.
pub struct Given<T> {
    size: usize,
    values: Buffer<T>,
    /// Whether R has changed since.
    stale: bool,
}

impl<T: Real> Given<T> {
    /// Copies some rows.
    pub fn gather(&self, rows: &[u32], out: &mut [T]) {
        for (row, out) in rows.iter().zip(out.chunks_exact_mut(self.size)) {
            out.copy_from_slice(&self.values[*row as usize * self.size..][..self.size]);
        }
    }

    /// Notes that R may have changed.
    pub fn touch(&mut self) {
        self.stale = true;
    }
}

impl<T: Real> Network<T> {
    /// Finds R of the layers that read the network's input, where the rule wants that.
    pub(crate) fn decorrelate_input(
        &mut self,
        training: &mut Training<T>,
        slots: &mut [Slots<T>],
        data: &Dataset,
    ) -> Result<()> {
        let inputs::Config::Decorrelated(config) = &training.config.rule.inputs else { return Ok(()) };
        let Some(first @ (First::Precompute | First::Axes)) = config.first else { return Ok(()) };
        let refused = |expected: &str| Err(Error::config("rule.first", expected, first));
        let beside = |what: &str| refused(&format!("learn as `first` of decorrelated() {what}"));
        if training.config.streams() {
            return beside("beside a stream, whose rows are not there before the first step");
        }
        let linears = self.plan.nodes.iter().filter_map(|node| match &node.op {
            Op::Linear(linear) => Some((node, linear)),
            Op::Add { .. } | Op::Layer(_) => None,
        });
        // A resumed run's weights have taken R up.
        let keeps = !training.config.resumed && !self.is_untrained();
        for ((node, linear), slots) in linears.zip(slots).filter(|((node, _), _)| node.input == 0) {
            let (Some(rule), Some(fixed)) = (slots.inputs.decorrelated(), config.fixed(&linear.map)) else { continue };
            let readers = self.plan.nodes.iter().flat_map(crate::plan::Node::reads).filter(|read| *read == 0).count();
            let own = &mut self.values[node.parameters.clone()];
            let keep = (keeps && rule.way != Way::Around).then(|| linear.halves(own));
            self.threads.run(|par| rule.find(par, &linear.map, fixed, training.config.seed, data, keep))?;
            // Weights that see x itself have only their gradient multiplied.
            if matches!(linear.map, Map::Conv(_)) || rule.way == Way::Around {
                continue;
            }
            if training.config.augment.is_some() {
                return beside("beside augmentation");
            }
            if readers > 1 {
                return beside(&format!("where others read what {} reads", node.name()));
            }
            memory::check("the decorrelated features", (data.rows() * rule.blocks.size * T::BYTES) as u128)?;
            let values = Buffer::zeroed(data.rows() * rule.blocks.size)?;
            training.given = Some(Given { size: rule.blocks.size, values, stale: true });
            rule.given = true;
        }
        Ok(())
    }

    /// Computes the features that the first layer sees, where R has changed.
    pub(crate) fn refresh_given(&mut self, training: &mut Training<T>, data: &Dataset) {
        let Some(given) = training.given.as_mut().filter(|given| given.stale) else { return };
        let rules = self.plan.nodes.iter_mut().filter_map(|node| match &mut node.op {
            Op::Linear(linear) => linear.slots.inputs.decorrelated(),
            Op::Add { .. } | Op::Layer(_) => None,
        });
        let mut x = vec![T::zero(); CHUNK * given.size];
        for rule in rules.filter(|rule| rule.given) {
            rule.prepare();
            for (index, z) in given.values.chunks_mut(CHUNK * given.size).enumerate() {
                let (first, x) = (index * CHUNK, &mut x[..z.len()]);
                let rows: Vec<u32> = (first as u32..(first + z.len() / given.size) as u32).collect();
                data.gather(&rows, x);
                self.threads.run(|par| rule.transform(par, x, z));
            }
        }
        given.stale = false;
    }
}

impl<T: Real> Decorrelated<T> {
    /// z of rows of x.
    pub(super) fn transform(&self, par: Par, x: &[T], z: &mut [T]) {
        if self.way == Way::Centered {
            for (x, z) in x.chunks_exact(self.blocks.size).zip(z.chunks_exact_mut(self.blocks.size)) {
                z.iter_mut().zip(x).zip(&*self.shift).for_each(|((z, x), shift)| *z = *x + *shift);
            }
            return;
        }
        let shift = (!self.shift.is_empty()).then_some(&self.shift[..]);
        decorrelation::apply(par, self.blocks, x.len() / self.blocks.size, x, &self.s, shift, z);
    }

    /// Finds R and the means from rows of the data: features, or patches of a convolution. Weights and a bias that have learnt something
    /// take it up, so that the function stays as it is.
    fn find(
        &mut self,
        par: Par,
        map: &Map,
        fixed: Fixed,
        seed: u64,
        data: &Dataset,
        keep: Option<(&mut [T], Option<&mut [T]>)>,
    ) -> Result<()> {
        let size = self.blocks.size;
        // Evenly spaced rows; a patch of each where the map is a convolution, and more where there are few rows.
        let samples = data.rows().min(ROWS);
        let per = if let Map::Conv(g) = map { (ROWS / samples).clamp(1, g.positions()) } else { 1 };
        let count = samples * per;
        let mut x = Buffer::zeroed(count * size)?;
        let mut sample = Buffer::zeroed(data.size())?;
        let random = Philox::new(seed, Purpose::Decorrelate);
        for (index, out) in x.chunks_exact_mut(per * size).enumerate() {
            let row = (index * data.rows() / samples) as u32;
            data.gather(&[row], &mut sample);
            let place = |at: usize| random.below(map.rows(1) as u32, at as u64, [row, u32::MAX]);
            for (at, out) in out.chunks_exact_mut(size).enumerate() {
                map.gather(&sample, &[place(at)], 0, out);
            }
        }
        if !self.mean.is_empty() {
            reduce::column_sums(par, &x, size, false, &mut self.mean);
            self.mean.iter_mut().for_each(|mean| *mean /= T::of(count as f64));
            for row in x.chunks_exact_mut(size) {
                row.iter_mut().zip(&*self.mean).for_each(|(x, mean)| *x -= *mean);
            }
        }
        let mut covariances = Buffer::zeroed(self.blocks.elements())?;
        for index in 0..self.blocks.count() {
            let of = self.blocks.range(index);
            let size = of.len();
            let mut part = Buffer::zeroed(count * size)?;
            for (part, row) in part.chunks_exact_mut(size).zip(x.chunks_exact(self.blocks.size)) {
                part.copy_from_slice(&row[of.clone()]);
            }
            let covariance = &mut covariances[self.blocks.place(index)];
            decorrelation::second_moment(par, count, &part, size, covariance);
            let s = &mut self.s[self.blocks.place(index)];
            match fixed {
                Fixed::Whitened { ridge } => whiten(par, covariance, size, ridge, s)?,
                Fixed::Axes { power } => decorrelation::principal_axes(covariance, size, power, s),
            }
        }
        if let Some((w, bias)) = keep {
            if let Some(bias) = bias.filter(|_| !self.mean.is_empty()) {
                add_product(&self.mean, w, bias);
            }
            self.undo(par, fixed, &covariances, w)?;
        }
        self.prepare();
        Ok(())
    }

    /// W ← S⁻¹ W for the S that [`Self::find`] has found, where the rows have any variance.
    fn undo(&self, par: Par, fixed: Fixed, covariances: &[T], w: &mut [T]) -> Result<()> {
        let mut turned = Buffer::zeroed(w.len())?;
        let times = |s: &[T], transposed: bool, w: &[T], out: &mut [T]| {
            decorrelation::multiply(par, self.blocks, self.outputs, s, transposed, w, out);
        };
        match fixed {
            // (Σ + ε I) S, S being the root of its inverse.
            Fixed::Whitened { .. } => {
                times(&self.s, false, w, &mut turned);
                times(covariances, false, &turned, w);
            }
            // The columns of S are orthogonal: (Sᵀ S)⁻¹ Sᵀ has but a diagonal to invert.
            Fixed::Axes { .. } => {
                times(&self.s, true, w, &mut turned);
                let columns = (0..self.blocks.count()).flat_map(|index| {
                    let (s, size) = (&self.s[self.blocks.place(index)], self.blocks.range(index).len());
                    (0..size).map(move |column| s[column..].iter().step_by(size).map(|s| *s * *s).sum::<T>())
                });
                let rows = w.chunks_exact_mut(self.outputs).zip(turned.chunks_exact(self.outputs));
                for ((w, turned), square) in rows.zip(columns) {
                    let by = if square > T::zero() { T::one() / square } else { T::zero() };
                    w.iter_mut().zip(turned).for_each(|(w, turned)| *w = *turned * by);
                }
            }
        }
        Ok(())
    }
}

/// The symmetric inverse root of a covariance with a ridge; inputs without variance stay as they are.
fn whiten<T: Real>(par: Par, covariance: &mut [T], size: usize, ridge: f64, s: &mut [T]) -> Result<()> {
    let variances = || covariance.iter().step_by(size + 1).map(|value| value.wide()).filter(|v| *v >= DEAD);
    let mean = variances().sum::<f64>() / variances().count().max(1) as f64;
    for value in covariance.iter_mut().step_by(size + 1) {
        *value = if value.wide() < DEAD { T::one() } else { *value + T::of(ridge * mean) };
    }
    let mut scratch = Buffer::zeroed(decorrelation::root_scratch(size))?;
    decorrelation::inverse_root(par, covariance, size, s, &mut scratch);
    Ok(())
}
