//! The geometry of a linear map: dense directly, convolution through its patches.
//!
//! Learning rules see rows of inputs and rows of outputs and never ask which it is: a row is a sample of a dense map, or a patch
//! of a convolution.

use kernels::conv::{self, Geometry};
use kernels::linear::{self, Dims};
use kernels::{Activation, Par, Real};

/// What a linear map multiplies.
#[derive(Clone, Debug, PartialEq)]
pub enum Map {
    /// y = x · W.
    Dense {
        /// Inputs of a row.
        inputs: usize,
        /// Outputs of a row.
        outputs: usize,
    },
    /// y = patches of x · W.
    Conv(Geometry),
}

impl Map {
    /// Rows that `samples` samples have.
    pub fn rows(&self, samples: usize) -> usize {
        match self {
            Map::Dense { .. } => samples,
            Map::Conv(g) => samples * g.positions(),
        }
    }

    /// Inputs of a row: features, or elements of a patch (of one group).
    pub fn inputs(&self) -> usize {
        match self {
            Map::Dense { inputs, .. } => *inputs,
            Map::Conv(g) => g.patch(),
        }
    }

    /// Outputs of a row: units, or channels.
    pub fn outputs(&self) -> usize {
        match self {
            Map::Dense { outputs, .. } => *outputs,
            Map::Conv(g) => g.outputs,
        }
    }

    /// Number of weights.
    pub fn weights(&self) -> usize {
        match self {
            Map::Dense { inputs, outputs } => inputs * outputs,
            Map::Conv(g) => g.weights(),
        }
    }

    /// Multiply-adds of one sample's forward pass.
    pub fn multiply_adds(&self) -> usize {
        self.rows(1) * self.weights()
    }

    /// Scratch elements that the products need for up to `samples` samples.
    pub fn scratch<T: Real>(&self, par: Par, samples: usize) -> usize {
        match self {
            Map::Dense { .. } => linear::step_scratch(par, self.dims(samples)),
            Map::Conv(g) => conv::scratch_elements::<T>(par, g, samples).max(conv::bias_scratch_elements(g.outputs)),
        }
    }

    fn dims(&self, samples: usize) -> Dims {
        Dims { rows: self.rows(samples), inputs: self.inputs(), outputs: self.outputs() }
    }

    /// y = f(x · w + bias).
    #[allow(clippy::too_many_arguments)] // A linear map has that many parts.
    pub fn forward<T: Real>(
        &self,
        par: Par,
        samples: usize,
        x: &[T],
        w: &[T],
        bias: Option<&[T]>,
        activation: Activation<T>,
        y: &mut [T],
        scratch: &mut [T],
    ) {
        match self {
            Map::Dense { .. } => linear::forward(par, self.dims(samples), x, w, bias, activation, y),
            Map::Conv(g) => conv::forward(par, g, samples, x, w, bias, activation, y, scratch),
        }
    }

    /// dx = g · wᵀ, times the derivative of the activation below where it is to be taken along.
    #[allow(clippy::too_many_arguments)] // As `forward`.
    pub fn input_gradient<T: Real>(
        &self,
        par: Par,
        samples: usize,
        g: &[T],
        w: &[T],
        below: Option<(Activation<T>, &[T])>,
        dx: &mut [T],
        scratch: &mut [T],
    ) {
        match self {
            Map::Dense { .. } => linear::input_gradient(par, self.dims(samples), g, w, below, dx),
            Map::Conv(geometry) => conv::input_gradient(par, geometry, samples, g, w, below, dx, scratch),
        }
    }

    /// dw = xᵀ · g over all rows.
    pub fn weight_gradient<T: Real>(
        &self,
        par: Par,
        samples: usize,
        x: &[T],
        g: &[T],
        dw: &mut [T],
        scratch: &mut [T],
    ) {
        match self {
            Map::Dense { .. } => {
                linear::weight_gradient_with(par, self.dims(samples), T::one(), x, g, false, dw, scratch);
            }
            Map::Conv(geometry) => conv::weight_gradient(par, geometry, samples, x, g, false, dw, scratch),
        }
    }

    /// Copies the inputs of some rows, row after row: features, or patches (of one group).
    pub fn gather<T: Real>(&self, x: &[T], rows: &[u32], group: usize, out: &mut [T]) {
        let size = self.inputs();
        match self {
            Map::Dense { .. } => {
                for (out, row) in out.chunks_exact_mut(size).zip(rows) {
                    out.copy_from_slice(&x[*row as usize * size..][..size]);
                }
            }
            Map::Conv(g) => conv::gather(g, x, rows.iter().map(|row| *row as usize), group, 0..size, out),
        }
    }
}
