//! The slot `propagation`: how the loss reaches each weight.

use super::dual::{self, Dual, Frame};
use super::front_contribution;
use super::{Moment, StateTensor};
use crate::config::TrainingConfig;
use crate::error::Result;
use crate::passes::{self, Learning};
use crate::plan::Plan;
use crate::workspace::Workspace;
use kernels::Real;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The choices as TypeScript sends them.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Config {
    /// Backwards, layer by layer.
    Backprop {},
    /// Backwards as far as the network is not collapsed.
    FrontContribution(front_contribution::Config),
    /// Forwards, with dual numbers.
    Dual(dual::Config),
}

/// The choice of a training run, with its state.
pub enum Propagation<T> {
    /// Backwards, layer by layer.
    Backprop,
    /// Forwards, with dual numbers.
    Dual(Box<Dual<T>>),
}

impl<T: Real> Propagation<T> {
    /// The choice of a run.
    pub fn new(plan: &Plan<T>, run: &TrainingConfig, threads: usize) -> Result<Self> {
        Ok(match &run.rule.propagation {
            // A collapse needs the data, which a run has when it is attached; its passes are those of back-propagation.
            Config::Backprop {} | Config::FrontContribution(_) => Propagation::Backprop,
            Config::Dual(config) => Propagation::Dual(Box::new(Dual::new(config, plan, run, threads)?)),
        })
    }

    /// Memory for the values of a batch.
    pub fn workspace(&self, plan: &Plan<T>, rows: usize, threads: usize) -> Result<Workspace<T>> {
        match self {
            Propagation::Backprop => Workspace::new(plan, rows, threads, true),
            Propagation::Dual(dual) => dual.workspace(plan, rows, threads),
        }
    }

    /// Makes room after weights changed their form.
    pub fn resize(&mut self, plan: &Plan<T>, rows: usize, threads: usize) -> Result<()> {
        match self {
            Propagation::Backprop => Ok(()),
            Propagation::Dual(dual) => dual.resize(plan, rows, threads),
        }
    }

    /// Bytes of tangents, and bytes of what is kept between steps.
    pub fn bytes(&self) -> (usize, usize) {
        match self {
            Propagation::Backprop => (0, 0),
            Propagation::Dual(dual) => dual.bytes(),
        }
    }

    /// Its figures, in a run with steps of `rows` rows.
    pub fn describe(&self, plan: &Plan<T>, rows: usize) -> Value {
        match self {
            Propagation::Backprop => json!({ "kind": "backprop" }),
            Propagation::Dual(dual) => json!({ "kind": "dual", "multiplyAdds": dual.multiply_adds(plan, rows) }),
        }
    }

    /// What it keeps between steps: (layer, tensor).
    pub fn state(&mut self, plan: &Plan<T>) -> Vec<(String, StateTensor<'_, T>)> {
        match self {
            Propagation::Backprop => Vec::new(),
            Propagation::Dual(dual) => dual.state(plan),
        }
    }

    /// Computes all values from value 0.
    pub fn forward(&mut self, frame: Frame<T>, moment: Moment) {
        match self {
            Propagation::Backprop => {
                passes::forward(frame.plan, frame.parameters, frame.buffers, frame.workspace, frame.pass);
            }
            Propagation::Dual(dual) => dual.forward(frame, moment),
        }
    }

    /// The parameters' gradient, or with an update their next values, once the loss's gradient lies in the slot of the output.
    pub fn learn(&mut self, frame: Frame<T>, learning: &mut Learning<T>) -> Result<()> {
        match self {
            Propagation::Backprop => {
                passes::backward(frame.plan, frame.parameters, frame.workspace, frame.pass, learning);
                Ok(())
            }
            Propagation::Dual(dual) => dual.learn(frame, learning),
        }
    }

    /// Whether it decides how far a step goes, which needs the whole gradient before the first update.
    pub fn decides_length(&self) -> bool {
        match self {
            Propagation::Backprop => false,
            Propagation::Dual(dual) => dual.decides_length(),
        }
    }

    /// How far to go against `gradient`; `bend(outputs, ȯ)` is the loss's own part of the second derivative.
    pub fn step_length(&mut self, frame: Frame<T>, gradient: &[T], bend: &dyn Fn(&[T], &[T]) -> f64) -> f64 {
        match self {
            Propagation::Backprop => 1.0,
            Propagation::Dual(dual) => dual.step_length(frame, gradient, bend),
        }
    }
}
