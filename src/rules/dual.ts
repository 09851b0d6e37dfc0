/**
 * Learning with dual numbers: tangents that travel with the forward pass take the place of the backward pass.
 *
 * A dual number is a value with a direction in which it moves, x + ε ẋ. Sent through the network, it tells how the outputs
 * move when something inside moves, and so what a backward pass would tell, without reading any weight backwards. Lanes of
 * tangents are further rows of the batch through the same matrix products.
 *
 * The seed of this rule is R. Jang, "Learning representations by forward-propagating errors", arXiv 2308.09728 (2023). Its
 * published derivation treats one layer; `mode: "local"` is a reconstruction of it, and no figure of that paper is claimed here.
 * The other modes train networks of any depth: `feedback` after Bacho and Chu (arXiv 2212.07282), `activity` after Ren et al.
 * (arXiv 2210.03310), `weight` after Baydin et al. (arXiv 2202.08587) and Flügel et al. (arXiv 2410.17764).
 *
 * @module
 */

import { boolean, knownOptions, number, oneOf } from "../config.ts";
import { ConfigError } from "../errors.ts";
import type { Rule } from "./mod.ts";

/** What lanes are for; see {@linkcode DualOptions.mode}. */
export type DualMode = "feedback" | "activity" | "exact" | "local" | "weight";

/** Options of {@linkcode dual}. */
export interface DualOptions {
  /**
   * What lanes are for. Default `"feedback"`.
   *
   * | mode | gradient | for |
   * | --- | --- | --- |
   * | `"feedback"` | lanes teach each layer a matrix B that stands for the Jacobian behind it; e · B | training real networks |
   * | `"activity"` | derivatives along orthogonal directions of a layer's outputs; unbiased, noisy | when no bias is allowed |
   * | `"exact"` | one lane for every unit: back-propagation's gradient, at a price | small networks, checking |
   * | `"local"` | the published rule: duals seeded again at every node | one layer with parameters |
   * | `"weight"` | derivatives along directions of all parameters, for up to 100,000 of them | few parameters |
   */
  readonly mode?: DualMode;
  /**
   * Lanes of each layer (`feedback`: default 1; `activity`: 8), lanes sent at a time (`exact`: 16), or directions (`weight`: 1).
   * Each lane costs a forward pass through the layers behind its seed.
   */
  readonly lanes?: number;
  /**
   * Where lanes begin: `"output"`, after the activations, norms and pooling that follow a linear map (default, except in mode
   * `local`); `"preactivation"`, right after the map (default in mode `local`); `"input"`, before it, as published: the
   * derivative is then divided by the sum of each unit's weights, which loses digits where that is small (mode `local` only).
   */
  readonly seedAt?: "output" | "preactivation" | "input";
  /**
   * Whether all layers share their lanes (`feedback`, `activity`). A lane of its own for each layer costs the square of the
   * depth, and memory that grows with it. Feedback matrices that share lanes learn together, which keeps the noise of one out of
   * the others: default `true` for `feedback`. For `activity` sharing adds noise: default `false`.
   */
  readonly shareLanes?: boolean;
  /**
   * Whether the forward pass is computed a second time instead of keeping its values (`feedback`, `activity`): the same
   * updates, at the price of a forward pass. With shared lanes the memory of activations then does not grow with depth. Default
   * `false`.
   */
  readonly twoPass?: boolean;
  /**
   * What decides how far a step goes: the `"optimizer"` (default), or `"hyperdual"`: second-order dual numbers give the exact
   * first and second derivative of the loss along the step, and it goes to the minimum of that parabola (smoothed over steps).
   * Use `sgd(1)` beside it: the optimizer's rate is then a factor without a unit. Refused beside it are other optimizers, momentum
   * and `weightDecay`, `clipNorm`, and `classWeights`: the length is worked out for the gradient of the plain mean loss alone.
   */
  readonly step?: "optimizer" | "hyperdual";
  /** How B learns (`feedback`): normalised least mean squares (default), or an exponential moving average. */
  readonly feedback?: "nlms" | "ema";
  /** Rate of that, above 0: up to 1 for `nlms` (default 0.5), below 1 for `ema` (default 0.05). */
  readonly feedbackRate?: number;
  /** `weight`: the gradient's `"projection"` on orthogonal directions (default), or the unbiased `"mean"` over independent ones. */
  readonly estimate?: "projection" | "mean";
  /** Whether batch normalisation, which biases `feedback` and `activity`, is allowed. Default `false`. */
  readonly allowBias?: boolean;
  /** Whether more than 100,000 parameters are allowed (`weight`). Default `false`. */
  readonly force?: boolean;
  /** Most multiply-adds that the lanes of one step may take (`exact`). Default 1e10. */
  readonly budget?: number;
}

