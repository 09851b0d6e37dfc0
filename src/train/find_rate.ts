/**
 * The learning-rate finder: a sweep, a short run whose rate grows step by step until the loss runs away (Smith 2017), and trials,
 * short runs at single rates from where its loss was smallest downwards. The curve of a sweep alone is read wrongly by a factor of
 * three and more in a third of all cases, however one reads it, since its steps are few, noisy, and each taken at another rate.
 *
 * @module
 */

import { knownOptions, number, objectOfOptions, typeName } from "../config.ts";
import { digits } from "../digits.ts";
import { ConfigError, isDivergence } from "../errors.ts";
import { mean } from "../statistics.ts";
import { Dataset } from "../data/dataset.ts";
import { isStream } from "../data/stream.ts";
import type { Data, Table } from "../data/table.ts";
import { type Network, networkGiven } from "../network/network.ts";
import { adam, type Optimizer } from "./optimizers.ts";
import { constant, type Schedule, stepDecay } from "./schedules.ts";
import { stepsOver } from "./rows.ts";
import { Snapshot } from "./snapshot.ts";
import { Trainer, type TrainOptions } from "./trainer.ts";

/** The range of a search and the steps of its runs, where nothing is said. */
export const SEARCH = { lowest: 1e-6, highest: 10, steps: 100 } as const;

/** Share of the smoothed loss that a step leaves. */
const SMOOTHING = 0.9;

/** A loss that many times the smallest ends the sweep, and one that many times the largest at the start a trial. */
const DIVERGED = 4;

/** Steps whose median loss is the loss at the start, and from which on a smoothed loss is one. */
const WARM_UP = 10;

/** Ratio of the rates of neighbouring trials. */
const SPACING = Math.sqrt(10);

/** So many trials in a row that are no better than the best end the search. */
const PATIENCE = 2;

/** Share of a trial's steps, its last ones, whose mean loss counts. */
const JUDGED = 0.25;

/** Standard deviation of a smoothed loss as a share of that of single losses: √(0.1 / 1.9). */
const SMOOTHED_NOISE = Math.sqrt((1 - SMOOTHING) / (1 + SMOOTHING));

/** Standard deviations of single losses by which a trial has to end below the start for anything to be learnt. */
const LEARNT = 0.5;

/** What stands for a best step or run where there is none. */
const NOWHERE = { rate: 0, loss: Infinity, smoothed: Infinity };

/** What a finder needs to know. */
export interface FindRateOptions
  extends Omit<TrainOptions, "schedule" | "epochs" | "averageDecay" | "stepsPerEpoch" | "prefetch"> {
  /** First learning rate. Default 1e-6. */
  readonly lowest?: number;
  /** Last learning rate. Default 10. */
  readonly highest?: number;
  /** Steps of the sweep between them, and of each trial; whole number from 20. Default 100. */
  readonly steps?: number;
}

/** One step of the sweep. */
export interface RatePoint {
  /** Learning rate of the step. */
  readonly rate: number;
  /** Mean loss of its batch. */
  readonly loss: number;
  /** The losses so far, smoothed: an average in which each one counts 0.9 times as much as the next. */
  readonly smoothed: number;
}

/** A short run at one rate, from the network's own parameters. */
export interface RateTrial {
  /** Its learning rate. */
  readonly rate: number;
  /**
   * Mean loss over the last quarter of its steps. Infinite where it ran away: to no number, or to four times the largest loss of the
   * sweep's first ten steps, even where it came back, since such a network has large weights and is sure of what it is wrong about.
   */
  readonly loss: number;
}

/** What {@linkcode findLearningRate} gives. */
export interface RateSearch {
  /** The steps of the sweep, up to the one at which the loss was four times its smallest, or no number any more. */
  readonly points: readonly RatePoint[];
  /** The highest rate at which the smoothed loss of the sweep is its smallest, as far as noise lets tell. */
  readonly smallest: number;
  /**
   * The trials, from the highest rate down by factors of √10: first from {@linkcode RateSearch.smallest} downwards, until two in a row
   * are no better, then upwards from it while that is the best.
   */
  readonly trials: readonly RateTrial[];
  /** The rate of the best trial. */
  readonly suggested: number;
}

/**
 * Looks for a learning rate: trains with a rate that grows from step to step until the loss runs away, then as many steps at each of
 * a few rates below the one where the loss was smallest, and suggests the best of them: the one that learns fastest in that many
 * steps, which for a long run may be a little high. The network is afterwards what it was before.
 *
 * @param network the network
 * @param data training rows
 * @param options optimizer (its own rate does not count), rule, batch size and so on, the range, and the steps
 * @returns the losses, the trials, and the suggested rate
 * @throws {ConfigError} where an option cannot be used, the data is a stream, or the loss falls at no rate of the range
 *
 * @example
 * ```ts
 * import { findLearningRate, mlp, Network, spirals } from "@leanprop/leanprop";
 * using network = Network.create(mlp({ input: [2], outputs: 3, hidden: [32] }));
 * console.log((await findLearningRate(network, spirals(), { batchSize: 32 })).suggested);
 * ```
 */
