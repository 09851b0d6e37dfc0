//! Sparse layers inside networks against dense ones with the same zeros: convolutions, their neighbours, odd batches.

use engine::dataset::{Dataset, DatasetConfig, FeatureSlice};
use engine::engine::Engine;
use serde_json::{Value, json};
use std::sync::Arc;

const CLASSES: usize = 4;

fn dense(units: usize) -> Value {
    json!({ "kind": "dense", "units": units, "bias": true, "weightInit": "heNormal", "biasInit": "heNormal" })
}

fn conv(filters: usize, kernel: usize, stride: usize, padding: usize) -> Value {
    json!({
        "kind": "conv2d", "filters": filters, "kernel": [kernel, kernel], "stride": [stride, stride], "padding": [padding, padding],
        "groups": 1, "bias": true, "weightInit": "heNormal", "biasInit": "heNormal",
    })
}

fn plain(kind: &str) -> Value {
    json!({ "kind": kind })
}

fn network(input: &[usize], layers: &[Value], threads: usize) -> Box<dyn Engine> {
    let config = json!({
        "input": input, "layers": layers, "loss": { "kind": "softmaxCrossEntropy", "labelSmoothing": 0.0 },
        "seed": 3, "precision": "f64", "threads": threads,
    });
    engine::create(&config.to_string()).unwrap()
}

fn training(weights: &Value, batch: usize) -> String {
    json!({
        "rule": { "propagation": plain("backprop"), "inputs": plain("raw"), "weights": weights, "products": plain("all") },
        "optimizer": { "kind": "sgd", "learningRate": 0.01, "momentum": 0.9, "nesterov": false, "weightDecay": 0.0 },
        "schedule": { "kind": "constant" }, "epochs": 10.0, "batchSize": batch, "seed": 1, "shuffle": true, "dropLast": false,
        "clipNorm": null, "augment": null,
    })
    .to_string()
}

fn data(input: &[usize], rows: usize) -> Arc<Dataset> {
    let size: usize = input.iter().product();
    let features: Vec<f32> = (0..rows * size).map(|i| ((i * 37 % 101) as f32 - 50.0) / 50.0).collect();
    let labels: Vec<u32> = (0..rows).map(|row| (row % CLASSES) as u32).collect();
    let scale = vec![1.0; if input.len() == 3 { input[2] } else { 1 }];
    let config: DatasetConfig = serde_json::from_value(json!({
        "rows": rows, "shape": input, "features": "f32", "scale": scale, "offset": vec![0.0; scale.len()],
        "targets": { "kind": "labels", "classes": CLASSES },
    }))
    .unwrap();
    Arc::new(Dataset::new(config, FeatureSlice::F32(&features), &labels, &[]).unwrap())
}

/// The tensors of some group: (name, elements).
fn tensors(network: &mut dyn Engine, group: &str) -> Vec<(String, usize)> {
    let list: Vec<Value> = serde_json::from_str(&network.tensors().unwrap()).unwrap();
    let of_group = list.into_iter().filter(|tensor| tensor["group"] == group);
    let elements =
        |tensor: &Value| tensor["shape"].as_array().unwrap().iter().map(|axis| axis.as_u64().unwrap()).product::<u64>();
    of_group.map(|tensor| (tensor["name"].as_str().unwrap().to_string(), elements(&tensor) as usize)).collect()
}

fn read(network: &mut dyn Engine, name: &str, elements: usize) -> Vec<f64> {
    let mut bytes = vec![0; elements * 8];
    network.read(name, &mut bytes).unwrap();
    bytes.chunks_exact(8).map(|bytes| f64::from_le_bytes(bytes.try_into().unwrap())).collect()
}

fn write(network: &mut dyn Engine, name: &str, values: &[f64]) {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    network.write(name, &bytes).unwrap();
}

fn close(name: &str, found: &[f64], expected: &[f64]) {
    let scale = expected.iter().fold(1e-3, |most: f64, value| most.max(value.abs()));
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!((found - expected).abs() <= 1e-11 * scale, "{name}[{i}]: {found} where {expected} is expected");
    }
}

