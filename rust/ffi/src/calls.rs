//! The bodies of the exported functions that act on data sets and networks.

use crate::arguments::{put_text, slice, slice_mut, text};
use crate::handles::{Exclusive, Table};
use crate::status::Fault;
use engine::dataset::{Dataset, DatasetConfig, FeatureSlice, FeatureType};
use engine::error::parse;
use engine::pool::Threads;
use engine::{Code, Engine, Error};
use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

static DATASETS: Table<Dataset> = Table::new("data set");
static GRAMS: Table<Arc<dyn Any + Send + Sync>> = Table::new("set of products");
static NETWORKS: Table<Exclusive<Held>> = Table::new("network");

/// A network, and the answer to the last request, which waits to be read.
struct Held {
    engine: Box<dyn Engine>,
    answer: String,
}

pub unsafe fn engine_info(out: *mut u8, capacity: u32, needed: *mut u32) -> Result<(), Fault> {
    kernels::isa::check_pinned().map_err(|message| Error::new(Code::InvalidConfig, message))?;
    let available: Vec<_> = kernels::Isa::ALL.into_iter().filter(|isa| isa.available()).map(|isa| isa.name()).collect();
    let info = serde_json::json!({
        "version": env!("CARGO_PKG_VERSION"),
        "fingerprint": crate::abi::fingerprint(),
        "instructionSet": kernels::isa().name(),
        "instructionSets": available,
        "threads": engine::pool::available(),
        "target": format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS),
    });
    // SAFETY: the caller's promise.
    unsafe { put_text(&info.to_string(), out, capacity, needed) }
}

#[allow(clippy::too_many_arguments)] // The signature of the exported function.
pub unsafe fn dataset_create(
    config: *const u8,
    config_length: u32,
    features: *const u8,
    feature_bytes: u32,
    labels: *const u32,
    label_count: u32,
    values: *const f64,
    value_count: u32,
    handle: *mut u32,
) -> Result<(), Fault> {
    // SAFETY: the caller's promise. Typed arrays are aligned to their elements; `slice` checks it again after the casts.
    let (config, labels, values, handle) = unsafe {
        let config: DatasetConfig = parse("the data set", text(config, config_length)?)?;
        (config, slice(labels, label_count)?, slice(values, value_count)?, slice_mut(handle, 1)?)
    };
    // SAFETY: as above; the element count is the byte count divided by the size of an element.
    let features = unsafe {
        match config.features {
            FeatureType::U8 => FeatureSlice::U8(slice(features, feature_bytes)?),
            FeatureType::F32 => FeatureSlice::F32(slice(features.cast(), feature_bytes / 4)?),
            FeatureType::F64 => FeatureSlice::F64(slice(features.cast(), feature_bytes / 8)?),
        }
    };
    handle[0] = DATASETS.insert(Dataset::new(config, features, labels, values)?)?;
    Ok(())
}

pub unsafe fn dataset_destroy(dataset: u32) -> Result<(), Fault> {
    DATASETS.remove(dataset)
}

pub unsafe fn dataset_select(dataset: u32, rows: *const u32, row_count: u32, handle: *mut u32) -> Result<(), Fault> {
    let dataset = DATASETS.get(dataset)?;
    // SAFETY: the caller's promise.
    let (rows, handle) = unsafe { (slice(rows, row_count)?, slice_mut(handle, 1)?) };
    handle[0] = DATASETS.insert(dataset.select(rows)?)?;
    Ok(())
}

pub unsafe fn gram_create(dataset: u32, wide: u32, threads: u32, handle: *mut u32) -> Result<(), Fault> {
    let dataset = DATASETS.get(dataset)?;
    // SAFETY: the caller's promise.
    let handle = unsafe { slice_mut(handle, 1) }?;
    let threads = Threads::new(threads as usize)?;
    let gram: Arc<dyn Any + Send + Sync> = threads.run(|par| -> Result<Arc<dyn Any + Send + Sync>, Fault> {
        Ok(if wide != 0 { dataset.share_gram::<f64>(par)? } else { dataset.share_gram::<f32>(par)? })
    })?;
    handle[0] = GRAMS.insert(gram)?;
    Ok(())
}

