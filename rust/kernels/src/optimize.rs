//! Optimizer updates over slices, in the definitions of PyTorch (`torch.optim`), which users compare against.

use crate::isa::vectorize;
use crate::par::{self, Par, Shared};
use crate::real::Real;
use std::ops::Range;

/// Elements that one task updates.
const CHUNK: usize = 65_536;

/// Elements of a gradient that is made on the way: few enough for the stack and the first cache.
const MADE: usize = 2_048;

/// Rough cost of one element.
const OPERATIONS: usize = 10;

/// One step's update with its scalars worked out; built once a step, applied to every block of parameters.
#[derive(Clone, Copy, Debug)]
pub enum Update<T> {
    /// w ← w − rate · (g + decay · w).
    Sgd {
        /// Learning rate.
        rate: T,
        /// L2 weight decay.
        decay: T,
    },
    /// v ← momentum · v + g; w ← w − rate · v, or with Nesterov w ← w − rate · (g + momentum · v).
    Momentum {
        /// Learning rate.
        rate: T,
        /// L2 weight decay, added to g.
        decay: T,
        /// Share of the velocity that is kept.
        momentum: T,
        /// Whether to look ahead (Nesterov).
        nesterov: bool,
    },
    /// Adam (Kingma and Ba 2015), and AdamW (Loshchilov and Hutter 2019) with `shrink` below 1.
    Adam {
        /// rate / (1 − β₁ᵗ).
        rate: T,
        /// 1 / √(1 − β₂ᵗ).
        second_scale: T,
        /// L2 weight decay, added to g (0 for AdamW).
        decay: T,
        /// Factor on w before the step: 1 − rate · decay for AdamW, else 1.
        shrink: T,
        /// β₁.
        beta1: T,
        /// β₂.
        beta2: T,
        /// ε, added to the root.
        epsilon: T,
    },
    /// v ← α v + (1 − α) g²; w ← w − rate · g / (√v + ε).
    RmsProp {
        /// Learning rate.
        rate: T,
        /// L2 weight decay, added to g.
        decay: T,
        /// Share of the mean square that is kept.
        alpha: T,
        /// ε, added to the root.
        epsilon: T,
    },
}

/// Gradient descent with momentum and weight decay as plain numbers: the updates that are linear in gradient and weights.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Descent<T> {
    /// Learning rate.
    pub rate: T,
    /// L2 weight decay, added to the gradient.
    pub decay: T,
    /// Share of the velocity that is kept; 0 for none.
    pub momentum: T,
    /// Whether to look ahead (Nesterov).
    pub nesterov: bool,
}

impl<T: Real> Descent<T> {
    /// The share of a weight that one step's decay leaves, without momentum.
    pub fn shrink(&self) -> T {
        T::one() - self.rate * self.decay
    }
}

impl<T: Real> Update<T> {
    /// The update as gradient descent, where it is linear in gradient and weights.
    pub fn descent(&self) -> Option<Descent<T>> {
        match *self {
            Update::Sgd { rate, decay } => Some(Descent { rate, decay, momentum: T::zero(), nesterov: false }),
            Update::Momentum { rate, decay, momentum, nesterov } => Some(Descent { rate, decay, momentum, nesterov }),
            Update::Adam { .. } | Update::RmsProp { .. } => None,
        }
    }

    /// The rate of plain SGD without decay, for which a gradient product may be added to the weights at once.
    pub fn plain_rate(&self) -> Option<T> {
        match *self {
            Update::Sgd { rate, decay } if decay == T::zero() => Some(rate),
            Update::Sgd { .. } | Update::Momentum { .. } | Update::Adam { .. } | Update::RmsProp { .. } => None,
        }
    }

