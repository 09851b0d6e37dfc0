//! The four products of a linear map, cut between threads.
//!
//! Weights are stored `inputs × outputs`, row after row: the forward pass and the weight gradient, which every layer
//! needs, then run along contiguous memory, and only the input gradient, which the first layer skips, has to turn the
//! weights round (measured 10 % slower than the others).

use crate::activation::Activation;
use crate::gemm::{Matrix, gemm_into};
use crate::isa::{Isa, isa, vectorize};
use crate::optimize::Update;
use crate::par::{self, Par, Shared};
use crate::real::Real;
use crate::small;
use crate::transpose::transpose;
use std::ops::Range;

/// Columns of one task: two tiles of the AVX-512 micro-kernel. Wider blocks fall out of the second-level cache (measured at
/// 128×1024×1024: 137 GFLOP/s at 192 columns, 121 at all of them); narrower ones waste lanes.
const WIDTH: usize = 192;

/// The same between threads, where pieces of 192 of 1,024 columns make one thread wait: 258 to 282 GFLOP/s against 241 to 262 for
/// two threads at 512×1024×1024.
const SHARED_WIDTH: usize = 256;

/// From this many rows on, rows are cut instead of columns: each thread then reads all weights, which are the smaller side.
const TALL: usize = 1024;

/// Rows of the batch that a product for a weight gradient takes in at a time where it walks down the columns of x: with 1,024
/// inputs or another power of two, all rows meet in one set of the first cache (measured at 512×1024×1024: 124 GFLOP/s at 256
/// rows, 80 at all of them, and no loss where rows do not meet).
const DEPTH: usize = 256;

/// Elements of x and outputs from which on a weight gradient turns x round first and then reads it along its rows, as the forward
/// pass does (measured at 512×1024×1024: 142 GFLOP/s with the turning, 122 without; 144 and 128 at 128 rows; nothing is gained
/// below). Each column of x serves all outputs: with few of them the turning costs more than it saves.
const TURNED: (usize, usize) = (65_536, 256);

/// Rows that the library multiplies at a time.
const LIBRARY_DEPTH: usize = 512;

/// Elements of g in one task of a product with x turned round, which the library packs: half of a second-level cache of 1 MiB in
/// f32. With few rows more columns fit (measured at 128×1024×1024: 153 GFLOP/s at 1,024 columns, 142 at 192).
const PACKED: usize = 131_072;

/// Elements of one task of [`weight_step`]: whole rows of the weight gradient that are close at hand when the optimizer reads them.
/// Whole rows, because the optimizer streams through three or four arrays and runs of 768 bytes in pages of their own slow
/// it. Each task packs g anew (measured with Adam at 512×1024×1024: 117 GFLOP/s at 196,608 elements, 122 at 262,144, and little
/// more beyond).
const STEP: usize = 262_144;

/// The sizes of a linear map applied to a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dims {
    /// Rows of the batch (for a convolution: patches).
    pub rows: usize,
    /// Inputs of the map.
    pub inputs: usize,
    /// Outputs of the map.
    pub outputs: usize,
}

impl Dims {
    /// Floating-point operations of one product.
    pub fn operations(self) -> usize {
        2 * self.rows * self.inputs * self.outputs
    }

    /// Whether a weight gradient is computed from x turned round. The plain library packs both matrices anyway.
    fn turned(self) -> bool {
        let (elements, outputs) = TURNED;
        let large = self.rows * self.inputs >= elements && self.outputs >= outputs;
        large && self.rows < TALL && isa() != Isa::Portable
    }
}

/// How a rows × columns result is cut: whole rows, or whole columns.
enum Cut {
    Rows(usize),
    Columns(usize),
}

fn cut(par: Par, rows: usize, columns: usize) -> Cut {
    if rows >= TALL {
        // Two blocks a thread let the faster thread take more.
        let pieces = if par.threads() == 1 { 1 } else { 2 * par.threads() };
        Cut::Rows(rows.div_ceil(pieces).next_multiple_of(16).clamp(128, 2048))
    } else {
        Cut::Columns(column_block(par, columns, widest(par)))
    }
}

/// Most columns of one task.
fn widest(par: Par) -> usize {
    if par.threads() == 1 { WIDTH } else { SHARED_WIDTH }
}

