//! Convolution as products of patches and weights, a block of patch rows at a time: the block is built, multiplied and
//! finished while it is in the cache; the whole patch matrix never exists.

use super::Geometry;
use super::patches::{gather, gather_turned, scatter_add, turns};
use super::scratch::{Pieces, piece};
use crate::gemm::{Matrix, gemm_into};
use crate::isa::vectorize;
use crate::par::{self, Par, Shared};
use crate::real::Real;
use std::ops::Range;

/// Bytes of a block of patches: it shares the second-level cache with the packed weights.
const BLOCK_BYTES: usize = 384 << 10;

/// Fewest patch rows of a block: the weights are read once for each block.
const FEWEST_ROWS: usize = 128;

/// Parts into which a weight gradient is cut, by patch columns and, where those are few, by rows as well.
const PARTS: usize = 8;

/// Patch rows in a block when a row takes `columns` elements.
fn block_rows<T: Real>(columns: usize) -> usize {
    (BLOCK_BYTES / T::BYTES / columns).clamp(FEWEST_ROWS, 1024) / 16 * 16
}

/// Some columns of some patch rows, built in `block`, in whichever order is faster to build.
fn patches_of<'a, T: Real>(
    g: &Geometry,
    x: &[T],
    rows: Range<usize>,
    group: usize,
    columns: Range<usize>,
    block: &'a mut [T],
) -> Matrix<'a, T> {
    if turns(g) && columns.len() == g.patch() {
        gather_turned(g, x, rows.clone(), block);
        Matrix::new(block, columns.len(), rows.len()).t()
    } else {
        gather(g, x, rows.clone(), group, columns.clone(), block);
        Matrix::new(block, rows.len(), columns.len())
    }
}

/// Elements of scratch memory for [`forward`] and [`input_gradient`].
pub(super) fn scratch<T: Real>(par: Par, g: &Geometry) -> usize {
    piece(par.threads() * block_rows::<T>(g.patch()) * g.patch())
}

/// y = finish(patches · w); `finish(pixel, values)` sees all channels of one pixel of y.
pub(super) fn forward<T: Real>(
    par: Par,
    g: &Geometry,
    images: usize,
    (x, w): (&[T], &[T]),
    y: &mut [T],
    scratch: &mut [T],
    finish: impl Fn(usize, &mut [T]) + Sync,
) {
    let (rows, patch, outputs) = (images * g.positions(), g.patch(), g.outputs);
    let (of_group, size) = (outputs / g.groups, block_rows::<T>(patch));
    let memory = Shared::new(Pieces(scratch).take(par.threads() * size * patch));
    let y = Shared::new(y);
    par.each_with_slot(rows.div_ceil(size), |index, slot| {
        let range = par::block(index, rows, size);
        // SAFETY: each slot has its own memory.
        let block = unsafe { memory.slice(slot * size * patch..slot * size * patch + range.len() * patch) };
        for group in 0..g.groups {
            let patches = patches_of(g, x, range.clone(), group, 0..patch, block);
            let w = Matrix::new(&w[group * patch * of_group..], patch, of_group);
            // SAFETY: blocks of rows are disjoint.
            unsafe {
                let at = y.at(range.start * outputs + group * of_group);
                gemm_into(T::one(), patches, w, false, at, outputs, 1);
            }
        }
        vectorize(
            #[inline(always)]
            || {
                for pixel in range {
                    // SAFETY: the same block.
                    finish(pixel, unsafe { y.slice(pixel * outputs..(pixel + 1) * outputs) });
                }
            },
        );
    });
}

/// dx = finish(gradient · wᵀ, added up where patches overlap); `finish(pixel, values)` sees all channels of a pixel.
pub(super) fn input_gradient<T: Real>(
    par: Par,
    g: &Geometry,
    images: usize,
    (gradient, w): (&[T], &[T]),
    dx: &mut [T],
    scratch: &mut [T],
    finish: impl Fn(usize, &mut [T]) + Sync,
) {
    let (positions, patch, outputs, inputs) = (g.positions(), g.patch(), g.outputs, g.inputs);
    let (of_group, size) = (outputs / g.groups, block_rows::<T>(patch));
    let memory = Shared::new(Pieces(scratch).take(par.threads() * size * patch));
    let of_image = g.height * g.width * inputs;
    let together = size.div_ceil(positions).min(FEWEST_ROWS.div_ceil(positions));
    let dx = Shared::new(dx);
    par.each_with_slot(images.div_ceil(together), |index, slot| {
        let group_of_images = par::block(index, images, together);
        // SAFETY: blocks of images are disjoint, and each slot has its own memory.
        let (dx, memory) = unsafe {
            let images = group_of_images.start * of_image..group_of_images.end * of_image;
            (dx.slice(images), memory.slice(slot * size * patch..(slot + 1) * size * patch))
        };
        dx.fill(T::zero());
        let first = group_of_images.start * positions;
        for rows in par::blocks(group_of_images.len() * positions, size) {
            for group in 0..g.groups {
                let block = &mut memory[..rows.len() * patch];
                let from = (first + rows.start) * outputs + group * of_group;
                let gradient = Matrix::strided(&gradient[from..], rows.len(), of_group, outputs, 1);
                let w = Matrix::new(&w[group * patch * of_group..], patch, of_group);
                // SAFETY: `block` is a whole row-major matrix, borrowed mutably.
                unsafe { gemm_into(T::one(), gradient, w.t(), false, block.as_mut_ptr(), patch, 1) };
                scatter_add(g, block, rows.clone(), group, dx);
            }
        }
        vectorize(
            #[inline(always)]
            || {
                let first = group_of_images.start * g.height * g.width;
                for (pixel, values) in dx.chunks_exact_mut(inputs).enumerate() {
                    finish(first + pixel, values);
                }
            },
        );
    });
}

