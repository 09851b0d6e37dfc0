//! The transforms of Winograd's convolution with 3×3 kernels (Lavin, Gray 2016, "Fast algorithms for convolutional
//! neural networks"), built from Toom and Cook's points.
//!
//! F(4, 3) computes 4 outputs of a 3-tap filter by evaluating input and filter at 5 finite points and at infinity,
//! multiplying there, and interpolating. (F(2, 3) is half as exact again, but was measured no faster than patches.) Each transform here is one-dimensional, in place, on `step`-spaced elements of
//! a square tile; a square tile is transformed along its rows, then along its columns. One element is a vector of
//! [`LANES`] channels, so that every loop runs over contiguous numbers.

use crate::real::Real;

/// Channels transformed together: one 512-bit vector of `f32`.
pub(super) const LANES: usize = 16;

/// Outputs along one side of a tile.
pub(super) const OUT: usize = 4;

/// Inputs along one side, and points of one dimension.
pub(super) const SIDE: usize = OUT + 2;

/// Elements of a tile, and points of two dimensions.
pub(super) const POINTS: usize = SIDE * SIDE;

/// One tile of [`LANES`] channels, row after row; smaller squares use its upper left corner.
pub(super) type Tile<T> = [[T; LANES]; POINTS];

/// a · b + c: in one rounding where the machine has the instruction (a call of a library function elsewhere).
#[inline(always)]
fn multiply_add<T: Real, const FUSED: bool>(a: T, b: T, c: T) -> T {
    if FUSED { a.mul_add(b, c) } else { a * b + c }
}

/// Which of the five transforms.
#[derive(Clone, Copy)]
pub(super) enum Side {
    Input,
    Output,
    Weights,
    OutputAdjoint,
    WeightsAdjoint,
}

/// Transforms a whole square tile: `side` along the rows it has, then along the columns that makes.
///
/// Plain loops, because the closures of `for_each` are not inlined into code compiled for the machine's vectors.
#[inline(always)]
pub(super) fn transform<T: Real, const FUSED: bool>(side: Side, tile: &mut Tile<T>) {
    match side {
        Side::Input => {
            for row in 0..SIDE {
                input::<T, FUSED>(tile, row * SIDE, 1);
            }
            for column in 0..SIDE {
                input::<T, FUSED>(tile, column, SIDE);
            }
        }
        Side::Output => {
            for row in 0..SIDE {
                output::<T, FUSED>(tile, row * SIDE, 1);
            }
            for column in 0..OUT {
                output::<T, FUSED>(tile, column, SIDE);
            }
        }
        Side::Weights => {
            for row in 0..3 {
                weights::<T, FUSED>(tile, row * SIDE, 1);
            }
            for column in 0..SIDE {
                weights::<T, FUSED>(tile, column, SIDE);
            }
        }
        Side::OutputAdjoint => {
            for row in 0..OUT {
                output_adjoint::<T, FUSED>(tile, row * SIDE, 1);
            }
            for column in 0..SIDE {
                output_adjoint::<T, FUSED>(tile, column, SIDE);
            }
        }
        Side::WeightsAdjoint => {
            for row in 0..SIDE {
                weights_adjoint::<T, FUSED>(tile, row * SIDE, 1);
            }
            for column in 0..3 {
                weights_adjoint::<T, FUSED>(tile, column, SIDE);
            }
        }
    }
}

/// Reads elements of a tile, then writes those that the expressions make of one lane of each.
macro_rules! each_lane {
    ($tile:ident, $at:ident, $step:ident, [$($name:ident = $index:literal),+] => [$($out:literal: $value:expr),+]) => {
        $(let $name = $tile[$at + $index * $step];)+
        for lane in 0..LANES {
            $(let $name = $name[lane];)+
            $($tile[$at + $out * $step][lane] = $value;)+
        }
    };
}

/// The finite points are 0, ±P, ±Q. Near 0.6 and 1.5 rounding errors are smallest (a third of those at the textbook's
/// 1 and 2); both numbers are exact in binary.
const P: f64 = 0.625;
const Q: f64 = 1.5;
const P2: f64 = P * P;
const Q2: f64 = Q * Q;
/// The products of a point's distances to the other finite points.
const AT_0: f64 = 1.0 / (P2 * Q2);
const AT_P: f64 = 1.0 / (2.0 * P2 * (P2 - Q2));
const AT_Q: f64 = 1.0 / (2.0 * Q2 * (Q2 - P2));

