//! The layout of activations for sparse kernels, and the way there and back.
//!
//! `[tile][channel][position][lane]`: a tile is 16, 32 or 64 rows of the batch side by side, so that one weight meets
//! whole registers of rows. A position is a pixel; a linear map has one. The last tile is filled up with zeros. Planes of
//! convolutions carry a border of zeros, so that kernels need no code for edges; kernels read it and never write it.
//!
//! Rows of a plane share their side border: the right one of a row is the left one of the next.

use super::vector::{BLOCK, Lanes};
use crate::isa::{Isa, isa};
use crate::par::{self, Par, Shared};
use crate::real::Real;

/// The pixels of one channel with their border of zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plane {
    /// Rows of pixels.
    pub height: usize,
    /// Pixels of a row.
    pub width: usize,
    /// Zero rows above.
    pub above: usize,
    /// Zero rows below.
    pub below: usize,
    /// Zero pixels between two rows, before the first and after the last.
    pub beside: usize,
}

impl Plane {
    /// The plane of a linear map.
    pub const POINT: Plane = Plane::bare(1, 1);

    /// A plane without a border.
    pub const fn bare(height: usize, width: usize) -> Plane {
        Plane { height, width, above: 0, below: 0, beside: 0 }
    }

    /// The plane with the wider border of two on each side: it serves the layer that writes it and the one that reads it.
    ///
    /// # Panics
    /// If the pixels differ.
    pub fn join(self, other: Plane) -> Plane {
        assert_eq!((self.height, self.width), (other.height, other.width), "planes of one activation");
        Plane {
            above: self.above.max(other.above),
            below: self.below.max(other.below),
            beside: self.beside.max(other.beside),
            ..self
        }
    }

    /// Whether this border is at least as wide as the other's on each side.
    pub fn covers(self, other: Plane) -> bool {
        self.join(other) == self
    }

    /// Positions from one row to the next.
    pub fn pitch(self) -> usize {
        self.width + self.beside
    }

    /// Positions of the whole plane. An odd number, so that channels do not fall on the same cache sets.
    pub fn positions(self) -> usize {
        ((self.above + self.height + self.below) * self.pitch() + self.beside) | 1
    }

    /// The position of a pixel; rows and columns of the border have negative or too large numbers.
    pub fn at(self, row: isize, column: isize) -> isize {
        (self.above as isize + row) * self.pitch() as isize + self.beside as isize + column
    }
}

/// Rows of the widest tile.
pub const WIDEST_TILE: usize = 64;

/// The best tile for a batch through linear maps: 16, 32 or 64.
///
/// A tile costs about 1, 1.6 and 2.6 (measured at 90 % sparsity: wider tiles share the work per weight better), empty
/// rows included.
pub fn batch_tile(batch: usize) -> usize {
    let cost = |(lanes, cost): (usize, usize)| batch.div_ceil(lanes) * cost;
    // The wider tile where two are even.
    [(WIDEST_TILE, 26), (32, 16), (16, 10)].into_iter().min_by_key(|tile| cost(*tile)).map_or(BLOCK, |(lanes, _)| lanes)
}

/// The batch tile of convolutions: pixels already fill the registers.
pub const CONV_TILE: usize = BLOCK;

/// The layout of one activation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tiles {
    /// Rows of the batch.
    pub batch: usize,
    /// Rows of a tile: a multiple of 16.
    pub lanes: usize,
    /// Features, or channels.
    pub channels: usize,
    /// The pixels of a channel.
    pub plane: Plane,
}

impl Tiles {
    /// The layout of `features` numbers per row.
    pub fn linear(batch: usize, lanes: usize, features: usize) -> Tiles {
        Tiles { batch, lanes, channels: features, plane: Plane::POINT }
    }

    /// The layout of images.
    pub fn images(batch: usize, channels: usize, plane: Plane) -> Tiles {
        Tiles { batch, lanes: CONV_TILE, channels, plane }
    }

    /// The number of tiles.
    pub fn count(self) -> usize {
        self.batch.div_ceil(self.lanes)
    }

    /// Elements from one channel to the next.
    pub fn channel_len(self) -> usize {
        self.plane.positions() * self.lanes
    }

    /// Elements of one tile.
    pub fn tile_len(self) -> usize {
        self.channels * self.channel_len()
    }

    /// Elements of the whole activation.
    pub fn len(self) -> usize {
        self.count() * self.tile_len()
    }

    /// Whether the layout has no elements.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// Elements of the same activation as rows: batch × height × width × channels.
    pub fn rows_len(self) -> usize {
        self.batch * self.plane.height * self.plane.width * self.channels
    }

    /// Rows (batch × features, or batch × height × width × channels) to tiles; the border and rows beyond the batch
    /// become zero.
    pub fn pack<T: Real + Lanes>(self, par: Par, rows: &[T], tiles: &mut [T]) {
        self.pack_for(isa(), par, rows, tiles);
    }

