//! The one list of exported functions.

use crate::status::{Fault, Status, guard};
use std::panic::AssertUnwindSafe;

/// Types that may appear in an exported signature. There is no `usize`: a plain number for it takes Deno's slow path.
trait Foreign {
    const NAME: &'static str;
}

impl Foreign for u32 {
    const NAME: &'static str = "u32";
}
impl Foreign for f64 {
    const NAME: &'static str = "f64";
}
impl<T> Foreign for *const T {
    const NAME: &'static str = "buffer";
}
impl<T> Foreign for *mut T {
    const NAME: &'static str = "buffer";
}

macro_rules! exports {
    ($( $(#[doc = $doc:literal])+ $mode:ident fn $name:ident ( $($argument:ident : $type:ty),* $(,)? ) = $body:path; )*) => {
        $(
            $(#[doc = $doc])+
            ///
            /// # Safety
            /// Every buffer must hold the stated number of elements for the whole call.
            #[unsafe(no_mangle)]
            pub unsafe extern "C" fn $name($($argument: $type,)* status: *mut Status) -> u32 {
                let body = || -> Result<(), Fault> {
                    // SAFETY: the caller's promise, passed on.
                    unsafe { $body($($argument),*) }
                };
                // SAFETY: `status` is a status block by the caller's promise.
                unsafe { guard(status, AssertUnwindSafe(body)) }
            }
        )*

        /// The list as JSON: `[{ name, doc, mode, parameters: [[name, type]] }]`.
        pub fn describe() -> String {
            let functions = vec![$({
                let doc = [$($doc.trim()),+].join(" ");
                let parameters = [$([stringify!($argument), <$type as Foreign>::NAME],)* ["status", "buffer"]];
                let (name, mode) = (stringify!($name), stringify!($mode));
                serde_json::json!({ "name": name, "doc": doc, "mode": mode, "parameters": parameters })
            }),*];
            serde_json::Value::from(functions).to_string()
        }
    };
}

exports! {
    /// Writes what this library is and computes with, as JSON.
    blocking fn engine_info(out: *mut u8, capacity: u32, needed: *mut u32) = crate::calls::engine_info;

    /// Checks a data set (JSON configuration, features as bytes, targets by kind), copies it and writes its handle.
    background fn dataset_create(
        config: *const u8, config_length: u32, features: *const u8, feature_bytes: u32,
        labels: *const u32, label_count: u32, values: *const f64, value_count: u32, handle: *mut u32,
    ) = crate::calls::dataset_create;
    /// Releases a data set; calls under way finish first.
    blocking fn dataset_destroy(dataset: u32) = crate::calls::dataset_destroy;

    /// Makes a data set of some rows of another, without copying them, and writes its handle.
    blocking fn dataset_select(dataset: u32, rows: *const u32, row_count: u32, handle: *mut u32) = crate::calls::dataset_select;

    /// Computes the products of all rows of a data set, in f64 where `wide` is not 0, and writes their handle.
    background fn gram_create(dataset: u32, wide: u32, threads: u32, handle: *mut u32) = crate::calls::gram_create;
    /// Lets go of products; runs that use them keep them until they end.
    blocking fn gram_destroy(gram: u32) = crate::calls::gram_destroy;

    /// Creates a network from JSON and writes its handle.
    blocking fn network_create(config: *const u8, config_length: u32, handle: *mut u32) = crate::calls::network_create;
    /// Releases a network; calls under way finish first.
    blocking fn network_destroy(network: u32) = crate::calls::network_destroy;
    /// Writes the network's layers as JSON.
    blocking fn network_describe(network: u32, out: *mut u8, capacity: u32, needed: *mut u32) = crate::calls::network_describe;
    /// Writes the list of the network's tensors as JSON.
    blocking fn network_tensors(network: u32, out: *mut u8, capacity: u32, needed: *mut u32) = crate::calls::network_tensors;
    /// Copies a tensor, by name, into `out`.
    blocking fn network_read(network: u32, name: *const u8, name_length: u32, out: *mut u8, out_bytes: u32) = crate::calls::network_read;
    /// Replaces a tensor, by name.
    blocking fn network_write(network: u32, name: *const u8, name_length: u32, bytes: *const u8, byte_count: u32) = crate::calls::network_write;

    /// Attaches a training run, given as JSON, to the network.
    blocking fn network_attach(network: u32, dataset: u32, config: *const u8, config_length: u32) = crate::calls::network_attach;
    /// Ends the network's training run.
    blocking fn network_detach(network: u32) = crate::calls::network_detach;
    /// Runs up to `steps` steps, stopping after `budget_ms` or at the end of an epoch, and writes the report.
    background fn network_train(
        network: u32, dataset: u32, steps: u32, budget_ms: u32, report: *mut f64, report_length: u32,
    ) = crate::calls::network_train;
    /// As `network_train`, for steps that take less time than a call in the background costs.
    blocking fn network_train_now(
        network: u32, dataset: u32, steps: u32, budget_ms: u32, report: *mut f64, report_length: u32,
    ) = crate::calls::network_train;
    /// Evaluates rows from `first` on until the end or `budget_ms`; writes sums and adds to the confusion counts.
    background fn network_evaluate(
        network: u32, dataset: u32, first: u32, top: u32, budget_ms: u32,
        sums: *mut f64, sums_length: u32, confusion: *mut u32, confusion_length: u32,
    ) = crate::calls::network_evaluate;
    /// Predicts `rows` rows from `first` on into `out`.
    background fn network_predict(
        network: u32, dataset: u32, first: u32, rows: u32, out: *mut u8, out_bytes: u32,
    ) = crate::calls::network_predict;
    /// Computes the gradient of the mean loss over a data set as one batch; writes the loss. `training` turns dropout on.
    background fn network_gradient(
        network: u32, dataset: u32, config: *const u8, config_length: u32, training: u32, loss: *mut f64,
    ) = crate::calls::network_gradient;
    /// Loss of a data set as one batch and its first and second derivative along a direction of all parameters; writes how the
    /// outputs move.
    background fn network_directional(
        network: u32, dataset: u32, direction: *const u8, direction_bytes: u32,
        derivatives: *mut f64, derivative_count: u32, tangents: *mut u8, tangent_bytes: u32,
    ) = crate::calls::network_directional;
    /// Carries out a request in JSON; its answer waits for `network_answer`.
    background fn network_request(network: u32, request: *const u8, request_length: u32) = crate::calls::network_request;
    /// Writes the answer to the last request, in JSON.
    blocking fn network_answer(network: u32, out: *mut u8, capacity: u32, needed: *mut u32) = crate::calls::network_answer;
    /// Panics on purpose while holding the network: for testing that a panic stays inside.
    background fn network_panic(network: u32) = crate::calls::network_panic;

    /// c = alpha · a · b, or c += … with `accumulate`; a is m × k (k × m with `transpose_a`), b k × n, c m × n, in f32.
    blocking fn kernel_matmul_f32(
        m: u32, n: u32, k: u32, alpha: f64, a: *const f32, a_length: u32, transpose_a: u32,
        b: *const f32, b_length: u32, transpose_b: u32, accumulate: u32, c: *mut f32, c_length: u32,
    ) = crate::kernel_calls::matmul::<f32>;
    /// Dual numbers through y = f(x · w + b), in f32: sizes = rows, inputs, outputs, lanes; x rows × inputs, x1 lanes × rows ×
    /// inputs, w inputs × outputs, b outputs or empty; y and y1 alike. With x2 and y2 (one lane) second tangents too.
    blocking fn kernel_dual_forward_f32(
        sizes: *const u32, size_count: u32, activation: u32, slope: f64, w: *const f32, w_length: u32,
        b: *const f32, b_length: u32, x: *const f32, x_length: u32, x1: *const f32, x1_length: u32,
        x2: *const f32, x2_length: u32, y: *mut f32, y_length: u32, y1: *mut f32, y1_length: u32,
        y2: *mut f32, y2_length: u32,
    ) = crate::kernel_calls::dual_forward::<f32>;
    /// As `kernel_dual_forward_f32`, in f64.
    blocking fn kernel_dual_forward_f64(
        sizes: *const u32, size_count: u32, activation: u32, slope: f64, w: *const f64, w_length: u32,
        b: *const f64, b_length: u32, x: *const f64, x_length: u32, x1: *const f64, x1_length: u32,
        x2: *const f64, x2_length: u32, y: *mut f64, y_length: u32, y1: *mut f64, y1_length: u32,
        y2: *mut f64, y2_length: u32,
    ) = crate::kernel_calls::dual_forward::<f64>;
    /// As `kernel_matmul_f32`, in f64.
    blocking fn kernel_matmul_f64(
        m: u32, n: u32, k: u32, alpha: f64, a: *const f64, a_length: u32, transpose_a: u32,
        b: *const f64, b_length: u32, transpose_b: u32, accumulate: u32, c: *mut f64, c_length: u32,
    ) = crate::kernel_calls::matmul::<f64>;
    /// Convolution of images; `sizes`: images, height, width, input and output channels, kernel, stride and padding (two numbers
    /// each), groups. Images are pixel by pixel, w outputs × channels of a group × kernel; bias may be empty. In f32.
    blocking fn kernel_conv2d_f32(
        sizes: *const u32, size_count: u32, x: *const f32, x_length: u32, w: *const f32, w_length: u32,
        bias: *const f32, bias_length: u32, y: *mut f32, y_length: u32,
    ) = crate::kernel_calls::conv2d::<f32>;
    /// As `kernel_conv2d_f32`, in f64.
    blocking fn kernel_conv2d_f64(
        sizes: *const u32, size_count: u32, x: *const f64, x_length: u32, w: *const f64, w_length: u32,
        bias: *const f64, bias_length: u32, y: *mut f64, y_length: u32,
    ) = crate::kernel_calls::conv2d::<f64>;
    /// Chooses `k` rows by scores (policy 0 topK, 1 weightedK, 2 randK, 3 crs, 4 wta); writes rows, weights and their number.
    blocking fn kernel_choose_rows(
        policy: u32, k: u32, seed: f64, step: u32, scores: *const f64, score_count: u32,
        rows: *mut u32, row_count: u32, weights: *mut f64, weight_count: u32, chosen: *mut u32,
    ) = crate::kernel_calls::choose_rows;
    /// out = xᵀ · g from `k` of `rows` rows, in f32; x is rows × inputs, g rows × outputs; memories are empty or shaped like them.
    blocking fn kernel_approximate_product_f32(
        rows: u32, policy: u32, k: u32, center: u32, seed: f64, step: u32, x: *const f32, x_length: u32,
        g: *const f32, g_length: u32, memory_x: *mut f32, memory_x_length: u32,
        memory_g: *mut f32, memory_g_length: u32, out: *mut f32, out_length: u32,
    ) = crate::kernel_calls::approximate_product::<f32>;
    /// As `kernel_approximate_product_f32`, in f64.
    blocking fn kernel_approximate_product_f64(
        rows: u32, policy: u32, k: u32, center: u32, seed: f64, step: u32, x: *const f64, x_length: u32,
        g: *const f64, g_length: u32, memory_x: *mut f64, memory_x_length: u32,
        memory_g: *mut f64, memory_g_length: u32, out: *mut f64, out_length: u32,
    ) = crate::kernel_calls::approximate_product::<f64>;
    /// One step of R (size × size) by the local rule from x (rows × size), in f32; a limit of 0 is none; writes the loss before and the rate.
    blocking fn kernel_decorrelation_update_f32(
        rows: u32, rate: f64, kappa: f64, limit: f64, x: *const f32, x_length: u32, r: *mut f32, r_length: u32,
        figures: *mut f64, figure_count: u32,
    ) = crate::kernel_calls::decorrelation_update::<f32>;
    /// As `kernel_decorrelation_update_f32`, in f64.
    blocking fn kernel_decorrelation_update_f64(
        rows: u32, rate: f64, kappa: f64, limit: f64, x: *const f64, x_length: u32, r: *mut f64, r_length: u32,
        figures: *mut f64, figure_count: u32,
    ) = crate::kernel_calls::decorrelation_update::<f64>;
    /// Makes a map with sparse weights ready: shape is [batch, inputs, outputs], for images (batch × height × width × inputs) also
    /// height, width, and two numbers each of kernel, stride and padding; positions ascend in outputs × inputs (× kernel). Writes
    /// the place among the positions of each of the map's values, and five numbers: the handle, elements of inputs and outputs as
    /// rows, and as tiles. Calls take rows where `rows` is not 0, else tiles.
    blocking fn sparse_create(
        shape: *const u32, shape_length: u32, positions: *const u32, position_count: u32, rows: u32, threads: u32,
        order: *mut u32, order_length: u32, made: *mut u32, made_length: u32,
    ) = crate::sparse_calls::create;
    /// Frees a map with sparse weights.
    blocking fn sparse_destroy(map: u32) = crate::sparse_calls::destroy;
    /// y = x · w + bias, in f32; the values are in the map's order.
    blocking fn kernel_sparse_forward_f32(
        map: u32, values: *const f32, value_count: u32, bias: *const f32, bias_length: u32,
        x: *const f32, x_length: u32, y: *mut f32, y_length: u32,
    ) = crate::sparse_calls::forward::<f32>;
    /// As `kernel_sparse_forward_f32`, in f64.
    blocking fn kernel_sparse_forward_f64(
        map: u32, values: *const f64, value_count: u32, bias: *const f64, bias_length: u32,
        x: *const f64, x_length: u32, y: *mut f64, y_length: u32,
    ) = crate::sparse_calls::forward::<f64>;
    /// dx = g · wᵀ, and dw of the map's values, in f32.
    blocking fn kernel_sparse_backward_f32(
        map: u32, values: *const f32, value_count: u32, x: *const f32, x_length: u32, g: *const f32, g_length: u32,
        dx: *mut f32, dx_length: u32, dw: *mut f32, dw_length: u32,
    ) = crate::sparse_calls::backward::<f32>;
    /// As `kernel_sparse_backward_f32`, in f64.
    blocking fn kernel_sparse_backward_f64(
        map: u32, values: *const f64, value_count: u32, x: *const f64, x_length: u32, g: *const f64, g_length: u32,
        dx: *mut f64, dx_length: u32, dw: *mut f64, dw_length: u32,
    ) = crate::sparse_calls::backward::<f64>;
    /// Rows to tiles where `to_tiles` is not 0, else tiles to rows; of the inputs where `of_inputs` is not 0, else of the outputs.
    blocking fn kernel_sparse_convert_f32(
        map: u32, of_inputs: u32, to_tiles: u32, from: *const f32, from_length: u32, to: *mut f32, to_length: u32,
    ) = crate::sparse_calls::convert::<f32>;
    /// As `kernel_sparse_convert_f32`, in f64.
    blocking fn kernel_sparse_convert_f64(
        map: u32, of_inputs: u32, to_tiles: u32, from: *const f64, from_length: u32, to: *mut f64, to_length: u32,
    ) = crate::sparse_calls::convert::<f64>;
    /// k = x · xᵀ for x of `rows` × `columns`, in f32.
    blocking fn kernel_gram_f32(rows: u32, columns: u32, x: *const f32, x_length: u32, k: *mut f32, k_length: u32) = crate::kernel_calls::gram::<f32>;
    /// As `kernel_gram_f32`, in f64.
    blocking fn kernel_gram_f64(rows: u32, columns: u32, x: *const f64, x_length: u32, k: *mut f64, k_length: u32) = crate::kernel_calls::gram::<f64>;
    /// One step of gradient descent on z, `rows` × `outputs`, through k, batch × rows, for the gradient d, batch × outputs, in f32.
    blocking fn kernel_panel_step_f32(
        rows: u32, outputs: u32, k: *const f32, k_length: u32, d: *const f32, d_length: u32, rate: f64, decay: f64, momentum: f64,
        nesterov: u32, z: *mut f32, z_length: u32, velocity: *mut f32, velocity_length: u32,
    ) = crate::kernel_calls::panel_step::<f32>;
    /// As `kernel_panel_step_f32`, in f64.
    blocking fn kernel_panel_step_f64(
        rows: u32, outputs: u32, k: *const f64, k_length: u32, d: *const f64, d_length: u32, rate: f64, decay: f64, momentum: f64,
        nesterov: u32, z: *mut f64, z_length: u32, velocity: *mut f64, velocity_length: u32,
    ) = crate::kernel_calls::panel_step::<f64>;
    /// One step of gradient descent on two linear layers, seen from their products, for the gradient g of the product, in f32.
    blocking fn kernel_pair_step_f32(
        inputs: u32, outputs: u32, g: *const f32, g_length: u32, rate: f64, decay: f64, product: *mut f32, product_length: u32,
        left: *mut f32, left_length: u32, right: *mut f32, right_length: u32,
    ) = crate::kernel_calls::pair_step::<f32>;
    /// As `kernel_pair_step_f32`, in f64.
    blocking fn kernel_pair_step_f64(
        inputs: u32, outputs: u32, g: *const f64, g_length: u32, rate: f64, decay: f64, product: *mut f64, product_length: u32,
        left: *mut f64, left_length: u32, right: *mut f64, right_length: u32,
    ) = crate::kernel_calls::pair_step::<f64>;
}

/// FNV-1a of the description and the version: equal only if both sides come from the same list.
pub fn fingerprint() -> u32 {
    let step = |hash: u32, byte: u8| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    describe().bytes().chain(env!("CARGO_PKG_VERSION").bytes()).fold(0x811c_9dc5, step)
}
