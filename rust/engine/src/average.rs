//! The running average of parameters and running statistics: often better on new rows than the parameters of the last step
//! (Polyak and Juditsky 1992, with exponential weights).
//!
//! average ← average + (1 − d) · (value − average) after each step, with d = min(decay, (1 + t) / (10 + t)) after t earlier steps,
//! so that the first values do not hang on.
//!
//! What is averaged are the plain parameters of the network's function. Of weights under a mask they are those at its positions: a
//! weight that leaves the mask takes its average along, one that joins it begins at 0, as it does itself. (The average of what the
//! weights were at all positions would have more of them than the mask.) Weights behind matrices that decorrelate are folded before
//! they are averaged, since they mean nothing behind the matrix of another step.

use crate::error::{Code, Error, Result};
use crate::network::Network;
use crate::plan::{Node, Op, Plan};
use crate::rules::inputs::Inputs;
use crate::rules::{RuleConfig, propagation};
use kernels::{Buffer, Par, Real};
use serde_json::{Value, json};

/// Elements that one task handles.
const CHUNK: usize = 65_536;

/// The average of a training run.
pub struct Average<T> {
    decay: f64,
    /// Of the parameters, in their layout; the parameters themselves while `in_use`.
    pub values: Buffer<T>,
    /// Of the buffers.
    pub buffers: Buffer<T>,
    /// Whether the network has the averages, and this the parameters.
    pub in_use: bool,
    /// Folded parameters of a step; empty where there is nothing to fold.
    folded: Buffer<T>,
    /// What linear maps see in steps, while the network has averages, which see their inputs as they are.
    parked: Vec<Inputs<T>>,
}

impl<T: Real> Average<T> {
    /// An average that begins at the values that there are.
    pub fn new(decay: f64, plan: &mut Plan<T>, (values, buffers): (&[T], &[T])) -> Result<Average<T>> {
        let copy = |from: &[T]| -> Result<Buffer<T>> {
            let mut to = Buffer::zeroed(from.len())?;
            to.copy_from_slice(from);
            Ok(to)
        };
        let folds = plan.is_behind_matrices();
        let mut average = Average {
            decay,
            values: copy(values)?,
            buffers: copy(buffers)?,
            in_use: false,
            folded: Buffer::zeroed(if folds { values.len() } else { 0 })?,
            parked: vec![],
        };
        plan.nodes.iter_mut().for_each(|node| fold(Par::SEQUENTIAL, node, values, &mut average.values));
        Ok(average)
    }

    /// Takes in the values after a step, before which there were `steps`.
    pub fn follow(&mut self, par: Par, steps: u64, plan: &mut Plan<T>, (values, buffers): (&[T], &[T])) {
        plan.nodes.iter().for_each(|node| carry(node, &mut self.values));
        let values = if self.folded.is_empty() {
            values
        } else {
            self.folded.copy_from_slice(values);
            plan.nodes.iter_mut().for_each(|node| fold(par, node, values, &mut self.folded));
            &self.folded[..]
        };
        let t = steps as f64;
        let share = T::of(1.0 - self.decay.min((1.0 + t) / (10.0 + t)));
        for (average, values) in [(&mut self.values, values), (&mut self.buffers, buffers)] {
            par.for_work(values.len() * 4).chunks_mut(average, CHUNK, |start, average| {
                let values = &values[start..start + average.len()];
                kernels::isa::vectorize(
                    #[inline(always)]
                    || {
                        for (average, value) in average.iter_mut().zip(values) {
                            *average += share * (*value - *average);
                        }
                    },
                );
            });
        }
    }
}

/// Brings averages to the mask that a map has got in this step.
fn carry<T: Real>(node: &Node<T>, averages: &mut [T]) {
    let Op::Linear(linear) = &node.op else { return };
    let Some(support) = &linear.support else { return };
    let Some(before) = &support.left else { return };
    let averages = &mut averages[node.parameters.clone()][..linear.weights()];
    let old = averages.to_vec();
    support.pattern().carry(before, &old, averages);
}

/// Plain parameters of a map behind a matrix.
fn fold<T: Real>(par: Par, node: &mut Node<T>, values: &[T], folded: &mut [T]) {
    let range = node.parameters.clone();
    let Op::Linear(linear) = &mut node.op else { return };
    let own = &values[range.clone()][..linear.weights()];
    let (weights, bias) = linear.halves(&mut folded[range]);
    if let Some(rule) = linear.slots.inputs.decorrelated() {
        rule.fold_from(par, own, weights, bias);
    }
}

/// Refuses a decay that is none, and a rule that keeps weights in another form.
pub fn check(decay: f64, rule: &RuleConfig) -> Result<()> {
    if !(0.0..1.0).contains(&decay) {
        return Err(Error::config("averageDecay", "a number from 0 up to below 1", decay));
    }
    if !matches!(rule.propagation, propagation::Config::FrontContribution(_)) {
        return Ok(());
    }
    let found = "front-contribution, which keeps weights in another form; leave it out, or use backprop()";
    Err(Error::config("averageDecay", "a rule under which weights can be averaged", found))
}

impl<T: Real> Network<T> {
    /// Exchanges parameters and averages, unless that is how they are.
    pub(crate) fn use_average(&mut self, on: bool) -> Result<Value> {
        let Some(average) = self.training.as_mut().and_then(|training| training.average.as_mut()) else {
            let message = "Cannot use averages: no training run with averageDecay is attached to this network";
            return Err(Error::new(Code::Busy, message));
        };
        if average.in_use == on {
            return Ok(json!({ "on": on }));
        }
        std::mem::swap(&mut self.values, &mut average.values);
        std::mem::swap(&mut self.buffers, &mut average.buffers);
        average.in_use = on;
        if !average.folded.is_empty() {
            let linears = self.plan.nodes.iter_mut().filter_map(|node| match &mut node.op {
                Op::Linear(linear) => Some(linear),
                Op::Layer(_) | Op::Add { .. } => None,
            });
            if on {
                let seen = linears.map(|linear| std::mem::replace(&mut linear.slots.inputs, Inputs::raw()));
                average.parked = seen.collect();
            } else {
                linears.zip(average.parked.drain(..)).for_each(|(linear, inputs)| linear.slots.inputs = inputs);
            }
        }
        Ok(json!({ "on": on }))
    }
}
