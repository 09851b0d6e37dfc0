/**
 * Mem-AOP-GD: weight gradients from the largest outer products, with a memory of the others (Hernandez, Rini, Duman 2021,
 * "Speeding-Up Back-Propagation in DNN: Approximate Outer Product with Memory", arXiv 2110.09164).
 *
 * @module
 */

import { boolean, knownOptions, number, oneOf } from "../config.ts";
import { ConfigError } from "../errors.ts";
import type { Rule } from "./mod.ts";

/** How rows are chosen; see {@linkcode MemAopOptions.policy}. */
export type RowPolicy = "topK" | "weightedK" | "randK" | "crs" | "wta";

/** All policies, in the order of their numbers in the engine. */
export const ROW_POLICIES: readonly RowPolicy[] = ["topK", "weightedK", "randK", "crs", "wta"];

/** Whether a policy weighs the rows that it chooses, so that its sums are right on average: then nothing is left for a memory. */
export function weighsRows(policy: RowPolicy | undefined): boolean {
  return policy === "crs" || policy === "wta";
}

/** Options of {@linkcode memAop}. */
export interface MemAopOptions {
  /**
   * Rows to keep of each batch, from 1 to the batch size. Convolutions keep the same share of their patches. Default: a quarter
   * of the batch, but at least 8 rows.
   */
  readonly k?: number;
  /** Instead of `k`: the share of rows to keep, above 0 and up to 1. */
  readonly fraction?: number;
  /**
   * How rows are chosen by the norms of their outer products.
   *
   * - `"topK"`: the largest.
   * - `"weightedK"`: k different ones, drawn with probabilities that follow the squared norms.
   * - `"randK"`: k different ones, all equally likely.
   * - `"crs"`: k draws with replacement that follow the norms, weighted so that the sum is right on average (column-row sampling;
   *   Drineas, Kannan, Mahoney 2006; Adelman et al. 2021).
   * - `"wta"`: the largest for sure and draws from the others, weighted likewise (WTA-CRS; Liu et al. 2023).
   *
   * Default `"topK"` with memory, `"wta"` without.
   */
  readonly policy?: RowPolicy;
  /**
   * Whether rows that are not chosen are added to those that come to the same place of the next batch. Default `true`, but `false`
   * with the policies crs and wta, which need none, and with scope `"batch"`, which cannot have one.
   */
  readonly memory?: boolean;
  /** Share of the memory's products that is left after a step, from 0 to 1. Default 1. */
  readonly decay?: number;
  /**
   * Whether the part of the product that the mean inputs make is exact: only what differs from them is approximated. Default `true`,
   * but `false` with scope `"batch"`. (The paper has no such term; without it the memory inflates steps along the mean inputs.)
   */
  readonly center?: boolean;
  /**
   * `"layer"`: each layer chooses rows by its own inputs and gradients; only weight gradients become cheaper. `"batch"`: rows are
   * chosen once, by the gradients of the network's outputs, and the whole backward pass runs on them. Default `"layer"`.
   */
  readonly scope?: "layer" | "batch";
  /**
   * What convolutions keep: `"patches"` without memory (by `"wta"` where the rule has a memory elsewhere), whole `"images"` with
   * memory like dense layers, or everything (`"exact"`). Default `"patches"`.
   */
  readonly convolution?: "patches" | "images" | "exact";
  /**
   * Smallest layer that takes part, as inputs · outputs / (inputs + outputs) of a row. Default: where it was measured to save time.
   */
  readonly minSize?: number;
  /** Whether the network's last dense or convolutional layer keeps all rows. Default `true`. */
  readonly exactOutput?: boolean;
  /** Whether each step also computes the exact product and reports the cosine between the two; for studies. Default `false`. */
  readonly cosine?: boolean;
  /** Whether combinations that are known to diverge (randK with memory under an optimizer with moments) are let through. */
  readonly force?: boolean;
}

/** Options of {@linkcode memAop.paper}. */
export interface MemAopPaperOptions {
  /** Rows to keep of each batch. Default: a quarter, but at least 8. */
  readonly k?: number;
  /** How rows are chosen; one of the paper's three. Default `"topK"`. */
  readonly policy?: "topK" | "weightedK" | "randK";
  /** Whether rows that are not chosen stay in the memory. Default `true`. */
  readonly memory?: boolean;
}

