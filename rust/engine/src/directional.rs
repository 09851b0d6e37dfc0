//! Derivatives of the mean loss along a direction of the parameters: exact, by dual numbers, without a backward pass.

use crate::dataset::{Dataset, Targets};
use crate::error::{Code, Error, Result};
use crate::layers::{Mode, Pass};
use crate::loss::{self, BatchTargets};
use crate::network::Network;
use crate::rules::dual::{Along, Frame, derivatives};
use crate::rules::{inputs, weights};
use crate::training::frame;
use crate::workspace::Workspace;
use kernels::{Buffer, Real};

impl<T: Real> Network<T> {
    /// Loss, first and second derivative along `direction` (all parameters one after the other, as users see them), for all rows
    /// of `data` as one batch in evaluation mode. `tangents` receives how the outputs move: rows × outputs.
    pub fn directional(&mut self, data: &Dataset, direction: &[T], tangents: &mut [T]) -> Result<[f64; 3]> {
        self.check_features(data)?;
        loss::check_targets(&self.config.loss, self.outputs(), data)?;
        if let Some(layer) = self.sparse_layer() {
            let message = format!(
                "Cannot take directional derivatives: {layer} has a mask; take masks away first (densify), during a run \
                 those of a copy (fold)"
            );
            return Err(Error::new(Code::InvalidConfig, message));
        }
        if let Some(training) = &self.training {
            let rule = &training.config.rule;
            if rule.inputs != (inputs::Config::Raw {}) || rule.weights != (weights::Config::Dense {}) {
                let message = "Cannot take directional derivatives: a run with inputs or weights of its own is training this \
                               network; end it first, or ask a copy (fold)";
                return Err(Error::new(Code::Busy, message));
            }
        }
        self.bring_up()?;
        let (rows, size) = (data.rows(), self.outputs());
        let count: usize = self.plan.parameters.iter().map(|parameter| parameter.range.len()).sum();
        for (what, expected, found) in
            [("the direction", count, direction.len()), ("the array of tangents", rows * size, tangents.len())]
        {
            if expected != found {
                return Err(Error::shape(what, format!("{expected} numbers"), found));
            }
        }
        let mut placed = Buffer::zeroed(self.plan.elements)?;
        let mut rest = direction;
        for parameter in &self.plan.parameters {
            let (own, others) = rest.split_at(parameter.range.len());
            for (index, value) in own.iter().enumerate() {
                placed[parameter.range.start + parameter.place(index)] = *value;
            }
            rest = others;
        }
        let samples: Vec<u32> = (0..rows as u32).collect();
        let target_size = match data.targets() {
            Targets::Values { size, .. } => *size,
            Targets::Labels { .. } | Targets::None => 0,
        };
        let (mut labels, mut values) = (vec![], Buffer::zeroed(rows * target_size)?);
        data.gather_labels(&samples, &mut labels);
        data.gather_values(&samples, &mut values);
        let threads = self.threads.clone();
        let last_use = crate::workspace::last_readers(&self.plan.nodes, self.plan.sizes.len());
        let mut workspace = Workspace::forward_only(&self.plan, rows, threads.count(), Some(&last_use))?;
        let mut along = Along::new(&self.plan, 1, true, rows, threads.count())?;
        let mut losses = Buffer::zeroed(rows)?;
        data.gather(&samples, &mut workspace.values[0]);
        let output = self.plan.output;
        threads.run(|par| {
            let pass = Pass { par, rows, mode: Mode::Evaluate, samples: &samples };
            let mut frame = frame!(self, &mut workspace, &pass);
            along.run(&mut frame, &placed, false);
            let outputs = &frame.workspace.values[output];
            let gradient = &mut frame.workspace.gradients[0];
            let targets = BatchTargets { labels: &labels, values: &values };
            loss::evaluate(&self.config.loss, par, outputs, size, targets, &mut losses, Some(gradient));
            let bend = |outputs: &[T], first: &[T]| loss::bend(&self.config.loss, outputs, first, size);
            let (first, second) = derivatives(&along, &frame, &bend);
            tangents.copy_from_slice(along.first(output, rows * size));
            let loss = losses.iter().map(|loss| loss.wide()).sum::<f64>() / rows as f64;
            Ok([loss, first, second])
        })
    }
}
