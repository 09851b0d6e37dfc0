//! One step of a run: the gradient of a batch, in parts if need be, and the update.

use super::{CHUNK, Training, frame};
use crate::augment::Source;
use crate::dataset::Dataset;
use crate::error::{Code, Error, Result};
use crate::layers::{Mode, Pass};
use crate::loss::{self, BatchTargets};
use crate::network::Network;
use crate::optimizer::Optimizer;
use crate::passes::{self, Learning};
use crate::plan::{Op, Plan};
use crate::rules::Moment;
use crate::rules::dual::Frame;
use crate::rules::front_contribution::{self, FrontContribution};
use crate::rules::mem_aop::batch::BatchChoice;
use crate::workspace::Workspace;
use kernels::optimize::Update;
use kernels::{Par, Real, reduce};
use std::ops::Range;

impl<T: Real> Network<T> {
    /// One step: the gradient of a batch, in parts if need be, and the update.
    pub(super) fn step(&mut self, training: &mut Training<T>, data: &Dataset, par: Par) -> Result<()> {
        self.update_masks(training)?;
        let counters = training.counters;
        let batch = if training.config.streams() {
            0..data.rows()
        } else {
            let from = counters.step_in_epoch as usize * training.config.batch_size;
            from..(from + training.config.batch_size).min(training.data_rows)
        };
        let rows = batch.len();
        let factor = training.factor(counters.step);
        let update = training.optimizer.update(counters.step + 1, factor);
        let rate = training.optimizer.rate() * factor;
        let moment = Moment { seed: training.config.seed, step: counters.step, rate, factor };
        if let Some(front) = &training.front {
            front.begin_step(&mut self.plan, (counters.step + 1, factor));
        }
        let total = training.total_weight(data, batch.clone());
        // What looks at the whole gradient comes before the first update.
        let clip = training.config.clip_norm;
        let decides_length = training.propagation.decides_length();
        let size = training.config.part_rows(rows);
        let at_once = clip.is_none() && !decides_length && size == rows;
        let (mut loss_sum, mut correct) = (0.0, 0);
        for start in (0..rows).step_by(size) {
            let part = batch.start + start..batch.start + (start + size).min(rows);
            let place = Place { part, total, moment, update: at_once.then_some(update) };
            let (loss, right) = self.learn_part(training, data, place, par)?;
            loss_sum += loss;
            correct += right;
            if size < rows {
                training.add_up(par, start == 0);
            }
        }
        if size < rows {
            std::mem::swap(&mut training.gradient, &mut training.sum);
        }

        let mode = Mode::Train { seed: training.config.seed, epoch: counters.epoch };
        let samples = &training.order[batch];
        let Optimizer { first, second, .. } = &mut training.optimizer;
        let learning = Learning { gradient: &mut training.gradient, first, second, update: None, moment };
        if let Some(most) = clip {
            let collapsed = training.front.as_ref().map_or(0.0, |front| front.squared_norm(par, &mut self.plan));
            let factor = clip_gradient(par, learning.gradient, most, collapsed);
            match &training.front {
                None => apply(par, &update, &self.plan, &mut self.values, learning),
                Some(front) => {
                    let Learning { gradient, first, second, .. } = learning;
                    let whole =
                        front_contribution::gram::Whole { parameters: &mut self.values, gradient, first, second };
                    front.step(par, &update, factor, &mut self.plan, whole);
                }
            }
        } else if decides_length {
            let (config, outputs) = (&self.config.loss, self.outputs());
            let bend = |values: &[T], first: &[T]| loss::bend(config, values, first, outputs);
            let pass = Pass { par, rows, mode, samples };
            let frame = frame!(self, &mut training.workspace, &pass);
            let length = training.propagation.step_length(frame, learning.gradient, &bend);
            // Such a step has an optimizer without state.
            let update = training.optimizer.update(counters.step + 1, factor * length);
            kernels::optimize::apply_all(par, &update, &mut self.values, &training.gradient, &mut [], &mut []);
        } else if !at_once {
            apply(par, &update, &self.plan, &mut self.values, learning);
        }
        self.settle_inputs(par, &moment);
        if let Some(average) = &mut training.average {
            average.follow(par, counters.step, &mut self.plan, (&self.values, &self.buffers));
        }

        let counters = &mut training.counters;
        counters.step += 1;
        counters.step_in_epoch += 1;
        counters.loss_sum += loss_sum;
        counters.correct += correct as u64;
        counters.rows += rows as u64;
        Ok(())
    }

