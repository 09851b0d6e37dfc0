//! A training step allocates nothing: everything is sized when a run is attached. A step that exchanges weights allocates for its new
//! masks, and nothing that grows with the batch.

use engine::dataset::{Dataset, DatasetConfig, FeatureSlice};
use serde_json::{Value, json};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;
use std::sync::Arc;
use std::time::Duration;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Steps before the count begins: Rayon's queues, and on the calling thread the packing memory of products, are made on first use.
const WARM_UP: u64 = 8;

/// Steps that are counted.
const STEPS: u64 = 10;

const BATCH: usize = 64;

/// Rows of a whole epoch, so that no order of rows is drawn in between.
const ROWS: usize = BATCH * 40;

fn dense(units: usize) -> Value {
    json!({ "kind": "dense", "units": units, "bias": true, "weightInit": "heNormal", "biasInit": "zeros" })
}

fn conv(filters: usize) -> Value {
    json!({
        "kind": "conv2d", "filters": filters, "kernel": [3, 3], "stride": [1, 1], "padding": [1, 1], "groups": 1, "bias": true,
        "weightInit": "heNormal", "biasInit": "zeros",
    })
}

fn pool(kind: &str) -> Value {
    json!({ "kind": kind, "kernel": [2, 2], "stride": [2, 2], "padding": [0, 0] })
}

fn network(input: &[usize], layers: &[Value], threads: usize) -> String {
    json!({
        "input": input, "layers": layers, "loss": { "kind": "softmaxCrossEntropy", "labelSmoothing": 0.0 },
        "seed": 1, "precision": "f32", "threads": threads,
    })
    .to_string()
}

fn training(
    optimizer: &Value,
    clip_norm: Option<f64>,
    [propagation, inputs, weights, products]: [&Value; 4],
    images: bool,
) -> String {
    let augment = images.then(|| json!({ "crop": 2, "flip": true }));
    // Averages are kept beside one of the optimizers that everything is tried with.
    let average = (optimizer["momentum"] == 0.9).then_some(0.99);
    json!({
        "rule": {
            "propagation": propagation, "inputs": inputs, "weights": weights, "products": products,
        },
        "optimizer": optimizer, "schedule": { "kind": "cosine", "finalFactor": 0.0 }, "epochs": 2.0, "batchSize": BATCH,
        "seed": 1, "shuffle": true, "dropLast": false, "clipNorm": clip_norm, "augment": augment,
        "averageDecay": average,
    })
    .to_string()
}

fn data(shape: &[usize]) -> Dataset {
    let inputs: usize = shape.iter().product();
    let features: Vec<f32> = (0..ROWS * inputs).map(|i| ((i % 97) as f32 - 48.0) / 50.0).collect();
    let labels: Vec<u32> = (0..ROWS as u32).map(|row| row % 10).collect();
    let config: DatasetConfig = serde_json::from_value(json!({
        "rows": ROWS, "shape": shape, "features": "f32", "scale": [1.0], "offset": [0.0],
        "targets": { "kind": "labels", "classes": 10 },
    }))
    .unwrap();
    Dataset::new(config, FeatureSlice::F32(&features), &labels, &[]).unwrap()
}

fn optimizers() -> Vec<(&'static str, Value, Option<f64>)> {
    let sgd = |momentum: f64| json!({ "kind": "sgd", "learningRate": 0.01, "momentum": momentum, "nesterov": false, "weightDecay": 0.0 });
    let adam = |kind: &str| {
        json!({
            "kind": kind, "learningRate": 1e-3, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8, "weightDecay": 0.01,
        })
    };
    let rms_prop =
        json!({ "kind": "rmsProp", "learningRate": 1e-3, "alpha": 0.99, "epsilon": 1e-8, "weightDecay": 0.0 });
    vec![
        ("sgd", sgd(0.0), None),
        ("momentum", sgd(0.9), None),
        ("adam", adam("adam"), None),
        ("adamW", adam("adamW"), None),
        ("rmsProp", rms_prop, None),
        ("sgd, clipped", sgd(0.0), Some(1e-3)),
        ("adam, clipped", adam("adam"), Some(1e-3)),
    ]
}

fn dual(mode: &str, two_pass: bool, step: &str) -> Value {
    json!({
        "kind": "dual", "mode": mode, "lanes": 2, "seedAt": "output", "shareLanes": two_pass, "twoPass": two_pass,
        "step": step, "feedback": "nlms", "feedbackRate": 0.5, "estimate": "projection", "allowBias": true,
        "force": true, "budget": 1e12,
    })
}

fn mem_aop(policy: &str, memory: bool, center: bool, (scope, convolution): (&str, &str)) -> Value {
    json!({
        "kind": "memAop", "k": 16, "fraction": null, "policy": policy, "memory": memory, "decay": 0.9, "center": center,
        "scope": scope, "convolution": convolution, "minSize": 0.0, "exactOutput": false, "wholeBatches": false,
        "cosine": true, "force": true,
    })
}

