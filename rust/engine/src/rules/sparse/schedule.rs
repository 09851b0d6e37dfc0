//! When a mask changes, and how many weights it has then.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// How masks change during a run. Times are shares of the run, from 0 to 1.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Schedule {
    /// They do not.
    Static {},
    /// Gradual magnitude pruning (Zhu and Gupta 2017).
    Gmp {
        /// Sparsity before the schedule begins.
        initial_sparsity: f64,
        /// When it begins.
        begin: f64,
        /// When the final sparsity is reached.
        end: f64,
        /// Steps between two changes.
        every: Option<u64>,
    },
    /// The smallest weights give way to those with the largest gradients (Evci et al. 2020).
    Rigl {
        /// When the first change may be.
        begin: f64,
        /// When the last change may be.
        end: f64,
        /// Steps between two changes.
        every: Option<u64>,
        /// Share of the weights that the first change exchanges; falls to 0 along a cosine.
        drop_fraction: f64,
    },
    /// The smallest weights give way to random ones (Mocanu et al. 2018).
    Set {
        /// When the first change may be.
        begin: f64,
        /// When the last change may be.
        end: f64,
        /// Steps between two changes.
        every: Option<u64>,
        /// Share of the weights that the first change exchanges; falls to 0 along a cosine.
        drop_fraction: f64,
    },
    /// Dense and sparse phases by turns (AC/DC: Peste, Iofinova, Vladu, Alistarh 2021).
    Acdc {
        /// When the first sparse phase begins.
        begin: f64,
        /// When the last dense phase ends at the latest: from here on the network is sparse.
        end: f64,
        /// Steps of a phase.
        every: Option<u64>,
    },
}

/// What a schedule wants at the beginning of a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Wanted {
    /// The mask as it is.
    Same,
    /// A share of zeros, by magnitude.
    Sparsity(f64),
    /// All weights.
    Dense,
    /// A share of the weights replaced by random ones.
    Chance(f64),
}

/// Steps between two changes of a mask, where nothing is said; in short runs a tenth of the run.
const EVERY: u64 = 100;

impl Schedule {
    /// Refuses what cannot be.
    pub fn check(&self, sparsity: f64) -> Result<()> {
        let (begin, end, every) = match self {
            Schedule::Static {} => return Ok(()),
            Schedule::Gmp { begin, end, every, .. }
            | Schedule::Rigl { begin, end, every, .. }
            | Schedule::Set { begin, end, every, .. }
            | Schedule::Acdc { begin, end, every } => (*begin, *end, *every),
        };
        for (name, value) in [("rule.begin", begin), ("rule.end", end)] {
            if !(0.0..=1.0).contains(&value) {
                return Err(Error::config(name, "a share of the run from 0 to 1", value));
            }
        }
        if end < begin {
            return Err(Error::config(
                "rule.end",
                format!("a share of the run from {begin} up, where the schedule begins"),
                end,
            ));
        }
        if every == Some(0) {
            return Err(Error::config("rule.every", "a whole number of steps from 1 up", 0));
        }
        match self {
            Schedule::Gmp { initial_sparsity, .. } if !(0.0..=sparsity).contains(initial_sparsity) => {
                let expected = format!("a number from 0 to {sparsity} (the final sparsity)");
                Err(Error::config("rule.initialSparsity", expected, initial_sparsity))
            }
            Schedule::Rigl { drop_fraction, .. } | Schedule::Set { drop_fraction, .. }
                if !(*drop_fraction > 0.0 && *drop_fraction < 1.0) =>
            {
                Err(Error::config("rule.dropFraction", "a number above 0 and below 1", drop_fraction))
            }
            _ => Ok(()),
        }
    }

    /// Whether layers have their final sparsity from the first step on.
    pub fn starts_sparse(&self) -> bool {
        match self {
            Schedule::Static {} | Schedule::Rigl { .. } | Schedule::Set { .. } => true,
            Schedule::Gmp { .. } | Schedule::Acdc { .. } => false,
        }
    }

    /// What a layer with `sparsity` in the end wants before step `step` (from 0) of `total`.
    pub fn wanted(&self, step: u64, total: u64, sparsity: f64) -> Wanted {
        let at = |share: f64| place(share, total);
        match *self {
            Schedule::Static {} | Schedule::Rigl { .. } => Wanted::Same,
            Schedule::Gmp { initial_sparsity, begin, end, every } => {
                let (begin, end, every) = (at(begin), at(end), interval(every, total));
                let first = initial_sparsity.min(sparsity);
                if step == 0 && begin > 0 && first > 0.0 {
                    return Wanted::Sparsity(first);
                }
                // The last change is at the end itself, whatever the interval.
                if step < begin || step > end || (!(step - begin).is_multiple_of(every) && step != end) {
                    return Wanted::Same;
                }
                let left = if end == begin { 0.0 } else { 1.0 - (step - begin) as f64 / (end - begin) as f64 };
                Wanted::Sparsity(sparsity + (first - sparsity) * left.powi(3))
            }
            Schedule::Set { begin, end, every, drop_fraction } => {
                let clock = (at(begin), at(end), interval(every, total));
                exchanged(step, clock, drop_fraction).map_or(Wanted::Same, Wanted::Chance)
            }
            Schedule::Acdc { begin, end, every } => {
                let (begin, end) = (at(begin), at(end));
                let every = every.unwrap_or(total / 20).max(1);
                if step >= end && step > 0 {
                    return if step == end { Wanted::Sparsity(sparsity) } else { Wanted::Same };
                }
                match step.checked_sub(begin) {
                    Some(since) if since % every == 0 && since / every % 2 == 0 => Wanted::Sparsity(sparsity),
                    Some(since) if since % every == 0 => Wanted::Dense,
                    Some(_) | None => Wanted::Same,
                }
            }
        }
    }