    /// Updates parameters `w` with gradient `g`. `first` and `second` are this range of the optimizer's state
    /// (velocity or first moment; second moment), empty where the optimizer has none.
    pub fn apply(&self, w: &mut [T], g: &[T], first: &mut [T], second: &mut [T]) {
        assert_eq!(w.len(), g.len());
        match *self {
            Update::Sgd { rate, decay } => vectorize(
                #[inline(always)]
                || {
                    for (w, g) in w.iter_mut().zip(g) {
                        *w -= rate * (*g + decay * *w);
                    }
                },
            ),
            Update::Momentum { rate, decay, momentum, nesterov } => {
                assert_eq!(first.len(), w.len());
                vectorize(
                    #[inline(always)]
                    || {
                        for ((w, g), v) in w.iter_mut().zip(g).zip(first) {
                            let g = *g + decay * *w;
                            *v = momentum * *v + g;
                            *w -= rate * if nesterov { g + momentum * *v } else { *v };
                        }
                    },
                );
            }
            Update::Adam { rate, second_scale, decay, shrink, beta1, beta2, epsilon } => {
                assert_eq!((first.len(), second.len()), (w.len(), w.len()));
                let (gain1, gain2) = (T::one() - beta1, T::one() - beta2);
                vectorize(
                    #[inline(always)]
                    || {
                        for (((w, g), m), v) in w.iter_mut().zip(g).zip(first).zip(second) {
                            let g = *g + decay * *w;
                            *m = beta1 * *m + gain1 * g;
                            *v = beta2 * *v + gain2 * g * g;
                            *w = shrink * *w - rate * *m / (v.sqrt() * second_scale + epsilon);
                        }
                    },
                );
            }
            Update::RmsProp { rate, decay, alpha, epsilon } => {
                assert_eq!(second.len(), w.len());
                let gain = T::one() - alpha;
                vectorize(
                    #[inline(always)]
                    || {
                        for ((w, g), v) in w.iter_mut().zip(g).zip(second) {
                            let g = *g + decay * *w;
                            *v = alpha * *v + gain * g * g;
                            *w -= rate * g / (v.sqrt() + epsilon);
                        }
                    },
                );
            }
        }
    }
}

/// [`Update::apply`] to all parameters of a network, shared between threads.
pub fn apply_all<T: Real>(par: Par, update: &Update<T>, w: &mut [T], g: &[T], first: &mut [T], second: &mut [T]) {
    assert_eq!(w.len(), g.len());
    each_part(par, CHUNK, w, (first, second), |range, w, (first, second)| update.apply(w, &g[range], first, second));
}

/// [`apply_all`] with a gradient that is made on the way: `make(start, part)` writes a part of it, which is applied and forgotten.
pub fn apply_made<T: Real>(
    par: Par,
    update: &Update<T>,
    w: &mut [T],
    state: (&mut [T], &mut [T]),
    make: impl Fn(usize, &mut [T]) + Sync,
) {
    each_part(par, MADE, w, state, |range, w, (first, second)| {
        let mut gradient = [T::zero(); MADE];
        let gradient = &mut gradient[..w.len()];
        make(range.start, gradient);
        update.apply(w, gradient, first, second);
    });
}

/// Runs `body(range, weights, state)` for parts of `size` elements.
fn each_part<T: Real>(
    par: Par,
    size: usize,
    w: &mut [T],
    (first, second): (&mut [T], &mut [T]),
    body: impl Fn(Range<usize>, &mut [T], (&mut [T], &mut [T])) + Sync,
) {
    let length = w.len();
    let (w, first, second) = (Shared::new(w), Shared::new(first), Shared::new(second));
    par.for_work(length * OPERATIONS).each(length.div_ceil(size), |index| {
        let range = par::block(index, length, size);
        // SAFETY: parts are disjoint.
        unsafe {
            let state = (first.part(range.clone()), second.part(range.clone()));
            body(range.clone(), w.slice(range), state);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two steps by hand on one parameter, w = 1, g = 0.5 then −0.25.
    #[test]
    fn momentum_follows_its_definition() {
        for (nesterov, expected) in [(false, 1.0_f64 - 0.1 * 0.5 - 0.1 * 0.2), (true, 1.0 - 0.1 * 0.95 - 0.1 * -0.07)] {
            let update = Update::Momentum { rate: 0.1, decay: 0.0, momentum: 0.9, nesterov };
            let (mut w, mut v) = ([1.0], [0.0]);
            update.apply(&mut w, &[0.5], &mut v, &mut []);
            update.apply(&mut w, &[-0.25], &mut v, &mut []);
            assert!((w[0] - expected).abs() < 1e-12, "{} against {expected}", w[0]);
        }
    }

    #[test]
    fn the_first_adam_step_is_the_rate_whatever_the_gradient() {
        for g in [1e-3, 1.0, 250.0] {
            let (beta1, beta2): (f64, f64) = (0.9, 0.999);
            let update = Update::Adam {
                rate: 0.01 / (1.0 - beta1),
                second_scale: 1.0 / (1.0 - beta2).sqrt(),
                decay: 0.0,
                shrink: 1.0,
                beta1,
                beta2,
                epsilon: 0.0,
            };
            let mut w = [2.0];
            update.apply(&mut w, &[g], &mut [0.0], &mut [0.0]);
            assert!((w[0] - 1.99).abs() < 1e-9);
        }
    }

    #[test]
    fn sgd_with_decay_pulls_towards_zero() {
        let mut w = [2.0];
        Update::Sgd { rate: 0.1, decay: 0.5 }.apply(&mut w, &[0.0], &mut [], &mut []);
        assert!((w[0] - 1.9f64).abs() < 1e-12);
    }
}
