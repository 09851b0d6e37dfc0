/**
 * What a step of a run costs in multiply-adds.
 *
 * @module
 */

import { typeName } from "../config.ts";
import { ConfigError } from "../errors.ts";
import { Network, type SlotDescription } from "../network/network.ts";
import { fillSlots } from "../rules/mod.ts";
import type { RunPlan } from "./forecast.ts";
import type { Trainer } from "./trainer.ts";

/**
 * Multiply-adds of the matrix products in one step, counted from shapes and from what the rule does and leaves out: weights under
 * masks, outer products that are not made, layers that are collapsed, matrices that decorrelate (as a mean over steps, where they do
 * not change in each), lanes of tangents and the feedback that they teach.
 *
 * @param trainer a run
 * @returns the count; `undefined` where front contribution has no figures
 * @throws {ConfigError} where what is given is no Trainer
 */
export async function stepMultiplyAdds(trainer: Trainer): Promise<number | undefined> {
  trainerGiven(trainer);
  const { network, config: { ruleName: name, rule, batchSize } } = trainer;
  const { propagation } = fillSlots({ name, slots: rule });
  const described = await network.describePropagation();
  if (propagation.kind === "frontContribution") {
    const { plan } = described as unknown as { plan: RunPlan };
    return plan.candidates.find(({ collapse }) => collapse === plan.chosen)?.figures?.stepMultiplyAdds;
  }
  const forward = new Map(network.describe().layers.map(({ name, multiplyAdds }) => [name, multiplyAdds]));
  const layers = await network.describeRule();
  // Of dual numbers the engine counts all but the weight gradients; weight directions have none.
  const dual = propagation.kind === "dual";
  const directed = propagation.mode === "weight";
  const count = layers.reduce((sum, { layer, slots }, index) => {
    // Nobody needs the gradient of the network's input.
    const { there, gradient, back } = passesOf(slots, { batchSize, first: index === 0 });
    const passes = dual ? (directed ? 0 : gradient) : there + gradient + back;
    const own = typeof slots.inputs.multiplyAdds === "number" ? slots.inputs.multiplyAdds : 0;
    return sum + batchSize * (forward.get(layer) ?? 0) * passes + own;
  }, dual ? described.multiplyAdds as number : 0);
  // Shares are fractions of whole numbers.
  return Math.round(count);
}

/** Forward pass, weight gradient and input gradient, in units of a dense forward pass. */
function passesOf(
  { weights, products }: SlotDescription["slots"],
  { batchSize, first }: { readonly batchSize: number; readonly first: boolean },
): { readonly there: number; readonly gradient: number; readonly back: number } {
  const density = 1 - (typeof weights.sparsity === "number" ? weights.sparsity : 0);
  const { k, of, keeps } = products;
  const whole = keeps === "patches" && typeof of === "number" ? of : batchSize;
  const kept = typeof k === "number" ? Math.min(1, k / whole) : 1;
  // Rows that are chosen at the loss are the only ones that go back.
  const back = keeps === "samples of the batch" ? kept : 1;
  return { there: density, gradient: density * kept, back: first ? 0 : density * back };
}

/**
 * Bytes that a run takes in the engine beside its data: parameters, optimizer, what the rule keeps, and the values, gradients and
 * tangents of a step. Sizes follow from shapes, so the figure is the same on every machine with as many threads.
 *
 * @param trainer a run
 * @returns the bytes
 * @throws {ConfigError} where what is given is no Trainer
 */
export async function trainingBytes(trainer: Trainer): Promise<number> {
  trainerGiven(trainer);
  const { network } = trainer;
  const { values, gradients, tangents } = await network.trainingMemory();
  const masked = new Map((await network.masks()).filter(({ sparse }) => sparse).map((mask) => [mask.layer, mask]));
  const bytes = network.tensors().reduce((sum, { name, group, dtype, shape }) => {
    // Masks are counted with the weights that they leave.
    if (group === "mask" || group === "training") return sum;
    const size = dtype === "f64" ? 8 : 4;
    const count = shape.reduce((product, axis) => product * axis, 1);
    const mask = name.endsWith(".weight") ? masked.get(layerOf(name)) : undefined;
    if (mask === undefined) return sum + size * count;
    return sum + (group === "parameter" ? mask.bytes : size * mask.nonZeros);
  }, 0);
  return values + gradients + tangents + bytes;
}

/** Refuses what is no run; by its parts, since a run knows of what looks at it. */
export function trainerGiven(given: unknown): void {
  const { network, config } = (given ?? {}) as Partial<Trainer>;
  if (!(network instanceof Network) || !config) throw new ConfigError("trainer", "a Trainer", typeName(given));
}

/** `3.body.0` of `optimizer.first.3.body.0.weight`. */
function layerOf(name: string): string {
  return name.replace(/^optimizer\.(first|second)\./, "").replace(/\.weight$/, "");
}
