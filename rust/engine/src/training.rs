//! A training run: data order, steps, optimizer, and the counters that say where it stands.

use crate::augment::{self, Source};
use crate::average::{self, Average};
use crate::config::TrainingConfig;
use crate::dataset::{Dataset, Targets};
use crate::error::{Code, Error, Result};
use crate::layers::{Mode, Pass};
use crate::loss::{self, BatchTargets};
use crate::memory;
use crate::network::Network;
use crate::optimizer::{self, Optimizer};
use crate::passes::{self, Learning};
use crate::plan::{Op, Plan};
use crate::rules::decorrelated::first::Given;
use crate::rules::dual::Frame;
use crate::rules::front_contribution::{self, FrontContribution};
use crate::rules::mem_aop::batch::BatchChoice;
use crate::rules::products::{self, Products};
use crate::rules::propagation::{self, Propagation};
use crate::rules::{Moment, Site, Slots, inputs, weights};
use crate::workspace::Workspace;
use kernels::optimize::Update;
use kernels::rng::{Philox, Purpose};
use kernels::{Buffer, Par, Real, reduce};
use serde_json::{Value, json};
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What a pass works on: fields of the network, borrowed apart from the others.
macro_rules! frame {
    ($network:expr, $workspace:expr, $pass:expr) => {
        Frame {
            plan: &mut $network.plan,
            parameters: &mut $network.values,
            buffers: &mut $network.buffers,
            workspace: $workspace,
            pass: $pass,
        }
    };
}
pub(crate) use frame;

/// Elements that one task of the whole-gradient passes handles.
const CHUNK: usize = 65_536;

/// Where a run stands. Everything else about it follows from these and the configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Counters {
    /// Steps done.
    pub step: u64,
    /// Epochs begun, less one.
    pub epoch: u32,
    /// Steps done in this epoch.
    pub step_in_epoch: u64,
    /// Sum of the row losses of this epoch, each taken before its step's update.
    pub loss_sum: f64,
    /// Rows of this epoch whose class was right, each before its step's update.
    pub correct: u64,
    /// Rows seen in this epoch.
    pub rows: u64,
}

impl Counters {
    /// As the numbers of a tensor: step, epoch, step in epoch, loss sum, correct, rows.
    pub fn to_numbers(self) -> [f64; 6] {
        [
            self.step as f64,
            f64::from(self.epoch),
            self.step_in_epoch as f64,
            self.loss_sum,
            self.correct as f64,
            self.rows as f64,
        ]
    }

    /// From the numbers of a tensor, if they can be counters.
    pub fn from_numbers([step, epoch, step_in_epoch, loss_sum, correct, rows]: [f64; 6]) -> Option<Counters> {
        let count = |x: f64| ((0.0..=9e15).contains(&x) && x.fract() == 0.0).then_some(x as u64);
        Some(Counters {
            step: count(step)?,
            epoch: count(epoch)?.try_into().ok()?,
            step_in_epoch: count(step_in_epoch)?,
            loss_sum: Some(loss_sum).filter(|sum| sum.is_finite())?,
            correct: count(correct)?,
            rows: count(rows)?,
        })
    }
}

/// What [`Network::train`] reports: the counters, and what the schedule and the plan of the run say.
#[derive(Clone, Copy, Debug)]
pub struct Report {
    /// Where the run stands.
    pub counters: Counters,
    /// Learning rate of the last step.
    pub rate: f64,
    /// Whether the epoch is complete.
    pub epoch_done: bool,
    /// Whether the run is complete.
    pub done: bool,
    /// Steps of an epoch.
    pub steps_per_epoch: u64,
    /// Steps of the run.
    pub total_steps: u64,
}

/// A training run attached to a network.
pub struct Training<T> {
    pub(crate) config: TrainingConfig,
    pub(crate) optimizer: Optimizer<T>,
    pub(crate) counters: Counters,
    /// What is collapsed, where the rule does that.
    pub(crate) front: Option<FrontContribution<T>>,
    pub(crate) propagation: Propagation<T>,
    /// The running average of the parameters, where one is kept.
    pub(crate) average: Option<Average<T>>,
    gradient: Buffer<T>,
    /// Sum of the gradients of the parts of a batch; empty where a batch is computed in one.
    sum: Buffer<T>,
    workspace: Workspace<T>,
    losses: Buffer<T>,
    labels: Vec<u32>,
    values: Buffer<T>,
    /// The features of all rows as the first layer sees them, where the rule works that out before the run.
    pub(crate) given: Option<Given<T>>,
    /// The rule's choice of rows at the loss, where it makes one.
    pub(crate) batch_choice: Option<BatchChoice>,
    /// Order of the rows in the epoch whose number is beside it; for rows that come batch by batch, their numbers in the epoch.
    order: Vec<u32>,
    order_of: Option<u32>,
    /// For rows that come batch by batch: where they stand in their batch.
    places: Vec<u32>,
    data_rows: usize,
    /// Rows of the last step's batch, which the workspace still holds; 0 before the first.
    last_rows: usize,
}

impl<T: Real> Training<T> {
    /// New memory for parameters of other sizes, at the beginning of a run.
    pub(crate) fn resize(&mut self, plan: &Plan<T>, threads: usize) -> Result<()> {
        self.optimizer = Optimizer::new(self.config.optimizer.clone(), plan.elements)?;
        self.resize_workspace(plan, threads)
    }

    /// New memory for gradients and values of other sizes.
    pub(crate) fn resize_workspace(&mut self, plan: &Plan<T>, threads: usize) -> Result<()> {
        let rows = self.config.part_rows(self.config.batch_size);
        let clock = std::mem::take(&mut self.workspace.clock);
        self.workspace = self.propagation.workspace(plan, rows, threads)?;
        self.workspace.clock = clock;
        self.propagation.resize(plan, rows, threads)?;
        self.resize_gradient(plan)
    }

