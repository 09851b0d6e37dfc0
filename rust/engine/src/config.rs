//! Configurations as they come from TypeScript: tagged JSON, unknown fields refused.

use crate::rules::RuleConfig;
use crate::schedule::Schedule;
use serde::{Deserialize, Serialize};

/// A network to create.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NetworkConfig {
    /// Shape of one sample: `[features]`, or `[height, width, channels]`.
    pub input: Vec<usize>,
    /// The layers, in order.
    pub layers: Vec<LayerConfig>,
    /// What training makes small.
    pub loss: LossConfig,
    /// Seed of the initial parameters.
    pub seed: u64,
    /// Element type of parameters and arithmetic.
    pub precision: Precision,
    /// Threads to use; 0 for one a core.
    pub threads: usize,
}

/// Element types.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Precision {
    /// 32-bit floating point.
    F32,
    /// 64-bit floating point.
    F64,
}

/// One layer.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum LayerConfig {
    /// y = x · Wᵀ + b.
    Dense {
        /// Outputs.
        units: usize,
        /// Whether there is a b.
        bias: bool,
        /// Initial W.
        weight_init: Init,
        /// Initial b.
        bias_init: Init,
    },
    /// Convolution of images (height, width, channels).
    Conv2d {
        /// Channels of the result.
        filters: usize,
        /// Height and width of the kernel.
        kernel: [usize; 2],
        /// Steps of the kernel downwards and to the right.
        stride: [usize; 2],
        /// Rows and columns of zeros around the image.
        padding: [usize; 2],
        /// Groups that channels are divided into.
        groups: usize,
        /// Whether there is a bias for each filter.
        bias: bool,
        /// Initial weights.
        weight_init: Init,
        /// Initial bias.
        bias_init: Init,
    },
    /// The largest value under each window.
    MaxPool2d {
        /// Height and width of the window.
        kernel: [usize; 2],
        /// Steps of the window downwards and to the right.
        stride: [usize; 2],
        /// Rows and columns around the image that are never the largest.
        padding: [usize; 2],
    },
    /// The mean under each window.
    AvgPool2d {
        /// Height and width of the window.
        kernel: [usize; 2],
        /// Steps of the window downwards and to the right.
        stride: [usize; 2],
        /// Rows and columns of zeros around the image.
        padding: [usize; 2],
    },
    /// The mean of each channel over all pixels.
    GlobalAvgPool2d {},
    /// Mean 0 and variance 1 of each channel over the batch, then scale and shift.
    BatchNorm {
        /// Added to the variance.
        epsilon: f64,
        /// Weight of a new batch in the running statistics.
        momentum: f64,
    },
    /// Mean 0 and variance 1 of each group of channels of each sample, then scale and shift.
    GroupNorm {
        /// Number of groups.
        groups: usize,
        /// Added to the variance.
        epsilon: f64,
    },
    /// Each channel is dropped with probability `rate` in training, the others scaled by 1 / (1 − rate).
    Dropout2d {
        /// Probability to drop.
        rate: f64,
    },
    /// body(x) + shortcut(x).
    Residual {
        /// The layers of the body.
        body: Vec<LayerConfig>,
        /// The layers of the shortcut; none for x itself.
        shortcut: Vec<LayerConfig>,
    },
    /// max(x, 0).
    Relu {},
    /// x, or slope · x below 0.
    LeakyRelu {
        /// Factor below 0; above 0.
        slope: f64,
    },
    /// x · Φ(x).
    Gelu {},
    /// tanh x.
    Tanh {},
    /// 1 / (1 + e⁻ˣ).
    Sigmoid {},
    /// eˣ / Σ eˣ over the features of a sample.
    Softmax {},
    /// Each value is dropped with probability `rate` in training, the others scaled by 1 / (1 − rate).
    Dropout {
        /// Probability to drop.
        rate: f64,
    },
    /// Any shape to one axis.
    Flatten {},
    /// Mean 0 and variance 1 over the last axis, then scale and shift.
    LayerNorm {
        /// Added to the variance.
        epsilon: f64,
    },
}

impl LayerConfig {
    /// The tag, as written in TypeScript.
    pub fn kind(&self) -> &'static str {
        match self {
            LayerConfig::Dense { .. } => "dense",
            LayerConfig::Conv2d { .. } => "conv2d",
            LayerConfig::MaxPool2d { .. } => "maxPool2d",
            LayerConfig::AvgPool2d { .. } => "avgPool2d",
            LayerConfig::GlobalAvgPool2d {} => "globalAvgPool2d",
            LayerConfig::BatchNorm { .. } => "batchNorm",
            LayerConfig::GroupNorm { .. } => "groupNorm",
            LayerConfig::Dropout2d { .. } => "dropout2d",
            LayerConfig::Residual { .. } => "residual",
            LayerConfig::Relu {} => "relu",
            LayerConfig::LeakyRelu { .. } => "leakyRelu",
            LayerConfig::Gelu {} => "gelu",
            LayerConfig::Tanh {} => "tanh",
            LayerConfig::Sigmoid {} => "sigmoid",
            LayerConfig::Softmax {} => "softmax",
            LayerConfig::Dropout { .. } => "dropout",
            LayerConfig::Flatten {} => "flatten",
            LayerConfig::LayerNorm { .. } => "layerNorm",
        }
    }
}

