//! The dual rule on convolutions and residual sums: exact lanes equal back-propagation, two passes equal one, threads do not count.

use engine::Engine;
use engine::dataset::{Dataset, DatasetConfig, FeatureSlice};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

const ROWS: usize = 24;

fn conv(filters: usize, stride: usize, groups: usize) -> Value {
    json!({
        "kind": "conv2d", "filters": filters, "kernel": [3, 3], "stride": [stride, stride], "padding": [1, 1],
        "groups": groups, "bias": true, "weightInit": "heNormal", "biasInit": "heNormal",
    })
}

/// Convolutions, grouped and strided; a residual sum with a map in its shortcut, and one without; a dense end.
fn layers() -> Value {
    let plain = |kind: &str| json!({ "kind": kind });
    json!([
        conv(4, 1, 1),
        plain("relu"),
        { "kind": "residual", "body": [conv(4, 1, 2), plain("tanh"), conv(4, 1, 1)], "shortcut": [] },
        plain("gelu"),
        { "kind": "residual", "body": [conv(6, 2, 1), plain("sigmoid")], "shortcut": [conv(6, 2, 1)] },
        { "kind": "layerNorm", "epsilon": 1e-3 },
        plain("flatten"),
        { "kind": "dense", "units": 3, "bias": true, "weightInit": "heNormal", "biasInit": "zeros" },
    ])
}

fn dual(options: &[(&str, Value)]) -> Value {
    let mut config = json!({
        "kind": "dual", "mode": "feedback", "lanes": 2, "seedAt": "output", "shareLanes": true, "twoPass": false,
        "step": "optimizer", "feedback": "nlms", "feedbackRate": 0.5, "estimate": "projection", "allowBias": false,
        "force": false, "budget": 1e12,
    });
    for (name, value) in options {
        config[name] = value.clone();
    }
    config
}

fn data() -> Dataset {
    let features: Vec<f32> = (0..ROWS * 98).map(|i| ((i * 37 % 97) as f32 - 48.0) / 50.0).collect();
    let labels: Vec<u32> = (0..ROWS as u32).map(|row| row * 7 % 3).collect();
    let config: DatasetConfig = serde_json::from_value(json!({
        "rows": ROWS, "shape": [7, 7, 2], "features": "f32", "scale": [1.0], "offset": [0.0],
        "targets": { "kind": "labels", "classes": 3 },
    }))
    .unwrap();
    Dataset::new(config, FeatureSlice::F32(&features), &labels, &[]).unwrap()
}

/// All parameters after 20 steps, the last of each epoch on fewer rows.
fn after(propagation: &Value, threads: usize) -> Vec<f64> {
    let network = json!({
        "input": [7, 7, 2], "layers": layers(), "loss": { "kind": "softmaxCrossEntropy", "labelSmoothing": 0.0 },
        "seed": 1, "precision": "f64", "threads": threads,
    });
    let plain = |kind: &str| json!({ "kind": kind });
    let run = json!({
        "rule": { "propagation": propagation, "inputs": plain("raw"), "weights": plain("dense"), "products": plain("all") },
        "optimizer": { "kind": "sgd", "learningRate": 0.02, "momentum": 0.9, "nesterov": false, "weightDecay": 0.0 },
        "schedule": plain("constant"), "epochs": 100.0, "batchSize": 10, "seed": 1, "shuffle": true, "dropLast": false,
        "clipNorm": null,
    });
    let data = Arc::new(data());
    let mut network = engine::create(&network.to_string()).unwrap();
    network.attach(&run.to_string(), &data).unwrap();
    let mut steps = 0;
    while steps < 20 {
        steps = network.train(&data, 1, Duration::from_secs(60)).unwrap().counters.step;
    }
    parameters(&mut *network)
}

fn parameters(network: &mut dyn Engine) -> Vec<f64> {
    let tensors: Vec<Value> = serde_json::from_str(&network.tensors().unwrap()).unwrap();
    let mut all = vec![];
    for tensor in tensors.iter().filter(|tensor| tensor["group"] == "parameter") {
        let count: u64 = tensor["shape"].as_array().unwrap().iter().map(|axis| axis.as_u64().unwrap()).product();
        let mut bytes = vec![0; count as usize * 8];
        network.read(tensor["name"].as_str().unwrap(), &mut bytes).unwrap();
        all.extend(bytes.chunks_exact(8).map(|bytes| f64::from_le_bytes(bytes.try_into().unwrap())));
    }
    all
}

#[test]
fn exact_lanes_equal_back_propagation_over_20_steps() {
    let expected = after(&json!({ "kind": "backprop" }), 1);
    for seed_at in ["output", "preactivation"] {
        let found = after(
            &dual(&[
                ("mode", json!("exact")),
                ("shareLanes", json!(false)),
                ("lanes", json!(5)),
                ("seedAt", json!(seed_at)),
            ]),
            1,
        );
        let worst = found.iter().zip(&expected).map(|(f, e)| (f - e).abs()).fold(0.0, f64::max);
        assert!(worst < 1e-10, "seeds at {seed_at}: largest difference {worst}");
    }
}

#[test]
fn two_passes_and_any_number_of_threads_give_the_same_bits() {
    for options in
        [vec![], vec![("shareLanes", json!(false))], vec![("mode", json!("activity")), ("shareLanes", json!(false))]]
    {
        let one = after(&dual(&options), 1);
        let mut two_pass = options.clone();
        two_pass.push(("twoPass", json!(true)));
        assert!(after(&dual(&two_pass), 1) == one, "two passes, {options:?}");
        for threads in [2, 3] {
            assert!(after(&dual(&options), threads) == one, "{threads} threads, {options:?}");
        }
    }
}