/// Masks of the layers named, in a sparse network and as zeros in a dense one; one output and one input of each are empty.
fn masked(input: &[usize], layers: &[Value], names: &[&str], threads: usize) -> (Box<dyn Engine>, Box<dyn Engine>) {
    let (mut sparse, mut reference) = (network(input, layers, threads), network(input, layers, threads));
    for (name, elements) in tensors(&mut *reference, "parameter") {
        let Some(layer) = name.strip_suffix(".weight").filter(|layer| names.contains(layer)) else { continue };
        let outputs = outputs_of(&mut *reference, layer);
        let kept = |i: usize| (i * 7919 % 10 < 3 && i / (elements / outputs) != 1) as u8;
        let mask: Vec<u8> = (0..elements).map(kept).collect();
        sparse.write(&format!("{name}.mask"), &mask).unwrap();
        let mut weights = read(&mut *reference, &name, elements);
        weights.iter_mut().zip(&mask).for_each(|(weight, kept)| *weight *= f64::from(*kept));
        write(&mut *reference, &name, &weights);
        assert_eq!(read(&mut *sparse, &name, elements), weights, "{name} reads dense with zeros");
    }
    (sparse, reference)
}

fn outputs_of(network: &mut dyn Engine, layer: &str) -> usize {
    let name = format!("{layer}.bias");
    tensors(network, "parameter").into_iter().find(|(found, _)| *found == name).unwrap().1
}

fn compare(input: &[usize], layers: &[Value], names: &[&str]) {
    for (rows, threads) in [(1, 1), (19, 1), (33, 2)] {
        let (mut sparse, mut reference) = masked(input, layers, names, threads);
        let rows_of = data(input, rows);
        let run = training(&plain("dense"), rows);
        let losses =
            [sparse.gradient(&run, &rows_of, true).unwrap(), reference.gradient(&run, &rows_of, true).unwrap()];
        close("loss", &losses[..1], &losses[1..]);
        for (name, elements) in tensors(&mut *reference, "gradient") {
            let mut expected = read(&mut *reference, &name, elements);
            let layer = name.trim_start_matches("gradient.").trim_end_matches(".weight").to_string();
            if name.ends_with(".weight") && names.contains(&layer.as_str()) {
                let mut mask = vec![0; elements];
                sparse.read(&format!("{layer}.weight.mask"), &mut mask).unwrap();
                expected.iter_mut().zip(mask).for_each(|(gradient, kept)| *gradient *= f64::from(kept));
            }
            close(&format!("{name}, {rows} rows, {threads} threads"), &read(&mut *sparse, &name, elements), &expected);
        }
        let mut predictions = [vec![0; rows * CLASSES * 8], vec![0; rows * CLASSES * 8]];
        sparse.predict(&rows_of, 0, rows, &mut predictions[0]).unwrap();
        reference.predict(&rows_of, 0, rows, &mut predictions[1]).unwrap();
        let [found, expected] = predictions
            .map(|bytes| bytes.chunks_exact(8).map(|b| f64::from_le_bytes(b.try_into().unwrap())).collect::<Vec<_>>());
        close("predictions", &found, &expected);
    }
}

#[test]
fn sparse_convolutions_compute_what_dense_ones_with_zeros_do() {
    for kernel in [1, 3, 5] {
        for stride in [1, 2] {
            for padding in [0, 1, 2] {
                // Joined neighbours, with an activation between them; then rows again.
                let layers = [
                    conv(6, 3, 1, 1),
                    plain("relu"),
                    conv(5, kernel, stride, padding),
                    plain("tanh"),
                    conv(7, 1, 1, 0),
                    plain("flatten"),
                    dense(CLASSES),
                ];
                compare(&[8, 7, 3], &layers, &["0", "2", "4"]);
            }
        }
    }
}

