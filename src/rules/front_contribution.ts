/**
 * Front contribution: parts of the network are collapsed before training, and steps never touch them. Outputs, and at the end
 * parameters, equal those of back-propagation to rounding.
 *
 * A reconstruction: of "Front Contribution instead of Back Propagation" (Mishra and Arunkumar 2021, arXiv 2106.05569) only the
 * idea is public, that what the layers in front contribute is worked out before training. What is exact here, what is refused
 * and why stands in `docs/front_contribution.md`.
 *
 * @module
 */

import { boolean, knownOptions, number, oneOf, typeName } from "../config.ts";
import { Gram } from "../data/gram.ts";
import { ConfigError } from "../errors.ts";
import type { Rule } from "./mod.ts";

const COLLAPSES = ["auto", "gram", "linearPair", "final"] as const satisfies readonly Collapse[];

/** What is collapsed; see {@linkcode FrontContributionOptions.collapse}. */
export type Collapse = "auto" | "gram" | "linearPair" | "final";

/** An optimizer for what is collapsed: the result of `sgd()`. */
export interface CollapsedOptimizer {
  /** The kind of optimizer: the updates of others are not linear in the weights. */
  readonly kind: "sgd";
  /** Step size. */
  readonly learningRate: number;
  /** Share of the velocity that is kept. */
  readonly momentum: number;
  /** Whether the step looks ahead. */
  readonly nesterov: boolean;
  /** L2 penalty, added to the gradient. */
  readonly weightDecay: number;
}

/** Options of {@linkcode frontContribution}. */
export interface FrontContributionOptions {
  /**
   * What is collapsed. Default `"auto"`.
   *
   * - `"gram"`: the weights of a dense first layer. The products of the training rows, K = X · Xᵀ, are computed once; steps change
   *   the layer's outputs through K. Pays where there are fewer rows than about twice the number of columns.
   * - `"linearPair"`: every two dense layers in a row without an activation between. Their product and two Gram matrices are kept
   *   instead; the width between them no longer costs anything.
   * - `"final"`: all layers but the last stand still, their outputs are computed once, and only the last layer is trained. This is
   *   back-propagation with frozen hidden layers and not the training of the whole network.
   * - `"auto"`: `"gram"` or `"linearPair"`, whichever is predicted to be faster. Never `"final"`.
   */
  readonly collapse?: Collapse;
  /** Most bytes that K may take. Default 1 GiB. */
  readonly limitBytes?: number;
  /** Collapse also where no gain is predicted. Default `false`: such a run is refused, unless it has a `kernel`. */
  readonly force?: boolean;
  /**
   * Whether the features are the rows of a kernel matrix (see `kernelTable`): the first layer then is trained in the kernel's own
   * feature space, however large that is. Default `false`.
   */
  readonly kernel?: boolean;
  /** Products of rows from `Gram.create`, shared by several runs; the run's data must be its data or a selection of it. */
  readonly gram?: Gram;
  /**
   * Optimizer of what is collapsed, the result of `sgd()`. Default: that of the run. Other layers keep that of the run. Refused
   * beside `"final"`, whose only trained layer has the run's.
   */
  readonly optimizer?: CollapsedOptimizer;
}

/** Names of the options, as on the command line. */
export const frontContributionOptions = ["collapse", "limitBytes", "force", "kernel"] as const;

/**
 * Collapses parts of the network before training; the results are those of back-propagation.
 *
 * Exact for any activation, depth and loss, batches of any size, momentum, Nesterov's too (`"gram"`), weight decay and clipping.
 * Refused, with the nearest setting that works: adaptive optimizers on what is collapsed, dropout on the inputs, a first layer
 * that is not dense, three or more linear layers in a row, more rows than `limitBytes` allows, runs without a predicted gain, and
 * beside it sparse weights, `decorrelated()`, streams, `augment`, `accumulate` and `averageDecay`.
 *
 * @param options what is collapsed, and limits
 * @returns the rule; it fills the slot `propagation`
 * @throws {ConfigError} where an option cannot be used
 *
 * @example
 * ```ts
 * import { dense, frontContribution, Network, relu, sgd, spectra, train } from "@leanprop/leanprop";
 * const data = spectra();
 * using network = Network.create({ input: [5000], layers: [dense(64), relu(), dense(4)], seed: 1 });
 * for await (const p of train(network, data, { rule: frontContribution(), optimizer: sgd(0.01), epochs: 20 })) {
 *   console.log(p.epoch, p.trainLoss);
 * }
 * ```
 */
export function frontContribution(options: FrontContributionOptions = {}): Rule {
  const path = "frontContribution";
  knownOptions(path, options, [...frontContributionOptions, "gram", "optimizer"]);
  const { gram, optimizer } = options;
  const collapse = oneOf(`${path}.collapse`, options.collapse ?? "auto", COLLAPSES);
  const kernel = boolean(`${path}.kernel`, options.kernel ?? false);
  if (kernel && collapse !== "gram" && collapse !== "auto") {
    throw new ConfigError(`${path}.kernel`, 'false beside a collapse other than "gram"', true);
  }
  if (gram !== undefined) {
    if (!(gram instanceof Gram)) throw new ConfigError(`${path}.gram`, "a Gram", typeName(gram));
    if (!gram.live) throw new ConfigError(`${path}.gram`, "a Gram in use", "one that is disposed");
    if (kernel || collapse === "linearPair" || collapse === "final") {
      throw new ConfigError(`${path}.gram`, "none beside kernel, linearPair or final, which do not use one", "one");
    }
  }
  if (optimizer !== undefined && collapse === "final") {
    const expected = "none beside final, whose last layer is trained with the run's optimizer";
    throw new ConfigError(`${path}.optimizer`, expected, "one; give it to the run");
  }
  return {
    name: "front-contribution",
    slots: {
      propagation: {
        kind: "frontContribution",
        collapse: kernel ? "gram" : collapse,
        limitBytes: number(`${path}.limitBytes`, options.limitBytes ?? 2 ** 30, {
          min: 0,
          max: Number.MAX_SAFE_INTEGER,
          whole: true,
        }),
        force: boolean(`${path}.force`, options.force ?? false),
        kernel,
        shared: gram !== undefined,
        optimizer: optimizer === undefined ? null : checkCollapsed(optimizer),
      },
    },
  };
}

/** The optimizer with the defaults of `sgd()`, which this layer may not import; messages name the rule's option, not the run's. */
function checkCollapsed(optimizer: CollapsedOptimizer): CollapsedOptimizer {
  const path = "frontContribution.optimizer";
  if (optimizer?.kind !== "sgd") throw new ConfigError(path, "the result of sgd()", optimizer?.kind ?? optimizer);
  knownOptions(path, optimizer, ["kind", "learningRate", "momentum", "nesterov", "weightDecay"]);
  const { learningRate = 0.1, momentum = 0, nesterov = false, weightDecay = 0 } = optimizer;
  return {
    kind: "sgd",
    learningRate: number(`${path}.learningRate`, learningRate, { min: 0 }),
    momentum: number(`${path}.momentum`, momentum, { min: 0, below: 1 }),
    nesterov: boolean(`${path}.nesterov`, nesterov),
    weightDecay: number(`${path}.weightDecay`, weightDecay, { min: 0 }),
  };
}