    /// New memory for gradients of other sizes.
    pub(crate) fn resize_gradient(&mut self, plan: &Plan<T>) -> Result<()> {
        self.gradient = Buffer::zeroed(plan.elements)?;
        Ok(())
    }

    /// Whether rows come batch by batch, with each call to train.
    fn streams(&self) -> bool {
        self.config.steps_per_epoch.is_some()
    }

    fn steps_per_epoch(&self) -> u64 {
        if let Some(steps) = self.config.steps_per_epoch {
            return steps;
        }
        let (rows, batch) = (self.data_rows as u64, self.config.batch_size as u64);
        if self.config.drop_last { rows / batch } else { rows.div_ceil(batch) }
    }

    fn total_steps(&self) -> u64 {
        // At least one: a run without a step would have no loss to report.
        ((self.config.epochs * self.steps_per_epoch() as f64).round() as u64).max(1)
    }

    /// Puts the rows into the order of the current epoch.
    fn prepare_order(&mut self) {
        let epoch = self.counters.epoch;
        if self.streams() {
            let first = self.counters.step_in_epoch * self.config.batch_size as u64;
            // What random masks are keyed by: that it may begin anew after 2³² rows does no harm.
            self.order.iter_mut().enumerate().for_each(|(index, row)| *row = (first + index as u64) as u32);
            return;
        }
        if self.order_of == Some(epoch) {
            return;
        }
        for (index, row) in self.order.iter_mut().enumerate() {
            *row = index as u32;
        }
        if self.config.shuffle {
            Philox::new(self.config.seed, Purpose::Shuffle).shuffle(&mut self.order, epoch);
        }
        self.order_of = Some(epoch);
    }

    fn report(&self) -> Report {
        let counters = self.counters;
        Report {
            counters,
            rate: self.optimizer.rate() * self.factor(counters.step.saturating_sub(1)),
            epoch_done: counters.step_in_epoch >= self.steps_per_epoch(),
            done: counters.step >= self.total_steps(),
            steps_per_epoch: self.steps_per_epoch(),
            total_steps: self.total_steps(),
        }
    }

    /// The schedule's factor for the step after `step` steps.
    fn factor(&self, step: u64) -> f64 {
        self.config.schedule.factor(step as f64 / self.steps_per_epoch() as f64, self.config.epochs)
    }
}

impl<T: Real> Network<T> {
    /// Makes ready to train on `data`.
    pub fn attach(&mut self, config: TrainingConfig, data: &Arc<Dataset>) -> Result<()> {
        if self.training.is_some() {
            return Err(Error::new(Code::Busy, "Cannot start training: another run is training this network"));
        }
        let mut training = self.prepare(config, data)?;
        if !training.streams() {
            self.check_batches(&training.config, training.data_rows)?;
        }
        let mut slots = self.make_slots(&training.config, training.total_steps())?;
        self.begin_masks(&mut training, &mut slots)?;
        self.decorrelate_input(&mut training, &mut slots, data)?;
        if let Some(decay) = training.config.average_decay {
            training.average = Some(Average::new(decay, &self.values, &self.buffers)?);
        }
        if let propagation::Config::FrontContribution(rule) = training.config.rule.propagation.clone() {
            if training.config.augment.is_some() {
                let expected =
                    "none beside frontContribution, which computes with the features as they were before the run";
                return Err(Error::config("augment", expected, "one"));
            }
            self.collapse(&rule, &mut training, data)?;
            // What is collapsed stays plain: other rules act on the layers that are left.
            let front = training.front.as_ref();
            let linears = self.plan.nodes.iter().enumerate().filter(|(_, node)| matches!(node.op, Op::Linear(_)));
            for ((node, _), slots) in linears.zip(&mut slots) {
                if front.is_some_and(|front| front.covers(node)) {
                    *slots = Slots::default();
                }
            }
        }
        self.put_slots(slots);
        self.training = Some(training);
        Ok(())
    }

    /// Refuses batches that a layer cannot learn from: one row has no variance.
    fn check_batches(&self, config: &TrainingConfig, rows: usize) -> Result<()> {
        let batch = config.batch_size.min(rows);
        let last = if config.drop_last { 0 } else { rows % batch };
        let smallest = |rows: usize| match (rows, config.part_rows(rows)) {
            (0, _) => batch,
            (rows, part) => rows - (rows.div_ceil(part) - 1) * part,
        };
        let fewest = smallest(batch).min(smallest(last));
        let Some(node) = self.plan.nodes.iter().find(|node| node.op.least_rows() > fewest) else { return Ok(()) };
        let expected = format!("batches of at least {} rows for {}", node.op.least_rows(), node.name());
        let found = match config.parts() {
            1 if fewest == batch => "batches".into(),
            1 => format!("a last batch (of {rows} rows by {batch})"),
            parts => format!("a part (of {rows} rows by {batch}, in {parts} parts each)"),
        };
        Err(Error::config("batchSize", expected, format!("{found} of {fewest}")))
    }

    /// Works out what a run collapses, and sizes its memory for that.
    fn collapse(
        &mut self,
        rule: &front_contribution::Config,
        training: &mut Training<T>,
        data: &Arc<Dataset>,
    ) -> Result<()> {
        let threads = self.threads.clone();
        let (plan, buffers) = (&mut self.plan, &mut self.buffers);
        let (parameters, config) = (&self.values, &training.config);
        let mut front = threads.run(|par| {
            let start = front_contribution::Start { plan, parameters, buffers, par, training: config, data };
            FrontContribution::new(rule, start)
        })?;
        training.workspace = front.workspace(&mut self.plan, training.config.batch_size, self.threads.count())?;
        training.front = Some(front);
        Ok(())
    }

