//! The loss of a batch, its gradient, and what a network's outputs mean under it.

use crate::config::LossConfig;
use crate::dataset::{Dataset, Targets};
use crate::error::{Error, Result};
use kernels::{Par, Real, loss as kernel, tangent};

/// The targets of one batch, in the engine's element type.
pub struct BatchTargets<'a, T> {
    /// Classes, for data with labels.
    pub labels: &'a [u32],
    /// Values, for data with values.
    pub values: &'a [T],
}

/// Row losses of a batch; with `gradient`, also the gradient of their mean with respect to the outputs.
pub fn evaluate<T: Real>(
    config: &LossConfig,
    par: Par,
    outputs: &[T],
    size: usize,
    targets: BatchTargets<T>,
    losses: &mut [T],
    gradient: Option<&mut [T]>,
) {
    let scale = T::one() / T::of(losses.len() as f64);
    let BatchTargets { labels, values } = targets;
    match config {
        LossConfig::SoftmaxCrossEntropy { label_smoothing } => {
            let smoothing = T::of(*label_smoothing);
            kernel::softmax_cross_entropy(par, outputs, labels, size, smoothing, scale, losses, gradient);
        }
        LossConfig::MeanSquaredError {} => {
            kernel::mean_squared_error(par, outputs, values, size, scale, losses, gradient);
        }
        LossConfig::BinaryCrossEntropy { label_smoothing } => {
            let smoothing = T::of(*label_smoothing);
            kernel::binary_cross_entropy(par, outputs, values, size, smoothing, scale, losses, gradient);
        }
    }
}

/// How the mean loss bends where the outputs move by `first`: ȯᵀ H ȯ.
pub fn bend<T: Real>(config: &LossConfig, outputs: &[T], first: &[T], size: usize) -> f64 {
    let rows = (outputs.len() / size) as f64;
    let sum = match config {
        LossConfig::SoftmaxCrossEntropy { .. } => tangent::softmax_cross_entropy_bend(outputs, first, size),
        LossConfig::MeanSquaredError {} => tangent::mean_squared_error_bend(first, size),
        LossConfig::BinaryCrossEntropy { .. } => tangent::binary_cross_entropy_bend(outputs, first, size),
    };
    sum / rows
}

/// Turns outputs into predictions: probabilities for the cross-entropies, the values themselves for squared error.
pub fn predict<T: Real>(config: &LossConfig, outputs: &mut [T], size: usize) {
    match config {
        LossConfig::SoftmaxCrossEntropy { .. } => kernel::softmax(outputs, size),
        LossConfig::MeanSquaredError {} => {}
        LossConfig::BinaryCrossEntropy { .. } => kernels::Activation::Sigmoid.apply(outputs),
    }
}

/// Refuses a configuration whose values make no loss.
pub fn validate(config: &LossConfig) -> Result<()> {
    match config {
        LossConfig::SoftmaxCrossEntropy { label_smoothing } | LossConfig::BinaryCrossEntropy { label_smoothing } => {
            if (0.0..1.0).contains(label_smoothing) {
                return Ok(());
            }
            Err(Error::config("loss.labelSmoothing", "a number from 0 up to below 1", label_smoothing))
        }
        LossConfig::MeanSquaredError {} => Ok(()),
    }
}

/// Refuses data whose targets this loss and these outputs cannot meet.
pub fn check_targets(config: &LossConfig, outputs: usize, data: &Dataset) -> Result<()> {
    match (config, data.targets()) {
        (LossConfig::SoftmaxCrossEntropy { .. }, Targets::Labels { classes, .. }) => {
            if *classes == outputs {
                return Ok(());
            }
            Err(Error::shape("the data set", format!("{outputs} classes (the network's outputs)"), classes))
        }
        (LossConfig::SoftmaxCrossEntropy { .. }, Targets::Values { .. }) => {
            Err(Error::config("loss softmaxCrossEntropy", "class labels as targets", "values"))
        }
        (LossConfig::MeanSquaredError {}, Targets::Labels { .. }) => {
            Err(Error::config("loss meanSquaredError", "values as targets", "class labels"))
        }
        (LossConfig::BinaryCrossEntropy { .. }, Targets::Labels { .. }) => {
            Err(Error::config("loss binaryCrossEntropy", "values in [0, 1] as targets", "class labels"))
        }
        (LossConfig::MeanSquaredError {} | LossConfig::BinaryCrossEntropy { .. }, Targets::Values { size, values }) => {
            if *size != outputs {
                let expected = format!("{outputs} target values a row (the network's outputs)");
                return Err(Error::shape("the data set", expected, size));
            }
            if matches!(config, LossConfig::BinaryCrossEntropy { .. })
                && let Some(at) = values.iter().position(|value| !(0.0..=1.0).contains(value))
            {
                let place = format!("the target of row {}, column {}", at / size, at % size);
                return Err(Error::shape(place, "a number from 0 to 1", values[at]));
            }
            Ok(())
        }
        (_, Targets::None) => Err(Error::config("the data set", "targets", "none")),
    }
}
