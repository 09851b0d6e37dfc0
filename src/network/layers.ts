/**
 * Layers: what a network is made of. Each function describes one; nothing is computed here.
 *
 * @module
 */

import { boolean, knownOptions, number, oneOf } from "../config.ts";
import { ConfigError } from "../errors.ts";
import {
  avgPool2d,
  conv2d,
  type Conv2dLayer,
  type Conv2dOptions,
  dropout2d,
  type Dropout2dLayer,
  globalAvgPool2d,
  type GlobalAvgPool2dLayer,
  maxPool2d,
  type Pair,
  type PoolLayer,
  type PoolOptions,
} from "./image_layers.ts";
import { checkInit, type Init, type ParameterArray } from "./init.ts";
import {
  batchNorm,
  type BatchNormLayer,
  type BatchNormOptions,
  groupNorm,
  type GroupNormLayer,
  layerNorm,
  type LayerNormLayer,
} from "./norm_layers.ts";

export * from "./image_layers.ts";
export * from "./norm_layers.ts";
export type { Init, ParameterArray } from "./init.ts";

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

/** body(x) + shortcut(x). */
export interface ResidualLayer {
  /** The kind of layer. */
  readonly kind: "residual";
  /** The layers of the body. */
  readonly body: readonly Layer[];
  /** The layers of the shortcut; none for x itself. */
  readonly shortcut: readonly Layer[];
}

/** Any layer. */
export type Layer =
  | DenseLayer
  | PlainLayer
  | LeakyReluLayer
  | DropoutLayer
  | LayerNormLayer
  | BatchNormLayer
  | GroupNormLayer
  | Conv2dLayer
  | PoolLayer
  | GlobalAvgPool2dLayer
  | Dropout2dLayer
  | ResidualLayer;

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
    weightInit: checkInit("dense.weightInit", options.weightInit ?? "heNormal"),
    biasInit: checkInit("dense.biasInit", options.biasInit ?? "zeros"),
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
 * Two branches whose results are added (He et al. 2016): body(x) + shortcut(x), which must have the same shape. Parameters are
 * named after their place, such as `3.body.0.weight`.
 *
 * @param body layers of the one branch
 * @param shortcut layers of the other; none, the default, for x itself
 * @returns the layer
 */
export function residual(body: readonly Layer[], shortcut: readonly Layer[] = []): ResidualLayer {
  for (const [name, layers] of Object.entries({ body, shortcut })) {
    if (!Array.isArray(layers)) throw new ConfigError(`residual.${name}`, "a list of layers", layers);
  }
  return { kind: "residual", body, shortcut };
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
  batchNorm: ["epsilon", "momentum"],
  groupNorm: ["groups", "epsilon"],
  conv2d: ["filters", "kernel", "stride", "padding", "groups", "bias", "weightInit", "biasInit"],
  maxPool2d: ["kernel", "stride", "padding"],
  avgPool2d: ["kernel", "stride", "padding"],
  globalAvgPool2d: [],
  dropout2d: ["rate"],
  residual: ["body", "shortcut"],
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
  const { kind: _, units, filters, slope, rate, kernel, groups, body, shortcut, ...rest } = given;
  switch (kind) {
    case "dense":
      return dense(units as number, rest as DenseOptions);
    case "conv2d":
      return conv2d(filters as number, withDefined({ ...rest, kernel, groups }) as Conv2dOptions);
    case "maxPool2d":
      return maxPool2d(kernel as Pair | undefined, rest as PoolOptions);
    case "avgPool2d":
      return avgPool2d(kernel as Pair | undefined, rest as PoolOptions);
    case "globalAvgPool2d":
      return globalAvgPool2d();
    case "leakyRelu":
      return leakyRelu(slope as number | undefined);
    case "dropout":
      return dropout(rate as number);
    case "dropout2d":
      return dropout2d(rate as number);
    case "layerNorm":
      return layerNorm(rest as { epsilon?: number });
    case "batchNorm":
      return batchNorm(rest as BatchNormOptions);
    case "groupNorm":
      return groupNorm(groups as number, rest as { epsilon?: number });
    case "residual":
      return residual(branch(body, `${path}.body`), branch(shortcut ?? [], `${path}.shortcut`));
    case "relu":
    case "gelu":
    case "tanh":
    case "sigmoid":
    case "softmax":
    case "flatten":
      return { kind };
  }
}

/** Checks the layers of a branch. */
function branch(layers: unknown, path: string): Layer[] {
  if (!Array.isArray(layers)) throw new ConfigError(path, "a list of layers", layers);
  return layers.map((layer, index) => checkLayer(layer, `${path}[${index}]`));
}

/** Options without those that were not given. */
function withDefined(options: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
}
