//! Speed of the sparse kernels next to the dense ones, layer by layer.
//!
//! ```sh
//! cargo run --release -p kernels --example sparse_speed -- [linear|batch|conv]… [sparsity=0.9] [threads=1] [seconds=0.3] [dense=1]
//! ```
//! Dense and sparse passes of a layer take turns; each line gives the median and, in brackets, the best decile in µs.
//! Backward is input gradient and weight gradient. `dense=0` runs it once only, so that the caches stay
//! warm for the sparse side. `LEANPROP_ISA` picks the instruction set. The results of both sides are compared before anything is timed.

use kernels::conv::{self, Geometry};
use kernels::linear::{self, Dims};
use kernels::rng::{Philox, Purpose};
use kernels::sparse::{self, Conv, Pattern, Plan, Shape, batch_tile};
use kernels::{Activation, Buffer, Par, isa};
use std::time::Instant;

enum Layer {
    Linear { inputs: usize, outputs: usize },
    Conv { channels: usize, size: usize },
}

struct Case {
    group: &'static str,
    batch: usize,
    layer: Layer,
}

fn cases() -> Vec<Case> {
    let linear = |group, batch, inputs, outputs| Case { group, batch, layer: Layer::Linear { inputs, outputs } };
    let conv = |channels, size| Case { group: "conv", batch: 32, layer: Layer::Conv { channels, size } };
    vec![
        linear("linear", 128, 512, 512),
        linear("linear", 128, 1024, 1024),
        linear("linear", 128, 1024, 4096),
        linear("linear", 128, 4096, 1024),
        linear("batch", 16, 1024, 1024),
        linear("batch", 32, 1024, 1024),
        linear("batch", 64, 1024, 1024),
        conv(64, 28),
        conv(128, 14),
        conv(256, 7),
    ]
}

struct Options {
    groups: Vec<String>,
    sparsities: Vec<f64>,
    threads: usize,
    seconds: f64,
    dense: bool,
}

fn options() -> Options {
    let mut options =
        Options { groups: vec![], sparsities: vec![0.5, 0.8, 0.9, 0.95, 0.99], threads: 1, seconds: 0.3, dense: true };
    let number = |text: &str| text.parse().unwrap_or_else(|_| panic!("Cannot read {text}: expected a number"));
    for argument in std::env::args().skip(1) {
        match argument.split_once('=') {
            None => options.groups.push(argument),
            Some(("sparsity", value)) => options.sparsities = value.split(',').map(number).collect(),
            Some(("threads", value)) => options.threads = number(value) as usize,
            Some(("seconds", value)) => options.seconds = number(value),
            Some(("dense", value)) => options.dense = number(value) != 0.0,
            Some((name, _)) => panic!("Cannot use {name}: expected sparsity, threads, seconds or dense"),
        }
    }
    options
}

fn numbers(n: usize, seed: u64) -> Buffer<f32> {
    let rng = Philox::new(seed, Purpose::Initialise);
    let mut buffer = Buffer::zeroed(n).expect("memory");
    buffer.iter_mut().enumerate().for_each(|(i, v)| *v = rng.uniform(i as u64, [0, 0]) as f32 - 0.5);
    buffer
}

fn zeros(n: usize) -> Buffer<f32> {
    Buffer::zeroed(n).expect("memory")
}

fn patterned(shape: Shape, sparsity: f64) -> Pattern {
    let rng = Philox::new(7, Purpose::Initialise);
    let mask: Vec<bool> = (0..shape.dense_len()).map(|i| rng.uniform(i as u64, [0, 0]) >= sparsity).collect();
    Pattern::from_mask(shape, &mask).expect("a mask of the shape")
}

/// Median and best decile of some times, in µs.
fn summary(times: &mut [f64]) -> (f64, f64) {
    times.sort_by(f64::total_cmp);
    (times[times.len() / 2] * 1e6, times[times.len() / 10] * 1e6)
}

/// Asserts that both sides computed the same thing, relative to the largest number.
fn compare(what: &str, found: &[f32], expected: &[f32]) {
    let scale = expected.iter().fold(1e-3_f32, |most, v| most.max(v.abs()));
    let worst = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst < 1e-4 * scale, "sparse and dense {what} differ by {worst} of {scale}");
}

/// The dense kernels of a layer.
enum Dense {
    Linear(Dims),
    Conv(Geometry),
}

impl Dense {
    fn scratch(&self, par: Par, batch: usize) -> Buffer<f32> {
        match self {
            Dense::Linear(_) => Buffer::empty(),
            Dense::Conv(g) => zeros(conv::scratch_elements::<f32>(par, g, batch)),
        }
    }

    #[allow(clippy::too_many_arguments)] // As the kernels.
    fn forward(&self, par: Par, batch: usize, x: &[f32], w: &[f32], b: &[f32], y: &mut [f32], scratch: &mut [f32]) {
        match self {
            Dense::Linear(d) => linear::forward(par, *d, x, w, Some(b), Activation::Relu, y),
            Dense::Conv(g) => conv::forward(par, g, batch, x, w, Some(b), Activation::Relu, y, scratch),
        }
    }

    #[allow(clippy::too_many_arguments)] // As the kernels.
    fn backward(
        &self,
        par: Par,
        batch: usize,
        (x, w, g): (&[f32], &[f32], &[f32]),
        dx: &mut [f32],
        dw: &mut [f32],
        scratch: &mut [f32],
    ) {
        match self {
            Dense::Linear(d) => {
                linear::input_gradient(par, *d, g, w, None, dx);
                linear::weight_gradient(par, *d, 1.0, x, g, false, dw);
            }
            Dense::Conv(shape) => {
                conv::input_gradient(par, shape, batch, g, w, None, dx, scratch);
                conv::weight_gradient(par, shape, batch, x, g, false, dw, scratch);
            }
        }
    }
}

