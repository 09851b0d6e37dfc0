//! From the loss's gradient at the outputs to the parameters, block by block. No weight of a linear map is read here: inside a
//! block only the derivatives of activations, norms and pooling are taken.

use super::blocks::Block;
use super::lanes::Seed;
use super::{Dual, Estimate, Feedback, Frame, Mode, SeedAt};
use crate::error::{Code, Error, Result};
use crate::layers::Trace;
use crate::layers::linear::Learn;
use crate::passes::{Learning, part};
use crate::plan::Op;
use kernels::linear::{self, Dims};
use kernels::{Activation, Par, Real, isa, optimize, reduce, tangent};

/// Elements that one task handles.
const CHUNK: usize = 65_536;

/// Learns from the batch of `frame`.
pub fn run<T: Real>(dual: &mut Dual<T>, mut frame: Frame<T>, learning: &mut Learning<T>) -> Result<()> {
    if dual.config.mode == Mode::Weight {
        along_weights(dual, &mut frame, learning);
        return Ok(());
    }
    // Out of `dual` for the time of the call, which changes the rest of it.
    let blocks = std::mem::take(&mut dual.blocks);
    dual.signals(&blocks, &frame, learning);
    let mut result = Ok(());
    if dual.config.two_pass {
        for index in 0..frame.plan.nodes.len() {
            frame.node(index);
            for (number, block) in blocks.iter().enumerate().filter(|(_, block)| block.end() == index) {
                result = result.and(dual.learn_block((number, block), &mut frame, learning));
            }
            frame.workspace.end(index);
        }
    } else {
        for (number, block) in blocks.iter().enumerate() {
            result = result.and(dual.learn_block((number, block), &mut frame, learning));
        }
    }
    dual.blocks = blocks;
    result
}

/// The gradient from the derivatives along weight directions.
fn along_weights<T: Real>(dual: &mut Dual<T>, frame: &mut Frame<T>, learning: &mut Learning<T>) {
    let (par, elements) = (frame.pass.par, frame.pass.rows * dual.outputs);
    let Some(along) = &dual.along else { return };
    let first = along.first(frame.plan.output, elements);
    let gradient = &frame.workspace.gradients[0][..elements];
    let share = match dual.config.estimate {
        Estimate::Projection => T::one(),
        Estimate::Mean => T::one() / T::of(dual.config.lanes as f64),
    };
    let size = frame.plan.elements;
    for (lane, (first, direction)) in first.chunks_exact(elements).zip(dual.directions.chunks_exact(size)).enumerate() {
        let factor = reduce::dot(gradient, first) * share;
        let add = |start: usize, out: &mut [T]| {
            let direction = &direction[start..start + out.len()];
            isa::vectorize(|| {
                for (out, direction) in out.iter_mut().zip(direction) {
                    *out = if lane == 0 { factor * *direction } else { *out + factor * *direction };
                }
            });
        };
        let Learning { gradient, first, second, update, .. } = &mut *learning;
        match update {
            Some(update) if lane + 1 == dual.config.lanes => {
                let sum = &**gradient;
                optimize::apply_made(par, update, frame.parameters, (first, second), |start, out| {
                    if lane > 0 {
                        out.copy_from_slice(&sum[start..start + out.len()]);
                    }
                    add(start, out);
                });
            }
            _ => par.for_work(size * 4).chunks_mut(gradient, CHUNK, add),
        }
    }
}

impl<T: Real> Dual<T> {
    /// What all blocks need before the first of them changes anything.
    fn signals(&mut self, blocks: &[Block], frame: &Frame<T>, learning: &Learning<T>) {
        let (rows, outputs) = (frame.pass.rows, self.outputs);
        let elements = rows * outputs;
        let arrived = self.lanes.at(frame.plan.output, elements);
        match self.config.mode {
            Mode::Activity => {
                let gradient = &frame.workspace.gradients[0][..elements];
                for (lane, derivatives) in
                    arrived.chunks_exact(elements).zip(self.memory.derivatives.chunks_exact_mut(rows))
                {
                    let rows = gradient.chunks_exact(outputs).zip(lane.chunks_exact(outputs));
                    for (derivative, (gradient, lane)) in derivatives.iter_mut().zip(rows) {
                        *derivative = gradient.iter().zip(lane).fold(T::zero(), |sum, (g, o)| sum + *g * *o);
                    }
                }
            }
            // Blocks that share lanes foretell their sum together: then the noise of one is no noise for another.
            Mode::Feedback if self.config.share_lanes && self.config.feedback == Feedback::Nlms => {
                let count = arrived.len();
                self.memory.residual[..count].copy_from_slice(arrived);
                for (number, block) in blocks.iter().enumerate().filter(|(_, block)| !block.last) {
                    let size = frame.plan.sizes[block.value];
                    self.recall_seeds(number, size, frame, learning);
                    self.foretell(number, size, frame.pass.par, rows);
                }
            }
            Mode::Local | Mode::Exact | Mode::Feedback | Mode::Weight => {}
        }
    }

