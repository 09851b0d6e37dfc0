//! Activations: y = f(z), and gradients through them.

use crate::isa::vectorize;
use crate::real::Real;

/// An elementwise function between linear maps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Activation<T> {
    /// y = z.
    Identity,
    /// y = max(z, 0); the derivative at 0 is 0.
    Relu,
    /// y = z for z > 0, slope · z otherwise; the slope is above 0.
    LeakyRelu(T),
    /// y = tanh z.
    Tanh,
    /// y = 1 / (1 + e^-z).
    Sigmoid,
    /// y = z · Φ(z) with the normal distribution function Φ (the exact form, by erf).
    Gelu,
}

impl<T: Real> Activation<T> {
    /// Whether the derivative can be told from y alone, so that z need not be kept.
    pub fn from_output(self) -> bool {
        match self {
            Activation::Identity
            | Activation::Relu
            | Activation::LeakyRelu(_)
            | Activation::Tanh
            | Activation::Sigmoid => true,
            Activation::Gelu => false,
        }
    }

    /// z ← f(z). NaN stays NaN.
    #[inline(always)]
    pub fn apply(self, z: &mut [T]) {
        let zero = T::zero();
        match self {
            Activation::Identity => {}
            Activation::Relu => z.iter_mut().for_each(|v| *v = if *v < zero { zero } else { *v }),
            Activation::LeakyRelu(slope) => z.iter_mut().for_each(|v| *v = if *v < zero { *v * slope } else { *v }),
            Activation::Tanh => z.iter_mut().for_each(|v| *v = v.tanh_fast()),
            Activation::Sigmoid => z.iter_mut().for_each(|v| *v = sigmoid(*v)),
            Activation::Gelu => z.iter_mut().for_each(|v| *v *= normal_distribution(*v)),
        }
    }

    /// g ← g · f'(z), told from y = f(z).
    ///
    /// # Panics
    /// For an activation whose derivative needs z ([`Activation::from_output`] is false).
    #[inline(always)]
    pub fn backward_from_output(self, y: &[T], g: &mut [T]) {
        assert_eq!(y.len(), g.len());
        let (zero, one) = (T::zero(), T::one());
        let pairs = g.iter_mut().zip(y);
        match self {
            Activation::Identity => {}
            Activation::Relu => pairs.for_each(|(g, y)| *g = if *y > zero { *g } else { zero }),
            Activation::LeakyRelu(slope) => pairs.for_each(|(g, y)| *g = if *y > zero { *g } else { *g * slope }),
            Activation::Tanh => pairs.for_each(|(g, y)| *g *= one - *y * *y),
            Activation::Sigmoid => pairs.for_each(|(g, y)| *g *= *y * (one - *y)),
            Activation::Gelu => panic!("gelu needs its input to give a gradient"),
        }
    }

    /// g ← g · f'(z), told from z.
    #[inline(always)]
    pub fn backward_from_input(self, z: &[T], g: &mut [T]) {
        assert_eq!(z.len(), g.len());
        let one = T::one();
        let pairs = g.iter_mut().zip(z);
        match self {
            // Signs of z and y agree, so the same masks serve.
            Activation::Identity | Activation::Relu | Activation::LeakyRelu(_) => self.backward_from_output(z, g),
            Activation::Tanh => pairs.for_each(|(g, z)| {
                let y = z.tanh_fast();
                *g *= one - y * y;
            }),
            Activation::Sigmoid => pairs.for_each(|(g, z)| {
                let y = sigmoid(*z);
                *g *= y * (one - y);
            }),
            Activation::Gelu => pairs.for_each(|(g, z)| *g *= normal_distribution(*z) + *z * normal_density(*z)),
        }
    }
}

/// y = f(z) over whole slices, vectorised.
pub fn forward<T: Real>(activation: Activation<T>, z: &[T], y: &mut [T]) {
    y.copy_from_slice(z);
    vectorize(
        #[inline(always)]
        || activation.apply(y),
    );
}

/// gz = gy · f'(z) over whole slices, vectorised.
pub fn backward<T: Real>(activation: Activation<T>, z: &[T], gy: &[T], gz: &mut [T]) {
    gz.copy_from_slice(gy);
    vectorize(
        #[inline(always)]
        || activation.backward_from_input(z, gz),
    );
}

/// 1 / (1 + e^-z).
#[inline(always)]
pub fn sigmoid<T: Real>(z: T) -> T {
    T::one() / (T::one() + (-z).exp_fast())
}

/// Φ(z), the distribution function of the standard normal.
#[inline(always)]
pub fn normal_distribution<T: Real>(z: T) -> T {
    T::of(0.5) * (T::one() + (z * T::of(std::f64::consts::FRAC_1_SQRT_2)).erf_fast())
}

/// φ(z), the density of the standard normal.
#[inline(always)]
pub fn normal_density<T: Real>(z: T) -> T {
    T::of(0.398_942_280_401_432_7) * (T::of(-0.5) * z * z).exp_fast()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::{Isa, vectorize_for};

    fn all<T: Real>() -> [Activation<T>; 6] {
        use Activation::*;
        [Identity, Relu, LeakyRelu(T::of(0.1)), Tanh, Sigmoid, Gelu]
    }

    #[test]
    fn derivatives_agree_with_finite_differences() {
        let h = 1e-6;
        for activation in all::<f64>() {
            for z in [-2.1, -0.7, -0.01, 0.02, 0.9, 3.0] {
                let f = |z: f64| {
                    let mut v = [z];
                    activation.apply(&mut v);
                    v[0]
                };
                let slope = (f(z + h) - f(z - h)) / (2.0 * h);
                let mut g = [1.0];
                activation.backward_from_input(&[z], &mut g);
                assert!((g[0] - slope).abs() < 1e-8, "{activation:?} at {z}: {} against {slope}", g[0]);
                if activation.from_output() {
                    let mut g = [1.0];
                    activation.backward_from_output(&[f(z)], &mut g);
                    assert!((g[0] - slope).abs() < 1e-8, "{activation:?} from output at {z}");
                }
            }
        }
    }

    #[test]
    fn every_instruction_set_gives_the_same_bits_at_every_length() {
        for activation in all::<f32>() {
            for length in 0..=67 {
                let z: Vec<f32> = (0..length).map(|i| (i as f32 * 0.37).sin() * 3.0).collect();
                let run = |isa| {
                    let mut y = z.clone();
                    vectorize_for(isa, || activation.apply(&mut y));
                    let mut g = vec![1.5; length];
                    vectorize_for(isa, || activation.backward_from_input(&z, &mut g));
                    (y, g)
                };
                let plain = run(Isa::Portable);
                for isa in Isa::ALL.into_iter().filter(|isa| isa.available()) {
                    assert_eq!(run(isa), plain, "{activation:?} {} length {length}", isa.name());
                }
            }
        }
    }

    #[test]
    fn not_a_number_stays_visible() {
        for activation in all::<f32>() {
            let mut z = [f32::NAN];
            activation.apply(&mut z);
            assert!(z[0].is_nan(), "{activation:?}");
        }
    }
}