/** {@linkcode memAop} and its preset. */
export interface MemAop {
  /**
   * Approximate weight gradients: of the outer products of a layer's inputs and gradients, one for each row of the batch, only k
   * are summed. Bias gradients stay exact. The memory is part of a run's state and is saved with it.
   *
   * With gradient descent without momentum the memory holds inputs and gradients times √rate, as in the paper; with other
   * optimizers no rate is in it, and the optimizer gets the sum as its gradient. The memory counts what waited n steps about n²
   * times: with it, start from about a third of the usual learning rate unless `center` is on.
   *
   * `Network.describeRule` says what each layer does, and about the last step the share of all norms that was kept, the norms of
   * the memory and (with `cosine`) how close the sum was.
   *
   * @param options how many rows, which, with or without memory
   * @returns the rule
   * @throws {ConfigError} where an option cannot be used
   *
   * @example
   * ```ts
   * import { dense, glyphs, memAop, Network, relu, sgd, train } from "@leanprop/leanprop";
   * using network = Network.create({ input: [784], layers: [dense(256), relu(), dense(256), relu(), dense(10)] });
   * const options = { epochs: 1, optimizer: sgd(0.1), rule: memAop({ fraction: 0.25 }) };
   * for await (const p of train(network, glyphs({ rows: 2000 }), options)) console.log(p.trainLoss);
   * ```
   */
  (options?: MemAopOptions): Rule;
  /**
   * Exactly the published rule: no mean term, every layer takes part, rows of the memory belong to places in the batch, and a batch
   * that is not full is left out. Use it with `sgd` without momentum.
   *
   * @param options k, policy, memory
   * @returns the rule
   * @throws {ConfigError} where an option cannot be used
   */
  paper(options?: MemAopPaperOptions): Rule;
}

/** Names of the options, for the command line; `paper` stands for the preset. */
export const memAopOptions = [
  "k",
  "fraction",
  "policy",
  "memory",
  "decay",
  "center",
  "scope",
  "convolution",
  "minSize",
  "exactOutput",
  "cosine",
  "force",
] as const satisfies readonly (keyof MemAopOptions)[];

const NAME = "mem-aop";

function create(options: MemAopOptions = {}): Rule {
  knownOptions("memAop", options, memAopOptions);
  const { k, fraction } = options;
  if (k !== undefined && fraction !== undefined) {
    throw new ConfigError("memAop.fraction", "k or fraction, not both", fraction);
  }
  const scope = oneOf("memAop.scope", options.scope ?? "layer", ["layer", "batch"] as const);
  const layer = scope === "layer";
  const given = options.policy === undefined ? undefined : oneOf("memAop.policy", options.policy, ROW_POLICIES);
  const weighs = weighsRows(given);
  const memory = boolean("memAop.memory", options.memory ?? (layer && !weighs));
  const center = boolean("memAop.center", options.center ?? layer);
  if (memory && weighs) {
    throw new ConfigError("memAop.memory", `false with the policy ${given}, whose sums are right on average`, true);
  }
  for (const [name, value] of Object.entries({ memory, center })) {
    if (layer || !value) continue;
    throw new ConfigError(`memAop.${name}`, "false with scope batch, where other rows have no gradients", true);
  }
  for (const name of ["convolution", "minSize", "exactOutput", "cosine"] as const) {
    if (layer || options[name] === undefined) continue;
    throw new ConfigError(`memAop.${name}`, "no value with scope batch, where no layer chooses", options[name]);
  }
  if (!memory && options.decay !== undefined) {
    const expected = weighs ? `no value with the policy ${given}, which has no memory` : "memory: true beside it";
    throw new ConfigError("memAop.decay", expected, options.decay);
  }
  return rule({
    k: k === undefined ? null : number("memAop.k", k, { min: 1, whole: true }),
    fraction: fraction === undefined ? null : number("memAop.fraction", fraction, { above: 0, max: 1 }),
    policy: given ?? (memory ? "topK" : "wta"),
    memory,
    decay: number("memAop.decay", options.decay ?? 1, { min: 0, max: 1 }),
    center,
    scope,
    convolution: oneOf("memAop.convolution", options.convolution ?? "patches", ["patches", "images", "exact"] as const),
    minSize: options.minSize === undefined ? null : number("memAop.minSize", options.minSize, { min: 0 }),
    exactOutput: boolean("memAop.exactOutput", options.exactOutput ?? true),
    wholeBatches: false,
    cosine: boolean("memAop.cosine", options.cosine ?? false),
    force: boolean("memAop.force", options.force ?? false),
  });
}

function paper(options: MemAopPaperOptions = {}): Rule {
  knownOptions("memAop.paper", options, ["k", "policy", "memory"]);
  const { k } = options;
  return rule({
    k: k === undefined ? null : number("memAop.paper.k", k, { min: 1, whole: true }),
    fraction: null,
    policy: oneOf("memAop.paper.policy", options.policy ?? "topK", ["topK", "weightedK", "randK"] as const),
    memory: boolean("memAop.paper.memory", options.memory ?? true),
    decay: 1,
    center: false,
    scope: "layer",
    convolution: "images",
    minSize: 0,
    exactOutput: false,
    wholeBatches: true,
    cosine: false,
    force: false,
  });
}

function rule(choice: Record<string, unknown>): Rule {
  return { name: NAME, slots: { products: { kind: "memAop", ...choice } } };
}

/** Approximate outer products with residual memory; see {@linkcode MemAop}. */
export const memAop: MemAop = Object.assign(create, { paper });

/** The rule from options of the command line, where `paper` is one of them. @throws {ConfigError} as {@linkcode memAop} */
export function memAopFromOptions({ paper: preset = false, ...options }: Record<string, unknown>): Rule {
  return boolean("mem-aop.paper", preset) ? paper(options as MemAopPaperOptions) : create(options as MemAopOptions);
}
