//! The bodies of the exported sparse kernels: a map is made ready once and used any number of times.

use crate::arguments::{slice, slice_mut};
use crate::handles::{Exclusive, Table};
use crate::status::Fault;
use engine::layers::Order;
use engine::layers::map::Map;
use engine::layers::support::shape_of;
use engine::pool::Threads;
use engine::{Code, Error};
use kernels::conv::Geometry;
use kernels::sparse::{self, Conv, Pattern, Plan, Tiles, batch_tile};
use kernels::{Activation, Buffer, Real};

static MAPS: Table<Exclusive<Ready>> = Table::new("sparse map");

/// Numbers that describe a linear map: batch, inputs, outputs.
const LINEAR: usize = 3;

/// Numbers that describe a convolution: also height and width of the image, of the kernel, of a stride, and of the padding.
const CONVOLUTION: usize = 11;

/// A map with sparse weights, ready for batches of one size.
pub struct Ready {
    plan: Plan,
    inputs: Tiles,
    outputs: Tiles,
    /// Whether callers' arrays are rows, which are converted in each call; else they are tiles.
    rows: bool,
    threads: Threads,
    /// Tiles of both sides, where callers have rows.
    narrow: Buffer<f32>,
    /// As `narrow`, in f64.
    wide: Buffer<f64>,
}

/// Where a map keeps tiles of an element type.
pub trait Kept: Real {
    fn kept(ready: &mut Ready) -> &mut Buffer<Self>;
}

impl Kept for f32 {
    fn kept(ready: &mut Ready) -> &mut Buffer<f32> {
        &mut ready.narrow
    }
}

impl Kept for f64 {
    fn kept(ready: &mut Ready) -> &mut Buffer<f64> {
        &mut ready.wide
    }
}

/// What a map connects: the batch, the map, and shape and order of its weights as users see them.
fn described(shape: &[u32]) -> Result<(usize, Map, Vec<usize>, Order), Fault> {
    let numbers: Vec<usize> = shape.iter().map(|number| *number as usize).collect();
    let described = match numbers[..] {
        [batch, inputs, outputs] => (batch, Map::Dense { inputs, outputs }, vec![outputs, inputs], Order::Transposed),
        [batch, inputs, outputs, height, width, rows, columns, down, right, above, beside] => {
            let (kernel, stride, padding, groups) = ([rows, columns], [down, right], [above, beside], 1);
            let geometry = Geometry { height, width, inputs, outputs, kernel, stride, padding, groups };
            geometry
                .check()
                .map_err(|fault| Error::new(Code::InvalidConfig, format!("Cannot use the sizes: {fault}")))?;
            (batch, Map::Conv(geometry), vec![outputs, inputs, rows, columns], Order::Convolution { groups })
        }
        _ => return Err(Error::shape("the sizes", format!("{LINEAR} or {CONVOLUTION} numbers"), numbers.len())),
    };
    if described.0 == 0 {
        return Err(Error::config("batch", "a whole number from 1 up", 0));
    }
    Ok(described)
}

/// The pattern of positions that ascend in the weights as users see them, and for each of its slots the place among them.
fn patterned(map: &Map, shape: &[usize], order: Order, positions: &[u32]) -> Result<(Pattern, Vec<u32>), Fault> {
    let all = shape.iter().try_fold(1_usize, |product, size| product.checked_mul(*size)).unwrap_or(usize::MAX);
    if positions.windows(2).any(|pair| pair[0] >= pair[1]) || positions.last().is_some_and(|last| *last as usize >= all)
    {
        return Err(Error::config("positions", format!("ascending positions below {all}"), "others"));
    }
    let of_weights = shape_of("the sizes", map)?;
    let mut places: Vec<(usize, u32)> =
        (0..).zip(positions).map(|(given, position)| (order.place(shape, *position as usize), given)).collect();
    places.sort_unstable();
    let ascending: Vec<usize> = places.iter().map(|(place, _)| *place).collect();
    let pattern = Pattern::from_positions(of_weights, &ascending);
    let pattern = pattern.map_err(|fault| Error::new(Code::InvalidConfig, fault))?;
    let given = pattern.positions().map(|place| places[ascending.partition_point(|other| *other < place)].1).collect();
    Ok((pattern, given))
}

