/**
 * Whether a rule's gradient is drawn at random, and whether it is right on average: only then its squared error is a variance.
 *
 * @module
 */

import type { SlotDescription } from "../network/network.ts";
import { type RowPolicy, weighsRows } from "../rules/mem_aop.ts";
import type { FilledSlots } from "../rules/mod.ts";

/** What kind of estimator of back-propagation's gradient a rule is. */
export interface EstimatorKind {
  /** Whether another draw gives another gradient. */
  readonly random: boolean;
  /** Whether the mean over all draws is back-propagation's gradient. */
  readonly unbiased: boolean;
}

/**
 * The kind of a run's gradient.
 *
 * @param propagation how the rule carries the loss to the weights
 * @param layers what it put into the slots of each layer
 * @returns the kind
 */
export function estimatorKind(
  { propagation }: Pick<FilledSlots, "propagation">,
  layers: readonly SlotDescription[],
): EstimatorKind {
  // Layers that take all rows say why.
  const choices = layers.map(({ slots }) => slots.products).filter(({ kind, why }) => kind === "memAop" && !why);
  const { mode, estimate, allowBias } = propagation;
  const drawn = propagation.kind === "dual" && (mode === "activity" || mode === "weight");
  const right = propagation.kind !== "dual" || mode === "exact" || mode === "local" ||
    mode === "activity" && allowBias !== true || mode === "weight" && estimate === "mean";
  return {
    random: drawn || choices.some(({ policy }) => policy !== "topK"),
    unbiased: right && choices.every(({ policy }) => weighsRows(policy as RowPolicy | undefined)),
  };
}