    /// Tiles to rows. The border and rows beyond the batch are left out.
    pub fn unpack<T: Real + Lanes>(self, par: Par, tiles: &[T], rows: &mut [T]) {
        self.unpack_for(isa(), par, tiles, rows);
    }

    /// Makes the border zero, for memory that served something else before; pixels keep their values.
    pub fn clear_border<T: Real>(self, tiles: &mut [T]) {
        assert_eq!(tiles.len(), self.len());
        for plane in tiles.chunks_exact_mut(self.channel_len()) {
            self.clear_border_of(plane);
        }
    }

    fn clear_border_of<T: Real>(self, plane: &mut [T]) {
        let mut end = 0;
        for row in 0..self.plane.height as isize {
            let first = self.plane.at(row, 0) as usize * self.lanes;
            plane[end..first].fill(T::zero());
            end = first + self.plane.width * self.lanes;
        }
        plane[end..].fill(T::zero());
    }

    fn pack_for<T: Real + Lanes>(self, isa: Isa, par: Par, rows: &[T], tiles: &mut [T]) {
        assert_eq!(rows.len(), self.rows_len(), "rows of {self:?}");
        assert_eq!(tiles.len(), self.len(), "tiles of {self:?}");
        let tiles = Shared::new(tiles);
        let groups = self.channels.div_ceil(BLOCK);
        par.for_work(self.len()).each(self.count() * groups, |task| {
            let (tile, group) = (task / groups, task % groups);
            let channels = par::block(group, self.channels, BLOCK);
            let first = tile * self.tile_len() + channels.start * self.channel_len();
            // SAFETY: tasks have different tiles or different channels.
            let part = unsafe { tiles.slice(first..first + channels.len() * self.channel_len()) };
            for plane in part.chunks_exact_mut(self.channel_len()) {
                self.clear_border_of(plane);
            }
            self.blocks(tile, channels.start, |row, position, lane, valid| {
                let to = &mut part[position + lane..];
                let (stride, pitch) = (self.row_len(), self.channel_len());
                if valid == BLOCK && channels.len() == BLOCK {
                    let from = &rows[row..];
                    assert!((BLOCK - 1) * stride + BLOCK <= from.len() && (BLOCK - 1) * pitch + BLOCK <= to.len());
                    // SAFETY: both blocks lie inside their slices (asserted).
                    if unsafe { T::transpose(isa, from.as_ptr(), stride, to.as_mut_ptr(), pitch) } {
                        return;
                    }
                }
                for channel in 0..channels.len() {
                    for (i, to) in to[channel * pitch..channel * pitch + BLOCK].iter_mut().enumerate() {
                        *to = if i < valid { rows[row + i * stride + channel] } else { T::zero() };
                    }
                }
            });
        });
    }

    fn unpack_for<T: Real + Lanes>(self, isa: Isa, par: Par, tiles: &[T], rows: &mut [T]) {
        assert_eq!(rows.len(), self.rows_len(), "rows of {self:?}");
        assert_eq!(tiles.len(), self.len(), "tiles of {self:?}");
        let rows = Shared::new(rows);
        let groups = self.channels.div_ceil(BLOCK);
        par.for_work(self.len()).each(self.count() * groups, |task| {
            let (tile, group) = (task / groups, task % groups);
            let channels = par::block(group, self.channels, BLOCK);
            let part = &tiles[tile * self.tile_len() + channels.start * self.channel_len()..];
            self.blocks(tile, channels.start, |row, position, lane, valid| {
                let from = &part[position + lane..];
                let (stride, pitch) = (self.channel_len(), self.row_len());
                if valid == BLOCK && channels.len() == BLOCK {
                    assert!((BLOCK - 1) * stride + BLOCK <= from.len());
                    assert!(row + (BLOCK - 1) * pitch + BLOCK <= self.rows_len());
                    // SAFETY: both blocks lie inside their slices (asserted), and tasks write different rows or channels.
                    if unsafe { T::transpose(isa, from.as_ptr(), stride, rows.at(row), pitch) } {
                        return;
                    }
                }
                for i in 0..valid {
                    let first = row + i * pitch;
                    // SAFETY: tasks write different rows or different channels.
                    let to = unsafe { rows.slice(first..first + channels.len()) };
                    for (channel, to) in to.iter_mut().enumerate() {
                        *to = from[channel * stride + i];
                    }
                }
            });
        });
    }

    /// Elements of one row of the batch.
    fn row_len(self) -> usize {
        self.plane.height * self.plane.width * self.channels
    }

