//! Keeping samples of a batch: rows of a dense map, whole images of a convolution. Those that are not kept may stay in a memory.
//!
//! Centred, the product is split exactly: with the mean μ of the inputs over the batch and the sum s of the gradients,
//! Xᵀ G = (X − 1 μ)ᵀ G + μᵀ s, for the product of a convolution as well as for that of a dense map. The first part is approximated,
//! the second is one sample more, (μ, s), beside those that are kept.

use super::{Chosen, Config, PolicyName, carries_rate};
use crate::error::Result;
use crate::layers::map::Map;
use crate::layers::{Mode, Pass};
use crate::rules::{Moment, Site, StateTensor};
use kernels::carry::{add_rows, copy_rows, row_squares, take_rows};
use kernels::select::{Choice, Stream};
use kernels::{Buffer, Par, Real, reduce};
use serde_json::{Value, json};

/// What samples of a dense map are called.
const ROWS: &str = "rows";

/// One factor of the outer products: inputs, or gradients.
struct Factor<T> {
    /// Shape of one sample.
    shape: Vec<usize>,
    /// Elements of one sample.
    size: usize,
    /// What was not used so far, for each place in the batch; empty without memory.
    memory: Buffer<T>,
    /// Squared norms of the rows among which is chosen.
    squares: Vec<f64>,
    /// The kept samples, and the mean term.
    kept: Buffer<T>,
}

impl<T: Real> Factor<T> {
    fn new(shape: Vec<usize>, batch: usize, keep: usize, memory: bool) -> Result<Factor<T>> {
        let size = shape.iter().product();
        let memory = if memory { Buffer::zeroed(batch * size)? } else { Buffer::empty() };
        Ok(Factor { shape, size, memory, squares: vec![0.0; batch], kept: Buffer::zeroed((keep + 1) * size)? })
    }

    /// Norm of what the memory holds, the rows taken out left aside.
    fn memory_norm(&self, rows: usize, out: &[u32]) -> f64 {
        let all: f64 = self.squares[..rows].iter().sum();
        let taken: f64 = out.iter().map(|row| self.squares[*row as usize]).sum();
        (all - taken).max(0.0).sqrt()
    }
}

/// What is fixed for a run.
struct Settings {
    policy: PolicyName,
    keep: usize,
    left: f64,
    center: bool,
    memory: bool,
    carries_rate: bool,
    number: u32,
}

/// An approximate product outside of a network, for researchers.
#[derive(Clone, Copy, Debug)]
pub struct Approximation {
    /// How rows are chosen.
    pub policy: PolicyName,
    /// How many.
    pub k: usize,
    /// Whether the part that the column means make is exact.
    pub center: bool,
    /// Seed of the random choices.
    pub seed: u64,
    /// Number of the step, which makes choices of one seed differ.
    pub step: u64,
}

impl Approximation {
    /// out = xᵀ · g approximately: x is rows × inputs, g rows × outputs, out inputs × outputs. With `memory` (shaped like x and g)
    /// factors are added to it, chosen rows leave it.
    pub fn product<T: Real>(
        &self,
        rows: usize,
        (x, g): (&[T], &[T]),
        memory: Option<(&mut [T], &mut [T])>,
        out: &mut [T],
    ) -> Result<()> {
        let (inputs, outputs) = (x.len() / rows, g.len() / rows);
        let settings = Settings {
            policy: self.policy,
            keep: self.k,
            left: 1.0,
            center: self.center,
            memory: memory.is_some(),
            carries_rate: false,
            number: 0,
        };
        let mut samples = Samples::with(settings, ROWS, rows, [vec![inputs], vec![outputs]])?;
        if let Some((of_x, of_g)) = &memory {
            samples.x.memory.copy_from_slice(of_x);
            samples.g.memory.copy_from_slice(of_g);
        }
        let pass = Pass { par: Par::SEQUENTIAL, rows, mode: Mode::Evaluate, samples: &[] };
        let moment = Moment { seed: self.seed, step: self.step, rate: 1.0, factor: 1.0 };
        let map = Map::Dense { inputs, outputs };
        samples.choose(&pass, x, g, &moment).weight_gradient(&map, Par::SEQUENTIAL, out, &mut []);
        if let Some((of_x, of_g)) = memory {
            of_x.copy_from_slice(&samples.x.memory);
            of_g.copy_from_slice(&samples.g.memory);
        }
        Ok(())
    }
}

/// The rule in a map that keeps samples.
pub struct Samples<T> {
    policy: PolicyName,
    keep: usize,
    /// √decay: what the memory is multiplied by from step to step.
    left: f64,
    center: bool,
    memory: bool,
    carries_rate: bool,
    number: u32,
    /// [`ROWS`] or "images".
    unit: &'static str,
    x: Factor<T>,
    g: Factor<T>,
    /// Means of the inputs and sums of the gradients; empty without centring.
    mean: Buffer<T>,
    sum: Buffer<T>,
    scores: Vec<f64>,
    choice: Choice,
    /// Rows of the last batch, and the norms of what the memory holds after it.
    last: (usize, [f64; 2]),
}

impl<T: Real> Samples<T> {
    /// Room for the batches of a run.
    pub fn new(config: &Config, site: &Site) -> Result<Samples<T>> {
        let (batch, keep) = (site.batch, config.keep(site.batch));
        let (unit, of_x, of_g) = match &site.map {
            Map::Dense { inputs, outputs } => (ROWS, vec![*inputs], vec![*outputs]),
            Map::Conv(g) => {
                ("images", vec![g.height, g.width, g.inputs], vec![g.out_height(), g.out_width(), g.outputs])
            }
        };
        let settings = Settings {
            policy: config.policy,
            keep,
            left: config.decay.sqrt(),
            center: config.center,
            memory: config.memory,
            carries_rate: config.memory && carries_rate(site.optimizer()),
            number: site.number,
        };
        Self::with(settings, unit, batch, [of_x, of_g])
    }

