//! A training run: data order, steps, optimizer, and the counters that say where it stands.

mod checks;
mod measures;
mod step;

use crate::augment;
use crate::average::{self, Average};
use crate::config::TrainingConfig;
use crate::dataset::{Dataset, Targets};
use crate::error::{Code, Error, Result};
use crate::layers::{Mode, Pass};
use crate::loss::{self, BatchTargets};
use crate::memory;
use crate::network::Network;
use crate::optimizer::{self, Optimizer};
use crate::passes::Learning;
use crate::plan::{Op, Plan};
use crate::rules::decorrelated::first::Given;
use crate::rules::dual::Frame;
use crate::rules::front_contribution::{self, FrontContribution};
use crate::rules::mem_aop::batch::BatchChoice;
use crate::rules::products::Products;
use crate::rules::propagation::{self, Propagation};
use crate::rules::{Moment, Site, Slots};
use crate::workspace::{Workspace, growth_scratch};
use checks::{check_class_weights, check_stream};
use kernels::rng::{Philox, Purpose};
use kernels::{Buffer, Par, Real};
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::{Duration, Instant};
use step::choose_rows;

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
        if self.config.rule.weights.grows_by_gradient() {
            self.workspace.reserve_scratch(growth_scratch(plan, rows))?;
        }
        self.propagation.resize(plan, rows, threads)?;
        self.resize_gradient(plan)
    }

    /// New memory for gradients of other sizes.
    pub(crate) fn resize_gradient(&mut self, plan: &Plan<T>) -> Result<()> {
        self.gradient = Buffer::zeroed(plan.elements)?;
        if !self.sum.is_empty() {
            self.sum = Buffer::zeroed(plan.elements)?;
        }
        Ok(())
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
        if self.config.streams() {
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
        if !training.config.streams() {
            self.check_batches(&training.config, training.data_rows)?;
        }
        let mut slots = self.make_slots(&training.config, training.total_steps())?;
        self.begin_masks(&mut training, &mut slots)?;
        self.decorrelate_input(&mut training, &mut slots, data)?;
        if let propagation::Config::FrontContribution(rule) = training.config.rule.propagation.clone() {
            if training.config.augment.is_some() {
                let expected =
                    "none beside frontContribution, which computes with the features as they were before the run";
                return Err(Error::config("augment", expected, "one; leave it out, or use backprop()"));
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
        if let Some(decay) = training.config.average_decay {
            training.average = Some(Average::new(decay, &mut self.plan, (&self.values, &self.buffers))?);
        }
        self.training = Some(training);
        Ok(())
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
        let (convolves, untrained) = (self.plan.convolves(), self.is_untrained());
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
                untrained,
                convolves,
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
        let streams = config.streams();
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

    /// Ends a training run; what it kept between steps is gone. Where there is no memory to bring collapsed parameters up to
    /// date, the run stays attached: nothing of what it learned is lost.
    pub fn detach(&mut self) -> Result<()> {
        if let Some(front) = self.training.as_mut().and_then(|training| training.front.as_mut()) {
            let (plan, values) = (&self.plan, &mut self.values);
            self.threads.run(|par| front.export(par, plan, values, false))?;
        }
        self.training = None;
        self.fold_inputs();
        for node in &mut self.plan.nodes {
            if let Op::Linear(linear) = &mut node.op {
                linear.slots = Slots::default();
            }
        }
        Ok(())
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
            if report.done || report.epoch_done || training.config.streams() || start.elapsed() >= budget {
                break;
            }
        }
        Ok(())
    }

    /// The gradient of the mean loss over all rows of `data`, as one batch of a training run would have it, kept in
    /// `self.gradient`; returns the loss. Nothing is updated. A run in training keeps what it has in the slots: the rule
    /// starts anew here, as at a first step.
    pub fn compute_gradient(&mut self, config: TrainingConfig, data: &Dataset, training_mode: bool) -> Result<f64> {
        let config = TrainingConfig { batch_size: data.rows(), clip_norm: None, accumulate: None, ..config };
        if self.plan.is_behind_matrices() {
            let message = "Cannot compute gradients: a run that decorrelates inputs is training this network, whose weights mean \
                           nothing without its matrices; end it first, or ask a copy (fold)";
            return Err(Error::new(Code::Busy, message));
        }
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
