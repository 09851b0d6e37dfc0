/**
 * What a run has to warn of: things that a rule came through, but that are not as they should be.
 *
 * @module
 */

import type { Network, SlotDescription } from "../network/network.ts";
import { idleRules } from "./idle_rules.ts";
import { emptyLayers, layerWords, type RunMask, runMasks } from "./run_masks.ts";
import type { TrainingConfig } from "./trainer.ts";

/** The figures of a layer whose inputs are decorrelated. */
interface Figures {
  readonly kind: string;
  readonly form?: string;
  readonly resets?: number;
}

/** What warnings follow from: the run's options, and whether it has probes. */
type Run = Pick<TrainingConfig, "rule" | "batchSize" | "accumulate"> & { readonly probes: boolean };

/** Warnings of one run: each once. */
export class Warnings {
  readonly #run: Run;
  readonly #told = new Set<string>();
  #others: string[] = [];

  /** @param run its options, and whether it has probes */
  constructor(run: Run) {
    this.#run = run;
  }

  /**
   * Looks at a run before its first step.
   *
   * @param network the network that it trains
   */
  async begin(network: Network): Promise<void> {
    const masks = await runMasks(network);
    // A schedule is that of all layers.
    const idle = masks.flatMap(({ idle }) => idle ?? []).slice(0, 1);
    const rules = idleRules(network, this.#run, masks);
    this.#others.push(...missingProbes(this.#run, masks), ...emptyLayers(masks), ...idle, ...rules);
  }

  /** What is known without looking at the network again. */
  take(): string[] {
    const others = this.#others;
    this.#others = [];
    return others;
  }

  /**
   * What there is to warn of since the last call.
   *
   * @param network a network that a run is training
   * @returns sentences without a full stop
   */
  async next(network: Network): Promise<string[]> {
    const others = this.take();
    if (!this.#run.rule.inputs) return others;
    const layers = await network.describeRule();
    const found = layers.filter((layer) => !this.#told.has(layer.layer)).flatMap((layer) => sentences(layer));
    for (const { layer } of found) this.#told.add(layer);
    return [...others, ...found.map(({ text }) => text)];
  }
}

/** Why gradients are not compared with back-propagation's, where they might differ. */
function missingProbes({ accumulate, probes }: Run, masks: readonly RunMask[]): string[] {
  if (!probes) return [];
  const masked = masks.filter(({ sparse, ruled, left, weights }) => sparse || ruled && left < weights);
  const reasons = [
    ...(accumulate > 1
      ? ["beside accumulate: gradients of batches in parts are not compared with back-propagation's"]
      : []),
    ...(masked.length > 0 ? [`under masks (${layerWords(masked)}): back-propagation has gradients beside them`] : []),
  ];
  return reasons.map((reason) => `probes have no cosines, norm ratios and squared errors ${reason}`);
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
