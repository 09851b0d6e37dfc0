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

/// Bytes of transformed weights that would have to go to main memory and back: these are transformed, multiplied and
/// forgotten by panels of [`PANEL_BYTES`], if one block can hold all tiles in [`PANELLED_BYTES`].
const LARGE_BYTES: usize = 12 << 20;
const PANEL_BYTES: usize = 5 << 20;
const PANELLED_BYTES: usize = 12 << 20;

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

    /// Bytes of one transformed tile of the source and of the target.
    fn of_tile<T: Real>(&self) -> usize {
        T::BYTES * POINTS * (self.source_channels + self.target_channels)
    }

    /// Whether weights are transformed by panels.
    fn panelled<T: Real>(&self) -> bool {
        let weights = T::BYTES * POINTS * self.source_channels * self.target_channels;
        weights > LARGE_BYTES && self.tiles() * self.of_tile::<T>() <= PANELLED_BYTES
    }

    /// Rows of the weights (of `inputs` rows and `outputs` columns) that are transformed at a time: all of them, unless
    /// there is only one block of tiles.
    pub(super) fn panel<T: Real>(&self, inputs: usize, outputs: usize) -> usize {
        if self.panelled::<T>() {
            (PANEL_BYTES / (T::BYTES * POINTS * outputs) / 16 * 16).max(16).min(inputs)
        } else {
            inputs
        }
    }

    fn block_of<T: Real>(&self, bytes: usize) -> usize {
        if self.panelled::<T>() {
            self.tiles()
        } else {
            (bytes / self.of_tile::<T>()).next_multiple_of(8).clamp(32, 512).min(self.tiles())
        }
    }

    /// Tiles that are transformed and multiplied at a time.
    pub(super) fn block<T: Real>(&self) -> usize {
        self.block_of::<T>(if self.shallow() { SHALLOW_BYTES } else { DEEP_BYTES })
    }

    /// Tiles of a block of the weight gradient, whose blocks all threads share.
    pub(super) fn gradient_block<T: Real>(&self) -> usize {
        self.block_of::<T>(DEEP_BYTES)
    }
}