/// SIDE inputs to SIDE values at the points (Bᵀ).
#[inline(always)]
fn input<T: Real, const FUSED: bool>(tile: &mut Tile<T>, at: usize, step: usize) {
    let of = T::of;
    let (p, q, minus_p, minus_q) = (of(P), of(Q), of(-P), of(-Q));
    let (minus_p2, minus_q2, minus_sum, product) = (of(-P2), of(-Q2), of(-(P2 + Q2)), of(P2 * Q2));
    each_lane!(tile, at, step, [a = 0, b = 1, c = 2, d = 3, e = 4, f = 5] => [
        0: multiply_add::<T, FUSED>(product, a, multiply_add::<T, FUSED>(minus_sum, c, e)),
        1: multiply_add::<T, FUSED>(
            p, multiply_add::<T, FUSED>(minus_q2, b, d), multiply_add::<T, FUSED>(minus_q2, c, e)
        ),
        2: multiply_add::<T, FUSED>(
            minus_p, multiply_add::<T, FUSED>(minus_q2, b, d), multiply_add::<T, FUSED>(minus_q2, c, e)
        ),
        3: multiply_add::<T, FUSED>(
            q, multiply_add::<T, FUSED>(minus_p2, b, d), multiply_add::<T, FUSED>(minus_p2, c, e)
        ),
        4: multiply_add::<T, FUSED>(
            minus_q, multiply_add::<T, FUSED>(minus_p2, b, d), multiply_add::<T, FUSED>(minus_p2, c, e)
        ),
        5: multiply_add::<T, FUSED>(product, b, multiply_add::<T, FUSED>(minus_sum, d, f))
    ]);
}

/// SIDE values at the points to OUT outputs (Aᵀ).
#[inline(always)]
fn output<T: Real, const FUSED: bool>(tile: &mut Tile<T>, at: usize, step: usize) {
    let of = T::of;
    let (p, q, p2, q2, p3, q3) = (of(P), of(Q), of(P2), of(Q2), of(P * P2), of(Q * Q2));
    each_lane!(tile, at, step, [a = 0, b = 1, c = 2, d = 3, e = 4, f = 5] => [
        0: a + ((b + c) + (d + e)),
        1: multiply_add::<T, FUSED>(p, b - c, q * (d - e)),
        2: multiply_add::<T, FUSED>(p2, b + c, q2 * (d + e)),
        3: multiply_add::<T, FUSED>(p3, b - c, multiply_add::<T, FUSED>(q3, d - e, f))
    ]);
}

/// 3 taps to SIDE values at the points (G).
#[inline(always)]
fn weights<T: Real, const FUSED: bool>(tile: &mut Tile<T>, at: usize, step: usize) {
    let of = T::of;
    let (zero, p0, p1, p2) = (of(AT_0), of(AT_P), of(AT_P * P), of(AT_P * P2));
    let (q0, q1, q2) = (of(AT_Q), of(AT_Q * Q), of(AT_Q * Q2));
    each_lane!(tile, at, step, [a = 0, b = 1, c = 2] => [
        0: zero * a,
        1: multiply_add::<T, FUSED>(p1, b, multiply_add::<T, FUSED>(p2, c, p0 * a)),
        2: multiply_add::<T, FUSED>(-p1, b, multiply_add::<T, FUSED>(p2, c, p0 * a)),
        3: multiply_add::<T, FUSED>(q1, b, multiply_add::<T, FUSED>(q2, c, q0 * a)),
        4: multiply_add::<T, FUSED>(-q1, b, multiply_add::<T, FUSED>(q2, c, q0 * a)),
        5: c
    ]);
}