    /// Brings the parameters up to date, where a run keeps them in another form.
    pub(crate) fn bring_up(&mut self) -> Result<()> {
        let Some(front) = self.training.as_mut().and_then(|training| training.front.as_mut()) else { return Ok(()) };
        let (plan, values) = (&self.plan, &mut self.values);
        self.threads.run(|par| front.export(par, plan, values, true))
    }

    /// As [`Network::bring_up`], for the velocity of momentum.
    pub(crate) fn bring_up_velocity(&mut self) -> Result<()> {
        let Some(training) = &mut self.training else { return Ok(()) };
        let (Some(front), velocity) = (&mut training.front, &mut training.optimizer.first) else { return Ok(()) };
        let (plan, values) = (&self.plan, &self.values);
        self.threads.run(|par| front.export_velocity(par, plan, values, velocity))
    }

    /// The choice of rows that the rule of a run makes at the loss, where it makes one and the layers allow it.
    fn make_batch_choice(&self, config: &TrainingConfig) -> Result<Option<BatchChoice>> {
        let choice = config.rule.products.batch_choice(config.batch_size);
        let mixing = self.plan.nodes.iter().find(|node| matches!(&node.op, Op::Layer(layer) if !layer.separate()));
        match (choice, mixing) {
            (Some(_), Some(node)) => {
                let expected = "layer, because one of the layers mixes the rows of a batch";
                Err(Error::config("rule.scope", expected, format!("batch beside {}", node.name())))
            }
            (Some(_), None) if !matches!(config.rule.propagation, propagation::Config::Backprop {}) => {
                let expected =
                    "layer where the loss does not go backwards, because rows are left out of the backward pass";
                Err(Error::config("rule.scope", expected, "batch beside a rule that chooses the propagation"))
            }
            (choice, None) => Ok(choice),
            (None, Some(_)) => Ok(None),
        }
    }

    /// What the rule of a run puts into the slots of each linear map.
    fn make_slots(&self, config: &TrainingConfig, total_steps: u64) -> Result<Vec<Slots<T>>> {
        let (maps, others) = self.candidates();
        let sparsities = config.rule.weights.plan(&maps, &others)?;
        config.rule.inputs.check(&config.rule, &maps)?;
        let linears = self.plan.nodes.iter().filter_map(|node| match &node.op {
            Op::Linear(linear) => Some((node, linear)),
            Op::Add { .. } | Op::Layer(_) => None,
        });
        let slots = linears.zip(sparsities).enumerate().map(|(number, ((node, linear), sparsity))| {
            Slots::new(&Site {
                name: node.name(),
                layer: node.layer.clone(),
                number: number as u32,
                map: linear.map.clone(),
                bias: linear.bias,
                first: node.input == 0,
                last: node.output == self.plan.output,
                batch: config.batch_size,
                threads: self.threads.count(),
                total_steps,
                sparsity,
                masked: linear.support.is_some(),
                training: config,
            })
        });
        slots.collect()
    }

    /// Fills the slots of the linear maps; gives what was in them.
    fn put_slots(&mut self, slots: Vec<Slots<T>>) -> Vec<Slots<T>> {
        let linears = self.plan.nodes.iter_mut().filter_map(|node| match &mut node.op {
            Op::Linear(linear) => Some(linear),
            Op::Add { .. } | Op::Layer(_) => None,
        });
        linears.zip(slots).map(|(linear, slots)| std::mem::replace(&mut linear.slots, slots)).collect()
    }

    /// Puts choices into the `products` slots, plain ones where there are too few; gives what was in them.
    fn swap_products(&mut self, products: Vec<Products<T>>) -> Vec<Products<T>> {
        let linears = self.plan.nodes.iter_mut().filter_map(|node| match &mut node.op {
            Op::Linear(linear) => Some(linear),
            Op::Add { .. } | Op::Layer(_) => None,
        });
        let plain = std::iter::repeat_with(|| Products::All(PhantomData));
        let choices = products.into_iter().chain(plain);
        linears.zip(choices).map(|(linear, choice)| std::mem::replace(&mut linear.slots.products, choice)).collect()
    }

