/**
 * Decorrelated back-propagation: each layer sees its inputs through a matrix of its own that takes their correlations away (Dalm,
 * Offergeld, Ahmad, van Gerven 2024, "Efficient deep learning with decorrelated backpropagation", arXiv 2405.02385).
 *
 * @module
 */

import { boolean, knownOptions, number, oneOf } from "../config.ts";
import { ConfigError } from "../errors.ts";
import { layerNames, splitLayers } from "./layer_names.ts";
import type { Rule } from "./mod.ts";

/** How R is found; see {@linkcode DecorrelatedOptions.form}. */
export type DecorrelationForm = "local" | "driftFree" | "newtonSchulz" | "cholesky";

/** What becomes of a layer that reads the network's input; see {@linkcode DecorrelatedOptions.first}. */
export type FirstLayer = "learn" | "precompute" | "axes" | "center" | "raw";

/** Options of {@linkcode decorrelated}. */
export interface DecorrelatedOptions {
  /**
   * Step size η of the local rule, from 0; the schedule of learning rates applies to it too. Refused beside the forms
   * `"newtonSchulz"` and `"cholesky"`, which have no step size. Default 0.001.
   */
  readonly rate?: number;
  /**
   * Weight κ of variances against correlations in the local rule, from 0 (correlations alone) to 1 (variances alone). Refused like
   * `rate`. Default: 0.5 in dense layers, 0.1 in convolutions.
   */
  readonly kappa?: number;
  /**
   * Rows of a batch (patches of a convolution) that R learns from in a step, drawn without replacement: a whole number, or below 1
   * their share. Default: max(64, 2 · inputs of a block).
   */
  readonly rows?: number;
  /** Steps from one change of R to the next. Default: 1 in networks with convolutions, whose work outweighs it, 4 in others. */
  readonly every?: number;
  /**
   * Whether inputs are centred by their running means, which like R the gradient takes as given. Default: in layers with a bias, which
   * takes the means up in the end; `true` is refused where a layer has none.
   */
  readonly center?: boolean;
  /**
   * The most that η times the bound B + 2 max(κ, 1 − κ) Λ may be, below 2, where B is at least the largest eigenvalue of the step's
   * matrix (1 − κ) (C − diag C) + κ diag v and Λ at least that of C; longer steps of R are shortened to that. Up to 1.4 a step
   * cannot raise the loss of decorrelation of the rows that it was made from, as long as no variance is above 11 and no row of R at its
   * cap of 20. `false` for steps as they are. Refused like `rate`.
   * Default 0.5.
   */
  readonly autoStep?: number | false;
  /**
   * How R is used and found.
   *
   * - `"local"`: layers see R x, and R moves by the published local rule.
   * - `"driftFree"`: layers see x and train plain weights A, so that a change of R does not change the function; the gradient of A is
   *   multiplied by Rᵀ R, which is what the weights behind an R that stands still would do. R moves by the local rule.
   * - `"newtonSchulz"`: layers see R x, and R takes a Newton–Schulz step towards (Σ + ε)^(−1/2) for an average Σ of the covariances
   *   of x: the local rule with κ = ½ and η = 1 (shorter while R is far), but for Σ instead of a batch.
   * - `"cholesky"`: layers see R x, and R is the inverse of the lower Cholesky factor of Σ + ε.
   *
   * In the last two the weights and the bias take up every change of R and μ, so that the function stays as it is.
   *
   * Default `"local"`.
   */
  readonly form?: DecorrelationForm;
  /**
   * Inputs that one block of a block-diagonal R takes together. Default: all up to 512 inputs, above that 256; in a convolution all up
   * to 256, above that 128.
   */
  readonly block?: number;
  /** Names of the layers that take part, such as `["0", "2"]`. Default: all dense layers and conv2d layers with one group. */
  readonly layers?: readonly string[];
  /**
   * What becomes of layers that read the network's input: they `"learn"` R like the others; or R is found before the run from up to
   * 8,192 training rows and stays, so that it costs nothing in a step (a dense layer is then given rows that have passed R, for which
   * all training rows are stored once more): it whitens them but for a ridge (`"precompute"`), or turns them into their principal
   * `"axes"`; or they have no R, but `"center"` their inputs (where there is a bias) or are left `"raw"`. Default `"learn"`.
   */
  readonly first?: FirstLayer;
  /**
   * For `first: "axes"`, refused beside others: each principal axis is stretched by this power of its variance, from 0 (principal
   * components as they are) to 1; the sum of variances stays. An optimizer such as Adam takes steps of one length along all axes,
   * and the more variance is stretched, the more slowly those that hardly vary and mean little are learned. Default 0.375.
   */
  readonly power?: number;
  /**
   * ε in Σ + ε I, above 0, as a share of the mean variance in a block: no direction is blown up by more than
   * 1 / √(ridge · mean variance). For the forms `"newtonSchulz"` and `"cholesky"` and for `first: "precompute"`; refused where none of
   * them is chosen. Default: 10 in dense layers that read the network's input, much of which hardly varies and means little, 0.1 in
   * all others.
   */
  readonly ridge?: number;
}

