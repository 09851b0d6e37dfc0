//! mem-aop on convolutions: the identities that `tests/rules/mem_aop_test.ts` has for dense layers.

use engine::dataset::{Dataset, DatasetConfig, FeatureSlice};
use engine::engine::Engine;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

const ROWS: usize = 24;
const BATCH: usize = 6;

fn conv(filters: usize, kernel: usize, stride: usize, groups: usize) -> Value {
    json!({
        "kind": "conv2d", "filters": filters, "kernel": [kernel, kernel], "stride": [stride, stride],
        "padding": [kernel / 2, kernel / 2], "groups": groups, "bias": true, "weightInit": "heNormal", "biasInit": "zeros",
    })
}

fn network(threads: usize, precision: &str) -> Box<dyn Engine> {
    let dense = json!({ "kind": "dense", "units": 3, "bias": true, "weightInit": "heNormal", "biasInit": "zeros" });
    let layers = [
        conv(5, 3, 1, 1),
        json!({ "kind": "relu" }),
        conv(6, 3, 2, 1),
        json!({ "kind": "tanh" }),
        conv(6, 1, 1, 1),
        conv(6, 3, 1, 2),
        json!({ "kind": "flatten" }),
        dense,
    ];
    let config = json!({
        "input": [9, 7, 2], "layers": layers, "loss": { "kind": "softmaxCrossEntropy", "labelSmoothing": 0.0 },
        "seed": 3, "precision": precision, "threads": threads,
    });
    engine::create(&config.to_string()).unwrap()
}

fn data() -> Dataset {
    let features: Vec<f32> = (0..ROWS * 9 * 7 * 2).map(|i| ((i * i % 89) as f32 - 30.0) / 50.0).collect();
    let labels: Vec<u32> = (0..ROWS as u32).map(|row| row * 7 % 3).collect();
    let config: DatasetConfig = serde_json::from_value(json!({
        "rows": ROWS, "shape": [9, 7, 2], "features": "f32", "scale": [1.0], "offset": [0.0],
        "targets": { "kind": "labels", "classes": 3 },
    }))
    .unwrap();
    Dataset::new(config, FeatureSlice::F32(&features), &labels, &[]).unwrap()
}

fn mem_aop(changes: Value) -> Value {
    let mut config = json!({
        "kind": "memAop", "k": BATCH, "fraction": null, "policy": "topK", "memory": false, "decay": 1.0, "center": false,
        "scope": "layer", "convolution": "patches", "minSize": 0.0, "exactOutput": false, "wholeBatches": false,
        "cosine": false, "force": false,
    });
    for (name, value) in changes.as_object().unwrap() {
        config[name] = value.clone();
    }
    config
}

fn training(products: &Value, batch: usize, seed: u64) -> String {
    let plain = |kind: &str| json!({ "kind": kind });
    json!({
        "rule": {
            "propagation": plain("backprop"), "inputs": plain("raw"), "weights": plain("dense"), "products": products,
        },
        "optimizer": { "kind": "sgd", "learningRate": 0.05, "momentum": 0.0, "nesterov": false, "weightDecay": 0.0 },
        "schedule": { "kind": "constant" }, "epochs": 9.0, "batchSize": batch, "seed": seed, "shuffle": true,
        "dropLast": false, "clipNorm": null, "augment": null,
    })
    .to_string()
}

fn read(network: &mut dyn Engine, group: &str) -> Vec<(String, Vec<f64>)> {
    let tensors: Value = serde_json::from_str(&network.tensors().unwrap()).unwrap();
    let wanted = tensors.as_array().unwrap().iter().filter(|tensor| tensor["group"] == group);
    let list: Vec<(String, usize, bool)> = wanted
        .map(|tensor| {
            let count: u64 = tensor["shape"].as_array().unwrap().iter().map(|axis| axis.as_u64().unwrap()).product();
            (tensor["name"].as_str().unwrap().to_string(), count as usize, tensor["dtype"] == "f64")
        })
        .collect();
    let read = |(name, count, wide): (String, usize, bool)| {
        let mut bytes = vec![0; count * if wide { 8 } else { 4 }];
        network.read(&name, &mut bytes).unwrap();
        let values = if wide {
            bytes.chunks_exact(8).map(|bytes| f64::from_le_bytes(bytes.try_into().unwrap())).collect()
        } else {
            bytes.chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()).into()).collect()
        };
        (name, values)
    };
    list.into_iter().map(read).collect()
}

fn trained(products: &Value, threads: usize, precision: &str) -> Vec<(String, Vec<f64>)> {
    let (mut network, data) = (network(threads, precision), Arc::new(data()));
    network.attach(&training(products, BATCH, 5), &data).unwrap();
    for _ in 0..9 {
        network.train(&data, 1, Duration::from_secs(60)).unwrap();
    }
    read(&mut *network, "parameter")
}

