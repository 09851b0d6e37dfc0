//! What a run refuses before it begins, and before its steps.

use super::Training;
use crate::config::TrainingConfig;
use crate::dataset::{Dataset, Targets};
use crate::error::{Code, Error, Result};
use crate::loss;
use crate::network::Network;
use crate::rules::sparse::schedule::Schedule;
use crate::rules::{RuleConfig, inputs, products, propagation, weights};
use kernels::Real;

impl<T: Real> Network<T> {
    /// Refuses batches that a layer cannot learn from: one row has no variance.
    pub(super) fn check_batches(&self, config: &TrainingConfig, rows: usize) -> Result<()> {
        let batch = config.batch_size.min(rows);
        let last = if config.drop_last { 0 } else { rows % batch };
        let smallest = |rows: usize| match (rows, config.part_rows(rows)) {
            (0, _) => batch,
            (rows, part) => rows - (rows.div_ceil(part) - 1) * part,
        };
        let fewest = smallest(batch).min(smallest(last));
        let Some(node) = self.plan.nodes.iter().find(|node| node.op.least_rows() > fewest) else { return Ok(()) };
        let expected = format!("batches of at least {} rows for {}", node.op.least_rows(), node.name());
        let found = match config.parts() {
            1 if fewest == batch => "batches".into(),
            1 => format!("a last batch (of {rows} rows by {batch})"),
            parts => format!("a part (of {rows} rows by {batch}, in {parts} parts each)"),
        };
        Err(Error::config("batchSize", expected, format!("{found} of {fewest}")))
    }

    /// Refuses rows that are not those of the run, and averages in the place of parameters.
    pub(super) fn check_before_steps(&self, training: &Training<T>, data: &Dataset) -> Result<()> {
        if training.average.as_ref().is_some_and(|average| average.in_use) {
            return Err(Error::new(Code::Busy, "Cannot train: the averages are in the place of the parameters"));
        }
        if !training.config.streams() {
            if data.rows() == training.data_rows {
                return Ok(());
            }
            return Err(Error::shape("the data set", format!("{} rows as before", training.data_rows), data.rows()));
        }
        let (rows, batch) = (data.rows(), training.config.batch_size);
        if rows > batch || (rows < batch && training.config.drop_last) {
            let expected = if training.config.drop_last { "whole batches of" } else { "batches of at most" };
            return Err(Error::shape("a batch of the stream", format!("{expected} {batch} rows"), rows));
        }
        self.check_features(data)?;
        loss::check_targets(&self.config.loss, self.outputs(), data)?;
        self.check_batches(&training.config, rows)
    }

    /// Refuses to compute a batch in parts where a rule needs all of it.
    pub(super) fn check_parts(&self, config: &TrainingConfig) -> Result<()> {
        let parts = config.parts();
        if parts == 0 || parts > config.batch_size {
            let expected = format!("a whole number from 1 to {} (the rows of a batch)", config.batch_size);
            return Err(Error::config("accumulate", expected, parts));
        }
        if parts == 1 {
            return Ok(());
        }
        match needs_whole_batch(&config.rule) {
            None => Ok(()),
            Some(found) => {
                let expected = "a rule under which gradients of parts of a batch add up to that of the batch";
                Err(Error::config("accumulate", expected, found))
            }
        }
    }
}

/// Which part of a rule needs a batch at once, and why.
fn needs_whole_batch(rule: &RuleConfig) -> Option<&'static str> {
    match &rule.propagation {
        propagation::Config::FrontContribution(_) => {
            return Some("front-contribution, which takes the place of the gradient of what is collapsed");
        }
        propagation::Config::Dual(dual) if !dual.adds_up() => {
            return Some(
                "dual in a mode or with a step that learns from the lanes of a whole batch; use mode exact, local or weight",
            );
        }
        propagation::Config::Backprop {} | propagation::Config::Dual(_) => {}
    }
    if !matches!(rule.inputs, inputs::Config::Raw {}) {
        return Some("decorrelated, whose matrices learn from the rows of a whole batch");
    }
    if !matches!(rule.products, products::Config::All {}) {
        return Some("mem-aop, which chooses among the rows of a whole batch");
    }
    match &rule.weights {
        weights::Config::Sparse(sparse) if matches!(sparse.schedule, Schedule::Rigl { .. }) => {
            Some("sparse with schedule rigl, which grows weights by the gradient of a whole batch")
        }
        weights::Config::Dense {} | weights::Config::Sparse(_) => None,
    }
}

/// Refuses weights that are none, and data without classes.
pub(super) fn check_class_weights(config: &TrainingConfig, data: &Dataset) -> Result<()> {
    let Some(weights) = &config.class_weights else { return Ok(()) };
    let Targets::Labels { classes, .. } = data.targets() else {
        return Err(Error::config("classWeights", "data with class labels beside them", "values as targets"));
    };
    if weights.len() != *classes {
        let expected = format!("{classes} numbers, one for each class");
        return Err(Error::config("classWeights", expected, weights.len()));
    }
    match weights.iter().find(|weight| !(**weight >= 0.0 && weight.is_finite())) {
        Some(weight) => Err(Error::config("classWeights", "numbers from 0 up", weight)),
        None if weights.iter().all(|weight| *weight == 0.0) => {
            Err(Error::config("classWeights", "a number above 0", "zeros only"))
        }
        None => Ok(()),
    }
}

/// Refuses runs that need to know all rows before the first step.
pub(super) fn check_stream(config: &TrainingConfig, steps: u64) -> Result<()> {
    if !(1..=1_000_000_000).contains(&steps) {
        return Err(Error::config("stepsPerEpoch", "a whole number from 1 to 1000000000", steps));
    }
    if matches!(config.rule.propagation, propagation::Config::FrontContribution(_)) {
        let found = "a stream; use a table, or backprop()";
        return Err(Error::config("data", "all rows before the first step for front-contribution", found));
    }
    Ok(())
}
