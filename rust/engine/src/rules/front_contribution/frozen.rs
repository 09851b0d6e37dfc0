//! All layers but the last stand still: their outputs are computed once for all rows, and steps begin at the last layer.
//!
//! This is back-propagation with frozen hidden layers, to the last bit, and nothing more: it is not training of the whole network.

use crate::dataset::Dataset;
use crate::error::Result;
use crate::layers::{Mode, Pass};
use crate::passes;
use crate::plan::{Part, Plan};
use crate::workspace::Workspace;
use kernels::{Buffer, Par, Real};
use serde_json::{Value, json};

/// Rows of one forward pass.
const BLOCK: usize = 256;

/// The inputs of the last layer.
pub struct Frozen<T> {
    /// The last layer's node.
    last: usize,
    /// The value that it reads.
    value: usize,
    /// Features of a row of it.
    size: usize,
    features: Buffer<T>,
}

impl<T: Real> Frozen<T> {
    /// Runs all rows through the layers that stand still.
    pub fn new(
        par: Par,
        last: usize,
        (plan, parameters, buffers): (&mut Plan<T>, &[T], &mut [T]),
        data: &Dataset,
    ) -> Result<Frozen<T>> {
        let value = plan.nodes[last].input;
        let size = plan.sizes[value];
        let mut features = Buffer::zeroed(data.rows() * size)?;
        let mut workspace = Workspace::new(plan, data.rows().min(BLOCK), par.threads(), false)?;
        // The last layer and what follows it have nothing to do yet.
        plan.nodes[last..].iter_mut().for_each(|node| node.part = Part::Skipped);
        for range in kernels::par::blocks(data.rows(), BLOCK) {
            let samples: Vec<u32> = range.clone().map(|row| row as u32).collect();
            data.gather(&samples, &mut workspace.values[0][..samples.len() * plan.sizes[0]]);
            let pass = Pass { par, rows: samples.len(), mode: Mode::Evaluate, samples: &samples };
            passes::forward(plan, parameters, buffers, &mut workspace, &pass);
            let count = samples.len() * size;
            features[range.start * size..][..count].copy_from_slice(&workspace.values[value][..count]);
        }
        plan.nodes[last..].iter_mut().for_each(|node| node.part = Part::Whole);
        Ok(Frozen { last, value, size, features })
    }

    /// The last layer's node.
    pub fn last(&self) -> usize {
        self.last
    }

    /// Says which nodes take part: those below the last layer, and the last layer.
    pub fn mark(&self, plan: &mut Plan<T>, below: Part, last: Part) {
        plan.nodes[..self.last].iter_mut().for_each(|node| node.part = below);
        plan.nodes[self.last].part = last;
    }

    /// Fills in the last layer's inputs for a batch.
    pub fn fill(&self, samples: &[u32], values: &mut [Buffer<T>]) {
        let rows = values[self.value].chunks_exact_mut(self.size);
        for (sample, row) in samples.iter().zip(rows) {
            row.copy_from_slice(&self.features[*sample as usize * self.size..][..self.size]);
        }
    }

    /// Its figures.
    pub fn describe(&self) -> Value {
        json!({ "kind": "final", "features": self.size, "numbers": self.features.len() })
    }
}
