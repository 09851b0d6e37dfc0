/**
 * Probes: how near a rule's gradient is to back-propagation's, and what the rule says about itself.
 *
 * @module
 */

import { knownOptions, number } from "../config.ts";
import { EngineError } from "../errors.ts";
import type { GradientComparison, GradientLikeness, Network } from "../network/network.ts";
import { fillSlots } from "../rules/mod.ts";
import { stepMultiplyAdds, trainerGiven } from "./cost.ts";
import { estimatorKind } from "./estimator.ts";
import type { Trainer } from "./trainer.ts";

/** Draws of a gradient that is random, where nothing is said. */
const DRAWS = 8;

/** Options of {@linkcode probe}. */
export interface ProbeOptions {
  /**
   * Draws of a gradient that is random (`dual` in modes `activity` and `weight`; `memAop` but for `topK`); whole number from 1.
   * Default 8. Each takes about as long as two steps.
   */
  readonly draws?: number;
}

/**
 * Figures about the last step of the run in training, by name. Nothing changes.
 *
 * Probes that a run asks for itself (`TrainOptions.probe`) come after the last step of an epoch, or after the step before where the
 * last batch has fewer rows than the others: rules that keep a number of rows would look nearer to back-propagation there than they
 * are. The short batch is looked at where the epoch has no other, and by a run that was resumed just before it.
 *
 * | name | what it is |
 * | --- | --- |
 * | `probe.cosine`, `probe.cosine.0.weight` | cosine of the angle to back-propagation's gradient: of all parameters, of one |
 * | `probe.normRatio`, … | norm of the gradient over that of back-propagation's |
 * | `probe.squaredError`, … | squared difference of the two over the squared norm of back-propagation's |
 * | `probe.variance`, … | the same, where the rule's gradient is random and right on average: its relative variance |
 * | `probe.products.0.keptShare`, … | the figures of each slot of each layer, see `Network.describeRule` |
 * | `probe.multiplyAdds` | multiply-adds of a step, without what a rule leaves out |
 *
 * Where the gradient is random, the first four are means over `draws` of it with seeded numbers, all on the same batch and
 * parameters. A gradient that is random but not right on average (`dual` as a projection, `memAop` with `weightedK` or `randK`) has
 * no `variance`: its `squaredError` holds the squared bias too. Neither has one that is not random.
 *
 * The first four are left out where the gradients cannot be compared: under masks, where batches are computed in parts
 * (`accumulate`), and where layers are collapsed, whose outputs are back-propagation's.
 *
 * @param trainer a run
 * @param options number of draws
 * @returns the figures
 * @throws {EngineError} `busy` where the run has taken no step yet
 * @throws {ConfigError} where an option cannot be used
 */
export async function probe(trainer: Trainer, options: ProbeOptions = {}): Promise<Record<string, number>> {
  trainerGiven(trainer);
  knownOptions("probe", options, ["draws"]);
  const draws = number("probe.draws", options.draws ?? DRAWS, { min: 1, whole: true });
  const { network, config: { ruleName: name, rule } } = trainer;
  const figures: Record<string, number> = {};
  const layers = await network.describeRule();
  const kind = estimatorKind(fillSlots({ name, slots: rule }), layers);
  const comparisons = await compareDraws(network, kind.random ? draws : 1);
  const isVariance = kind.random && kind.unbiased;
  if (comparisons.length > 0) likeness(figures, "", { found: comparisons.map(({ all }) => all), isVariance });
  for (const [index, { name }] of (comparisons[0]?.parameters ?? []).entries()) {
    likeness(figures, `.${name}`, { found: comparisons.map(({ parameters }) => parameters[index]!), isVariance });
  }
  for (const { layer, slots } of layers) {
    for (const [slot, choice] of Object.entries(slots)) flatten(figures, `probe.${slot}.${layer}`, choice);
  }
  const multiplyAdds = await stepMultiplyAdds(trainer);
  if (multiplyAdds !== undefined) figures["probe.multiplyAdds"] = multiplyAdds;
  return figures;
}

/** Comparisons of so many draws; none where gradients cannot be compared. Random numbers are keyed by the step: each draw has another. */
async function compareDraws(network: Network, draws: number): Promise<GradientComparison[]> {
  const found: GradientComparison[] = [];
  const counters = network.read(COUNTERS);
  try {
    for (let draw = 0; draw < draws; draw++) {
      if (draw > 0) network.write(COUNTERS, counters.with(0, counters[0]! + draw));
      found.push(await network.gradientCosines());
    }
  } catch (fault) {
    if (!(fault instanceof EngineError && fault.code === "invalid-config")) throw fault;
  } finally {
    network.write(COUNTERS, counters);
  }
  return found;
}

/** The counters of a run, of which the first is the step. */
const COUNTERS = "training.counters";

function likeness(
  figures: Record<string, number>,
  name: string,
  { found, isVariance }: { readonly found: readonly GradientLikeness[]; readonly isVariance: boolean },
): void {
  const mean = (of: (draw: GradientLikeness) => number) =>
    found.reduce((sum, draw) => sum + of(draw), 0) / found.length;
  figures[`probe.cosine${name}`] = mean(({ cosine }) => cosine);
  figures[`probe.normRatio${name}`] = mean(({ ratio }) => ratio);
  // Of the law of cosines; rounding may take it a little below 0.
  const error = mean(({ cosine, ratio }) => Math.max(0, ratio ** 2 - 2 * ratio * cosine + 1));
  figures[`probe.squaredError${name}`] = error;
  // About a mean that is known, namely back-propagation's gradient: no draw has to be spent on it.
  if (isVariance) figures[`probe.variance${name}`] = error;
}

/** Takes every number out of an object, with the path to it as its name. */
function flatten(figures: Record<string, number>, path: string, value: unknown): void {
  if (typeof value === "number" && Number.isFinite(value)) figures[path] = value;
  if (typeof value !== "object" || value === null) return;
  for (const [name, part] of Object.entries(value)) flatten(figures, `${path}.${name}`, part);
}
