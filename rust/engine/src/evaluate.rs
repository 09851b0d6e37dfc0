//! How good a network is on a data set: sums over rows, so that a long evaluation can be done in parts.

use crate::dataset::{Dataset, Targets};
use crate::error::{Error, Result};
use crate::loss::{self, BatchTargets};
use crate::network::{Network, check_range};
use kernels::{Buffer, Real};
use std::time::{Duration, Instant};

/// Sums over the rows of one part.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sums {
    /// Rows evaluated.
    pub rows: usize,
    /// Sum of their losses.
    pub loss: f64,
    /// Rows whose class was right.
    pub correct: u64,
    /// Rows whose class was among the `top` highest scores.
    pub correct_top: u64,
    /// Sum over rows of the mean absolute difference between prediction and target (values only).
    pub absolute_error: f64,
}

impl<T: Real> Network<T> {
    /// Evaluates rows from `first` on until the end of the data or until `budget` is over, at least one block.
    /// `confusion`, where not empty, has classes × classes counts (row: true class, column: predicted class) that are added to.
    pub fn evaluate(
        &mut self,
        data: &Dataset,
        first: usize,
        top: usize,
        budget: Duration,
        confusion: &mut [u32],
    ) -> Result<Sums> {
        self.check_features(data)?;
        loss::check_targets(&self.config.loss, self.outputs(), data)?;
        check_range(data, first, 1)?;
        self.bring_up()?;
        let size = self.outputs();
        if !confusion.is_empty() && confusion.len() != size * size {
            return Err(Error::shape("the confusion matrix", format!("{} counts", size * size), confusion.len()));
        }
        let start = Instant::now();
        let mut workspace = self.take_evaluation()?;
        let mut losses = Buffer::zeroed(workspace.rows)?;
        let target_size = match data.targets() {
            Targets::Values { size, .. } => *size,
            Targets::Labels { .. } | Targets::None => 0,
        };
        let mut values = Buffer::zeroed(workspace.rows * target_size)?;
        let mut labels = Vec::with_capacity(workspace.rows);
        let threads = self.threads.clone();
        let mut sums = Sums::default();
        threads.run(|par| {
            while first + sums.rows < data.rows() {
                let from = first + sums.rows;
                let rows = workspace.rows.min(data.rows() - from);
                self.forward_rows(data, from, rows, &mut workspace, par);
                let samples: Vec<u32> = (from as u32..(from + rows) as u32).collect();
                data.gather_labels(&samples, &mut labels);
                data.gather_values(&samples, &mut values[..rows * target_size]);
                let outputs = &mut workspace.values[self.plan.output][..rows * size];
                let targets = BatchTargets { labels: &labels, values: &values[..rows * target_size] };
                loss::evaluate(&self.config.loss, par, outputs, size, targets, &mut losses[..rows], None);
                sums.loss += losses[..rows].iter().map(|loss| loss.wide()).sum::<f64>();
                for (row, label) in outputs.chunks_exact(size).zip(&labels) {
                    let label = *label as usize;
                    let rank = kernels::loss::rank(row, label);
                    sums.correct += u64::from(rank == 0);
                    sums.correct_top += u64::from(rank < top);
                    if !confusion.is_empty() {
                        confusion[label * size + kernels::loss::argmax(row)] += 1;
                    }
                }
                if target_size > 0 {
                    loss::predict(&self.config.loss, outputs, size);
                    let errors = outputs.iter().zip(&values[..rows * target_size]);
                    let total: f64 = errors.map(|(y, t)| (y.wide() - t.wide()).abs()).sum();
                    sums.absolute_error += total / target_size as f64;
                }
                sums.rows += rows;
                if start.elapsed() >= budget {
                    break;
                }
            }
        });
        self.keep_evaluation(workspace);
        Ok(sums)
    }
}
