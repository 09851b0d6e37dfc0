/**
 * Rules of a run that take effect in none of its layers: the run is one without them, whatever it is called.
 *
 * @module
 */

import type { Network } from "../network/network.ts";
import { layerWords, type RunMask } from "./run_masks.ts";
import type { TrainingConfig } from "./trainer.ts";

/** A layer of the run, and how many rows (or patches) a step has there. */
interface Layer extends RunMask {
  readonly rows: number;
}

/** The rule of each slot, and why a layer is as it would be without it, where that is so. */
const RULES = {
  weights: {
    name: "sparse",
    why: ({ slots: { weights: { why } }, weights, left, measured }: Layer) =>
      why ??
        (measured?.sparse === false ? "measured to be faster dense" : left === weights ? "keeps all weights" : null),
  },
  products: {
    name: "mem-aop",
    // Draws with replacement leave rows out however many they are.
    why: ({ slots: { products: { kind, why, policy, k } }, rows }: Layer) =>
      why ?? (kind === "all" ? "collapsed" : null) ??
        (policy !== "crs" && (k as number) >= rows ? "k takes all rows of a batch" : null),
  },
  inputs: { name: "decorrelated", why: ({ slots: { inputs: { why } } }: Layer) => why ?? null },
} as const;

/**
 * Names the rules of a run that take effect in no layer.
 *
 * @param network a network that a run is training
 * @param run its options
 * @param masks what `runMasks` gives
 * @returns one sentence for each of them, without a full stop
 */
export function idleRules(
  network: Network,
  { rule, batchSize }: Pick<TrainingConfig, "rule" | "batchSize">,
  masks: readonly RunMask[],
): string[] {
  const shapes = new Map(network.describe().layers.map(({ name, shape }) => [name, shape]));
  const layers = masks.map((mask): Layer => {
    const patches = mask.slots.products.keeps === "patches";
    // Each place of an image but its channels is a patch.
    const places = patches ? shapes.get(mask.layer)!.slice(0, -1).reduce((product, axis) => product * axis, 1) : 1;
    return { ...mask, rows: batchSize * places };
  });
  return (Object.keys(RULES) as (keyof typeof RULES)[]).flatMap((slot) => {
    if (rule[slot] === undefined) return [];
    const { name, why } = RULES[slot];
    const reasons = Map.groupBy(layers, why);
    if (reasons.has(null)) return [];
    const words = [...reasons].map(([reason, layers]) => `${reason} (${layerWords(layers)})`);
    return [`${name} takes effect in no layer of this run: ${words.join("; ")}`];
  });
}