    /// Forward pass, loss and backward pass of some rows of a batch; gives the sum of their losses and how many are right.
    fn learn_part(
        &mut self,
        training: &mut Training<T>,
        data: &Dataset,
        Place { part, total, moment, update }: Place<T>,
        par: Par,
    ) -> Result<(f64, usize)> {
        let counters = training.counters;
        let rows = part.len();
        let mode = Mode::Train { seed: training.config.seed, epoch: counters.epoch };
        let samples = &training.order[part.clone()];
        let pass = Pass { par, rows, mode, samples };
        let streams = training.config.streams();
        let picked = if streams { &training.places[part.clone()] } else { samples };
        let workspace = &mut training.workspace;
        if let Some(front) = &training.front {
            front.fill(samples, &mut workspace.values);
        }
        if training.front.as_ref().is_none_or(FrontContribution::reads_features) {
            let features = &mut workspace.values[0][..rows * self.plan.sizes[0]];
            match (&training.given, &training.config.augment) {
                (Some(given), _) => given.gather(samples, features),
                (None, None) => data.gather(picked, features),
                (None, Some(augment)) => {
                    let source = Source::new(augment, training.config.seed, counters.epoch);
                    data.gather_augmented((picked, samples), &source, par, features);
                }
            }
        }
        // The rows of a stream may not have come yet.
        if !streams {
            data.prefetch(&training.order[part.end..(part.end + rows).min(training.order.len())]);
        }
        data.gather_labels(picked, &mut training.labels);
        let target_size = training.values.len() / training.config.batch_size;
        data.gather_values(picked, &mut training.values[..rows * target_size]);
        training.propagation.forward(frame!(self, workspace, &pass), moment);

        let size = self.outputs();
        let last = self.plan.output;
        let outputs = &workspace.values[last][..rows * size];
        let gradient = &mut workspace.gradients[workspace.gradient_of[last]][..rows * size];
        let losses = &mut training.losses[..rows];
        let targets = BatchTargets { labels: &training.labels, values: &training.values[..rows * target_size] };
        loss::evaluate(&self.config.loss, par, outputs, size, targets, losses, Some(gradient));
        if let Some(total) = total {
            weigh(gradient, size, training.config.class_weights.as_deref(), (&training.labels, total));
        }
        let loss_sum: f64 = losses.iter().map(|loss| loss.wide()).sum();
        if !loss_sum.is_finite() {
            return Err(Error::new(
                Code::NotFinite,
                format!(
                    "The loss is not finite at step {} (epoch {}): {}; try a smaller learning rate, clipNorm, or data scaled \
                     to about 1",
                    counters.step + 1,
                    counters.epoch + 1,
                    self.first_not_finite(workspace, rows)
                ),
            ));
        }
        let correct = kernels::loss::count_right(outputs, &training.labels);

        let pass = choose_rows(&mut training.batch_choice, &self.plan, workspace, pass, &moment);
        let Optimizer { first, second, .. } = &mut training.optimizer;
        let mut learning = Learning { gradient: &mut training.gradient, first, second, update, moment };
        training.propagation.learn(frame!(self, workspace, &pass), &mut learning)?;
        training.last_rows = rows;
        Ok((loss_sum, correct))
    }
}

/// Rows of a batch to learn from.
struct Place<T> {
    /// Which rows, in the order of the epoch, or of the batch that came.
    part: Range<usize>,
    /// Sum of the weights of all rows of the batch; none where the mean over the part is the batch's.
    total: Option<f64>,
    /// When the step takes place.
    moment: Moment,
    /// The update to apply at once.
    update: Option<Update<T>>,
}

