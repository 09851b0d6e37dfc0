/**
 * When an epoch is probed: after its last batch, or after the one before where the last has fewer rows than the others.
 *
 * @module
 */

import { stepsOver } from "./rows.ts";
import type { TrainingConfig } from "./trainer.ts";

/** What a run is cut into. */
type Cut = Pick<TrainingConfig, "batchSize" | "dropLast" | "stepsPerEpoch" | "rows">;

/** The moment before the short batch that ends an epoch. The engine keeps no batch but the last one, so that probes cannot wait. */
export class ProbeMoment {
  readonly #cut: Cut;
  readonly #steps: number;
  #done: number;
  /** Whether the engine has a batch that could be probed: a run that is resumed begins without. */
  #any = false;

  /**
   * @param cut the run's options
   * @param done steps that it has behind it in its epoch
   */
  constructor(cut: Cut, done: number) {
    this.#cut = cut;
    this.#steps = cut.stepsPerEpoch ?? stepsOver(cut.rows!, cut);
    this.#done = done % this.#steps;
  }

  /** Whether one step is left of the epoch. It belongs to the same call: a run that was saved between the two could not be probed. */
  get last(): boolean {
    return this.#done === this.#steps - 1;
  }

  /**
   * How many steps come before the moment.
   *
   * @param next rows that come next: all of them, or of a stream the next batch
   * @returns 0 where it is now, `Infinity` where it does not come
   */
  stepsUntil(next: { readonly rows: number }): number {
    const { batchSize, dropLast, rows } = this.#cut;
    const short = rows === null ? this.last && next.rows < batchSize : !dropLast && rows % batchSize > 0;
    // Without a batch of this epoch there is nothing but the short one.
    const missed = this.last && (this.#done === 0 || !this.#any);
    return short && !missed ? this.#steps - 1 - this.#done : Infinity;
  }

  /** @param done steps of the epoch that a call has come to */
  note(done: number): void {
    this.#any = true;
    this.#done = done % this.#steps;
  }
}
