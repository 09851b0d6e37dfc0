//! A network of either precision behind one interface, for the boundary.

use crate::config::{NetworkConfig, Precision, TrainingConfig};
use crate::dataset::Dataset;
use crate::error::{Error, Result, parse};
use crate::evaluate::Sums;
use crate::network::Network;
use crate::training::Report;
use kernels::Real;
use std::sync::Arc;
use std::time::Duration;

/// Creates a network from JSON.
pub fn create(json: &str) -> Result<Box<dyn Engine>> {
    let config: NetworkConfig = parse("the network", json)?;
    Ok(match config.precision {
        Precision::F32 => Box::new(Network::<f32>::new(config)?),
        Precision::F64 => Box::new(Network::<f64>::new(config)?),
    })
}

/// What the boundary asks of a network. See the methods of [`Network`].
pub trait Engine: Send {
    /// The network as JSON.
    fn describe(&self) -> String;
    /// All tensors as JSON.
    fn tensors(&mut self) -> Result<String>;
    /// Carries out a request, both in JSON.
    fn request(&mut self, json: &str) -> Result<String>;
    /// Copies a tensor out.
    fn read(&mut self, name: &str, out: &mut [u8]) -> Result<()>;
    /// Replaces a tensor.
    fn write(&mut self, name: &str, bytes: &[u8]) -> Result<()>;
    /// Attaches a training run given as JSON.
    fn attach(&mut self, json: &str, data: &Arc<Dataset>) -> Result<()>;
    /// Ends the training run.
    fn detach(&mut self) -> Result<()>;
    /// Runs steps.
    fn train(&mut self, data: &Dataset, steps: u64, budget: Duration) -> Result<Report>;
    /// Evaluates rows.
    fn evaluate(
        &mut self,
        data: &Dataset,
        first: usize,
        top: usize,
        budget: Duration,
        confusion: &mut [u32],
    ) -> Result<Sums>;
    /// Predicts rows into little-endian elements of the network's precision.
    fn predict(&mut self, data: &Dataset, first: usize, rows: usize, out: &mut [u8]) -> Result<()>;
    /// Loss and its derivatives along a direction; direction and tangents are little-endian elements of the network's precision.
    fn directional(&mut self, data: &Dataset, direction: &[u8], tangents: &mut [u8]) -> Result<[f64; 3]>;
    /// Computes the gradient of one batch.
    fn gradient(&mut self, json: &str, data: &Dataset, training_mode: bool) -> Result<f64>;
}

impl<T: Real> Engine for Network<T> {
    fn describe(&self) -> String {
        self.describe()
    }

    fn tensors(&mut self) -> Result<String> {
        self.tensors()
    }

    fn request(&mut self, json: &str) -> Result<String> {
        self.request(json)
    }

    fn read(&mut self, name: &str, out: &mut [u8]) -> Result<()> {
        self.read(name, out)
    }

    fn write(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        self.write(name, bytes)
    }

    fn attach(&mut self, json: &str, data: &Arc<Dataset>) -> Result<()> {
        self.attach(parse::<TrainingConfig>("the training run", json)?, data)
    }

    fn detach(&mut self) -> Result<()> {
        self.detach()
    }

    fn train(&mut self, data: &Dataset, steps: u64, budget: Duration) -> Result<Report> {
        self.train(data, steps, budget)
    }

    fn evaluate(
        &mut self,
        data: &Dataset,
        first: usize,
        top: usize,
        budget: Duration,
        confusion: &mut [u32],
    ) -> Result<Sums> {
        self.evaluate(data, first, top, budget, confusion)
    }

    fn predict(&mut self, data: &Dataset, first: usize, rows: usize, out: &mut [u8]) -> Result<()> {
        let count = rows.saturating_mul(self.outputs());
        if out.len() != count * T::BYTES {
            return Err(Error::shape("the output array", format!("{} bytes", count * T::BYTES), out.len()));
        }
        let mut values = kernels::Buffer::zeroed(count)?;
        self.predict(data, first, rows, &mut values)?;
        for (out, value) in out.chunks_exact_mut(T::BYTES).zip(values.iter()) {
            value.write_le(out);
        }
        Ok(())
    }

    fn directional(&mut self, data: &Dataset, direction: &[u8], tangents: &mut [u8]) -> Result<[f64; 3]> {
        let direction: Vec<T> = direction.chunks_exact(T::BYTES).map(T::read_le).collect();
        let mut moved = kernels::Buffer::zeroed(tangents.len() / T::BYTES)?;
        let derivatives = self.directional(data, &direction, &mut moved)?;
        for (out, value) in tangents.chunks_exact_mut(T::BYTES).zip(moved.iter()) {
            value.write_le(out);
        }
        Ok(derivatives)
    }

    fn gradient(&mut self, json: &str, data: &Dataset, training_mode: bool) -> Result<f64> {
        self.compute_gradient(parse::<TrainingConfig>("the gradient", json)?, data, training_mode)
    }
}
