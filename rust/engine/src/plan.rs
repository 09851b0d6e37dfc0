//! From layers to nodes: shapes are inferred, activations fused, parameters placed.

use crate::config::{LayerConfig, NetworkConfig};
use crate::error::{Code, Error, Result};
use crate::layers::activation::ActivationLayer;
use crate::layers::batch_norm::BatchNorm;
use crate::layers::dropout::Dropout;
use crate::layers::dropout2d::Dropout2d;
use crate::layers::group_norm::GroupNorm;
use crate::layers::layer_norm::LayerNorm;
use crate::layers::linear::Linear;
use crate::layers::map::Map;
use crate::layers::pool::{AveragePool, GlobalAveragePool, MaxPool};
use crate::layers::softmax::Softmax;
use crate::layers::{Layer, Order, Specification};
use kernels::conv::Geometry;
use kernels::pool::Window;
use kernels::sparse::Tiles;
use kernels::{Activation, Real};
use std::ops::Range;

/// Something that turns one value into another.
pub struct Node<T> {
    /// Name of the layer it comes from: `2`, or `2.body.0`.
    pub layer: String,
    /// Kind of that layer.
    pub kind: &'static str,
    /// What it computes.
    pub op: Op<T>,
    /// The value it reads.
    pub input: usize,
    /// The value it writes.
    pub output: usize,
    /// Its place among the parameters.
    pub parameters: Range<usize>,
    /// Its place among the buffers.
    pub buffers: Range<usize>,
    /// Whether it takes part in passes.
    pub part: Part,
}

/// What part a node takes in the passes of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// All of it.
    Whole,
    /// None: a learning rule has what it would give from elsewhere.
    Skipped,
    /// All but the gradient of its input, which nobody reads.
    Lowest,
}

/// What a node computes.
#[allow(clippy::large_enum_variant)] // A few dozen nodes in a network, most of them linear: boxes would save nothing.
pub enum Op<T> {
    /// A linear map with its fused activation.
    Linear(Linear<T>),
    /// The sum of its input and another value.
    Add {
        /// The other value.
        other: usize,
    },
    /// Anything else.
    Layer(Box<dyn Layer<T>>),
}

impl<T: Real> Op<T> {
    fn parameters(&self) -> Vec<Specification> {
        match self {
            Op::Linear(linear) => linear.parameters(),
            Op::Add { .. } => Vec::new(),
            Op::Layer(layer) => layer.parameters(),
        }
    }

    fn buffers(&self) -> Vec<Specification> {
        match self {
            Op::Linear(_) | Op::Add { .. } => Vec::new(),
            Op::Layer(layer) => layer.buffers(),
        }
    }

    /// Fewest rows of a batch in training.
    pub fn least_rows(&self) -> usize {
        match self {
            Op::Linear(_) | Op::Add { .. } => 1,
            Op::Layer(layer) => layer.least_rows(),
        }
    }

    /// Elements to keep between the passes for a batch of `rows`.
    pub fn saved(&self, rows: usize) -> usize {
        match self {
            Op::Linear(_) | Op::Add { .. } => 0,
            Op::Layer(layer) => layer.saved(rows),
        }
    }
}

impl<T> Node<T> {
    /// The layer it comes from, as messages call it: `layer 2 (dense)`.
    pub fn name(&self) -> String {
        format!("layer {} ({})", self.layer, self.kind)
    }

    /// The values it reads.
    pub fn reads(&self) -> impl Iterator<Item = usize> {
        let other = if let Op::Add { other } = self.op { Some(other) } else { None };
        std::iter::once(self.input).chain(other)
    }
}

/// A parameter or buffer in its place.
#[derive(Clone, Debug)]
pub struct Parameter {
    /// Name, such as `0.weight`: the layer's number as in a PyTorch `Sequential`.
    pub name: String,
    /// What the layer asked for.
    pub specification: Specification,
    /// Its elements in the flat memory.
    pub range: Range<usize>,
}

impl Parameter {
    /// Number of elements that users see.
    pub fn elements(&self) -> usize {
        self.specification.shape.iter().product()
    }

    /// Where, among its elements, the engine stores the one that users see at `index`.
    pub fn place(&self, index: usize) -> usize {
        self.specification.order.place(&self.specification.shape, index)
    }
}

