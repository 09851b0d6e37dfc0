//! Gradients of y = x · w + bias on tiles.
//!
//! One pass over the lists of inputs: the input's tile and its gradient stay in registers, four weights at a time load
//! the gradient of their outputs once and use it for both sums. A tail of fewer than four weights repeats its last weight
//! with the value zero: the same code, no branch to mispredict, and the repeated gradient is the same number.

use super::forward::{pieces, reach};
use super::plan::Plan;
use super::vector::{Lanes, Vector};
use crate::activation::Activation;
use crate::isa::{Isa, isa};
use crate::par::{Par, Shared};
use crate::real::Real;
use std::ops::Range;

/// Registers of one input at a time, at most.
const MOST: usize = 8;

/// dw = xᵀ · g at the non-zeros and dx = g · wᵀ, times the derivative of the activation that made x (told from x itself).
///
/// `values` and `dw` are in master order; `x`, `g` and `dx` are whole tiles. The border of `g` must be zero, and so must
/// its rows beyond the batch; the border of `dx` is left as it is.
///
/// # Panics
/// If a length does not fit the plan, or if the derivative cannot be told from x ([`Activation::from_output`]).
#[allow(clippy::too_many_arguments)] // Two inputs, two outputs, and what connects them.
pub fn backward<T: Real + Lanes>(
    par: Par,
    plan: &Plan,
    x: &[T],
    g: &[T],
    values: &[T],
    below: Activation<T>,
    dx: &mut [T],
    dw: &mut [T],
) {
    backward_for(isa(), par, plan, x, g, Some(Below { values, activation: below, dx }), dw);
}

/// dw = xᵀ · g at the non-zeros: [`backward()`] for a first layer, whose inputs need no gradient.
pub fn weight_gradient<T: Real + Lanes>(par: Par, plan: &Plan, x: &[T], g: &[T], dw: &mut [T]) {
    backward_for(isa(), par, plan, x, g, None, dw);
}

/// db = the sums of g over the batch and the pixels: `g` is whole tiles.
pub fn bias_gradient<T: Real + Lanes>(par: Par, plan: &Plan, g: &[T], db: &mut [T]) {
    bias_gradient_for(isa(), par, plan, g, db);
}

/// What the input gradient needs.
pub(super) struct Below<'a, T> {
    pub values: &'a [T],
    pub activation: Activation<T>,
    pub dx: &'a mut [T],
}

pub(super) fn backward_for<T: Real + Lanes>(
    isa: Isa,
    par: Par,
    plan: &Plan,
    x: &[T],
    g: &[T],
    below: Option<Below<T>>,
    dw: &mut [T],
) {
    let tiles = plan.tiles(x.len(), g.len());
    assert_eq!(dw.len(), plan.len(), "gradients of a plan");
    let (x_tile, g_tile) = (plan.inputs * plan.x_channel, plan.outputs * plan.out_channel);
    let whole = below.is_some();
    let (values, activation, dx) = match below {
        Some(below) => {
            assert_eq!(below.values.len(), plan.len(), "values of a plan");
            assert_eq!(below.dx.len(), x.len(), "gradients of the inputs");
            assert!(below.activation.from_output(), "{:?} needs its input to give a gradient", below.activation);
            (below.values, below.activation, Shared::new(below.dx))
        }
        None => (&[] as &[T], Activation::Identity, Shared::new(&mut [])),
    };
    let kernels = Kernels::of(isa, whole, plan.spread);
    let par = par.for_work(2 * plan.operations(tiles));
    let shares = if par.threads() == 1 { 1 } else { 4 * par.threads() };
    let dw = Shared::new(dw);
    par.each(shares, |share| {
        let inputs = plan.share_of_inputs(share, shares);
        let weights = plan.weights_of(&inputs);
        // SAFETY: shares have different inputs, and therefore different weights.
        unsafe { dw.slice(weights) }.fill(T::zero());
        for tile in 0..tiles {
            let (x, g) = (&x[tile * x_tile..][..x_tile], &g[tile * g_tile..][..g_tile]);
            for block in 0..plan.backward.blocks {
                for run in &plan.backward.runs {
                    for (lane, registers) in pieces(run.lanes, kernels.lanes, kernels.most, plan.spread) {
                        let at = run.x + reach(lane, plan.spread) as isize;
                        let job = Job {
                            inputs: inputs.clone(),
                            starts: &plan.backward.starts[run.phase * plan.backward.blocks + block..],
                            step: plan.phases * plan.backward.blocks,
                            offsets: &plan.backward.offsets,
                            values,
                            x: x.as_ptr().wrapping_offset(at),
                            g: g.as_ptr().wrapping_offset(run.out).wrapping_add(lane),
                            // SAFETY: the whole slice begins there; empty without input gradient, and then not used.
                            dx: unsafe { dx.at(0) }.wrapping_add(tile * x_tile).wrapping_offset(at),
                            // SAFETY: the first element, or the end of an empty slice.
                            dw: unsafe { dw.at(0) },
                            pitch: plan.x_channel,
                            first: block == 0,
                            last: block + 1 == plan.backward.blocks,
                            activation,
                        };
                        // SAFETY: the plan keeps every run plus offset inside a tile of these sizes (asserted where it
                        // is made, lengths asserted above); shares write different inputs and weights; the set is
                        // available.
                        unsafe { (kernels.by_registers[registers - 1])(&job) };
                    }
                }
            }
        }
    });
}