    /// Calls `body(index in rows, element in a plane, first lane, valid lanes)` for each block of 16 lanes of each pixel.
    fn blocks(self, tile: usize, channel: usize, mut body: impl FnMut(usize, usize, usize, usize)) {
        for lane in (0..self.lanes).step_by(BLOCK) {
            let first = tile * self.lanes + lane;
            let valid = self.batch.saturating_sub(first).min(BLOCK);
            // Rows beyond the batch are filled from any row: nothing of it is read.
            let start = if valid == 0 { 0 } else { first * self.row_len() } + channel;
            for y in 0..self.plane.height {
                for x in 0..self.plane.width {
                    let pixel = (y * self.plane.width + x) * self.channels;
                    body(start + pixel, self.plane.at(y as isize, x as isize) as usize * self.lanes, lane, valid);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sparse::testing::isas;
    use crate::team::in_crew;
    use proptest::prelude::*;

    /// Element by element, straight from the definition of the layout.
    fn reference(t: Tiles, rows: &[f64]) -> Vec<f64> {
        let mut tiles = vec![0.0; t.len()];
        let (h, w, c) = (t.plane.height, t.plane.width, t.channels);
        for (i, value) in rows.iter().enumerate() {
            let (channel, x, y, row) = (i % c, i / c % w, i / c / w % h, i / c / w / h);
            let position = (t.plane.above + y) * (w + t.plane.beside) + t.plane.beside + x;
            tiles[row / t.lanes * t.tile_len() + channel * t.channel_len() + position * t.lanes + row % t.lanes] =
                *value;
        }
        tiles
    }

    fn check<T: Real + Lanes>(t: Tiles) {
        let rows: Vec<T> = (1..=t.rows_len()).map(|i| T::of(i as f64)).collect();
        let wide: Vec<f64> = rows.iter().map(|v| v.wide()).collect();
        let expected: Vec<T> = reference(t, &wide).into_iter().map(T::of).collect();
        for isa in isas() {
            for threads in 1..=2 {
                let (tiles, back) = in_crew(threads, |par| {
                    let (mut tiles, mut back) = (vec![T::of(-7.0); t.len()], vec![T::of(-7.0); rows.len()]);
                    t.pack_for(isa, par, &rows, &mut tiles);
                    t.unpack_for(isa, par, &tiles, &mut back);
                    (tiles, back)
                });
                assert!(tiles == expected, "pack {t:?} {} {}", T::NAME, isa.name());
                assert!(back == rows, "unpack {t:?} {} {}", T::NAME, isa.name());
            }
        }
        let mut tiles = expected.clone();
        let everything = Tiles { plane: Plane::bare(1, t.plane.positions()), ..t };
        assert_eq!(everything.len(), t.len());
        for (value, expected) in tiles.iter_mut().zip(&expected) {
            *value = if *expected == T::zero() { T::of(9.0) } else { *value };
        }
        t.clear_border(&mut tiles);
        let full = Tiles { batch: t.count() * t.lanes, ..t };
        let inside = reference(full, &vec![1.0; full.rows_len()]);
        for ((value, expected), inside) in tiles.iter().zip(&expected).zip(inside) {
            let untouched = if inside == 1.0 && *expected == T::zero() { T::of(9.0) } else { *expected };
            assert!(*value == untouched, "clear_border {t:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn conversions_follow_the_definition(
            batch in 1_usize..70, tile in 0_usize..3, channels in 1_usize..40,
            size in (1_usize..5, 1_usize..5), border in (0_usize..3, 0_usize..3, 0_usize..3),
        ) {
            let plane = Plane { height: size.0, width: size.1, above: border.0, below: border.1, beside: border.2 };
            check::<f32>(Tiles { batch, lanes: [16, 32, 64][tile], channels, plane });
            check::<f64>(Tiles { batch, lanes: [16, 32, 64][tile], channels, plane });
        }
    }

    #[test]
    fn large_conversions_are_shared_between_threads() {
        check::<f32>(Tiles::linear(128, 64, 25_000));
        check::<f32>(Tiles::images(17, 40, Plane { height: 40, width: 60, above: 1, below: 1, beside: 1 }));
    }

    #[test]
    fn the_tile_wastes_few_rows() {
        let tiles = [(1, 16), (16, 16), (17, 32), (32, 32), (64, 64), (96, 32), (128, 64), (256, 64)];
        for (batch, lanes) in tiles {
            assert_eq!(batch_tile(batch), lanes, "batch {batch}");
        }
    }

    #[test]
    fn planes_join_and_cover() {
        let small = Plane { above: 1, ..Plane::bare(5, 6) };
        let wide = Plane { beside: 2, ..Plane::bare(5, 6) };
        let both = Plane { above: 1, beside: 2, ..Plane::bare(5, 6) };
        assert_eq!(small.join(wide), both);
        assert!(both.covers(small) && both.covers(wide) && !small.covers(wide));
        assert_eq!((both.pitch(), both.positions(), both.at(-1, -2), both.at(0, 0)), (8, 51, 0, 10));
    }
}