fn gradient(products: &Value, seed: u64) -> Vec<(String, Vec<f64>)> {
    let (mut network, data) = (network(1, "f64"), Arc::new(data()));
    network.gradient(&training(products, ROWS, seed), &data, true).unwrap();
    read(&mut *network, "gradient")
}

#[test]
fn keeping_everything_equals_back_propagation() {
    let plain = trained(&json!({ "kind": "all" }), 1, "f64");
    for convolution in ["patches", "images", "exact"] {
        for memory in [false, true] {
            for center in [false, true] {
                let rule = mem_aop(json!({ "convolution": convolution, "memory": memory, "center": center }));
                for ((name, expected), (_, found)) in plain.iter().zip(trained(&rule, 1, "f64")) {
                    for (expected, found) in expected.iter().zip(found) {
                        let difference = (expected - found).abs();
                        assert!(difference < 1e-11, "{convolution} {memory} {center} {name}: {found} for {expected}");
                    }
                }
            }
        }
    }
    let some = trained(&mem_aop(json!({ "k": 2 })), 1, "f64");
    assert!(plain.iter().zip(&some).any(|(plain, some)| plain != some));
}

#[test]
fn weighted_patches_are_right_on_average() {
    let exact = gradient(&json!({ "kind": "all" }), 0);
    for (policy, center) in [("crs", true), ("wta", false), ("wta", true)] {
        let draws = 400;
        let mut sums: Vec<Vec<f64>> = exact.iter().map(|(_, values)| vec![0.0; values.len()]).collect();
        let mut squares = vec![0.0; exact.len()];
        for seed in 0..draws {
            let rule = mem_aop(json!({ "k": null, "fraction": 0.2, "policy": policy, "center": center }));
            for (at, (_, values)) in gradient(&rule, seed).into_iter().enumerate() {
                for (index, value) in values.into_iter().enumerate() {
                    sums[at][index] += value / draws as f64;
                    squares[at] += (value - exact[at].1[index]).powi(2);
                }
            }
        }
        for (at, (name, expected)) in exact.iter().enumerate() {
            let error: f64 = sums[at].iter().zip(expected).map(|(found, expected)| (found - expected).powi(2)).sum();
            let allowed = 4.0 * squares[at] / (draws * draws) as f64;
            assert!(error <= allowed + 1e-24, "{policy} {center} {name}: {error} above {allowed}");
        }
    }
}

#[test]
fn convolutions_give_the_same_bits_for_any_number_of_threads() {
    for changes in [
        json!({ "k": 2, "policy": "wta", "center": true }),
        json!({ "k": 2, "policy": "topK", "memory": true, "convolution": "images", "center": true }),
    ] {
        let one = trained(&mem_aop(changes.clone()), 1, "f32");
        for threads in [2, 3] {
            assert!(trained(&mem_aop(changes.clone()), threads, "f32") == one, "{changes} on {threads} threads");
        }
    }
}

#[test]
fn images_have_a_memory_that_can_be_written_back() {
    let rule = mem_aop(json!({ "k": 2, "memory": true, "convolution": "images", "center": true }));
    let (mut network, data) = (network(1, "f64"), Arc::new(data()));
    network.attach(&training(&rule, BATCH, 5), &data).unwrap();
    network.train(&data, 3, Duration::from_secs(60)).unwrap();
    let state = read(&mut *network, "rule");
    let shape = |name: &str| state.iter().find(|(found, _)| found == name).map(|(_, values)| values.len());
    assert_eq!(shape("rule.0.memory.inputs"), Some(BATCH * 9 * 7 * 2));
    assert_eq!(shape("rule.0.memory.gradients"), Some(BATCH * 9 * 7 * 5));
    let zero = state[0].1.chunks(9 * 7 * 2).filter(|image| image.iter().all(|value| *value == 0.0)).count();
    assert_eq!(zero, 2, "two images were used and left the memory");
    let figures: Value = serde_json::from_str(&network.request(r#"{"do":"describeRule"}"#).unwrap()).unwrap();
    assert_eq!(figures[0]["slots"]["products"]["keeps"], "images");
}

#[test]
fn describe_says_what_convolutions_keep() {
    let mut network = network(1, "f32");
    let data = Arc::new(data());
    network.attach(&training(&mem_aop(json!({ "k": 2, "memory": true })), BATCH, 1), &data).unwrap();
    let figures: Value = serde_json::from_str(&network.request(r#"{"do":"describeRule"}"#).unwrap()).unwrap();
    let products: Vec<&Value> = figures.as_array().unwrap().iter().map(|map| &map["slots"]["products"]).collect();
    assert_eq!((&products[0]["keeps"], &products[0]["policy"]), (&json!("patches"), &json!("wta")));
    assert_eq!(products[0]["k"], json!(2 * 9 * 7));
    assert_eq!(products[3]["why"], json!("patches of grouped convolutions are not chosen"));
    assert_eq!((&products[4]["keeps"], &products[4]["policy"]), (&json!("rows"), &json!("topK")));
}
