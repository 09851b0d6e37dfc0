//! The weights that a linear map has, where it does not have all of them: products at the non-zeros only, on tiles.

use super::Pass;
use super::map::Map;
use crate::error::{Code, Error, Result};
use kernels::sparse::{self, Conv, Pattern, Plan, Plane, Shape, Tiles};
use kernels::{Activation, Buffer, Par, Real};

/// Sides on which a map shares its tiles with a sparse neighbour, with the pixels of the tiles; on the others its inputs or outputs
/// are rows, which are converted here.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Joints {
    /// The inputs.
    pub below: Option<Plane>,
    /// The outputs.
    pub above: Option<Plane>,
}

/// What a map reads, or what it makes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Side {
    /// What it reads.
    Inputs,
    /// What it makes.
    Outputs,
}

/// What a sparse map keeps beside its values.
pub struct Support<T> {
    /// Which weights there are.
    pattern: Pattern,
    plan: Plan,
    lanes: usize,
    joints: Joints,
    /// Inputs of the last forward pass as tiles, where they come as rows.
    x: Buffer<T>,
    /// The pattern before, where the mask has changed in this step, which then takes no step in the weights.
    pub left: Option<Pattern>,
}

/// What sparse weights of a map connect, or why there cannot be any.
pub fn shape(map: &Map) -> std::result::Result<Shape, String> {
    match map {
        Map::Dense { inputs, outputs } => {
            sparse::check_tile(*inputs.max(outputs), 1, sparse::WIDEST_TILE)?;
            Ok(Shape::linear(*inputs, *outputs))
        }
        Map::Conv(geometry) => Conv::new(geometry).map(Conv::shape),
    }
}

/// As [`shape`], for a layer with a name.
pub fn shape_of(name: &str, map: &Map) -> Result<Shape> {
    shape(map).map_err(|fault| Error::new(Code::InvalidConfig, format!("Cannot use {name}: {fault}")))
}

fn conv(map: &Map) -> Option<Conv> {
    match map {
        Map::Dense { .. } => None,
        Map::Conv(geometry) => Conv::new(geometry).ok(),
    }
}

/// Pixels of the inputs and of the outputs that the map needs at least.
pub fn planes(map: &Map) -> (Plane, Plane) {
    conv(map).map_or((Plane::POINT, Plane::POINT), |conv| (conv.input_plane(), conv.output_plane()))
}

fn kernel_plan(map: &Map, pattern: &Pattern, lanes: usize, joints: Joints) -> Plan {
    match conv(map) {
        None => Plan::linear(pattern, lanes),
        Some(conv) => {
            let (below, above) =
                (joints.below.unwrap_or(conv.input_plane()), joints.above.unwrap_or(conv.output_plane()));
            conv.plan(pattern, below, above)
        }
    }
}

impl<T: Real> Support<T> {
    /// Support for a map, of tiles of `lanes` rows where it is dense, not joined to any neighbour.
    ///
    /// # Panics
    /// If the pattern is of another shape than the map's.
    pub fn new(map: &Map, pattern: Pattern, lanes: usize) -> Support<T> {
        let joints = Joints::default();
        let plan = kernel_plan(map, &pattern, lanes, joints);
        Support { pattern, plan, lanes, joints, x: Buffer::empty(), left: None }
    }

    /// Which weights there are.
    pub fn pattern(&self) -> &Pattern {
        &self.pattern
    }

    /// Bytes that it takes beside values, gradients and optimizer state.
    pub fn bytes(&self) -> usize {
        self.pattern.bytes() + self.plan.bytes()
    }

    /// Other tiles or neighbours.
    pub fn join(&mut self, map: &Map, lanes: usize, joints: Joints) {
        if (lanes, joints) != (self.lanes, self.joints) {
            self.plan = kernel_plan(map, &self.pattern, lanes, joints);
            (self.lanes, self.joints, self.x) = (lanes, joints, Buffer::empty());
        }
    }

    /// Another pattern with as many weights or others; gives the one before.
    pub fn replace(&mut self, map: &Map, pattern: Pattern) -> Pattern {
        self.plan = kernel_plan(map, &pattern, self.lanes, self.joints);
        std::mem::replace(&mut self.pattern, pattern)
    }

    /// Makes room for batches of up to `samples`.
    pub fn reserve(&mut self, samples: usize) -> Result<()> {
        let length = if self.joints.below.is_some() { 0 } else { self.plan.input_tiles(samples).len() };
        if self.x.len() < length {
            self.x = Buffer::zeroed(length)?;
        }
        Ok(())
    }

    /// The tiles of the outputs of a batch.
    pub fn output_tiles(&self, samples: usize) -> Tiles {
        self.plan.output_tiles(samples)
    }

    /// Scratch elements for a batch: inputs or their gradient, and outputs or theirs.
    pub fn scratch(&self, samples: usize) -> usize {
        self.plan.input_tiles(samples).len() + self.plan.output_tiles(samples).len()
    }

