//! Measures every algorithm on the convolutions of three networks, side by side.
//!
//! `cargo run --release -p kernels --example conv_speed -- [cnn|convnet|resnet18] [threads] [rounds]`
//!
//! Rounds go through the algorithms in turn, so that a slow moment of the machine meets all of them. A line gives, for
//! each algorithm, milliseconds at the best tenth and at the median, and GFLOP/s at the best tenth, counted by the
//! definition of the convolution: Winograd's method, which performs a quarter of the multiplications, may exceed the peak
//! of the machine. A star marks the choice that the kernels make. The peak is measured first: multiply-adds on registers.

use kernels::conv::{self, Algorithm, Geometry, Pass};
use kernels::isa::{Isa, isa, vectorize_for};
use kernels::sparse::{Lanes, Vector};
use kernels::{Activation, Par};
use std::hint::black_box;
use std::time::Instant;

/// A layer: its name, how often the network has it, and its shape.
struct Layer {
    name: &'static str,
    count: usize,
    geometry: Geometry,
}

fn layer(
    name: &'static str,
    count: usize,
    size: usize,
    channels: [usize; 2],
    kernel: usize,
    stride: usize,
    padding: usize,
) -> Layer {
    let [inputs, outputs] = channels;
    let geometry = Geometry {
        height: size,
        width: size,
        inputs,
        outputs,
        kernel: [kernel; 2],
        stride: [stride; 2],
        padding: [padding; 2],
        groups: 1,
    };
    Layer { name, count, geometry }
}

fn network(name: &str) -> (Vec<usize>, Vec<Layer>) {
    match name {
        "cnn" => {
            (vec![64, 128], vec![layer("1-32", 1, 28, [1, 32], 3, 1, 0), layer("32-64", 1, 13, [32, 64], 3, 1, 0)])
        }
        "convnet" => (
            vec![64],
            vec![
                layer("3-32", 1, 32, [3, 32], 3, 1, 1),
                layer("32-32", 1, 32, [32, 32], 3, 1, 1),
                layer("32-64", 1, 16, [32, 64], 3, 1, 1),
                layer("64-64", 1, 16, [64, 64], 3, 1, 1),
            ],
        ),
        "resnet18" => (
            vec![32],
            vec![
                layer("3-64", 1, 32, [3, 64], 3, 1, 1),
                layer("64-64", 4, 32, [64, 64], 3, 1, 1),
                layer("64-128/2", 1, 32, [64, 128], 3, 2, 1),
                layer("64-128 1x1/2", 1, 32, [64, 128], 1, 2, 0),
                layer("128-128", 3, 16, [128, 128], 3, 1, 1),
                layer("128-256/2", 1, 16, [128, 256], 3, 2, 1),
                layer("128-256 1x1/2", 1, 16, [128, 256], 1, 2, 0),
                layer("256-256", 3, 8, [256, 256], 3, 1, 1),
                layer("256-512/2", 1, 8, [256, 512], 3, 2, 1),
                layer("256-512 1x1/2", 1, 8, [256, 512], 1, 2, 0),
                layer("512-512", 3, 4, [512, 512], 3, 1, 1),
            ],
        ),
        other => panic!("Cannot measure {other}: expected cnn, convnet or resnet18"),
    }
}

/// Multiply-adds that do not wait for each other: enough for two units with a latency of five cycles.
const CHAINS: usize = 10;

/// `steps` multiply-adds in each chain.
///
/// # Safety
/// The instruction set of `V` must be available.
#[inline(always)]
unsafe fn multiply_adds<V: Vector<f32>>(steps: usize) {
    // SAFETY: the caller's promise; a register has at most 16 lanes.
    unsafe {
        let (factor, term) = (V::splat(black_box(0.999)), V::splat(black_box(0.001)));
        let mut sums = [V::splat(0.0); CHAINS];
        for _ in 0..steps {
            for sum in &mut sums {
                *sum = sum.mul_add(factor, term);
            }
        }
        let mut lanes = [0.0f32; 16];
        for sum in sums {
            sum.store(lanes.as_mut_ptr());
            black_box(&lanes);
        }
    }
}

