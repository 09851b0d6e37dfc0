//! One choice of samples for the whole network, made at the loss: the backward pass then runs on a smaller batch, input gradients
//! included. Not in the paper; with the policies that weigh, the gradient is right on average.

use super::{Config, PolicyName, Scope};
use crate::rules::Moment;
use kernels::carry::row_squares;
use kernels::select::{Choice, Stream};
use kernels::{Par, Real};
use serde_json::{Value, json};

/// Keeps the random numbers of this choice apart from those of the layers.
const PLACE: u32 = u32::MAX;

/// The choice of samples of a run.
pub struct BatchChoice {
    policy: PolicyName,
    keep: usize,
    squares: Vec<f64>,
    choice: Choice,
    samples: Vec<u32>,
    last: usize,
}

impl BatchChoice {
    /// The choice that a rule makes in batches of `batch` rows, if it makes one.
    pub fn new(config: &Config, batch: usize) -> Option<BatchChoice> {
        (config.scope == Scope::Batch).then(|| BatchChoice {
            policy: config.policy,
            keep: config.keep(batch),
            squares: vec![0.0; batch],
            choice: Choice::new(batch),
            samples: Vec::with_capacity(batch),
            last: 0,
        })
    }

    /// Chooses among `samples` by the norms of the gradients of their outputs, and puts weights on those of the chosen rows.
    pub fn choose<T: Real>(&mut self, par: Par, samples: &[u32], gradient: &mut [T], moment: &Moment) {
        let (rows, size) = (samples.len(), gradient.len() / samples.len());
        let squares = &mut self.squares[..rows];
        row_squares(gradient, &[], squares).run(par);
        squares.iter_mut().for_each(|square| *square = square.sqrt());
        self.choice.choose(self.policy.policy(), squares, self.keep, &Stream::new(moment.seed, moment.step, PLACE));
        self.choice.ensure_one();
        self.samples.clear();
        self.samples.extend(self.choice.rows().iter().map(|row| samples[*row as usize]));
        for (row, weight) in self.choice.rows().iter().zip(self.choice.weights()) {
            let weight = T::of(*weight);
            let row = *row as usize * size;
            gradient[row..row + size].iter_mut().for_each(|g| *g *= weight);
        }
        self.last = rows;
    }

    /// The chosen rows of the batch, ascending.
    pub fn rows(&self) -> &[u32] {
        self.choice.rows()
    }

    /// The samples they hold.
    pub fn samples(&self) -> &[u32] {
        &self.samples
    }

    /// What it does and, about the last step, how well.
    pub fn describe(&self) -> Value {
        let mut figures = json!({
            "kind": "memAop", "keeps": "samples of the batch", "k": self.keep, "policy": self.policy, "memory": false,
            "center": false,
        });
        if self.last > 0 {
            figures["of"] = json!(self.last);
            figures["keptShare"] = json!(self.choice.kept());
        }
        figures
    }
}