/// Columns of one task: each thread's share in equal pieces of `most` or less. Threads take pieces as they come, so a last piece
/// much smaller than the others leaves one of them waiting.
fn column_block(par: Par, columns: usize, most: usize) -> usize {
    let multiple = if par.threads() == 1 { 32 } else { 16 };
    let share = columns.div_ceil(par.threads());
    share.div_ceil(share.div_ceil(most).max(1)).next_multiple_of(multiple)
}

/// y = f(x · w + bias): x is rows × inputs, w inputs × outputs, y rows × outputs.
pub fn forward<T: Real>(
    par: Par,
    d: Dims,
    x: &[T],
    w: &[T],
    bias: Option<&[T]>,
    activation: Activation<T>,
    y: &mut [T],
) {
    let (x, w) = (Matrix::new(x, d.rows, d.inputs), Matrix::new(w, d.inputs, d.outputs));
    product(
        par.for_work(d.operations()),
        x,
        w,
        bias,
        y,
        #[inline(always)]
        |_, _, y| activation.apply(y),
    );
}

/// dx = g · wᵀ, times the derivative of the activation that made x (told from x itself).
pub fn input_gradient<T: Real>(
    par: Par,
    d: Dims,
    g: &[T],
    w: &[T],
    below: Option<(Activation<T>, &[T])>,
    dx: &mut [T],
) {
    let (g, w) = (Matrix::new(g, d.rows, d.outputs), Matrix::new(w, d.inputs, d.outputs));
    product(
        par.for_work(d.operations()),
        g,
        w.t(),
        None,
        dx,
        #[inline(always)]
        |row, columns, dx| {
            if let Some((activation, x)) = below {
                let first = row * d.inputs;
                activation.backward_from_output(&x[first + columns.start..first + columns.end], dx);
            }
        },
    );
}

/// c = alpha · (a · b + bias), or c += …, for a block of a result with `columns` columns in all, which decide on the kernel: a block
/// of any size then has the same bits. A bias comes with an alpha of 1 only.
/// `finish(row, columns, values)` completes each row of the block, or each piece of a row, while it is in the cache.
///
/// # Safety
/// As [`gemm_into`].
#[inline(always)]
unsafe fn multiply<T: Real>(
    alpha: T,
    a: Matrix<T>,
    b: Matrix<T>,
    bias: Option<&[T]>,
    accumulate: bool,
    (c, columns): (*mut T, usize),
    finish: impl Fn(usize, Range<usize>, &mut [T]),
) {
    let (height, width) = (a.height(), b.width());
    // SAFETY: the caller's promise.
    unsafe {
        if small::fits(b, columns) {
            return small::product_into(alpha, a, b, bias, accumulate, (c, columns), finish);
        }
        gemm_into(alpha, a, b, accumulate, c, columns, 1);
    }
    vectorize(
        #[inline(always)]
        || {
            for row in 0..height {
                // SAFETY: the same block.
                let c = unsafe { std::slice::from_raw_parts_mut(c.add(row * columns), width) };
                if let Some(bias) = bias {
                    for (c, b) in c.iter_mut().zip(bias) {
                        *c += *b;
                    }
                }
                finish(row, 0..width, c);
            }
        },
    );
}

