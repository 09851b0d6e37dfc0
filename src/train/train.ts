/**
 * Training as a loop over epochs.
 *
 * @module
 */

import type { Network } from "../network/network.ts";
import { type Progress, Trainer, type TrainingData, type TrainOptions } from "./trainer.ts";

/**
 * Trains a network; gives the state after every epoch. Leaving the loop ends the run. A run with `averageDecay` leaves the
 * averages in the network at its end.
 *
 * @param network the network
 * @param data training rows, or a stream of them; with validation rows where there are any
 * @param options rule, optimizer, schedule, epochs, batch size, seed, signal and so on
 * @throws {ConfigError} where an option cannot be used
 * @throws {EngineError} where the data does not fit, another run trains the network (`busy`), or the loss stops being a number
 * (`not-finite`)
 * @throws the signal's reason when it aborts
 *
 * @example
 * ```ts
 * import { adam, dense, Network, relu, spirals, train } from "@leanprop/leanprop";
 * using network = Network.create({ input: [2], layers: [dense(32), relu(), dense(3)], seed: 1 });
 * for await (const p of train(network, spirals(), { epochs: 3, optimizer: adam(1e-2) })) {
 *   console.log(p.epoch, p.trainLoss);
 * }
 * ```
 */
export async function* train(
  network: Network,
  data: TrainingData,
  options: TrainOptions = {},
): AsyncGenerator<Progress, void, void> {
  await using trainer = await Trainer.create(network, data, options);
  for (;;) {
    const progress = await trainer.epoch();
    if (progress.done && trainer.config.averageDecay !== null) await trainer.keepAverage();
    yield progress;
    if (progress.done) return;
  }
}
