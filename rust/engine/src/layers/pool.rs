//! Pooling of images: the maximum or the mean under a window, and the mean of whole images.

use super::{Layer, Memory, Pass, Trace};
use kernels::pool::{self, Window};
use kernels::{Real, real};

/// The largest value under each window.
pub struct MaxPool(pub Window);

impl MaxPool {
    /// Places of the maxima of `rows` samples, one byte each.
    fn cells(&self, rows: usize) -> usize {
        rows * self.0.outputs()
    }
}

impl<T: Real> Layer<T> for MaxPool {
    fn saved(&self, rows: usize) -> usize {
        self.cells(rows).div_ceil(T::BYTES)
    }

    fn separate(&self) -> bool {
        self.cells(1).is_multiple_of(T::BYTES)
    }

    fn forward(&self, pass: &Pass, memory: Memory<T>, x: &[T], y: &mut [T]) {
        let cells = &mut real::bytes_mut(memory.saved)[..self.cells(pass.rows)];
        pool::max(pass.par, &self.0, x, y, cells);
    }

    fn backward(
        &self,
        pass: &Pass,
        _: &[T],
        trace: Trace<T>,
        gy: &[T],
        gx: Option<&mut [T]>,
        _: &mut [T],
        _: &mut [T],
    ) {
        let Some(gx) = gx else { return };
        pool::max_backward(pass.par, &self.0, gy, &real::bytes(trace.saved)[..self.cells(pass.rows)], gx);
    }
}

/// The mean under each window.
pub struct AveragePool(pub Window);

impl<T: Real> Layer<T> for AveragePool {
    fn forward(&self, pass: &Pass, _: Memory<T>, x: &[T], y: &mut [T]) {
        pool::average(pass.par, &self.0, x, y);
    }

    fn backward(&self, pass: &Pass, _: &[T], _: Trace<T>, gy: &[T], gx: Option<&mut [T]>, _: &mut [T], _: &mut [T]) {
        if let Some(gx) = gx {
            pool::average_backward(pass.par, &self.0, gy, gx);
        }
    }
}

/// The mean of each channel over all pixels.
pub struct GlobalAveragePool {
    /// Pixels of an image.
    pub pixels: usize,
    /// Its channels.
    pub channels: usize,
}

impl<T: Real> Layer<T> for GlobalAveragePool {
    fn forward(&self, pass: &Pass, _: Memory<T>, x: &[T], y: &mut [T]) {
        pool::global_average(pass.par, self.pixels, self.channels, x, y);
    }

    fn backward(&self, pass: &Pass, _: &[T], _: Trace<T>, gy: &[T], gx: Option<&mut [T]>, _: &mut [T], _: &mut [T]) {
        if let Some(gx) = gx {
            pool::global_average_backward(pass.par, self.pixels, self.channels, gy, gx);
        }
    }
}
