//! Convolution with 3×3 kernels at stride 1 by Winograd's method: tiles of the images and the weights are transformed
//! (see [`super::tiles`]), multiplied point by point, which over the channels is one matrix product for each point of
//! the tile, and the products are transformed back.
//!
//! F(4×4, 3×3) multiplies 36 times where the direct sum multiplies 144 times.
//! Every value of a result is computed from its own tile, whatever block the tile is in; the weight gradient adds
//! blocks whose size depends on the shape alone. So bits do not depend on the number of threads.

use super::Geometry;
use super::scratch::{LINE, Pieces, piece};
use super::tiles::{LANES, OUT, POINTS, SIDE, Side, transform};
use crate::gemm::{Matrix, gemm_into};
use crate::isa::{Isa, isa, vectorize};
use crate::par::{self, Par, Shared};
use crate::real::Real;
use std::ops::Range;

/// Products of input and output channels up to which transformed weights stay in the second-level cache: each thread
/// then takes blocks of tiles of its own. Above, all threads work on one block, so that the weights are read once.
const SHALLOW: usize = 96 * 96;

/// Bytes of transformed tiles in a block of one thread.
const SHALLOW_BYTES: usize = 1 << 20;

/// Bytes of transformed tiles in a block of all threads: part of the third-level cache.
const DEEP_BYTES: usize = 6 << 20;

/// Tiles (or input channels, for weights) that one task transforms when all threads work on one block.
const TRANSFORM_BLOCK: usize = 4;

/// Tiles over images: from a source with `source_channels`, padded, to a target that a 3×3 kernel makes of it.
#[derive(Clone, Copy)]
struct Grid {
    images: usize,
    source: [usize; 2],
    source_channels: usize,
    padding: [usize; 2],
    target: [usize; 2],
    target_channels: usize,
}

impl Grid {
    fn forward(g: &Geometry, images: usize) -> Grid {
        Grid {
            images,
            source: [g.height, g.width],
            source_channels: g.inputs,
            padding: g.padding,
            target: [g.out_height(), g.out_width()],
            target_channels: g.outputs,
        }
    }

    /// The input gradient is a convolution of the output gradient, padded to the full overlap, with the kernel rotated.
    fn backward(g: &Geometry, images: usize) -> Grid {
        let forward = Grid::forward(g, images);
        Grid {
            images,
            source: forward.target,
            source_channels: g.outputs,
            padding: [2 - g.padding[0], 2 - g.padding[1]],
            target: forward.source,
            target_channels: g.inputs,
        }
    }

    fn across(&self) -> usize {
        self.target[1].div_ceil(OUT)
    }

    fn tiles_of_image(&self) -> usize {
        self.target[0].div_ceil(OUT) * self.across()
    }

    fn tiles(&self) -> usize {
        self.images * self.tiles_of_image()
    }

    /// Image of a tile, and the row and column of its first output.
    #[inline(always)]
    fn place(&self, tile: usize) -> (usize, usize, usize) {
        let (image, rest) = (tile / self.tiles_of_image(), tile % self.tiles_of_image());
        (image, rest / self.across() * OUT, rest % self.across() * OUT)
    }

    fn shallow(&self) -> bool {
        self.source_channels * self.target_channels <= SHALLOW
    }

    /// Tiles that are transformed and multiplied at a time.
    fn block<T: Real>(&self) -> usize {
        let of_tile = T::BYTES * POINTS * (self.source_channels + self.target_channels);
        let bytes = if self.shallow() { SHALLOW_BYTES } else { DEEP_BYTES };
        (bytes / of_tile).next_multiple_of(8).clamp(32, 512).min(self.tiles())
    }

    /// Tiles of a block of the weight gradient, whose blocks all threads share.
    fn gradient_block<T: Real>(&self) -> usize {
        let of_tile = T::BYTES * POINTS * (self.source_channels + self.target_channels);
        (DEEP_BYTES / of_tile).next_multiple_of(8).clamp(32, 512).min(self.tiles())
    }
}