export async function findLearningRate(
  network: Network,
  data: Data | Table | Dataset,
  options: FindRateOptions = {},
): Promise<RateSearch> {
  objectOfOptions("findLearningRate", options, "lowest");
  const { lowest, highest, steps, optimizer = adam(), ...training } = { ...SEARCH, ...options };
  for (const name of ["schedule", "epochs", "averageDecay", "stepsPerEpoch", "prefetch"]) {
    if (name in training) knownOptions("findLearningRate", { [name]: 0 }, ["lowest", "highest", "steps"]);
  }
  networkGiven(network);
  number("findLearningRate.lowest", lowest, { above: 0 });
  number("findLearningRate.highest", highest, { above: lowest });
  number("findLearningRate.steps", steps, { min: 2 * WARM_UP, whole: true });
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
  const perEpoch = Math.max(1, stepsOver(rows.rows, { batchSize, dropLast: training.dropLast ?? false }));
  const before = new Snapshot(network);
  const run: Run = async (learningRate, schedule, onStep) => {
    try {
      using trainer = await Trainer.create(network, rows, {
        ...training,
        batchSize,
        optimizer: { ...optimizer, learningRate } as Optimizer,
        epochs: steps / perEpoch,
        schedule,
      });
      await takeSteps(trainer, steps, onStep);
    } finally {
      await before.restore(network);
    }
  };
  // A hair less than a step, so that rounding cannot miss one.
  const growing = stepDecay((1 - 1e-9) / perEpoch, (highest / lowest) ** (1 / (steps - 1)));
  const points = await sweep((onStep) => run(lowest, growing, onStep));
  const first = points.slice(0, WARM_UP).map(({ loss }) => loss);
  const [start, noise] = [middle(first), deviation(first)];
  const smoothed = points.slice(WARM_UP - 1);
  const least = Math.min(...smoothed.map((point) => point.smoothed));
  // Of losses that noise alone may tell apart the one at the highest rate: where the sweep is flat, rates are too small.
  const smallest = smoothed.findLast((point) => point.smoothed <= least + SMOOTHED_NOISE * noise) ?? points.at(-1) ??
    NOWHERE;
  const ceiling = DIVERGED * Math.max(...first);
  const trials = await tryRates(smallest.rate, {
    ...{ lowest, highest, steps, ceiling },
    run: (rate, onStep) => run(rate, constant(), onStep),
  });
  const best = trials.reduce((a, b) => b.loss < a.loss ? b : a, NOWHERE);
  if (!(best.loss < start - LEARNT * noise)) {
    throw new ConfigError(
      "learning rates",
      `one between ${digits(lowest, 2)} and ${digits(highest, 2)} at which ${steps} steps bring the loss down`,
      Number.isFinite(best.loss)
        ? `a loss of ${best.loss.toPrecision(4)} at best, from about ${start.toPrecision(4)}`
        : "a loss that runs away",
    );
  }
  return { points, smallest: smallest.rate, trials, suggested: best.rate };
}

/** Learns of the loss of a step and its rate; `false` ends the run. */
type OnStep = (loss: number, rate: number) => boolean | void;

/** A run from the network's own parameters. */
type Run = (rate: number, schedule: Schedule, onStep: OnStep) => Promise<void>;

/** Takes steps until the loss is no number; the losses of single steps are differences of the sums of an epoch. */
async function takeSteps(trainer: Trainer, steps: number, onStep: OnStep): Promise<void> {
  let [sum, rows] = [0, 0];
  for (let step = 1; step <= steps; step++) {
    const progress = await trainer.step().catch((fault) => {
      if (isDivergence(fault)) return undefined;
      throw fault;
    });
    if (progress === undefined) return;
    if (progress.rows <= rows) [sum, rows] = [0, 0];
    const total = progress.trainLoss * progress.rows;
    const loss = (total - sum) / (progress.rows - rows);
    [sum, rows] = [total, progress.rows];
    if (onStep(loss, progress.learningRate) === false) return;
  }
}

/** The run whose rate grows. */
async function sweep(run: (onStep: OnStep) => Promise<void>): Promise<RatePoint[]> {
  const points: RatePoint[] = [];
  let [average, smallest] = [0, Infinity];
  await run((loss, rate) => {
    average = SMOOTHING * average + (1 - SMOOTHING) * loss;
    const smoothed = average / (1 - SMOOTHING ** (points.length + 1));
    points.push({ rate, loss, smoothed });
    smallest = Math.min(smallest, smoothed);
    return smoothed <= DIVERGED * smallest;
  });
  return points;
}

/** The runs at single rates: from one downwards, and upwards where that one is the best of them. */
async function tryRates(
  from: number,
  { lowest, highest, steps, ceiling, run }: {
    readonly lowest: number;
    readonly highest: number;
    readonly steps: number;
    readonly ceiling: number;
    readonly run: (rate: number, onStep: OnStep) => Promise<void>;
  },
): Promise<RateTrial[]> {
  const attempt = async (rate: number): Promise<RateTrial> => {
    const losses: number[] = [];
    await run(rate, (loss) => loss <= ceiling && losses.push(loss) > 0);
    return { rate, loss: losses.length < steps ? Infinity : mean(losses.slice(-Math.ceil(JUDGED * steps))) };
  };
  const trials: RateTrial[] = [];
  let [best, worse] = [Infinity, 0];
  for (let rate = from; rate >= lowest && worse < PATIENCE; rate /= SPACING) {
    const trial = await attempt(rate);
    trials.push(trial);
    // Runs that diverge say only that the rate is too high.
    worse = trial.loss < best || best === Infinity ? 0 : worse + 1;
    best = Math.min(best, trial.loss);
  }
  // What rounding makes of the highest rate is still it.
  for (let rate = from * SPACING; trials[0]?.loss === best && rate <= highest * (1 + 1e-9); rate *= SPACING) {
    const trial = await attempt(rate);
    if (!(trial.loss < Infinity)) break;
    trials.unshift(trial);
    best = Math.min(best, trial.loss);
  }
  return trials;
}

/** Standard deviation; 0 of one number. */
function deviation(values: readonly number[]): number {
  const middle = mean(values);
  return Math.sqrt(mean(values.map((value) => (value - middle) ** 2)));
}

/** The median, or of two the smaller: a mean of losses that run away would say that they were always high. */
function middle(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor((values.length - 1) / 2)] ?? NaN;
}
