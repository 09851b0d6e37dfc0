/**
 * The parameters, running statistics and masks of a network at one moment, in memory.
 *
 * @module
 */

import type { ParameterArray } from "../network/layers.ts";
import type { Network } from "../network/network.ts";

/** A moment of a network: of its plain parameters, which mean something without the run. */
export class Snapshot {
  readonly #values: ReadonlyMap<string, ParameterArray>;
  readonly #masks: ReadonlyMap<string, Uint8Array<ArrayBuffer>>;

  /** Copies what a network holds now. */
  constructor(network: Network) {
    const tensors = network.tensors();
    const kept = tensors.filter(({ group }) => group === "parameter" || group === "buffer");
    this.#values = new Map(kept.map(({ name }) => [name, network.read(name, { folded: true })]));
    const layers = tensors.filter(({ group }) => group === "mask").map(({ name }) =>
      name.slice(0, -".weight.mask".length)
    );
    this.#masks = new Map(layers.map((layer) => [layer, network.mask(layer)]));
  }

  /**
   * Brings a network back to that moment.
   *
   * @param network the network, with no run in training
   */
  async restore(network: Network): Promise<void> {
    const masked = network.tensors().some(({ group }) => group === "mask");
    if (masked) await network.densify();
    for (const [layer, mask] of this.#masks) network.setMask(layer, mask);
    for (const [name, values] of this.#values) network.write(name, values);
  }
}