/// Whether the method can compute all passes of a convolution.
pub(super) fn supports(g: &Geometry) -> bool {
    g.kernel == [3, 3] && g.stride == [1, 1] && g.groups == 1 && g.padding[0] <= 2 && g.padding[1] <= 2
}

/// Distance between the matrices of two points: a line more than needed, because powers of two would meet in one
/// set of the cache.
fn distance(elements: usize) -> usize {
    elements.next_multiple_of(LINE) + LINE
}

/// Elements of scratch memory for the forward pass and the input gradient together.
pub(super) fn convolve_scratch<T: Real>(par: Par, g: &Geometry, images: usize) -> usize {
    [Grid::forward(g, images), Grid::backward(g, images)]
        .into_iter()
        .map(|grid| {
            let block = grid.block::<T>();
            let slots = if grid.shallow() { par.threads() } else { 1 };
            let tiles = distance(block * grid.source_channels) + distance(block * grid.target_channels);
            piece(POINTS * distance(g.inputs * g.outputs)) + piece(slots * POINTS * tiles)
        })
        .max()
        .unwrap_or(0)
}

/// Elements of scratch memory for the weight gradient.
pub(super) fn gradient_scratch<T: Real>(g: &Geometry, images: usize) -> usize {
    let block = Grid::forward(g, images).gradient_block::<T>();
    let tiles = distance(block * g.inputs) + distance(block * g.outputs);
    piece(POINTS * distance(g.inputs * g.outputs)) + piece(POINTS * tiles)
}

/// y = finish(conv(x, w)); `finish(pixel, channels, values)` sees channels of one pixel of y.
pub(super) fn forward<T: Real>(
    par: Par,
    g: &Geometry,
    images: usize,
    (x, w): (&[T], &[T]),
    y: &mut [T],
    scratch: &mut [T],
    finish: impl Fn(usize, Range<usize>, &mut [T]) + Sync,
) {
    convolve::<T>(par, &Grid::forward(g, images), (x, w), false, y, scratch, finish);
}

/// dx = finish(the adjoint of conv applied to `gradient`).
pub(super) fn input_gradient<T: Real>(
    par: Par,
    g: &Geometry,
    images: usize,
    (gradient, w): (&[T], &[T]),
    dx: &mut [T],
    scratch: &mut [T],
    finish: impl Fn(usize, Range<usize>, &mut [T]) + Sync,
) {
    convolve::<T>(par, &Grid::backward(g, images), (gradient, w), true, dx, scratch, finish);
}

fn convolve<T: Real>(
    par: Par,
    grid: &Grid,
    (source, w): (&[T], &[T]),
    rotated: bool,
    target: &mut [T],
    scratch: &mut [T],
    finish: impl Fn(usize, Range<usize>, &mut [T]) + Sync,
) {
    let (from, to) = (grid.source_channels, grid.target_channels);
    let (inputs, outputs) = if rotated { (to, from) } else { (from, to) };
    let (block, tiles) = (grid.block::<T>(), grid.tiles());
    let (v_distance, m_distance) = (distance(block * from), distance(block * to));
    let of_slot = POINTS * (v_distance + m_distance);
    let mut pieces = Pieces(scratch);
    let u = pieces.take(POINTS * distance(inputs * outputs));
    let slots = if grid.shallow() { par.threads() } else { 1 };
    let memory = Shared::new(pieces.take(slots * of_slot));
    transform_weights::<T>(par, w, inputs, outputs, rotated, u);
    let (u, target) = (&*u, Shared::new(target));
    let run = |par: Par, index: usize, slot: usize| {
        let tiles = par::block(index, tiles, block);
        // SAFETY: each slot has its own memory.
        let (v, m) = unsafe { memory.slice(slot * of_slot..(slot + 1) * of_slot) }.split_at_mut(POINTS * v_distance);
        transform_tiles::<T>(par, grid, Side::Input, source, tiles.clone(), v, v_distance);
        let v = &*v;
        let shared = Shared::new(m);
        par.each(POINTS, |point| {
            let u = &u[point * distance(inputs * outputs)..][..inputs * outputs];
            let u = Matrix::new(u, inputs, outputs);
            let v = Matrix::new(&v[point * v_distance..], tiles.len(), from);
            // SAFETY: the points' matrices are disjoint.
            unsafe {
                let m = shared.at(point * m_distance);
                gemm_into(T::one(), v, if rotated { u.t() } else { u }, false, m, to, 1);
            }
        });
        transform_products::<T>(par, grid, m, m_distance, tiles, &target, &finish);
    };
    let blocks = tiles.div_ceil(block);
    if grid.shallow() {
        par.each_with_slot(blocks, |index, slot| run(Par::SEQUENTIAL, index, slot));
    } else {
        (0..blocks).for_each(|index| run(par, index, 0));
    }
}