#[test]
fn sparse_layers_meet_dense_ones_branches_and_other_layers() {
    let norm = json!({ "kind": "layerNorm", "epsilon": 1e-5 });
    let branch = json!({
        "kind": "residual", "body": [dense(40), plain("relu"), dense(40)], "shortcut": [],
    });
    let layers =
        [dense(40), plain("relu"), branch, norm, dense(33), plain("gelu"), dense(30), plain("tanh"), dense(CLASSES)];
    compare(&[21], &layers, &["0", "2.body.0", "2.body.2", "4", "6", "8"]);
    compare(&[21], &layers, &["2.body.2", "8"]);
    let images = [
        conv(6, 3, 1, 1),
        json!({ "kind": "residual", "body": [conv(6, 3, 1, 1), plain("relu"), conv(6, 3, 1, 1)], "shortcut": [conv(6, 1, 1, 0)] }),
        plain("relu"),
        conv(4, 3, 2, 1),
        plain("flatten"),
        dense(20),
        dense(CLASSES),
    ];
    compare(&[6, 6, 2], &images, &["0", "1.body.0", "1.body.2", "1.shortcut.0", "3", "5"]);
    compare(&[6, 6, 2], &images, &["1.body.0", "5", "6"]);
}

#[test]
fn convolutions_grow_and_keep_their_bits_at_any_number_of_threads() {
    let layers = [
        conv(8, 3, 1, 1),
        plain("relu"),
        conv(16, 3, 2, 1),
        plain("relu"),
        conv(16, 3, 1, 1),
        plain("flatten"),
        dense(CLASSES),
    ];
    let rows = data(&[12, 12, 3], 80);
    for schedule in [
        json!({ "kind": "rigl", "begin": 0.0, "end": 1.0, "every": 3, "dropFraction": 0.3 }),
        json!({ "kind": "acdc", "begin": 0.05, "end": 0.9, "every": 3 }),
    ] {
        let weights = json!({
            "kind": "sparse", "auto": false, "schedule": schedule,
            "choice": { "sparsity": 0.8, "distribution": "uniform", "layers": null, "minSparsity": 0.0, "allowEmpty": false },
        });
        let found: Vec<Vec<f64>> = (1..=3)
            .map(|threads| {
                let mut network = network(&[12, 12, 3], &layers, threads);
                network.attach(&training(&weights, 20), &rows).unwrap();
                for _ in 0..10 {
                    network.train(&rows, 1, std::time::Duration::from_secs(60)).unwrap();
                }
                let mut mask = vec![0; 16 * 8 * 9];
                network.read("2.weight.mask", &mut mask).unwrap();
                let kept = mask.iter().filter(|kept| **kept == 1).count();
                assert!(kept == mask.len() / 5 || kept == mask.len(), "{kept} of {}", mask.len());
                let values = read(&mut *network, "2.weight", mask.len());
                assert!(values.iter().zip(&mask).all(|(value, kept)| *kept == 1 || *value == 0.0));
                values
            })
            .collect();
        assert!(found[0] == found[1] && found[1] == found[2], "the same bits under {schedule}");
    }
}

#[test]
fn convolutions_that_cannot_be_sparse_are_refused_by_name() {
    let grouped = json!({
        "kind": "conv2d", "filters": 4, "kernel": [3, 3], "stride": [1, 1], "padding": [1, 1], "groups": 2, "bias": true,
        "weightInit": "heNormal", "biasInit": "zeros",
    });
    let rows = data(&[8, 8, 4], 4);
    for (layer, message) in [
        (grouped, "Cannot use layer 1 (conv2d): expected 1 group of channels for sparse weights but found 2"),
        (
            conv(4, 3, 3, 0),
            "Cannot use layer 1 (conv2d): expected a stride of 1×1 or 2×2 for sparse weights but found 3×3",
        ),
    ] {
        let layers = [conv(4, 3, 1, 1), layer, plain("flatten"), dense(CLASSES)];
        let weights = json!({
            "kind": "sparse", "auto": false, "schedule": plain("static"),
            "choice": { "sparsity": 0.8, "distribution": "uniform", "layers": null, "minSparsity": 0.0, "allowEmpty": false },
        });
        let fault = network(&[8, 8, 4], &layers, 1).attach(&training(&weights, 4), &rows).unwrap_err();
        assert_eq!(fault.message, message);
    }
}