/// GFLOP/s that one thread reaches on registers.
fn peak() -> f64 {
    type Portable = <f32 as Lanes>::Portable;
    const STEPS: usize = 1_000_000;
    let run = || match isa() {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => {
            vectorize_for(
                Isa::Avx2,
                #[inline(always)]
                // SAFETY: `isa` names what the machine has.
                || unsafe { multiply_adds::<<f32 as Lanes>::Avx2>(STEPS) },
            );
            <f32 as Lanes>::Avx2::LANES
        }
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => {
            vectorize_for(
                Isa::Avx512,
                #[inline(always)]
                // SAFETY: as above.
                || unsafe { multiply_adds::<<f32 as Lanes>::Avx512>(STEPS) },
            );
            <f32 as Lanes>::Avx512::LANES
        }
        _ => {
            // SAFETY: every machine has the portable register.
            unsafe { multiply_adds::<Portable>(STEPS) };
            Portable::LANES
        }
    };
    let speeds = (0..20).map(|_| {
        let start = Instant::now();
        let lanes = run();
        (2 * STEPS * CHAINS * lanes) as f64 / start.elapsed().as_secs_f64() / 1e9
    });
    speeds.fold(0.0, f64::max)
}

fn numbers(n: usize) -> Vec<f32> {
    (0..n).map(|i| ((i * 7919 % 1009) as f32 - 504.0) / 1009.0).collect()
}

/// Seconds of every round for every algorithm.
fn measure(
    par: Par,
    pass: Pass,
    g: &Geometry,
    images: usize,
    algorithms: &[Algorithm],
    rounds: usize,
) -> Vec<Vec<f64>> {
    let (x, w, gradient) = (
        numbers(images * g.height * g.width * g.inputs),
        numbers(g.weights()),
        numbers(images * g.positions() * g.outputs),
    );
    let bias = numbers(g.outputs);
    let (mut y, mut dx, mut dw) = (gradient.clone(), x.clone(), w.clone());
    let needed = |a: &Algorithm| conv::scratch_elements_with::<f32>(*a, pass, par, g, images);
    let mut scratch = vec![0.0; algorithms.iter().map(needed).max().unwrap_or(0)];
    let relu = Activation::Relu;
    let mut times = vec![Vec::new(); algorithms.len()];
    for round in 0..=rounds {
        for (algorithm, times) in algorithms.iter().zip(&mut times) {
            let (a, s) = (*algorithm, &mut scratch[..]);
            let start = Instant::now();
            match pass {
                Pass::Forward => conv::forward_with(a, par, g, images, &x, &w, Some(&bias), relu, &mut y, s),
                Pass::InputGradient => conv::input_gradient_with(a, par, g, images, &gradient, &w, None, &mut dx, s),
                Pass::WeightGradient => conv::weight_gradient_with(a, par, g, images, &x, &gradient, false, &mut dw, s),
            }
            if round > 0 {
                times.push(start.elapsed().as_secs_f64());
            }
        }
    }
    times.iter_mut().for_each(|times| times.sort_by(f64::total_cmp));
    times
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().unwrap_or("resnet18".into());
    let mut number = |default| arguments.next().map_or(default, |text| text.parse().expect("a whole number"));
    let (threads, rounds) = (number(1), number(9));
    let crew = kernels::team::Crew::new(threads).expect("threads");
    let (batches, layers) = network(&name);
    crew.run(|par| {
        let peak = peak();
        println!("peak of one thread: {peak:.0} GFLOP/s ({})", isa().name());
        for images in batches {
            println!("{name}, batch {images}, {threads} thread(s): best tenth / median ms, GFLOP/s at the best tenth");
            let mut total = (0.0, 0.0, 0.0);
            for (index, layer) in layers.iter().enumerate() {
                let g = &layer.geometry;
                for pass in Pass::ALL {
                    if index == 0 && pass == Pass::InputGradient {
                        continue;
                    }
                    let algorithms: Vec<_> = Algorithm::ALL.into_iter().filter(|a| a.supports(g)).collect();
                    print!("{:14} ×{} {:14}", layer.name, layer.count, format!("{pass:?}"));
                    let times = measure(par, pass, g, images, &algorithms, rounds);
                    for (algorithm, times) in algorithms.iter().zip(times) {
                        let (best, median) = (times[rounds / 10], times[rounds / 2]);
                        let speed = g.operations(images) as f64 / best / 1e9;
                        let chosen = *algorithm == Algorithm::choose::<f32>(pass, g, images);
                        if chosen {
                            let count = layer.count as f64;
                            total.0 += count * best;
                            total.1 += count * median;
                            total.2 += count * g.operations(images) as f64;
                        }
                        let star = if chosen { "*" } else { " " };
                        print!(
                            " |{star}{:9} {:7.2} /{:7.2} {speed:5.0}",
                            format!("{algorithm:?}"),
                            best * 1e3,
                            median * 1e3
                        );
                    }
                    println!();
                }
            }
            let (best, median, operations) = total;
            println!(
                "all, as chosen: {:.1} / {:.1} ms, {:.0} GFLOP/s, {:.0} % of the peak of {threads} thread(s)",
                best * 1e3,
                median * 1e3,
                operations / best / 1e9,
                operations / best / 1e7 / (peak * threads as f64)
            );
        }
    });
}
