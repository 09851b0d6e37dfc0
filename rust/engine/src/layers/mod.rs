//! What a network is made of: linear maps, which the slots of a learning rule act on, and all other layers.

pub mod activation;
pub mod batch_norm;
pub mod dropout;
pub mod dropout2d;
pub mod group_norm;
pub mod layer_norm;
pub mod linear;
pub mod map;
pub mod pool;
pub mod softmax;
pub mod support;

use crate::config::Init;
use kernels::{Activation, Par, Real};

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
    /// How the engine stores it.
    pub order: Order,
    /// How it starts.
    pub init: Init,
    /// Fan-in and fan-out for the initialiser.
    pub fans: (usize, usize),
}

/// How the engine stores a parameter whose shape users see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// As users see it.
    Same,
    /// Users see outputs × inputs, the engine stores inputs × outputs.
    Transposed,
    /// Users see outputs × channels of a group × kernel height × width, the engine stores for each group
    /// (kernel height, width, channel) × outputs of the group.
    Convolution {
        /// Number of groups.
        groups: usize,
    },
}

impl Order {
    /// Where the engine stores the element that users see at `index` of `shape`.
    pub fn place(self, shape: &[usize], index: usize) -> usize {
        match (self, shape) {
            (Order::Transposed, [rows, columns]) => (index % columns) * rows + index / columns,
            (Order::Convolution { groups }, [outputs, channels, height, width]) => {
                let (x, rest) = (index % width, index / width);
                let (y, rest) = (rest % height, rest / height);
                let (channel, output) = (rest % channels, rest / channels);
                let of_group = outputs / groups;
                let row = (y * width + x) * channels + channel;
                (output / of_group * (height * width * channels) + row) * of_group + output % of_group
            }
            (Order::Same | Order::Transposed | Order::Convolution { .. }, _) => index,
        }
    }
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

/// What a layer reads and writes beside its input and output.
pub struct Memory<'a, T> {
    /// Its parameters.
    pub parameters: &'a [T],
    /// Its buffers.
    pub buffers: &'a mut [T],
    /// What it keeps for the backward pass.
    pub saved: &'a mut [T],
    /// Memory for the duration of the pass.
    pub scratch: &'a mut [T],
}

/// One lane of tangents on its way through a layer: how the layer's input and output move along a direction.
pub struct Lane<'a, T> {
    /// First tangent of the input.
    pub x: &'a [T],
    /// First tangent of the output, overwritten.
    pub y: &'a mut [T],
    /// Second tangents of input and output, where they are wanted too.
    pub second: Option<(&'a [T], &'a mut [T])>,
    /// How the layer's parameters move; none where they stand still.
    pub direction: Option<&'a [T]>,
}

/// What dual numbers need of a layer.
pub trait TangentRule<T: Real> {
    /// Whether every output depends on the input at its own place only.
    fn elementwise(&self) -> bool {
        false
    }

    /// The tangents of the outputs, after a forward pass that left `trace`.
    fn tangent(&self, pass: &Pass, parameters: &[T], trace: Trace<T>, lane: Lane<T>);
}

/// A layer that is not a linear map. All arrays are row-major with `pass.rows` rows.
pub trait Layer<T: Real>: Send + Sync {
    /// The parameters it wants, in the order of their place in `parameters`.
    fn parameters(&self) -> Vec<Specification> {
        Vec::new()
    }

    /// Numbers that training changes but no gradient does, such as running statistics, in the order of their place in `buffers`.
    fn buffers(&self) -> Vec<Specification> {
        Vec::new()
    }

    /// Takes over the activation that follows, where the layer can do both in one go.
    fn fuse(&mut self, activation: Activation<T>) -> bool {
        let _ = activation;
        false
    }

    /// Elements to keep between the passes for a batch of `rows`.
    fn saved(&self, rows: usize) -> usize {
        let _ = rows;
        0
    }

    /// Elements of scratch memory that each pass needs for a batch of `rows`.
    fn scratch(&self, rows: usize) -> usize {
        let _ = rows;
        0
    }

    /// Whether the backward pass computes gx in any case, so that it must be given memory for it.
    fn always_input_gradient(&self) -> bool {
        false
    }

    /// Fewest rows of a batch in training.
    fn least_rows(&self) -> usize {
        1
    }

    /// Whether rows of a batch do not see each other and what is kept for them lies row after row: a backward pass may then run on
    /// some rows of the forward pass.
    fn separate(&self) -> bool {
        self.saved(1) == 0
    }

    /// How it carries tangents; a layer without such a rule is refused where dual numbers are asked for.
    fn tangent_rule(&self) -> Option<&dyn TangentRule<T>> {
        None
    }

    /// y from x.
    fn forward(&self, pass: &Pass, memory: Memory<T>, x: &[T], y: &mut [T]);

    /// gx (where wanted) and the parameters' gradient (overwritten) from gy.
    #[allow(clippy::too_many_arguments)] // What there is to read and to write.
    fn backward(
        &self,
        pass: &Pass,
        parameters: &[T],
        trace: Trace<T>,
        gy: &[T],
        gx: Option<&mut [T]>,
        gradient: &mut [T],
        scratch: &mut [T],
    );
}
