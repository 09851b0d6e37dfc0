//! The transforms of Winograd's convolution with 3×3 kernels (Lavin, Gray 2016, "Fast algorithms for convolutional
//! neural networks"), built from Toom and Cook's points.
//!
//! F(4, 3) computes 4 outputs of a 3-tap filter by evaluating input and filter at 5 finite points and at infinity,
//! multiplying there, and interpolating. (F(2, 3) is more exact, but saves 2.25 of the multiplications instead of 4.)
//! Each transform here is one-dimensional; [`two_dimensions`] applies it along the rows of a square and then along the
//! columns that makes. An element is a register full of channels.

use crate::sparse::Vector;

/// Outputs along one side of a tile.
pub(super) const OUT: usize = 4;

/// Inputs along one side, and points of one dimension.
pub(super) const SIDE: usize = OUT + 2;

/// Points of two dimensions.
pub(super) const POINTS: usize = SIDE * SIDE;

/// The finite points are 0, ±P, ±Q. Near 0.6 and 1.5 rounding errors are smallest (a third of those at the textbook's
/// 1 and 2); both numbers are exact in binary.
const P: f64 = 0.625;
const Q: f64 = 1.5;
const P2: f64 = P * P;
const Q2: f64 = Q * Q;
/// One over the product of a point's distances to the other finite points.
const AT_0: f64 = 1.0 / (P2 * Q2);
const AT_P: f64 = 1.0 / (2.0 * P2 * (P2 - Q2));
const AT_Q: f64 = 1.0 / (2.0 * Q2 * (Q2 - P2));

/// A transform of one dimension, from A to B elements.
///
/// # Safety
/// The instruction set of the register must be available.
pub(super) trait Transform<const A: usize, const B: usize> {
    unsafe fn apply<T: crate::Real, V: Vector<T>>(from: [V; A]) -> [V; B];
}

/// `B × B` elements from `A × A`: `load(row, column)` gives them, `store(row, column, element)` takes them.
///
/// # Safety
/// The instruction set of `V` must be available.
#[inline(always)]
pub(super) unsafe fn two_dimensions<F, T, V, const A: usize, const B: usize>(
    load: impl Fn(usize, usize) -> V,
    mut store: impl FnMut(usize, usize, V),
) where
    F: Transform<A, B>,
    T: crate::Real,
    V: Vector<T>,
{
    // SAFETY: the set is available, by the caller's promise.
    unsafe {
        let mut rows = [[V::splat(T::zero()); B]; A];
        for (i, row) in rows.iter_mut().enumerate() {
            let mut from = [V::splat(T::zero()); A];
            for (j, from) in from.iter_mut().enumerate() {
                *from = load(i, j);
            }
            *row = F::apply::<T, V>(from);
        }
        for j in 0..B {
            let mut from = [V::splat(T::zero()); A];
            for (from, row) in from.iter_mut().zip(&rows) {
                *from = row[j];
            }
            for (i, element) in F::apply::<T, V>(from).into_iter().enumerate() {
                store(i, j, element);
            }
        }
    }
}

/// Inputs to values at the points (Bᵀ).
pub(super) struct Input;

impl Transform<SIDE, SIDE> for Input {
    #[inline(always)]
    unsafe fn apply<T: crate::Real, V: Vector<T>>([a, b, c, d, e, f]: [V; SIDE]) -> [V; SIDE] {
        // SAFETY: the set is available, by the caller's promise.
        unsafe {
            let of = |value| V::splat(T::of(value));
            let (minus_p2, minus_q2, minus_sum, product) = (of(-P2), of(-Q2), of(-(P2 + Q2)), of(P2 * Q2));
            let (odd_p, even_p) = (b.mul_add(minus_q2, d), c.mul_add(minus_q2, e));
            let (odd_q, even_q) = (b.mul_add(minus_p2, d), c.mul_add(minus_p2, e));
            [
                a.mul_add(product, c.mul_add(minus_sum, e)),
                odd_p.mul_add(of(P), even_p),
                odd_p.mul_add(of(-P), even_p),
                odd_q.mul_add(of(Q), even_q),
                odd_q.mul_add(of(-Q), even_q),
                b.mul_add(product, d.mul_add(minus_sum, f)),
            ]
        }
    }
}