/// How the weight gradient is cut. The numbers depend on the shape alone, so that sums have one order.
struct Cut {
    /// Patch columns of a part.
    columns: usize,
    /// Parts of the columns.
    pieces: usize,
    /// Parts of the rows, each with a gradient of its own.
    partials: usize,
    /// Rows of such a part.
    rows: usize,
    /// Rows gathered and multiplied at a time.
    block: usize,
}

fn cut<T: Real>(g: &Geometry, rows: usize) -> Cut {
    let columns = g.patch().div_ceil(PARTS).next_multiple_of(16).clamp(64, 1024).min(g.patch());
    let pieces = g.patch().div_ceil(columns);
    let partials = PARTS.div_ceil(pieces * g.groups).min(rows.div_ceil(FEWEST_ROWS)).max(1);
    let block = block_rows::<T>(columns);
    Cut { columns, pieces, partials, rows: rows.div_ceil(partials), block }
}

/// Patch rows that make a weight gradient.
#[derive(Clone, Copy)]
pub(super) enum Rows<'a> {
    /// The first ones; the gradient of row r stands at r.
    All(usize),
    /// Those listed; the gradient of the i-th stands at i.
    Chosen(&'a [u32]),
}

impl Rows<'_> {
    fn count(self) -> usize {
        match self {
            Rows::All(count) => count,
            Rows::Chosen(rows) => rows.len(),
        }
    }
}

/// Elements of scratch memory for [`weight_gradient`] of up to `rows` patch rows.
pub(super) fn gradient_scratch<T: Real>(par: Par, g: &Geometry, rows: usize) -> usize {
    let cut = cut::<T>(g, rows);
    let partials = if cut.partials > 1 { cut.partials * g.weights() } else { 0 };
    piece(partials) + piece(par.threads() * cut.block * cut.columns)
}

/// dw (+)= patchesᵀ · gradient.
pub(super) fn weight_gradient<T: Real>(
    par: Par,
    g: &Geometry,
    wanted: Rows,
    (x, gradient): (&[T], &[T]),
    accumulate: bool,
    dw: &mut [T],
    scratch: &mut [T],
) {
    let rows = wanted.count();
    let Cut { columns, pieces, partials, rows: of_partial, block } = cut::<T>(g, rows);
    let (patch, weights) = (g.patch(), g.weights());
    let (outputs, of_group) = (g.outputs, g.outputs / g.groups);
    let mut scratch = Pieces(scratch);
    let partial_sums = scratch.take(if partials > 1 { partials * weights } else { 0 });
    let memory = Shared::new(scratch.take(par.threads() * block * columns));
    let (target, add) = if partials > 1 { (&mut *partial_sums, false) } else { (&mut *dw, accumulate) };
    let target = Shared::new(target);
    par.each_with_slot(partials * g.groups * pieces, |index, slot| {
        let (partial, group, piece) = (index / pieces / g.groups, index / pieces % g.groups, index % pieces);
        let part = par::block(piece, patch, columns);
        let own = par::block(partial, rows, of_partial);
        let at = partial * weights + (group * patch + part.start) * of_group;
        // SAFETY: each slot has its own memory.
        let memory = unsafe { memory.slice(slot * block * columns..(slot + 1) * block * columns) };
        for (number, part_rows) in par::blocks(own.len(), block).enumerate() {
            let range = own.start + part_rows.start..own.start + part_rows.end;
            let patches = &mut memory[..range.len() * part.len()];
            let patches = match wanted {
                Rows::All(_) => patches_of(g, x, range.clone(), group, part.clone(), patches),
                Rows::Chosen(list) => {
                    let rows = list[range.clone()].iter().map(|row| *row as usize);
                    gather(g, x, rows, group, part.clone(), patches);
                    Matrix::new(&*patches, range.len(), part.len())
                }
            };
            let from = range.start * outputs + group * of_group;
            let gradient = Matrix::strided(&gradient[from..], range.len(), of_group, outputs, 1);
            // SAFETY: each part writes its own rows of its own partial gradient.
            unsafe { gemm_into(T::one(), patches.t(), gradient, add || number > 0, target.at(at), of_group, 1) };
        }
    });
    if partials > 1 {
        add_partials(partial_sums, accumulate, dw);
    }
}

/// out (+)= the partial sums, first to last.
pub(super) fn add_partials<T: Real>(partials: &[T], accumulate: bool, out: &mut [T]) {
    vectorize(
        #[inline(always)]
        || {
            if !accumulate {
                out.fill(T::zero());
            }
            for partial in partials.chunks_exact(out.len()) {
                for (out, value) in out.iter_mut().zip(partial) {
                    *out += *value;
                }
            }
        },
    );
}