/// dw (+)= the sum over tiles of transformed inputs times transformed output gradients, transformed back.
pub(super) fn weight_gradient<T: Real>(
    par: Par,
    g: &Geometry,
    images: usize,
    (x, gradient): (&[T], &[T]),
    accumulate: bool,
    dw: &mut [T],
    scratch: &mut [T],
) {
    let grid = Grid::forward(g, images);
    let (inputs, outputs) = (g.inputs, g.outputs);
    let (block, tiles) = (grid.gradient_block::<T>(), grid.tiles());
    let (x_distance, g_distance, u_distance) =
        (distance(block * inputs), distance(block * outputs), distance(inputs * outputs));
    let mut pieces = Pieces(scratch);
    let du = pieces.take(POINTS * u_distance);
    let (tx, tg) = pieces.take(POINTS * (x_distance + g_distance)).split_at_mut(POINTS * x_distance);
    for range in par::blocks(tiles, block) {
        let first = range.start == 0;
        transform_tiles::<T>(par, &grid, Side::Input, x, range.clone(), tx, x_distance);
        transform_tiles::<T>(par, &grid, Side::OutputAdjoint, gradient, range.clone(), tg, g_distance);
        let (tx, tg, du) = (&*tx, &*tg, Shared::new(&mut *du));
        par.each(POINTS, |point| {
            let tx = Matrix::new(&tx[point * x_distance..], range.len(), inputs);
            let tg = Matrix::new(&tg[point * g_distance..], range.len(), outputs);
            // SAFETY: the points' matrices are disjoint.
            unsafe { gemm_into(T::one(), tx.t(), tg, !first, du.at(point * u_distance), outputs, 1) };
        });
    }
    let (du, dw) = (&*du, Shared::new(dw));
    par.each(inputs.div_ceil(TRANSFORM_BLOCK), |index| {
        for_this_machine(
            #[inline(always)]
            || weights_back::<T, true>(index, inputs, outputs, du, accumulate, &dw),
            #[inline(always)]
            || weights_back::<T, false>(index, inputs, outputs, du, accumulate, &dw),
        );
    });
}

/// Runs the first body vectorised where the machine has fused multiply-add, the second elsewhere.
#[inline(always)]
fn for_this_machine(fused: impl FnOnce(), plain: impl FnOnce()) {
    if isa() == Isa::Portable { plain() } else { vectorize(fused) }
}

/// Channels from `first`, at most [`LANES`] of them.
#[inline(always)]
fn lanes(first: usize, channels: usize) -> Range<usize> {
    first..(first + LANES).min(channels)
}

/// The first elements of `from`, at most [`LANES`], into lanes; whole vectors as such.
#[inline(always)]
fn load<T: Real>(from: &[T], lanes: &mut [T; LANES]) {
    match from.first_chunk::<LANES>() {
        Some(from) => *lanes = *from,
        None => {
            for (lane, from) in lanes.iter_mut().zip(from) {
                *lane = *from;
            }
        }
    }
}

/// The first `count` lanes, at most [`LANES`], to `out`.
///
/// # Safety
/// `count` elements from `out` must be writable, and used by nobody else during the call.
#[inline(always)]
unsafe fn store<T: Real>(lanes: &[T; LANES], count: usize, out: *mut T) {
    // SAFETY: the caller's promise; an array is aligned like its elements.
    unsafe {
        if count == LANES {
            *out.cast::<[T; LANES]>() = *lanes;
        } else {
            for (lane, value) in lanes[..count].iter().enumerate() {
                *out.add(lane) = *value;
            }
        }
    }
}