    fn prepare(&self, config: TrainingConfig, data: &Dataset) -> Result<Training<T>> {
        self.check_features(data)?;
        loss::check_targets(&self.config.loss, self.outputs(), data)?;
        let batch = config.batch_size;
        let streams = config.steps_per_epoch.is_some();
        if batch == 0 || (batch > data.rows() && !streams) {
            let expected = format!("a whole number from 1 to {} (the rows of the data)", data.rows());
            return Err(Error::config("batchSize", expected, batch));
        }
        if !(config.epochs > 0.0 && config.epochs <= 1e9) {
            return Err(Error::config("epochs", "a number above 0 and at most 1000000000", config.epochs));
        }
        if let Some(norm) = config.clip_norm
            && !(norm > 0.0 && norm.is_finite())
        {
            return Err(Error::config("clipNorm", "a number above 0", norm));
        }
        config.schedule.validate(config.epochs)?;
        if let Some(decay) = config.average_decay {
            average::check(decay, &config.rule)?;
        }
        self.check_parts(&config)?;
        check_class_weights(&config, data)?;
        if let Some(steps) = config.steps_per_epoch {
            check_stream(&config, steps)?;
        }
        if let Some(augment) = &config.augment {
            augment::check(augment, data.shape())?;
        }
        let config = TrainingConfig { drop_last: config.drop_last || config.rule.products.whole_batches(), ..config };
        let (first, second) = optimizer::states(&config.optimizer);
        let part = config.part_rows(batch);
        let sum = if config.parts() > 1 { self.plan.elements } else { 0 };
        let kept = [first, second, config.average_decay.is_some(), sum > 0];
        let buffers = 1 + kept.into_iter().filter(|kept| *kept).count();
        let bytes = self.plan.elements as u128 * buffers as u128 * T::BYTES as u128
            + part as u128 * Workspace::<T>::bytes_per_row(&self.plan.sizes, true);
        memory::check("the training run", bytes)?;
        self.check_beside_masks(&config.rule)?;
        let propagation = Propagation::new(&self.plan, &config, self.threads.count())?;
        if propagation.decides_length() && config.class_weights.is_some() {
            let expected = "none beside a rule that finds the length of a step from the loss itself";
            return Err(Error::config("classWeights", expected, "some"));
        }
        let workspace = propagation.workspace(&self.plan, part, self.threads.count())?;
        let target_size = match data.targets() {
            Targets::Values { size, .. } => *size,
            Targets::Labels { .. } | Targets::None => 0,
        };
        Ok(Training {
            optimizer: Optimizer::new(config.optimizer.clone(), self.plan.elements)?,
            counters: Counters::default(),
            front: None,
            average: None,
            sum: Buffer::zeroed(sum)?,
            gradient: Buffer::zeroed(self.plan.elements)?,
            losses: Buffer::zeroed(batch)?,
            labels: Vec::with_capacity(batch),
            given: None,
            batch_choice: self.make_batch_choice(&config)?,
            values: Buffer::zeroed(batch * target_size)?,
            order: vec![0; if streams { batch } else { data.rows() }],
            places: if streams { (0..batch as u32).collect() } else { vec![] },
            order_of: None,
            data_rows: data.rows(),
            last_rows: 0,
            propagation,
            workspace,
            config,
        })
    }

    /// Ends a training run; what it kept between steps is gone.
    pub fn detach(&mut self) {
        if let Some(mut front) = self.training.take().and_then(|training| training.front) {
            let (plan, values) = (&self.plan, &mut self.values);
            let done = self.threads.run(|par| front.export(par, plan, values, false));
            done.expect("the last export needs a block of features, which the run had before");
        }
        self.fold_inputs();
        for node in &mut self.plan.nodes {
            if let Op::Linear(linear) = &mut node.op {
                linear.slots = Slots::default();
            }
        }
    }

    /// Runs up to `steps` steps, at least one, stopping after `budget` or at the end of an epoch.
    pub fn train(&mut self, data: &Dataset, steps: u64, budget: Duration) -> Result<Report> {
        let Some(mut training) = self.training.take() else {
            return Err(Error::new(Code::Busy, "Cannot train: no training run is attached to this network"));
        };
        let threads = self.threads.clone();
        let result = if let Err(refusal) = self.check_before_steps(&training, data) {
            Err(refusal)
        } else {
            if let Some(front) = &mut training.front {
                front.install(&mut self.plan);
            }
            self.refresh_given(&mut training, data);
            let result = threads.run(|par| self.run(&mut training, data, steps, budget, par));
            if let Some(front) = &mut training.front {
                front.uninstall(&mut self.plan);
            }
            result
        };
        let report = training.report();
        self.training = Some(training);
        result.map(|()| report)
    }

    /// Refuses rows that are not those of the run, and averages in the place of parameters.
    fn check_before_steps(&self, training: &Training<T>, data: &Dataset) -> Result<()> {
        if training.average.as_ref().is_some_and(|average| average.in_use) {
            return Err(Error::new(Code::Busy, "Cannot train: the averages are in the place of the parameters"));
        }
        if !training.streams() {
            if data.rows() == training.data_rows {
                return Ok(());
            }
            return Err(Error::shape("the data set", format!("{} rows as before", training.data_rows), data.rows()));
        }
        let (rows, batch) = (data.rows(), training.config.batch_size);
        if rows > batch || (rows < batch && training.config.drop_last) {
            let expected = if training.config.drop_last { "whole batches of" } else { "batches of at most" };
            return Err(Error::shape("a batch of the stream", format!("{expected} {batch} rows"), rows));
        }
        self.check_features(data)?;
        loss::check_targets(&self.config.loss, self.outputs(), data)?;
        self.check_batches(&training.config, rows)
    }

    /// Refuses to compute a batch in parts where a rule needs all of it.
    fn check_parts(&self, config: &TrainingConfig) -> Result<()> {
        let parts = config.parts();
        if parts == 0 || parts > config.batch_size {
            let expected = format!("a whole number from 1 to {} (the rows of a batch)", config.batch_size);
            return Err(Error::config("accumulate", expected, parts));
        }
        if parts == 1 {
            return Ok(());
        }
        if let Some(layer) = self.sparse_layer() {
            return Err(Error::config("accumulate", "layers without masks", format!("the mask of {layer}")));
        }
        let rule = &config.rule;
        let plain = matches!(rule.propagation, propagation::Config::Backprop {})
            && matches!(rule.inputs, inputs::Config::Raw {})
            && matches!(rule.weights, weights::Config::Dense {})
            && matches!(rule.products, products::Config::All {});
        if plain {
            return Ok(());
        }
        Err(Error::config("accumulate", "backprop as the rule, since other rules need a batch at once", "another rule"))
    }