    /// Why a run of `total` steps never exchanges weights, where that is so. Other schedules change masks at their beginning or end
    /// at least.
    pub fn idle(&self, total: u64) -> Option<String> {
        let (kind, begin, end, every) = match *self {
            Schedule::Rigl { begin, end, every, .. } => ("rigl", begin, end, every),
            Schedule::Set { begin, end, every, .. } => ("set", begin, end, every),
            Schedule::Static {} | Schedule::Gmp { .. } | Schedule::Acdc { .. } => return None,
        };
        let (begin, end) = (place(begin, total), place(end, total));
        // As `exchanged` has it: not before the first step.
        let first = if begin == 0 { interval(every, total) } else { begin };
        (first >= end).then(|| {
            format!(
                "the schedule {kind} never changes a mask: its first change would come after {first} steps, but of the run's \
                 {total} it ends after {end}; try a smaller every, an earlier begin, a later end, or a longer run"
            )
        })
    }

    /// Share of the weights to exchange for those with the largest gradients in step `step`.
    pub fn by_gradient(&self, step: u64, total: u64) -> Option<f64> {
        let Schedule::Rigl { begin, end, every, drop_fraction } = *self else { return None };
        let at = |share: f64| place(share, total);
        exchanged(step, (at(begin), at(end), interval(every, total)), drop_fraction)
    }
}

/// The step at a share of the run; the end of the run is its last step.
fn place(share: f64, total: u64) -> u64 {
    ((share * total as f64).round() as u64).min(total.saturating_sub(1))
}

fn interval(every: Option<u64>, total: u64) -> u64 {
    every.unwrap_or(EVERY.min(total / 10)).max(1)
}

fn exchanged(step: u64, (begin, end, every): (u64, u64, u64), fraction: f64) -> Option<f64> {
    // A first step has no gradients behind it.
    if step == 0 || step < begin || step >= end || !(step - begin).is_multiple_of(every) {
        return None;
    }
    Some(fraction / 2.0 * (1.0 + (std::f64::consts::PI * step as f64 / end as f64).cos()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gradual_pruning_follows_the_cubic_and_ends_where_it_should() {
        let gmp = Schedule::Gmp { initial_sparsity: 0.1, begin: 0.2, end: 0.8, every: Some(7) };
        assert_eq!(gmp.wanted(19, 100, 0.9), Wanted::Same);
        assert_eq!(gmp.wanted(21, 100, 0.9), Wanted::Same);
        let Wanted::Sparsity(first) = gmp.wanted(20, 100, 0.9) else { panic!("a change") };
        assert!((first - 0.1).abs() < 1e-12);
        let Wanted::Sparsity(middle) = gmp.wanted(27, 100, 0.9) else { panic!("a change") };
        assert!((middle - (0.9 - 0.8 * (1.0_f64 - 7.0 / 60.0).powi(3))).abs() < 1e-12);
        assert_eq!(gmp.wanted(80, 100, 0.9), Wanted::Sparsity(0.9));
        assert_eq!(gmp.wanted(81, 100, 0.9), Wanted::Same);
    }

    #[test]
    fn exchanges_fall_along_a_cosine() {
        let rigl = Schedule::Rigl { begin: 0.0, end: 0.75, every: Some(100), drop_fraction: 0.3 };
        assert_eq!(rigl.by_gradient(0, 1000), None);
        assert_eq!(rigl.by_gradient(150, 1000), None);
        assert_eq!(rigl.by_gradient(800, 1000), None);
        let share = rigl.by_gradient(300, 1000).unwrap();
        assert!((share - 0.15 * (1.0 + (0.4 * std::f64::consts::PI).cos())).abs() < 1e-12);
    }

    #[test]
    fn phases_take_turns_and_end_sparse() {
        let acdc = Schedule::Acdc { begin: 0.1, end: 0.6, every: Some(20) };
        let changes: Vec<(u64, Wanted)> = (0..100)
            .map(|step| (step, acdc.wanted(step, 100, 0.5)))
            .filter(|(_, wanted)| *wanted != Wanted::Same)
            .collect();
        let sparse = Wanted::Sparsity(0.5);
        assert_eq!(changes, [(10, sparse), (30, Wanted::Dense), (50, sparse), (60, sparse)]);
    }
}
