/**
 * What a step of a run costs in multiply-adds.
 *
 * @module
 */

import type { SlotDescription } from "../network/network.ts";
import { fillSlots } from "../rules/mod.ts";
import type { RunPlan } from "./forecast.ts";
import type { Trainer } from "./trainer.ts";

/**
 * Multiply-adds of the dense and convolutional layers in one step, counted from shapes and from what the rule leaves out: weights
 * under masks, outer products that are not made, layers that are collapsed.
 *
 * @param trainer a run
 * @returns the count; `undefined` for a rule whose step is not made of a forward and a backward pass (dual numbers, decorrelation)
 */
export async function stepMultiplyAdds(trainer: Trainer): Promise<number | undefined> {
  const { network, config: { ruleName: name, rule, batchSize } } = trainer;
  const { propagation } = fillSlots({ name, slots: rule });
  if (propagation.kind === "frontContribution") {
    const { plan } = await network.describePropagation() as unknown as { plan: RunPlan };
    return plan.candidates.find(({ collapse }) => collapse === plan.chosen)?.figures?.stepMultiplyAdds;
  }
  if (propagation.kind !== "backprop") return undefined;
  const forward = new Map(network.describe().layers.map(({ name, multiplyAdds }) => [name, multiplyAdds]));
  const layers = await network.describeRule();
  if (layers.some(({ slots }) => slots.inputs.kind !== "raw")) return undefined;
  return layers.reduce((sum, { layer, slots }, index) => {
    // Nobody needs the gradient of the network's input.
    const passes = passesOf(slots, { batchSize, first: index === 0 });
    return sum + batchSize * (forward.get(layer) ?? 0) * passes;
  }, 0);
}

/** Forward pass, input gradient and weight gradient, in units of a dense forward pass. */
function passesOf(
  { weights, products }: SlotDescription["slots"],
  { batchSize, first }: { readonly batchSize: number; readonly first: boolean },
): number {
  const density = 1 - (typeof weights.sparsity === "number" ? weights.sparsity : 0);
  const { k, of, keeps } = products;
  const whole = keeps === "patches" && typeof of === "number" ? of : batchSize;
  const kept = typeof k === "number" ? Math.min(1, k / whole) : 1;
  // Rows that are chosen at the loss are the only ones that go back.
  const back = keeps === "samples of the batch" ? kept : 1;
  return density * (1 + kept + (first ? 0 : back));
}