impl<T: Real> Training<T> {
    /// Sum of the weights of the rows of a batch, where they are weighed or come in parts.
    fn total_weight(&mut self, data: &Dataset, batch: Range<usize>) -> Option<f64> {
        let rows = batch.len();
        match &self.config.class_weights {
            None if self.config.part_rows(rows) == rows => None,
            None => Some(rows as f64),
            Some(weights) => {
                let picked = if self.config.streams() { &self.places } else { &self.order };
                data.gather_labels(&picked[batch], &mut self.labels);
                Some(self.labels.iter().map(|label| weights[*label as usize]).sum())
            }
        }
    }

    /// Adds the gradient of a part of the batch to the sum, which the first part begins.
    fn add_up(&mut self, par: Par, first: bool) {
        let gradient = &self.gradient;
        par.for_work(gradient.len()).chunks_mut(&mut self.sum, CHUNK, |start, sum| {
            let gradient = &gradient[start..start + sum.len()];
            if first {
                return sum.copy_from_slice(gradient);
            }
            kernels::isa::vectorize(
                #[inline(always)]
                || {
                    for (sum, g) in sum.iter_mut().zip(gradient) {
                        *sum += *g;
                    }
                },
            );
        });
    }
}

/// Leaves the backward pass the rows that the rule chooses at the loss, where it does.
pub(super) fn choose_rows<'a, T: Real>(
    choice: &'a mut Option<BatchChoice>,
    plan: &Plan<T>,
    workspace: &mut Workspace<T>,
    pass: Pass<'a>,
    moment: &Moment,
) -> Pass<'a> {
    let Some(choice) = choice else { return pass };
    let gradient = &mut workspace.gradients[workspace.gradient_of[plan.output]][..pass.rows * plan.sizes[plan.output]];
    choice.choose(pass.par, pass.samples, gradient, moment);
    workspace.keep_rows(plan, choice.rows());
    Pass { rows: choice.rows().len(), samples: choice.samples(), ..pass }
}

/// Makes the gradient of a mean over these rows that of the weighted mean over the batch, whose weights sum to `total`.
pub(super) fn weigh<T: Real>(gradient: &mut [T], size: usize, weights: Option<&[f64]>, (labels, total): (&[u32], f64)) {
    let rows = gradient.len() / size;
    // A batch of classes that count nothing teaches nothing.
    let scale = if total > 0.0 { rows as f64 / total } else { 0.0 };
    for (row, gradient) in gradient.chunks_exact_mut(size).enumerate() {
        let factor = T::of(scale * weights.map_or(1.0, |weights| weights[labels[row] as usize]));
        gradient.iter_mut().for_each(|g| *g *= factor);
    }
}

/// Scales the gradient down to norm `most`, as `torch.nn.utils.clip_grad_norm_` does; `elsewhere` is the squared norm of what
/// stands elsewhere and is to be scaled by the result.
fn clip_gradient<T: Real>(par: Par, gradient: &mut [T], most: f64, elsewhere: f64) -> T {
    let squares = gradient.chunks(CHUNK).map(|chunk| reduce::sum_of_squares(chunk).wide()).sum::<f64>();
    let factor = most / ((squares + elsewhere).sqrt() + 1e-6);
    if factor < 1.0 {
        let factor = T::of(factor);
        par.for_work(gradient.len()).chunks_mut(gradient, CHUNK, |_, chunk| {
            kernels::isa::vectorize(
                #[inline(always)]
                || chunk.iter_mut().for_each(|g| *g *= factor),
            );
        });
        return factor;
    }
    T::one()
}

/// Applies the update to all parameters at once, but not to weights whose mask has changed in this step.
fn apply<T: Real>(par: Par, update: &Update<T>, plan: &Plan<T>, parameters: &mut [T], learning: Learning<T>) {
    let Learning { gradient, first, second, .. } = learning;
    let mut apply = |range: Range<usize>| {
        let (first, second) = (passes::part(first, &range), passes::part(second, &range));
        kernels::optimize::apply_all(par, update, &mut parameters[range.clone()], &gradient[range], first, second);
    };
    let mut start = 0;
    for node in &plan.nodes {
        let Op::Linear(linear) = &node.op else { continue };
        if linear.support.as_ref().is_some_and(|support| support.left.is_some()) {
            apply(start..node.parameters.start);
            start = node.parameters.start + linear.weights();
        }
    }
    apply(start..plan.elements);
}
