//! Numeric kernels of leanprop: slices in, slices out.
//!
//! Every kernel is generic over [`Real`] (`f32`, `f64`), checks its lengths by assertion, and gives the same bits for any
//! number of threads. The `unsafe` of the project lives here (vector instructions, disjoint writes) and in the `ffi` crate.

pub mod activation;
pub mod batch_norm;
pub mod buffer;
pub mod carry;
pub mod conv;
pub mod decorrelation;
pub mod directions;
pub mod dropout;
pub mod gemm;
pub mod gram;
pub mod group_norm;
pub mod isa;
pub mod linear;
pub mod loss;
pub mod math;
pub mod norm;
pub mod optimize;
pub mod pair;
pub mod par;
pub mod pool;
pub mod real;
pub mod reduce;
pub mod rng;
pub mod select;
mod small;
pub mod sparse;
pub mod subnormal;
pub mod tangent;
pub mod team;
mod transpose;

pub use activation::Activation;
pub use buffer::{Buffer, OutOfMemory};
pub use isa::{Isa, isa};
pub use par::Par;
pub use real::Real;
