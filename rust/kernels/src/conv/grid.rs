//! How images are cut into the tiles of Winograd's method.

use super::Geometry;
use super::tiles::{OUT, POINTS};
use crate::real::Real;

/// Products of input and output channels up to which transformed weights stay in the second-level cache: each thread
/// then takes blocks of tiles of its own. Above, all threads work on one block, so that the weights are read once.
const SHALLOW: usize = 96 * 96;

/// Bytes of transformed tiles in a block of one thread.
const SHALLOW_BYTES: usize = 1 << 20;

/// Bytes of transformed tiles in a block of all threads: part of the third-level cache.
const DEEP_BYTES: usize = 6 << 20;

/// Tiles over images: from a source with `source_channels`, padded, to a target that a 3×3 kernel makes of it.
#[derive(Clone, Copy)]
pub(super) struct Grid {
    pub(super) images: usize,
    pub(super) source: [usize; 2],
    pub(super) source_channels: usize,
    pub(super) padding: [usize; 2],
    pub(super) target: [usize; 2],
    pub(super) target_channels: usize,
}

impl Grid {
    pub(super) fn forward(g: &Geometry, images: usize) -> Grid {
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
    pub(super) fn backward(g: &Geometry, images: usize) -> Grid {
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

    pub(super) fn across(&self) -> usize {
        self.target[1].div_ceil(OUT)
    }

    pub(super) fn tiles_of_image(&self) -> usize {
        self.target[0].div_ceil(OUT) * self.across()
    }

    pub(super) fn tiles(&self) -> usize {
        self.images * self.tiles_of_image()
    }

    /// Image of a tile, and the row and column of its first output.
    #[inline(always)]
    pub(super) fn place(&self, tile: usize) -> (usize, usize, usize) {
        let (image, rest) = (tile / self.tiles_of_image(), tile % self.tiles_of_image());
        (image, rest / self.across() * OUT, rest % self.across() * OUT)
    }

    pub(super) fn shallow(&self) -> bool {
        self.source_channels * self.target_channels <= SHALLOW
    }

    /// Tiles that are transformed and multiplied at a time.
    pub(super) fn block<T: Real>(&self) -> usize {
        let of_tile = T::BYTES * POINTS * (self.source_channels + self.target_channels);
        let bytes = if self.shallow() { SHALLOW_BYTES } else { DEEP_BYTES };
        (bytes / of_tile).next_multiple_of(8).clamp(32, 512).min(self.tiles())
    }

    /// Tiles of a block of the weight gradient, whose blocks all threads share.
    pub(super) fn gradient_block<T: Real>(&self) -> usize {
        let of_tile = T::BYTES * POINTS * (self.source_channels + self.target_channels);
        (DEEP_BYTES / of_tile).next_multiple_of(8).clamp(32, 512).min(self.tiles())
    }
}