/** Which modes read an option; options not listed here are read by all. */
const READ_BY: Readonly<Record<string, readonly DualMode[]>> = {
  lanes: ["feedback", "activity", "exact", "weight"],
  seedAt: ["feedback", "activity", "exact", "local"],
  shareLanes: ["feedback", "activity"],
  twoPass: ["feedback", "activity"],
  feedback: ["feedback"],
  feedbackRate: ["feedback"],
  estimate: ["weight"],
  allowBias: ["feedback", "activity"],
  force: ["weight"],
  budget: ["exact"],
};

const LANES: Readonly<Record<DualMode, number>> = { feedback: 1, activity: 8, exact: 16, local: 1, weight: 1 };

/** Names of all options. */
export const DUAL_OPTIONS = [
  "mode",
  "lanes",
  "seedAt",
  "shareLanes",
  "twoPass",
  "step",
  "feedback",
  "feedbackRate",
  "estimate",
  "allowBias",
  "force",
  "budget",
] as const satisfies readonly (keyof DualOptions)[];

/**
 * Learning with dual numbers instead of a backward pass: fills the slot `propagation`.
 *
 * @param options mode, lanes and how they are used
 * @returns the rule
 * @throws {ConfigError} where an option cannot be used, or the mode would not read it
 *
 * @example
 * ```ts
 * import { adam, dense, dual, Network, relu, spirals, train } from "@leanprop/leanprop";
 * using network = Network.create({ input: [2], layers: [dense(32), relu(), dense(3)], seed: 1 });
 * for await (const p of train(network, spirals(), { rule: dual(), epochs: 3, optimizer: adam(1e-2) })) {
 *   console.log(p.epoch, p.trainLoss);
 * }
 * ```
 */
export function dual(options: DualOptions = {}): Rule {
  knownOptions("dual", options, DUAL_OPTIONS);
  // Defaults are for what is left out or undefined: null is a value, which the checks refuse.
  const {
    mode = "feedback",
    lanes = LANES[mode],
    seedAt = mode === "local" ? "preactivation" : "output",
    twoPass = false,
    shareLanes = mode === "feedback",
    step = "optimizer",
    feedback = "nlms",
    feedbackRate = feedback === "nlms" ? 0.5 : 0.05,
    estimate = "projection",
    allowBias = false,
    force = false,
    budget = 1e10,
  } = options;
  oneOf("dual.mode", mode, ["feedback", "activity", "exact", "local", "weight"]);
  for (const [name, value] of Object.entries(options)) {
    const modes = READ_BY[name];
    if (value === undefined || modes === undefined || modes.includes(mode)) continue;
    throw new ConfigError(`dual.${name}`, `mode ${modes.join(" or ")} beside it`, `mode ${mode}`);
  }
  oneOf("dual.seedAt", seedAt, ["output", "preactivation", "input"]);
  if ((seedAt === "input" && mode !== "local") || (seedAt === "output" && mode === "local")) {
    const expected = mode === "local"
      ? "preactivation or input in mode local"
      : `output or preactivation in mode ${mode}`;
    throw new ConfigError("dual.seedAt", expected, seedAt);
  }
  return {
    name: "dual",
    slots: {
      propagation: {
        kind: "dual",
        mode,
        lanes: number("dual.lanes", lanes, { min: 1, max: 4096, whole: true }),
        seedAt,
        shareLanes: boolean("dual.shareLanes", shareLanes),
        twoPass: boolean("dual.twoPass", twoPass),
        step: oneOf("dual.step", step, ["optimizer", "hyperdual"]),
        feedback: oneOf("dual.feedback", feedback, ["nlms", "ema"]),
        feedbackRate: number(
          "dual.feedbackRate",
          feedbackRate,
          feedback === "nlms" ? { above: 0, max: 1 } : { above: 0, below: 1 },
        ),
        estimate: oneOf("dual.estimate", estimate, ["projection", "mean"]),
        allowBias: boolean("dual.allowBias", allowBias),
        force: boolean("dual.force", force),
        budget: number("dual.budget", budget, { above: 0 }),
      },
    },
  };
}
