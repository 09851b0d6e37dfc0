//! Decorrelated back-propagation (Dalm, Offergeld, Ahmad, van Gerven 2024, "Efficient deep learning with decorrelated
//! backpropagation", arXiv 2405.02385): each linear map sees z = R x instead of x, where R is a matrix of its own that a local
//! rule keeps near one that makes the elements of z uncorrelated.
//!
//! ```text
//! forward    z = R (x − μ)           y = f(W z + b)
//! backward   ∂W = g zᵀ               ∂x = Rᵀ (Wᵀ g)          R and μ stand still
//! after      C = E[z zᵀ],  v = diag C − 1
//!            R ← R − η ((1 − κ) (C − diag C) + κ diag v) R
//! ```
//!
//! R starts as the identity, so that a run starts as back-propagation does. Stored is S = Rᵀ (z = x · S), like weights.
//!
//! Beside the local rule R can follow an averaged covariance of the inputs; then W and b take up what changes, so that the function
//! stays as it is.
//!
//! This room decides what each map does ([`Decorrelated::new`]) and carries values through it; [`learn`] is what changes R, by the
//! rule or with [`averaged`]; [`first`] finds R before a run, for the network's input; [`watch`] measures how correlated inputs are.

mod averaged;
mod cost;
pub mod first;
mod learn;
pub mod watch;

use super::products;
use super::{Site, StateTensor};
use crate::error::{Error, Result};
use crate::layers::map::Map;
use crate::layers::{Mode, Pass};
use crate::rules::sparse::Candidate;
use kernels::decorrelation::{self, Blocks};
use kernels::linear::{self, Dims};
use kernels::{Activation, Buffer, Par, Real};
use learn::Learner;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::fmt::{self, Display, Formatter};

/// The options as TypeScript sends them.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Config {
    /// η of the local rule, times the factor of the schedule of learning rates.
    pub rate: Option<f64>,
    /// κ: 0 for correlations alone, 1 for variances alone; without it see [`Config::kappa`].
    pub kappa: Option<f64>,
    /// Rows (patches of a convolution) that R learns from in a step, or their share where below 1; without it max(64, 2 · inputs of a
    /// block): enough for the correlations of what a block takes together.
    pub rows: Option<f64>,
    /// Steps from one change of R to the next; without it see [`Config::every`].
    pub every: Option<u64>,
    /// Whether inputs are centred; without it where there is a bias that can take the means up.
    pub center: Option<bool>,
    /// The most that η times the bound on the largest eigenvalue may be; none for η as it is.
    pub auto_step: Option<f64>,
    /// How R is found.
    pub form: Form,
    /// Rows of the blocks that R has on its diagonal; without it see [`Config::block`].
    pub block: Option<usize>,
    /// Names of the layers; without them all.
    pub layers: Option<Vec<String>>,
    /// What becomes of a layer that reads the network's input.
    pub first: Option<First>,
    /// ε of covariances, as a share of their mean variance; without it see [`Config::ridge`].
    pub ridge: Option<f64>,
    /// Power of its share of the variance that a principal axis of the network's input is stretched by.
    pub power: Option<f64>,
}

/// How R is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Form {
    /// By the local rule.
    Local,
    /// By the local rule, but the plain weights A are trained: their gradient is multiplied by Rᵀ R.
    DriftFree,
    /// By steps of the Newton–Schulz iteration on an averaged covariance.
    NewtonSchulz,
    /// From the Cholesky factor of an averaged covariance.
    Cholesky,
}

impl Form {
    /// How it follows an averaged covariance, where it does.
    fn averaged(self) -> Option<decorrelation::Form> {
        match self {
            Form::Local | Form::DriftFree => None,
            Form::NewtonSchulz => Some(decorrelation::Form::NewtonSchulz),
            Form::Cholesky => Some(decorrelation::Form::Cholesky),
        }
    }
}

