//! Learning-rate schedules: a factor on the optimizer's rate as a function of the position in the run.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// How the learning rate changes. Positions are in epochs, fractions included.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Schedule {
    /// Factor 1.
    Constant {},
    /// Times `factor` after every `every` epochs.
    Step {
        /// Epochs between changes.
        every: f64,
        /// What the rate is multiplied by.
        factor: f64,
    },
    /// Half a cosine from 1 to `final_factor` at the end of the run (Loshchilov and Hutter 2017).
    Cosine {
        /// Factor at the end.
        final_factor: f64,
    },
    /// A straight line from 0 over the first `epochs`, then `then` over what remains.
    WarmUp {
        /// Length of the rise.
        epochs: f64,
        /// What follows; its own time starts where the rise ends.
        then: Box<Schedule>,
    },
    /// Up from 1 / `start_divisor` to 1 over the first `rise` of the run, down to 1 / (`start_divisor` · `final_divisor`) at its
    /// end, both by half cosines (Smith and Topin 2018, in PyTorch's form).
    OneCycle {
        /// Share of the run in which the rate rises.
        rise: f64,
        /// The first rate is the largest divided by this.
        start_divisor: f64,
        /// The last rate is the first divided by this.
        final_divisor: f64,
    },
}

impl Schedule {
    /// Refuses values that make no schedule.
    pub fn validate(&self, epochs: f64) -> Result<()> {
        let check = |name: &str, value: f64, ok: bool, expected: &str| {
            if ok { Ok(()) } else { Err(Error::config(format!("schedule.{name}"), expected, value)) }
        };
        match self {
            Schedule::Constant {} => Ok(()),
            Schedule::Step { every, factor } => {
                check("every", *every, *every > 0.0, "a number of epochs above 0")?;
                check("factor", *factor, *factor > 0.0 && factor.is_finite(), "a number above 0")
            }
            Schedule::Cosine { final_factor } => {
                check("finalFactor", *final_factor, (0.0..=1.0).contains(final_factor), "a number from 0 to 1")
            }
            Schedule::WarmUp { epochs: rise, then } => {
                let fits = *rise > 0.0 && *rise < epochs;
                check("epochs", *rise, fits, &format!("a number above 0 and below the run's {epochs} epochs"))?;
                then.validate(epochs - rise)
            }
            Schedule::OneCycle { rise, start_divisor, final_divisor } => {
                check("rise", *rise, *rise > 0.0 && *rise < 1.0, "a number between 0 and 1")?;
                check("startDivisor", *start_divisor, *start_divisor >= 1.0, "a number from 1 up")?;
                check("finalDivisor", *final_divisor, *final_divisor >= 1.0, "a number from 1 up")
            }
        }
    }

    /// The factor at `position` epochs into a run of `epochs`.
    pub fn factor(&self, position: f64, epochs: f64) -> f64 {
        let share = if epochs > 0.0 { (position / epochs).clamp(0.0, 1.0) } else { 1.0 };
        match self {
            Schedule::Constant {} => 1.0,
            Schedule::Step { every, factor } => factor.powi((position / every).floor() as i32),
            Schedule::Cosine { final_factor } => half_cosine(1.0, *final_factor, share),
            Schedule::WarmUp { epochs: rise, then } => {
                // The first step already moves: position 0 would otherwise waste it.
                if position < *rise {
                    ((position + rise * 1e-3) / rise).min(1.0)
                } else {
                    then.factor(position - rise, epochs - rise)
                }
            }
            Schedule::OneCycle { rise, start_divisor, final_divisor } => {
                let start = 1.0 / start_divisor;
                if share < *rise {
                    half_cosine(start, 1.0, share / rise)
                } else {
                    half_cosine(1.0, start / final_divisor, (share - rise) / (1.0 - rise))
                }
            }
        }
    }
}

/// From `first` to `last` along half a cosine.
fn half_cosine(first: f64, last: f64, share: f64) -> f64 {
    last + (first - last) * 0.5 * (1.0 + (std::f64::consts::PI * share).cos())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_start_turn_and_end_where_they_say() {
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-12, "{a} against {b}");
        let step = Schedule::Step { every: 2.0, factor: 0.1 };
        close(step.factor(1.99, 10.0), 1.0);
        close(step.factor(4.0, 10.0), 0.01);
        let cosine = Schedule::Cosine { final_factor: 0.1 };
        close(cosine.factor(0.0, 4.0), 1.0);
        close(cosine.factor(2.0, 4.0), 0.55);
        close(cosine.factor(4.0, 4.0), 0.1);
        let warm = Schedule::WarmUp { epochs: 1.0, then: Box::new(cosine) };
        assert!(warm.factor(0.0, 5.0) > 0.0 && warm.factor(0.0, 5.0) < 0.01);
        close(warm.factor(1.0, 5.0), 1.0);
        close(warm.factor(5.0, 5.0), 0.1);
        let cycle = Schedule::OneCycle { rise: 0.3, start_divisor: 25.0, final_divisor: 1e4 };
        close(cycle.factor(0.0, 10.0), 0.04);
        close(cycle.factor(3.0, 10.0), 1.0);
        close(cycle.factor(10.0, 10.0), 0.04 / 1e4);
    }

    #[test]
    fn validate_refuses_a_rise_longer_than_the_run() {
        let warm = Schedule::WarmUp { epochs: 3.0, then: Box::new(Schedule::Constant {}) };
        let fault = warm.validate(2.0).unwrap_err().message;
        assert_eq!(
            fault,
            "Cannot use schedule.epochs: expected a number above 0 and below the run's 2 epochs but found 3"
        );
    }
}
