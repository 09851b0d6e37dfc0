//! Two linear layers in a row, trained without their hidden width.
//!
//! For y = x · W₁ · W₂ (W₁ inputs × hidden, W₂ hidden × outputs) gradient descent on W₁ and W₂ changes three products by a rule
//! in which the hidden width does not appear: V = W₁ · W₂, A = W₁ · W₁ᵀ and B = W₂ᵀ · W₂. With G = xᵀ · g, the rate η, the share
//! c = 1 − η · decay that weight decay leaves, and old values on the right:
//!
//! ```text
//! V ← c² V − c η (A G + G B) + η² G Vᵀ G
//! A ← c² A − c η (V Gᵀ + G Vᵀ) + η² G B Gᵀ
//! B ← c² B − c η (Gᵀ V + Vᵀ G) + η² Gᵀ A G
//! ```

use crate::gemm::{Matrix, gemm_into};
use crate::gram::{gram, shrink};
use crate::isa::vectorize;
use crate::par::{self, Par, Shared};
use crate::real::Real;

/// Rows of a result that one task computes.
const ROWS: usize = 64;

/// The three products; A and B are symmetric to the last bit.
pub struct Products<'a, T> {
    /// V = W₁ · W₂: inputs × outputs.
    pub product: &'a mut [T],
    /// A = W₁ · W₁ᵀ: inputs × inputs.
    pub left: &'a mut [T],
    /// B = W₂ᵀ · W₂: outputs × outputs.
    pub right: &'a mut [T],
}

/// Scratch elements that the functions here need.
pub fn scratch_elements(inputs: usize, outputs: usize) -> usize {
    4 * inputs * outputs + outputs * outputs
}

/// c (+)= alpha · a · b, in blocks of rows.
fn product<T: Real>(
    par: Par,
    alpha: T,
    (a, b): (Matrix<T>, Matrix<T>),
    (m, n): (usize, usize),
    add: bool,
    c: &mut [T],
) {
    assert_eq!(c.len(), m * n);
    let c = Shared::new(c);
    par.each(m.div_ceil(ROWS), |index| {
        let r = par::block(index, m, ROWS);
        // SAFETY: blocks of rows are disjoint.
        unsafe { gemm_into(alpha, a.rows(r.start, r.end), b, add, c.at(r.start * n), n, 1) };
    });
}

/// The three products of two layers: `w1` is inputs × hidden, `w2` hidden × outputs.
pub fn collapse<T: Real>(
    par: Par,
    (inputs, hidden, outputs): (usize, usize, usize),
    w1: &[T],
    w2: &[T],
    into: Products<T>,
) {
    let Products { product: v, left, right } = into;
    let (one, two) = (Matrix::new(w1, inputs, hidden), Matrix::new(w2, hidden, outputs));
    product(par, T::one(), (one, two), (inputs, outputs), false, v);
    gram(par, w1, inputs, hidden, left);
    product(par, T::one(), (two.t(), two), (outputs, outputs), false, right);
    mirror(right, outputs);
}

/// Squared norms of the gradients of W₁ and W₂ together: tr(Gᵀ A G) + tr(G B Gᵀ).
pub fn squared_norm<T: Real>(
    par: Par,
    (inputs, outputs): (usize, usize),
    g: &[T],
    (left, right): (&[T], &[T]),
    scratch: &mut [T],
) -> f64 {
    let par = par.for_work(2 * inputs * outputs * (inputs + outputs));
    let (ag, rest) = scratch.split_at_mut(inputs * outputs);
    let gb = &mut rest[..inputs * outputs];
    let gradient = Matrix::new(g, inputs, outputs);
    product(par, T::one(), (Matrix::new(left, inputs, inputs), gradient), (inputs, outputs), false, ag);
    product(par, T::one(), (gradient, Matrix::new(right, outputs, outputs)), (inputs, outputs), false, gb);
    // Rounding may leave a tiny negative sum where the gradient is 0.
    (crate::reduce::dot(g, ag).wide() + crate::reduce::dot(g, gb).wide()).max(0.0)
}

