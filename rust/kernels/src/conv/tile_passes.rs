//! The passes of Winograd's method over memory: images and weights to matrices of points and back.
//!
//! The numbers at one point of all tiles are a matrix, tiles × channels; so are those of the weights, inputs × outputs.
//! The matrices of the points follow each other at a [`distance`].

use super::grid::Grid;
use super::scratch::LINE;
use super::tiles::{
    Input, OUT, Output, OutputAdjoint, POINTS, SIDE, Transform, Weights, WeightsAdjoint, two_dimensions,
};
use crate::isa::{Isa, isa, vectorize_for};
use crate::par::{self, Par, Shared};
use crate::real::Real;
use crate::sparse::{Lanes, Vector};
use std::ops::Range;

/// Tiles (or input channels, for weights) that one task transforms at a time.
const BLOCK: usize = 4;

/// Elements of the widest register: what is left of the channels is padded to it.
const WIDEST: usize = 16;

/// Distance between the matrices of two points: a line more than needed, because powers of two would meet in one
/// set of the cache.
pub(super) fn distance(elements: usize) -> usize {
    elements.next_multiple_of(LINE) + LINE
}

/// Calls a function for the registers of this machine, compiled for its instruction set.
macro_rules! for_this_machine {
    ($function:ident::<$t:ident>($($argument:expr),+ $(,)?)) => {
        match isa() {
            // SAFETY: every machine has the portable register; the rest is promised where the macro is used.
            Isa::Portable => unsafe { $function::<$t, <$t as Lanes>::Portable>($($argument),+) },
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => vectorize_for(
                Isa::Avx2,
                #[inline(always)]
                // SAFETY: `isa` names what the machine has.
                || unsafe { $function::<$t, <$t as Lanes>::Avx2>($($argument),+) },
            ),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => vectorize_for(
                Isa::Avx512,
                #[inline(always)]
                // SAFETY: as above.
                || unsafe { $function::<$t, <$t as Lanes>::Avx512>($($argument),+) },
            ),
            #[cfg(not(target_arch = "x86_64"))]
            // SAFETY: as for the portable set.
            Isa::Avx2 | Isa::Avx512 => unsafe { $function::<$t, <$t as Lanes>::Portable>($($argument),+) },
        }
    };
}

/// Where the elements of a transformed square go: element (i, j) to `at + i · steps[0] + j · steps[1]`, but only the
/// first `rows` and `columns`.
struct Place<T> {
    at: *mut T,
    steps: [usize; 2],
    rows: usize,
    columns: usize,
    accumulate: bool,
}

/// Transforms a square whose element (i, j) is at `from[i · A + j]`, for all channels.
///
/// # Safety
/// The instruction set of `V` must be available; all pointers must be good for `channels` elements, and those written
/// used by nobody else during the call.
#[inline(always)]
unsafe fn square<F, T, V, const A: usize, const B: usize>(from: &[*const T; POINTS], channels: usize, place: &Place<T>)
where
    F: Transform<A, B>,
    T: Real,
    V: Vector<T>,
{
    // SAFETY: the caller's promise; registers end at `channels` at most, and padded ones lie in arrays as wide.
    unsafe {
        let mut first = 0;
        while first + V::LANES <= channels {
            two_dimensions::<F, T, V, A, B>(
                #[inline(always)]
                |i, j| V::load(from[i * A + j].add(first)),
                #[inline(always)]
                |i, j, element: V| {
                    if i < place.rows && j < place.columns {
                        let to = place.at.add(i * place.steps[0] + j * place.steps[1] + first);
                        (if place.accumulate { element.add(V::load(to)) } else { element }).store(to);
                    }
                },
            );
            first += V::LANES;
        }
        if first < channels {
            let mut source = [[T::zero(); WIDEST]; POINTS];
            for (source, from) in source.iter_mut().zip(&from[..A * A]) {
                for (lane, value) in source[..channels - first].iter_mut().enumerate() {
                    *value = *from.add(first + lane);
                }
            }
            two_dimensions::<F, T, V, A, B>(
                #[inline(always)]
                |i, j| V::load(source[i * A + j].as_ptr()),
                #[inline(always)]
                |i, j, element: V| {
                    if i < place.rows && j < place.columns {
                        let mut lanes = [T::zero(); WIDEST];
                        element.store(lanes.as_mut_ptr());
                        let to = place.at.add(i * place.steps[0] + j * place.steps[1] + first);
                        for (lane, value) in lanes[..channels - first].iter().enumerate() {
                            *to.add(lane) = if place.accumulate { *to.add(lane) + *value } else { *value };
                        }
                    }
                },
            );
        }
    }
}