    /// A block's seeds as in the forward pass: kept since then, or in two passes drawn again.
    fn recall_seeds(&mut self, number: usize, size: usize, frame: &Frame<T>, learning: &Learning<T>) {
        if self.config.two_pass {
            self.draw_seeds(number, size, learning.moment, frame.pass);
        }
    }

    /// Takes what a block's feedback foretells of its lanes off the residual.
    fn foretell(&mut self, number: usize, size: usize, par: Par, rows: usize) {
        let Dual { config, memory, feedback, outputs, .. } = self;
        if config.feedback == Feedback::Ema {
            return;
        }
        let dims = Dims { rows: config.lanes * rows, inputs: *outputs, outputs: size };
        let begin = memory.begins[number] * dims.rows;
        let seeds = &memory.noise[begin..begin + dims.rows * size];
        let foretold = &mut memory.foretold[..dims.rows * *outputs];
        linear::input_gradient(par, dims, seeds, &feedback[number], None, foretold);
        for (residual, foretold) in memory.residual.iter_mut().zip(foretold) {
            *residual -= *foretold;
        }
    }

    /// Lets a block's feedback matrix learn from its lanes.
    fn teach(&mut self, number: usize, size: usize, total: usize, frame: &Frame<T>, learning: &Learning<T>) {
        let (par, rows, outputs) = (frame.pass.par, frame.pass.rows, self.outputs);
        let elements = rows * outputs;
        let lanes = self.lanes_of(number);
        self.recall_seeds(number, size, frame, learning);
        let together = self.config.share_lanes && self.config.feedback == Feedback::Nlms;
        if !together {
            let arrived = &self.lanes.at(frame.plan.output, elements)[lanes.start * elements..lanes.end * elements];
            self.memory.residual[..arrived.len()].copy_from_slice(arrived);
            self.foretell(number, size, par, rows);
        }
        let dims = Dims { rows: lanes.len() * rows, inputs: outputs, outputs: size };
        let begin = self.memory.begins[number] * dims.rows;
        let seeds = &self.memory.noise[begin..begin + dims.rows * size];
        let residual = &self.memory.residual[..dims.rows * outputs];
        let (matrix, rate) = (&mut self.feedback[number], self.config.feedback_rate);
        match self.config.feedback {
            Feedback::Nlms => {
                // Signs of n rows in H dimensions: the mean square error of B shrinks by 1 − 2 μ + μ² (n + H − 1) / n each step
                // where n ≥ 2 H, and slower below, since seeds are drawn anew each time.
                let step = rate / dims.rows.max(2 * total) as f64;
                linear::weight_gradient(par, dims, T::of(step), residual, seeds, true, matrix);
            }
            Feedback::Ema => {
                let keep = T::of(1.0 - rate);
                matrix.iter_mut().for_each(|value| *value *= keep);
                linear::weight_gradient(par, dims, T::of(rate / dims.rows as f64), residual, seeds, true, matrix);
            }
        }
    }

