/**
 * The learning-rate finder: a short run whose rate grows step by step, and what its losses say (Smith 2017).
 *
 * @module
 */

import { knownOptions, number, objectOfOptions, typeName } from "../config.ts";
import { ConfigError, EngineError } from "../errors.ts";
import { Dataset } from "../data/dataset.ts";
import { isStream } from "../data/stream.ts";
import type { Data, Table } from "../data/table.ts";
import { Network } from "../network/network.ts";
import { adam, type Optimizer } from "./optimizers.ts";
import { stepDecay } from "./schedules.ts";
import { Snapshot } from "./snapshot.ts";
import { Trainer, type TrainOptions } from "./trainer.ts";

/** Share of the smoothed loss that a step leaves. */
const SMOOTHING = 0.9;

/** A loss that many times the smallest ends the search. */
const DIVERGED = 4;

/** What a finder needs to know. */
export interface FindRateOptions
  extends Omit<TrainOptions, "schedule" | "epochs" | "averageDecay" | "stepsPerEpoch" | "prefetch"> {
  /** First learning rate. Default 1e-6. */
  readonly lowest?: number;
  /** Last learning rate. Default 10. */
  readonly highest?: number;
  /** Steps between them; whole number from 10. Default 100. */
  readonly steps?: number;
}

/** One step of a search. */
export interface RatePoint {
  /** Learning rate of the step. */
  readonly rate: number;
  /** Mean loss of its batch. */
  readonly loss: number;
  /** The losses so far, smoothed: an average in which each one counts 0.9 times as much as the next. */
  readonly smoothed: number;
}

/** What {@linkcode findLearningRate} gives. */
export interface RateSearch {
  /** The steps, up to the one at which the loss was four times its smallest, or no number any more. */
  readonly points: readonly RatePoint[];
  /** The rate at which the smoothed loss falls fastest per factor of the rate. */
  readonly steepest: number;
  /** The rate at which the smoothed loss is smallest; a tenth of it is a usual choice too. */
  readonly smallest: number;
}

/**
 * Looks for a learning rate: trains with a rate that grows from step to step, until the loss runs away. The network is afterwards
 * what it was before.
 *
 * @param network the network
 * @param data training rows
 * @param options optimizer (its own rate does not count), rule, batch size and so on, and the range
 * @returns the losses and the rates that they suggest
 * @throws {ConfigError} where an option cannot be used, the data is a stream, or the loss never falls
 *
 * @example
 * ```ts
 * import { findLearningRate, mlp, Network, spirals } from "@leanprop/leanprop";
 * using network = Network.create(mlp({ input: [2], outputs: 3, hidden: [32] }));
 * console.log((await findLearningRate(network, spirals(), { batchSize: 32 })).steepest);
 * ```
 */
export async function findLearningRate(
  network: Network,
  data: Data | Table | Dataset,
  options: FindRateOptions = {},
): Promise<RateSearch> {
  objectOfOptions("findLearningRate", options, "lowest");
  const { lowest = 1e-6, highest = 10, steps = 100, optimizer = adam(), ...training } = options;
  for (const name of ["schedule", "epochs", "averageDecay", "stepsPerEpoch", "prefetch"]) {
    if (name in training) knownOptions("findLearningRate", { [name]: 0 }, ["lowest", "highest", "steps"]);
  }
  if (!(network instanceof Network)) throw new ConfigError("network", "a Network", typeName(network));
  number("findLearningRate.lowest", lowest, { above: 0 });
  number("findLearningRate.highest", highest, { above: lowest });
  number("findLearningRate.steps", steps, { min: 10, whole: true });
  const table = typeof data === "object" && data !== null && "train" in data ? data.train : data;
  if (typeof table !== "object" || table === null || isStream(table)) {
    throw new ConfigError(
      "data",
      "training rows that are all in memory",
      isStream(table) ? "a stream" : typeName(table),
    );
  }
  using own = table instanceof Dataset ? undefined : await Dataset.create(table);
  const rows = own ?? table as Dataset;
  const batchSize = training.batchSize ?? Math.min(128, rows.rows);
  const perEpoch = training.dropLast
    ? Math.max(1, Math.floor(rows.rows / batchSize))
    : Math.ceil(rows.rows / batchSize);
  const before = new Snapshot(network);
  const points: RatePoint[] = [];
  try {
    using trainer = await Trainer.create(network, rows, {
      ...training,
      batchSize,
      optimizer: { ...optimizer, learningRate: lowest } as Optimizer,
      epochs: steps / perEpoch,
      // A hair less than a step, so that rounding cannot miss one.
      schedule: stepDecay((1 - 1e-9) / perEpoch, (highest / lowest) ** (1 / (steps - 1))),
    });
    await search(trainer, { points, steps });
  } finally {
    await before.restore(network);
  }
  return { points, ...read(points) };
}

/** Takes the steps; the losses of single steps are differences of the sums of an epoch. */
async function search(
  trainer: Trainer,
  { points, steps }: { readonly points: RatePoint[]; readonly steps: number },
): Promise<void> {
  let [sum, rows, average, smallest] = [0, 0, 0, Infinity];
  for (let step = 1; step <= steps; step++) {
    const progress = await trainer.step().catch((fault) => {
      if (fault instanceof EngineError && fault.code === "not-finite") return undefined;
      throw fault;
    });
    if (progress === undefined) return;
    if (progress.rows <= rows) [sum, rows] = [0, 0];
    const total = progress.trainLoss * progress.rows;
    const loss = (total - sum) / (progress.rows - rows);
    [sum, rows] = [total, progress.rows];
    average = SMOOTHING * average + (1 - SMOOTHING) * loss;
    const smoothed = average / (1 - SMOOTHING ** step);
    points.push({ rate: progress.learningRate, loss, smoothed });
    smallest = Math.min(smallest, smoothed);
    if (step > 1 && smoothed > DIVERGED * smallest) return;
  }
}

/** What the losses suggest. */
function read(points: readonly RatePoint[]): Pick<RateSearch, "steepest" | "smallest"> {
  const lowest = points.reduce((best, point, index) => point.smoothed < points[best]!.smoothed ? index : best, 0);
  let [steepest, slope] = [-1, 0];
  for (let index = 1; index <= lowest; index++) {
    const [a, b] = [points[index - 1]!, points[index]!];
    const fall = (b.smoothed - a.smoothed) / Math.log(b.rate / a.rate);
    if (fall < slope) [steepest, slope] = [index, fall];
  }
  if (steepest < 0) {
    throw new ConfigError(
      "findLearningRate.lowest",
      "a rate small enough for the loss to fall at first",
      points[0]?.rate,
    );
  }
  return { steepest: points[steepest]!.rate, smallest: points[lowest]!.rate };
}
