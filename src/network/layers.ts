/**
 * Layers: what a network is made of. Each function describes one; nothing is computed here.
 *
 * @module
 */

import { boolean, knownOptions, number, oneOf } from "../config.ts";
import { ConfigError } from "../errors.ts";

/** Element arrays of parameters. */
export type ParameterArray = Float32Array<ArrayBuffer> | Float64Array<ArrayBuffer>;

/** How a parameter can start. */
const INITS = [
  "heNormal",
  "heUniform",
  "glorotNormal",
  "glorotUniform",
  "lecunNormal",
  "lecunUniform",
  "fanInUniform",
  "zeros",
  "ones",
] as const satisfies readonly Init[];

/**
 * How a parameter starts: `he*` has variance 2 / inputs (He et al. 2015), `glorot*` 2 / (inputs + outputs) (Glorot and Bengio
 * 2010), `lecun*` 1 / inputs (LeCun et al. 1998); `fanInUniform` is uniform between ±1 / √inputs, as PyTorch's linear layers.
 */
export type Init =
  | "heNormal"
  | "heUniform"
  | "glorotNormal"
  | "glorotUniform"
  | "lecunNormal"
  | "lecunUniform"
  | "fanInUniform"
  | "zeros"
  | "ones";

/** Options of {@linkcode dense}. */
export interface DenseOptions {
  /** Whether a bias is added. Default `true`. */
  readonly bias?: boolean;
  /** Initial weights: a rule, or units × inputs numbers, row after row. Default `"heNormal"`. */
  readonly weightInit?: Init | ParameterArray;
  /** Initial bias: a rule, or one number a unit. Default `"zeros"`. */
  readonly biasInit?: Init | ParameterArray;
}

/** y = x · Wᵀ + b. Parameters: `weight` (units × inputs), `bias` (units). */
export interface DenseLayer {
  /** The kind of layer. */
  readonly kind: "dense";
  /** Number of outputs. */
  readonly units: number;
  /** Whether a bias is added. */
  readonly bias: boolean;
  /** Initial weights. */
  readonly weightInit: Init | ParameterArray;
  /** Initial bias. */
  readonly biasInit: Init | ParameterArray;
}

/** A layer without options. */
export interface PlainLayer {
  /** The kind of layer. */
  readonly kind: "relu" | "gelu" | "tanh" | "sigmoid" | "softmax" | "flatten";
}

/** x for x > 0, slope · x otherwise. */
export interface LeakyReluLayer {
  /** The kind of layer. */
  readonly kind: "leakyRelu";
  /** Factor below 0. */
  readonly slope: number;
}

/** Drops values in training. */
export interface DropoutLayer {
  /** The kind of layer. */
  readonly kind: "dropout";
  /** Probability to drop. */
  readonly rate: number;
}

/** Mean 0 and variance 1 over the last axis. Parameters: `weight`, `bias` (length of that axis). */
export interface LayerNormLayer {
  /** The kind of layer. */
  readonly kind: "layerNorm";
  /** Added to the variance. */
  readonly epsilon: number;
}

/** Any layer. */
export type Layer = DenseLayer | PlainLayer | LeakyReluLayer | DropoutLayer | LayerNormLayer;

/**
 * A fully connected layer: y = x · Wᵀ + b over inputs with one axis.
 *
 * @param units number of outputs, from 1
 * @param options bias and initial values
 * @returns the layer
 * @throws {ConfigError} where an option cannot be used
 */
export function dense(units: number, options: DenseOptions = {}): DenseLayer {
  knownOptions("dense", options, ["bias", "weightInit", "biasInit"]);
  return {
    kind: "dense",
    units: number("dense.units", units, { min: 1, whole: true }),
    bias: boolean("dense.bias", options.bias ?? true),
    weightInit: init("dense.weightInit", options.weightInit ?? "heNormal"),
    biasInit: init("dense.biasInit", options.biasInit ?? "zeros"),
  };
}