/// A layer as users see it.
#[derive(Clone, Debug)]
pub struct LayerInfo {
    /// Its name: the number in the list, or for layers inside another `2.body.0`.
    pub name: String,
    /// Its kind.
    pub kind: &'static str,
    /// Shape of one sample of its output.
    pub shape: Vec<usize>,
    /// Number of parameters.
    pub parameters: usize,
    /// Multiply-adds of one sample's forward pass.
    pub multiply_adds: usize,
}

/// A lowered network.
pub struct Plan<T> {
    /// Nodes in the order of the forward pass.
    pub nodes: Vec<Node<T>>,
    /// Features of one sample of each value; value 0 is the input.
    pub sizes: Vec<usize>,
    /// The tiles that a value is held in between sparse layers (of no rows: rows are the batch's); the others are rows.
    pub tiles: Vec<Option<Tiles>>,
    /// Rows of a tile, and whether values may be tiles: what `tiles` was made from.
    pub joining: (usize, bool),
    /// The value that is the network's output.
    pub output: usize,
    /// All parameters.
    pub parameters: Vec<Parameter>,
    /// Elements of the flat parameter memory, padding included.
    pub elements: usize,
    /// All buffers.
    pub buffers: Vec<Parameter>,
    /// Elements of the flat buffer memory.
    pub buffer_elements: usize,
    /// The layers.
    pub layers: Vec<LayerInfo>,
}

/// Elements of a value for a batch of `rows`, from its [`Plan::sizes`] and [`Plan::tiles`].
pub fn extent(size: usize, tiles: Option<Tiles>, rows: usize) -> usize {
    tiles.map_or(rows * size, |tiles| Tiles { batch: rows, ..tiles }.len())
}

impl<T: Real> Plan<T> {
    /// Elements of each value for a batch of `rows`.
    pub fn extents(&self, rows: usize) -> Vec<usize> {
        self.sizes.iter().zip(&self.tiles).map(|(size, tiles)| extent(*size, *tiles, rows)).collect()
    }

    /// Whether a node is a convolution.
    pub fn convolves(&self) -> bool {
        self.nodes.iter().any(|node| matches!(&node.op, Op::Linear(linear) if matches!(linear.map, Map::Conv(_))))
    }

    /// Whether a parameter is the weight of the linear map at a node.
    pub fn is_weight_of(&self, node: usize, parameter: &Parameter) -> bool {
        let weight = parameter.specification.order != Order::Same;
        weight && parameter.name.strip_suffix(".weight") == Some(&self.nodes[node].layer)
    }

    /// Places all parameters anew, after masks have changed.
    pub fn place(&mut self) {
        let mut parameters = self.parameters.iter_mut();
        let mut end = 0;
        for node in &mut self.nodes {
            let start = end;
            let stored = if let Op::Linear(linear) = &node.op { linear.weights() } else { 0 };
            // Not `zip`, which would take one parameter too many.
            for Specification { order, shape, .. } in node.op.parameters() {
                let count = if order == Order::Same { shape.iter().product() } else { stored };
                let range = end..end + count;
                end = end_of::<T>(&range, order);
                parameters.next().into_iter().for_each(|parameter| parameter.range = range.clone());
            }
            end = aligned::<T>(end);
            node.parameters = start..end;
        }
        self.elements = end;
    }
}

/// `elements` rounded up to whole cache lines.
pub fn aligned<T: Real>(elements: usize) -> usize {
    elements.next_multiple_of(64 / T::BYTES)
}

/// Where the parameter after one begins. Weights are padded, so that what follows them starts at a cache line too; other tensors
/// follow directly.
fn end_of<T: Real>(range: &Range<usize>, order: Order) -> usize {
    if order == Order::Same { range.end } else { range.start + aligned::<T>(range.len()) }
}

/// Lowers a configuration.
pub fn lower<T: Real>(config: &NetworkConfig) -> Result<Plan<T>> {
    if config.input.is_empty() || config.input.contains(&0) {
        let found = format!("{:?}", config.input);
        return Err(Error::config("input", "the shape of one sample, such as [784], without zeros", found));
    }
    if config.layers.is_empty() {
        return Err(Error::config("layers", "at least one layer", "none"));
    }
    let plan = Plan {
        nodes: vec![],
        sizes: vec![product(&config.input)?],
        tiles: vec![],
        joining: (0, false),
        output: 0,
        parameters: vec![],
        elements: 0,
        buffers: vec![],
        buffer_elements: 0,
        layers: vec![],
    };
    let mut lowering = Lowering { plan, shape: config.input.clone(), current: 0 };
    lowering.list("", &config.layers)?;
    let Lowering { mut plan, current, .. } = lowering;
    if plan.nodes.is_empty() {
        return Err(Error::config("layers", "at least one layer that computes something", "only flatten"));
    }
    plan.output = current;
    plan.tiles = vec![None; plan.sizes.len()];
    fold_activations(&mut plan.nodes, plan.output);
    Ok(plan)
}

