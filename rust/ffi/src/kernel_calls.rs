//! The bodies of the exported kernels: thin, synchronous, over the caller's arrays.

use crate::arguments::{slice, slice_mut};
use crate::status::Fault;
use engine::layers::Order;
use engine::rules::mem_aop::PolicyName;
use engine::rules::mem_aop::samples::Approximation;
use engine::{Code, Error};
use kernels::conv::{self, Geometry};
use kernels::decorrelation::{self, Blocks, Rule};
use kernels::gemm::{Matrix, gemm};
use kernels::gram::{self, Panel};
use kernels::optimize::Descent;
use kernels::pair::{self, Products};
use kernels::select::{Choice, Stream};
use kernels::{Activation, Buffer, Par, Real, linear, tangent};

#[allow(clippy::too_many_arguments)] // The signature of the exported function.
pub unsafe fn matmul<T: Real>(
    m: u32,
    n: u32,
    k: u32,
    alpha: f64,
    a: *const T,
    a_length: u32,
    transpose_a: u32,
    b: *const T,
    b_length: u32,
    transpose_b: u32,
    accumulate: u32,
    c: *mut T,
    c_length: u32,
) -> Result<(), Fault> {
    let (m, n, k) = (m as usize, n as usize, k as usize);
    // SAFETY: the caller's promise.
    let (a, b, c) = unsafe { (slice(a, a_length)?, slice(b, b_length)?, slice_mut(c, c_length)?) };
    for (name, expected, found) in [("a", m * k, a.len()), ("b", k * n, b.len()), ("c", m * n, c.len())] {
        if expected != found {
            return Err(Error::shape(name, format!("{expected} elements"), found));
        }
    }
    let a = if transpose_a != 0 { Matrix::new(a, k, m).t() } else { Matrix::new(a, m, k) };
    let b = if transpose_b != 0 { Matrix::new(b, n, k).t() } else { Matrix::new(b, k, n) };
    gemm(T::of(alpha), a, b, accumulate != 0, c);
    Ok(())
}

/// Refuses arrays of another length than their shapes say.
fn check(lengths: &[(&str, usize, usize)]) -> Result<(), Fault> {
    match lengths.iter().find(|(_, expected, found)| expected != found) {
        Some((name, expected, found)) => Err(Error::shape(*name, format!("{expected} elements"), found)),
        None => Ok(()),
    }
}

pub unsafe fn gram<T: Real>(
    rows: u32,
    columns: u32,
    x: *const T,
    x_length: u32,
    k: *mut T,
    k_length: u32,
) -> Result<(), Fault> {
    let (rows, columns) = (rows as usize, columns as usize);
    // SAFETY: the caller's promise.
    let (x, k) = unsafe { (slice(x, x_length)?, slice_mut(k, k_length)?) };
    check(&[("x", rows * columns, x.len()), ("k", rows * rows, k.len())])?;
    gram::gram(Par::SEQUENTIAL, x, rows, columns, k);
    Ok(())
}

#[allow(clippy::too_many_arguments)] // The signature of the exported function.
pub unsafe fn panel_step<T: Real>(
    rows: u32,
    outputs: u32,
    k: *const T,
    k_length: u32,
    d: *const T,
    d_length: u32,
    rate: f64,
    decay: f64,
    momentum: f64,
    nesterov: u32,
    z: *mut T,
    z_length: u32,
    velocity: *mut T,
    velocity_length: u32,
) -> Result<(), Fault> {
    let (rows, outputs) = (rows as usize, outputs as usize);
    // SAFETY: the caller's promise.
    let (k, d) = unsafe { (slice(k, k_length)?, slice(d, d_length)?) };
    // SAFETY: as above.
    let (z, velocity) = unsafe { (slice_mut(z, z_length)?, slice_mut(velocity, velocity_length)?) };
    let batch = k.len() / rows.max(1);
    let kept = if momentum == 0.0 { 0 } else { rows * outputs };
    check(&[
        ("k", batch * rows, k.len()),
        ("d", batch * outputs, d.len()),
        ("z", rows * outputs, z.len()),
        ("velocity", kept, velocity.len()),
    ])?;
    let by = Descent {
        rate: T::of(rate),
        decay: T::of(decay),
        momentum: T::of(momentum),
        nesterov: nesterov != 0 && momentum != 0.0,
    };
    gram::panel_step(Par::SEQUENTIAL, (rows, outputs), k, d, T::one(), &by, Panel { z, velocity });
    Ok(())
}