/// What becomes of a layer that reads the network's input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum First {
    /// It learns R as the others do.
    Learn,
    /// R is found before the run, from the training rows, and stays: it whitens them, but for a ridge.
    Precompute,
    /// The same with their principal axes as they are, or stretched.
    Axes,
    /// Its inputs are centred, and nothing else.
    Center,
    /// It has no R.
    Raw,
}

/// As TypeScript calls it.
impl Display for First {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        self.serialize(f)
    }
}

/// How an R that stays is found.
#[derive(Clone, Copy, Debug)]
enum Fixed {
    /// (Σ + ε I)^(−1/2), ε being `ridge` mean variances.
    Whitened { ridge: f64 },
    /// (Λ / mean λ)^power Uᵀ.
    Axes { power: f64 },
}

impl Config {
    fn check(&self) -> Result<()> {
        if self.form.averaged().is_some() {
            for (name, value) in [("rate", self.rate), ("kappa", self.kappa), ("autoStep", self.auto_step)] {
                if let Some(value) = value {
                    let expected = "nothing beside a form that follows an averaged covariance";
                    return Err(Error::config(format!("rule.{name}"), expected, value));
                }
            }
        } else if !self.rate.is_some_and(|rate| rate >= 0.0 && rate.is_finite()) {
            return Err(Error::config("rule.rate", "a number from 0 up", json!(self.rate)));
        }
        if let Some(ridge) = self.ridge
            && !(ridge > 0.0 && ridge.is_finite())
        {
            return Err(Error::config("rule.ridge", "a number above 0", ridge));
        }
        if let Some(power) = self.power
            && !(self.first == Some(First::Axes) && (0.0..=1.0).contains(&power))
        {
            return Err(Error::config("rule.power", "a number from 0 to 1 beside axes as `first`", power));
        }
        if self.first == Some(First::Center) && self.center == Some(false) {
            return Err(Error::config("rule.center", "true or nothing beside center as `first`", false));
        }
        if let Some(kappa) = self.kappa
            && !(0.0..=1.0).contains(&kappa)
        {
            return Err(Error::config("rule.kappa", "a number from 0 to 1", kappa));
        }
        if let Some(rows) = self.rows
            && !(rows > 0.0 && (rows < 1.0 || rows.fract() == 0.0))
        {
            return Err(Error::config("rule.rows", "a share between 0 and 1 or a whole number", rows));
        }
        if self.every == Some(0) {
            return Err(Error::config("rule.every", "a whole number from 1 up", 0));
        }
        if let Some(limit) = self.auto_step
            && !(limit > 0.0 && limit < 2.0)
        {
            return Err(Error::config("rule.autoStep", "a number above 0 and below 2", limit));
        }
        if self.block == Some(0) {
            return Err(Error::config("rule.block", "a whole number from 1 up", 0));
        }
        Ok(())
    }

    /// Refuses names of layers that are not there, and a choice for first layers where none takes part.
    pub fn check_layers(&self, maps: &[Candidate]) -> Result<()> {
        let missing = self.layers.iter().flatten().find(|layer| maps.iter().all(|map| map.layer != *layer));
        if let Some(layer) = missing {
            return Err(Error::config("rule.layers", "names of dense and conv2d layers", layer));
        }
        if let Some(first) = self.first.filter(|first| *first != First::Learn)
            && !maps.iter().any(|map| map.first && self.leaves_out(map.layer, map.map).is_none())
        {
            let expected = "learn, or a dense or conv2d layer that takes part and reads the network's input";
            return Err(Error::config("rule.first", expected, first));
        }
        Ok(())
    }