/** max(x, 0); its derivative at 0 is 0. */
export function relu(): PlainLayer {
  return { kind: "relu" };
}

/**
 * x for x > 0, slope · x otherwise.
 *
 * @param slope factor below 0, above 0 itself; default 0.01
 * @returns the layer
 */
export function leakyRelu(slope = 0.01): LeakyReluLayer {
  return { kind: "leakyRelu", slope: number("leakyRelu.slope", slope, { above: 0 }) };
}

/** x · Φ(x) with the normal distribution function Φ (Hendrycks and Gimpel 2016), by the error function. */
export function gelu(): PlainLayer {
  return { kind: "gelu" };
}

/** Hyperbolic tangent. */
export function tanh(): PlainLayer {
  return { kind: "tanh" };
}

/** 1 / (1 + e⁻ˣ). */
export function sigmoid(): PlainLayer {
  return { kind: "sigmoid" };
}

/**
 * eˣ / Σ eˣ over the features, as a layer inside the network. Do not end a classifier with it: the loss takes logits, and
 * prediction gives probabilities by itself.
 */
export function softmax(): PlainLayer {
  return { kind: "softmax" };
}

/** Any shape to one axis (row-major: height, width, channels). */
export function flatten(): PlainLayer {
  return { kind: "flatten" };
}

/**
 * Drops each value with a probability in training and scales the others up (Srivastava et al. 2014).
 *
 * @param rate probability to drop, from 0 to below 1
 * @returns the layer
 */
export function dropout(rate: number): DropoutLayer {
  return { kind: "dropout", rate: number("dropout.rate", rate, { min: 0, below: 1 }) };
}

/**
 * Layer normalisation over the last axis (Ba, Kiros, Hinton 2016), with weight and bias.
 *
 * @param options `epsilon`, added to the variance; default 1e-5
 * @returns the layer
 */
export function layerNorm(options: { readonly epsilon?: number } = {}): LayerNormLayer {
  knownOptions("layerNorm", options, ["epsilon"]);
  return { kind: "layerNorm", epsilon: number("layerNorm.epsilon", options.epsilon ?? 1e-5, { above: 0 }) };
}

/** Kinds of layers and their options, for layers that come from JSON. */
const OPTIONS: Record<Layer["kind"], readonly string[]> = {
  dense: ["units", "bias", "weightInit", "biasInit"],
  relu: [],
  leakyRelu: ["slope"],
  gelu: [],
  tanh: [],
  sigmoid: [],
  softmax: [],
  flatten: [],
  dropout: ["rate"],
  layerNorm: ["epsilon"],
};

/**
 * Checks a layer that was written by hand, in JSON or as an object, and fills in its defaults.
 *
 * @param layer the object
 * @param path where it stands, for messages, such as `layers[2]`
 * @returns the layer
 * @throws {ConfigError} naming the place and the nearest known word
 */
export function checkLayer(layer: unknown, path: string): Layer {
  if (typeof layer !== "object" || layer === null) throw new ConfigError(path, "a layer such as dense(10)", layer);
  const given = layer as Record<string, unknown>;
  const kind = oneOf(`${path}.kind`, given.kind, Object.keys(OPTIONS) as Layer["kind"][]);
  knownOptions(path, given, ["kind", ...OPTIONS[kind]]);
  const { kind: _, units, slope, rate, ...rest } = given;
  switch (kind) {
    case "dense":
      return dense(units as number, rest as DenseOptions);
    case "leakyRelu":
      return leakyRelu(slope as number | undefined);
    case "dropout":
      return dropout(rate as number);
    case "layerNorm":
      return layerNorm(rest as { epsilon?: number });
    case "relu":
    case "gelu":
    case "tanh":
    case "sigmoid":
    case "softmax":
    case "flatten":
      return { kind };
  }
}

function init(path: string, value: Init | ParameterArray): Init | ParameterArray {
  if (value instanceof Float32Array || value instanceof Float64Array) return value;
  return oneOf(path, value, INITS);
}