pub(super) fn bias_gradient_for<T: Real + Lanes>(isa: Isa, par: Par, plan: &Plan, g: &[T], db: &mut [T]) {
    let g_tile = plan.outputs * plan.out_channel;
    assert!(g.len().is_multiple_of(g_tile), "gradients of {} elements are no whole tiles of {g_tile}", g.len());
    assert_eq!(db.len(), plan.outputs, "a bias gradient for each of {} outputs", plan.outputs);
    par.for_work(g.len()).chunks_mut(db, 16, |first, chunk| {
        for (output, sum) in (first..).zip(chunk) {
            // The border is zero, so whole planes can be added.
            let planes = g.chunks_exact(g_tile).map(|tile| &tile[output * plan.out_channel..][..plan.out_channel]);
            *sum = planes.map(|plane| sum_for(isa, plane)).sum();
        }
    });
}

/// The sum of a slice whose length is a multiple of 16.
fn sum_for<T: Real + Lanes>(isa: Isa, plane: &[T]) -> T {
    match isa {
        // SAFETY: every machine has it.
        Isa::Portable => unsafe { sum::<T, T::Portable>(plane) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the set is available.
        Isa::Avx2 => unsafe { sum_avx2(plane) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the set is available.
        Isa::Avx512 => unsafe { sum_avx512(plane) },
        #[cfg(not(target_arch = "x86_64"))]
        // SAFETY: every machine has it.
        Isa::Avx2 | Isa::Avx512 => unsafe { sum::<T, T::Portable>(plane) },
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn sum_avx2<T: Real + Lanes>(plane: &[T]) -> T {
    // SAFETY: the caller's promise.
    unsafe { sum::<T, T::Avx2>(plane) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn sum_avx512<T: Real + Lanes>(plane: &[T]) -> T {
    // SAFETY: the caller's promise.
    unsafe { sum::<T, T::Avx512>(plane) }
}

/// # Safety
/// The machine must have V's set.
#[inline(always)]
unsafe fn sum<T: Real, V: Vector<T>>(plane: &[T]) -> T {
    // SAFETY: loads stay inside the chunks.
    unsafe {
        let mut sums = [V::splat(T::zero()); 4];
        let mut chunks = plane.chunks_exact(4 * V::LANES);
        for chunk in &mut chunks {
            for (l, sum) in sums.iter_mut().enumerate() {
                *sum = sum.add(V::load(chunk.as_ptr().add(l * V::LANES)));
            }
        }
        for rest in chunks.remainder().chunks_exact(V::LANES) {
            sums[0] = sums[0].add(V::load(rest.as_ptr()));
        }
        V::sums(sums).into_iter().sum()
    }
}

/// A lane tile of some inputs, for one block of outputs.
struct Job<'a, T> {
    inputs: Range<usize>,
    /// The starts of the lists of input 0.
    starts: &'a [u32],
    /// Starts from one input to the next.
    step: usize,
    offsets: &'a [u32],
    /// Weights, or nothing where inputs need no gradient.
    values: &'a [T],
    /// The lanes of input 0.
    x: *const T,
    /// The lanes of output 0.
    g: *const T,
    /// The lanes of input 0.
    dx: *mut T,
    /// The gradient of the first weight of all.
    dw: *mut T,
    /// Elements from one input to the next.
    pitch: usize,
    /// Whether dx starts here rather than going on.
    first: bool,
    /// Whether dx is complete after this block.
    last: bool,
    activation: Activation<T>,
}

type Kernel<T> = unsafe fn(&Job<T>);

struct Kernels<T> {
    /// Elements of a register.
    lanes: usize,
    /// Registers at a time, at most.
    most: usize,
    by_registers: [Kernel<T>; MOST],
}

/// A kernel for each number of registers.
macro_rules! by_registers {
    ($kernel:ident, $type:ident, $dx:literal, $spread:literal) => {
        [
            $kernel::<$type, 1, $dx, $spread>,
            $kernel::<$type, 2, $dx, $spread>,
            $kernel::<$type, 3, $dx, $spread>,
            $kernel::<$type, 4, $dx, $spread>,
            $kernel::<$type, 5, $dx, $spread>,
            $kernel::<$type, 6, $dx, $spread>,
            $kernel::<$type, 7, $dx, $spread>,
            $kernel::<$type, 8, $dx, $spread>,
        ]
    };
}

impl<T: Real + Lanes> Kernels<T> {
    fn of(isa: Isa, dx: bool, spread: bool) -> Self {
        macro_rules! kernels {
            ($kernel:ident, $register:ident) => {
                Kernels {
                    lanes: T::$register::LANES,
                    // Sixteen registers: four sums, four values, one load, and what is left.
                    most: if T::$register::REGISTERS < 32 { 6 } else { MOST },
                    by_registers: match (dx, spread) {
                        (false, false) => by_registers!($kernel, T, false, false),
                        (false, true) => by_registers!($kernel, T, false, true),
                        (true, false) => by_registers!($kernel, T, true, false),
                        (true, true) => by_registers!($kernel, T, true, true),
                    },
                }
            };
        }
        match isa {
            Isa::Portable => kernels!(on_portable, Portable),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => kernels!(on_avx2, Avx2),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => kernels!(on_avx512, Avx512),
            #[cfg(not(target_arch = "x86_64"))]
            Isa::Avx2 | Isa::Avx512 => kernels!(on_portable, Portable),
        }
    }
}

unsafe fn on_portable<T: Real + Lanes, const N: usize, const DX: bool, const SPREAD: bool>(job: &Job<T>) {
    // SAFETY: the caller's promise.
    unsafe { inputs::<T, T::Portable, N, DX, SPREAD>(job) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn on_avx2<T: Real + Lanes, const N: usize, const DX: bool, const SPREAD: bool>(job: &Job<T>) {
    // SAFETY: the caller's promise.
    unsafe { inputs::<T, T::Avx2, N, DX, SPREAD>(job) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn on_avx512<T: Real + Lanes, const N: usize, const DX: bool, const SPREAD: bool>(job: &Job<T>) {
    // SAFETY: the caller's promise.
    unsafe { inputs::<T, T::Avx512, N, DX, SPREAD>(job) }
}

/// `N` registers of each input.
///
/// # Safety
/// All starts, offsets and pitches of the job must stay inside its slices and tiles; the machine must have V's set.
#[inline(always)]
unsafe fn inputs<T: Real, V: Vector<T>, const N: usize, const DX: bool, const SPREAD: bool>(job: &Job<T>) {
    let (starts, offsets, values) = (job.starts.as_ptr(), job.offsets.as_ptr(), job.values.as_ptr());
    for input in job.inputs.clone() {
        // SAFETY: in this whole block by the caller's promise.
        unsafe {
            let start = starts.add(input * job.step);
            let (mut k, end) = (*start as usize, *start.add(1) as usize);
            let x = job.x.wrapping_add(input * job.pitch);
            let dx = job.dx.wrapping_add(input * job.pitch);
            let mut sums = [V::splat(T::zero()); N];
            if DX && !job.first {
                for (l, sum) in sums.iter_mut().enumerate() {
                    *sum = V::load(dx.add(reach(l * V::LANES, SPREAD)));
                }
            }
            let mut held = [V::splat(T::zero()); N];
            for (l, held) in held.iter_mut().enumerate() {
                *held = V::load(x.add(reach(l * V::LANES, SPREAD)));
            }
            while k + 4 < end {
                let at = [k, k + 1, k + 2, k + 3];
                let mut four = [V::splat(T::zero()); 4];
                if DX {
                    for (u, value) in four.iter_mut().enumerate() {
                        *value = V::splat(*values.add(k + u));
                    }
                }
                let dots = four_weights::<T, V, N, DX>(job.g, offsets, at, four, &held, &mut sums);
                for (k, dot) in at.into_iter().zip(dots) {
                    *job.dw.add(k) += dot;
                }
                k += 4;
            }
            if k < end {
                let at = [k, k + 1, k + 2, k + 3].map(|k| k.min(end - 1));
                let mut four = [V::splat(T::zero()); 4];
                if DX {
                    for (u, value) in four.iter_mut().enumerate() {
                        *value = V::splat(if k + u < end { *values.add(at[u]) } else { T::zero() });
                    }
                }
                let dots = four_weights::<T, V, N, DX>(job.g, offsets, at, four, &held, &mut sums);
                // All reads before all writes: repeated weights get the same number several times.
                let mut totals = at.map(|k| *job.dw.add(k));
                totals.iter_mut().zip(dots).for_each(|(total, dot)| *total += dot);
                for (k, total) in at.into_iter().zip(totals) {
                    *job.dw.add(k) = total;
                }
            }
            if DX {
                if job.last {
                    derivative(job.activation, &held, &mut sums);
                }
                for (l, sum) in sums.into_iter().enumerate() {
                    sum.store(dx.add(reach(l * V::LANES, SPREAD)));
                }
            }
        }
    }
}

/// Adds value · gradient to `sums` and gives the products of gradients with x, for the weights at four slots.
///
/// # Safety
/// As for [`inputs`].
#[inline(always)]
unsafe fn four_weights<T: Real, V: Vector<T>, const N: usize, const DX: bool>(
    g: *const T,
    offsets: *const u32,
    at: [usize; 4],
    values: [V; 4],
    x: &[V; N],
    sums: &mut [V; N],
) -> [T; 4] {
    // SAFETY: the caller's promise.
    unsafe {
        let mut dots = [V::splat(T::zero()); 4];
        let from = at.map(|k| g.wrapping_add(*offsets.add(k) as usize));
        for (l, (sum, x)) in sums.iter_mut().zip(x).enumerate() {
            for ((from, value), dot) in from.iter().zip(values).zip(&mut dots) {
                let gradient = V::load(from.add(l * V::LANES));
                if DX {
                    *sum = gradient.mul_add(value, *sum);
                }
                *dot = gradient.mul_add(*x, *dot);
            }
        }
        V::sums(dots)
    }
}

/// sums ← sums · f'(z), told from y = f(z): [`Activation::backward_from_output`] on registers.
///
/// # Safety
/// The machine must have V's set.
#[inline(always)]
unsafe fn derivative<T: Real, V: Vector<T>, const N: usize>(activation: Activation<T>, y: &[V; N], sums: &mut [V; N]) {
    // SAFETY: the caller's promise.
    unsafe {
        let (zero, one) = (V::splat(T::zero()), V::splat(T::one()));
        for (g, y) in sums.iter_mut().zip(y) {
            *g = match activation {
                Activation::Identity => *g,
                Activation::Relu => y.where_positive(*g, zero),
                Activation::LeakyRelu(slope) => y.where_positive(*g, g.mul(V::splat(slope))),
                Activation::Tanh => g.mul(one.sub(y.mul(*y))),
                Activation::Sigmoid => g.mul(y.mul(one.sub(*y))),
                Activation::Gelu => unreachable!("refused before"),
            };
        }
    }
}