    /// Keeps the inputs of a batch as tiles for the backward pass, as a forward pass does.
    pub fn remember(&mut self, pass: &Pass, x: &[T]) {
        if self.joints.below.is_none() {
            let inputs = self.plan.input_tiles(pass.rows);
            inputs.pack(pass.par, x, &mut self.x[..inputs.len()]);
        }
    }

    /// y = f(x · w + bias); inputs and outputs are rows, or tiles on joined sides.
    #[allow(clippy::too_many_arguments)] // A linear map has that many parts.
    pub fn forward(
        &mut self,
        pass: &Pass,
        x: &[T],
        values: &[T],
        bias: Option<&[T]>,
        activation: Activation<T>,
        y: &mut [T],
        scratch: &mut [T],
    ) {
        self.remember(pass, x);
        let (inputs, outputs) = (self.plan.input_tiles(pass.rows), self.plan.output_tiles(pass.rows));
        let x = if self.joints.below.is_some() { x } else { &self.x[..inputs.len()] };
        if self.joints.above.is_some() {
            sparse::forward(pass.par, &self.plan, x, values, bias, activation, y);
        } else {
            let tiles = &mut scratch[..outputs.len()];
            sparse::forward(pass.par, &self.plan, x, values, bias, activation, tiles);
            outputs.unpack(pass.par, tiles, y);
        }
    }

    /// y = x · w for any number of samples as rows, whatever the batch was.
    pub fn multiply(&self, par: Par, samples: usize, x: &[T], values: &[T], y: &mut [T], scratch: &mut [T]) {
        let (inputs, outputs) = (self.plan.input_tiles(samples), self.plan.output_tiles(samples));
        let (of_x, scratch) = scratch.split_at_mut(inputs.len());
        let of_y = &mut scratch[..outputs.len()];
        inputs.pack(par, x, of_x);
        sparse::forward(par, &self.plan, of_x, values, None, Activation::Identity, of_y);
        outputs.unpack(par, of_y, y);
    }

    /// dw at the non-zeros, db, and where wanted dx times the derivative of the activation below, for the batch of the last
    /// forward pass. `gy` is used up.
    #[allow(clippy::too_many_arguments)] // As `forward`.
    pub fn backward(
        &self,
        pass: &Pass,
        x: &[T],
        gy: &mut [T],
        values: &[T],
        below: Option<Activation<T>>,
        gx: Option<&mut [T]>,
        (dw, db): (&mut [T], Option<&mut [T]>),
        scratch: &mut [T],
    ) {
        let (par, plan) = (pass.par, &self.plan);
        let (inputs, outputs) = (plan.input_tiles(pass.rows), plan.output_tiles(pass.rows));
        let (of_g, scratch) = scratch.split_at_mut(outputs.len());
        let x = if self.joints.below.is_some() { x } else { &self.x[..inputs.len()] };
        let g = match self.joints.above {
            Some(_) => {
                // The memory served other values before.
                if outputs.plane.positions() > 1 {
                    outputs.clear_border(gy);
                }
                &*gy
            }
            None => {
                outputs.pack(par, gy, of_g);
                &*of_g
            }
        };
        let below = below.unwrap_or(Activation::Identity);
        match gx {
            None => sparse::weight_gradient(par, plan, x, g, dw),
            Some(gx) if self.joints.below.is_some() => sparse::backward(par, plan, x, g, values, below, gx, dw),
            Some(gx) => {
                let dx = &mut scratch[..inputs.len()];
                sparse::backward(par, plan, x, g, values, below, dx, dw);
                inputs.unpack(par, dx, gx);
            }
        }
        if let Some(db) = db {
            sparse::bias_gradient(par, plan, g, db);
        }
    }

    /// dw at the non-zeros from any number of samples as rows.
    pub fn weight_gradient(&self, par: Par, samples: usize, x: &[T], g: &[T], dw: &mut [T], scratch: &mut [T]) {
        let (inputs, outputs) = (self.plan.input_tiles(samples), self.plan.output_tiles(samples));
        let (of_x, scratch) = scratch.split_at_mut(inputs.len());
        let of_g = &mut scratch[..outputs.len()];
        inputs.pack(par, x, of_x);
        outputs.pack(par, g, of_g);
        sparse::weight_gradient(par, &self.plan, of_x, of_g, dw);
    }

    /// Elements of a batch as rows, of the inputs and of the outputs: 0 where they come as rows anyway.
    pub fn joined_rows(&self, samples: usize) -> [usize; 2] {
        let of = |joint: Option<Plane>, tiles: Tiles| joint.map_or(0, |_| tiles.rows_len());
        [of(self.joints.below, self.plan.input_tiles(samples)), of(self.joints.above, self.plan.output_tiles(samples))]
    }

    /// The rows of a batch that came as tiles on a joined side: for products that need them, which are rare.
    pub fn unpack<'a>(&self, pass: &Pass, side: Side, values: &[T], rows: &'a mut [T]) -> &'a [T] {
        let tiles = match side {
            Side::Inputs => self.plan.input_tiles(pass.rows),
            Side::Outputs => self.plan.output_tiles(pass.rows),
        };
        tiles.unpack(pass.par, values, rows);
        rows
    }
}
