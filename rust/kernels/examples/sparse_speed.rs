//! Speed of the sparse kernels next to the dense ones, layer by layer.
//!
//! ```sh
//! cargo run --release -p kernels --example sparse_speed -- [linear|batch|conv]… [sparsity=0.9] [threads=1] [seconds=0.3] [dense=1]
//! ```
//! Dense and sparse passes of a layer take turns; each line gives the median and, in brackets, the best decile in µs.
//! Backward is input gradient and weight gradient. A convolution's dense side is the product of its patches, which it
//! gets for nothing here. `dense=0` runs it once only, so that the caches stay
//! warm for the sparse side. `LEANPROP_ISA` picks the instruction set. Outputs are compared before anything is timed.

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

fn measure(case: &Case, sparsity: f64, par: Par, options: &Options) {
    let (name, pattern, plan, d) = match case.layer {
        Layer::Linear { inputs, outputs } => {
            let pattern = patterned(Shape::Linear { inputs, outputs }, sparsity);
            let plan = Plan::linear(&pattern, batch_tile(case.batch));
            (format!("{inputs} to {outputs}"), pattern, plan, Dims { rows: case.batch, inputs, outputs })
        }
        Layer::Conv { channels, size } => {
            let conv =
                Conv { inputs: channels, outputs: channels, size: [size; 2], kernel: [3; 2], stride: 1, padding: 1 };
            let pattern = patterned(conv.shape(), sparsity);
            let plan = conv.plan(&pattern, conv.input_plane(), conv.output_plane());
            let d = Dims { rows: case.batch * size * size, inputs: 9 * channels, outputs: channels };
            (format!("{channels} at {size}²"), pattern, plan, d)
        }
    };
    let (x_tiles, y_tiles) = (plan.input_tiles(case.batch), plan.output_tiles(case.batch));
    let (x, g, values) = (numbers(x_tiles.rows_len(), 1), numbers(y_tiles.rows_len(), 2), numbers(pattern.len(), 3));
    let (bias, mut w) = (numbers(d.outputs, 4), zeros(pattern.shape().dense_len()));
    pattern.scatter(&values, &mut w);
    let (mut xt, mut gt, mut yt, mut dxt) =
        (zeros(x_tiles.len()), zeros(y_tiles.len()), zeros(y_tiles.len()), zeros(x_tiles.len()));
    let (mut dw, mut rows) = (zeros(pattern.len()), zeros(y_tiles.rows_len()));
    x_tiles.pack(par, &x, &mut xt);
    y_tiles.pack(par, &g, &mut gt);

    // The dense side: a convolution multiplies made-up patches.
    let patches = if d.rows == case.batch { numbers(x.len(), 1) } else { numbers(d.rows * d.inputs, 1) };
    let (mut dense_y, mut dense_dx, mut dense_dw) = (zeros(g.len()), zeros(patches.len()), zeros(d.inputs * d.outputs));

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
        timed(0, &mut || linear::forward(par, d, &patches, &w, Some(&bias), Activation::Relu, &mut dense_y));
        timed(1, &mut || {
            linear::input_gradient(par, d, &g, &w, None, &mut dense_dx);
            linear::weight_gradient(par, d, 1.0, &patches, &g, false, &mut dense_dw);
        });
        timed(2, &mut || sparse::forward(par, &plan, &xt, &values, Some(&bias), Activation::Relu, &mut yt));
        timed(3, &mut || {
            sparse::backward(par, &plan, &xt, &gt, &values, Activation::Identity, &mut dxt, &mut dw);
        });
        timed(4, &mut || sparse::weight_gradient(par, &plan, &xt, &gt, &mut dw));
        if turns == 0 && d.rows == case.batch {
            y_tiles.unpack(par, &yt, &mut rows);
            let worst = rows.iter().zip(dense_y.iter()).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst < 1e-3, "sparse and dense outputs differ by {worst}");
        }
        turns += 1;
    }
    let [dense_f, dense_b, f, b, first] = times.each_mut().map(|times| summary(times));
    let lanes = (case.batch * d.rows / case.batch * pattern.len()) as f64;
    let rate =
        |flops: f64, (median, best): (f64, f64)| format!("{:3.0} ({:3.0})", flops / median / 1e3, flops / best / 1e3);
    let time = |(median, best): (f64, f64)| format!("{median:6.0} ({best:6.0})");
    println!(
        "{:>14} B={:<4} {sparsity:<5} | {} {} | {} {} | {} | {} {} | {:4.1} {:4.1} {:4.1} | {}",
        name,
        case.batch,
        time(dense_f),
        time(dense_b),
        time(f),
        time(b),
        time(first),
        rate(2.0 * lanes, f),
        rate(4.0 * lanes, b),
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
    let pool = rayon::ThreadPoolBuilder::new().num_threads(options.threads).build().expect("threads");
    pool.install(|| {
        for case in cases() {
            if options.groups.is_empty() || options.groups.iter().any(|group| group == case.group) {
                for sparsity in &options.sparsities {
                    measure(&case, *sparsity, Par::new(options.threads), &options);
                }
            }
        }
    });
}