    /// The gradient of a block's value, then of its parameters.
    fn learn_block(
        &mut self,
        (number, block): (usize, &Block),
        frame: &mut Frame<T>,
        learning: &mut Learning<T>,
    ) -> Result<()> {
        let (par, rows) = (frame.pass.par, frame.pass.rows);
        let size = frame.plan.sizes[block.value];
        let elements = rows * self.outputs;
        match self.config.mode {
            Mode::Local => self.local(block, frame)?,
            _ if block.last => self.memory.delta[..elements].copy_from_slice(&frame.workspace.gradients[0][..elements]),
            Mode::Exact => self.exact(block, frame),
            Mode::Feedback => {
                // The matrix of the step before: independent of this step's lanes.
                let dims = Dims { rows, inputs: self.outputs, outputs: size };
                let gradient = &frame.workspace.gradients[0][..elements];
                let delta = &mut self.memory.delta[..rows * size];
                linear::forward(par, dims, gradient, &self.feedback[number], None, Activation::Identity, delta);
                let total = if self.config.share_lanes { self.memory.seeded } else { size };
                self.teach(number, size, total, frame, learning);
            }
            Mode::Activity => {
                let lanes = self.lanes_of(number);
                let share = T::of(size as f64 / lanes.len() as f64);
                self.recall_seeds(number, size, frame, learning);
                let memory = &mut self.memory;
                let begin = memory.begins[number] * rows * lanes.len();
                let delta = &mut memory.delta[..rows * size];
                delta.fill(T::zero());
                let seeds = memory.noise[begin..begin + lanes.len() * rows * size].chunks_exact(rows * size);
                for (arrived, seeds) in lanes.zip(seeds) {
                    let derivatives = &memory.derivatives[arrived * rows..(arrived + 1) * rows];
                    par.for_work(delta.len() * 4).chunks_mut(delta, size, |start, delta| {
                        let (factor, seeds) = (derivatives[start / size] * share, &seeds[start..start + size]);
                        isa::vectorize(|| delta.iter_mut().zip(seeds).for_each(|(sum, seed)| *sum += factor * *seed));
                    });
                }
            }
            Mode::Weight => {}
        }
        if self.config.mode != Mode::Local {
            self.through_chain(block, frame, learning);
        }
        self.learn_node(block, frame, learning);
        Ok(())
    }

    /// Dual parts of single nodes: the loss's at the outputs times the activations', both seeded where they begin.
    fn local(&mut self, block: &Block, frame: &mut Frame<T>) -> Result<()> {
        let (par, rows) = (frame.pass.par, frame.pass.rows);
        let elements = rows * self.outputs;
        let Dual { config, lanes, memory, .. } = self;
        let published = config.seed_at == SeedAt::Input;
        let node = &mut frame.plan.nodes[block.node];
        let outputs = frame.plan.sizes[node.output];
        let count = if published { outputs } else { 0 };
        let (sums, divisors) = (&mut memory.sums[..count], &mut memory.divisors[..count]);
        if let (true, Op::Linear(linear)) = (published, &mut node.op) {
            // The tangent of z where all inputs move alike is the sum of the weights, the same for every row.
            let ones = &mut memory.ones[..frame.plan.sizes[node.input]];
            ones.fill(T::one());
            let parameters = &frame.parameters[node.parameters.clone()];
            linear.multiply(par, 1, parameters, ones, sums, &mut frame.workspace.scratch);
            linear.weight_sums(parameters, sums, divisors);
            if let Some(output) = divisors.iter().position(|sum| *sum == T::zero()) {
                let message = format!(
                    "Cannot divide by the sum of the weights of output {output} in {}: it is 0; use seedAt preactivation, \
                     which needs no division",
                    node.name()
                );
                return Err(Error::new(Code::NotFinite, message));
            }
        }
        let fill = |_: usize, _: bool, out: &mut [T]| {
            if published {
                out.chunks_exact_mut(outputs).for_each(|row| row.copy_from_slice(sums));
            } else {
                out.fill(T::one());
            }
        };
        lanes.clear();
        for index in block.node..=block.end() {
            let seed = (index == block.node).then_some(Seed { lanes: 0..1, before_activation: true, fill: &fill });
            lanes.carry(frame.plan, index, frame.parameters, frame.workspace, frame.pass, seed);
        }
        let arrived = lanes.at(frame.plan.output, elements);
        let gradient = &frame.workspace.gradients[0][..elements];
        for ((delta, gradient), own) in memory.delta.iter_mut().zip(gradient).zip(arrived) {
            *delta = *gradient * *own;
        }
        if published {
            for row in memory.delta[..elements].chunks_exact_mut(outputs) {
                row.iter_mut().zip(&memory.divisors[..outputs]).for_each(|(delta, sum)| *delta /= *sum);
            }
        }
        Ok(())
    }

