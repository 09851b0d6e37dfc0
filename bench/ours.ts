/**
 * leanprop as a side of a comparison, through its public interface.
 *
 * @module
 */

import { adam, Dataset, dense, type Layer, Network, relu, type Rule, sgd, Trainer } from "../mod.ts";
import { initialWeights, uniformTable } from "./numbers.ts";
import type { Case, Ran, Side } from "./peer.ts";

/** Starts our side of a case; with a learning rule if one is given. */
export async function startOurs(
  job: Case,
  options: { readonly name?: string; readonly rule?: Rule } = {},
): Promise<Side> {
  if (typeof job.net === "string") throw new Error(`${job.net} is a case for the conv suite`);
  const [inputs, classes] = [job.net[0]!, job.net.at(-1)!];
  const layers = job.net.slice(1).flatMap((units, at): Layer[] => {
    const weightInit = initialWeights({ index: 2 * at, outputs: units, fanIn: job.net[at] as number, seed: job.seed });
    return at + 2 < job.net.length ? [dense(units, { weightInit }), relu()] : [dense(units, { weightInit })];
  });
  const network = Network.create({ input: [inputs], layers, threads: job.threads });
  const data = await Dataset.create(uniformTable({ rows: job.batch * job.batches, inputs, classes, seed: job.seed }));
  const trainer = await Trainer.create(network, data, {
    optimizer: job.optimizer === "adam" ? adam(job.rate) : sgd(job.rate),
    batchSize: job.batch,
    epochs: 1e8,
    shuffle: false,
    ...(options.rule && { rule: options.rule }),
  });
  let last = 0;
  const chunks = async (enough: (steps: number, seconds: number) => boolean): Promise<Ran> => {
    const [first, start] = [last, performance.now()];
    let [meanLoss, seconds] = [NaN, 0];
    do {
      const progress = await trainer.chunk();
      // The mean over the epoch, which for `steps` is over a whole pass of the batches.
      meanLoss = progress.trainLoss;
      last = progress.step;
      seconds = (performance.now() - start) / 1000;
    } while (!enough(last - first, seconds));
    return { steps: last - first, seconds, meanLoss };
  };
  return {
    name: options.name ?? "leanprop",
    about: { ...network.describe(), layers: undefined },
    run: (wanted) => chunks((_, seconds) => seconds >= wanted),
    steps: (wanted) => chunks((steps) => steps >= wanted),
    stop: () => {
      trainer[Symbol.dispose]();
      data[Symbol.dispose]();
      network[Symbol.dispose]();
      return Promise.resolve();
    },
  };
}