/// Values at the points to outputs (Aᵀ).
pub(super) struct Output;

impl Transform<SIDE, OUT> for Output {
    #[inline(always)]
    unsafe fn apply<T: crate::Real, V: Vector<T>>([a, b, c, d, e, f]: [V; SIDE]) -> [V; OUT] {
        // SAFETY: the set is available, by the caller's promise.
        unsafe {
            let of = |value| V::splat(T::of(value));
            let (sum_p, difference_p, sum_q, difference_q) = (b.add(c), b.sub(c), d.add(e), d.sub(e));
            [
                a.add(sum_p.add(sum_q)),
                difference_p.mul_add(of(P), difference_q.mul(of(Q))),
                sum_p.mul_add(of(P2), sum_q.mul(of(Q2))),
                difference_p.mul_add(of(P * P2), difference_q.mul_add(of(Q * Q2), f)),
            ]
        }
    }
}

/// Gradients of outputs to gradients at the points (A, the adjoint of [`Output`]).
pub(super) struct OutputAdjoint;

impl Transform<OUT, SIDE> for OutputAdjoint {
    #[inline(always)]
    unsafe fn apply<T: crate::Real, V: Vector<T>>([a, b, c, d]: [V; OUT]) -> [V; SIDE] {
        // SAFETY: the set is available, by the caller's promise.
        unsafe {
            let of = |value| V::splat(T::of(value));
            let (odd_p, even_p) = (d.mul_add(of(P2), b), c.mul_add(of(P2), a));
            let (odd_q, even_q) = (d.mul_add(of(Q2), b), c.mul_add(of(Q2), a));
            [
                a,
                odd_p.mul_add(of(P), even_p),
                odd_p.mul_add(of(-P), even_p),
                odd_q.mul_add(of(Q), even_q),
                odd_q.mul_add(of(-Q), even_q),
                d,
            ]
        }
    }
}

/// Taps to values at the points (G).
pub(super) struct Weights;

impl Transform<3, SIDE> for Weights {
    #[inline(always)]
    unsafe fn apply<T: crate::Real, V: Vector<T>>([a, b, c]: [V; 3]) -> [V; SIDE] {
        // SAFETY: the set is available, by the caller's promise.
        unsafe {
            let of = |value| V::splat(T::of(value));
            let even_p = c.mul_add(of(AT_P * P2), a.mul(of(AT_P)));
            let even_q = c.mul_add(of(AT_Q * Q2), a.mul(of(AT_Q)));
            [
                a.mul(of(AT_0)),
                b.mul_add(of(AT_P * P), even_p),
                b.mul_add(of(-AT_P * P), even_p),
                b.mul_add(of(AT_Q * Q), even_q),
                b.mul_add(of(-AT_Q * Q), even_q),
                c,
            ]
        }
    }
}

/// Gradients at the points to gradients of the taps (Gᵀ, the adjoint of [`Weights`]).
pub(super) struct WeightsAdjoint;

