/**
 * Probes: how near a rule's gradient is to back-propagation's, and what the rule says about itself.
 *
 * @module
 */

import { EngineError } from "../errors.ts";
import type { GradientLikeness } from "../network/network.ts";
import { stepMultiplyAdds } from "./cost.ts";
import type { Trainer } from "./trainer.ts";

/**
 * Figures about the last step of the run in training, by name. Nothing changes. The last batch of an epoch may have fewer rows than
 * the others; `dropLast` keeps batches alike.
 *
 * | name | what it is |
 * | --- | --- |
 * | `probe.cosine`, `probe.cosine.0.weight` | cosine of the angle to back-propagation's gradient: of all parameters, of one |
 * | `probe.normRatio`, … | norm of the gradient over that of back-propagation's |
 * | `probe.squaredError`, … | squared difference of the two over the squared norm of back-propagation's; for an estimator that is right on average, its relative variance |
 * | `probe.products.0.keptShare`, … | the figures of each slot of each layer, see `Network.describeRule` |
 * | `probe.multiplyAdds` | multiply-adds of a step, without what a rule leaves out |
 *
 * The first three are left out where the gradients cannot be compared: under masks, and where layers are collapsed, whose outputs are
 * back-propagation's.
 *
 * @param trainer a run
 * @returns the figures
 * @throws {EngineError} `busy` where the run has taken no step yet
 */
export async function probe(trainer: Trainer): Promise<Record<string, number>> {
  const { network } = trainer;
  const figures: Record<string, number> = {};
  const comparison = await network.gradientCosines().catch((fault) => {
    if (fault instanceof EngineError && fault.code === "invalid-config") return undefined;
    throw fault;
  });
  if (comparison) {
    likeness(figures, "", comparison.all);
    for (const parameter of comparison.parameters) likeness(figures, `.${parameter.name}`, parameter);
  }
  const layers = await network.describeRule();
  for (const { layer, slots } of layers) {
    for (const [slot, choice] of Object.entries(slots)) flatten(figures, `probe.${slot}.${layer}`, choice);
  }
  const multiplyAdds = await stepMultiplyAdds(trainer);
  if (multiplyAdds !== undefined) figures["probe.multiplyAdds"] = multiplyAdds;
  return figures;
}

function likeness(figures: Record<string, number>, name: string, { cosine, ratio }: GradientLikeness): void {
  figures[`probe.cosine${name}`] = cosine;
  figures[`probe.normRatio${name}`] = ratio;
  // Of the law of cosines; rounding may take it a little below 0.
  figures[`probe.squaredError${name}`] = Math.max(0, ratio ** 2 - 2 * ratio * cosine + 1);
}

/** Takes every number out of an object, with the path to it as its name. */
function flatten(figures: Record<string, number>, path: string, value: unknown): void {
  if (typeof value === "number" && Number.isFinite(value)) figures[path] = value;
  if (typeof value !== "object" || value === null) return;
  for (const [name, part] of Object.entries(value)) flatten(figures, `${path}.${name}`, part);
}