    fn run(
        &mut self,
        training: &mut Training<T>,
        data: &Dataset,
        steps: u64,
        budget: Duration,
        par: Par,
    ) -> Result<()> {
        let start = Instant::now();
        if training.counters.step >= training.total_steps() {
            return Ok(());
        }
        if training.counters.step_in_epoch >= training.steps_per_epoch() {
            let counters = &mut training.counters;
            *counters = Counters { step: counters.step, epoch: counters.epoch + 1, ..Counters::default() };
        }
        training.prepare_order();
        for _ in 0..steps {
            self.step(training, data, par)?;
            let report = training.report();
            // The rows of a stream serve one step.
            if report.done || report.epoch_done || training.streams() || start.elapsed() >= budget {
                break;
            }
        }
        Ok(())
    }

    /// One step: the gradient of a batch, in parts if need be, and the update.
    fn step(&mut self, training: &mut Training<T>, data: &Dataset, par: Par) -> Result<()> {
        self.update_masks(training)?;
        let counters = training.counters;
        let batch = if training.streams() {
            0..data.rows()
        } else {
            let from = counters.step_in_epoch as usize * training.config.batch_size;
            from..(from + training.config.batch_size).min(training.data_rows)
        };
        let rows = batch.len();
        let factor = training.factor(counters.step);
        let update = training.optimizer.update(counters.step + 1, factor);
        let rate = training.optimizer.rate() * factor;
        let moment = Moment { seed: training.config.seed, step: counters.step, rate, factor };
        if let Some(front) = &training.front {
            front.begin_step(&mut self.plan, (counters.step + 1, factor));
        }
        let total = training.total_weight(data, batch.clone());
        // What looks at the whole gradient comes before the first update.
        let clip = training.config.clip_norm;
        let decides_length = training.propagation.decides_length();
        let size = training.config.part_rows(rows);
        let at_once = clip.is_none() && !decides_length && size == rows;
        let (mut loss_sum, mut correct) = (0.0, 0);
        for start in (0..rows).step_by(size) {
            let part = batch.start + start..batch.start + (start + size).min(rows);
            let place = Place { part, total, moment, update: at_once.then_some(update) };
            let (loss, right) = self.learn_part(training, data, place, par)?;
            loss_sum += loss;
            correct += right;
            if size < rows {
                training.add_up(par, start == 0);
            }
        }
        if size < rows {
            std::mem::swap(&mut training.gradient, &mut training.sum);
        }

        let mode = Mode::Train { seed: training.config.seed, epoch: counters.epoch };
        let samples = &training.order[batch];
        let Optimizer { first, second, .. } = &mut training.optimizer;
        let learning = Learning { gradient: &mut training.gradient, first, second, update: None, moment };
        if let Some(most) = clip {
            let collapsed = training.front.as_ref().map_or(0.0, |front| front.squared_norm(par, &mut self.plan));
            let factor = clip_gradient(par, learning.gradient, most, collapsed);
            match &training.front {
                None => apply(par, &update, &self.plan, &mut self.values, learning),
                Some(front) => {
                    let Learning { gradient, first, second, .. } = learning;
                    let whole =
                        front_contribution::gram::Whole { parameters: &mut self.values, gradient, first, second };
                    front.step(par, &update, factor, &mut self.plan, whole);
                }
            }
        } else if decides_length {
            let (config, outputs) = (&self.config.loss, self.outputs());
            let bend = |values: &[T], first: &[T]| loss::bend(config, values, first, outputs);
            let pass = Pass { par, rows, mode, samples };
            let frame = frame!(self, &mut training.workspace, &pass);
            let length = training.propagation.step_length(frame, learning.gradient, &bend);
            // Such a step has an optimizer without state.
            let update = training.optimizer.update(counters.step + 1, factor * length);
            kernels::optimize::apply_all(par, &update, &mut self.values, &training.gradient, &mut [], &mut []);
        } else if !at_once {
            apply(par, &update, &self.plan, &mut self.values, learning);
        }
        if let Some(average) = &mut training.average {
            average.follow(par, counters.step, &self.values, &self.buffers);
        }

        let counters = &mut training.counters;
        counters.step += 1;
        counters.step_in_epoch += 1;
        counters.loss_sum += loss_sum;
        counters.correct += correct as u64;
        counters.rows += rows as u64;
        Ok(())
    }