fn measure(case: &Case, sparsity: f64, par: Par, options: &Options) {
    let batch = case.batch;
    let (name, pattern, plan, dense) = match case.layer {
        Layer::Linear { inputs, outputs } => {
            let pattern = patterned(Shape::linear(inputs, outputs), sparsity);
            let plan = Plan::linear(&pattern, batch_tile(batch));
            (format!("{inputs} to {outputs}"), pattern, plan, Dense::Linear(Dims { rows: batch, inputs, outputs }))
        }
        Layer::Conv { channels, size } => {
            let geometry = Geometry {
                height: size,
                width: size,
                inputs: channels,
                outputs: channels,
                kernel: [3; 2],
                stride: [1; 2],
                padding: [1; 2],
                groups: 1,
            };
            let conv = Conv::new(&geometry).expect("a shape for sparse weights");
            let pattern = patterned(conv.shape(), sparsity);
            let plan = conv.plan(&pattern, conv.input_plane(), conv.output_plane());
            (format!("{channels} at {size}²"), pattern, plan, Dense::Conv(geometry))
        }
    };
    let (x_tiles, y_tiles) = (plan.input_tiles(batch), plan.output_tiles(batch));
    let (x, g, values) = (numbers(x_tiles.rows_len(), 1), numbers(y_tiles.rows_len(), 2), numbers(pattern.len(), 3));
    let (bias, mut w) = (numbers(y_tiles.channels, 4), zeros(pattern.shape().dense_len()));
    pattern.scatter(&values, &mut w);
    let (mut xt, mut gt, mut yt, mut dxt) =
        (zeros(x_tiles.len()), zeros(y_tiles.len()), zeros(y_tiles.len()), zeros(x_tiles.len()));
    let (mut dw, mut rows) = (zeros(pattern.len()), zeros(y_tiles.rows_len()));
    let (mut dw_of_dense, mut rows_of_x) = (zeros(pattern.len()), zeros(x.len()));
    let (mut dense_y, mut dense_dx, mut dense_dw) = (zeros(g.len()), zeros(x.len()), zeros(w.len()));
    let mut scratch = dense.scratch(par, batch);
    x_tiles.pack(par, &x, &mut xt);
    y_tiles.pack(par, &g, &mut gt);

    let mut times: [Vec<f64>; 5] = Default::default();
    let start = Instant::now();
    let mut turns = 0;
    while turns < 3 || start.elapsed().as_secs_f64() < options.seconds {
        let mut timed = |which: usize, body: &mut dyn FnMut()| {
            if which < 2 && turns > 1 && !options.dense {
                return;
            }
            let start = Instant::now();
            body();
            if turns > 0 {
                times[which].push(start.elapsed().as_secs_f64());
            }
        };
        timed(0, &mut || dense.forward(par, batch, &x, &w, &bias, &mut dense_y, &mut scratch));
        timed(1, &mut || dense.backward(par, batch, (&x, &w, &g), &mut dense_dx, &mut dense_dw, &mut scratch));
        timed(2, &mut || sparse::forward(par, &plan, &xt, &values, Some(&bias), Activation::Relu, &mut yt));
        timed(3, &mut || {
            sparse::backward(par, &plan, &xt, &gt, &values, Activation::Identity, &mut dxt, &mut dw);
        });
        timed(4, &mut || sparse::weight_gradient(par, &plan, &xt, &gt, &mut dw));
        if turns == 0 {
            y_tiles.unpack(par, &yt, &mut rows);
            compare("outputs", &rows, &dense_y);
            x_tiles.unpack(par, &dxt, &mut rows_of_x);
            compare("input gradients", &rows_of_x, &dense_dx);
            pattern.gather(&dense_dw, &mut dw_of_dense);
            compare("weight gradients", &dw, &dw_of_dense);
        }
        turns += 1;
    }
    let [dense_f, dense_b, f, b, first] = times.each_mut().map(|times| summary(times));
    let products = (y_tiles.rows_len() / y_tiles.channels * pattern.len()) as f64;
    let rate =
        |flops: f64, (median, best): (f64, f64)| format!("{:3.0} ({:3.0})", flops / median / 1e3, flops / best / 1e3);
    let time = |(median, best): (f64, f64)| format!("{median:6.0} ({best:6.0})");
    println!(
        "{:>14} B={:<4} {sparsity:<5} | {} {} | {} {} | {} | {} {} | {:4.1} {:4.1} {:4.1} | {}",
        name,
        batch,
        time(dense_f),
        time(dense_b),
        time(f),
        time(b),
        time(first),
        rate(2.0 * products, f),
        rate(4.0 * products, b),
        dense_f.0 / f.0,
        dense_b.0 / b.0,
        (dense_f.0 + dense_b.0) / (f.0 + b.0),
        times[2].len(),
    );
}

fn main() {
    let options = options();
    println!("{} threads, {}", options.threads, isa().name());
    println!(
        "{:>14} {:6} {:5} | dense forward, backward, µs     | sparse forward, backward, µs    | first layer's   | GF/s forward, backward | dense / sparse | turns",
        "layer", "batch", "zeros"
    );
    let crew = kernels::team::Crew::new(options.threads).expect("threads");
    crew.run(|par| {
        for case in cases() {
            if options.groups.is_empty() || options.groups.iter().any(|group| group == case.group) {
                for sparsity in &options.sparsities {
                    measure(&case, *sparsity, par, &options);
                }
            }
        }
    });
}