#[allow(clippy::too_many_arguments)] // The signature of the exported function.
pub unsafe fn pair_step<T: Real>(
    inputs: u32,
    outputs: u32,
    g: *const T,
    g_length: u32,
    rate: f64,
    decay: f64,
    product: *mut T,
    product_length: u32,
    left: *mut T,
    left_length: u32,
    right: *mut T,
    right_length: u32,
) -> Result<(), Fault> {
    let (inputs, outputs) = (inputs as usize, outputs as usize);
    // SAFETY: the caller's promise.
    let (g, product) = unsafe { (slice(g, g_length)?, slice_mut(product, product_length)?) };
    // SAFETY: as above.
    let (left, right) = unsafe { (slice_mut(left, left_length)?, slice_mut(right, right_length)?) };
    check(&[
        ("g", inputs * outputs, g.len()),
        ("product", inputs * outputs, product.len()),
        ("left", inputs * inputs, left.len()),
        ("right", outputs * outputs, right.len()),
    ])?;
    let mut scratch = kernels::Buffer::zeroed(pair::scratch_elements(inputs, outputs))?;
    let state = Products { product, left, right };
    let by = (T::of(rate), T::of(1.0 - rate * decay));
    pair::pair_step(Par::SEQUENTIAL, (inputs, outputs), g, by, state, &mut scratch);
    Ok(())
}

fn policy(number: u32) -> Result<PolicyName, Fault> {
    let policy = PolicyName::ALL.get(number as usize).copied();
    policy.ok_or_else(|| Error::config("policy", "a number from 0 to 4", number))
}

fn check_length(name: &str, expected: usize, found: usize) -> Result<(), Fault> {
    if expected == found { Ok(()) } else { Err(Error::shape(name, format!("{expected} elements"), found)) }
}

#[allow(clippy::too_many_arguments)] // The signature of the exported function.
pub unsafe fn choose_rows(
    policy_number: u32,
    k: u32,
    seed: f64,
    step: u32,
    scores: *const f64,
    score_count: u32,
    rows: *mut u32,
    row_count: u32,
    weights: *mut f64,
    weight_count: u32,
    chosen: *mut u32,
) -> Result<(), Fault> {
    // SAFETY: the caller's promise.
    let (scores, rows, weights, chosen) = unsafe {
        let (rows, weights) = (slice_mut(rows, row_count)?, slice_mut(weights, weight_count)?);
        (slice(scores, score_count)?, rows, weights, slice_mut(chosen, 1)?)
    };
    let most = (k as usize).min(scores.len());
    check_length("rows", most, rows.len())?;
    check_length("weights", most, weights.len())?;
    let mut choice = Choice::new(scores.len());
    let stream = Stream::new(seed as u64, step.into(), 0);
    choice.choose(policy(policy_number)?.policy(), scores, k as usize, &stream);
    let count = choice.rows().len();
    rows[..count].copy_from_slice(choice.rows());
    weights[..count].copy_from_slice(choice.weights());
    chosen[0] = count as u32;
    Ok(())
}

#[allow(clippy::too_many_arguments)] // The signature of the exported function.
pub unsafe fn approximate_product<T: Real>(
    rows: u32,
    policy_number: u32,
    k: u32,
    center: u32,
    seed: f64,
    step: u32,
    x: *const T,
    x_length: u32,
    g: *const T,
    g_length: u32,
    memory_x: *mut T,
    memory_x_length: u32,
    memory_g: *mut T,
    memory_g_length: u32,
    out: *mut T,
    out_length: u32,
) -> Result<(), Fault> {
    let rows = rows as usize;
    // SAFETY: the caller's promise.
    let (x, g, out) = unsafe { (slice(x, x_length)?, slice(g, g_length)?, slice_mut(out, out_length)?) };
    // SAFETY: as above.
    let (memory_x, memory_g) =
        unsafe { (slice_mut(memory_x, memory_x_length)?, slice_mut(memory_g, memory_g_length)?) };
    for (name, values) in [("x", x), ("g", g)] {
        if rows == 0 || values.is_empty() || !values.len().is_multiple_of(rows) {
            return Err(Error::shape(name, format!("a multiple of {rows} elements, from {rows} up"), values.len()));
        }
    }
    check_length("out", x.len() / rows * (g.len() / rows), out.len())?;
    let memory = if memory_x.is_empty() && memory_g.is_empty() {
        None
    } else {
        check_length("the memory of x", x.len(), memory_x.len())?;
        check_length("the memory of g", g.len(), memory_g.len())?;
        Some((memory_x, memory_g))
    };
    let (policy, k, seed) = (policy(policy_number)?, (k as usize).min(rows), seed as u64);
    let approximation = Approximation { policy, k, center: center != 0, seed, step: step.into() };
    approximation.product(rows, (x, g), memory, out)
}

