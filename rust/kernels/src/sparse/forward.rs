//! y = f(x · w + bias) on tiles.
//!
//! An output's tile is summed in registers over its weights: one broadcast and one multiply-add with a memory operand per
//! register. Inputs are cut into blocks that fit the first-level cache, as far as enough weights per output and block
//! remain ([`super::plan`]); between blocks the sums wait in the output itself.
//!
//! Weights are trained in another order. A convolution reads them through their slots, since each serves eight registers at
//! once. A linear map copies a few thousand into the order of this pass and meets several tiles with them: reading them
//! while the inputs are in use would drive those out of the first-level cache.

use super::plan::Plan;
use super::vector::{BLOCK, Lanes, Vector};
use crate::activation::Activation;
use crate::isa::{Isa, isa, vectorize_for};
use crate::par::{Par, Shared, block, blocks};
use crate::real::Real;
use std::ops::Range;

/// Outputs that pass through all blocks of inputs before the next ones start: their sums stay in the second-level cache.
const OUTPUTS: usize = 512;

/// Tiles of a linear map that meet the same copied weights: their sums wait in the second-level cache, too.
const TILES: usize = 4;

/// Weights that a linear map copies at a time.
const COPIED: usize = 4096;

/// Registers of one output at a time, at most.
pub(super) const MOST: usize = 8;

/// y = f(x · w + bias): `values` are the weights in master order.
///
/// `x` and `y` are whole tiles ([`Plan::input_tiles`], [`Plan::output_tiles`]). The border of `y` is left as it is.
///
/// # Panics
/// If a length does not fit the plan.
pub fn forward<T: Real + Lanes>(
    par: Par,
    plan: &Plan,
    x: &[T],
    values: &[T],
    bias: Option<&[T]>,
    activation: Activation<T>,
    y: &mut [T],
) {
    forward_for(isa(), par, plan, x, values, bias, activation, y);
}

#[allow(clippy::too_many_arguments)] // `forward` with the instruction set.
pub(super) fn forward_for<T: Real + Lanes>(
    isa: Isa,
    par: Par,
    plan: &Plan,
    x: &[T],
    values: &[T],
    bias: Option<&[T]>,
    activation: Activation<T>,
    y: &mut [T],
) {
    let tiles = plan.tiles(x.len(), y.len());
    assert_eq!(values.len(), plan.len(), "values of a plan");
    assert!(bias.is_none_or(|bias| bias.len() == plan.outputs), "a bias for each of {} outputs", plan.outputs);
    let (in_store, after) = split(activation);
    let pass = Forward { isa, plan, x, values, bias, in_store, after };
    let par = par.for_work(plan.operations(tiles));
    let linear = plan.x_channel == plan.lanes && plan.out_channel == plan.lanes;
    let together = if linear { TILES } else { 1 };
    let groups = tiles.div_ceil(together);
    // Four tasks a thread let the faster thread take more.
    let shares = if par.threads() == 1 { 1 } else { (4 * par.threads()).div_ceil(groups.max(1)) };
    let y = Shared::new(y);
    par.each(groups * shares, |task| {
        let (tiles, share) = (block(task / shares, tiles, together), task % shares);
        if linear {
            pass.linear(&y, tiles, plan.share_of_outputs(share, shares));
        } else {
            pass.images(&y, tiles.start, (share, shares));
        }
    });
}

/// What all tasks of a pass share.
struct Forward<'a, T> {
    isa: Isa,
    plan: &'a Plan,
    x: &'a [T],
    values: &'a [T],
    bias: Option<&'a [T]>,
    in_store: InStore<T>,
    after: Option<Activation<T>>,
}

