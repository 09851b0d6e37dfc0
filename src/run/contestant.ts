/**
 * One run of a comparison, trained an epoch at a time.
 *
 * @module
 */

import type { Dataset } from "../data/dataset.ts";
import { ConfigError, EngineError, isDivergence } from "../errors.ts";
import { mean } from "../statistics.ts";
import { Network, type NetworkOptions } from "../network/network.ts";
import { stepMultiplyAdds, trainingBytes } from "../train/cost.ts";
import type { Optimizer } from "../train/optimizers.ts";
import { Trainer, type TrainOptions } from "../train/trainer.ts";

/** The state of a run after an epoch. */
export interface ComparePoint {
  /** Epoch, from 1. */
  readonly epoch: number;
  /** Steps done. */
  readonly step: number;
  /** Seconds until here, with what came before the first step and without evaluation. */
  readonly seconds: number;
  /** Mean seconds of this epoch's steps. */
  readonly secondsPerStep: number;
  /** Loss of the epoch. */
  readonly trainLoss: number;
  /** Loss on the validation rows. */
  readonly validationLoss: number;
  /** Share of validation rows whose class was right; `null` without classes. */
  readonly validationAccuracy: number | null;
}

/** A measured run. */
export interface CompareRun {
  /** Its seed. */
  readonly seed: number;
  /** Its learning rate. */
  readonly learningRate: number;
  /** Its state after each epoch. */
  readonly curve: readonly ComparePoint[];
  /** Whether the loss stopped being a number. */
  readonly diverged: boolean;
  /** Most bytes in the engine, beside the data, before the first step and after each epoch. */
  readonly bytes: number;
  /** Multiply-adds of a step, as the mean of those before the first step and after each epoch; `null` where they are not counted. */
  readonly multiplyAdds: number | null;
  /** Accuracy on the test rows at the end; `null` without such rows or classes, after divergence, or where it was stopped. */
  readonly testAccuracy: number | null;
  /** Loss on the test rows at the end; `null` without such rows, after divergence, or where it was stopped. */
  readonly testLoss: number | null;
  /** What it had to warn of, as `Progress.warnings` has it: sentences without a full stop. */
  readonly warnings: readonly string[];
}

/** Rows in the engine. */
export interface Rows {
  /** To train on. */
  readonly train: Dataset;
  /** To watch. */
  readonly validation: Dataset;
  /** For the final figure. */
  readonly test: Dataset | undefined;
}

/** What a contestant is made of. */
export interface Entry {
  /** Name, for messages. */
  readonly name: string;
  /** The network. */
  readonly network: NetworkOptions;
  /** How to train it. */
  readonly training: TrainOptions & { readonly seed: number; readonly optimizer: Optimizer };
}

/** What a step costs at some moment of a run. */
interface Cost {
  readonly bytes: number;
  readonly multiplyAdds: number | undefined;
}

/** A run that waits for its turns. */
export class Contestant implements Disposable {
  /** What it is made of. */
  readonly entry: Entry;
  /** Its state after each epoch. */
  readonly curve: ComparePoint[] = [];
  /** Whether its loss stopped being a number. */
  diverged = false;
  readonly #trainer: Trainer;
  readonly #rows: Rows;
  readonly #setup: number;
  readonly #owned: DisposableStack;
  /** Before the first step and after each epoch: masks that change during a run change what its steps cost. */
  readonly #costs: Cost[];
  readonly #warnings: string[] = [];

  private constructor(
    entry: Entry,
    rows: Rows,
    run: { trainer: Trainer; setup: number; cost: Cost; owned: DisposableStack },
  ) {
    this.entry = entry;
    this.#rows = rows;
    this.#trainer = run.trainer;
    this.#setup = run.setup;
    this.#costs = [run.cost];
    this.#owned = run.owned;
    // A run that diverges in its first epoch has no state that tells of them.
    this.#warnings.push(...run.trainer.takeWarnings());
  }

