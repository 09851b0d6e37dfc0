//! From layers to nodes: shapes are inferred, activations fused, parameters placed.

use crate::config::{LayerConfig, NetworkConfig};
use crate::error::{Code, Error, Result};
use crate::layers::activation::ActivationLayer;
use crate::layers::dropout::Dropout;
use crate::layers::layer_norm::LayerNorm;
use crate::layers::linear::Linear;
use crate::layers::softmax::Softmax;
use crate::layers::{Layer, Specification};
use kernels::{Activation, Real};
use std::ops::Range;

/// Something that turns one value into another.
pub struct Node<T> {
    /// Number of the layer it comes from.
    pub layer: usize,
    /// What it computes.
    pub op: Op<T>,
    /// The value it reads.
    pub input: usize,
    /// The value it writes.
    pub output: usize,
    /// Its place among the parameters.
    pub parameters: Range<usize>,
}

/// What a node computes.
pub enum Op<T> {
    /// A linear map with its fused activation.
    Linear(Linear<T>),
    /// Anything else.
    Layer(Box<dyn Layer<T>>),
}

impl<T: Real> Op<T> {
    fn specifications(&self) -> Vec<Specification> {
        match self {
            Op::Linear(linear) => linear.parameters(),
            Op::Layer(layer) => layer.parameters(),
        }
    }

    /// Elements to keep between the passes for a batch of `rows`.
    pub fn saved(&self, rows: usize) -> usize {
        match self {
            Op::Linear(_) => 0,
            Op::Layer(layer) => layer.saved(rows),
        }
    }
}

/// A parameter in its place.
#[derive(Clone, Debug)]
pub struct Parameter {
    /// Name, such as `0.weight`: the layer's number as in a PyTorch `Sequential`.
    pub name: String,
    /// What the layer asked for.
    pub specification: Specification,
    /// Its elements in the flat buffer.
    pub range: Range<usize>,
}

/// A layer as users see it.
#[derive(Clone, Debug)]
pub struct LayerInfo {
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
    /// Features of one sample of each value; value 0 is the input, the last one the output.
    pub sizes: Vec<usize>,
    /// All parameters.
    pub parameters: Vec<Parameter>,
    /// Elements of the flat parameter buffer, padding included.
    pub elements: usize,
    /// The layers.
    pub layers: Vec<LayerInfo>,
}

/// `elements` rounded up to whole cache lines.
pub fn aligned<T: Real>(elements: usize) -> usize {
    elements.next_multiple_of(64 / T::BYTES)
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
    let mut plan =
        Plan { nodes: vec![], sizes: vec![product(&config.input)?], parameters: vec![], elements: 0, layers: vec![] };
    let mut shape = config.input.clone();
    for (index, layer) in config.layers.iter().enumerate() {
        add(&mut plan, index, layer, &mut shape)?;
        if plan.elements > MOST {
            return Err(too_large(format!("up to 2^53 parameters but found more at layers[{index}]")));
        }
    }
    if plan.nodes.is_empty() {
        return Err(Error::config("layers", "at least one layer that computes something", "only flatten"));
    }
    fold_activations(&mut plan.nodes);
    Ok(plan)
}