    /// Forward pass, loss and backward pass of some rows of a batch; gives the sum of their losses and how many are right.
    fn learn_part(
        &mut self,
        training: &mut Training<T>,
        data: &Dataset,
        Place { part, total, moment, update }: Place<T>,
        par: Par,
    ) -> Result<(f64, usize)> {
        let counters = training.counters;
        let rows = part.len();
        let mode = Mode::Train { seed: training.config.seed, epoch: counters.epoch };
        let samples = &training.order[part.clone()];
        let pass = Pass { par, rows, mode, samples };
        let streams = training.config.steps_per_epoch.is_some();
        let picked = if streams { &training.places[part.clone()] } else { samples };
        let workspace = &mut training.workspace;
        if let Some(front) = &training.front {
            front.fill(samples, &mut workspace.values);
        }
        if training.front.as_ref().is_none_or(FrontContribution::reads_features) {
            let features = &mut workspace.values[0][..rows * self.plan.sizes[0]];
            match (&training.given, &training.config.augment) {
                (Some(given), _) => given.gather(samples, features),
                (None, None) => data.gather(picked, features),
                (None, Some(augment)) => {
                    let source = Source::new(augment, training.config.seed, counters.epoch);
                    data.gather_augmented((picked, samples), &source, par, features);
                }
            }
        }
        // The rows of a stream may not have come yet.
        if !streams {
            data.prefetch(&training.order[part.end..(part.end + rows).min(training.order.len())]);
        }
        data.gather_labels(picked, &mut training.labels);
        let target_size = training.values.len() / training.config.batch_size;
        data.gather_values(picked, &mut training.values[..rows * target_size]);
        training.propagation.forward(frame!(self, workspace, &pass), moment);

        let size = self.outputs();
        let last = self.plan.output;
        let outputs = &workspace.values[last][..rows * size];
        let gradient = &mut workspace.gradients[workspace.gradient_of[last]][..rows * size];
        let losses = &mut training.losses[..rows];
        let targets = BatchTargets { labels: &training.labels, values: &training.values[..rows * target_size] };
        loss::evaluate(&self.config.loss, par, outputs, size, targets, losses, Some(gradient));
        if let Some(total) = total {
            weigh(gradient, size, training.config.class_weights.as_deref(), (&training.labels, total));
        }
        let loss_sum: f64 = losses.iter().map(|loss| loss.wide()).sum();
        if !loss_sum.is_finite() {
            return Err(Error::new(
                Code::NotFinite,
                format!(
                    "The loss is not finite at step {} (epoch {}): {}; try a smaller learning rate, clipNorm, or data scaled \
                     to about 1",
                    counters.step + 1,
                    counters.epoch + 1,
                    self.first_not_finite(workspace, rows)
                ),
            ));
        }
        let correct = kernels::loss::count_right(outputs, &training.labels);

        let pass = choose_rows(&mut training.batch_choice, &self.plan, workspace, pass, &moment);
        let Optimizer { first, second, .. } = &mut training.optimizer;
        let mut learning = Learning { gradient: &mut training.gradient, first, second, update, moment };
        training.propagation.learn(frame!(self, workspace, &pass), &mut learning)?;
        training.last_rows = rows;
        Ok((loss_sum, correct))
    }

    /// The gradient of the mean loss over all rows of `data`, as one batch of a training run would have it, kept in
    /// `self.gradient`; returns the loss. Nothing is updated. A run in training keeps what it has in the slots: the rule
    /// starts anew here, as at a first step.
    pub fn compute_gradient(&mut self, config: TrainingConfig, data: &Dataset, training_mode: bool) -> Result<f64> {
        let config = TrainingConfig { batch_size: data.rows(), clip_norm: None, accumulate: None, ..config };
        self.bring_up()?;
        let mut training = self.prepare(config, data)?;
        if training_mode {
            self.check_batches(&training.config, training.data_rows)?;
        }
        // A gradient changes nothing: not even running statistics.
        let statistics = self.buffers.to_vec();
        let mut slots = self.make_slots(&training.config, training.total_steps())?;
        let masks = self.take_masks(&training.config.rule)?;
        self.begin_masks(&mut training, &mut slots)?;
        let in_training = self.put_slots(slots);
        let samples: Vec<u32> = (0..data.rows() as u32).collect();
        let rows = samples.len();
        let (threads, size, last) = (self.threads.clone(), self.outputs(), self.plan.output);
        let mode = if training_mode { Mode::Train { seed: training.config.seed, epoch: 0 } } else { Mode::Evaluate };
        let loss = threads.run(|par| {
            let pass = Pass { par, rows, mode, samples: &samples };
            let workspace = &mut training.workspace;
            data.gather(&samples, &mut workspace.values[0]);
            data.gather_labels(&samples, &mut training.labels);
            data.gather_values(&samples, &mut training.values);
            // A gradient has no rate: 1 lets rules that divide by it cancel it.
            let moment = Moment { seed: training.config.seed, step: 0, rate: 1.0, factor: 0.0 };
            training.propagation.forward(frame!(self, workspace, &pass), moment);
            let gradient = &mut workspace.gradients[workspace.gradient_of[last]][..rows * size];
            let targets = BatchTargets { labels: &training.labels, values: &training.values };
            let (outputs, losses) = (&workspace.values[last], &mut training.losses);
            loss::evaluate(&self.config.loss, par, outputs, size, targets, losses, Some(gradient));
            let pass = choose_rows(&mut training.batch_choice, &self.plan, workspace, pass, &moment);
            let mut learning =
                Learning { gradient: &mut training.gradient, first: &mut [], second: &mut [], update: None, moment };
            training.propagation.learn(frame!(self, workspace, &pass), &mut learning)?;
            Ok(losses.iter().map(|loss| loss.wide()).sum::<f64>() / rows as f64)
        });
        self.put_slots(in_training);
        self.put_masks(masks, &mut training.gradient)?;
        self.buffers.copy_from_slice(&statistics);
        self.gradient = Some(training.gradient);
        loss
    }
}

/// Leaves the backward pass the rows that the rule chooses at the loss, where it does.
fn choose_rows<'a, T: Real>(
    choice: &'a mut Option<BatchChoice>,
    plan: &Plan<T>,
    workspace: &mut Workspace<T>,
    pass: Pass<'a>,
    moment: &Moment,
) -> Pass<'a> {
    let Some(choice) = choice else { return pass };
    let gradient = &mut workspace.gradients[workspace.gradient_of[plan.output]][..pass.rows * plan.sizes[plan.output]];
    choice.choose(pass.par, pass.samples, gradient, moment);
    workspace.keep_rows(plan, choice.rows());
    Pass { rows: choice.rows().len(), samples: choice.samples(), ..pass }
}

impl<T: Real> Network<T> {
    /// Bytes that the run in training takes beside parameters and optimizer.
    pub fn training_memory(&self) -> Result<Value> {
        let Some(training) = &self.training else { return Err(no_run("tell the memory of training")) };
        let (values, gradients) = training.workspace.bytes();
        let (tangents, kept) = training.propagation.bytes();
        Ok(json!({ "values": values, "gradients": gradients, "tangents": tangents, "kept": kept }))
    }