#[allow(clippy::too_many_arguments)] // The signature of the exported function.
pub unsafe fn decorrelation_update<T: Real>(
    rows: u32,
    rate: f64,
    kappa: f64,
    limit: f64,
    x: *const T,
    x_length: u32,
    r: *mut T,
    r_length: u32,
    figures: *mut f64,
    figure_count: u32,
) -> Result<(), Fault> {
    let rows = rows as usize;
    // SAFETY: the caller's promise.
    let (x, r, figures) = unsafe { (slice(x, x_length)?, slice_mut(r, r_length)?, slice_mut(figures, figure_count)?) };
    if rows == 0 || x.is_empty() || !x.len().is_multiple_of(rows) {
        return Err(Error::shape("x", format!("a multiple of {rows} elements, from {rows} up"), x.len()));
    }
    let size = x.len() / rows;
    check_length("r", size * size, r.len())?;
    check_length("the figures", 3, figures.len())?;
    let blocks = Blocks { size, block: size };
    // The engine keeps the transpose.
    let mut s = Buffer::zeroed(size * size)?;
    let turn = |from: &[T], to: &mut [T]| {
        for (index, to) in to.iter_mut().enumerate() {
            *to = from[index % size * size + index / size];
        }
    };
    turn(r, &mut s);
    let mut z = Buffer::zeroed(x.len())?;
    decorrelation::apply(Par::SEQUENTIAL, blocks, rows, x, &s, None, &mut z);
    let limit = (limit > 0.0).then_some(limit);
    let rule = Rule { rate, kappa, limit, cap: f64::MAX, explicit: false };
    let mut scratch = Buffer::zeroed(decorrelation::scratch_elements(blocks, rows, false))?;
    let outcome = decorrelation::update(Par::SEQUENTIAL, blocks, rows, &z, &mut s, &rule, &mut scratch);
    turn(&s, r);
    figures.copy_from_slice(&[outcome.loss, outcome.rate, outcome.resets as f64]);
    Ok(())
}

