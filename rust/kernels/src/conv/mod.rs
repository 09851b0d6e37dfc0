//! Convolution of images: forward pass, input gradient, weight gradient, bias gradient.
//!
//! Images are NHWC: rows = image · height · width, columns = channels. Weights are `(kernel row, kernel column, channel)
//! × output`, row after row, one such matrix for each group: what the matrix of patches is multiplied with.
//! Nothing is allocated; scratch memory comes from the caller, who asks [`scratch_elements`] how much.
//!
//! [`Algorithm::choose`] is the only place that decides which method computes what.

mod bias;
mod blocked;
mod depthwise;
mod geometry;
mod grid;
mod patches;
pub mod sampled;
mod scratch;
#[cfg(test)]
mod tests;
mod tile_passes;
mod tiles;
mod winograd;

use crate::activation::Activation;
use crate::linear::{self, Dims};
use crate::par::Par;
use crate::real::Real;
use crate::sparse::Lanes;
pub use bias::{bias_gradient, bias_scratch_elements};
pub use geometry::Geometry;
pub use patches::{gather, scatter_add};
use std::ops::Range;

/// What is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// y from x and w.
    Forward,
    /// dx from the output gradient and w.
    InputGradient,
    /// dw from x and the output gradient.
    WeightGradient,
}

impl Pass {
    /// All of them.
    pub const ALL: [Pass; 3] = [Pass::Forward, Pass::InputGradient, Pass::WeightGradient];
}

/// How it is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// A 1×1 kernel at stride 1: pixels are the rows of a linear map.
    Linear,
    /// Patches, built block by block, times weights.
    Patches,
    /// Winograd's F(4×4, 3×3).
    Winograd,
    /// One filter for each channel, summed directly.
    Depthwise,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Algorithm; 4] = [Algorithm::Linear, Algorithm::Patches, Algorithm::Winograd, Algorithm::Depthwise];

    /// Whether it can compute this convolution.
    pub fn supports(self, g: &Geometry) -> bool {
        match self {
            Algorithm::Linear => g.kernel == [1, 1] && g.stride == [1, 1] && g.padding == [0, 0] && g.groups == 1,
            Algorithm::Patches => true,
            Algorithm::Winograd => winograd::supports(g),
            Algorithm::Depthwise => depthwise::supports(g),
        }
    }

    /// The fastest one measured for the shape and number of images (`examples/conv_speed.rs`), and for `f64`, which is
    /// there for exactness, the one that adds the fewest roundings.
    pub fn choose<T: Real>(pass: Pass, g: &Geometry, images: usize) -> Algorithm {
        if Algorithm::Linear.supports(g) {
            Algorithm::Linear
        } else if Algorithm::Depthwise.supports(g) {
            Algorithm::Depthwise
        } else if T::BYTES == 4 && winograd::supports(g) && winograd_pays(pass, g, images) {
            Algorithm::Winograd
        } else {
            Algorithm::Patches
        }
    }
}

/// Whether Winograd's method was measured faster than patches, 1.1 to 4 times, where it can be used.
fn winograd_pays(pass: Pass, g: &Geometry, images: usize) -> bool {
    let channels = g.inputs * g.outputs;
    // The transforms cost the same for each channel, the products they save grow with the channels of the other side.
    let (enough, [height, width]) = match pass {
        Pass::Forward => (channels >= 128 && g.inputs.min(g.outputs) >= 8, [g.out_height(), g.out_width()]),
        Pass::InputGradient => (channels >= 128 && g.inputs.min(g.outputs) >= 8, [g.height, g.width]),
        Pass::WeightGradient => (channels >= 64, [g.out_height(), g.out_width()]),
    };
    // Tiles of 4×4 should lie inside the image for a third at least (images of 3×3 and of 5×5 still win), and there must
    // be enough of them to pay for the transform of the weights.
    let tiles = height.div_ceil(4) * width.div_ceil(4);
    enough && 3 * height * width >= 16 * tiles && tiles * images >= 16
}

/// Elements of scratch memory that the three passes need with the algorithms that [`Algorithm::choose`] gives,
/// for up to `images` images.
pub fn scratch_elements<T: Real + Lanes>(par: Par, g: &Geometry, images: usize) -> usize {
    let of_pass = |pass| {
        // Fewer images may be given to patches.
        let few = scratch_elements_with::<T>(Algorithm::choose::<T>(pass, g, 1), pass, par, g, images);
        few.max(scratch_elements_with::<T>(Algorithm::choose::<T>(pass, g, images), pass, par, g, images))
    };
    Pass::ALL.into_iter().map(of_pass).max().unwrap_or(0)
}

