/**
 * Sparse back-propagation: forward pass, input gradient and weight gradient touch only the weights that exist (SparseProp:
 * Nikdan, Pegolotti, Iofinova, Kurtic, Alistarh 2023, arXiv 2302.04852).
 *
 * @module
 */

import { boolean, knownOptions, number, oneOf, seedNumber } from "../config.ts";
import { ConfigError, EngineError } from "../errors.ts";
import { layerNames, splitLayers } from "./layer_names.ts";
import type { Rule } from "./mod.ts";

/** How zeros are shared out between layers; see {@linkcode SparseOptions.distribution}. */
export type SparsityDistribution = "uniform" | "erk";

/** How masks change during a run; see {@linkcode SparseOptions.schedule}. */
export type MaskSchedule = "static" | "gmp" | "rigl" | "set" | "acdc";

/** Which layers get masks, and of how many zeros. */
export interface SparsityOptions {
  /** Share of zeros, from 0 to below 1. Default 0.9. */
  readonly sparsity?: number;
  /**
   * `"uniform"`: every layer gets the same share. `"erk"` (Erdős–Rényi kernel): a layer keeps weights in proportion to the sum of its
   * sizes, so that small layers stay denser; the total is the same. Default `"uniform"`.
   */
  readonly distribution?: SparsityDistribution;
  /**
   * Names of the dense and conv2d layers to make sparse, such as `["0", "2"]`. Default: all but the last one, whose outputs are the
   * network's, and but a conv2d layer that reads the network's input.
   */
  readonly layers?: readonly string[];
  /** A layer whose share of zeros would be below this stays dense; from 0 to below 1. Default 0. */
  readonly minSparsity?: number;
  /** Whether a layer may be left without any weight. Default `false`. */
  readonly allowEmpty?: boolean;
}

/** Options of {@linkcode sparse}. */
export interface SparseOptions extends SparsityOptions {
  /**
   * - `"static"`: random masks at the beginning, which stay.
   * - `"gmp"`: gradual magnitude pruning; every `every` steps the smallest weights go, so that the share of zeros follows a cubic from
   *   `initialSparsity` at `begin` to `sparsity` at `end` (Zhu and Gupta 2017).
   * - `"rigl"`: every `every` steps the smallest weights give way to those with the largest gradients (Evci et al. 2020).
   * - `"set"`: the same, but random ones grow (Mocanu et al. 2018).
   * - `"acdc"`: sparse and dense phases of `every` steps by turns from `begin` on, sparse from `end` on (Peste et al. 2021).
   *
   * Default `"static"`.
   */
  readonly schedule?: MaskSchedule;
  /** When the schedule begins, as a share of the run from 0 to 1. Default 0; with `"acdc"` 0.1. Not with `"static"`. */
  readonly begin?: number;
  /** When it ends, from `begin` to 1. Default 0.75. Not with `"static"`. */
  readonly end?: number;
  /** Steps between two changes. Default 100, at most a tenth of the run; with `"acdc"` a twentieth of the run. Not with `"static"`. */
  readonly every?: number;
  /** Share of a layer's weights that the first exchange replaces, falling to 0 along a cosine. Default 0.3. For `"rigl"` and `"set"`. */
  readonly dropFraction?: number;
  /** Share of zeros that `"gmp"` begins with. Default 0. */
  readonly initialSparsity?: number;
  /**
   * Whether a layer is made sparse only if a step of it was measured to be faster here than a dense one, at its sparsity and batch
   * size; the others stay dense. `Network.describeRule` has the times. Default `false`.
   */
  readonly auto?: boolean;
}

const NAME = "sparse";

/** When a schedule ends where nothing is said. */
const END = 0.75;

const SPARSITY = ["sparsity", "distribution", "layers", "minSparsity", "allowEmpty"] as const;

/** Names of the options, for the command line. */
export const sparseOptions = [
  ...SPARSITY,
  "schedule",
  "begin",
  "end",
  "every",
  "dropFraction",
  "initialSparsity",
  "auto",
] as const satisfies readonly (keyof SparseOptions)[];

/** Options that each schedule reads. */
const OF_SCHEDULE: Readonly<Record<MaskSchedule, readonly (keyof SparseOptions)[]>> = {
  static: [],
  gmp: ["begin", "end", "every", "initialSparsity"],
  rigl: ["begin", "end", "every", "dropFraction"],
  set: ["begin", "end", "every", "dropFraction"],
  acdc: ["begin", "end", "every"],
};

/**
 * Weights with a mask of zeros: what is not there is neither multiplied nor stored, in the forward pass, in the gradients and in the
 * optimizer. Biases and the layers left out stay dense.
 *
 * A random mask scales what it leaves by 1 / √(share that is left), so that outputs keep their variance. The masks belong to the
 * network (`Network.masks`): they outlive the run and are saved with the parameters. A layer that has one
 * already keeps it, or as many of its largest weights as `sparsity` leaves. Grown weights start at 0 with fresh optimizer state.
 *
 * @param options how many zeros, where, and how masks change
 * @returns the rule
 * @throws {ConfigError} where an option cannot be used
 *
 * @example
 * ```ts
 * import { dense, glyphs, Network, relu, sparse, train } from "@leanprop/leanprop";
 * using network = Network.create({ input: [784], layers: [dense(256), relu(), dense(256), relu(), dense(10)] });
 * const rule = sparse({ sparsity: 0.9, schedule: "rigl" });
 * for await (const p of train(network, glyphs({ rows: 2000 }), { epochs: 1, rule })) console.log(p.trainLoss);
 * ```
 */
