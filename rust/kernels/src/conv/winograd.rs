//! Convolution with 3×3 kernels at stride 1 by Winograd's method: tiles of the images and the weights are transformed
//! (see [`super::tiles`]), multiplied point by point, which over the channels is one matrix product for each point of
//! the tile, and the products are transformed back.
//!
//! F(4×4, 3×3) multiplies 36 times where the direct sum multiplies 144 times.
//! Every value of a result is computed from its own tile, whatever block the tile is in; the weight gradient adds
//! blocks whose size depends on the shape alone. So bits do not depend on the number of threads.

use super::Geometry;
use super::grid::Grid;
use super::scratch::{Pieces, piece};
use super::tile_passes::{Pick, distance, products_to_pixels, tiles_to_points, weights_from_points, weights_to_points};
use super::tiles::POINTS;
use crate::gemm::{Matrix, gemm_into};
use crate::par::{self, Par, Shared};
use crate::real::Real;
use crate::sparse::Lanes;
use std::ops::Range;

/// Whether the method can compute all passes of a convolution.
pub(super) fn supports(g: &Geometry) -> bool {
    g.kernel == [3, 3] && g.stride == [1, 1] && g.groups == 1 && g.padding[0] <= 2 && g.padding[1] <= 2
}

/// Elements of scratch memory for the forward pass and the input gradient together.
pub(super) fn convolve_scratch<T: Real + Lanes>(par: Par, g: &Geometry, images: usize) -> usize {
    [Grid::forward(g, images), Grid::backward(g, images)]
        .into_iter()
        .map(|grid| {
            let block = grid.block::<T>();
            let slots = if grid.shallow() { par.threads() } else { 1 };
            let tiles = distance(block * grid.source_channels) + distance(block * grid.target_channels);
            let panel = grid.panel::<T>(g.inputs, g.outputs);
            piece(POINTS * distance(panel * g.outputs)) + piece(grid.source_channels) + piece(slots * POINTS * tiles)
        })
        .max()
        .unwrap_or(0)
}

/// Elements of scratch memory for the weight gradient.
pub(super) fn gradient_scratch<T: Real + Lanes>(g: &Geometry, images: usize) -> usize {
    let grid = Grid::forward(g, images);
    let (block, panel) = (grid.gradient_block::<T>(), grid.panel::<T>(g.inputs, g.outputs));
    let tiles = distance(block * g.inputs) + distance(block * g.outputs);
    piece(POINTS * distance(panel * g.outputs)) + piece(g.inputs.max(g.outputs)) + piece(POINTS * tiles)
}

/// y = finish(conv(x, w)); `finish(pixel, values)` sees all channels of one pixel of y.
pub(super) fn forward<T: Real + Lanes>(
    par: Par,
    g: &Geometry,
    images: usize,
    (x, w): (&[T], &[T]),
    y: &mut [T],
    scratch: &mut [T],
    finish: impl Fn(usize, &mut [T]) + Sync,
) {
    convolve::<T>(par, &Grid::forward(g, images), (x, w), false, y, scratch, finish);
}

/// dx = finish(the adjoint of conv applied to `gradient`).
pub(super) fn input_gradient<T: Real + Lanes>(
    par: Par,
    g: &Geometry,
    images: usize,
    (gradient, w): (&[T], &[T]),
    dx: &mut [T],
    scratch: &mut [T],
    finish: impl Fn(usize, &mut [T]) + Sync,
) {
    convolve::<T>(par, &Grid::backward(g, images), (gradient, w), true, dx, scratch, finish);
}