/// A plan in the making.
struct Lowering<T> {
    plan: Plan<T>,
    /// Shape of one sample of the current value.
    shape: Vec<usize>,
    /// The value that the next layer reads.
    current: usize,
}

impl<T: Real> Lowering<T> {
    /// Layers one after the other; names begin with `prefix`.
    fn list(&mut self, prefix: &str, layers: &[LayerConfig]) -> Result<()> {
        for (index, layer) in layers.iter().enumerate() {
            self.layer(format!("{prefix}{index}"), layer)?;
            if self.plan.elements > MOST {
                return Err(too_large(format!("up to 2^53 parameters but found more at layer {prefix}{index}")));
            }
        }
        Ok(())
    }

    fn layer(&mut self, name: String, layer: &LayerConfig) -> Result<()> {
        let kind = layer.kind();
        let place = |option: &str| format!("{option} of layer {name} ({kind})");
        let size = product(&self.shape)?;
        let before = self.plan.parameters.len();
        let mut multiply_adds = 0;
        match layer {
            LayerConfig::Dense { units, bias, weight_init, bias_init } => {
                if *units == 0 {
                    return Err(Error::config(place("units"), "a whole number from 1 up", units));
                }
                let [inputs] = self.shape[..] else {
                    let found = format!("the shape {:?}; put flatten() before dense()", self.shape);
                    return Err(Error::config(format!("layer {name} (dense)"), "inputs with one axis", found));
                };
                // The weights themselves must be countable.
                product(&[inputs, *units])?;
                self.shape = vec![*units];
                let map = Map::Dense { inputs, outputs: *units };
                multiply_adds = map.multiply_adds();
                self.push(&name, kind, Op::Linear(Linear::new(map, *bias, *weight_init, *bias_init)))?;
            }
            LayerConfig::Conv2d { filters, kernel, stride, padding, groups, bias, weight_init, bias_init } => {
                let [height, width, inputs] = self.image(&name, kind)?;
                let geometry = Geometry {
                    height,
                    width,
                    inputs,
                    outputs: *filters,
                    kernel: *kernel,
                    stride: *stride,
                    padding: *padding,
                    groups: *groups,
                };
                if let Err(fault) = geometry.check() {
                    let message = format!("Cannot use layer {name} (conv2d): {fault}");
                    return Err(Error::new(Code::InvalidConfig, message));
                }
                self.shape = vec![geometry.out_height(), geometry.out_width(), *filters];
                let map = Map::Conv(geometry);
                multiply_adds = map.multiply_adds();
                self.push(&name, kind, Op::Linear(Linear::new(map, *bias, *weight_init, *bias_init)))?;
            }
            LayerConfig::MaxPool2d { kernel, stride, padding } => {
                let window = self.window(&name, kind, [*kernel, *stride, *padding])?;
                self.push(&name, kind, Op::Layer(Box::new(MaxPool(window))))?;
            }
            LayerConfig::AvgPool2d { kernel, stride, padding } => {
                let window = self.window(&name, kind, [*kernel, *stride, *padding])?;
                self.push(&name, kind, Op::Layer(Box::new(AveragePool(window))))?;
            }
            LayerConfig::GlobalAvgPool2d {} => {
                let [height, width, channels] = self.image(&name, kind)?;
                self.shape = vec![channels];
                let pool = GlobalAveragePool { pixels: height * width, channels };
                self.push(&name, kind, Op::Layer(Box::new(pool)))?;
            }
            LayerConfig::BatchNorm { epsilon, momentum } => {
                above_zero(place("epsilon"), *epsilon)?;
                if !(0.0..=1.0).contains(momentum) {
                    return Err(Error::config(place("momentum"), "a number from 0 to 1", momentum));
                }
                let channels = self.channels();
                let (epsilon, momentum, pixels) = (*epsilon, *momentum, size / channels);
                let norm = BatchNorm { channels, pixels, epsilon, momentum, relu: false };
                self.push(&name, kind, Op::Layer(Box::new(norm)))?;
            }
            LayerConfig::GroupNorm { groups, epsilon } => {
                above_zero(place("epsilon"), *epsilon)?;
                let channels = self.channels();
                if *groups == 0 || !channels.is_multiple_of(*groups) {
                    let expected = format!("a number that divides the {channels} channels");
                    return Err(Error::config(place("groups"), expected, groups));
                }
                let norm = GroupNorm { channels, groups: *groups, epsilon: *epsilon };
                self.push(&name, kind, Op::Layer(Box::new(norm)))?;
            }
            LayerConfig::Dropout2d { rate } => {
                if !(0.0..1.0).contains(rate) {
                    return Err(Error::config(place("rate"), "a number from 0 up to below 1", rate));
                }
                let [height, width, _] = self.image(&name, kind)?;
                let layer = self.plan.layers.len() as u32;
                let dropout = Dropout2d { rate: *rate, pixels: height * width, layer };
                self.push(&name, kind, Op::Layer(Box::new(dropout)))?;
            }
            LayerConfig::Residual { body, shortcut } => return self.residual(name, kind, body, shortcut),
            LayerConfig::Relu {} => self.activation(&name, kind, Activation::Relu)?,
            LayerConfig::LeakyRelu { slope } => {
                above_zero(place("slope"), *slope)?;
                self.activation(&name, kind, Activation::LeakyRelu(T::of(*slope)))?;
            }
            LayerConfig::Gelu {} => self.activation(&name, kind, Activation::Gelu)?,
            LayerConfig::Tanh {} => self.activation(&name, kind, Activation::Tanh)?,
            LayerConfig::Sigmoid {} => self.activation(&name, kind, Activation::Sigmoid)?,
            LayerConfig::Softmax {} => self.push(&name, kind, Op::Layer(Box::new(Softmax { size })))?,
            LayerConfig::Dropout { rate } => {
                if !(0.0..1.0).contains(rate) {
                    return Err(Error::config(place("rate"), "a number from 0 up to below 1", rate));
                }
                let layer = self.plan.layers.len() as u32;
                self.push(&name, kind, Op::Layer(Box::new(Dropout { rate: *rate, layer })))?;
            }
            LayerConfig::Flatten {} => self.shape = vec![size],
            LayerConfig::LayerNorm { epsilon } => {
                above_zero(place("epsilon"), *epsilon)?;
                let last = self.channels();
                let norm = LayerNorm { size: last, groups: size / last, epsilon: *epsilon };
                self.push(&name, kind, Op::Layer(Box::new(norm)))?;
            }
        }
        let parameters = self.plan.parameters[before..].iter().map(|p| p.range.len()).sum();
        self.plan.layers.push(LayerInfo { name, kind, shape: self.shape.clone(), parameters, multiply_adds });
        Ok(())
    }

