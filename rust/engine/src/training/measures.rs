//! What can be asked about the run in training: memory, times of layers, and how near its gradient is to back-propagation's.

use super::step::{choose_rows, weigh};
use super::{Training, frame};
use crate::error::{Code, Error, Result};
use crate::layers::{Mode, Pass};
use crate::loss::{self, BatchTargets};
use crate::network::Network;
use crate::passes::Learning;
use crate::rules::Moment;
use crate::rules::dual::Frame;
use crate::rules::propagation::Propagation;
use crate::workspace::Workspace;
use kernels::{Buffer, Par, Real, reduce};
use serde_json::{Value, json};
use std::ops::Range;

impl<T: Real> Network<T> {
    /// Bytes that the run in training takes beside parameters and optimizer.
    pub fn training_memory(&self) -> Result<Value> {
        let Some(training) = &self.training else { return Err(no_run("tell the memory of training")) };
        let (values, gradients) = training.workspace.bytes();
        let (tangents, kept) = training.propagation.bytes();
        Ok(json!({ "values": values, "gradients": gradients, "tangents": tangents, "kept": kept }))
    }

    /// Begins to measure the time of each layer in the steps of the run in training.
    pub fn start_layer_times(&mut self) -> Result<Value> {
        let Some(training) = &mut self.training else { return Err(no_run("measure layers")) };
        training.workspace.clock.start(self.plan.nodes.len());
        Ok(Value::Null)
    }

    /// What was measured since; ends measuring.
    pub fn layer_times(&mut self) -> Result<Value> {
        let Some(training) = &mut self.training else { return Err(no_run("tell the times of layers")) };
        training.workspace.clock.finish(&self.plan).ok_or_else(|| {
            Error::new(
                Code::Busy,
                "Cannot tell the times of layers: nothing was measured; call startLayerTimes() first",
            )
        })
    }

    /// How near the rule's gradient is to back-propagation's, on the last step's batch with the parameters after it: the
    /// cosine and the ratio of the norms, for each parameter and for all together. Nothing changes.
    pub fn gradient_cosines(&mut self) -> Result<Value> {
        if self.training.as_ref().is_some_and(|training| training.front.is_some()) {
            let message = "Cannot compare gradients: this run collapses layers, and its gradient is back-propagation's";
            return Err(Error::new(Code::InvalidConfig, message));
        }
        if self.training.as_ref().is_some_and(|training| training.config.parts() > 1) {
            // The workspace holds the last part of the batch alone.
            let message =
                "Cannot compare gradients: this run computes batches in parts, of which only the last is there";
            return Err(Error::new(Code::InvalidConfig, message));
        }
        if let Some(layer) = self.sparse_layer() {
            let message =
                format!("Cannot compare gradients: {layer} has a mask, and back-propagation has gradients beside it");
            return Err(Error::new(Code::InvalidConfig, message));
        }
        let kept = self.copy_rule_state();
        let buffers = self.buffers.to_vec();
        let Some(mut training) = self.training.take() else { return Err(no_run("compare gradients")) };
        let threads = self.threads.clone();
        let result = threads.run(|par| self.compare_gradients(&mut training, par));
        self.training = Some(training);
        self.buffers.copy_from_slice(&buffers);
        self.restore_rule_state(&kept);
        result
    }

    fn compare_gradients(&mut self, training: &mut Training<T>, par: Par) -> Result<Value> {
        let rows = training.last_rows;
        if rows == 0 {
            let message = "Cannot compare gradients: this run has no batch yet; take a step first";
            return Err(Error::new(Code::Busy, message));
        }
        let Training { config, counters, workspace, labels, values, losses, order, propagation, batch_choice, .. } =
            training;
        let from = if config.streams() { 0 } else { (counters.step_in_epoch as usize - 1) * config.batch_size };
        let pass = Pass {
            par,
            rows,
            mode: Mode::Train { seed: config.seed, epoch: counters.epoch },
            samples: &order[from..from + rows],
        };
        let moment = Moment { seed: config.seed, step: counters.step, rate: 1.0, factor: 0.0 };
        let mut reference = Workspace::new(&self.plan, rows, self.threads.count(), true)?;
        let inputs = rows * self.plan.sizes[0];
        reference.values[0].copy_from_slice(&workspace.values[0][..inputs]);
        let targets = rows * values.len() / config.batch_size;
        let mut gradients = [Buffer::zeroed(self.plan.elements)?, Buffer::zeroed(self.plan.elements)?];
        let mut products = self.swap_products(vec![]);
        let mut backprop = Propagation::Backprop;
        let mut result = Ok(());
        for (index, gradient) in gradients.iter_mut().enumerate() {
            let (propagation, workspace) =
                if index == 0 { (&mut backprop, &mut reference) } else { (&mut *propagation, &mut *workspace) };
            propagation.forward(frame!(self, workspace, &pass), moment);
            let (size, last) = (self.outputs(), self.plan.output);
            let e = &mut workspace.gradients[workspace.gradient_of[last]][..rows * size];
            let outputs = &workspace.values[last][..rows * size];
            let targets = BatchTargets { labels, values: &values[..targets] };
            loss::evaluate(&self.config.loss, par, outputs, size, targets, &mut losses[..rows], Some(&mut *e));
            if let Some(weights) = &config.class_weights {
                let total = labels.iter().map(|label| weights[*label as usize]).sum();
                weigh(e, size, Some(weights), (labels, total));
            }
            let pass = match index {
                0 => pass,
                _ => choose_rows(batch_choice, &self.plan, workspace, pass, &moment),
            };
            let mut learning = Learning { gradient, first: &mut [], second: &mut [], update: None, moment };
            result = result.and(propagation.learn(frame!(self, workspace, &pass), &mut learning));
            if index == 0 {
                products = self.swap_products(products);
            }
        }
        result?;
        drop(products);
        let [expected, found] = gradients;
        let compare = |name: &str, range: Range<usize>| {
            let (a, b) = (&expected[range.clone()], &found[range]);
            let (aa, bb) = (reduce::sum_of_squares(a).wide().sqrt(), reduce::sum_of_squares(b).wide().sqrt());
            let cosine = if aa > 0.0 && bb > 0.0 { reduce::dot(a, b).wide() / (aa * bb) } else { 0.0 };
            json!({ "name": name, "cosine": cosine, "ratio": if aa > 0.0 { bb / aa } else { 0.0 } })
        };
        let each = self.plan.parameters.iter().map(|parameter| compare(&parameter.name, parameter.range.clone()));
        Ok(json!({ "all": compare("all", 0..self.plan.elements), "parameters": each.collect::<Vec<_>>() }))
    }
}

fn no_run(what: &str) -> Error {
    Error::new(Code::Busy, format!("Cannot {what}: no training run is attached to this network"))
}