/// The inputs of a weight gradient.
#[derive(Clone, Copy)]
enum Inputs<'a, T> {
    /// rows × inputs, as they lie.
    Rows(Matrix<'a, T>),
    /// inputs × rows, turned round.
    Columns(Matrix<'a, T>),
}

impl<'a, T: Real> Inputs<'a, T> {
    /// x, turned round into the first elements of `scratch` where that pays.
    fn new(par: Par, d: Dims, x: &'a [T], scratch: &'a mut [T]) -> Self {
        if !d.turned() {
            return Inputs::Rows(Matrix::new(x, d.rows, d.inputs));
        }
        let out = &mut scratch[..d.rows * d.inputs];
        transpose(par, (d.rows, d.inputs), &x[..d.rows * d.inputs], out);
        Inputs::Columns(Matrix::new(out, d.inputs, d.rows))
    }

    /// Most columns of g in one task.
    fn widest(self, par: Par) -> usize {
        match self {
            Inputs::Rows(_) => widest(par),
            Inputs::Columns(x) => PACKED / x.width().min(LIBRARY_DEPTH),
        }
    }

    /// c (+)= alpha · xᵀ · g as in [`multiply`], for the inputs in `range`. As they lie, [`DEPTH`] rows at a time.
    ///
    /// # Safety
    /// As [`gemm_into`].
    unsafe fn product(
        self,
        range: Range<usize>,
        alpha: T,
        g: Matrix<T>,
        accumulate: bool,
        (c, columns): (*mut T, usize),
    ) {
        match self {
            // SAFETY: the caller's promise.
            Inputs::Columns(x) => unsafe {
                gemm_into(alpha, x.rows(range.start, range.end), g, accumulate, c, columns, 1);
            },
            Inputs::Rows(x) => {
                let x = x.columns(range.start, range.end);
                for start in (0..x.height().max(1)).step_by(DEPTH) {
                    let end = x.height().min(start + DEPTH);
                    let (x, g) = (x.rows(start, end).t(), g.rows(start, end));
                    // SAFETY: the caller's promise.
                    unsafe { multiply(alpha, x, g, None, accumulate || start > 0, (c, columns), |_, _, _| {}) };
                }
            }
        }
    }
}

/// c = a · b + bias in blocks, completed by `finish` as in [`multiply`], which is told rows and columns of the whole result.
fn product<T: Real>(
    par: Par,
    a: Matrix<T>,
    b: Matrix<T>,
    bias: Option<&[T]>,
    c: &mut [T],
    finish: impl Fn(usize, Range<usize>, &mut [T]) + Sync,
) {
    let (rows, columns) = (a.height(), b.width());
    assert_eq!(c.len(), rows * columns, "the result of a linear map has {rows}×{columns} elements");
    let c = Shared::new(c);
    let run = |r: Range<usize>, k: Range<usize>| {
        let (first, left) = (r.start, k.start);
        // SAFETY: blocks are disjoint in rows or in columns, and inside c (asserted above).
        unsafe {
            let (at, a, b) = (c.at(first * columns + left), a.rows(first, r.end), b.columns(left, k.end));
            multiply(
                T::one(),
                a,
                b,
                bias.map(|bias| &bias[left..k.end]),
                false,
                (at, columns),
                #[inline(always)]
                |row, k, values| finish(first + row, left + k.start..left + k.end, values),
            );
        }
    };
    match cut(par, rows, columns) {
        Cut::Rows(size) => par.each(rows.div_ceil(size), |i| run(par::block(i, rows, size), 0..columns)),
        Cut::Columns(size) => par.each(columns.div_ceil(size), |i| run(0..rows, par::block(i, columns, size))),
    }
}

/// dw (+)= alpha · xᵀ · g: dw is inputs × outputs.
pub fn weight_gradient<T: Real>(par: Par, d: Dims, alpha: T, x: &[T], g: &[T], accumulate: bool, dw: &mut [T]) {
    let par = par.for_work(d.operations());
    gradient_blocks(par, d, alpha, Inputs::Rows(Matrix::new(x, d.rows, d.inputs)), g, accumulate, dw);
}

/// As [`weight_gradient`], and a tenth faster where the product is large: `scratch` holds [`step_scratch`] elements.
#[allow(clippy::too_many_arguments)] // As `weight_gradient`, with the scratch memory.
pub fn weight_gradient_with<T: Real>(
    par: Par,
    d: Dims,
    alpha: T,
    x: &[T],
    g: &[T],
    accumulate: bool,
    dw: &mut [T],
    scratch: &mut [T],
) {
    let par = par.for_work(d.operations());
    gradient_blocks(par, d, alpha, Inputs::new(par, d, x, scratch), g, accumulate, dw);
}

/// The weight gradient in blocks of columns, and of rows where threads share it.
fn gradient_blocks<T: Real>(par: Par, d: Dims, alpha: T, x: Inputs<T>, g: &[T], accumulate: bool, dw: &mut [T]) {
    assert_eq!(dw.len(), d.inputs * d.outputs);
    let (g, dw) = (Matrix::new(g, d.rows, d.outputs), Shared::new(dw));
    let width = column_block(par, d.outputs, x.widest(par));
    let across = d.outputs.div_ceil(width);
    // Four tasks a thread even out narrow last columns and let the faster thread take more.
    let wanted = if par.threads() == 1 { 1 } else { (4 * par.threads()).div_ceil(across) };
    let height = d.inputs.div_ceil(wanted).next_multiple_of(4);
    par.each(across * d.inputs.div_ceil(height), |index| {
        let rows = par::block(index / across, d.inputs, height);
        let columns = par::block(index % across, d.outputs, width);
        // SAFETY: blocks are disjoint.
        unsafe {
            let at = dw.at(rows.start * d.outputs + columns.start);
            x.product(rows, alpha, g.columns(columns.start, columns.end), accumulate, (at, d.outputs));
        }
    });
}

/// Parameters of one weight matrix with their optimizer state, all inputs × outputs (state may be empty).
pub struct Weights<'a, T> {
    /// The weights.
    pub w: &'a mut [T],
    /// First state (velocity, first moment), or empty.
    pub first: &'a mut [T],
    /// Second state (second moment), or empty.
    pub second: &'a mut [T],
}

