//! Elementary functions for `f32` without branches, so that loops over them vectorise.

/// eˣ: argument reduction by ln 2 in two parts, then a polynomial of degree 7; below 2 units in the last place.
/// Saturates at the largest and smallest normal numbers; NaN stays NaN.
#[inline(always)]
pub fn exp_f32(x: f32) -> f32 {
    const HIGH: f32 = 88.722_83;
    const LOW: f32 = -87.336_54;
    // Adding and subtracting 1.5 · 2²³ rounds to the nearest whole number without an instruction for it.
    const ROUND: f32 = 12_582_912.0;
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let x = if x > HIGH { HIGH } else { x };
    let x = if x < LOW { LOW } else { x };
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let whole = shifted - ROUND;
    let r = x - whole * LN2_HIGH - whole * LN2_LOW;
    // Minimax coefficients of the Cephes library for (eʳ − 1 − r) / r².
    let mut p = 1.987_569_1e-4_f32;
    p = p * r + 1.398_2e-3;
    p = p * r + 8.333_452e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 1.666_666_5e-1;
    p = p * r + 5e-1;
    let p = p * (r * r) + r + 1.0;
    // The low bits of `shifted` are the whole number; two factors keep 2¹²⁸ representable.
    let n = (shifted.to_bits() as i32) - (ROUND.to_bits() as i32);
    let half = n >> 1;
    let scale = |e: i32| f32::from_bits(((e + 127) << 23) as u32);
    p * scale(half) * scale(n - half)
}

/// ln x of a positive normal number, by the polynomial of the Cephes library around 1; NaN stays NaN.
#[inline(always)]
pub fn ln_f32(x: f32) -> f32 {
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    // x = 2ᵉ m with m from √½ to √2.
    const ROOT_HALF: u32 = std::f32::consts::FRAC_1_SQRT_2.to_bits();
    let bits = x.to_bits().wrapping_sub(ROOT_HALF);
    let e = ((bits as i32) >> 23) as f32;
    let r = f32::from_bits((bits & 0x007f_ffff) + ROOT_HALF) - 1.0;
    let s = r * r;
    let mut p = 7.037_684e-2_f32;
    p = p * r - 1.151_461e-1;
    p = p * r + 1.167_699_9e-1;
    p = p * r - 1.242_014_1e-1;
    p = p * r + 1.424_932_3e-1;
    p = p * r - 1.666_805_8e-1;
    p = p * r + 2.000_071_5e-1;
    p = p * r - 2.499_999_4e-1;
    p = p * r + 3.333_333e-1;
    let value = r + (r * s * p + e * LN2_LOW - 0.5 * s) + e * LN2_HIGH;
    if x.is_nan() { x } else { value }
}

/// tanh x: through e^(-2|x|), and by its series near zero where that form would cancel.
#[inline(always)]
pub fn tanh_f32(x: f32) -> f32 {
    let a = x.abs();
    let t = exp_f32(-2.0 * a);
    let far = ((1.0 - t) / (1.0 + t)).copysign(x);
    let s = x * x;
    let near = x * (1.0 + s * (-0.333_333_34 + s * (0.133_333_34 + s * (-5.396_825_4e-2 + s * 2.186_948_8e-2))));
    let value = if a < 0.25 { near } else { far };
    // `copysign` would lose a NaN's place in the select above on some targets; keep it explicit.
    if x.is_nan() { x } else { value }
}

/// The error function by the rational form 7.1.26 of Abramowitz and Stegun: 1.5e-7 absolute, and rounding.
#[inline(always)]
pub fn erf_f32(x: f32) -> f32 {
    let a = x.abs();
    let t = 1.0 / (1.0 + 0.327_591_1 * a);
    let p = t * (0.254_829_6 + t * (-0.284_496_72 + t * (1.421_413_8 + t * (-1.453_152_1 + t * 1.061_405_4))));
    (1.0 - p * exp_f32(-a * a)).copysign(x)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sweep(low: f32, high: f32) -> impl Iterator<Item = f32> {
        (0..=20_000).map(move |i| low + (high - low) * i as f32 / 20_000.0)
    }

    #[test]
    fn exp_is_within_2e_7_relative() {
        for x in sweep(-87.0, 88.0) {
            let (found, exact) = (f64::from(exp_f32(x)), f64::from(x).exp());
            assert!((found / exact - 1.0).abs() < 2e-7, "exp({x}) = {found}, not {exact}");
        }
        assert_eq!(exp_f32(0.0), 1.0);
        assert!(exp_f32(f32::NAN).is_nan());
        assert!(exp_f32(1e30).is_finite() && exp_f32(f32::NEG_INFINITY) < 1.2e-38);
    }

    #[test]
    fn ln_is_within_2e_7_relative_or_absolute() {
        for x in sweep(0.01, 4.0).chain(sweep(1.0, 1e6)).chain([f32::MIN_POSITIVE, f32::MAX]) {
            let (found, exact) = (f64::from(ln_f32(x)), f64::from(x).ln());
            assert!((found - exact).abs() < 2e-7 * exact.abs().max(1.0), "ln({x}) = {found}, not {exact}");
        }
        assert_eq!(ln_f32(1.0), 0.0);
        assert!(ln_f32(f32::NAN).is_nan());
    }

    #[test]
    fn tanh_is_within_3e_7_relative() {
        for x in sweep(-10.0, 10.0).chain(sweep(-0.3, 0.3)).filter(|x| *x != 0.0) {
            let (found, exact) = (f64::from(tanh_f32(x)), f64::from(x).tanh());
            assert!((found / exact - 1.0).abs() < 3e-7, "tanh({x}) = {found}, not {exact}");
        }
        assert!(tanh_f32(f32::NAN).is_nan());
        assert_eq!((tanh_f32(0.0), tanh_f32(100.0), tanh_f32(-100.0)), (0.0, 1.0, -1.0));
    }

    #[test]
    fn erf_is_within_5e_7_absolute() {
        for x in sweep(-5.0, 5.0) {
            assert!((f64::from(erf_f32(x)) - libm::erf(f64::from(x))).abs() < 5e-7, "erf({x})");
        }
    }
}
