/**
 * What a run has to warn of: things that a rule came through, but that are not as they should be.
 *
 * @module
 */

import type { Network, SlotDescription } from "../network/network.ts";
import { emptyLayers, type RunMask } from "./run_masks.ts";
import type { TrainingConfig } from "./trainer.ts";

/** The figures of a layer whose inputs are decorrelated. */
interface Figures {
  readonly kind: string;
  readonly form?: string;
  readonly resets?: number;
}

/** When masks change, as the engine reads it. */
interface Clock {
  readonly kind: string;
  readonly begin: number;
  readonly end: number;
  readonly every: number | null;
}

/** Warnings of one run: each once. */
export class Warnings {
  readonly #decorrelates: boolean;
  readonly #clock: Clock | undefined;
  readonly #told = new Set<string>();
  #others: string[];
  #first = true;

  /** @param run its options, and whether it has probes */
  constructor(
    { rule, accumulate, probes }: Pick<TrainingConfig, "rule" | "accumulate"> & { readonly probes: boolean },
  ) {
    this.#decorrelates = rule.inputs?.kind === "decorrelated";
    this.#clock = rule.weights?.schedule as Clock | undefined;
    const text =
      "probes have no cosines, norm ratios and squared errors beside accumulate: gradients of batches in parts " +
      "are not compared with back-propagation's";
    this.#others = probes && accumulate > 1 ? [text] : [];
  }

  /** @param masks those that the run begins with */
  begin(masks: readonly RunMask[]): void {
    this.#others.push(...emptyLayers(masks));
  }

  /**
   * What there is to warn of since the last call.
   *
   * @param network a network that a run is training
   * @param totalSteps steps of the run
   * @returns sentences without a full stop
   */
  async next(network: Network, totalSteps: number): Promise<string[]> {
    const others = this.#others;
    this.#others = [];
    if (this.#first) {
      this.#first = false;
      if (this.#clock) others.push(...neverActs(this.#clock, totalSteps));
    }
    if (!this.#decorrelates) return others;
    const layers = await network.describeRule();
    const found = layers.filter((layer) => !this.#told.has(layer.layer)).flatMap((layer) => sentences(layer));
    for (const { layer } of found) this.#told.add(layer);
    return [...others, ...found.map(({ text }) => text)];
  }
}

/** Warns of an exchange of weights that the run has no step for. The other schedules change masks at their beginning or end at least. */
function neverActs({ kind, begin, end, every }: Clock, totalSteps: number): string[] {
  if (kind !== "rigl" && kind !== "set") return [];
  const step = (share: number) => Math.min(Math.round(share * totalSteps), totalSteps - 1);
  const interval = every ?? Math.max(1, Math.min(100, Math.floor(totalSteps / 10)));
  // Before the first step there are no gradients.
  const first = step(begin) === 0 ? interval : step(begin);
  if (first < step(end)) return [];
  return [
    `the schedule ${kind} never changes a mask: its first change would come after ${first} steps, but of the run's ${totalSteps} ` +
    `it ends after ${step(end)}; try a smaller every, an earlier begin, a later end, or a longer run`,
  ];
}

function sentences({ layer, kind, slots }: SlotDescription): { layer: string; text: string }[] {
  const { resets = 0, form } = slots.inputs as unknown as Figures;
  if (resets === 0) return [];
  const [what, way] = form === "newtonSchulz" || form === "cholesky"
    ? ["not positive definite or not finite", "a larger ridge"]
    : ["not finite", "a smaller rate, or autoStep"];
  const times = resets === 1 ? "once" : `${resets} times`;
  const text =
    `layer ${layer} (${kind}): the decorrelation matrix was ${what} ${times} and began anew as the identity; try ${way}`;
  return [{ layer, text }];
}