fn transform_weights<T: Real>(par: Par, w: &[T], inputs: usize, outputs: usize, rotated: bool, u: &mut [T]) {
    assert!(u.len() >= POINTS * distance(inputs * outputs));
    let u = Shared::new(u);
    par.for_work(200 * inputs * outputs).each(inputs.div_ceil(TRANSFORM_BLOCK), |index| {
        for_this_machine(
            #[inline(always)]
            || weights_to::<T, true>(index, inputs, outputs, w, rotated, &u),
            #[inline(always)]
            || weights_to::<T, false>(index, inputs, outputs, w, rotated, &u),
        );
    });
}

#[inline(always)]
fn weights_to<T: Real, const FUSED: bool>(
    index: usize,
    inputs: usize,
    outputs: usize,
    w: &[T],
    rotated: bool,
    u: &Shared<T>,
) {
    let mut tile = [[T::zero(); LANES]; POINTS];
    for input in par::block(index, inputs, TRANSFORM_BLOCK) {
        for first in (0..outputs).step_by(LANES) {
            let channels = lanes(first, outputs);
            for cell in 0..9 {
                let taken = if rotated { 8 - cell } else { cell };
                let row = (taken * inputs + input) * outputs;
                load(&w[row + channels.start..row + channels.end], &mut tile[cell / 3 * SIDE + cell % 3]);
            }
            transform::<T, FUSED>(Side::Weights, &mut tile);
            for (point, values) in tile.iter().enumerate() {
                let at = point * distance(inputs * outputs) + input * outputs + first;
                // SAFETY: this task's input channels, inside `u` (asserted by the caller).
                unsafe { store(values, channels.len(), u.at(at)) };
            }
        }
    }
}

#[inline(always)]
fn weights_back<T: Real, const FUSED: bool>(
    index: usize,
    inputs: usize,
    outputs: usize,
    du: &[T],
    accumulate: bool,
    dw: &Shared<T>,
) {
    let mut tile = [[T::zero(); LANES]; POINTS];
    for input in par::block(index, inputs, TRANSFORM_BLOCK) {
        for first in (0..outputs).step_by(LANES) {
            let channels = lanes(first, outputs);
            for (point, values) in tile.iter_mut().enumerate() {
                let at = point * distance(inputs * outputs) + input * outputs + first;
                load(&du[at..at + channels.len()], values);
            }
            transform::<T, FUSED>(Side::WeightsAdjoint, &mut tile);
            for cell in 0..9 {
                let at = (cell * inputs + input) * outputs + first;
                // SAFETY: this task's input channels.
                let dw = unsafe { dw.slice(at..at + channels.len()) };
                let values = &tile[cell / 3 * SIDE + cell % 3];
                for (dw, value) in dw.iter_mut().zip(values) {
                    *dw = if accumulate { *dw + *value } else { *value };
                }
            }
        }
    }
}

/// Transforms tiles of the source (`Side::Input`, with padding) or of the target (`Side::OutputAdjoint`) into one
/// matrix for each point: tiles × channels, at `point · distance`.
fn transform_tiles<T: Real>(
    par: Par,
    grid: &Grid,
    side: Side,
    images: &[T],
    tiles: Range<usize>,
    out: &mut [T],
    distance: usize,
) {
    let channels = if matches!(side, Side::Input) { grid.source_channels } else { grid.target_channels };
    assert!(out.len() >= (POINTS - 1) * distance + tiles.len() * channels);
    let out = Shared::new(out);
    par.each(tiles.len().div_ceil(TRANSFORM_BLOCK), |index| {
        let part = par::block(index, tiles.len(), TRANSFORM_BLOCK);
        for_this_machine(
            #[inline(always)]
            || tiles_to::<T, true>(grid, side, images, tiles.start, part.clone(), &out, distance),
            #[inline(always)]
            || tiles_to::<T, false>(grid, side, images, tiles.start, part.clone(), &out, distance),
        );
    });
}

