/**
 * Training as a loop over epochs.
 *
 * @module
 */

import { knownOptions, objectOfOptions } from "../config.ts";
import { ConfigError } from "../errors.ts";
import type { Network } from "../network/network.ts";
import { EarlyStopping, type EarlyStoppingOptions } from "./early_stopping.ts";
import { Snapshot } from "./snapshot.ts";
import { type Progress, Trainer, type TrainingData, trainOptionNames, type TrainOptions } from "./trainer.ts";

/** How {@linkcode train} trains. */
export interface TrainLoopOptions extends TrainOptions {
  /** Ends the run when the validation rows show no progress any more. Default: never. */
  readonly earlyStopping?: EarlyStoppingOptions;
}

const OPTIONS = [...trainOptionNames, "earlyStopping"] as const satisfies readonly (keyof TrainLoopOptions)[];

/**
 * Trains a network; gives the state after every epoch. Leaving the loop ends the run. A run with `averageDecay` leaves the
 * averages in the network at its end, one with `earlyStopping` the parameters of its best epoch; they are there when the last
 * epoch's state is given.
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
  options: TrainLoopOptions = {},
): AsyncGenerator<Progress, void, void> {
  objectOfOptions("", options, "epochs");
  knownOptions("", options, OPTIONS);
  const { earlyStopping, ...training } = options;
  const stopper = earlyStopping && new EarlyStopping(earlyStopping);
  if (stopper && !(typeof data === "object" && data !== null && "train" in data && data.validation)) {
    throw new ConfigError("earlyStopping", "data with validation rows beside it", "none");
  }
  await using trainer = await Trainer.create(network, data, training);
  const averages = trainer.config.averageDecay !== null;
  let best: Snapshot | undefined;
  for (;;) {
    const progress = await trainer.epoch();
    if (stopper?.observe(progress.validation) && stopper.options.restoreBest) {
      const take = () => Promise.resolve(new Snapshot(network));
      best = await (averages ? trainer.withAverage(take) : take());
    }
    const early = stopper?.stop === true && !progress.done;
    if (!progress.done && !early) {
      yield progress;
      continue;
    }
    if (best) {
      // Masks and collapsed layers belong to the run: it ends before the parameters change.
      await trainer[Symbol.asyncDispose]();
      await best.restore(network);
    } else if (averages) {
      await trainer.keepAverage();
    }
    yield { ...progress, done: true, ...(early && { stoppedEarly: true as const }) };
    return;
  }
}