/// OUT gradients to SIDE gradients at the points (A, the adjoint of `output`).
#[inline(always)]
fn output_adjoint<T: Real, const FUSED: bool>(tile: &mut Tile<T>, at: usize, step: usize) {
    let of = T::of;
    let (p, q, minus_p, minus_q, p2, q2) = (of(P), of(Q), of(-P), of(-Q), of(P2), of(Q2));
    each_lane!(tile, at, step, [a = 0, b = 1, c = 2, d = 3] => [
        0: a,
        1: multiply_add::<T, FUSED>(p, multiply_add::<T, FUSED>(p2, d, b), multiply_add::<T, FUSED>(p2, c, a)),
        2: multiply_add::<T, FUSED>(
            minus_p, multiply_add::<T, FUSED>(p2, d, b), multiply_add::<T, FUSED>(p2, c, a)
        ),
        3: multiply_add::<T, FUSED>(q, multiply_add::<T, FUSED>(q2, d, b), multiply_add::<T, FUSED>(q2, c, a)),
        4: multiply_add::<T, FUSED>(
            minus_q, multiply_add::<T, FUSED>(q2, d, b), multiply_add::<T, FUSED>(q2, c, a)
        ),
        5: d
    ]);
}

/// SIDE gradients at the points to those of 3 taps (Gᵀ, the adjoint of `weights`).
#[inline(always)]
fn weights_adjoint<T: Real, const FUSED: bool>(tile: &mut Tile<T>, at: usize, step: usize) {
    let of = T::of;
    let (zero, p0, p1, p2) = (of(AT_0), of(AT_P), of(AT_P * P), of(AT_P * P2));
    let (q0, q1, q2) = (of(AT_Q), of(AT_Q * Q), of(AT_Q * Q2));
    each_lane!(tile, at, step, [a = 0, b = 1, c = 2, d = 3, e = 4, f = 5] => [
        0: multiply_add::<T, FUSED>(p0, b + c, multiply_add::<T, FUSED>(q0, d + e, zero * a)),
        1: multiply_add::<T, FUSED>(p1, b - c, q1 * (d - e)),
        2: multiply_add::<T, FUSED>(p2, b + c, multiply_add::<T, FUSED>(q2, d + e, f))
    ]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(count: usize, side: usize, seed: f64) -> Tile<f64> {
        let mut tile = [[0.0; LANES]; POINTS];
        for i in 0..count {
            for j in 0..count {
                for lane in 0..LANES {
                    tile[i * side + j][lane] = (seed + (i * 31 + j * 7 + lane) as f64 * 0.77).sin();
                }
            }
        }
        tile
    }

    fn inner(a: &Tile<f64>, b: &Tile<f64>, count: usize, side: usize) -> f64 {
        let cells = (0..count * count).map(|k| k / count * side + k % count);
        cells.map(|cell| a[cell].iter().zip(&b[cell]).map(|(a, b)| a * b).sum::<f64>()).sum()
    }

    fn check<const FUSED: bool>() {
        let n = SIDE;
        let (x, w) = (numbers(n, n, 0.1), numbers(3, n, 0.2));
        let (mut tx, mut tw) = (x, w);
        transform::<f64, FUSED>(Side::Input, &mut tx);
        transform::<f64, FUSED>(Side::Weights, &mut tw);
        let mut y = [[0.0; LANES]; POINTS];
        for (cell, y) in y.iter_mut().enumerate() {
            for (lane, y) in y.iter_mut().enumerate() {
                *y = tx[cell][lane] * tw[cell][lane];
            }
        }
        transform::<f64, FUSED>(Side::Output, &mut y);
        for i in 0..OUT {
            for j in 0..OUT {
                for lane in 0..LANES {
                    let cells = (0..9).map(|k| (k / 3, k % 3));
                    let plain: f64 = cells.map(|(r, c)| x[(i + r) * n + j + c][lane] * w[r * n + c][lane]).sum();
                    assert!((y[i * n + j][lane] - plain).abs() < 1e-13, "output {i}, {j}");
                }
            }
        }
        // <A m, g> = <m, Aᵀ g>, and the same for the weights.
        for (side, adjoint, from, to) in
            [(Side::Output, Side::OutputAdjoint, n, OUT), (Side::Weights, Side::WeightsAdjoint, 3, n)]
        {
            let (m, g) = (numbers(from, n, 0.3), numbers(to, n, 0.4));
            let (mut forward, mut backward) = (m, g);
            transform::<f64, FUSED>(side, &mut forward);
            transform::<f64, FUSED>(adjoint, &mut backward);
            let (left, right) = (inner(&forward, &g, to, n), inner(&m, &backward, from, n));
            assert!((left - right).abs() < 1e-12, "{left} against {right}");
        }
    }

    #[test]
    fn transforms_make_a_convolution_and_its_adjoints() {
        check::<false>();
        check::<true>();
    }
}