impl<T: Real + Lanes> Forward<'_, T> {
    /// The lanes of output 0 in a tile.
    fn outputs_of(&self, y: &Shared<T>, tile: usize) -> *mut T {
        // SAFETY: one past the last tile at most.
        unsafe { y.at(tile * self.plan.outputs * self.plan.out_channel) }
    }

    /// A stretch of lanes of some outputs, over some blocks of inputs.
    fn job(&self, outputs: Range<usize>, part: Range<usize>, x: *const T, y: *mut T) -> Job<'_, T> {
        Job {
            outputs,
            part,
            starts: &self.plan.forward.starts,
            offsets: &self.plan.forward.offsets,
            slots: &self.plan.slots,
            values: self.values.as_ptr(),
            x,
            y,
            pitch: self.plan.out_channel,
            blocks: self.plan.forward.blocks,
            step: self.plan.outputs,
            bias: self.bias,
            activation: self.in_store,
        }
    }

    /// One of some shares of the pixels of a convolution in one tile. All outputs meet the pixels under a kernel while they are in
    /// the first-level cache: tasks that shared the outputs would each read them anew.
    fn images(&self, y: &Shared<T>, tile: usize, (share, shares): (usize, usize)) {
        let Forward { plan, isa, .. } = self;
        let kernels = Kernels::of(*isa, if plan.spread { Reading::Spread } else { Reading::Through });
        let x_tile = plan.inputs * plan.x_channel;
        let (x, y) = (&self.x[tile * x_tile..][..x_tile], self.outputs_of(y, tile));
        let pieces = || {
            let of = |run| pieces(run, kernels.lanes, MOST, plan.spread);
            plan.forward.runs.iter().flat_map(move |run| of(run.lanes).map(move |piece| (run, piece)))
        };
        let count = pieces().count();
        let first = share * count / shares;
        let own = || pieces().skip(first).take((share + 1) * count / shares - first);
        for outputs in parts(&(0..plan.outputs)) {
            for (run, (lane, registers)) in own() {
                let x = x.as_ptr().wrapping_offset(run.x).wrapping_add(reach(lane, plan.spread));
                let y = y.wrapping_offset(run.out).wrapping_add(lane);
                let job = self.job(outputs.clone(), 0..plan.forward.blocks, x, y);
                // SAFETY: the plan keeps every run plus offset inside a tile of these sizes (asserted where it is made,
                // lengths asserted above); tasks write different lanes or tiles; the set is available.
                unsafe { (kernels.by_registers[registers - 1])(&job) };
            }
        }
        for (run, (lane, registers)) in own() {
            self.activate(y.wrapping_offset(run.out).wrapping_add(lane), registers * kernels.lanes, 0..plan.outputs);
        }
    }

    /// Some outputs of a linear map in some tiles.
    fn linear(&self, y: &Shared<T>, tiles: Range<usize>, all: Range<usize>) {
        let Forward { plan, isa, .. } = self;
        let (copied, through) = (Kernels::of(*isa, Reading::Copied), Kernels::of(*isa, Reading::Through));
        let mut copy = [T::zero(); COPIED];
        for outputs in parts(&all) {
            for block in 0..plan.forward.blocks {
                let starts = &plan.forward.starts[block * plan.outputs..];
                let mut next = outputs.start;
                while next < outputs.end {
                    let (first, first_weight) = (next, starts[next] as usize);
                    next += 1;
                    while next < outputs.end && starts[next + 1] as usize - first_weight <= COPIED {
                        next += 1;
                    }
                    let slots = &plan.slots[first_weight..starts[next] as usize];
                    // One output may have more weights in a block than are copied.
                    let fits = slots.len() <= COPIED;
                    if fits {
                        copy.iter_mut().zip(slots).for_each(|(copy, slot)| *copy = self.values[*slot as usize]);
                    }
                    for tile in tiles.clone() {
                        let x = &self.x[tile * plan.inputs * plan.x_channel..];
                        let mut job = self.job(first..next, block..block + 1, x.as_ptr(), self.outputs_of(y, tile));
                        let kernels = if fits { &copied } else { &through };
                        if fits {
                            job.values = copy.as_ptr().wrapping_sub(first_weight);
                        }
                        for (lane, registers) in pieces(plan.lanes, kernels.lanes, MOST, false) {
                            let job = Job { x: job.x.wrapping_add(lane), y: job.y.wrapping_add(lane), ..job.clone() };
                            // SAFETY: as in `images`; a copy has the weights of these outputs in this block.
                            unsafe { (kernels.by_registers[registers - 1])(&job) };
                        }
                    }
                }
            }
        }
        tiles.for_each(|tile| self.activate(self.outputs_of(y, tile), plan.lanes, all.clone()));
    }

    /// The part of the activation that is not in the store, for the `lanes` of some outputs that begin at `y` for output 0.
    fn activate(&self, y: *mut T, lanes: usize, outputs: Range<usize>) {
        let Some(activation) = self.after else { return };
        vectorize_for(self.isa, || {
            for output in outputs {
                let at = y.wrapping_add(output * self.plan.out_channel);
                // SAFETY: the lanes lie inside the tile, since they are of its runs, and no other task touches them.
                activation.apply(unsafe { std::slice::from_raw_parts_mut(at, lanes) });
            }
        });
    }
}

