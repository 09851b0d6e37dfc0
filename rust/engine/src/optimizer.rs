//! Optimizers: their configuration, their state, and the update of one step.

use crate::config::OptimizerConfig;
use crate::error::{Error, Result};
use kernels::optimize::Update;
use kernels::{Buffer, Real};

/// The optimizer of a training run with its state, in the layout of the parameters.
pub struct Optimizer<T> {
    config: OptimizerConfig,
    /// Velocity or first moment; empty where there is none.
    pub first: Buffer<T>,
    /// Second moment; empty where there is none.
    pub second: Buffer<T>,
}

impl<T: Real> Optimizer<T> {
    /// Checks the configuration and makes state for `parameters` elements.
    pub fn new(config: OptimizerConfig, parameters: usize) -> Result<Optimizer<T>> {
        validate(&config)?;
        let (first, second) = states(&config);
        let make = |wanted| if wanted { Buffer::zeroed(parameters) } else { Ok(Buffer::empty()) };
        Ok(Optimizer { first: make(first)?, second: make(second)?, config })
    }

    /// The base learning rate.
    pub fn rate(&self) -> f64 {
        rate(&self.config)
    }

    /// The update of step `step` (from 1) with the rate times `factor`.
    pub fn update(&self, step: u64, factor: f64) -> Update<T> {
        let of = T::of;
        match self.config {
            OptimizerConfig::Sgd { learning_rate, momentum, nesterov, weight_decay } => {
                let (rate, decay) = (of(learning_rate * factor), of(weight_decay));
                if momentum == 0.0 {
                    Update::Sgd { rate, decay }
                } else {
                    Update::Momentum { rate, decay, momentum: of(momentum), nesterov }
                }
            }
            OptimizerConfig::Adam { learning_rate, beta1, beta2, epsilon, weight_decay } => {
                let moments = (beta1, beta2, epsilon);
                adam(step, learning_rate * factor, moments, weight_decay, 1.0)
            }
            OptimizerConfig::AdamW { learning_rate, beta1, beta2, epsilon, weight_decay } => {
                let rate = learning_rate * factor;
                adam(step, rate, (beta1, beta2, epsilon), 0.0, 1.0 - rate * weight_decay)
            }
            OptimizerConfig::RmsProp { learning_rate, alpha, epsilon, weight_decay } => Update::RmsProp {
                rate: of(learning_rate * factor),
                decay: of(weight_decay),
                alpha: of(alpha),
                epsilon: of(epsilon),
            },
        }
    }
}

fn adam<T: Real>(step: u64, rate: f64, (beta1, beta2, epsilon): (f64, f64, f64), decay: f64, shrink: f64) -> Update<T> {
    let t = step as f64;
    Update::Adam {
        rate: T::of(rate / (1.0 - beta1.powf(t))),
        second_scale: T::of(1.0 / (1.0 - beta2.powf(t)).sqrt()),
        decay: T::of(decay),
        shrink: T::of(shrink),
        beta1: T::of(beta1),
        beta2: T::of(beta2),
        epsilon: T::of(epsilon),
    }
}

/// Which states an optimizer keeps: (first, second).
pub fn states(config: &OptimizerConfig) -> (bool, bool) {
    match config {
        OptimizerConfig::Sgd { momentum, .. } => (*momentum != 0.0, false),
        OptimizerConfig::Adam { .. } | OptimizerConfig::AdamW { .. } => (true, true),
        OptimizerConfig::RmsProp { .. } => (false, true),
    }
}

fn rate(config: &OptimizerConfig) -> f64 {
    match config {
        OptimizerConfig::Sgd { learning_rate, .. }
        | OptimizerConfig::Adam { learning_rate, .. }
        | OptimizerConfig::AdamW { learning_rate, .. }
        | OptimizerConfig::RmsProp { learning_rate, .. } => *learning_rate,
    }
}

fn validate(config: &OptimizerConfig) -> Result<()> {
    let check = |name: &str, value: f64, ok: bool, expected: &str| {
        if ok { Ok(()) } else { Err(Error::config(format!("optimizer.{name}"), expected, value)) }
    };
    let not_negative =
        |name: &str, value: f64| check(name, value, value >= 0.0 && value.is_finite(), "a number from 0 up");
    let share =
        |name: &str, value: f64| check(name, value, (0.0..1.0).contains(&value), "a number from 0 up to below 1");
    not_negative("learningRate", rate(config))?;
    match config {
        OptimizerConfig::Sgd { momentum, nesterov, weight_decay, .. } => {
            share("momentum", *momentum)?;
            if *nesterov && *momentum == 0.0 {
                return Err(Error::config("optimizer.nesterov", "momentum above 0 beside it", "momentum 0"));
            }
            not_negative("weightDecay", *weight_decay)
        }
        OptimizerConfig::Adam { beta1, beta2, epsilon, weight_decay, .. }
        | OptimizerConfig::AdamW { beta1, beta2, epsilon, weight_decay, .. } => {
            share("beta1", *beta1)?;
            share("beta2", *beta2)?;
            not_negative("epsilon", *epsilon)?;
            not_negative("weightDecay", *weight_decay)
        }
        OptimizerConfig::RmsProp { alpha, epsilon, weight_decay, .. } => {
            share("alpha", *alpha)?;
            not_negative("epsilon", *epsilon)?;
            not_negative("weightDecay", *weight_decay)
        }
    }
}