/// Choices of outer products, all tried with the first two optimizers. Beside masks convolutions keep images, not patches.
fn products(masks: bool) -> Vec<(&'static str, Value)> {
    let layer = ("layer", if masks { "images" } else { "patches" });
    vec![
        ("topK with memory", mem_aop("topK", true, true, layer)),
        ("weightedK with memory", mem_aop("weightedK", true, false, layer)),
        ("randK", mem_aop("randK", false, true, layer)),
        ("crs", mem_aop("crs", false, false, layer)),
        ("wta", mem_aop("wta", false, true, layer)),
        ("batch", mem_aop("wta", false, false, ("batch", "patches"))),
    ]
}

/// Ways of the loss to the weights, with the optimizers that they are tried with.
fn propagations() -> Vec<(&'static str, Value, usize)> {
    vec![
        ("backprop", json!({ "kind": "backprop" }), 7),
        ("feedback", dual("feedback", false, "optimizer"), 7),
        ("feedback in two passes", dual("feedback", true, "optimizer"), 7),
        ("feedback, hyperdual", dual("feedback", false, "hyperdual"), 1),
        ("activity", dual("activity", false, "optimizer"), 2),
        ("exact", dual("exact", false, "optimizer"), 2),
        ("weight", dual("weight", false, "optimizer"), 2),
    ]
}

/// Batch normalisation among images is refused in two passes and beside exact lanes; masks beside what moves all weights;
/// decorrelation beside dual numbers that move weights themselves.
fn possible(way: &Value, images: bool, masked: bool, decorrelated: bool) -> bool {
    let exact = way["twoPass"] == true || way["mode"] == "exact";
    let whole = way["mode"] == "weight" || way["step"] == "hyperdual";
    !(images && exact || masked && whole || decorrelated && whole)
}

/// One test, not several: others beside it would count their allocations here.
#[test]
fn a_step_allocates_nothing() {
    let plain = |kind: &str| json!({ "kind": kind });
    let every_layer = [
        dense(300),
        json!({ "kind": "layerNorm", "epsilon": 1e-5 }),
        plain("gelu"),
        json!({ "kind": "dropout", "rate": 0.2 }),
        dense(200),
        plain("relu"),
        plain("softmax"),
        dense(100),
        json!({ "kind": "leakyRelu", "slope": 0.1 }),
        plain("sigmoid"),
        dense(50),
        plain("tanh"),
        dense(10),
    ];
    let norm = || json!({ "kind": "batchNorm", "epsilon": 1e-5, "momentum": 0.1 });
    let images = [
        norm(),
        conv(8),
        norm(),
        plain("relu"),
        pool("maxPool2d"),
        json!({ "kind": "residual", "body": [conv(8), norm()], "shortcut": [] }),
        plain("relu"),
        json!({ "kind": "groupNorm", "groups": 2, "epsilon": 1e-5 }),
        json!({ "kind": "dropout2d", "rate": 0.1 }),
        pool("avgPool2d"),
        conv(12),
        plain("globalAvgPool2d"),
        dense(10),
    ];
    // Small enough for one thread even where there are two; and large enough that two share every product.
    let networks = [
        ("small", vec![20], vec![dense(16), plain("relu"), dense(10)]),
        ("large", vec![300], every_layer.to_vec()),
        ("images", vec![12, 12, 3], images.to_vec()),
    ];
    // Changes of masks, which may allocate, come later than the steps that are counted.
    let sparse = json!({
        "kind": "sparse", "auto": false,
        "choice": { "sparsity": 0.8, "distribution": "uniform", "layers": null, "minSparsity": 0.0, "allowEmpty": false },
        "schedule": { "kind": "rigl", "begin": 0.0, "end": 0.75, "every": 50, "dropFraction": 0.3 },
    });
    let decorrelated = json!({
        "kind": "decorrelated", "rate": 0.01, "kappa": 0.5, "rows": null, "every": 2, "center": null, "autoStep": 0.5,
        "form": "local", "block": 100, "layers": null, "first": "learn", "ridge": null,
    });
    let mut averaged = decorrelated.clone();
    for (name, value) in
        [("rate", json!(null)), ("kappa", json!(null)), ("autoStep", json!(null)), ("form", json!("cholesky"))]
    {
        averaged[name] = value;
    }
    let form = |form: &str| {
        let mut choice = if form == "driftFree" { decorrelated.clone() } else { averaged.clone() };
        choice["form"] = json!(form);
        choice
    };
    let choices = [
        (plain("dense"), plain("raw")),
        (sparse.clone(), plain("raw")),
        (plain("dense"), decorrelated.clone()),
        (plain("dense"), averaged.clone()),
        (plain("dense"), form("driftFree")),
        (plain("dense"), form("newtonSchulz")),
    ];
    for ((size, input, layers), (weights, inputs)) in
        networks.iter().flat_map(|network| choices.iter().map(move |choice| (network, choice)))
    {
        let data = Arc::new(data(input));
        for threads in [1, 2] {
            // Batch normalisation mixes rows, and beside masks or decorrelation each layer chooses its own.
            let (images, masks) = (*size == "images", weights["kind"] == "sparse");
            let alone = images || masks || inputs["kind"] != "raw";
            let ways = propagations().into_iter();
            let ways = ways.filter(|(_, way, _)| possible(way, images, masks, inputs["kind"] != "raw"));
            let runs = ways.flat_map(|(way, propagation, count)| {
                let with = move |(name, optimizer, clip)| {
                    (format!("{way}, {name}"), propagation.clone(), json!({ "kind": "all" }), optimizer, clip)
                };
                optimizers().into_iter().take(count).map(with)
            });
            let chosen = products(masks).into_iter().filter(|(rule, _)| !(alone && *rule == "batch"));
            let chosen = chosen.flat_map(|(rule, products)| {
                let with = move |(name, optimizer, clip)| {
                    (format!("{rule}, {name}"), json!({ "kind": "backprop" }), products.clone(), optimizer, clip)
                };
                optimizers().into_iter().take(2).map(with)
            });
            for (name, propagation, products, optimizer, clip_norm) in runs.chain(chosen) {
                let mut network = engine::create(&network(input, layers, threads)).unwrap();
                let run = training(&optimizer, clip_norm, [&propagation, inputs, weights, &products], images);
                network.attach(&run, &data).unwrap();
                let mut train = |steps| network.train(&data, steps, Duration::from_secs(3600)).unwrap();
                train(WARM_UP);
                // The test runner's own thread may allocate beside us once; steps that allocate do so every time.
                let mut attempt = || {
                    let before = train(0).counters.step;
                    let region = Region::new(ALLOCATOR);
                    let report = train(STEPS);
                    let change = region.change();
                    assert_eq!(report.counters.step, before + STEPS, "all steps were taken");
                    (change.allocations, change.reallocations, change.deallocations)
                };
                let found = (0..3).map(|_| attempt()).min();
                assert_eq!(found, Some((0, 0, 0)), "{size} network, {name}, {weights}, {inputs}, {threads} threads");
            }
        }
    }
    an_exchange_allocates_about_the_same_for_any_batch();
}