/// Outputs that pass through all blocks together.
fn parts(all: &Range<usize>) -> impl Iterator<Item = Range<usize>> {
    let start = all.start;
    blocks(all.len(), OUTPUTS).map(move |part| start + part.start..start + part.end)
}

/// The part of an activation that is cheap enough for the store, and what is left for a pass of its own.
fn split<T: Real>(activation: Activation<T>) -> (InStore<T>, Option<Activation<T>>) {
    match activation {
        Activation::Identity => (InStore::Nothing, None),
        Activation::Relu => (InStore::Relu, None),
        Activation::LeakyRelu(slope) => (InStore::Leaky(slope), None),
        Activation::Tanh | Activation::Sigmoid | Activation::Gelu => (InStore::Nothing, Some(activation)),
    }
}

#[derive(Clone, Copy)]
enum InStore<T> {
    Nothing,
    Relu,
    Leaky(T),
}

/// Cuts the lanes of a run into pieces of at most `most` registers, as even as can be: (first lane, registers).
/// Pieces of spread lanes hold whole pixels.
pub(super) fn pieces(lanes: usize, register: usize, most: usize, spread: bool) -> impl Iterator<Item = (usize, usize)> {
    let unit = if spread { BLOCK.max(register) } else { register };
    let (units, most) = (lanes / unit, (most * register / unit).max(1));
    let count = units.div_ceil(most);
    (0..count).map(move |piece| {
        let at = |piece: usize| piece * units / count * unit;
        (at(piece), (at(piece + 1) - at(piece)) / register)
    })
}

/// A lane tile of some outputs, over some blocks of inputs.
#[derive(Clone)]
struct Job<'a, T> {
    outputs: Range<usize>,
    part: Range<usize>,
    starts: &'a [u32],
    offsets: &'a [u32],
    slots: &'a [u32],
    /// The values by slot; or a copy in the order of this pass, as if it began with the first weight of all.
    values: *const T,
    /// The lanes of input channel 0.
    x: *const T,
    /// The lanes of output 0.
    y: *mut T,
    /// Elements from one output to the next.
    pitch: usize,
    blocks: usize,
    /// Starts from one block to the next.
    step: usize,
    bias: Option<&'a [T]>,
    activation: InStore<T>,
}

type Kernel<T> = unsafe fn(&Job<T>);

/// How a kernel comes to its numbers.
#[derive(Clone, Copy)]
enum Reading {
    /// Values through their slots.
    Through,
    /// The same, from every second pixel.
    Spread,
    /// Values in the order of this pass.
    Copied,
}

/// The kernels of one instruction set.
struct Kernels<T> {
    /// Elements of a register.
    lanes: usize,
    by_registers: [Kernel<T>; MOST],
}