pub unsafe fn gram_destroy(gram: u32) -> Result<(), Fault> {
    GRAMS.remove(gram)
}

pub unsafe fn network_create(config: *const u8, config_length: u32, handle: *mut u32) -> Result<(), Fault> {
    // SAFETY: the caller's promise.
    let (config, handle) = unsafe { (text(config, config_length)?, slice_mut(handle, 1)?) };
    handle[0] = NETWORKS.insert(Exclusive::new(Held { engine: engine::create(config)?, answer: String::new() }))?;
    Ok(())
}

pub unsafe fn network_destroy(network: u32) -> Result<(), Fault> {
    NETWORKS.remove(network)
}

pub unsafe fn network_describe(network: u32, out: *mut u8, capacity: u32, needed: *mut u32) -> Result<(), Fault> {
    let network = NETWORKS.get(network)?;
    let text = network.enter()?.engine.describe();
    // SAFETY: the caller's promise.
    unsafe { put_text(&text, out, capacity, needed) }
}

pub unsafe fn network_tensors(network: u32, out: *mut u8, capacity: u32, needed: *mut u32) -> Result<(), Fault> {
    let network = NETWORKS.get(network)?;
    let text = network.enter()?.engine.tensors()?;
    // SAFETY: the caller's promise.
    unsafe { put_text(&text, out, capacity, needed) }
}

pub unsafe fn network_read(
    network: u32,
    name: *const u8,
    name_length: u32,
    out: *mut u8,
    out_bytes: u32,
) -> Result<(), Fault> {
    let network = NETWORKS.get(network)?;
    // SAFETY: the caller's promise.
    let (name, out) = unsafe { (text(name, name_length)?, slice_mut(out, out_bytes)?) };
    network.enter()?.engine.read(name, out)
}

pub unsafe fn network_write(
    network: u32,
    name: *const u8,
    name_length: u32,
    bytes: *const u8,
    byte_count: u32,
) -> Result<(), Fault> {
    let network = NETWORKS.get(network)?;
    // SAFETY: the caller's promise.
    let (name, bytes) = unsafe { (text(name, name_length)?, slice(bytes, byte_count)?) };
    network.enter()?.engine.write(name, bytes)
}

pub unsafe fn network_attach(network: u32, dataset: u32, config: *const u8, config_length: u32) -> Result<(), Fault> {
    let (network, dataset) = (NETWORKS.get(network)?, DATASETS.get(dataset)?);
    // SAFETY: the caller's promise.
    let config = unsafe { text(config, config_length) }?;
    network.enter()?.engine.attach(config, &dataset)
}

pub unsafe fn network_detach(network: u32) -> Result<(), Fault> {
    let network = NETWORKS.get(network)?;
    network.enter()?.engine.detach()
}

pub unsafe fn network_train(
    network: u32,
    dataset: u32,
    steps: u32,
    budget_ms: u32,
    report: *mut f64,
    report_length: u32,
) -> Result<(), Fault> {
    let (network, dataset) = (NETWORKS.get(network)?, DATASETS.get(dataset)?);
    let found =
        network.enter_background()?.engine.train(&dataset, steps.into(), Duration::from_millis(budget_ms.into()))?;
    let counters = found.counters.to_numbers();
    let flag = |value: bool| f64::from(u8::from(value));
    let rest =
        [found.rate, flag(found.epoch_done), flag(found.done), found.steps_per_epoch as f64, found.total_steps as f64];
    // SAFETY: the caller's promise.
    put_numbers(unsafe { slice_mut(report, report_length) }?, &[&counters[..], &rest[..]].concat())
}

