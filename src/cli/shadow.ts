/**
 * Back-propagation beside a run with collapsed layers: how far the two have come apart.
 *
 * @module
 */

import type { Dataset } from "../data/dataset.ts";
import type { Table } from "../data/table.ts";
import { Network } from "../network/network.ts";
import { Trainer } from "../train/trainer.ts";
import type { Plan } from "./plan.ts";

/** The same run with back-propagation in place of the rule's propagation. */
export class Shadow implements Disposable {
  readonly #trainer: Trainer;
  readonly #owned: DisposableStack;
  #step = 0;

  private constructor(trainer: Trainer, owned: DisposableStack) {
    this.#trainer = trainer;
    this.#owned = owned;
  }

  /**
   * Begins it.
   *
   * @param plan the run
   * @param rows its training rows
   * @param signal ends it
   */
  static async create(plan: Plan, rows: Table | Dataset, signal: AbortSignal): Promise<Shadow> {
    using owned = new DisposableStack();
    const network = owned.use(Network.create(plan.network));
    const { propagation: _, ...slots } = plan.training.rule?.slots ?? {};
    const rule = { name: "backprop", slots };
    const trainer = owned.use(await Trainer.create(network, rows, { ...plan.training, rule, signal }));
    return new Shadow(trainer, owned.move());
  }

  /**
   * Trains up to a step at the end of an epoch, and compares.
   *
   * @param network the network of the run
   * @param step steps that it has behind it
   * @returns largest difference of two parameters, as a share of the largest parameter
   */
  async difference(network: Network, step: number): Promise<number> {
    while (this.#step < step) this.#step = (await this.#trainer.chunk()).step;
    const expected = this.#trainer.network.parameters();
    let [difference, largest] = [0, 0];
    for (const [name, values] of network.parameters()) {
      const others = expected.get(name)!;
      for (const [index, value] of values.entries()) {
        difference = Math.max(difference, Math.abs(value - others[index]!));
        largest = Math.max(largest, Math.abs(others[index]!));
      }
    }
    return largest === 0 ? difference : difference / largest;
  }

  /** Ends it. */
  [Symbol.dispose](): void {
    this.#owned.dispose();
  }
}