/// The rows that RigL's gradients need are there from the beginning of the run, or the run is refused then.
fn an_exchange_allocates_about_the_same_for_any_batch() {
    const EVERY: u64 = 4;
    let relu = || json!({ "kind": "relu" });
    let lines = vec![dense(200), relu(), dense(150), relu(), dense(10)];
    let images = vec![conv(8), relu(), conv(12), relu(), conv(8), json!({ "kind": "globalAvgPool2d" }), dense(10)];
    for (input, layers) in [(vec![100], lines), (vec![12, 12, 3], images)] {
        let data = Arc::new(data(&input));
        let sparse = json!({
            "kind": "sparse", "auto": false,
            "choice": {
                "sparsity": 0.8, "distribution": "uniform", "layers": null, "minSparsity": 0.0, "allowEmpty": false,
            },
            "schedule": { "kind": "rigl", "begin": 0.0, "end": 1.0, "every": EVERY, "dropFraction": 0.3 },
        });
        // Batches whose rows lie in tiles of the same width.
        let bytes = [64, 256].map(|batch| {
            let plain = |kind: &str| json!({ "kind": kind });
            let (_, optimizer, _) = &optimizers()[2];
            let choices = [&plain("backprop"), &plain("raw"), &sparse, &plain("all")];
            let mut run: Value = serde_json::from_str(&training(optimizer, None, choices, false)).unwrap();
            run["batchSize"] = json!(batch);
            // The same share of the run is over at the exchange, and as many weights are exchanged.
            run["epochs"] = json!((batch * 40) as f64 / ROWS as f64);
            let mut network = engine::create(&network(&input, &layers, 1)).unwrap();
            network.attach(&run.to_string(), &data).unwrap();
            let mut train = |steps| network.train(&data, steps, Duration::from_secs(3600)).unwrap();
            train(2 * EVERY);
            let region = Region::new(ALLOCATOR);
            train(1);
            region.change().bytes_allocated
        });
        assert!(bytes[0] > 0, "the step exchanges weights");
        // Which weights grow moves the sizes of the new masks' lists a little; rows of the batch would add a fifth or more.
        assert!(bytes[1] < bytes[0] + bytes[0] / 50, "{bytes:?} bytes in batches of 64 and 256, inputs {input:?}");
    }
}
