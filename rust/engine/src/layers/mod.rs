//! What a network is made of: linear maps, which the slots of a learning rule act on, and all other layers.

pub mod activation;
pub mod dropout;
pub mod layer_norm;
pub mod linear;
pub mod softmax;

use crate::config::Init;
use kernels::{Par, Real};

/// One batch on its way through the network.
#[derive(Clone, Copy)]
pub struct Pass<'a> {
    /// Threads to use.
    pub par: Par,
    /// Rows of the batch.
    pub rows: usize,
    /// Training or evaluation.
    pub mode: Mode,
    /// Row of the data set that each row of the batch came from: what random masks are keyed by.
    pub samples: &'a [u32],
}

/// Training or evaluation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mode {
    /// Dropout and its like are on, keyed by seed and epoch.
    Train {
        /// Seed of the run.
        seed: u64,
        /// Epoch, from 0.
        epoch: u32,
    },
    /// Everything is deterministic.
    Evaluate,
}

/// A parameter that a layer wants.
#[derive(Clone, Debug)]
pub struct Specification {
    /// Name inside the layer, such as `weight`.
    pub name: &'static str,
    /// Shape as users see it.
    pub shape: Vec<usize>,
    /// Whether the engine stores the transpose (two axes only).
    pub transposed: bool,
    /// How it starts.
    pub init: Init,
    /// Fan-in and fan-out for the initialiser.
    pub fans: (usize, usize),
}

/// What a forward pass kept for the backward pass.
pub struct Trace<'a, T> {
    /// Inputs of the layer.
    pub x: &'a [T],
    /// Outputs of the layer.
    pub y: &'a [T],
    /// What the layer asked to keep.
    pub saved: &'a [T],
}

/// A layer that is not a linear map. All arrays are row-major with `pass.rows` rows.
pub trait Layer<T: Real>: Send + Sync {
    /// The parameters it wants, in the order of their place in `parameters`.
    fn parameters(&self) -> Vec<Specification> {
        Vec::new()
    }

    /// Elements to keep between the passes for a batch of `rows`.
    fn saved(&self, rows: usize) -> usize {
        let _ = rows;
        0
    }

    /// y from x.
    fn forward(&self, pass: &Pass, parameters: &[T], x: &[T], y: &mut [T], saved: &mut [T]);

    /// gx (where wanted) and the parameters' gradient (overwritten) from gy.
    fn backward(
        &self,
        pass: &Pass,
        parameters: &[T],
        trace: Trace<T>,
        gy: &[T],
        gx: Option<&mut [T]>,
        gradient: &mut [T],
    );
}