impl Transform<SIDE, 3> for WeightsAdjoint {
    #[inline(always)]
    unsafe fn apply<T: crate::Real, V: Vector<T>>([a, b, c, d, e, f]: [V; SIDE]) -> [V; 3] {
        // SAFETY: the set is available, by the caller's promise.
        unsafe {
            let of = |value| V::splat(T::of(value));
            let (sum_p, difference_p, sum_q, difference_q) = (b.add(c), b.sub(c), d.add(e), d.sub(e));
            [
                sum_p.mul_add(of(AT_P), sum_q.mul_add(of(AT_Q), a.mul(of(AT_0)))),
                difference_p.mul_add(of(AT_P * P), difference_q.mul(of(AT_Q * Q))),
                sum_p.mul_add(of(AT_P * P2), sum_q.mul_add(of(AT_Q * Q2), f)),
            ]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sparse::Lanes;

    type Square = [[f64; SIDE]; SIDE];

    fn numbers(count: usize, seed: f64) -> Square {
        let mut square = [[0.0; SIDE]; SIDE];
        for (i, j) in (0..count).flat_map(|i| (0..count).map(move |j| (i, j))) {
            square[i][j] = (seed + (i * 31 + j * 7) as f64 * 0.77).sin();
        }
        square
    }

    fn transformed<F: Transform<A, B>, const A: usize, const B: usize>(from: &Square) -> Square {
        type V = <f64 as Lanes>::Portable;
        let mut to = [[0.0; SIDE]; SIDE];
        // SAFETY: every machine has the portable register, which is no wider than the array.
        unsafe {
            two_dimensions::<F, f64, V, A, B>(
                |i, j| V::splat(from[i][j]),
                |i, j, element| {
                    let mut lanes = [0.0; 8];
                    element.store(lanes.as_mut_ptr());
                    to[i][j] = lanes[0];
                },
            );
        }
        to
    }

    fn inner(a: &Square, b: &Square) -> f64 {
        a.iter().flatten().zip(b.iter().flatten()).map(|(a, b)| a * b).sum()
    }

    #[test]
    fn transforms_make_a_convolution() {
        let (x, w) = (numbers(SIDE, 0.1), numbers(3, 0.2));
        let (tx, tw) = (transformed::<Input, SIDE, SIDE>(&x), transformed::<Weights, 3, SIDE>(&w));
        let mut products = tx;
        products.iter_mut().flatten().zip(tw.iter().flatten()).for_each(|(x, w)| *x *= w);
        let y = transformed::<Output, SIDE, OUT>(&products);
        for (i, j) in (0..OUT).flat_map(|i| (0..OUT).map(move |j| (i, j))) {
            let plain: f64 = (0..9).map(|k| x[i + k / 3][j + k % 3] * w[k / 3][k % 3]).sum();
            assert!((y[i][j] - plain).abs() < 1e-13, "output {i}, {j}: {} against {plain}", y[i][j]);
        }
    }

    #[test]
    fn adjoints_are_adjoint() {
        let (m, g) = (numbers(SIDE, 0.3), numbers(OUT, 0.4));
        let left = inner(&transformed::<Output, SIDE, OUT>(&m), &g);
        let right = inner(&m, &transformed::<OutputAdjoint, OUT, SIDE>(&g));
        assert!((left - right).abs() < 1e-12, "{left} against {right}");
        let (w, g) = (numbers(3, 0.5), numbers(SIDE, 0.6));
        let left = inner(&transformed::<Weights, 3, SIDE>(&w), &g);
        let right = inner(&w, &transformed::<WeightsAdjoint, SIDE, 3>(&g));
        assert!((left - right).abs() < 1e-12, "{left} against {right}");
    }

    type Rows<T> = Vec<Vec<T>>;

    /// The matrix of a transform.
    fn matrix<F: Transform<A, B>, const A: usize, const B: usize>() -> Rows<f64> {
        type V = <f64 as Lanes>::Portable;
        let mut rows = vec![vec![0.0; A]; B];
        for column in 0..A {
            // SAFETY: every machine has the portable register, which is no wider than the array.
            unsafe {
                let unit = std::array::from_fn(|at| V::splat(if at == column { 1.0 } else { 0.0 }));
                for (row, element) in rows.iter_mut().zip(F::apply::<f64, V>(unit)) {
                    let mut lanes = [0.0; 8];
                    element.store(lanes.as_mut_ptr());
                    row[column] = lanes[0];
                }
            }
        }
        rows
    }

    /// M · X · Mᵀ in f32.
    fn around(m: &Rows<f64>, x: &Rows<f32>) -> Rows<f32> {
        let times = |x: &Rows<f32>| -> Rows<f32> {
            let columns = 0..x[0].len();
            let dot = |row: &Vec<f64>, j: usize| row.iter().zip(x).map(|(m, x)| *m as f32 * x[j]).sum();
            // Transposed: so that a second call multiplies from the other side.
            columns.map(|j| m.iter().map(|row| dot(row, j)).collect()).collect()
        };
        times(&times(x))
    }

    /// The largest error of one tile in f32 over 64 channels, relative to the largest output, over many tiles.
    fn error([input, weights, output]: [&Rows<f64>; 3]) -> f64 {
        let mut seed = 1u32;
        let mut draw = |side: usize| -> Rows<f32> {
            let mut number = || {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (seed >> 8) as f32 / (1 << 24) as f32 - 0.5
            };
            (0..side).map(|_| (0..side).map(|_| number()).collect()).collect()
        };
        let (side, out) = (input.len(), output.len());
        let (mut most, mut largest) = (0.0f64, 0.0f64);
        for _ in 0..40 {
            let mut products = vec![vec![0.0f32; side]; side];
            let mut exact = vec![vec![0.0f64; out]; out];
            for _ in 0..64 {
                let (x, w) = (draw(side), draw(3));
                let (tx, tw) = (around(input, &x), around(weights, &w));
                for (i, j) in (0..side).flat_map(|i| (0..side).map(move |j| (i, j))) {
                    products[i][j] += tx[i][j] * tw[i][j];
                }
                for (i, j) in (0..out).flat_map(|i| (0..out).map(move |j| (i, j))) {
                    exact[i][j] +=
                        (0..9).map(|k| f64::from(x[i + k / 3][j + k % 3]) * f64::from(w[k / 3][k % 3])).sum::<f64>();
                }
            }
            for (found, exact) in around(output, &products).iter().flatten().zip(exact.iter().flatten()) {
                most = most.max((f64::from(*found) - exact).abs());
                largest = largest.max(exact.abs());
            }
        }
        most / largest
    }

    /// What tiles of four and their points cost in accuracy, and what they would cost at the textbook's points.
    #[test]
    fn points_near_one_keep_the_error_of_large_tiles_small() {
        let rows = |rows: &[&[f64]]| -> Rows<f64> { rows.iter().map(|row| row.to_vec()).collect() };
        // F(2, 3) at 0, ±1, and F(4, 3) at 0, ±1, ±2 (Lavin, Gray 2016).
        let small = error([
            &rows(&[&[1., 0., -1., 0.], &[0., 1., 1., 0.], &[0., -1., 1., 0.], &[0., 1., 0., -1.]]),
            &rows(&[&[1., 0., 0.], &[0.5, 0.5, 0.5], &[0.5, -0.5, 0.5], &[0., 0., 1.]]),
            &rows(&[&[1., 1., 1., 0.], &[0., 1., -1., -1.]]),
        ]);
        let textbook = error([
            &rows(&[
                &[4., 0., -5., 0., 1., 0.],
                &[0., -4., -4., 1., 1., 0.],
                &[0., 4., -4., -1., 1., 0.],
                &[0., -2., -1., 2., 1., 0.],
                &[0., 2., -1., -2., 1., 0.],
                &[0., 4., 0., -5., 0., 1.],
            ]),
            &rows(&[
                &[1. / 4., 0., 0.],
                &[-1. / 6., -1. / 6., -1. / 6.],
                &[-1. / 6., 1. / 6., -1. / 6.],
                &[1. / 24., 1. / 12., 1. / 6.],
                &[1. / 24., -1. / 12., 1. / 6.],
                &[0., 0., 1.],
            ]),
            &rows(&[
                &[1., 1., 1., 1., 1., 0.],
                &[0., 1., -1., 2., -2., 0.],
                &[0., 1., 1., 4., 4., 0.],
                &[0., 1., -1., 8., -8., 1.],
            ]),
        ]);
        let ours =
            error([&matrix::<Input, SIDE, SIDE>(), &matrix::<Weights, 3, SIDE>(), &matrix::<Output, SIDE, OUT>()]);
        println!("F(2×2): {small:.1e}, F(4×4): {ours:.1e}, at the textbook's points: {textbook:.1e}");
        assert!(small < ours && ours < textbook / 1.5, "{small}, {ours}, {textbook}");
        assert!(ours < 3e-6, "{ours}");
    }
}
