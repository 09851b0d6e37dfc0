/**
 * The masks of a network in training: what they are now, and what they will be.
 *
 * @module
 */

import type { MaskDescription, Network, SlotDescription } from "../network/network.ts";
import type { SparseOptions } from "../rules/sparse.ts";

/** Layers that are named where there are many; the others are counted. */
const NAMED = 3;

/** The weights of a layer, and what the rule in training does with them. */
export interface RunMask extends MaskDescription {
  /** Weights that it has when the schedule has ended. */
  readonly left: number;
  /** What the rule put into its slots. */
  readonly slots: SlotDescription["slots"];
  /** Whether the rule makes weights sparse. */
  readonly ruled: boolean;
  /** Why the rule's schedule never changes its mask, where that is so. */
  readonly idle?: string;
  /** What was measured, in milliseconds of a step, where the rule was to measure. */
  readonly measured?: { readonly sparse: boolean; readonly sparseMs: number; readonly denseMs: number };
}

/** The figures that the rule keeps about the weights of a layer. */
interface Figures extends Pick<RunMask, "measured" | "idle"> {
  readonly kind: string;
  readonly schedule?: { readonly kind: SparseOptions["schedule"] };
  readonly target?: number;
}

/**
 * Describes the masks of a network in training.
 *
 * @param network a network that a run is training
 * @returns one entry for each dense or conv2d layer
 */
export async function runMasks(network: Network): Promise<RunMask[]> {
  const rule = await network.describeRule();
  const masks = await network.masks();
  return masks.map((mask, at) => {
    const { slots } = rule[at]!;
    const { kind, schedule, target, measured, idle } = slots.weights as unknown as Figures;
    const sparse = target !== undefined && measured?.sparse !== false;
    const kept = sparse ? Math.round((1 - target) * mask.weights) : mask.nonZeros;
    // A mask only loses weights, but for those that a dense phase brings back.
    const left = schedule?.kind === "acdc" ? kept : Math.min(kept, mask.nonZeros);
    return {
      ...mask,
      left,
      slots,
      ruled: kind === "sparse",
      ...(measured && { measured }),
      ...(idle !== undefined && { idle }),
    };
  });
}

/**
 * Warns of layers that have no weight, or will have none.
 *
 * @param masks what {@linkcode runMasks} gives
 * @returns one sentence for each of them, without a full stop
 */
export function emptyLayers(masks: readonly RunMask[]): string[] {
  const empty = masks.filter(({ left }) => left === 0);
  return empty.map(({ layer, kind }) => `layer ${layer} (${kind}) is left without weights`);
}

/** Some layers in a few words: `layers 0, 3, 5 and 2 more`. */
export function layerWords(layers: readonly Pick<RunMask, "layer">[]): string {
  const names = layers.slice(0, NAMED).map(({ layer }) => layer).join(", ");
  const more = layers.length > NAMED ? ` and ${layers.length - NAMED} more` : "";
  return `${layers.length === 1 ? "layer" : "layers"} ${names}${more}`;
}