/// Elements of scratch memory for one pass by one algorithm.
pub fn scratch_elements_with<T: Real + Lanes>(
    algorithm: Algorithm,
    pass: Pass,
    par: Par,
    g: &Geometry,
    images: usize,
) -> usize {
    let gradient = pass == Pass::WeightGradient;
    match algorithm {
        Algorithm::Linear => 0,
        Algorithm::Patches if gradient => blocked::gradient_scratch::<T>(par, g, images * g.positions()),
        Algorithm::Patches => blocked::scratch::<T>(par, g),
        Algorithm::Winograd if gradient => winograd::gradient_scratch::<T>(g, images),
        Algorithm::Winograd => winograd::convolve_scratch::<T>(par, g, images),
        Algorithm::Depthwise if gradient => depthwise::gradient_scratch(g, images),
        Algorithm::Depthwise => depthwise::scratch(g),
    }
}

/// The linear map that a 1×1 convolution is.
fn dims(g: &Geometry, images: usize) -> Dims {
    Dims { rows: images * g.positions(), inputs: g.inputs, outputs: g.outputs }
}

fn check_lengths<T>(g: &Geometry, images: usize, x: &[T], w: &[T], y: &[T]) {
    assert!(images > 0, "a convolution of no images");
    assert_eq!(x.len(), images * g.height * g.width * g.inputs, "images under {g:?}");
    assert_eq!(w.len(), g.weights(), "weights under {g:?}");
    assert_eq!(y.len(), images * g.positions() * g.outputs, "outputs under {g:?}");
}

/// What completes channels of one pixel of y. These three return closures, because only so can they be inlined by
/// order into loops compiled for the machine's vectors.
fn bias_and_activation<T: Real>(
    bias: Option<&[T]>,
    activation: Activation<T>,
) -> impl Fn(usize, Range<usize>, &mut [T]) + Copy + Sync {
    #[inline(always)]
    move |_, channels, y| {
        // The common pair in one loop: this runs once for each pixel.
        if let (Some(bias), Activation::Relu) = (bias, activation) {
            for (y, b) in y.iter_mut().zip(&bias[channels]) {
                let z = *y + *b;
                *y = if z < T::zero() { T::zero() } else { z };
            }
            return;
        }
        if let Some(bias) = bias {
            for (y, b) in y.iter_mut().zip(&bias[channels]) {
                *y += *b;
            }
        }
        activation.apply(y);
    }
}

/// What completes channels of one pixel of dx.
fn derivative_below<T: Real>(
    inputs: usize,
    below: Option<(Activation<T>, &[T])>,
) -> impl Fn(usize, Range<usize>, &mut [T]) + Copy + Sync {
    #[inline(always)]
    move |pixel, channels, dx| {
        if let Some((activation, x)) = below {
            let at = pixel * inputs;
            activation.backward_from_output(&x[at + channels.start..at + channels.end], dx);
        }
    }
}

/// The same for all channels at once.
fn whole_pixel<T: Real>(
    channels: usize,
    finish: impl Fn(usize, Range<usize>, &mut [T]) + Copy + Sync,
) -> impl Fn(usize, &mut [T]) + Sync {
    #[inline(always)]
    move |pixel, values| finish(pixel, 0..channels, values)
}

/// y = f(conv(x, w) + bias): x is images × height × width × inputs, y images × out height × out width × outputs.
#[allow(clippy::too_many_arguments)] // As `linear::forward`, with the shape and the scratch memory.
pub fn forward<T: Real + Lanes>(
    par: Par,
    g: &Geometry,
    images: usize,
    x: &[T],
    w: &[T],
    bias: Option<&[T]>,
    activation: Activation<T>,
    y: &mut [T],
    scratch: &mut [T],
) {
    forward_with(Algorithm::choose::<T>(Pass::Forward, g, images), par, g, images, x, w, bias, activation, y, scratch);
}