/// The transformed 3×3 kernels of some inputs, turned by half a circle when `rotated`: w is 9 × inputs × outputs.
pub(super) fn weights_to_points<T: Real + Lanes>(
    par: Par,
    (inputs, outputs): (usize, usize),
    rows: Range<usize>,
    w: &[T],
    rotated: bool,
    (u, distance): (&mut [T], usize),
) {
    assert!(w.len() == 9 * inputs * outputs && rows.end <= inputs);
    assert!(u.len() >= (POINTS - 1) * distance + rows.len() * outputs);
    let u = Shared::new(u);
    par.for_work(100 * rows.len() * outputs).each(rows.len().div_ceil(BLOCK), |index| {
        let part = par::block(index, rows.len(), BLOCK);
        for row in part {
            let mut from = [w.as_ptr(); POINTS];
            for (cell, from) in from[..9].iter_mut().enumerate() {
                let taken = if rotated { 8 - cell } else { cell };
                *from = w[(taken * inputs + rows.start + row) * outputs..][..outputs].as_ptr();
            }
            let place = Place {
                // SAFETY: inside `u` (asserted above).
                at: unsafe { u.at(row * outputs) },
                steps: [SIDE * distance, distance],
                rows: SIDE,
                columns: SIDE,
                accumulate: false,
            };
            // SAFETY: sources were cut to `outputs` elements, and rows of the points' matrices belong to one task each.
            for_this_machine!(weights_to::<T>(&from, outputs, &place));
        }
    });
}

/// # Safety
/// As [`square`].
#[inline(always)]
unsafe fn weights_to<T: Real, V: Vector<T>>(from: &[*const T; POINTS], outputs: usize, place: &Place<T>) {
    // SAFETY: the caller's promise.
    unsafe { square::<Weights, T, V, 3, SIDE>(from, outputs, place) }
}

/// dw (+)= the gradients of some inputs' weights at the points, transformed back.
pub(super) fn weights_from_points<T: Real + Lanes>(
    par: Par,
    (inputs, outputs): (usize, usize),
    rows: Range<usize>,
    (du, distance): (&[T], usize),
    accumulate: bool,
    dw: &mut [T],
) {
    assert!(dw.len() == 9 * inputs * outputs && rows.end <= inputs);
    let dw = Shared::new(dw);
    par.for_work(100 * rows.len() * outputs).each(rows.len().div_ceil(BLOCK), |index| {
        for row in par::block(index, rows.len(), BLOCK) {
            let mut from = [du.as_ptr(); POINTS];
            for (point, from) in from.iter_mut().enumerate() {
                *from = du[point * distance + row * outputs..][..outputs].as_ptr();
            }
            let cell = inputs * outputs;
            let place = Place {
                // SAFETY: inside `dw` (asserted above).
                at: unsafe { dw.at((rows.start + row) * outputs) },
                steps: [3 * cell, cell],
                rows: 3,
                columns: 3,
                accumulate,
            };
            // SAFETY: sources were cut to `outputs` elements, and inputs belong to one task each.
            for_this_machine!(weights_from::<T>(&from, outputs, &place));
        }
    });
}

/// # Safety
/// As [`square`].
#[inline(always)]
unsafe fn weights_from<T: Real, V: Vector<T>>(from: &[*const T; POINTS], outputs: usize, place: &Place<T>) {
    // SAFETY: the caller's promise.
    unsafe { square::<WeightsAdjoint, T, V, SIDE, 3>(from, outputs, place) }
}

/// Which images tiles are taken from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Pick {
    /// The source, padded, for the [`Input`] transform.
    Source,
    /// The target, for the [`OutputAdjoint`] transform.
    Target,
}

/// Transforms tiles into one matrix for each point, tiles × channels. `zeros` stands for pixels outside the images.
pub(super) fn tiles_to_points<T: Real + Lanes>(
    par: Par,
    grid: &Grid,
    pick: Pick,
    images: &[T],
    tiles: Range<usize>,
    (out, distance): (&mut [T], usize),
    zeros: &[T],
) {
    let channels = match pick {
        Pick::Source => grid.source_channels,
        Pick::Target => grid.target_channels,
    };
    assert!(zeros.len() >= channels && out.len() >= (POINTS - 1) * distance + tiles.len() * channels);
    let out = Shared::new(out);
    par.each(tiles.len().div_ceil(BLOCK), |index| {
        let part = par::block(index, tiles.len(), BLOCK);
        for_this_machine!(tiles_to::<T>(grid, pick, images, tiles.start, part.clone(), &out, distance, zeros));
    });
}