/// How a parameter starts. `fan` is the number of inputs of one output (in) or of outputs of one input (out).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Init {
    /// Normal, variance 2 / fan-in (He et al. 2015).
    HeNormal,
    /// Uniform, variance 2 / fan-in.
    HeUniform,
    /// Normal, variance 2 / (fan-in + fan-out) (Glorot and Bengio 2010).
    GlorotNormal,
    /// Uniform, variance 2 / (fan-in + fan-out).
    GlorotUniform,
    /// Normal, variance 1 / fan-in (LeCun et al. 1998).
    LecunNormal,
    /// Uniform, variance 1 / fan-in.
    LecunUniform,
    /// Uniform between ±1 / √fan-in: what PyTorch's linear layers start with.
    FanInUniform,
    /// All 0.
    Zeros,
    /// All 1.
    Ones,
}

/// What training makes small.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum LossConfig {
    /// Logits against class labels.
    SoftmaxCrossEntropy {
        /// Share of the target spread over all classes.
        label_smoothing: f64,
    },
    /// Outputs against real targets.
    MeanSquaredError {},
    /// Logits against targets in [0, 1].
    BinaryCrossEntropy {
        /// Pulls targets towards ½.
        label_smoothing: f64,
    },
}

/// A training run to attach to a network.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TrainingConfig {
    /// The learning rule, as slots.
    pub rule: RuleConfig,
    /// The optimizer.
    pub optimizer: OptimizerConfig,
    /// How the learning rate changes.
    pub schedule: Schedule,
    /// Passes over the data.
    pub epochs: f64,
    /// Rows of one step.
    pub batch_size: usize,
    /// Seed of the data order, of dropout and of the rule's choices.
    pub seed: u64,
    /// Whether each epoch has an order of its own.
    pub shuffle: bool,
    /// Whether rows that do not fill a batch at the end of an epoch are left out.
    pub drop_last: bool,
    /// Largest norm of the whole gradient; larger ones are scaled down.
    pub clip_norm: Option<f64>,
    /// Whether a checkpoint's run goes on: what the rule decides before a first step has been decided.
    #[serde(default)]
    pub resumed: bool,
    /// Random changes to the images of each step.
    pub augment: Option<Augment>,
    /// In how many parts the gradient of a batch is computed and added up; none for one.
    #[serde(default)]
    pub accumulate: Option<usize>,
    /// For class labels: how much each class counts in the gradient.
    #[serde(default)]
    pub class_weights: Option<Vec<f64>>,
    /// Share of the running average of the parameters that a step leaves; none for no average.
    #[serde(default)]
    pub average_decay: Option<f64>,
    /// For rows that come batch by batch: steps of an epoch. Without it all rows are there.
    #[serde(default)]
    pub steps_per_epoch: Option<u64>,
}

impl TrainingConfig {
    /// Whether rows come batch by batch, with each call to train.
    pub fn streams(&self) -> bool {
        self.steps_per_epoch.is_some()
    }

    /// Parts that a batch is computed in.
    pub fn parts(&self) -> usize {
        self.accumulate.unwrap_or(1)
    }

    /// Rows of the parts of a batch of `rows` rows; the last one may have fewer.
    pub fn part_rows(&self, rows: usize) -> usize {
        rows.div_ceil(self.parts())
    }
}

/// Random changes to images, drawn anew for each sample in each epoch.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Augment {
    /// Rows and columns of zeros around the image that a crop of the image's size is taken from.
    pub crop: usize,
    /// Whether half of the images are mirrored left to right.
    pub flip: bool,
}

/// Optimizers, in the definitions of PyTorch.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum OptimizerConfig {
    /// Stochastic gradient descent.
    Sgd {
        /// Step size.
        learning_rate: f64,
        /// Share of the velocity that is kept.
        momentum: f64,
        /// Whether to look ahead.
        nesterov: bool,
        /// L2 penalty, added to the gradient.
        weight_decay: f64,
    },
    /// Adam.
    Adam {
        /// Step size.
        learning_rate: f64,
        /// Decay of the first moment.
        beta1: f64,
        /// Decay of the second moment.
        beta2: f64,
        /// Added to the root of the second moment.
        epsilon: f64,
        /// L2 penalty, added to the gradient.
        weight_decay: f64,
    },
    /// Adam with decoupled weight decay.
    AdamW {
        /// Step size.
        learning_rate: f64,
        /// Decay of the first moment.
        beta1: f64,
        /// Decay of the second moment.
        beta2: f64,
        /// Added to the root of the second moment.
        epsilon: f64,
        /// Share of each parameter (times the rate) taken off in each step.
        weight_decay: f64,
    },
    /// RMSprop.
    RmsProp {
        /// Step size.
        learning_rate: f64,
        /// Share of the mean square that is kept.
        alpha: f64,
        /// Added to the root of the mean square.
        epsilon: f64,
        /// L2 penalty, added to the gradient.
        weight_decay: f64,
    },
}

impl OptimizerConfig {
    /// Its kind, as users call it.
    pub fn kind(&self) -> &'static str {
        match self {
            OptimizerConfig::Sgd { .. } => "sgd",
            OptimizerConfig::Adam { .. } => "adam",
            OptimizerConfig::AdamW { .. } => "adamW",
            OptimizerConfig::RmsProp { .. } => "rmsProp",
        }
    }
}