    /// e · J, with the Jacobian's columns from identity lanes, some at a time.
    fn exact(&mut self, block: &Block, frame: &mut Frame<T>) {
        let (rows, outputs) = (frame.pass.rows, self.outputs);
        let size = frame.plan.sizes[block.value];
        let Dual { config, lanes, memory, .. } = self;
        for start in (0..size).step_by(config.lanes) {
            let count = config.lanes.min(size - start);
            let fill = |lane: usize, _: bool, out: &mut [T]| {
                out.fill(T::zero());
                out.iter_mut().skip(start + lane).step_by(size).for_each(|value| *value = T::one());
            };
            lanes.clear();
            for index in block.end()..frame.plan.nodes.len() {
                let before_activation = block.before_activation;
                let seed = (index == block.end()).then_some(Seed { lanes: 0..count, before_activation, fill: &fill });
                lanes.carry(frame.plan, index, frame.parameters, frame.workspace, frame.pass, seed);
            }
            let arrived = lanes.at(frame.plan.output, rows * outputs);
            let gradient = &frame.workspace.gradients[0][..rows * outputs];
            for (lane, arrived) in arrived.chunks_exact(rows * outputs).enumerate() {
                let pairs = gradient.chunks_exact(outputs).zip(arrived.chunks_exact(outputs));
                for (row, (gradient, arrived)) in pairs.enumerate() {
                    memory.delta[row * size + start + lane] =
                        gradient.iter().zip(arrived).fold(T::zero(), |sum, (g, o)| sum + *g * *o);
                }
            }
        }
    }

    /// From a block's value to the output of its first node, through layers without linear maps, whose parameters learn on the way.
    fn through_chain(&mut self, block: &Block, frame: &mut Frame<T>, learning: &mut Learning<T>) {
        let rows = frame.pass.rows;
        for index in block.chain.iter().rev() {
            let node = &frame.plan.nodes[*index];
            let Op::Layer(layer) = &node.op else { continue };
            let (values, sizes) = (&frame.workspace.values, &frame.plan.sizes);
            let x = &values[node.input][..rows * sizes[node.input]];
            let y = &values[node.output][..rows * sizes[node.output]];
            let trace = Trace { x, y, saved: &frame.workspace.saved[*index] };
            let parameters = &mut frame.parameters[node.parameters.clone()];
            let gradient = &mut learning.gradient[node.parameters.clone()];
            let (gy, gx) = (&self.memory.delta[..y.len()], &mut self.memory.spare[..x.len()]);
            layer.backward(frame.pass, parameters, trace, gy, Some(gx), gradient, &mut frame.workspace.scratch);
            if let Some(update) = &learning.update {
                let first = part(learning.first, &node.parameters);
                update.apply(parameters, gradient, first, part(learning.second, &node.parameters));
            }
            std::mem::swap(&mut self.memory.delta, &mut self.memory.spare);
        }
    }

    /// The parameters of a block's first node from the gradient of its output.
    fn learn_node(&mut self, block: &Block, frame: &mut Frame<T>, learning: &mut Learning<T>) {
        let rows = frame.pass.rows;
        let node = &mut frame.plan.nodes[block.node];
        let (values, sizes) = (&frame.workspace.values, &frame.plan.sizes);
        let x = &values[node.input][..rows * sizes[node.input]];
        let y = &values[node.output][..rows * sizes[node.output]];
        let delta = &mut self.memory.delta[..y.len()];
        let parameters = &mut frame.parameters[node.parameters.clone()];
        let gradient = &mut learning.gradient[node.parameters.clone()];
        let first = part(learning.first, &node.parameters);
        let second = part(learning.second, &node.parameters);
        match &mut node.op {
            Op::Linear(linear) => {
                if !block.before_activation && self.config.mode != Mode::Local {
                    tangent::activation(frame.pass.par, linear.activation, y, y, delta);
                }
                let (scratch, update) = (&mut frame.workspace.scratch[..], learning.update.as_ref());
                let learn = Learn { gradient, first, second, scratch, update, moment: learning.moment };
                linear.learn(frame.pass, parameters, x, delta, learn);
            }
            Op::Layer(layer) => {
                let trace = Trace { x, y, saved: &frame.workspace.saved[block.node] };
                let gx = layer.always_input_gradient().then_some(&mut self.memory.spare[..x.len()]);
                layer.backward(frame.pass, parameters, trace, delta, gx, gradient, &mut frame.workspace.scratch);
                if let Some(update) = &learning.update {
                    update.apply(parameters, gradient, first, second);
                }
            }
            Op::Add { .. } => {}
        }
    }
}