/// One step. `g` is the gradient of the product, inputs × outputs; `shrink_by` is c above; `scratch` has [`scratch_elements`].
pub fn pair_step<T: Real>(
    par: Par,
    (inputs, outputs): (usize, usize),
    g: &[T],
    (rate, shrink_by): (T, T),
    state: Products<T>,
    scratch: &mut [T],
) {
    let Products { product: v, left, right } = state;
    let size = inputs * outputs;
    assert_eq!((g.len(), v.len()), (size, size));
    assert_eq!((left.len(), right.len()), (inputs * inputs, outputs * outputs));
    let par = par.for_work(2 * size * (3 * inputs + 4 * outputs));
    let (ag, rest) = scratch.split_at_mut(size);
    let (gb, rest) = rest.split_at_mut(size);
    let (left_part, rest) = rest.split_at_mut(size);
    let (right_part, rest) = rest.split_at_mut(size);
    let vg = &mut rest[..outputs * outputs];
    let (across, down, inner) = ((inputs, outputs), (inputs, inputs), (outputs, outputs));
    let gradient = Matrix::new(g, inputs, outputs);

    // What all three need, from old values: A G, G B, Vᵀ G.
    product(par, T::one(), (Matrix::new(left, inputs, inputs), gradient), across, false, ag);
    product(par, T::one(), (gradient, Matrix::new(right, outputs, outputs)), across, false, gb);
    product(par, T::one(), (Matrix::new(v, inputs, outputs).t(), gradient), inner, false, vg);
    let (first, second) = (shrink_by * rate, rate * rate);
    vectorize(|| {
        for ((((left, right), ag), gb), v) in left_part.iter_mut().zip(&mut *right_part).zip(&*ag).zip(&*gb).zip(&*v) {
            *left = second * *gb - first * *v;
            *right = second * *ag - first * *v;
        }
    });
    // A ← c² A + G · (η² G B − c η V)ᵀ − c η V Gᵀ, and B the other way round.
    let keep = shrink_by * shrink_by;
    shrink(left, keep);
    product(par, T::one(), (gradient, Matrix::new(left_part, inputs, outputs).t()), down, true, left);
    product(par, -first, (Matrix::new(v, inputs, outputs), gradient.t()), down, true, left);
    mirror(left, inputs);
    shrink(right, keep);
    product(par, T::one(), (Matrix::new(right_part, inputs, outputs).t(), gradient), inner, true, right);
    for (at, right) in right.iter_mut().enumerate() {
        // Gᵀ V is the transpose of Vᵀ G.
        *right -= first * vg[at % outputs * outputs + at / outputs];
    }
    mirror(right, outputs);
    vectorize(|| {
        for ((v, ag), gb) in v.iter_mut().zip(&*ag).zip(&*gb) {
            *v = keep * *v - first * (*ag + *gb);
        }
    });
    product(par, second, (gradient, Matrix::new(vg, outputs, outputs)), across, true, v);
}

/// Copies the upper triangle over the lower one: rounding would make them differ, and the difference grow.
fn mirror<T: Real>(matrix: &mut [T], size: usize) {
    // In blocks, so that both triangles are read and written while they are in the cache.
    for i in par::blocks(size, 32) {
        for j in par::blocks(size, 32).skip(i.start / 32) {
            for p in i.clone() {
                for q in j.clone().filter(|q| *q > p) {
                    matrix[q * size + p] = matrix[p * size + q];
                }
            }
        }
    }
}

