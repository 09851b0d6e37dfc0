//! How much faster the weight gradient of one layer is with mem-aop: the whole learning step of a linear map (choosing, memory,
//! product, update by plain gradient descent) against the exact one, in turn, medians of ratios.
//!
//! `cargo run --release -p engine --example mem_aop_speed [threads] [pairs]`

use engine::config::{Init, TrainingConfig};
use engine::layers::linear::{Learn, Linear};
use engine::layers::map::Map;
use engine::layers::{Mode, Pass};
use engine::pool::Threads;
use engine::rules::{Moment, Site, Slots};
use kernels::conv::Geometry;
use kernels::optimize::Update;
use kernels::rng::{Philox, Purpose};
use kernels::{Buffer, Par};
use serde_json::{Value, json};
use std::time::Instant;

fn training(products: &Value, batch: usize) -> TrainingConfig {
    let plain = |kind: &str| json!({ "kind": kind });
    serde_json::from_value(json!({
        "rule": {
            "propagation": plain("backprop"), "inputs": plain("raw"), "weights": plain("dense"), "products": products,
        },
        "optimizer": { "kind": "sgd", "learningRate": 1e-3, "momentum": 0.0, "nesterov": false, "weightDecay": 0.0 },
        "schedule": { "kind": "constant" }, "epochs": 1.0, "batchSize": batch, "seed": 1, "shuffle": true,
        "dropLast": false, "clipNorm": null, "augment": null,
    }))
    .expect("a training run")
}

fn rule(share: f64, memory: bool, convolution: &str) -> Value {
    json!({
        "kind": "memAop", "k": null, "fraction": share, "policy": if memory { "topK" } else { "wta" }, "memory": memory,
        "decay": 1.0, "center": true, "scope": "layer", "convolution": convolution, "minSize": 0.0, "exactOutput": false,
        "wholeBatches": false, "cosine": false, "force": false,
    })
}

/// Seconds of one learning step, repeated until the clock can tell.
struct Bench {
    linear: Linear<f32>,
    parameters: Buffer<f32>,
    gradient: Buffer<f32>,
    x: Vec<f32>,
    g: Vec<f32>,
    scratch: Buffer<f32>,
    batch: usize,
    step: u64,
}

fn numbers(count: usize, seed: u64) -> Vec<f32> {
    let rng = Philox::new(seed, Purpose::Initialise);
    (0..count).map(|i| rng.uniform(i as u64, [0, 0]) as f32 - 0.3).collect()
}

impl Bench {
    fn new(map: &Map, batch: usize, products: &Value, threads: usize) -> Bench {
        let mut linear = Linear::new(map.clone(), false, Init::Zeros, Init::Zeros);
        let site = |config| Site {
            name: "layer".into(),
            layer: "0".into(),
            number: 0,
            map: map.clone(),
            bias: false,
            first: false,
            last: false,
            untrained: true,
            convolves: matches!(map, Map::Conv(_)),
            batch,
            threads,
            total_steps: 1,
            sparsity: None,
            masked: false,
            training: config,
        };
        let config = training(products, batch);
        linear.slots = Slots::new(&site(&config)).expect("slots");
        let inputs = match map {
            Map::Dense { inputs, .. } => *inputs,
            Map::Conv(g) => g.height * g.width * g.inputs,
        };
        let zeroed = |count| Buffer::zeroed(count).expect("memory");
        Bench {
            parameters: zeroed(map.weights().next_multiple_of(16)),
            gradient: zeroed(map.weights().next_multiple_of(16)),
            x: numbers(batch * inputs, 1),
            g: numbers(map.rows(batch) * map.outputs(), 2),
            scratch: zeroed(map.scratch::<f32>(Par::new(threads), batch + 1)),
            linear,
            batch,
            step: 0,
        }
    }

