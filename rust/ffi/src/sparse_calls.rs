//! The bodies of the exported sparse kernels: a pattern is built, used once and forgotten.

use crate::arguments::{slice, slice_mut};
use crate::status::Fault;
use engine::layers::map::Map;
use engine::layers::support::{Support, shape_of};
use engine::layers::{Mode, Order, Pass};
use engine::{Code, Error};
use kernels::conv::Geometry;
use kernels::sparse::{Pattern, batch_tile};
use kernels::{Activation, Buffer, Par, Real};

/// Numbers that describe a linear map: batch, inputs, outputs.
const LINEAR: usize = 3;

/// Numbers that describe a convolution: also height and width of the image, of the kernel, of a stride, and of the padding.
const CONVOLUTION: usize = 11;

/// A map with sparse weights, made for one call.
struct Sparse<T> {
    batch: usize,
    map: Map,
    support: Support<T>,
    /// For each weight in the caller's order its place among the values.
    slots: Vec<usize>,
}

impl<T: Real> Sparse<T> {
    /// `positions` ascend in the dense weights as users see them: outputs × inputs (× kernel height × kernel width).
    fn new(shape: &[u32], positions: &[u32]) -> Result<Sparse<T>, Fault> {
        let numbers: Vec<usize> = shape.iter().map(|number| *number as usize).collect();
        let (batch, map, shape, order) = match numbers[..] {
            [batch, inputs, outputs] => {
                (batch, Map::Dense { inputs, outputs }, vec![outputs, inputs], Order::Transposed)
            }
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
        if batch == 0 {
            return Err(Error::config("batch", "a whole number from 1 up", 0));
        }
        let all: usize = shape.iter().product();
        if positions.windows(2).any(|pair| pair[0] >= pair[1])
            || positions.last().is_some_and(|last| *last as usize >= all)
        {
            return Err(Error::config("positions", format!("ascending positions below {all}"), "others"));
        }
        let of_weights = shape_of("the sizes", &map)?;
        let mut places: Vec<(usize, usize)> = positions
            .iter()
            .enumerate()
            .map(|(given, position)| (order.place(&shape, *position as usize), given))
            .collect();
        places.sort_unstable();
        let ascending: Vec<usize> = places.iter().map(|(place, _)| *place).collect();
        let pattern = Pattern::from_positions(of_weights, &ascending);
        let pattern = pattern.map_err(|fault| Error::new(Code::InvalidConfig, fault))?;
        let mut slots = vec![0; positions.len()];
        for (slot, place) in pattern.positions().enumerate() {
            if let Ok(at) = ascending.binary_search(&place) {
                slots[places[at].1] = slot;
            }
        }
        let mut support = Support::new(&map, pattern, batch_tile(batch));
        support.reserve(batch)?;
        Ok(Sparse { batch, map, support, slots })
    }

    /// Elements of the inputs, and of the outputs.
    fn lengths(&self) -> (usize, usize) {
        let inputs = match &self.map {
            Map::Dense { inputs, .. } => *inputs,
            Map::Conv(geometry) => geometry.height * geometry.width * geometry.inputs,
        };
        (self.batch * inputs, self.map.rows(self.batch) * self.map.outputs())
    }

    fn in_slots(&self, values: &[T]) -> Vec<T> {
        let mut ordered = vec![T::zero(); values.len()];
        self.slots.iter().zip(values).for_each(|(slot, value)| ordered[*slot] = *value);
        ordered
    }
}

fn check_length(name: &str, expected: usize, found: usize) -> Result<(), Fault> {
    if expected == found { Ok(()) } else { Err(Error::shape(name, format!("{expected} elements"), found)) }
}

#[allow(clippy::too_many_arguments)] // The signature of the exported function.
pub unsafe fn forward<T: Real>(
    shape: *const u32,
    shape_length: u32,
    positions: *const u32,
    position_count: u32,
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
    let (shape, positions, values) =
        unsafe { (slice(shape, shape_length)?, slice(positions, position_count)?, slice(values, value_count)?) };
    // SAFETY: as above.
    let (bias, x, y) = unsafe { (slice(bias, bias_length)?, slice(x, x_length)?, slice_mut(y, y_length)?) };
    let mut sparse = Sparse::new(shape, positions)?;
    let (inputs, outputs) = sparse.lengths();
    check_length("values", positions.len(), values.len())?;
    check_length("x", inputs, x.len())?;
    check_length("out", outputs, y.len())?;
    if !bias.is_empty() {
        check_length("bias", sparse.map.outputs(), bias.len())?;
    }
    let bias = Some(bias).filter(|bias| !bias.is_empty());
    let values = sparse.in_slots(values);
    let pass = Pass { par: Par::SEQUENTIAL, rows: sparse.batch, mode: Mode::Evaluate, samples: &[] };
    let mut scratch = Buffer::zeroed(sparse.support.scratch(sparse.batch))?;
    sparse.support.forward(&pass, x, &values, bias, Activation::Identity, y, &mut scratch);
    Ok(())
}

#[allow(clippy::too_many_arguments)] // The signature of the exported function.
pub unsafe fn backward<T: Real>(
    shape: *const u32,
    shape_length: u32,
    positions: *const u32,
    position_count: u32,
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
    let (shape, positions, values) =
        unsafe { (slice(shape, shape_length)?, slice(positions, position_count)?, slice(values, value_count)?) };
    // SAFETY: as above.
    let (x, g) = unsafe { (slice(x, x_length)?, slice(g, g_length)?) };
    // SAFETY: as above.
    let (dx, dw) = unsafe { (slice_mut(dx, dx_length)?, slice_mut(dw, dw_length)?) };
    let mut sparse = Sparse::new(shape, positions)?;
    let (inputs, outputs) = sparse.lengths();
    check_length("values", positions.len(), values.len())?;
    check_length("x", inputs, x.len())?;
    check_length("g", outputs, g.len())?;
    check_length("the input gradient", inputs, dx.len())?;
    check_length("the weight gradient", positions.len(), dw.len())?;
    let values = sparse.in_slots(values);
    let pass = Pass { par: Par::SEQUENTIAL, rows: sparse.batch, mode: Mode::Evaluate, samples: &[] };
    let mut scratch = Buffer::zeroed(sparse.support.scratch(sparse.batch))?;
    sparse.support.remember(&pass, x);
    let (mut g, mut ordered) = (g.to_vec(), vec![T::zero(); dw.len()]);
    sparse.support.backward(&pass, x, &mut g, &values, None, Some(dx), (&mut ordered, None), &mut scratch);
    sparse.slots.iter().zip(dw).for_each(|(slot, dw)| *dw = ordered[*slot]);
    Ok(())
}
