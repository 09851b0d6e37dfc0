//! Random crops and mirrored images: what each epoch sees of a sample is a function of (seed, epoch, sample), so that neither
//! threads nor a resumed run can change it.

use crate::config::Augment;
use crate::error::{Error, Result};
use kernels::rng::{Philox, Purpose};
use std::ops::Range;

/// Refuses data that is not made of images, and crops that could miss the image.
pub fn check(augment: &Augment, shape: &[usize]) -> Result<()> {
    let &[height, width, _] = shape else {
        let found = format!("rows of shape {shape:?}");
        return Err(Error::config("augment", "data with images of shape [height, width, channels]", found));
    };
    let most = height.min(width) - 1;
    if augment.crop > most {
        let expected = format!("a whole number from 0 to {most} (images of {height}×{width})");
        return Err(Error::config("augment.crop", expected, augment.crop));
    }
    Ok(())
}

/// The random changes of one epoch.
pub struct Source {
    rng: Philox,
    epoch: u32,
    augment: Augment,
}

/// How one sample is seen: moved by up to `crop` pixels, then perhaps mirrored.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct View {
    /// Padding on each side of the image.
    crop: usize,
    /// First row and column of the crop in the padded image.
    start: [usize; 2],
    /// Whether it is mirrored left to right.
    pub flip: bool,
}

impl Source {
    /// The changes of an epoch.
    pub fn new(augment: &Augment, seed: u64, epoch: u32) -> Source {
        Source { rng: Philox::new(seed, Purpose::Augment), epoch, augment: *augment }
    }

    /// How a sample is seen.
    pub fn view(&self, sample: u32) -> View {
        let [y, x, side, _] = self.rng.block([0, self.epoch, sample, 0]);
        let Augment { crop, flip } = self.augment;
        let below = |word: u32| ((u64::from(word) * (2 * crop as u64 + 1)) >> 32) as usize;
        View { crop, start: [below(y), below(x)], flip: flip && side & 1 == 1 }
    }
}

impl View {
    /// For line `y` of the result, before it is mirrored: the first pixel to copy, counted from the beginning of the image, and
    /// the columns of the result that it fills. The other columns lie outside the image.
    pub fn line(&self, y: usize, [height, width]: [usize; 2]) -> (usize, Range<usize>) {
        let [top, left] = self.start;
        let (row, outside) = (y + top, 0..0);
        if row < self.crop || row >= self.crop + height {
            return (0, outside);
        }
        let first = self.crop.saturating_sub(left);
        let end = (self.crop + width - left).min(width);
        ((row - self.crop) * width + (first + left - self.crop), first..end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::{Dataset, DatasetConfig, FeatureSlice, FeatureType, TargetConfig};
    use kernels::Par;

    const ROWS: usize = 40;

    fn images() -> (Vec<u8>, Dataset) {
        let bytes: Vec<u8> = (0..ROWS * 4 * 5 * 2).map(|i| (i * 37 % 251) as u8 + 1).collect();
        let config = DatasetConfig {
            rows: ROWS,
            shape: vec![4, 5, 2],
            features: FeatureType::U8,
            scale: vec![0.5, 2.0],
            offset: vec![1.0, -3.0],
            targets: TargetConfig::None {},
        };
        let data = Dataset::new(config, FeatureSlice::U8(&bytes), &[], &[]).unwrap();
        (bytes, data)
    }

    /// Pixel by pixel, from the definition.
    fn reference(bytes: &[u8], row: usize, view: View) -> Vec<f64> {
        let mut out = vec![];
        for y in 0..4 {
            for x in 0..5 {
                let column = if view.flip { 4 - x } else { x };
                let at = |i: usize, start: usize| (i + start) as isize - view.crop as isize;
                let (from_y, from_x) = (at(y, view.start[0]), at(column, view.start[1]));
                for channel in 0..2 {
                    let inside = (0..4).contains(&from_y) && (0..5).contains(&from_x);
                    let index = |y: isize, x: isize| row * 40 + (y * 5 + x) as usize * 2 + channel;
                    let byte = if inside { f64::from(bytes[index(from_y, from_x)]) } else { 0.0 };
                    out.push(byte * [0.5, 2.0][channel] + [1.0, -3.0][channel]);
                }
            }
        }
        out
    }

    #[test]
    fn images_are_moved_and_mirrored_as_the_definition_says() {
        let (bytes, data) = images();
        let mut views = std::collections::HashSet::new();
        for epoch in 0..10 {
            let source = Source::new(&Augment { crop: 2, flip: true }, 7, epoch);
            let rows: Vec<u32> = (0..ROWS as u32).rev().collect();
            let mut out = vec![0.0f64; ROWS * 40];
            data.gather_augmented((&rows, &rows), &source, Par::SEQUENTIAL, &mut out);
            for (row, out) in rows.iter().zip(out.chunks(40)) {
                let view = source.view(*row);
                assert_eq!(out, reference(&bytes, *row as usize, view), "{view:?}");
                views.insert((view.start, view.flip));
            }
        }
        assert_eq!(views.len(), 50, "5 × 5 crops, mirrored and not");
    }

    #[test]
    fn what_cannot_be_changed_is_refused() {
        let fault = |crop, shape: &[usize]| check(&Augment { crop, flip: false }, shape).unwrap_err().message;
        assert_eq!(
            fault(4, &[784]),
            "Cannot use augment: expected data with images of shape [height, width, channels] but found rows of shape [784]"
        );
        assert_eq!(
            fault(5, &[8, 5, 1]),
            "Cannot use augment.crop: expected a whole number from 0 to 4 (images of 8×5) but found 5"
        );
        assert!(check(&Augment { crop: 4, flip: true }, &[8, 5, 1]).is_ok());
    }
}