#[allow(clippy::too_many_arguments)] // The signature of the exported function.
pub unsafe fn create(
    shape: *const u32,
    shape_length: u32,
    positions: *const u32,
    position_count: u32,
    rows: u32,
    threads: u32,
    order: *mut u32,
    order_length: u32,
    made: *mut u32,
    made_length: u32,
) -> Result<(), Fault> {
    // SAFETY: the caller's promise.
    let (shape, positions) = unsafe { (slice(shape, shape_length)?, slice(positions, position_count)?) };
    // SAFETY: as above.
    let (order, made) = unsafe { (slice_mut(order, order_length)?, slice_mut(made, made_length)?) };
    let (batch, map, of_weights, seen) = described(shape)?;
    let (pattern, given) = patterned(&map, &of_weights, seen, positions)?;
    let plan = match &map {
        Map::Dense { .. } => Plan::linear(&pattern, batch_tile(batch)),
        Map::Conv(geometry) => {
            let conv = Conv::new(geometry).map_err(|fault| Error::new(Code::InvalidConfig, fault))?;
            conv.plan(&pattern, conv.input_plane(), conv.output_plane())
        }
    };
    let (inputs, outputs) = (plan.input_tiles(batch), plan.output_tiles(batch));
    check_length("what is made", 5, made.len())?;
    let lengths = [inputs.rows_len(), outputs.rows_len(), inputs.len(), outputs.len()];
    for (written, length) in made[1..].iter_mut().zip(lengths) {
        let short = u32::try_from(length);
        *written = short.map_err(|_| Error::shape("the arrays", "fewer than 2³² elements", length))?;
    }
    check_length("the order", given.len(), order.len())?;
    order.copy_from_slice(&given);
    let threads = Threads::new(threads as usize)?;
    let (narrow, wide) = (Buffer::empty(), Buffer::empty());
    made[0] = MAPS.insert(Exclusive::new(Ready { plan, inputs, outputs, rows: rows != 0, threads, narrow, wide }))?;
    Ok(())
}

pub unsafe fn destroy(map: u32) -> Result<(), Fault> {
    MAPS.remove(map)
}

fn check_length(name: &str, expected: usize, found: usize) -> Result<(), Fault> {
    if expected == found { Ok(()) } else { Err(Error::shape(name, format!("{expected} elements"), found)) }
}

impl Ready {
    /// Elements of the inputs, and of the outputs, as callers have them.
    fn lengths(&self) -> (usize, usize) {
        let length = |tiles: Tiles| if self.rows { tiles.rows_len() } else { tiles.len() };
        (length(self.inputs), length(self.outputs))
    }

    /// Room for tiles of both sides, taken out for a call.
    fn take<T: Kept>(&mut self) -> Result<Buffer<T>, Fault> {
        let needed = if self.rows { self.inputs.len() + self.outputs.len() } else { 0 };
        let kept = std::mem::replace(T::kept(self), Buffer::empty());
        Ok(if kept.len() == 2 * needed { kept } else { Buffer::zeroed(2 * needed)? })
    }
}