    /// Why a map takes no part, if it takes none: grouped convolutions have to be named, and are refused then.
    fn leaves_out(&self, layer: &str, map: &Map) -> Option<&'static str> {
        match &self.layers {
            Some(layers) => (!layers.iter().any(|named| named == layer)).then_some("not among the layers"),
            None => matches!(map, Map::Conv(g) if g.groups > 1).then_some("grouped convolution"),
        }
    }

    /// κ for a map. Neighbouring pixels differ little: most directions of a patch have next to no variance, and a large κ blows
    /// up those until the run diverges (`docs/decorrelated.md` has the figures).
    pub fn kappa(&self, map: &Map) -> f64 {
        self.kappa.unwrap_or(match map {
            Map::Dense { .. } => 0.5,
            Map::Conv(_) => 0.1,
        })
    }

    /// ε of covariances, as a share of their mean variance: what keeps noise from being blown up. Much of what dense layers read in
    /// the network's input hardly varies, such as pixels at the margin, and means little: whitened, it is learned by heart
    /// (`docs/decorrelated.md` has the figures).
    fn ridge(&self, map: &Map, first: bool) -> f64 {
        self.ridge.unwrap_or(match map {
            Map::Dense { .. } if first => 10.0,
            Map::Dense { .. } | Map::Conv(_) => 0.1,
        })
    }

    /// How R of layers that read the network's input is found where it stays. The power is what did best on MNIST
    /// (`docs/decorrelated.md`).
    fn fixed(&self, map: &Map) -> Option<Fixed> {
        match self.first? {
            First::Precompute => Some(Fixed::Whitened { ridge: self.ridge(map, true) }),
            First::Axes => Some(Fixed::Axes { power: self.power.unwrap_or(0.375) }),
            First::Learn | First::Center | First::Raw => None,
        }
    }

    /// Steps from one change of R to the next. Beside convolutions R is cheap, and dense layers after them fall behind where theirs
    /// moves every fourth step only (`docs/decorrelated.md`).
    fn every(&self, site: &Site) -> u64 {
        self.every.unwrap_or(if site.convolves { 1 } else { 4 })
    }

    /// Rows of the blocks of R. One block up to twice as many inputs as a block would take: in a convolution, which applies R to
    /// its weights alone, learning R is what costs, and smaller blocks learn as well (`docs/decorrelated.md`).
    fn block(&self, map: &Map) -> usize {
        let usual = if matches!(map, Map::Dense { .. }) { 256 } else { 128 };
        let whole = if map.inputs() <= 2 * usual { map.inputs() } else { usual };
        self.block.unwrap_or(whole).min(map.inputs())
    }

    /// Rows of a batch of `rows` that R learns from, or the means where there is no R.
    fn budget(&self, way: Way, blocks: Blocks, rows: usize) -> usize {
        let together = if way == Way::Centered { blocks.size } else { blocks.block };
        let wanted = match self.rows {
            None => (2 * together).max(64),
            Some(share) if share < 1.0 => ((share * rows as f64) as usize).max(1),
            Some(count) => count as usize,
        };
        wanted.min(rows)
    }
}

/// How values pass through R.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// First z = x · S, then z · W.
    TwoStage,
    /// x · (S · W).
    Fused,
    /// x · A: only the gradient of A knows R.
    Around,
    /// (x − μ) · W: there is no R.
    Centered,
}

impl Way {
    /// What becomes of a row of inputs: x · S, or x itself where there is no R.
    fn turn<T: Real>(self, blocks: Blocks, s: &[T], x: &[T], out: &mut [T]) {
        match self {
            Way::Centered => out.copy_from_slice(x),
            Way::TwoStage | Way::Fused | Way::Around => {
                decorrelation::apply(Par::SEQUENTIAL, blocks, 1, x, s, None, out)
            }
        }
    }
}

/// The rule in one linear map, with its state.
pub struct Decorrelated<T> {
    blocks: Blocks,
    outputs: usize,
    form: Form,
    way: Way,
    /// Whether the map's inputs have passed R already when a step begins.
    given: bool,
    s: Buffer<T>,
    /// μ; empty without centring.
    mean: Buffer<T>,
    /// −μ · S; empty without centring.
    shift: Buffer<T>,
    /// z, or u = g · Wᵀ: batch × inputs each; empty unless in two stages.
    z: Buffer<T>,
    u: Buffer<T>,
    /// S · W and the bias beside it, or the gradient of S · W; empty in two stages.
    product: Buffer<T>,
    bias: Buffer<T>,
    /// What changes R; none where it stays.
    learner: Option<Learner<T>>,
    /// See [`cost`].
    multiply_adds: f64,
}

