//! Linear maps and convolutions with unstructured sparse weights: forward pass, input gradient and weight gradient touch
//! only the weights that exist (SparseProp: Nikdan, Pegolotti, Iofinova, Kurtic, Alistarh 2023, arXiv 2302.04852).
//!
//! How it differs from the paper's kernels, which add one multiple of an input row to an output row in memory per weight:
//!
//! - Activations lie in tiles ([`tiles`]): 16 to 64 rows of the batch side by side. A tile of an output stays in
//!   registers while all its weights are met ([`forward()`]).
//! - Weights are listed by input ([`pattern`]). The backward pass holds an input and its gradient in registers, so that a
//!   weight costs one load for two multiply-adds and nothing is stored inside the loop ([`backward()`]).
//! - A convolution is the same two kernels: its tiles carry a border of zeros, a weight is an offset into a plane, and a
//!   lane tile is a few neighbouring pixels ([`conv`]). There is no patch matrix and no code for edges.
//! - Bias and activation are part of the forward store; the derivative of the activation below is part of the store of
//!   the input gradient.
//!
//! Each output is summed by one task in one order (blocks of inputs, inputs ascending, taps ascending), each weight
//! gradient tile after tile: the bits do not depend on the number of threads. They do depend on the instruction set.
//!
//! The rows beyond the batch in the last tile must be zero in the gradient of the outputs (packing makes them so, and the
//! backward pass keeps them so); in activations they may hold anything finite.

pub mod backward;
pub mod conv;
pub mod forward;
pub mod pattern;
pub mod plan;
pub mod tiles;
mod vector;

pub use backward::{backward, bias_gradient, weight_gradient};
pub use conv::Conv;
pub use forward::forward;
pub use pattern::{Pattern, Shape};
pub use plan::{Plan, check_tile};
pub use tiles::{Plane, Tiles, WIDEST_TILE, batch_tile};
pub(crate) use vector::BLOCK;
pub use vector::{Lanes, Vector};

#[cfg(test)]
mod testing;