    /// Height, width and channels of the images that a layer needs.
    fn image(&self, name: &str, kind: &str) -> Result<[usize; 3]> {
        self.shape[..].try_into().map_err(|_| {
            let expected = "images of shape [height, width, channels]";
            Error::config(format!("layer {name} ({kind})"), expected, format!("{:?}", self.shape))
        })
    }

    /// Length of the last axis.
    fn channels(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }

    /// The window of a pooling layer, whose results have the current shape from here on.
    fn window(&mut self, name: &str, kind: &str, [size, stride, padding]: [[usize; 2]; 3]) -> Result<Window> {
        let [height, width, channels] = self.image(name, kind)?;
        let window = Window { height, width, channels, size, stride, padding };
        if let Err(fault) = window.check() {
            return Err(Error::new(Code::InvalidConfig, format!("Cannot use layer {name} ({kind}): {fault}")));
        }
        self.shape = vec![window.out_height(), window.out_width(), channels];
        Ok(window)
    }

    /// body(x) + shortcut(x).
    fn residual(
        &mut self,
        name: String,
        kind: &'static str,
        body: &[LayerConfig],
        shortcut: &[LayerConfig],
    ) -> Result<()> {
        let (start, shape) = (self.current, self.shape.clone());
        self.list(&format!("{name}.body."), body)?;
        let (end, body_shape) = (self.current, std::mem::replace(&mut self.shape, shape));
        self.current = start;
        self.list(&format!("{name}.shortcut."), shortcut)?;
        if self.shape != body_shape {
            let found = format!("{body_shape:?} from the body and {:?} from the shortcut", self.shape);
            return Err(Error::config(format!("layer {name} (residual)"), "two branches of the same shape", found));
        }
        if end == self.current {
            return Err(Error::config(format!("layer {name} (residual)"), "a body that computes something", "none"));
        }
        let other = std::mem::replace(&mut self.current, end);
        self.push(&name, kind, Op::Add { other })?;
        self.plan.layers.push(LayerInfo { name, kind, shape: self.shape.clone(), parameters: 0, multiply_adds: 0 });
        Ok(())
    }