/// Why a map has no R, or none of its own.
pub enum Choice<T> {
    /// It sees its inputs as they are.
    Raw(&'static str),
    /// It has an R.
    Decorrelated(Box<Decorrelated<T>>),
}

impl<T: Real> Decorrelated<T> {
    /// Decides what a map does, and makes its memory.
    pub fn choose(config: &Config, site: &Site) -> Result<Choice<T>> {
        config.check()?;
        if site.masked || site.sparsity.is_some() {
            let expected = "dense weights beside decorrelated(), which ends by folding R into them";
            return Err(Error::config("rule", expected, format!("zeros in {}", site.name)));
        }
        if let Some(why) = config.leaves_out(&site.layer, &site.map) {
            return Ok(Choice::Raw(why));
        }
        if let Map::Conv(g) = &site.map
            && g.groups > 1
        {
            let expected = "convolutions with one group, whose patches have all channels";
            return Err(Error::config("rule.layers", expected, format!("{} with {}", site.name, g.groups)));
        }
        if site.first && config.first == Some(First::Raw) {
            return Ok(Choice::Raw("reads the network's input"));
        }
        if site.first && config.first == Some(First::Center) && !site.bias {
            return Ok(Choice::Raw("reads the network's input, without a bias that takes its means up"));
        }
        if config.center == Some(true) && !site.bias {
            let expected = "false, or a bias in every layer, which takes the means up in the end";
            return Err(Error::config("rule.center", expected, format!("true and {} without one", site.name)));
        }
        Ok(Choice::Decorrelated(Box::new(Self::new(config, site)?)))
    }

    fn new(config: &Config, site: &Site) -> Result<Self> {
        let (inputs, outputs, batch) = (site.map.inputs(), site.map.outputs(), site.batch);
        let centered = site.first && config.first == Some(First::Center);
        let blocks = Blocks { size: inputs, block: if centered { 1 } else { config.block(&site.map) } };
        let fixed = site.first && config.fixed(&site.map).is_some();
        let dense = matches!(site.map, Map::Dense { .. });
        // Products that are chosen by rows need these rows.
        let by_rows = site.training.rule.products != (products::Config::All {});
        // Forward and, but for the network's input, backward; S · W and its gradient.
        let few_rows = batch * if site.first { 1 } else { 2 } <= 2 * outputs;
        let way = match config.form {
            _ if centered => Way::Centered,
            Form::DriftFree => Way::Around,
            Form::Local | Form::NewtonSchulz | Form::Cholesky if dense && (by_rows || few_rows) => Way::TwoStage,
            Form::Local | Form::NewtonSchulz | Form::Cholesky => Way::Fused,
        };
        let center = config.center.unwrap_or(site.bias);
        let when = |yes: bool, size: usize| if yes { Buffer::zeroed(size) } else { Ok(Buffer::empty()) };
        let mut s = when(!centered, blocks.elements())?;
        if !centered {
            blocks.identity(&mut s);
        }
        let two = way == Way::TwoStage;
        let learner = if fixed { None } else { Some(Learner::new(config, site, blocks, way)?) };
        Ok(Decorrelated {
            multiply_adds: cost::multiply_adds(config, site, blocks, way, learner.is_some()),
            blocks,
            outputs,
            form: config.form,
            way,
            given: false,
            s,
            mean: when(center, inputs)?,
            shift: when(center, inputs)?,
            z: when(two, batch * inputs)?,
            u: when(two, batch * inputs)?,
            product: when(!two && !centered, inputs * outputs)?,
            bias: when(!two, outputs)?,
            learner,
        })
    }

    /// Whether the inputs of a pass have passed R already.
    pub fn is_given(&self, pass: &Pass) -> bool {
        self.given && matches!(pass.mode, Mode::Train { .. })
    }

    /// Brings −μ · S up to date.
    fn prepare(&mut self) {
        if !self.mean.is_empty() {
            self.way.turn(self.blocks, &self.s, &self.mean, &mut self.shift);
            self.shift.iter_mut().for_each(|shift| *shift = -*shift);
        }
    }