/// [`forward`] by a given algorithm, which must support the shape.
#[allow(clippy::too_many_arguments)] // As `forward`.
pub fn forward_with<T: Real + Lanes>(
    algorithm: Algorithm,
    par: Par,
    g: &Geometry,
    images: usize,
    x: &[T],
    w: &[T],
    bias: Option<&[T]>,
    activation: Activation<T>,
    y: &mut [T],
    scratch: &mut [T],
) {
    check_lengths(g, images, x, w, y);
    assert!(algorithm.supports(g), "{algorithm:?} under {g:?}");
    assert!(bias.is_none_or(|bias| bias.len() == g.outputs));
    let par = par.for_work(g.operations(images));
    let finish = bias_and_activation(bias, activation);
    let finish_pixel = whole_pixel(g.outputs, finish);
    match algorithm {
        Algorithm::Linear => linear::forward(par, dims(g, images), x, w, bias, activation, y),
        Algorithm::Patches => blocked::forward(par, g, images, (x, w), y, scratch, finish_pixel),
        Algorithm::Winograd => winograd::forward::<T>(par, g, images, (x, w), y, scratch, finish_pixel),
        Algorithm::Depthwise => depthwise::forward(par, g, images, (x, w), y, scratch, finish),
    }
}

/// dx = the gradient of x, times the derivative of the activation that made x (told from x itself).
#[allow(clippy::too_many_arguments)] // As `linear::input_gradient`, with the shape and the scratch memory.
pub fn input_gradient<T: Real + Lanes>(
    par: Par,
    g: &Geometry,
    images: usize,
    gradient: &[T],
    w: &[T],
    below: Option<(Activation<T>, &[T])>,
    dx: &mut [T],
    scratch: &mut [T],
) {
    let algorithm = Algorithm::choose::<T>(Pass::InputGradient, g, images);
    input_gradient_with(algorithm, par, g, images, gradient, w, below, dx, scratch);
}

/// [`input_gradient`] by a given algorithm, which must support the shape.
#[allow(clippy::too_many_arguments)] // As `input_gradient`.
pub fn input_gradient_with<T: Real + Lanes>(
    algorithm: Algorithm,
    par: Par,
    g: &Geometry,
    images: usize,
    gradient: &[T],
    w: &[T],
    below: Option<(Activation<T>, &[T])>,
    dx: &mut [T],
    scratch: &mut [T],
) {
    check_lengths(g, images, dx, w, gradient);
    assert!(algorithm.supports(g), "{algorithm:?} under {g:?}");
    let par = par.for_work(g.operations(images));
    let finish = derivative_below(g.inputs, below);
    let finish_pixel = whole_pixel(g.inputs, finish);
    let from = (gradient, w);
    match algorithm {
        Algorithm::Linear => linear::input_gradient(par, dims(g, images), gradient, w, below, dx),
        Algorithm::Patches => blocked::input_gradient(par, g, images, from, dx, scratch, finish_pixel),
        Algorithm::Winograd => winograd::input_gradient::<T>(par, g, images, from, dx, scratch, finish_pixel),
        Algorithm::Depthwise => depthwise::input_gradient(par, g, images, from, dx, scratch, finish),
    }
}

/// dw (+)= the gradient of w.
#[allow(clippy::too_many_arguments)] // As `linear::weight_gradient`, with the shape and the scratch memory.
pub fn weight_gradient<T: Real + Lanes>(
    par: Par,
    g: &Geometry,
    images: usize,
    x: &[T],
    gradient: &[T],
    accumulate: bool,
    dw: &mut [T],
    scratch: &mut [T],
) {
    let algorithm = Algorithm::choose::<T>(Pass::WeightGradient, g, images);
    weight_gradient_with(algorithm, par, g, images, x, gradient, accumulate, dw, scratch);
}

/// [`weight_gradient`] by a given algorithm, which must support the shape.
#[allow(clippy::too_many_arguments)] // As `weight_gradient`.
pub fn weight_gradient_with<T: Real + Lanes>(
    algorithm: Algorithm,
    par: Par,
    g: &Geometry,
    images: usize,
    x: &[T],
    gradient: &[T],
    accumulate: bool,
    dw: &mut [T],
    scratch: &mut [T],
) {
    check_lengths(g, images, x, dw, gradient);
    assert!(algorithm.supports(g), "{algorithm:?} under {g:?}");
    let par = par.for_work(g.operations(images));
    let from = (x, gradient);
    match algorithm {
        Algorithm::Linear => {
            linear::weight_gradient(par, dims(g, images), T::one(), x, gradient, accumulate, dw);
        }
        Algorithm::Patches => {
            let rows = blocked::Rows::All(images * g.positions());
            blocked::weight_gradient(par, g, rows, from, accumulate, dw, scratch);
        }
        Algorithm::Winograd => {
            winograd::weight_gradient::<T>(par, g, images, from, accumulate, dw, scratch);
        }
        Algorithm::Depthwise => depthwise::weight_gradient(par, g, images, from, accumulate, dw, scratch),
    }
}