#[inline(always)]
fn tiles_to<T: Real, const FUSED: bool>(
    grid: &Grid,
    side: Side,
    images: &[T],
    first_tile: usize,
    part: Range<usize>,
    out: &Shared<T>,
    distance: usize,
) {
    let input = matches!(side, Side::Input);
    let ([height, width], channels, padding, side_length) = if input {
        (grid.source, grid.source_channels, grid.padding, SIDE)
    } else {
        (grid.target, grid.target_channels, [0, 0], OUT)
    };
    let mut tile = [[T::zero(); LANES]; POINTS];
    for row in part {
        let (image, top, left) = grid.place(first_tile + row);
        let image = &images[image * height * width * channels..(image + 1) * height * width * channels];
        // The part of the tile that lies inside the image.
        let inside = |start: usize, padding: usize, size: usize| {
            let from = padding.saturating_sub(start).min(side_length);
            (from, (size + padding).saturating_sub(start).clamp(from, side_length))
        };
        let (rows, columns) = (inside(top, padding[0], height), inside(left, padding[1], width));
        let whole = rows == (0, side_length) && columns == (0, side_length);
        for first in (0..channels).step_by(LANES) {
            let channel_range = lanes(first, channels);
            let count = channel_range.len();
            if !whole || count < LANES {
                tile.fill([T::zero(); LANES]);
            }
            for i in rows.0..rows.1 {
                let line = (top + i - padding[0]) * width;
                for j in columns.0..columns.1 {
                    let at = (line + left + j - padding[1]) * channels + first;
                    load(&image[at..at + count], &mut tile[i * SIDE + j]);
                }
            }
            if input {
                transform::<T, FUSED>(Side::Input, &mut tile);
            } else {
                transform::<T, FUSED>(Side::OutputAdjoint, &mut tile);
            }
            for (point, values) in tile.iter().enumerate() {
                let at = point * distance + row * channels + first;
                // SAFETY: rows of the points' matrices belong to one task each, inside `out` (asserted by the caller).
                unsafe { store(values, count, out.at(at)) };
            }
        }
    }
}

/// Transforms the points' products back into pixels of the target.
fn transform_products<T: Real>(
    par: Par,
    grid: &Grid,
    m: &[T],
    distance: usize,
    tiles: Range<usize>,
    target: &Shared<T>,
    finish: &(impl Fn(usize, Range<usize>, &mut [T]) + Sync),
) {
    par.each(tiles.len().div_ceil(TRANSFORM_BLOCK), |index| {
        let part = par::block(index, tiles.len(), TRANSFORM_BLOCK);
        for_this_machine(
            #[inline(always)]
            || products_back::<T, true>(grid, m, distance, tiles.start, part.clone(), target, finish),
            #[inline(always)]
            || products_back::<T, false>(grid, m, distance, tiles.start, part.clone(), target, finish),
        );
    });
}

#[inline(always)]
fn products_back<T: Real, const FUSED: bool>(
    grid: &Grid,
    m: &[T],
    distance: usize,
    first_tile: usize,
    part: Range<usize>,
    target: &Shared<T>,
    finish: &impl Fn(usize, Range<usize>, &mut [T]),
) {
    let (channels, [height, width]) = (grid.target_channels, grid.target);
    let mut tile = [[T::zero(); LANES]; POINTS];
    for row in part {
        let (image, top, left) = grid.place(first_tile + row);
        for first in (0..channels).step_by(LANES) {
            let range = lanes(first, channels);
            let count = range.len();
            for (point, values) in tile.iter_mut().enumerate() {
                let at = point * distance + row * channels + first;
                load(&m[at..at + count], values);
            }
            transform::<T, FUSED>(Side::Output, &mut tile);
            for i in 0..OUT.min(height - top) {
                for j in 0..OUT.min(width - left) {
                    let pixel = (image * height + top + i) * width + left + j;
                    let at = pixel * channels + first;
                    // SAFETY: tiles have disjoint pixels, and each tile belongs to one task.
                    let values = unsafe { target.slice(at..at + count) };
                    let lanes = &mut tile[i * SIDE + j];
                    finish(pixel, range.clone(), &mut lanes[..count]);
                    // SAFETY: as above.
                    unsafe { store(lanes, count, values.as_mut_ptr()) };
                }
            }
        }
    }
}