    /// y = f(R (x − μ) · W + bias).
    #[allow(clippy::too_many_arguments)] // A linear map has that many parts.
    pub fn forward(
        &mut self,
        map: &Map,
        pass: &Pass,
        x: &[T],
        w: &[T],
        bias: Option<&[T]>,
        activation: Activation<T>,
        y: &mut [T],
        scratch: &mut [T],
    ) {
        let (par, rows) = (pass.par, pass.rows);
        self.prepare();
        if self.way == Way::Around || self.is_given(pass) {
            return map.forward(par, rows, x, w, bias, activation, y, scratch);
        }
        if matches!(self.way, Way::Fused | Way::Centered) {
            let weights = w;
            let w = if self.way == Way::Fused {
                decorrelation::multiply(par, self.blocks, self.outputs, &self.s, false, w, &mut self.product);
                &self.product[..]
            } else {
                w
            };
            let bias = bias.map(|bias| {
                self.bias.copy_from_slice(bias);
                add_product(&self.shift, weights, &mut self.bias);
                &self.bias[..]
            });
            return map.forward(par, rows, x, w, bias, activation, y, scratch);
        }
        // Evaluation may have larger batches: a part after the other.
        let (inputs, outputs) = (self.blocks.size, self.outputs);
        let most = self.z.len() / inputs;
        for (x, y) in x.chunks(most * inputs).zip(y.chunks_mut(most * outputs)) {
            let rows = x.len() / inputs;
            let z = &mut self.z[..x.len()];
            let shift = (!self.shift.is_empty()).then_some(&self.shift[..]);
            decorrelation::apply(par, self.blocks, rows, x, &self.s, shift, z);
            linear::forward(par, Dims { rows, inputs, outputs }, z, w, bias, activation, y);
        }
    }

    /// y = R x · W for tangents x of any number of samples, after [`Self::forward`] of a step. Tangents take the room of the input
    /// gradient, which nobody asks for in a step that has them.
    pub fn multiply(
        &mut self,
        map: &Map,
        (par, samples): (Par, usize),
        x: &[T],
        w: &[T],
        y: &mut [T],
        scratch: &mut [T],
    ) {
        let (inputs, outputs, identity) = (self.blocks.size, self.outputs, Activation::Identity);
        if self.given || self.way != Way::TwoStage {
            let w = if self.given || self.way != Way::Fused { w } else { &self.product };
            return map.forward(par, samples, x, w, None, identity, y, scratch);
        }
        let most = self.u.len() / inputs;
        for (x, y) in x.chunks(most * inputs).zip(y.chunks_mut(most * outputs)) {
            let rows = x.len() / inputs;
            let turned = &mut self.u[..x.len()];
            decorrelation::apply(par, self.blocks, rows, x, &self.s, None, turned);
            linear::forward(par, Dims { rows, inputs, outputs }, turned, w, None, identity, y);
        }
    }

    /// dx = Rᵀ (W · g), times the derivative of the activation below where it is to be taken along, after [`Self::forward`].
    #[allow(clippy::too_many_arguments)] // As `forward`.
    pub fn input_gradient(
        &mut self,
        map: &Map,
        pass: &Pass,
        g: &[T],
        w: &[T],
        below: Option<(Activation<T>, &[T])>,
        dx: &mut [T],
        scratch: &mut [T],
    ) {
        let (par, rows) = (pass.par, pass.rows);
        match self.way {
            Way::Around | Way::Centered => map.input_gradient(par, rows, g, w, below, dx, scratch),
            Way::Fused => map.input_gradient(par, rows, g, &self.product, below, dx, scratch),
            Way::TwoStage => {
                let u = &mut self.u[..dx.len()];
                map.input_gradient(par, rows, g, w, None, u, scratch);
                decorrelation::apply_transposed(par, self.blocks, rows, u, &self.s, below, dx);
            }
        }
    }