/// Scratch elements that [`weight_step`] needs for up to so many rows.
pub fn step_scratch(par: Par, d: Dims) -> usize {
    turned_elements(d) + par.threads() * step_rows(d) * d.outputs
}

/// Scratch elements for x turned round, for up to so many rows, in whole cache lines.
fn turned_elements(d: Dims) -> usize {
    let d = Dims { rows: d.rows.min(TALL - 1), ..d };
    if d.turned() { (d.rows * d.inputs).next_multiple_of(16) } else { 0 }
}

/// Most rows of one task of [`weight_step`].
fn step_rows(d: Dims) -> usize {
    (STEP / d.outputs.max(1) / 4 * 4).max(4).min(d.inputs)
}

/// Computes the weight gradient xᵀ · g block by block and applies the optimizer to each block while it is in the cache;
/// the gradient as a whole is never stored. `scratch` holds [`step_scratch`] elements.
pub fn weight_step<T: Real>(
    par: Par,
    d: Dims,
    x: &[T],
    g: &[T],
    update: &Update<T>,
    weights: Weights<T>,
    scratch: &mut [T],
) {
    let Weights { w, first, second } = weights;
    if let Some(rate) = update.plain_rate() {
        return weight_gradient_with(par, d, -rate, x, g, true, w, scratch);
    }
    assert_eq!(w.len(), d.inputs * d.outputs);
    let par = par.for_work(d.operations());
    let (turned, scratch) = scratch.split_at_mut(turned_elements(d));
    let (x, g) = (Inputs::new(par, d, x, turned), Matrix::new(g, d.rows, d.outputs));
    let width = if d.turned() { x.widest(par) } else { d.outputs };
    let per_thread = step_rows(d) * d.outputs;
    assert!(scratch.len() >= par.threads() * per_thread, "scratch for {} threads", par.threads());
    let (w, first, second, scratch) = (Shared::new(w), Shared::new(first), Shared::new(second), Shared::new(scratch));
    let least = if par.threads() == 1 { 1 } else { 2 * par.threads() };
    let pieces = d.inputs.div_ceil(step_rows(d)).max(least).next_multiple_of(par.threads());
    let height = d.inputs.div_ceil(pieces).next_multiple_of(4).min(step_rows(d));
    par.each_with_slot(d.inputs.div_ceil(height), |index, slot| {
        let rows = par::block(index, d.inputs, height);
        let range = rows.start * d.outputs..rows.end * d.outputs;
        // SAFETY: each slot has its own scratch, and blocks of rows are disjoint.
        unsafe {
            let gradient = scratch.slice(slot * per_thread..slot * per_thread + range.len());
            for columns in par::blocks(d.outputs, width) {
                let at = gradient.as_mut_ptr().add(columns.start);
                x.product(rows.clone(), T::one(), g.columns(columns.start, columns.end), false, (at, d.outputs));
            }
            let (first, second) = (first.part(range.clone()), second.part(range.clone()));
            update.apply(w.slice(range), gradient, first, second);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gemm::reference;
    use crate::rng::{Philox, Purpose};
    use crate::team::in_crew;

    fn numbers<T: Real>(n: usize, seed: u64) -> Vec<T> {
        let rng = Philox::new(seed, Purpose::Initialise);
        (0..n).map(|i| T::of(rng.uniform(i as u64, [0, 0]) - 0.5)).collect()
    }

    const SHAPES: [Dims; 8] = [
        Dims { rows: 1, inputs: 3, outputs: 2 },
        Dims { rows: 33, inputs: 64, outputs: 10 },
        Dims { rows: 128, inputs: 784, outputs: 256 },
        Dims { rows: 50, inputs: 1030, outputs: 517 },
        Dims { rows: 600, inputs: 130, outputs: 300 },
        Dims { rows: 3000, inputs: 27, outputs: 40 },
        Dims { rows: 300, inputs: 20, outputs: 16 },
        Dims { rows: 300, inputs: 2, outputs: 1 },
    ];

    /// Everything a layer computes, concatenated.
    fn everything<T: Real>(par: Par, d: Dims) -> Vec<Vec<T>> {
        let (x, w, b, g): (Vec<T>, Vec<T>, Vec<T>, Vec<T>) = (
            numbers(d.rows * d.inputs, 1),
            numbers(d.inputs * d.outputs, 2),
            numbers(d.outputs, 3),
            numbers(d.rows * d.outputs, 4),
        );
        let mut y = vec![T::zero(); d.rows * d.outputs];
        forward(par, d, &x, &w, Some(&b), Activation::Relu, &mut y);
        let mut dx = vec![T::zero(); d.rows * d.inputs];
        input_gradient(par, d, &g, &w, Some((Activation::Relu, &x)), &mut dx);
        let mut dw = vec![T::zero(); d.inputs * d.outputs];
        weight_gradient(par, d, T::one(), &x, &g, false, &mut dw);
        let update = Update::Momentum { rate: T::of(0.1), decay: T::of(0.01), momentum: T::of(0.9), nesterov: false };
        let (mut stepped, mut velocity) = (w.clone(), vec![T::of(0.25); w.len()]);
        let mut scratch = vec![T::zero(); step_scratch(par, d)];
        let mut added = dw.clone();
        weight_gradient_with(par, d, T::of(2.0), &x, &g, true, &mut added, &mut scratch);
        let weights = Weights { w: &mut stepped, first: &mut velocity, second: &mut [] };
        weight_step(par, d, &x, &g, &update, weights, &mut scratch);
        vec![y, dx, dw, stepped, velocity, added]
    }

    fn close<T: Real>(name: &str, found: &[T], expected: &[T], tolerance: f64) {
        assert_eq!(found.len(), expected.len());
        for (i, (f, e)) in found.iter().zip(expected).enumerate() {
            let difference = (f.wide() - e.wide()).abs();
            assert!(difference <= tolerance, "{name}[{i}]: {f} against {e}, difference {difference}");
        }
    }

    #[test]
    fn products_equal_plain_loops() {
        for d in SHAPES {
            let found = in_crew(2, |par| everything::<f64>(par, d));
            let (x, w): (Vec<f64>, Vec<f64>) = (numbers(d.rows * d.inputs, 1), numbers(d.inputs * d.outputs, 2));
            let (b, g): (Vec<f64>, Vec<f64>) = (numbers(d.outputs, 3), numbers(d.rows * d.outputs, 4));
            let xm = Matrix::new(&x, d.rows, d.inputs);
            let (wm, gm) = (Matrix::new(&w, d.inputs, d.outputs), Matrix::new(&g, d.rows, d.outputs));
            let mut y = vec![0.0; d.rows * d.outputs];
            reference::gemm(1.0, xm, wm, false, &mut y);
            for (i, v) in y.iter_mut().enumerate() {
                *v = (*v + b[i % d.outputs]).max(0.0);
            }
            close("y", &found[0], &y, 1e-11);
            let mut dx = vec![0.0; x.len()];
            reference::gemm(1.0, gm, wm.t(), false, &mut dx);
            for (v, x) in dx.iter_mut().zip(&x) {
                *v = if *x > 0.0 { *v } else { 0.0 };
            }
            close("dx", &found[1], &dx, 1e-11);
            let mut dw = vec![0.0; w.len()];
            reference::gemm(1.0, xm.t(), gm, false, &mut dw);
            close("dw", &found[2], &dw, 1e-10);
            let velocity: Vec<f64> = dw.iter().zip(&w).map(|(g, w)| 0.9 * 0.25 + g + 0.01 * w).collect();
            let stepped: Vec<f64> = w.iter().zip(&velocity).map(|(w, v)| w - 0.1 * v).collect();
            close("w", &found[3], &stepped, 1e-10);
            close("velocity", &found[4], &velocity, 1e-10);
            let added: Vec<f64> = dw.iter().map(|g| 3.0 * g).collect();
            close("added", &found[5], &added, 1e-10);
        }
    }

    #[test]
    fn products_give_the_same_bits_for_any_number_of_threads() {
        for d in SHAPES {
            let one = in_crew(1, |par| everything::<f32>(par, d));
            for threads in [2, 3] {
                assert!(in_crew(threads, |par| everything::<f32>(par, d)) == one, "{d:?} with {threads} threads");
            }
            let one = in_crew(1, |par| everything::<f64>(par, d));
            assert!(in_crew(3, |par| everything::<f64>(par, d)) == one, "{d:?} in f64");
        }
    }
}
