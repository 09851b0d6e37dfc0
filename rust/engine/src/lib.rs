//! The training engine of leanprop.
//!
//! One way through: a [`config`] becomes a [`network`] (layers lowered to nodes over values); [`training`] runs steps on a
//! [`dataset`]: forward, loss, backward through the slots of the learning [`rules`], optimizer. [`state`] names every tensor
//! that makes up a network and a training run, so that checkpoints need to know nothing else.
#![forbid(unsafe_code)]

pub mod augment;
pub mod average;
pub mod clock;
pub mod config;
pub mod dataset;
pub mod directional;
pub mod engine;
pub mod error;
pub mod evaluate;
pub mod layers;
pub mod loss;
pub mod masks;
pub mod memory;
pub mod network;
pub mod optimizer;
pub mod passes;
pub mod plan;
pub mod pool;
pub mod requests;
pub mod rules;
pub mod schedule;
pub mod state;
pub mod training;
pub mod workspace;

pub use engine::{Engine, create};
pub use error::{Code, Error, Result};