/// # Safety
/// The instruction set of `V` must be available; `out` must hold all points' matrices, whose rows in `part` nobody else
/// uses; `zeros` must hold as many elements as the images have channels.
#[allow(clippy::too_many_arguments)] // Inlined into the one place above.
#[inline(always)]
unsafe fn tiles_to<T: Real, V: Vector<T>>(
    grid: &Grid,
    pick: Pick,
    images: &[T],
    first_tile: usize,
    part: Range<usize>,
    out: &Shared<T>,
    distance: usize,
    zeros: &[T],
) {
    let ([height, width], channels, padding, side) = match pick {
        Pick::Source => (grid.source, grid.source_channels, grid.padding, SIDE),
        Pick::Target => (grid.target, grid.target_channels, [0, 0], OUT),
    };
    for row in part {
        let (image, top, left) = grid.place(first_tile + row);
        let image = &images[image * height * width * channels..(image + 1) * height * width * channels];
        let mut from = [zeros.as_ptr(); POINTS];
        for i in 0..side {
            // Rows and columns above and left of the image wrap to numbers beyond it.
            let y = (top + i).wrapping_sub(padding[0]);
            if y < height {
                for j in 0..side {
                    let x = (left + j).wrapping_sub(padding[1]);
                    if x < width {
                        from[i * side + j] = image[(y * width + x) * channels..][..channels].as_ptr();
                    }
                }
            }
        }
        // SAFETY: the caller's promise; sources were cut to `channels` elements or are `zeros`.
        unsafe {
            let at = out.at(row * channels);
            let place = Place { at, steps: [SIDE * distance, distance], rows: SIDE, columns: SIDE, accumulate: false };
            match pick {
                Pick::Source => square::<Input, T, V, SIDE, SIDE>(&from, channels, &place),
                Pick::Target => square::<OutputAdjoint, T, V, OUT, SIDE>(&from, channels, &place),
            }
        }
    }
}

/// Transforms the points' products back into pixels of the target, and completes each pixel with `finish`.
pub(super) fn products_to_pixels<T: Real + Lanes>(
    par: Par,
    grid: &Grid,
    (m, distance): (&[T], usize),
    tiles: Range<usize>,
    target: &Shared<T>,
    finish: &(impl Fn(usize, &mut [T]) + Sync),
) {
    par.each(tiles.len().div_ceil(BLOCK), |index| {
        let part = par::block(index, tiles.len(), BLOCK);
        let from = (m, distance);
        for_this_machine!(products_to::<T>(grid, from, tiles.start, part.clone(), target, finish));
    });
}

/// # Safety
/// The instruction set of `V` must be available; `target` must hold the grid's target images, of which nobody else uses
/// the tiles in `part`.
#[inline(always)]
unsafe fn products_to<T: Real, V: Vector<T>>(
    grid: &Grid,
    (m, distance): (&[T], usize),
    first_tile: usize,
    part: Range<usize>,
    target: &Shared<T>,
    finish: &impl Fn(usize, &mut [T]),
) {
    let (channels, [height, width]) = (grid.target_channels, grid.target);
    for row in part {
        let (image, top, left) = grid.place(first_tile + row);
        let mut from = [m.as_ptr(); POINTS];
        for (point, from) in from.iter_mut().enumerate() {
            *from = m[point * distance + row * channels..][..channels].as_ptr();
        }
        let (rows, columns) = (OUT.min(height - top), OUT.min(width - left));
        let first = (image * height + top) * width + left;
        // SAFETY: the caller's promise; sources were cut to `channels` elements, and the place is cut to the image.
        unsafe {
            let (at, steps) = (target.at(first * channels), [width * channels, channels]);
            square::<Output, T, V, SIDE, OUT>(&from, channels, &Place { at, steps, rows, columns, accumulate: false });
        }
        for i in 0..rows {
            for pixel in first + i * width..first + i * width + columns {
                // SAFETY: a pixel of this tile, which belongs to one task.
                finish(pixel, unsafe { target.slice(pixel * channels..(pixel + 1) * channels) });
            }
        }
    }
}