/** {@linkcode decorrelated} and its preset. */
export interface Decorrelated {
  /**
   * Decorrelated inputs: a layer computes y = f(W z + b) with z = R (x − μ). R starts as the identity and, after each step, moves
   * against the correlations that z had in it and towards variance 1; gradients take R and μ as given. Weights then see inputs whose
   * directions are alike, and need fewer steps.
   *
   * When a run ends, R and μ are folded into plain weights and biases, so that the network computes the same without them;
   * `Network.fold` gives such a network in the middle of a run. The state of a run is saved with it. `Network.describeRule` has the
   * figures of each layer, `Network.inputStatistics` measures how correlated inputs are.
   *
   * @param options rate, κ, rows and so on
   * @returns the rule
   * @throws {ConfigError} where an option cannot be used
   *
   * @example
   * ```ts
   * import { adam, decorrelated, dense, glyphs, Network, relu, train } from "@leanprop/leanprop";
   * using network = Network.create({ input: [784], layers: [dense(64), relu(), dense(64), relu(), dense(10)] });
   * const options = { epochs: 1, optimizer: adam(2e-3), rule: decorrelated() };
   * for await (const p of train(network, glyphs({ rows: 2000 }), options)) console.log(p.trainLoss);
   * ```
   */
  (options?: DecorrelatedOptions): Rule;
  /**
   * The published settings: η = 1e-4, κ = 0.01, a tenth of the rows, no centring, no limit on the step, one block in every layer. Use it
   * with `adam`.
   *
   * @returns the rule
   */
  paper(): Rule;
}

/** Names of the options, for the command line; `paper` stands for the preset. */
export const decorrelatedOptions = [
  "rate",
  "kappa",
  "rows",
  "every",
  "center",
  "autoStep",
  "form",
  "block",
  "layers",
  "first",
  "power",
  "ridge",
] as const satisfies readonly (keyof DecorrelatedOptions)[];

const NAME = "decorrelated";

/** Larger than any layer: one block. */
const WHOLE = 2 ** 24;

/** Forms that follow an averaged covariance. */
const AVERAGED: readonly DecorrelationForm[] = ["newtonSchulz", "cholesky"];

function create(options: DecorrelatedOptions = {}): Rule {
  knownOptions("decorrelated", options, decorrelatedOptions);
  const forms = ["local", "driftFree", ...AVERAGED] as const;
  const form = oneOf("decorrelated.form", options.form ?? "local", forms);
  const first = oneOf(
    "decorrelated.first",
    options.first ?? "learn",
    ["learn", "precompute", "axes", "center", "raw"] as const,
  );
  const averaged = AVERAGED.includes(form);
  for (const name of averaged ? ["rate", "kappa", "autoStep"] as const : []) {
    if (options[name] === undefined) continue;
    throw new ConfigError(`decorrelated.${name}`, "the form local or driftFree beside it", form);
  }
  if (options.ridge !== undefined && !averaged && first !== "precompute") {
    const expected = "the form newtonSchulz or cholesky, or precompute as `first`, beside it";
    throw new ConfigError("decorrelated.ridge", expected, `${form} and ${first}`);
  }
  if (options.power !== undefined && first !== "axes") {
    throw new ConfigError("decorrelated.power", "axes as `first` beside it", first);
  }
  const optional = (name: "kappa" | "every" | "block" | "power" | "ridge", limits: Parameters<typeof number>[2]) =>
    options[name] === undefined ? null : number(`decorrelated.${name}`, options[name], limits);
  const { rows, autoStep = 0.5 } = options;
  return rule({
    rate: averaged ? null : number("decorrelated.rate", options.rate ?? 0.001, { min: 0 }),
    kappa: optional("kappa", { min: 0, max: 1 }),
    rows: rows === undefined ? null : number("decorrelated.rows", rows, { above: 0, whole: !(rows < 1) }),
    every: optional("every", { min: 1, whole: true }),
    center: options.center === undefined ? null : boolean("decorrelated.center", options.center),
    autoStep: averaged || autoStep === false ? null : number("decorrelated.autoStep", autoStep, { above: 0, below: 2 }),
    form,
    block: optional("block", { min: 1, whole: true }),
    layers: layerNames("decorrelated.layers", options.layers),
    first,
    ridge: optional("ridge", { above: 0 }),
    power: optional("power", { min: 0, max: 1 }),
  });
}

function paper(): Rule {
  return rule({
    rate: 1e-4,
    kappa: 0.01,
    rows: 0.1,
    every: 1,
    center: false,
    autoStep: null,
    form: "local",
    block: WHOLE,
    layers: null,
    first: "learn",
    ridge: null,
    power: null,
  });
}

function rule(options: Record<string, unknown>): Rule {
  return { name: NAME, slots: { inputs: { kind: "decorrelated", ...options } } };
}

/** Decorrelated back-propagation; see {@linkcode Decorrelated}. */
export const decorrelated: Decorrelated = Object.assign(create, { paper });

/** The rule from options of the command line, where `paper` is one of them. @throws {ConfigError} as {@linkcode decorrelated} */
export function decorrelatedFromOptions({ paper: preset = false, ...options }: Record<string, unknown>): Rule {
  if (!boolean("decorrelated.paper", preset)) return create(splitLayers(options));
  knownOptions("decorrelated.paper", options, []);
  return paper();
}