    /// Begins to measure the time of each layer in the steps of the run in training.
    pub fn start_layer_times(&mut self) -> Result<Value> {
        let Some(training) = &mut self.training else { return Err(no_run("measure layers")) };
        training.workspace.clock.start(self.plan.nodes.len());
        Ok(Value::Null)
    }

    /// What was measured since; ends measuring.
    pub fn layer_times(&mut self) -> Result<Value> {
        let Some(training) = &mut self.training else { return Err(no_run("tell the times of layers")) };
        training.workspace.clock.finish(&self.plan).ok_or_else(|| {
            Error::new(
                Code::Busy,
                "Cannot tell the times of layers: nothing was measured; call startLayerTimes() first",
            )
        })
    }

    /// How near the rule's gradient is to back-propagation's, on the last step's batch with the parameters after it: the
    /// cosine and the ratio of the norms, for each parameter and for all together. Nothing changes.
    pub fn gradient_cosines(&mut self) -> Result<Value> {
        if self.training.as_ref().is_some_and(|training| training.front.is_some()) {
            let message = "Cannot compare gradients: this run collapses layers, and its gradient is back-propagation's";
            return Err(Error::new(Code::InvalidConfig, message));
        }
        if self.training.as_ref().is_some_and(|training| training.config.parts() > 1) {
            let message =
                "Cannot compare gradients: this run computes batches in parts, and its gradient is back-propagation's";
            return Err(Error::new(Code::InvalidConfig, message));
        }
        if let Some(layer) = self.sparse_layer() {
            let message =
                format!("Cannot compare gradients: {layer} has a mask, and back-propagation has gradients beside it");
            return Err(Error::new(Code::InvalidConfig, message));
        }
        let kept = self.copy_rule_state();
        let buffers = self.buffers.to_vec();
        let Some(mut training) = self.training.take() else { return Err(no_run("compare gradients")) };
        let threads = self.threads.clone();
        let result = threads.run(|par| self.compare_gradients(&mut training, par));
        self.training = Some(training);
        self.buffers.copy_from_slice(&buffers);
        self.restore_rule_state(&kept);
        result
    }

    fn compare_gradients(&mut self, training: &mut Training<T>, par: Par) -> Result<Value> {
        let rows = training.last_rows;
        if rows == 0 {
            let message = "Cannot compare gradients: this run has no batch yet; take a step first";
            return Err(Error::new(Code::Busy, message));
        }
        let Training { config, counters, workspace, labels, values, losses, order, propagation, batch_choice, .. } =
            training;
        let streams = config.steps_per_epoch.is_some();
        let from = if streams { 0 } else { (counters.step_in_epoch as usize - 1) * config.batch_size };
        let pass = Pass {
            par,
            rows,
            mode: Mode::Train { seed: config.seed, epoch: counters.epoch },
            samples: &order[from..from + rows],
        };
        let moment = Moment { seed: config.seed, step: counters.step, rate: 1.0, factor: 0.0 };
        let mut reference = Workspace::new(&self.plan, rows, self.threads.count(), true)?;
        let inputs = rows * self.plan.sizes[0];
        reference.values[0].copy_from_slice(&workspace.values[0][..inputs]);
        let targets = rows * values.len() / config.batch_size;
        let mut gradients = [Buffer::zeroed(self.plan.elements)?, Buffer::zeroed(self.plan.elements)?];
        let mut products = self.swap_products(vec![]);
        let mut backprop = Propagation::Backprop;
        let mut result = Ok(());
        for (index, gradient) in gradients.iter_mut().enumerate() {
            let (propagation, workspace) =
                if index == 0 { (&mut backprop, &mut reference) } else { (&mut *propagation, &mut *workspace) };
            propagation.forward(frame!(self, workspace, &pass), moment);
            let (size, last) = (self.outputs(), self.plan.output);
            let e = &mut workspace.gradients[workspace.gradient_of[last]][..rows * size];
            let outputs = &workspace.values[last][..rows * size];
            let targets = BatchTargets { labels, values: &values[..targets] };
            loss::evaluate(&self.config.loss, par, outputs, size, targets, &mut losses[..rows], Some(&mut *e));
            if let Some(weights) = &config.class_weights {
                let total = labels.iter().map(|label| weights[*label as usize]).sum();
                weigh(e, size, Some(weights), (labels, total));
            }
            let pass = match index {
                0 => pass,
                _ => choose_rows(batch_choice, &self.plan, workspace, pass, &moment),
            };
            let mut learning = Learning { gradient, first: &mut [], second: &mut [], update: None, moment };
            result = result.and(propagation.learn(frame!(self, workspace, &pass), &mut learning));
            if index == 0 {
                products = self.swap_products(products);
            }
        }
        result?;
        drop(products);
        let [expected, found] = gradients;
        let compare = |name: &str, range: Range<usize>| {
            let (a, b) = (&expected[range.clone()], &found[range]);
            let (aa, bb) = (reduce::sum_of_squares(a).wide().sqrt(), reduce::sum_of_squares(b).wide().sqrt());
            let cosine = if aa > 0.0 && bb > 0.0 { reduce::dot(a, b).wide() / (aa * bb) } else { 0.0 };
            json!({ "name": name, "cosine": cosine, "ratio": if aa > 0.0 { bb / aa } else { 0.0 } })
        };
        let each = self.plan.parameters.iter().map(|parameter| compare(&parameter.name, parameter.range.clone()));
        Ok(json!({ "all": compare("all", 0..self.plan.elements), "parameters": each.collect::<Vec<_>>() }))
    }
}