fn add<T: Real>(plan: &mut Plan<T>, index: usize, layer: &LayerConfig, shape: &mut Vec<usize>) -> Result<()> {
    let place = |option: &str| format!("layers[{index}].{option}");
    let size = product(shape)?;
    let mut multiply_adds = 0;
    let op = match layer {
        LayerConfig::Dense { units, bias, weight_init, bias_init } => {
            if *units == 0 {
                return Err(Error::config(place("units"), "a whole number from 1 up", units));
            }
            let [inputs] = shape[..] else {
                let found = format!("the shape {shape:?}; put flatten() before dense()");
                return Err(Error::config(format!("layers[{index}] (dense)"), "inputs with one axis", found));
            };
            // The weights themselves must be countable.
            product(&[inputs, *units])?;
            *shape = vec![*units];
            let linear = Linear {
                inputs,
                outputs: *units,
                bias: *bias,
                weight_init: *weight_init,
                bias_init: *bias_init,
                activation: Activation::Identity,
                below: None,
                derivative_done: false,
            };
            multiply_adds = linear.multiply_adds();
            Some(Op::Linear(linear))
        }
        LayerConfig::Relu {} => activation(plan, Activation::Relu),
        LayerConfig::LeakyRelu { slope } => {
            if !(*slope > 0.0 && slope.is_finite()) {
                return Err(Error::config(place("slope"), "a number above 0", slope));
            }
            activation(plan, Activation::LeakyRelu(T::of(*slope)))
        }
        LayerConfig::Gelu {} => activation(plan, Activation::Gelu),
        LayerConfig::Tanh {} => activation(plan, Activation::Tanh),
        LayerConfig::Sigmoid {} => activation(plan, Activation::Sigmoid),
        LayerConfig::Softmax {} => Some(Op::Layer(Box::new(Softmax { size }))),
        LayerConfig::Dropout { rate } => {
            if !(0.0..1.0).contains(rate) {
                return Err(Error::config(place("rate"), "a number from 0 up to below 1", rate));
            }
            Some(Op::Layer(Box::new(Dropout { rate: *rate, layer: index as u32 })))
        }
        LayerConfig::Flatten {} => {
            *shape = vec![size];
            None
        }
        LayerConfig::LayerNorm { epsilon } => {
            if !(*epsilon > 0.0 && epsilon.is_finite()) {
                return Err(Error::config(place("epsilon"), "a number above 0", epsilon));
            }
            let last = shape.last().copied().unwrap_or(1);
            Some(Op::Layer(Box::new(LayerNorm { size: last, groups: size / last, epsilon: *epsilon })))
        }
    };
    let before = plan.parameters.len();
    if let Some(op) = op {
        push(plan, index, op, product(shape)?);
    }
    let parameters = plan.parameters[before..].iter().map(|p| p.range.len()).sum();
    plan.layers.push(LayerInfo { kind: layer.kind(), shape: shape.clone(), parameters, multiply_adds });
    Ok(())
}

/// Fuses an activation into the linear map just before it, or makes a node of it.
fn activation<T: Real>(plan: &mut Plan<T>, activation: Activation<T>) -> Option<Op<T>> {
    if let Some(Node { op: Op::Linear(linear), .. }) = plan.nodes.last_mut()
        && linear.activation == Activation::Identity
        && activation.from_output()
    {
        linear.activation = activation;
        return None;
    }
    Some(Op::Layer(Box::new(ActivationLayer(activation))))
}

fn push<T: Real>(plan: &mut Plan<T>, layer: usize, op: Op<T>, size: usize) {
    let start = plan.elements;
    for specification in op.specifications() {
        let count: usize = specification.shape.iter().product();
        let range = plan.elements..plan.elements + count;
        // Within a node tensors lie at fixed distances that layers know: weights are padded, the rest follow directly.
        plan.elements = if specification.transposed { start + aligned::<T>(count) } else { range.end };
        plan.parameters.push(Parameter { name: format!("{layer}.{}", specification.name), specification, range });
    }
    plan.elements = aligned::<T>(plan.elements);
    let input = plan.sizes.len() - 1;
    plan.sizes.push(size);
    plan.nodes.push(Node { layer, op, input, output: input + 1, parameters: start..plan.elements });
}

/// Lets a linear map take the derivative of the activation below along with its input gradient, where nobody else reads
/// that value.
fn fold_activations<T: Real>(nodes: &mut [Node<T>]) {
    let made_by: Vec<(usize, Activation<T>)> = nodes
        .iter()
        .filter_map(|node| match &node.op {
            Op::Linear(linear) if linear.activation != Activation::Identity => Some((node.output, linear.activation)),
            Op::Linear(_) | Op::Layer(_) => None,
        })
        .collect();
    for (value, activation) in made_by {
        let mut readers = nodes.iter_mut().filter(|node| node.input == value);
        let (Some(reader), None) = (readers.next(), readers.next()) else { continue };
        let Op::Linear(linear) = &mut reader.op else { continue };
        linear.below = Some(activation);
        for node in nodes.iter_mut().filter(|node| node.output == value) {
            if let Op::Linear(linear) = &mut node.op {
                linear.derivative_done = true;
            }
        }
    }
}

/// More elements than this no machine holds; below it sums and products of counts cannot overflow.
const MOST: usize = 1 << 53;

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