#[allow(clippy::too_many_arguments)] // The signature of the exported function.
pub unsafe fn dual_forward<T: Real>(
    sizes: *const u32,
    size_count: u32,
    activation: u32,
    slope: f64,
    w: *const T,
    w_length: u32,
    b: *const T,
    b_length: u32,
    x: *const T,
    x_length: u32,
    x1: *const T,
    x1_length: u32,
    x2: *const T,
    x2_length: u32,
    y: *mut T,
    y_length: u32,
    y1: *mut T,
    y1_length: u32,
    y2: *mut T,
    y2_length: u32,
) -> Result<(), Fault> {
    // SAFETY: the caller's promise.
    let (sizes, w, b) = unsafe { (slice(sizes, size_count)?, slice(w, w_length)?, slice(b, b_length)?) };
    // SAFETY: as above.
    let (x, x1, x2) = unsafe { (slice(x, x_length)?, slice(x1, x1_length)?, slice(x2, x2_length)?) };
    // SAFETY: as above.
    let (y, y1, y2) = unsafe { (slice_mut(y, y_length)?, slice_mut(y1, y1_length)?, slice_mut(y2, y2_length)?) };
    let [rows, inputs, outputs, lanes] = sizes else {
        return Err(Error::shape("sizes", "4 numbers", sizes.len()));
    };
    let (rows, inputs, outputs, lanes) = (*rows as usize, *inputs as usize, *outputs as usize, *lanes as usize);
    let second = !x2.is_empty();
    for (name, expected, found) in [
        ("w", inputs * outputs, w.len()),
        ("b", if b.is_empty() { 0 } else { outputs }, b.len()),
        ("x", rows * inputs, x.len()),
        ("x1", lanes * rows * inputs, x1.len()),
        ("x2", if second { rows * inputs } else { 0 }, x2.len()),
        ("y", rows * outputs, y.len()),
        ("y1", lanes * rows * outputs, y1.len()),
        ("y2", if second { rows * outputs } else { 0 }, y2.len()),
        ("lanes with second tangents", if second { 1 } else { lanes }, lanes),
    ] {
        if expected != found {
            return Err(Error::shape(name, format!("{expected} elements"), found));
        }
    }
    let activation = match activation {
        0 => Activation::Identity,
        1 => Activation::Relu,
        2 => Activation::LeakyRelu(T::of(slope)),
        3 => Activation::Tanh,
        4 => Activation::Sigmoid,
        5 => Activation::Gelu,
        other => return Err(Error::config("activation", "a number from 0 to 5", other)),
    };
    let par = Par::SEQUENTIAL;
    let dims = |rows: usize| linear::Dims { rows, inputs, outputs };
    let bias = (!b.is_empty()).then_some(b);
    linear::forward(par, dims(rows), x, w, bias, Activation::Identity, y);
    linear::forward(par, dims(lanes * rows), x1, w, None, Activation::Identity, y1);
    if second {
        linear::forward(par, dims(rows), x2, w, None, Activation::Identity, y2);
    }
    // Derivatives are told from y where they can be, else from z.
    let z = if activation.from_output() { vec![] } else { y.to_vec() };
    kernels::isa::vectorize(|| activation.apply(y));
    if second {
        tangent::activation_second(activation, &z, y, y1, y2);
    } else {
        tangent::activation(par, activation, &z, y, y1);
    }
    Ok(())
}

/// Numbers that describe a convolution: images, height, width, input and output channels, kernel, stride and padding downwards and
/// to the right, groups.
const CONV_SIZES: usize = 12;

#[allow(clippy::too_many_arguments)] // The signature of the exported function.
pub unsafe fn conv2d<T: Real>(
    sizes: *const u32,
    size_count: u32,
    x: *const T,
    x_length: u32,
    w: *const T,
    w_length: u32,
    bias: *const T,
    bias_length: u32,
    y: *mut T,
    y_length: u32,
) -> Result<(), Fault> {
    // SAFETY: the caller's promise.
    let (sizes, x, w) = unsafe { (slice(sizes, size_count)?, slice(x, x_length)?, slice(w, w_length)?) };
    // SAFETY: the caller's promise.
    let (bias, y) = unsafe { (slice(bias, bias_length)?, slice_mut(y, y_length)?) };
    let sizes: Vec<usize> = sizes.iter().map(|size| *size as usize).collect();
    let Ok([images, height, width, inputs, outputs, kh, kw, sh, sw, ph, pw, groups]) =
        <[usize; CONV_SIZES]>::try_from(sizes)
    else {
        return Err(Error::shape("the sizes of a convolution", format!("{CONV_SIZES} numbers"), size_count));
    };
    let g = Geometry { height, width, inputs, outputs, kernel: [kh, kw], stride: [sh, sw], padding: [ph, pw], groups };
    if let Err(fault) = g.check() {
        return Err(Error::new(Code::InvalidConfig, format!("Cannot use conv2d: {fault}")));
    }
    let bias_expected = if bias.is_empty() { 0 } else { outputs };
    for (name, expected, found) in [
        ("x", images * height * width * inputs, x.len()),
        ("w", g.weights(), w.len()),
        ("bias", bias_expected, bias.len()),
        ("y", images * g.positions() * outputs, y.len()),
    ] {
        if expected != found {
            return Err(Error::shape(name, format!("{expected} elements"), found));
        }
    }
    let order = Order::Convolution { groups };
    let shape = [outputs, inputs / groups, kh, kw];
    let mut stored = Buffer::zeroed(w.len())?;
    for (index, value) in w.iter().enumerate() {
        stored[order.place(&shape, index)] = *value;
    }
    let par = Par::SEQUENTIAL;
    let mut scratch = Buffer::zeroed(conv::scratch_elements::<T>(par, &g, images))?;
    let bias = (!bias.is_empty()).then_some(bias);
    conv::forward(par, &g, images, x, &stored, bias, Activation::Identity, y, &mut scratch);
    Ok(())
}