/// Rows of a batch to learn from.
struct Place<T> {
    /// Which rows, in the order of the epoch, or of the batch that came.
    part: Range<usize>,
    /// Sum of the weights of all rows of the batch; none where the mean over the part is the batch's.
    total: Option<f64>,
    /// When the step takes place.
    moment: Moment,
    /// The update to apply at once.
    update: Option<Update<T>>,
}

impl<T: Real> Training<T> {
    /// Sum of the weights of the rows of a batch, where they are weighed or come in parts.
    fn total_weight(&mut self, data: &Dataset, batch: Range<usize>) -> Option<f64> {
        let rows = batch.len();
        match &self.config.class_weights {
            None if self.config.part_rows(rows) == rows => None,
            None => Some(rows as f64),
            Some(weights) => {
                let picked = if self.config.steps_per_epoch.is_some() { &self.places } else { &self.order };
                data.gather_labels(&picked[batch], &mut self.labels);
                Some(self.labels.iter().map(|label| weights[*label as usize]).sum())
            }
        }
    }

    /// Adds the gradient of a part of the batch to the sum, which the first part begins.
    fn add_up(&mut self, par: Par, first: bool) {
        let gradient = &self.gradient;
        par.for_work(gradient.len()).chunks_mut(&mut self.sum, CHUNK, |start, sum| {
            let gradient = &gradient[start..start + sum.len()];
            if first {
                return sum.copy_from_slice(gradient);
            }
            kernels::isa::vectorize(
                #[inline(always)]
                || sum.iter_mut().zip(gradient).for_each(|(sum, g)| *sum += *g),
            );
        });
    }
}

/// Makes the gradient of a mean over these rows that of the weighted mean over the batch, whose weights sum to `total`.
fn weigh<T: Real>(gradient: &mut [T], size: usize, weights: Option<&[f64]>, (labels, total): (&[u32], f64)) {
    let rows = gradient.len() / size;
    // A batch of classes that count nothing teaches nothing.
    let scale = if total > 0.0 { rows as f64 / total } else { 0.0 };
    for (row, gradient) in gradient.chunks_exact_mut(size).enumerate() {
        let factor = T::of(scale * weights.map_or(1.0, |weights| weights[labels[row] as usize]));
        gradient.iter_mut().for_each(|g| *g *= factor);
    }
}

/// Refuses weights that are none, and data without classes.
fn check_class_weights(config: &TrainingConfig, data: &Dataset) -> Result<()> {
    let Some(weights) = &config.class_weights else { return Ok(()) };
    let Targets::Labels { classes, .. } = data.targets() else {
        return Err(Error::config("classWeights", "data with class labels beside them", "values as targets"));
    };
    if weights.len() != *classes {
        let expected = format!("{classes} numbers, one for each class");
        return Err(Error::config("classWeights", expected, weights.len()));
    }
    match weights.iter().find(|weight| !(**weight >= 0.0 && weight.is_finite())) {
        Some(weight) => Err(Error::config("classWeights", "numbers from 0 up", weight)),
        None if weights.iter().all(|weight| *weight == 0.0) => {
            Err(Error::config("classWeights", "a number above 0", "zeros only"))
        }
        None => Ok(()),
    }
}

/// Refuses runs that need to know all rows before the first step.
fn check_stream(config: &TrainingConfig, steps: u64) -> Result<()> {
    if !(1..=1_000_000_000).contains(&steps) {
        return Err(Error::config("stepsPerEpoch", "a whole number from 1 to 1000000000", steps));
    }
    if matches!(config.rule.propagation, propagation::Config::FrontContribution(_)) {
        let found = "a stream; use a table, or backprop()";
        return Err(Error::config("data", "all rows before the first step for front-contribution", found));
    }
    Ok(())
}

fn no_run(what: &str) -> Error {
    Error::new(Code::Busy, format!("Cannot {what}: no training run is attached to this network"))
}

/// Scales the gradient down to norm `most`, as `torch.nn.utils.clip_grad_norm_` does; `elsewhere` is the squared norm of what
/// stands elsewhere and is to be scaled by the result.
fn clip_gradient<T: Real>(par: Par, gradient: &mut [T], most: f64, elsewhere: f64) -> T {
    let squares = gradient.chunks(CHUNK).map(|chunk| reduce::sum_of_squares(chunk).wide()).sum::<f64>();
    let factor = most / ((squares + elsewhere).sqrt() + 1e-6);
    if factor < 1.0 {
        let factor = T::of(factor);
        par.for_work(gradient.len()).chunks_mut(gradient, CHUNK, |_, chunk| {
            kernels::isa::vectorize(
                #[inline(always)]
                || chunk.iter_mut().for_each(|g| *g *= factor),
            );
        });
        return factor;
    }
    T::one()
}

/// Applies the update to all parameters at once, but not to weights whose mask has changed in this step.
fn apply<T: Real>(par: Par, update: &Update<T>, plan: &Plan<T>, parameters: &mut [T], learning: Learning<T>) {
    let Learning { gradient, first, second, .. } = learning;
    let mut apply = |range: Range<usize>| {
        let (first, second) = (passes::part(first, &range), passes::part(second, &range));
        kernels::optimize::apply_all(par, update, &mut parameters[range.clone()], &gradient[range], first, second);
    };
    let mut start = 0;
    for node in &plan.nodes {
        let Op::Linear(linear) = &node.op else { continue };
        if linear.support.as_ref().is_some_and(|support| support.frozen) {
            apply(start..node.parameters.start);
            start = node.parameters.start + linear.weights();
        }
    }
    apply(start..plan.elements);
}