    fn seconds(&mut self, threads: &Threads) -> f64 {
        let Bench { linear, parameters, gradient, x, g, scratch, batch, step } = self;
        threads.run(|par| {
            let update = Update::Sgd { rate: 1e-9, decay: 0.0 };
            let pass = Pass { par, rows: *batch, mode: Mode::Evaluate, samples: &[] };
            let (start, mut runs) = (Instant::now(), 0);
            while start.elapsed().as_secs_f64() < 4e-3 {
                *step += 1;
                let moment = Moment { seed: 1, step: *step, rate: 1e-9, factor: 1.0 };
                let learn = Learn { gradient, first: &mut [], second: &mut [], scratch, update: Some(&update), moment };
                linear.learn(&pass, parameters, x, g, learn);
                runs += 1;
            }
            start.elapsed().as_secs_f64() / f64::from(runs)
        })
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1).map(|text| text.parse::<usize>().expect("a number"));
    let count = arguments.next().unwrap_or(1);
    let pairs = arguments.next().unwrap_or(9);
    let threads = Threads::new(count).expect("threads");
    let dense = |inputs, outputs| Map::Dense { inputs, outputs };
    let conv = |size, inputs, outputs, kernel: usize| {
        Map::Conv(Geometry {
            height: size,
            width: size,
            inputs,
            outputs,
            kernel: [kernel; 2],
            stride: [1; 2],
            padding: [kernel / 2; 2],
            groups: 1,
        })
    };
    let cases = [
        (dense(512, 512), 256, 0.25),
        (dense(784, 1024), 128, 0.25),
        (dense(1024, 1024), 128, 0.25),
        (dense(784, 256), 64, 0.25),
        (dense(256, 128), 64, 0.25),
        (dense(128, 128), 64, 0.25),
        (dense(128, 64), 64, 0.25),
        (dense(64, 64), 64, 0.25),
        (dense(784, 64), 64, 0.25),
        (dense(784, 32), 64, 0.25),
        (dense(784, 10), 64, 0.25),
        (dense(512, 64), 256, 0.25),
        (dense(512, 32), 256, 0.25),
        (dense(512, 512), 256, 0.5),
        (dense(512, 512), 256, 0.75),
        (dense(256, 128), 256, 0.5),
        (dense(256, 128), 256, 0.75),
        (dense(512, 512), 16, 0.25),
        (dense(512, 512), 8, 0.25),
        (conv(28, 1, 16, 3), 64, 0.125),
        (conv(14, 16, 32, 3), 64, 0.125),
        (conv(14, 32, 64, 5), 64, 0.125),
        (conv(32, 64, 64, 3), 16, 0.125),
        (conv(16, 128, 128, 3), 16, 0.125),
        (conv(8, 256, 256, 3), 16, 0.125),
        (conv(4, 512, 512, 3), 16, 0.125),
        (conv(16, 128, 256, 1), 16, 0.125),
    ];
    println!("{:<58} {:>6} {:>10} {:>22} {:>22}", "map, batch, share", "size", "exact", "memory", "without");
    for (map, batch, share) in cases {
        let size = map.inputs() as f64 * map.outputs() as f64 / (map.inputs() + map.outputs()) as f64;
        let is_conv = matches!(map, Map::Conv(_));
        let mut exact = Bench::new(&map, batch, &json!({ "kind": "all" }), count);
        let kinds = if is_conv { [(true, "images"), (false, "patches")] } else { [(true, "exact"), (false, "exact")] };
        let mut others = kinds.map(|(memory, kind)| Bench::new(&map, batch, &rule(share, memory, kind), count));
        let (mut base, mut ratios) = (vec![], [vec![], vec![]]);
        for pair in 0..pairs + 1 {
            let first = exact.seconds(&threads);
            let found = others.each_mut().map(|other| other.seconds(&threads));
            if pair > 0 {
                base.push(first);
                ratios.iter_mut().zip(found).for_each(|(list, found)| list.push(found / first));
            }
        }
        let quantile = |list: &mut Vec<f64>, share: f64| {
            list.sort_by(f64::total_cmp);
            list[(share * list.len() as f64) as usize]
        };
        let name = match &map {
            Map::Dense { inputs, outputs } => format!("{inputs}×{outputs}"),
            Map::Conv(g) => format!("conv {0}×{0}×{1} → {2}, {3}×{3}", g.height, g.inputs, g.outputs, g.kernel[0]),
        };
        let [memory, without] = ratios.each_mut().map(|list| {
            let (median, low) = (quantile(list, 0.5), quantile(list, 0.1));
            format!("{median:.3} (p10 {low:.3}; {:.2}×)", 1.0 / median)
        });
        let exact = quantile(&mut base, 0.5) * 1e6;
        println!("{:<58} {size:>6.1} {exact:>8.1}µs {memory:>22} {without:>22}", format!("{name}, {batch}, {share}"));
    }
}
