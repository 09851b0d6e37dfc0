//! Keeping patches of a convolution, without memory (that of all patches would be as large as the matrix of patches).
//!
//! Their norms come from box sums over the squared norms of pixels; only the chosen patches are ever built. Centred, the means of
//! the channels stand for the mean of the patches: what chosen and other gradients have in common with them is exact.

use super::{Config, PolicyName};
use crate::error::Result;
use crate::layers::Pass;
use crate::rules::{Moment, Site};
use kernels::carry::{copy_rows, row_squares};
use kernels::conv::Geometry;
use kernels::conv::sampled;
use kernels::select::{Choice, Stream};
use kernels::{Buffer, Par, Real, reduce};
use serde_json::{Value, json};

/// The rule in a convolution that keeps patches.
pub struct Patches<T> {
    policy: PolicyName,
    geometry: Geometry,
    /// Patches kept of a full batch.
    keep: usize,
    number: u32,
    /// Means of the channels; empty without centring.
    mean: Buffer<T>,
    /// Squared norms of pixels, of patches and of gradients.
    pixels: Vec<f64>,
    squares: [Vec<f64>; 2],
    scores: Vec<f64>,
    choice: Choice,
    /// Gradients of the chosen patches, with their weights.
    kept: Buffer<T>,
    /// For each position, the sum of its gradients over the images, less those that were chosen; empty without centring.
    left: Buffer<T>,
    scratch: Buffer<T>,
    /// Patches of the last batch.
    last: usize,
}

impl<T: Real> Patches<T> {
    /// Room for the batches of a run.
    pub fn new(config: &Config, geometry: Geometry, site: &Site) -> Result<Patches<T>> {
        let rows = site.batch * geometry.positions();
        let keep = config.keep(site.batch) * geometry.positions();
        let center = |size: usize| if config.center { Buffer::zeroed(size) } else { Ok(Buffer::empty()) };
        Ok(Patches {
            // What topK leaves out would never be learnt without a memory.
            policy: if config.memory { PolicyName::Wta } else { config.policy },
            geometry,
            keep,
            number: site.number,
            mean: center(geometry.inputs)?,
            pixels: vec![0.0; site.batch * geometry.height * geometry.width],
            squares: [vec![0.0; rows], vec![0.0; rows]],
            scores: vec![0.0; rows],
            choice: Choice::new(rows),
            kept: Buffer::zeroed(keep * geometry.outputs)?,
            left: center(geometry.positions() * geometry.outputs)?,
            scratch: Buffer::zeroed(sampled::scratch_elements::<T>(Par::new(site.threads), &geometry, keep))?,
            last: 0,
        })
    }

    /// Chooses patches.
    pub fn choose(&mut self, pass: &Pass, x: &[T], g: &[T], moment: &Moment) {
        let (par, geometry) = (pass.par, &self.geometry);
        let (rows, outputs) = (pass.rows * geometry.positions(), geometry.outputs);
        if !self.mean.is_empty() {
            let pixels = x.len() / geometry.inputs;
            kernels::conv::bias_gradient(par, x, false, &mut self.mean, &mut self.scratch);
            let share = T::of(1.0 / pixels as f64);
            self.mean.iter_mut().for_each(|mean| *mean *= share);
        }
        let [of_x, of_g] = &mut self.squares;
        let pixels = &mut self.pixels[..pass.rows * geometry.height * geometry.width];
        row_squares(x, &self.mean, pixels).run(par);
        sampled::patch_squares(par, geometry, pixels, &mut of_x[..rows]);
        row_squares(g, &[], &mut of_g[..rows]).run(par);
        let scores = &mut self.scores[..rows];
        for ((score, x), g) in scores.iter_mut().zip(of_x).zip(of_g) {
            *score = (*x * *g).sqrt();
        }
        let stream = Stream::new(moment.seed, moment.step, self.number);
        self.choice.choose(self.policy.policy(), scores, self.keep, &stream);
        let (chosen, weights) = (self.choice.rows(), self.choice.weights());
        copy_rows(g, &[], chosen, weights, &mut self.kept[..chosen.len() * outputs]).run(par);
        if !self.left.is_empty() {
            reduce::column_sums(par, g, self.left.len(), false, &mut self.left);
            for (row, g) in chosen.iter().zip(self.kept.chunks_exact(outputs)) {
                let position = *row as usize % geometry.positions();
                let left = &mut self.left[position * outputs..(position + 1) * outputs];
                left.iter_mut().zip(g).for_each(|(left, g)| *left -= *g);
            }
        }
        self.last = rows;
    }

    /// dw from the chosen patches of `x`.
    pub fn weight_gradient(&mut self, par: Par, x: &[T], dw: &mut [T]) {
        let chosen = self.choice.rows();
        let kept = &self.kept[..chosen.len() * self.geometry.outputs];
        sampled::weight_gradient(par, &self.geometry, x, chosen, kept, dw, &mut self.scratch);
        if !self.left.is_empty() {
            sampled::add_mean_term(&self.geometry, &self.mean, &self.left, dw);
        }
    }

    /// What it does and, about the last step, how well.
    pub fn describe(&self) -> Value {
        let center = !self.mean.is_empty();
        let mut figures =
            json!({ "keeps": "patches", "k": self.keep, "policy": self.policy, "memory": false, "center": center });
        if self.last > 0 {
            figures["of"] = json!(self.last);
            figures["keptShare"] = json!(self.choice.kept());
        }
        figures
    }
}