export function sparse(options: SparseOptions = {}): Rule {
  knownOptions(NAME, options, sparseOptions);
  const choice = sparsityChoice(NAME, { sparsity: 0.9, ...options });
  const kind = oneOf("sparse.schedule", options.schedule ?? "static", Object.keys(OF_SCHEDULE) as MaskSchedule[]);
  const read = OF_SCHEDULE[kind];
  for (const name of ["begin", "end", "every", "dropFraction", "initialSparsity"] as const) {
    if (options[name] === undefined || read.includes(name)) continue;
    const schedules = Object.entries(OF_SCHEDULE).filter(([, names]) => names.includes(name)).map(([schedule]) =>
      schedule
    );
    throw new ConfigError(`sparse.${name}`, `the schedule ${schedules.join(" or ")} beside it`, kind);
  }
  const begin = number("sparse.begin", options.begin ?? (kind === "acdc" ? 0.1 : 0), { min: 0, max: 1 });
  if (options.end === undefined && begin > END) {
    throw new ConfigError(
      "sparse.end",
      `a number from ${begin} (where the schedule begins) to 1`,
      `none, which is ${END}`,
    );
  }
  const end = number("sparse.end", options.end ?? END, { min: begin, max: 1 });
  const values = {
    begin,
    end,
    every: options.every === undefined ? null : number("sparse.every", options.every, { min: 1, whole: true }),
    dropFraction: number("sparse.dropFraction", options.dropFraction ?? 0.3, { above: 0, below: 1 }),
    initialSparsity: number("sparse.initialSparsity", options.initialSparsity ?? 0, { min: 0, max: choice.sparsity }),
  };
  const schedule = {
    kind,
    ...Object.fromEntries(Object.entries(values).filter(([name]) => read.includes(name as never))),
  };
  const auto = boolean("sparse.auto", options.auto ?? false);
  return { name: NAME, slots: { weights: { kind: "sparse", choice, schedule, auto } } };
}

/** The rule from options of the command line, where layers are words with commas between. @throws {ConfigError} as {@linkcode sparse} */
export function sparseFromOptions(options: Record<string, unknown>): Rule {
  return sparse(splitLayers(options) as unknown as SparseOptions);
}

/** Which layers and how many zeros, as the engine reads it. */
export interface SparsityChoice {
  /** Share of zeros. */
  readonly sparsity: number;
  /** How they are shared out. */
  readonly distribution: SparsityDistribution;
  /** Names of layers, or `null`. */
  readonly layers: readonly string[] | null;
  /** Layers below stay dense. */
  readonly minSparsity: number;
  /** Whether layers may be empty. */
  readonly allowEmpty: boolean;
}

function sparsityChoice(path: string, options: SparsityOptions): SparsityChoice {
  return {
    sparsity: number(`${path}.sparsity`, options.sparsity, { min: 0, below: 1 }),
    distribution: oneOf(`${path}.distribution`, options.distribution ?? "uniform", ["uniform", "erk"] as const),
    layers: layerNames(`${path}.layers`, options.layers),
    minSparsity: number(`${path}.minSparsity`, options.minSparsity ?? 0, { min: 0, below: 1 }),
    allowEmpty: boolean(`${path}.allowEmpty`, options.allowEmpty ?? false),
  };
}

/** Options of `Network.sparsify`. */
export interface SparsifyOptions extends Omit<SparsityOptions, "sparsity"> {
  /** Share of zeros, from 0 to below 1; needed unless `by` is `"zeros"`. */
  readonly sparsity?: number;
  /** Which weights stay: those of the largest `"magnitude"`, `"random"` ones, or all that are not 0 (`"zeros"`). Default `"magnitude"`. */
  readonly by?: "magnitude" | "random" | "zeros";
  /** Seed of random masks. Default 0. */
  readonly seed?: number;
}

/** What the engine needs for `Network.sparsify`. @throws {ConfigError} where an option cannot be used */
export function sparsifyRequest(
  options: SparsifyOptions,
): { readonly choice: SparsityChoice; readonly by: string; readonly seed: number } {
  knownOptions("sparsify", options, [...SPARSITY, "by", "seed"]);
  const by = oneOf("sparsify.by", options.by ?? "magnitude", ["magnitude", "random", "zeros"] as const);
  for (const name of ["sparsity", "distribution"] as const) {
    if (by !== "zeros" || options[name] === undefined) continue;
    throw new ConfigError(`sparsify.${name}`, "nothing beside by: zeros, where the weights say it", options[name]);
  }
  const sparsity = by === "zeros" ? 0 : options.sparsity;
  const choice = sparsityChoice("sparsify", { ...options, sparsity: sparsity as number });
  return { choice, by, seed: seedNumber("sparsify.seed", options.seed ?? 0) };
}

/** Throws a refusal of the engine, which knows the options as those of a rule, with the names that `Network.sparsify` has for them. */
export function ownPaths(fault: unknown): never {
  if (!(fault instanceof EngineError)) throw fault;
  throw new EngineError(fault.code, fault.message.replace(/^Cannot use rule\./, "Cannot use sparsify."), {
    cause: fault,
  });
}