/// A kernel for each number of registers. With few of them, several weights are met at once in accumulators of their own.
macro_rules! by_registers {
    ($kernel:ident, $type:ident, $spread:literal, $copied:literal) => {
        [
            $kernel::<$type, 1, 4, $spread, $copied>,
            $kernel::<$type, 2, 4, $spread, $copied>,
            $kernel::<$type, 3, 2, $spread, $copied>,
            $kernel::<$type, 4, 1, $spread, $copied>,
            $kernel::<$type, 5, 1, $spread, $copied>,
            $kernel::<$type, 6, 1, $spread, $copied>,
            $kernel::<$type, 7, 1, $spread, $copied>,
            $kernel::<$type, 8, 1, $spread, $copied>,
        ]
    };
}

impl<T: Real + Lanes> Kernels<T> {
    fn of(isa: Isa, reading: Reading) -> Self {
        macro_rules! kernels {
            ($kernel:ident, $register:ident) => {
                Kernels {
                    lanes: T::$register::LANES,
                    by_registers: match reading {
                        Reading::Through => by_registers!($kernel, T, false, false),
                        Reading::Spread => by_registers!($kernel, T, true, false),
                        Reading::Copied => by_registers!($kernel, T, false, true),
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

unsafe fn on_portable<T: Real + Lanes, const N: usize, const U: usize, const SPREAD: bool, const COPIED: bool>(
    job: &Job<T>,
) {
    // SAFETY: the caller's promise.
    unsafe { outputs::<T, T::Portable, N, U, SPREAD, COPIED>(job) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn on_avx2<T: Real + Lanes, const N: usize, const U: usize, const SPREAD: bool, const COPIED: bool>(
    job: &Job<T>,
) {
    // SAFETY: the caller's promise.
    unsafe { outputs::<T, T::Avx2, N, U, SPREAD, COPIED>(job) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn on_avx512<T: Real + Lanes, const N: usize, const U: usize, const SPREAD: bool, const COPIED: bool>(
    job: &Job<T>,
) {
    // SAFETY: the caller's promise.
    unsafe { outputs::<T, T::Avx512, N, U, SPREAD, COPIED>(job) }
}

/// Elements from the first register of a lane tile to another, in the inputs: with a stride of 2 every second pixel is
/// left out.
#[inline(always)]
pub(super) const fn reach(lane: usize, spread: bool) -> usize {
    if spread { lane / BLOCK * 2 * BLOCK + lane % BLOCK } else { lane }
}

/// `N` registers of each output; `U` weights at once.
///
/// # Safety
/// All starts, offsets and pitches of the job must stay inside its slices and tiles; the machine must have V's set.
#[inline(always)]
unsafe fn outputs<T: Real, V: Vector<T>, const N: usize, const U: usize, const SPREAD: bool, const COPIED: bool>(
    job: &Job<T>,
) {
    let (offsets, slots) = (job.offsets.as_ptr(), job.slots.as_ptr());
    let (values, x) = (job.values, job.x);
    for block in job.part.clone() {
        let starts = &job.starts[block * job.step..];
        for output in job.outputs.clone() {
            // SAFETY: in this whole block by the caller's promise.
            unsafe {
                let (mut k, end) = (*starts.get_unchecked(output) as usize, *starts.get_unchecked(output + 1) as usize);
                let y = job.y.wrapping_add(output * job.pitch);
                let mut sums = [[V::splat(T::zero()); N]; U];
                if block > 0 {
                    for (l, sum) in sums[0].iter_mut().enumerate() {
                        *sum = V::load(y.add(l * V::LANES));
                    }
                } else if let Some(bias) = job.bias {
                    sums[0] = [V::splat(*bias.get_unchecked(output)); N];
                }
                while k + U <= end {
                    for (u, sums) in sums.iter_mut().enumerate() {
                        let value = V::splat(value::<T, COPIED>(values, slots, k + u));
                        let from = x.wrapping_add(*offsets.add(k + u) as usize);
                        for (l, sum) in sums.iter_mut().enumerate() {
                            *sum = V::load(from.add(reach(l * V::LANES, SPREAD))).mul_add(value, *sum);
                        }
                    }
                    k += U;
                }
                while k < end {
                    let value = V::splat(value::<T, COPIED>(values, slots, k));
                    let from = x.wrapping_add(*offsets.add(k) as usize);
                    for (l, sum) in sums[0].iter_mut().enumerate() {
                        *sum = V::load(from.add(reach(l * V::LANES, SPREAD))).mul_add(value, *sum);
                    }
                    k += 1;
                }
                let mut total = sums[0];
                for more in &sums[1..] {
                    for (sum, more) in total.iter_mut().zip(more) {
                        *sum = sum.add(*more);
                    }
                }
                if block + 1 == job.blocks {
                    for v in &mut total {
                        *v = match job.activation {
                            InStore::Nothing => *v,
                            InStore::Relu => v.where_negative(V::splat(T::zero()), *v),
                            InStore::Leaky(slope) => v.where_negative(v.mul(V::splat(slope)), *v),
                        };
                    }
                }
                for (l, sum) in total.into_iter().enumerate() {
                    sum.store(y.add(l * V::LANES));
                }
            }
        }
    }
}

/// The value of the `k`-th weight in the order of this pass.
///
/// # Safety
/// As for [`outputs`].
#[inline(always)]
unsafe fn value<T: Copy, const COPIED: bool>(values: *const T, slots: *const u32, k: usize) -> T {
    // SAFETY: the caller's promise. A copy begins before its memory unless its first weight is the first of all.
    unsafe { if COPIED { *values.wrapping_add(k) } else { *values.add(*slots.add(k) as usize) } }
}

#[cfg(test)]
mod tests {
    use super::super::backward::{Below, backward_for, bias_gradient_for};
    use super::*;
    use crate::gemm::{Matrix, reference};
    use crate::sparse::testing::{close, dense, isas, mask, numbers, wide};
    use crate::sparse::{Pattern, Shape};
    use crate::team::in_crew;
    use proptest::prelude::*;

    #[derive(Clone, Copy, Debug)]
    struct Case {
        batch: usize,
        lanes: usize,
        inputs: usize,
        outputs: usize,
        sparsity: f64,
    }

    /// A mask with whole rows and columns of zeros besides the random ones.
    fn with_gaps(c: Case) -> Vec<bool> {
        let mut mask = mask(c.inputs * c.outputs, c.sparsity, 5);
        for (i, kept) in mask.iter_mut().enumerate() {
            let (input, output) = (i / c.outputs, i % c.outputs);
            *kept &= c.sparsity == 0.0 || (input % 7 != 3 && output % 5 != 2);
        }
        mask
    }

    /// y, dx, dw and db of one layer, in rows.
    fn everything<T: Real + Lanes>(
        isa: Isa,
        par: Par,
        c: Case,
        pattern: &Pattern,
        (above, below): (Activation<T>, Activation<T>),
    ) -> [Vec<T>; 4] {
        let plan = Plan::linear(pattern, c.lanes);
        let (x_tiles, y_tiles) = (plan.input_tiles(c.batch), plan.output_tiles(c.batch));
        let (x, g): (Vec<T>, Vec<T>) = (numbers(x_tiles.rows_len(), 1), numbers(y_tiles.rows_len(), 2));
        let (values, bias): (Vec<T>, Vec<T>) = (numbers(pattern.len(), 3), numbers(c.outputs, 4));
        let fill = |n: usize| vec![T::of(9.0); n];
        let (mut xt, mut gt, mut yt) = (fill(x_tiles.len()), fill(y_tiles.len()), fill(y_tiles.len()));
        x_tiles.pack(par, &x, &mut xt);
        y_tiles.pack(par, &g, &mut gt);
        forward_for(isa, par, &plan, &xt, &values, Some(&bias), above, &mut yt);
        let (mut dxt, mut dw, mut alone) = (fill(xt.len()), fill(pattern.len()), fill(pattern.len()));
        let job = Below { values: &values, activation: below, dx: &mut dxt };
        backward_for(isa, par, &plan, &xt, &gt, Some(job), &mut dw);
        backward_for(isa, par, &plan, &xt, &gt, None, &mut alone);
        assert!(dw == alone, "the weight gradient alone has the same bits");
        let mut db = fill(c.outputs);
        bias_gradient_for(isa, par, &plan, &gt, &mut db);
        let (mut y, mut dx) = (fill(y_tiles.rows_len()), fill(x.len()));
        y_tiles.unpack(par, &yt, &mut y);
        x_tiles.unpack(par, &dxt, &mut dx);
        [y, dx, dw, db]
    }

    /// Everything on every set and with several threads, against dense products in f64.
    fn check<T: Real + Lanes>(c: Case) {
        let pattern = Pattern::from_mask(Shape::linear(c.inputs, c.outputs), &with_gaps(c)).unwrap();
        let (x, g): (Vec<T>, Vec<T>) = (numbers(c.batch * c.inputs, 1), numbers(c.batch * c.outputs, 2));
        let (values, bias): (Vec<T>, Vec<T>) = (numbers(pattern.len(), 3), numbers(c.outputs, 4));
        let (x, g, w, bias) = (wide(&x), wide(&g), dense(&pattern, &values), wide(&bias));
        let (xm, gm) = (Matrix::new(&x, c.batch, c.inputs), Matrix::new(&g, c.batch, c.outputs));
        let wm = Matrix::new(&w, c.inputs, c.outputs);
        let (mut z, mut gz) = (vec![0.0; g.len()], vec![0.0; x.len()]);
        reference::gemm(1.0, xm, wm, false, &mut z);
        z.iter_mut().enumerate().for_each(|(i, z)| *z += bias[i % c.outputs]);
        reference::gemm(1.0, gm, wm.t(), false, &mut gz);
        let (mut dense_dw, mut dw, mut db) = (vec![0.0; w.len()], vec![0.0; pattern.len()], vec![0.0; c.outputs]);
        reference::gemm(1.0, xm.t(), gm, false, &mut dense_dw);
        pattern.gather(&dense_dw, &mut dw);
        g.iter().enumerate().for_each(|(i, g)| db[i % c.outputs] += g);

        use Activation::*;
        let leaky = T::of(0.125);
        for (which, isa) in isas().flat_map(|isa| (0..5).map(move |which| (which, isa))) {
            let of_type = [Identity, Relu, LeakyRelu(leaky), Tanh, Sigmoid][which];
            let in_f64 = [Identity, Relu, LeakyRelu(0.125), Tanh, Sigmoid][which];
            let run = |threads| in_crew(threads, |par| everything::<T>(isa, par, c, &pattern, (of_type, of_type)));
            let found = run(1);
            let (mut y, mut dx) = (z.clone(), gz.clone());
            in_f64.apply(&mut y);
            in_f64.backward_from_output(&x, &mut dx);
            let name = |what: &str| format!("{what} of {c:?} {in_f64:?} {} {}", T::NAME, isa.name());
            let scale = 20.0 + (c.inputs.max(c.outputs) as f64).sqrt();
            close(&name("y"), &found[0], &y, scale);
            close(&name("dx"), &found[1], &dx, scale);
            close(&name("dw"), &found[2], &dw, scale);
            close(&name("db"), &found[3], &db, scale);
            // One activation is enough to see whether threads matter.
            for threads in [2, 3].into_iter().filter(|_| which == 1) {
                assert!(run(threads) == found, "{} with {threads} threads", name("everything"));
            }
        }
    }

    #[test]
    fn copies_and_groups_of_tiles_do_not_show() {
        // One output with more weights than are copied at a time, and one with as many; more tiles than meet one copy.
        let (inputs, outputs) = (COPIED + 3, 400);
        let mask: Vec<bool> =
            (0..inputs * outputs).map(|i| i % outputs == 7 || (i % outputs == 9 && i / outputs < COPIED)).collect();
        let pattern = Pattern::from_mask(Shape::linear(inputs, outputs), &mask).unwrap();
        for (batch, lanes) in [(5, 16), (16 * TILES + 6, 16)] {
            let plan = Plan::linear(&pattern, lanes);
            assert_eq!(plan.forward.blocks, 1);
            let (x_tiles, y_tiles) = (plan.input_tiles(batch), plan.output_tiles(batch));
            let (x, values): (Vec<f32>, Vec<f32>) = (numbers(x_tiles.rows_len(), 1), numbers(pattern.len(), 3));
            let (mut xt, mut rows) = (vec![0.0; x_tiles.len()], vec![0.0; y_tiles.rows_len()]);
            x_tiles.pack(Par::SEQUENTIAL, &x, &mut xt);
            let mut expected = vec![0.0; y_tiles.rows_len()];
            let (wide_x, w) = (wide(&x), dense(&pattern, &values));
            let matrices = (Matrix::new(&wide_x, batch, inputs), Matrix::new(&w, inputs, outputs));
            reference::gemm(1.0, matrices.0, matrices.1, false, &mut expected);
            for (isa, threads) in isas().flat_map(|isa| [(isa, 1), (isa, 3)]) {
                let mut y = vec![9.0; y_tiles.len()];
                in_crew(threads, |par| {
                    forward_for(isa, par, &plan, &xt, &values, None, Activation::Identity, &mut y);
                });
                y_tiles.unpack(Par::SEQUENTIAL, &y, &mut rows);
                close(&format!("y of {batch} rows, {threads} threads, {}", isa.name()), &rows, &expected, 400.0);
            }
        }
    }

    #[test]
    fn layers_of_all_densities_equal_dense_products() {
        for sparsity in [0.0, 0.5, 0.9, 1.0] {
            for (batch, lanes) in [(1, 16), (16, 16), (20, 32), (65, 64)] {
                let c = Case { batch, lanes, inputs: 37, outputs: 23, sparsity };
                check::<f32>(c);
                check::<f64>(c);
            }
        }
    }

    #[test]
    fn large_layers_are_cut_into_blocks_and_shared_between_threads() {
        check::<f32>(Case { batch: 100, lanes: 64, inputs: 600, outputs: 1100, sparsity: 0.8 });
        check::<f32>(Case { batch: 33, lanes: 64, inputs: 40, outputs: 4500, sparsity: 0.5 });
        check::<f64>(Case { batch: 40, lanes: 32, inputs: 700, outputs: 300, sparsity: 0.7 });
    }

    #[test]
    fn gelu_has_a_forward_pass_and_no_backward_pass() {
        let c = Case { batch: 9, lanes: 16, inputs: 5, outputs: 6, sparsity: 0.3 };
        let pattern = Pattern::from_mask(Shape::linear(5, 6), &with_gaps(c)).unwrap();
        let run = |above| everything::<f64>(isa(), Par::SEQUENTIAL, c, &pattern, (above, Activation::Identity));
        let ([mut z, ..], [y, ..]) = (run(Activation::Identity), run(Activation::Gelu));
        Activation::Gelu.apply(&mut z);
        assert_eq!(y, z);
        let refused = std::panic::catch_unwind(|| {
            everything::<f64>(isa(), Par::SEQUENTIAL, c, &pattern, (Activation::Identity, Activation::Gelu))
        });
        assert!(refused.is_err());
    }

    #[test]
    fn pieces_are_even_and_complete() {
        let of = |lanes, register, spread| pieces(lanes, register, 8, spread).collect::<Vec<_>>();
        assert_eq!(of(64, 16, false), [(0, 4)]);
        assert_eq!(of(224, 16, false), [(0, 7), (112, 7)]);
        assert_eq!(of(272, 16, true), [(0, 5), (80, 6), (176, 6)]);
        assert_eq!(of(48, 4, false), [(0, 6), (24, 6)]);
        assert_eq!(of(48, 4, true), [(0, 4), (16, 8)], "whole pixels of 16 lanes");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn random_layers_equal_dense_products(
            batch in 1_usize..150, tile in 0_usize..3, inputs in 1_usize..90, outputs in 1_usize..90, sparsity in 0_u32..=10,
        ) {
            let lanes = [16, 32, 64][tile];
            check::<f32>(Case { batch, lanes, inputs, outputs, sparsity: f64::from(sparsity) / 10.0 });
        }
    }
}