  /**
   * Makes network and run.
   *
   * @throws {EngineError} where the rule refuses this network, data or optimizer; the message names the rule
   */
  static async create(entry: Entry, rows: Rows): Promise<Contestant> {
    using owned = new DisposableStack();
    const network = owned.use(Network.create(entry.network));
    const start = performance.now();
    try {
      const trainer = owned.use(await Trainer.create(network, rows.train, entry.training));
      const setup = (performance.now() - start) / 1000;
      const cost = await costOf(trainer);
      return new Contestant(entry, rows, { trainer, setup, cost, owned: owned.move() });
    } catch (cause) {
      if (!(cause instanceof EngineError || cause instanceof ConfigError)) throw cause;
      const code = cause instanceof EngineError ? cause.code : "invalid-config";
      throw new EngineError(code, `Cannot compare ${entry.name}: ${cause.message}`, { cause });
    }
  }

  /** Trains until a moment of `performance.now`, at least a little; for a run that nobody measures. */
  async warmUp(end: number): Promise<void> {
    try {
      while (!(await this.#trainer.chunk()).done && performance.now() < end);
    } catch (fault) {
      if (!isDivergence(fault)) throw fault;
    }
  }

  /** Whether there is nothing left to train. */
  get finished(): boolean {
    return this.diverged || this.curve.length >= Math.ceil(this.#trainer.config.epochs);
  }

  /** Trains one epoch and evaluates; nothing where it is finished. */
  async epoch(): Promise<void> {
    if (this.finished) return;
    const { network } = this.#trainer;
    const { signal } = this.entry.training;
    try {
      const { epoch, step, seconds, trainLoss, warnings = [] } = await this.#trainer.epoch();
      this.#warnings.push(...warnings);
      const measure = async () => await network.evaluate(this.#rows.validation, signal ? { signal } : {});
      const { loss, accuracy = null } = await this.#withAverage(measure);
      const last = this.curve.at(-1) ?? { step: 0, seconds: this.#setup };
      const until = this.#setup + seconds;
      this.curve.push({
        epoch,
        step,
        seconds: until,
        secondsPerStep: (until - last.seconds) / (step - last.step),
        trainLoss,
        validationLoss: loss,
        validationAccuracy: accuracy,
      });
      this.#costs.push(await costOf(this.#trainer));
    } catch (fault) {
      if (!isDivergence(fault)) throw fault;
      this.diverged = true;
    }
  }

  /** Whether there is anything to tell of it. */
  get begun(): boolean {
    return this.diverged || this.curve.length > 0;
  }

  /** What it came to, tested where there are rows for that. */
  async result(): Promise<CompareRun> {
    const { test } = this.#rows;
    const metrics = test && !this.diverged
      ? await this.#withAverage(async () => await this.#trainer.network.evaluate(test))
      : undefined;
    return { ...this.state(), testAccuracy: metrics?.accuracy ?? null, testLoss: metrics?.loss ?? null };
  }

  /** How far it has come, without a test; also after its network is freed. */
  state(): CompareRun {
    const { seed, optimizer } = this.entry.training;
    return {
      seed,
      learningRate: optimizer.learningRate,
      curve: this.curve,
      diverged: this.diverged,
      bytes: Math.max(...this.#costs.map(({ bytes }) => bytes)),
      multiplyAdds: meanCount(this.#costs.map(({ multiplyAdds }) => multiplyAdds)),
      testAccuracy: null,
      testLoss: null,
      warnings: this.#warnings,
    };
  }

  /** Running averages are what a run that keeps them is judged by. */
  async #withAverage<T>(measure: () => Promise<T>): Promise<T> {
    return this.#trainer.config.averageDecay === null ? await measure() : await this.#trainer.withAverage(measure);
  }

  /** Frees network and run. */
  [Symbol.dispose](): void {
    this.#owned.dispose();
  }
}

async function costOf(trainer: Trainer): Promise<Cost> {
  return { bytes: await trainingBytes(trainer), multiplyAdds: await stepMultiplyAdds(trainer) };
}

/** The mean to a whole number; `null` where some of it was not counted. */
function meanCount(counts: readonly (number | undefined)[]): number | null {
  const counted = counts.filter((count) => count !== undefined);
  return counted.length < counts.length ? null : Math.round(mean(counted));
}