#[allow(clippy::too_many_arguments)] // The signature of the exported function.
pub unsafe fn forward<T: Kept>(
    map: u32,
    values: *const T,
    value_count: u32,
    bias: *const T,
    bias_length: u32,
    x: *const T,
    x_length: u32,
    y: *mut T,
    y_length: u32,
) -> Result<(), Fault> {
    // SAFETY: the caller's promise.
    let (values, bias) = unsafe { (slice(values, value_count)?, slice(bias, bias_length)?) };
    // SAFETY: as above.
    let (x, y) = unsafe { (slice(x, x_length)?, slice_mut(y, y_length)?) };
    let map = MAPS.get(map)?;
    let mut ready = map.enter()?;
    let (inputs, outputs) = ready.lengths();
    check_length("values", ready.plan.len(), values.len())?;
    check_length("x", inputs, x.len())?;
    check_length("out", outputs, y.len())?;
    if !bias.is_empty() {
        check_length("bias", ready.outputs.channels, bias.len())?;
    }
    let bias = Some(bias).filter(|bias| !bias.is_empty());
    let mut kept = ready.take::<T>()?;
    let Ready { plan, inputs, outputs, rows, threads, .. } = &*ready;
    threads.run(|par| {
        if *rows {
            let (of_x, rest) = kept.split_at_mut(inputs.len());
            let of_y = &mut rest[..outputs.len()];
            inputs.pack(par, x, of_x);
            sparse::forward(par, plan, of_x, values, bias, Activation::Identity, of_y);
            outputs.unpack(par, of_y, y);
        } else {
            sparse::forward(par, plan, x, values, bias, Activation::Identity, y);
        }
    });
    *T::kept(&mut ready) = kept;
    Ok(())
}

#[allow(clippy::too_many_arguments)] // The signature of the exported function.
pub unsafe fn backward<T: Kept>(
    map: u32,
    values: *const T,
    value_count: u32,
    x: *const T,
    x_length: u32,
    g: *const T,
    g_length: u32,
    dx: *mut T,
    dx_length: u32,
    dw: *mut T,
    dw_length: u32,
) -> Result<(), Fault> {
    // SAFETY: the caller's promise.
    let (values, x, g) = unsafe { (slice(values, value_count)?, slice(x, x_length)?, slice(g, g_length)?) };
    // SAFETY: as above.
    let (dx, dw) = unsafe { (slice_mut(dx, dx_length)?, slice_mut(dw, dw_length)?) };
    let map = MAPS.get(map)?;
    let mut ready = map.enter()?;
    let (inputs, outputs) = ready.lengths();
    check_length("values", ready.plan.len(), values.len())?;
    check_length("x", inputs, x.len())?;
    check_length("g", outputs, g.len())?;
    check_length("the input gradient", inputs, dx.len())?;
    check_length("the weight gradient", ready.plan.len(), dw.len())?;
    let mut kept = ready.take::<T>()?;
    let Ready { plan, inputs, outputs, rows, threads, .. } = &*ready;
    let identity = Activation::Identity;
    threads.run(|par| {
        if *rows {
            let (of_x, rest) = kept.split_at_mut(inputs.len());
            let (of_g, rest) = rest.split_at_mut(outputs.len());
            let of_dx = &mut rest[..inputs.len()];
            inputs.pack(par, x, of_x);
            outputs.pack(par, g, of_g);
            sparse::backward(par, plan, of_x, of_g, values, identity, of_dx, dw);
            inputs.unpack(par, of_dx, dx);
        } else {
            sparse::backward(par, plan, x, g, values, identity, dx, dw);
        }
    });
    *T::kept(&mut ready) = kept;
    Ok(())
}

/// Rows to tiles, or tiles to rows; of the inputs, or of the outputs.
pub unsafe fn convert<T: Kept>(
    map: u32,
    of_inputs: u32,
    to_tiles: u32,
    from: *const T,
    from_length: u32,
    to: *mut T,
    to_length: u32,
) -> Result<(), Fault> {
    // SAFETY: the caller's promise.
    let (from, to) = unsafe { (slice(from, from_length)?, slice_mut(to, to_length)?) };
    let map = MAPS.get(map)?;
    let ready = map.enter()?;
    let tiles = if of_inputs != 0 { ready.inputs } else { ready.outputs };
    let (rows, packed) = if to_tiles != 0 { (from.len(), to.len()) } else { (to.len(), from.len()) };
    check_length("rows", tiles.rows_len(), rows)?;
    check_length("tiles", tiles.len(), packed)?;
    ready.threads.run(|par| if to_tiles != 0 { tiles.pack(par, from, to) } else { tiles.unpack(par, from, to) });
    Ok(())
}