#[allow(clippy::too_many_arguments)] // The signature of the exported function.
pub unsafe fn network_evaluate(
    network: u32,
    dataset: u32,
    first: u32,
    top: u32,
    budget_ms: u32,
    sums: *mut f64,
    sums_length: u32,
    confusion: *mut u32,
    confusion_length: u32,
) -> Result<(), Fault> {
    let (network, dataset) = (NETWORKS.get(network)?, DATASETS.get(dataset)?);
    // SAFETY: the caller's promise.
    let (sums, confusion) = unsafe { (slice_mut(sums, sums_length)?, slice_mut(confusion, confusion_length)?) };
    let budget = Duration::from_millis(budget_ms.into());
    let found =
        network.enter_background()?.engine.evaluate(&dataset, first as usize, top as usize, budget, confusion)?;
    let numbers = [found.rows as f64, found.loss, found.correct as f64, found.correct_top as f64, found.absolute_error];
    put_numbers(sums, &numbers)
}

pub unsafe fn network_predict(
    network: u32,
    dataset: u32,
    first: u32,
    rows: u32,
    out: *mut u8,
    out_bytes: u32,
) -> Result<(), Fault> {
    let (network, dataset) = (NETWORKS.get(network)?, DATASETS.get(dataset)?);
    // SAFETY: the caller's promise.
    let out = unsafe { slice_mut(out, out_bytes) }?;
    network.enter_background()?.engine.predict(&dataset, first as usize, rows as usize, out)
}

pub unsafe fn network_gradient(
    network: u32,
    dataset: u32,
    config: *const u8,
    config_length: u32,
    training: u32,
    loss: *mut f64,
) -> Result<(), Fault> {
    let (network, dataset) = (NETWORKS.get(network)?, DATASETS.get(dataset)?);
    // SAFETY: the caller's promise.
    let (config, loss) = unsafe { (text(config, config_length)?, slice_mut(loss, 1)?) };
    loss[0] = network.enter_background()?.engine.gradient(config, &dataset, training != 0)?;
    Ok(())
}

#[allow(clippy::too_many_arguments)] // The signature of the exported function.
pub unsafe fn network_directional(
    network: u32,
    dataset: u32,
    direction: *const u8,
    direction_bytes: u32,
    derivatives: *mut f64,
    derivative_count: u32,
    tangents: *mut u8,
    tangent_bytes: u32,
) -> Result<(), Fault> {
    let (network, dataset) = (NETWORKS.get(network)?, DATASETS.get(dataset)?);
    // SAFETY: the caller's promise.
    let (direction, derivatives, tangents) = unsafe {
        let derivatives = slice_mut(derivatives, derivative_count)?;
        (slice(direction, direction_bytes)?, derivatives, slice_mut(tangents, tangent_bytes)?)
    };
    put_numbers(derivatives, &network.enter_background()?.engine.directional(&dataset, direction, tangents)?)
}

pub unsafe fn network_request(network: u32, request: *const u8, request_length: u32) -> Result<(), Fault> {
    let network = NETWORKS.get(network)?;
    // SAFETY: the caller's promise.
    let request = unsafe { text(request, request_length) }?;
    let mut held = network.enter_background()?;
    held.answer = held.engine.request(request)?;
    Ok(())
}

pub unsafe fn network_answer(network: u32, out: *mut u8, capacity: u32, needed: *mut u32) -> Result<(), Fault> {
    let network = NETWORKS.get(network)?;
    // SAFETY: the caller's promise.
    unsafe { put_text(&network.enter()?.answer, out, capacity, needed) }
}

pub unsafe fn network_panic(network: u32) -> Result<(), Fault> {
    let network = NETWORKS.get(network)?;
    let _held = network.enter_background()?;
    panic!("on purpose");
}

/// Copies numbers into an array that the caller sized for them.
fn put_numbers(out: &mut [f64], numbers: &[f64]) -> Result<(), Fault> {
    if out.len() != numbers.len() {
        return Err(Error::shape("the result array", format!("{} numbers", numbers.len()), out.len()));
    }
    out.copy_from_slice(numbers);
    Ok(())
}