    /// What the weights multiply, taken out until [`Self::put_back`]; none where the gradient has to be turned instead.
    pub fn take_inputs(&mut self) -> Option<Buffer<T>> {
        (self.way == Way::TwoStage).then(|| std::mem::replace(&mut self.z, Buffer::empty()))
    }

    /// Puts back what [`Self::take_inputs`] gave.
    pub fn put_back(&mut self, z: Buffer<T>) {
        self.z = z;
    }

    /// Turns the gradient of x · A into that of z · W, or multiplies it by Rᵀ R where A is what is trained. `gradients` are the
    /// gradients of the pre-activations summed over all rows, where there is a bias.
    pub fn turn_gradient(&mut self, par: Par, sums: Option<&[T]>, gradient: &mut [T]) {
        let (b, outputs) = (self.blocks, self.outputs);
        if let (Some(sums), false) = (sums, self.mean.is_empty() || self.way == Way::Around) {
            for (row, mean) in gradient.chunks_exact_mut(outputs).zip(&*self.mean) {
                row.iter_mut().zip(sums).for_each(|(gradient, sum)| *gradient -= *mean * *sum);
            }
        }
        if self.way == Way::Centered {
            return;
        }
        let turned = &mut self.product;
        decorrelation::multiply(par, b, outputs, &self.s, true, gradient, turned);
        if self.way == Way::Around {
            decorrelation::multiply(par, b, outputs, &self.s, false, turned, gradient);
        } else {
            gradient.copy_from_slice(turned);
        }
    }

    /// Plain weights and bias with the same function.
    pub fn fold(&mut self, w: &mut [T], bias: Option<&mut [T]>) {
        let own = w.to_vec();
        self.fold_from(Par::SEQUENTIAL, &own, w, bias);
    }

    /// As [`Self::fold`] of the weights `own`, to `w`.
    pub fn fold_from(&mut self, par: Par, own: &[T], w: &mut [T], bias: Option<&mut [T]>) {
        if self.way == Way::Around {
            return w.copy_from_slice(own);
        }
        self.prepare();
        if let Some(bias) = bias {
            add_product(&self.shift, own, bias);
        }
        if self.way == Way::Centered {
            return;
        }
        decorrelation::multiply(par, self.blocks, self.outputs, &self.s, false, own, w);
    }

    /// What it keeps between steps.
    pub fn state(&mut self) -> Vec<StateTensor<'_, T>> {
        let Blocks { size, block } = self.blocks;
        let shape = if size == block { vec![size, size] } else { vec![self.blocks.elements()] };
        let mut list = Vec::new();
        if self.way != Way::Centered {
            list.push(StateTensor { name: "inputs.s", shape: shape.clone(), values: &mut self.s });
        }
        if !self.mean.is_empty() {
            list.push(StateTensor { name: "inputs.mean", shape: vec![size], values: &mut self.mean });
        }
        if let Some(averaged) = self.learner.as_mut().and_then(Learner::averaged) {
            list.push(StateTensor { name: "inputs.covariance", shape, values: averaged.covariance() });
        }
        list
    }

    /// Its figures.
    pub fn describe(&self) -> Value {
        let way = match self.way {
            Way::TwoStage => "two-stage",
            Way::Fused => "fused",
            Way::Around => "gradient",
            Way::Centered => "centred",
        };
        let mut figures = json!({
            "kind": "decorrelated", "inputs": self.blocks.size, "block": self.blocks.block, "way": way,
            "center": !self.mean.is_empty(), "precomputed": self.learner.is_none(), "form": self.form,
            "multiplyAdds": if self.given { 0.0 } else { self.multiply_adds },
        });
        if let (Some(learner), Value::Object(figures)) = (&self.learner, &mut figures) {
            learner.describe(figures);
        }
        figures
    }
}

/// out += row · w, where there is a row.
fn add_product<T: Real>(row: &[T], w: &[T], out: &mut [T]) {
    for (x, w) in row.iter().zip(w.chunks_exact(out.len())) {
        out.iter_mut().zip(w).for_each(|(out, w)| *out += *x * *w);
    }
}