/// Two layers, inputs × hidden and hidden × outputs, that have the given products: what gradient descent on two layers would have
/// reached, up to a rotation of the hidden units, which no output and no later step can tell.
///
/// The rows of [W₁; W₂ᵀ] are a factor of [[A, V], [Vᵀ, B]]; Cholesky's method with pivots finds one with at most `hidden` columns.
pub fn expand<T: Real>(
    (inputs, hidden, outputs): (usize, usize, usize),
    from: Products<T>,
    w1: &mut [T],
    w2: &mut [T],
) {
    let Products { product: v, left, right } = from;
    let size = inputs + outputs;
    let element = |i: usize, j: usize| match (i < inputs, j < inputs) {
        (true, true) => left[i * inputs + j].wide(),
        (true, false) => v[i * outputs + j - inputs].wide(),
        (false, true) => v[j * outputs + i - inputs].wide(),
        (false, false) => right[(i - inputs) * outputs + j - inputs].wide(),
    };
    let mut rest: Vec<f64> = (0..size).map(|i| element(i, i)).collect();
    let limit = rest.iter().copied().fold(0.0, f64::max) * size as f64 * T::epsilon().wide();
    // Column after column of the factor.
    let mut factor: Vec<Vec<f64>> = Vec::new();
    while factor.len() < hidden {
        let pivot = (0..size).fold(0, |best, i| if rest[i] > rest[best] { i } else { best });
        if rest[pivot] <= limit {
            break;
        }
        let root = rest[pivot].sqrt();
        let mut column: Vec<f64> = (0..size).map(|i| element(i, pivot)).collect();
        for earlier in &factor {
            let weight = earlier[pivot];
            column.iter_mut().zip(earlier).for_each(|(value, earlier)| *value -= weight * earlier);
        }
        column.iter_mut().for_each(|value| *value /= root);
        rest.iter_mut().zip(&column).for_each(|(rest, value)| *rest -= value * value);
        rest[pivot] = f64::NEG_INFINITY;
        factor.push(column);
    }
    let at = |row: usize, unit: usize| T::of(factor.get(unit).map_or(0.0, |column| column[row]));
    for (index, w) in w1.iter_mut().enumerate() {
        *w = at(index / hidden, index % hidden);
    }
    for (index, w) in w2.iter_mut().enumerate() {
        *w = at(inputs + index % outputs, index / outputs);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gemm::gemm;
    use crate::rng::{Philox, Purpose};

    fn numbers(n: usize, seed: u64) -> Vec<f64> {
        let rng = Philox::new(seed, Purpose::Initialise);
        (0..n).map(|i| rng.uniform(i as u64, [0, 0]) - 0.5).collect()
    }

    struct State {
        v: Vec<f64>,
        a: Vec<f64>,
        b: Vec<f64>,
    }

    impl State {
        fn of((i, h, o): (usize, usize, usize), w1: &[f64], w2: &[f64]) -> State {
            let mut state = State { v: vec![0.0; i * o], a: vec![0.0; i * i], b: vec![0.0; o * o] };
            collapse(Par::SEQUENTIAL, (i, h, o), w1, w2, state.parts());
            state
        }
        fn parts(&mut self) -> Products<'_, f64> {
            Products { product: &mut self.v, left: &mut self.a, right: &mut self.b }
        }
        fn distance(&self, other: &State) -> f64 {
            let of = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| (x - y).abs()).fold(0.0, f64::max);
            of(&self.v, &other.v).max(of(&self.a, &other.a)).max(of(&self.b, &other.b))
        }
    }

    /// Gradient descent on two layers and the three products stay together; so do the norms of the gradients.
    #[test]
    fn pair_step_is_two_layers_seen_from_their_products() {
        for (i, h, o) in [(1, 1, 1), (5, 40, 3), (20, 7, 30), (70, 90, 10)] {
            let (mut w1, mut w2) = (numbers(i * h, 1), numbers(h * o, 2));
            w1.iter_mut().chain(&mut w2).for_each(|w| *w /= (h as f64).sqrt());
            let mut state = State::of((i, h, o), &w1, &w2);
            let mut scratch = vec![0.0; scratch_elements(i, o)];
            let (rate, decay) = (0.05, 0.02);
            for step in 0..100 {
                let g = numbers(i * o, 10 + step);
                let (mut d1, mut d2) = (vec![0.0; i * h], vec![0.0; h * o]);
                let gradient = Matrix::new(&g, i, o);
                gemm(1.0, gradient, Matrix::new(&w2, h, o).t(), false, &mut d1);
                gemm(1.0, Matrix::new(&w1, i, h).t(), gradient, false, &mut d2);
                let expected: f64 = d1.iter().chain(&d2).map(|d| d * d).sum();
                let found = squared_norm(Par::SEQUENTIAL, (i, o), &g, (&state.a, &state.b), &mut scratch);
                assert!((found - expected).abs() < 1e-11 * expected.max(1.0), "{found} against {expected}");
                w1.iter_mut().zip(&d1).for_each(|(w, d)| *w -= rate * (d + decay * *w));
                w2.iter_mut().zip(&d2).for_each(|(w, d)| *w -= rate * (d + decay * *w));
                pair_step(Par::SEQUENTIAL, (i, o), &g, (rate, 1.0 - rate * decay), state.parts(), &mut scratch);
            }
            let distance = state.distance(&State::of((i, h, o), &w1, &w2));
            assert!(distance < 1e-11, "{i}, {h}, {o}: {distance}");
            // Layers with the same products, whether the hidden layer is wide or narrow.
            let (mut e1, mut e2) = (vec![0.0; i * h], vec![0.0; h * o]);
            expand((i, h, o), state.parts(), &mut e1, &mut e2);
            let distance = state.distance(&State::of((i, h, o), &e1, &e2));
            assert!(distance < 1e-11, "expanded {i}, {h}, {o}: {distance}");
        }
    }

    #[test]
    fn pair_step_gives_the_same_bits_for_any_number_of_threads() {
        let (i, h, o) = (300, 20, 40);
        let (w1, w2, g) = (numbers(i * h, 1), numbers(h * o, 2), numbers(i * o, 3));
        let run = |par: Par| {
            let mut state = State::of((i, h, o), &w1, &w2);
            let mut scratch = vec![0.0; scratch_elements(i, o)];
            pair_step(par, (i, o), &g, (0.1, 0.99), state.parts(), &mut scratch);
            (state.v, state.a, state.b)
        };
        let one = run(Par::SEQUENTIAL);
        for threads in [2, 3] {
            assert!(crate::team::in_crew(threads, run) == one, "{threads} threads");
        }
    }
}