    fn with(settings: Settings, unit: &'static str, batch: usize, [of_x, of_g]: [Vec<usize>; 2]) -> Result<Samples<T>> {
        let Settings { policy, keep, left, center, memory, carries_rate, number } = settings;
        let x = Factor::new(of_x, batch, keep, memory)?;
        let g = Factor::new(of_g, batch, keep, memory)?;
        let centred = |size| if center { Buffer::zeroed(size) } else { Ok(Buffer::empty()) };
        Ok(Samples {
            policy,
            keep,
            left,
            center,
            memory,
            carries_rate,
            number,
            unit,
            mean: centred(x.size)?,
            sum: centred(g.size)?,
            x,
            g,
            scores: vec![0.0; batch],
            choice: Choice::new(batch),
            last: (0, [0.0; 2]),
        })
    }

    /// Chooses samples, takes them out of the memory, and gives them as a smaller batch.
    pub fn choose<'a>(&'a mut self, pass: &Pass, x: &[T], g: &[T], moment: &Moment) -> Chosen<'a, T> {
        let (rows, par) = (pass.rows, pass.par);
        // At rate 0 factors with the rate inside are 0: nothing is added, nothing is used.
        if self.carries_rate && moment.rate == 0.0 {
            return Chosen::Samples { count: 0, x: &[], g: &[], sums: None };
        }
        let Samples { x: of_x, g: of_g, mean, sum, .. } = self;
        if self.center {
            let of_inputs = reduce::column_sums_job(x, of_x.size, false, mean);
            of_inputs.with(reduce::column_sums_job(g, of_g.size, false, sum)).run(par);
            let share = T::of(1.0 / rows as f64);
            mean.iter_mut().for_each(|mean| *mean *= share);
        }
        let (squares_x, squares_g) = (&mut of_x.squares[..rows], &mut of_g.squares[..rows]);
        if self.memory {
            let scale = if self.carries_rate { moment.rate.sqrt() } else { 1.0 };
            let factors = (T::of(self.left), T::of(scale));
            let (memory_x, memory_g) = (&mut of_x.memory[..x.len()], &mut of_g.memory[..g.len()]);
            let to_inputs = add_rows(memory_x, x, mean, factors, squares_x);
            to_inputs.with(add_rows(memory_g, g, &[], factors, squares_g)).run(par);
        } else {
            row_squares(x, mean, squares_x).with(row_squares(g, &[], squares_g)).run(par);
        }
        let scores = &mut self.scores[..rows];
        for ((score, x), g) in scores.iter_mut().zip(&of_x.squares).zip(&of_g.squares) {
            *score = (*x * *g).sqrt();
        }
        let stream = Stream::new(moment.seed, moment.step, self.number);
        self.choice.choose(self.policy.policy(), scores, self.keep, &stream);

        let (chosen, weights) = (self.choice.rows(), self.choice.weights());
        let mut count = chosen.len();
        let (kept_x, kept_g) = (&mut of_x.kept[..count * of_x.size], &mut of_g.kept[..count * of_g.size]);
        if self.memory {
            // The optimizer multiplies by the rate, which the factors have already.
            let share = if self.carries_rate { T::of(1.0 / moment.rate) } else { T::one() };
            let of_inputs = take_rows(&mut of_x.memory, chosen, T::one(), kept_x);
            of_inputs.with(take_rows(&mut of_g.memory, chosen, share, kept_g)).run(par);
            self.last = (rows, [of_x.memory_norm(rows, chosen), of_g.memory_norm(rows, chosen)]);
        } else {
            let of_inputs = copy_rows(x, mean, chosen, &[], kept_x);
            of_inputs.with(copy_rows(g, &[], chosen, weights, kept_g)).run(par);
            self.last = (rows, [0.0; 2]);
        }
        if self.center {
            of_x.kept[count * of_x.size..(count + 1) * of_x.size].copy_from_slice(mean);
            of_g.kept[count * of_g.size..(count + 1) * of_g.size].copy_from_slice(sum);
            count += 1;
        }
        let (x, g) = (&of_x.kept[..count * of_x.size], &of_g.kept[..count * of_g.size]);
        Chosen::Samples { count, x, g, sums: (self.center && self.unit == ROWS).then_some(&self.sum[..]) }
    }

    /// The memory.
    pub fn state(&mut self) -> Vec<StateTensor<'_, T>> {
        let batch = self.scores.len();
        let tensor = |name, factor: &'_ Factor<T>| (name, [&[batch], &factor.shape[..]].concat());
        let shapes = [tensor("memory.inputs", &self.x), tensor("memory.gradients", &self.g)];
        let values = [&mut self.x.memory, &mut self.g.memory];
        let all = shapes.into_iter().zip(values).filter(|_| self.memory);
        all.map(|((name, shape), values)| StateTensor { name, shape, values }).collect()
    }

    /// What it does and, about the last step, how well.
    pub fn describe(&self) -> Value {
        let (of, norms) = self.last;
        let mut figures = json!({
            "keeps": self.unit, "k": self.keep, "policy": self.policy, "memory": self.memory, "center": self.center,
        });
        if of > 0 {
            figures["of"] = json!(of);
            figures["keptShare"] = json!(self.choice.kept());
            if self.memory {
                figures["memoryNorms"] = json!(norms);
            }
        }
        figures
    }
}