    /// Fuses an activation into the node that made the current value, or makes a node of it.
    fn activation(&mut self, name: &str, kind: &'static str, activation: Activation<T>) -> Result<()> {
        let current = self.current;
        let read = self.plan.nodes.iter().any(|node| node.reads().any(|value| value == current));
        let maker = self.plan.nodes.iter_mut().find(|node| node.output == current).filter(|_| !read);
        let fused = match maker.map(|node| &mut node.op) {
            Some(Op::Linear(linear)) if linear.activation == Activation::Identity && activation.from_output() => {
                linear.activation = activation;
                true
            }
            Some(Op::Layer(layer)) => layer.fuse(activation),
            Some(Op::Linear(_) | Op::Add { .. }) | None => false,
        };
        if fused {
            return Ok(());
        }
        self.push(name, kind, Op::Layer(Box::new(ActivationLayer(activation))))
    }

    /// Adds a node that reads the current value and makes the next one, of the current shape.
    fn push(&mut self, name: &str, kind: &'static str, op: Op<T>) -> Result<()> {
        let size = product(&self.shape)?;
        let plan = &mut self.plan;
        let start = plan.elements;
        for specification in op.parameters() {
            let count = specification.shape.iter().product::<usize>();
            let range = plan.elements..plan.elements + count;
            plan.elements = end_of::<T>(&range, specification.order);
            plan.parameters.push(Parameter { name: format!("{name}.{}", specification.name), specification, range });
        }
        plan.elements = aligned::<T>(plan.elements);
        let buffer_start = plan.buffer_elements;
        for specification in op.buffers() {
            let range = plan.buffer_elements..plan.buffer_elements + specification.shape.iter().product::<usize>();
            plan.buffer_elements = range.end;
            plan.buffers.push(Parameter { name: format!("{name}.{}", specification.name), specification, range });
        }
        plan.sizes.push(size);
        let output = plan.sizes.len() - 1;
        plan.nodes.push(Node {
            layer: name.to_string(),
            kind,
            op,
            input: self.current,
            output,
            parameters: start..plan.elements,
            buffers: buffer_start..plan.buffer_elements,
            part: Part::Whole,
        });
        self.current = output;
        Ok(())
    }
}

/// Lets a linear map take the derivative of the activation below along with its input gradient, where nobody else reads
/// that value.
fn fold_activations<T: Real>(nodes: &mut [Node<T>], network_output: usize) {
    for maker in 0..nodes.len() {
        let (value, activation) = match &nodes[maker].op {
            Op::Linear(linear) if linear.activation != Activation::Identity => (nodes[maker].output, linear.activation),
            Op::Linear(_) | Op::Add { .. } | Op::Layer(_) => continue,
        };
        let mut readers = (0..nodes.len()).filter(|node| nodes[*node].reads().any(|read| read == value));
        let (Some(reader), None) = (readers.next(), readers.next()) else { continue };
        if value == network_output {
            continue;
        }
        let Op::Linear(linear) = &mut nodes[reader].op else { continue };
        linear.below = Some(activation);
        if let Op::Linear(linear) = &mut nodes[maker].op {
            linear.derivative_done = true;
        }
    }
}

/// More elements than this no machine holds; below it sums and products of counts cannot overflow.
const MOST: usize = 1 << 53;

fn above_zero(place: String, value: f64) -> Result<()> {
    if value > 0.0 && value.is_finite() { Ok(()) } else { Err(Error::config(place, "a number above 0", value)) }
}

fn too_large(what: String) -> Error {
    Error::new(Code::OutOfMemory, format!("Cannot build the network: expected {what}"))
}

/// The product of a shape, refused where it cannot be counted.
fn product(shape: &[usize]) -> Result<usize> {
    shape
        .iter()
        .try_fold(1usize, |product, axis| product.checked_mul(*axis).filter(|count| *count <= MOST))
        .ok_or_else(|| too_large(format!("shapes with a product up to 2^53 but found {shape:?}")))
}