fn convolve<T: Real + Lanes>(
    par: Par,
    grid: &Grid,
    (source, w): (&[T], &[T]),
    rotated: bool,
    target: &mut [T],
    scratch: &mut [T],
    finish: impl Fn(usize, &mut [T]) + Sync,
) {
    let (from, to) = (grid.source_channels, grid.target_channels);
    let (inputs, outputs) = if rotated { (to, from) } else { (from, to) };
    let (block, tiles) = (grid.block::<T>(), grid.tiles());
    let (v_distance, m_distance) = (distance(block * from), distance(block * to));
    let of_slot = POINTS * (v_distance + m_distance);
    let mut pieces = Pieces(scratch);
    let panel = grid.panel::<T>(inputs, outputs);
    let u_distance = distance(panel * outputs);
    let u = pieces.take(POINTS * u_distance);
    let zeros = pieces.take(from);
    zeros.fill(T::zero());
    let zeros = &*zeros;
    let slots = if grid.shallow() { par.threads() } else { 1 };
    let memory = Shared::new(pieces.take(slots * of_slot));
    let target = Shared::new(target);
    let memory_of = |slot: usize| {
        // SAFETY: each slot has its own memory, and asks for it once at a time.
        unsafe { memory.slice(slot * of_slot..(slot + 1) * of_slot) }
    };
    let to_points = |par: Par, index: usize, v: &mut [T]| {
        tiles_to_points(par, grid, Pick::Source, source, par::block(index, tiles, block), (v, v_distance), zeros);
    };
    // All tiles of a block by some rows of the weights: in the forward pass a part of the sums, in the input gradient
    // some columns of the result.
    let multiply = |par: Par, index: usize, rows: Range<usize>, u: &[T], v: &[T], m: &mut [T]| {
        let count = par::block(index, tiles, block).len();
        let m = Shared::new(m);
        par.each(POINTS, |point| {
            let u = Matrix::new(&u[point * u_distance..], rows.len(), outputs);
            let v = Matrix::new(&v[point * v_distance..], count, from);
            // SAFETY: the points' matrices are disjoint.
            unsafe {
                if rotated {
                    gemm_into(T::one(), v, u.t(), false, m.at(point * m_distance + rows.start), to, 1);
                } else {
                    let (v, add) = (v.columns(rows.start, rows.end), rows.start > 0);
                    gemm_into(T::one(), v, u, add, m.at(point * m_distance), to, 1);
                }
            }
        });
    };
    let to_pixels = |par: Par, index: usize, m: &[T]| {
        products_to_pixels(par, grid, (m, m_distance), par::block(index, tiles, block), &target, &finish);
    };
    let blocks = tiles.div_ceil(block);
    if grid.shallow() {
        weights_to_points(par, (inputs, outputs), 0..inputs, w, rotated, (u, u_distance));
        par.each_with_slot(blocks, |index, slot| {
            let (v, m) = memory_of(slot).split_at_mut(POINTS * v_distance);
            to_points(Par::SEQUENTIAL, index, v);
            multiply(Par::SEQUENTIAL, index, 0..inputs, u, v, m);
            to_pixels(Par::SEQUENTIAL, index, m);
        });
        return;
    }
    let (v, m) = memory_of(0).split_at_mut(POINTS * v_distance);
    for index in 0..blocks {
        to_points(par, index, v);
        for rows in par::blocks(inputs, panel) {
            // Whole weights stay from one block to the next; panels only occur where there is one block.
            if index == 0 {
                weights_to_points(par, (inputs, outputs), rows.clone(), w, rotated, (u, u_distance));
            }
            multiply(par, index, rows, u, v, m);
        }
        to_pixels(par, index, m);
    }
}

/// dw (+)= the sum over tiles of transformed inputs times transformed output gradients, transformed back.
pub(super) fn weight_gradient<T: Real + Lanes>(
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
    let panel = grid.panel::<T>(inputs, outputs);
    let (x_distance, g_distance, u_distance) =
        (distance(block * inputs), distance(block * outputs), distance(panel * outputs));
    let mut pieces = Pieces(scratch);
    let du = pieces.take(POINTS * u_distance);
    let zeros = pieces.take(inputs.max(outputs));
    zeros.fill(T::zero());
    let zeros = &*zeros;
    let (tx, tg) = pieces.take(POINTS * (x_distance + g_distance)).split_at_mut(POINTS * x_distance);
    for range in par::blocks(tiles, block) {
        tiles_to_points(par, &grid, Pick::Source, x, range.clone(), (tx, x_distance), zeros);
        tiles_to_points(par, &grid, Pick::Target, gradient, range.clone(), (tg, g_distance), zeros);
        let (tx, tg) = (&*tx, &*tg);
        for rows in par::blocks(inputs, panel) {
            let shared = Shared::new(&mut *du);
            par.each(POINTS, |point| {
                let tx = Matrix::new(&tx[point * x_distance..], range.len(), inputs).columns(rows.start, rows.end);
                let tg = Matrix::new(&tg[point * g_distance..], range.len(), outputs);
                // SAFETY: the points' matrices are disjoint.
                unsafe {
                    gemm_into(T::one(), tx.t(), tg, range.start > 0, shared.at(point * u_distance), outputs, 1);
                }
            });
            // Whole gradients add up over the blocks; panels only occur where there is one block.
            if range.end == tiles {
                weights_from_points(par, (inputs, outputs), rows, (du, u_distance), accumulate, dw);
            }
        }
    }
}
