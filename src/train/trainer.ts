/**
 * A training run, step by step under the caller's control: what `train` is made of.
 *
 * @module
 */

import { boolean, knownOptions, number, seedNumber } from "../config.ts";
import { Dataset } from "../data/dataset.ts";
import type { Data, Table } from "../data/table.ts";
import { CheckpointError, ConfigError, EngineError } from "../errors.ts";
import { native } from "../ffi/native.ts";
import { check, encode, newStatus } from "../ffi/status.ts";
import type { Network } from "../network/network.ts";
import { backprop, fillSlots, type Rule } from "../rules/mod.ts";
import { type Checkpoint, saveCheckpoint } from "../run/checkpoint.ts";
import { type Augment, checkAugment } from "./augment.ts";
import { evaluate, type Metrics } from "./metrics.ts";
import { adam, checkOptimizer, type Optimizer } from "./optimizers.ts";
import { probe } from "./probe.ts";
import { checkSchedule, constant, type Schedule } from "./schedules.ts";

/** Milliseconds of one native call: between calls the event loop and an abort signal have their turn. */
const CHUNK_MS = 80;

/** Most steps of one native call. */
const CHUNK_STEPS = 1_000_000;

/** How to train. */
export interface TrainOptions {
  /** The learning rule. Default: back-propagation. */
  readonly rule?: Rule;
  /** The optimizer. Default `adam()`. */
  readonly optimizer?: Optimizer;
  /** How the learning rate changes. Default `constant()`. */
  readonly schedule?: Schedule;
  /** Passes over the training rows; above 0, fractions allowed. Default 10. */
  readonly epochs?: number;
  /** Rows of one step, from 1 to the number of training rows. Default 128, or all rows where there are fewer. */
  readonly batchSize?: number;
  /** Seed of the data order, of dropout and of the rule's choices; whole number from 0. Default 0. */
  readonly seed?: number;
  /** Whether each epoch has an order of its own. Default `true`. */
  readonly shuffle?: boolean;
  /** Whether rows that do not fill a last batch are left out. Default `false`. */
  readonly dropLast?: boolean;
  /** Largest norm of the whole gradient; larger ones are scaled down. Default: no limit. */
  readonly clipNorm?: number;
  /** Random changes to the images of each step. Default: none. */
  readonly augment?: Augment;
  /** Ends the run with its reason between two chunks of about 0.1 s. */
  readonly signal?: AbortSignal;
  /** Whether each epoch ends with probes: how near the gradient is to back-propagation's, and more. Default `false`. */
  readonly probe?: boolean;
  /** Called after each such chunk, for progress bars. */
  readonly onProgress?: (progress: Progress) => void;
}

/** Where a run stands. */
export interface Progress {
  /** Epoch, from 1. */
  readonly epoch: number;
  /** Epochs of the run. */
  readonly epochs: number;
  /** Steps done. */
  readonly step: number;
  /** Steps of the run. */
  readonly totalSteps: number;
  /** Rows of this epoch that have been seen. */
  readonly rows: number;
  /** Mean loss of those rows, each taken before its step's update. */
  readonly trainLoss: number;
  /** Share of those rows whose class was right (labels only), before its step's update. */
  readonly trainAccuracy?: number;
  /** Learning rate of the last step. */
  readonly learningRate: number;
  /** Seconds spent in training since the run began or was resumed, evaluation left out. */
  readonly seconds: number;
  /** Metrics on the validation rows, at the end of an epoch and where there are any. */
  readonly validation?: Metrics;
  /** At the end of an epoch, where they were asked for: figures of {@linkcode probe} by name. */
  readonly probes?: Readonly<Record<string, number>>;
  /** Whether the epoch is complete. */
  readonly epochDone: boolean;
  /** Whether the run is complete. */
  readonly done: boolean;
}

/** All options with their defaults, as a checkpoint keeps them. */
export interface TrainingConfig {
  /** Name of the learning rule. */
  readonly ruleName: string;
  /** The learning rule's slots. */
  readonly rule: Rule["slots"];
  /** The optimizer. */
  readonly optimizer: Optimizer;
  /** The schedule. */
  readonly schedule: Schedule;
  /** Passes over the training rows. */
  readonly epochs: number;
  /** Rows of one step. */
  readonly batchSize: number;
  /** Seed. */
  readonly seed: number;
  /** Whether each epoch has an order of its own. */
  readonly shuffle: boolean;
  /** Whether rows that do not fill a last batch are left out. */
  readonly dropLast: boolean;
  /** Largest norm of the gradient, or `null`. */
  readonly clipNorm: number | null;
  /** Random changes to images, or `null`. */
  readonly augment: Required<Augment> | null;
  /** Number of training rows. */
  readonly rows: number;
}

const OPTIONS = [
  "rule",
  "optimizer",
  "schedule",
  "epochs",
  "batchSize",
  "seed",
  "shuffle",
  "dropLast",
  "clipNorm",
  "augment",
  "signal",
  "probe",
  "onProgress",
] as const satisfies readonly (keyof TrainOptions)[];

/** Fills in defaults and refuses what cannot be used. */
export function trainingConfig(options: TrainOptions, rows: number): TrainingConfig {
  knownOptions("", options, OPTIONS);
  const rule = options.rule ?? backprop();
  if (typeof rule?.slots !== "object" || rule.slots === null) {
    throw new ConfigError("rule", "a learning rule such as backprop()", rule);
  }
  return {
    ruleName: rule.name,
    rule: rule.slots,
    optimizer: checkOptimizer({ ...options.optimizer ?? adam() }),
    schedule: checkSchedule({ ...options.schedule ?? constant() }),
    epochs: number("epochs", options.epochs ?? 10, { above: 0 }),
    batchSize: number("batchSize", options.batchSize ?? Math.min(128, rows), { min: 1, max: rows, whole: true }),
    seed: seedNumber("seed", options.seed ?? 0),
    shuffle: boolean("shuffle", options.shuffle ?? true),
    dropLast: boolean("dropLast", options.dropLast ?? false),
    clipNorm: options.clipNorm === undefined ? null : number("clipNorm", options.clipNorm, { above: 0 }),
    augment: options.augment === undefined ? null : checkAugment(options.augment),
    rows,
  };
}

/** Throws why a checkpoint's run cannot go on: what the file gets wrong, as a fault of the file. */
function refuse(cause: unknown): never {
  const faults = ["invalid-config", "not-finite", "unknown-name"];
  if (cause instanceof ConfigError || (cause instanceof EngineError && faults.includes(cause.code))) {
    throw new CheckpointError(`Cannot resume: the checkpoint's run is unusable (${cause.message})`, { cause });
  }
  throw cause;
}

/** A run attached to a network. While it lives, no other run can train that network. */
export class Trainer implements Disposable {
  /** The network in training. */
  readonly network: Network;
  /** The options with their defaults. */
  readonly config: TrainingConfig;
  readonly #train: Dataset;
  readonly #validation: Dataset | undefined;
  readonly #owned: DisposableStack;
  readonly #options: TrainOptions;
  readonly #probes: boolean;
  #seconds = 0;
  #running: Promise<unknown> | undefined;
  #disposed = false;

  private constructor(
    network: Network,
    config: TrainingConfig,
    options: TrainOptions,
    data: { train: Dataset; validation: Dataset | undefined; owned: DisposableStack },
  ) {
    this.network = network;
    this.config = config;
    this.#options = options;
    this.#probes = boolean("probe", options.probe ?? false);
    this.#train = data.train;
    this.#validation = data.validation;
    this.#owned = data.owned;
  }

  /**
   * Copies the data into the engine and attaches a run to a network.
   *
   * @param network the network
   * @param data training rows, with validation rows where there are any
   * @param options how to train
   * @returns the run, before its first step
   * @throws {ConfigError} where an option cannot be used
   * @throws {EngineError} where the data does not fit the network, or the network is in training already (`busy`)
   */
  static async create(network: Network, data: Data | Table | Dataset, options: TrainOptions = {}): Promise<Trainer> {
    return await Trainer.#attach(network, data, options, false);
  }

  static async #attach(
    network: Network,
    data: Data | Table | Dataset,
    options: TrainOptions,
    resumed: boolean,
  ): Promise<Trainer> {
    using owned = new DisposableStack();
    const take = async (rows: Table | Dataset) =>
      rows instanceof Dataset ? rows : owned.use(await Dataset.create(rows));
    const train = await take("train" in data ? data.train : data);
    const validation = "train" in data && data.validation ? await take(data.validation) : undefined;
    const config = trainingConfig(options, train.rows);
    const { ruleName, rule, rows: _, ...rest } = config;
    const json = encode(JSON.stringify({ ...rest, rule: fillSlots({ name: ruleName, slots: rule }), resumed }));
    const status = newStatus();
    check(native().network_attach(network.handle, train.handle, json, json.length, status), status);
    return new Trainer(network, config, options, { train, validation, owned: owned.move() });
  }

  /**
   * Goes on with a run that a checkpoint holds; the finished weights are then the same bits as without the interruption.
   *
   * @param checkpoint from `loadCheckpoint`, of a file that {@linkcode Trainer.save} wrote
   * @param data the same rows as before
   * @param options signal, probes and progress; everything else comes from the checkpoint
   * @returns the run where it stopped
   * @throws {CheckpointError} where the checkpoint holds no run, not all of its state, or options that cannot be used
   * @throws {EngineError} where the data does not fit the network, or the network is in training already (`busy`)
   */
  static async resume(
    checkpoint: Checkpoint,
    data: Data | Table | Dataset,
    options: Pick<TrainOptions, "signal" | "probe" | "onProgress"> = {},
  ): Promise<Trainer> {
    const { network, run } = checkpoint;
    if (!run) throw new CheckpointError("Cannot resume: this checkpoint holds a network but no training run");
    const { ruleName, rule, clipNorm, augment, rows, ...rest } = run.config;
    const found = "train" in data ? data.train.rows : data.rows;
    if (found !== rows) {
      throw new CheckpointError(`Cannot resume: expected ${rows} training rows as before but found ${found}`);
    }
    const attached = {
      ...rest,
      rule: { name: ruleName, slots: rule },
      ...(clipNorm !== null && { clipNorm }),
      ...(augment !== null && { augment }),
      ...options,
    };
    const trainer = await Trainer.#attach(network, data, attached, true).catch(refuse);
    try {
      const rest = new Map(run.tensors);
      for (const { name, group, dtype, shape } of network.tensors()) {
        if (["parameter", "buffer", "gradient", "mask"].includes(group)) continue;
        const values = rest.get(name);
        if (!values) throw new CheckpointError(`Cannot resume: the checkpoint holds no tensor ${name}`);
        // Converted numbers would not go on with the same bits.
        if ((values instanceof Float64Array) !== (dtype === "f64")) {
          throw new CheckpointError(`Cannot resume: expected ${name} in ${dtype} but found another type`);
        }
        const count = shape.reduce((product, axis) => product * axis, 1);
        if (values.length !== count) {
          throw new CheckpointError(`Cannot resume: expected ${count} numbers in ${name} but found ${values.length}`);
        }
        network.write(name, values);
        rest.delete(name);
      }
      const [extra] = rest.keys();
      if (extra !== undefined) throw new CheckpointError(`Cannot resume: this run has no tensor ${extra}`);
    } catch (cause) {
      trainer[Symbol.dispose]();
      refuse(cause);
    }
    return trainer;
  }

  /**
   * Writes the network and the whole state of the run, to be resumed.
   *
   * @param path a safetensors file; the old one survives a fault
   * @throws {CheckpointError} where it cannot be written, or a number to be saved is not finite
   */
  async save(path: string | URL): Promise<void> {
    this.#checkLive();
    await saveCheckpoint(this.network, path, { training: this.config });
  }

  /**
   * Trains until the end of the epoch.
   *
   * @returns the state at its end, with validation metrics
   * @throws the signal's reason when it aborts; the run can go on afterwards
   * @throws {EngineError} `not-finite` when the loss stops being a number (names the layer)
   */
  async epoch(): Promise<Progress> {
    for (;;) {
      const progress = await this.chunk();
      if (!progress.epochDone && !progress.done) continue;
      if (!this.#validation) return progress;
      const { signal } = this.#options;
      const validation = await evaluate(this.network, this.#validation, signal ? { signal } : {});
      return { ...progress, validation };
    }
  }

  /**
   * Trains for about 0.1 s, or until the end of the epoch.
   *
   * @returns the state afterwards
   * @throws as {@linkcode Trainer.epoch}
   */
  async chunk(): Promise<Progress> {
    this.#checkLive();
    this.#options.signal?.throwIfAborted();
    const report = new Float64Array(11);
    const status = newStatus();
    const start = performance.now();
    const call = native().network_train(
      this.network.handle,
      this.#train.handle,
      CHUNK_STEPS,
      CHUNK_MS,
      report,
      report.length,
      status,
    );
    this.#running = call;
    const code = await call;
    this.#running = undefined;
    this.#seconds += (performance.now() - start) / 1000;
    check(code, status);
    const [
      step = 0,
      epoch = 0,
      ,
      lossSum = 0,
      correct = 0,
      rows = 0,
      learningRate = 0,
      epochDone,
      done,
      ,
      totalSteps = 0,
    ] = report;
    const progress: Progress = {
      epoch: epoch + 1,
      epochs: this.config.epochs,
      step,
      totalSteps,
      rows,
      trainLoss: lossSum / rows,
      ...(this.#train.targets.kind === "labels" && { trainAccuracy: correct / rows }),
      learningRate,
      seconds: this.#seconds,
      epochDone: epochDone === 1,
      done: done === 1,
      ...(epochDone === 1 && this.#probes && { probes: await probe(this) }),
    };
    this.#options.onProgress?.(progress);
    return progress;
  }

  /** Ends the run, once; a chunk under way finishes first. What it kept between steps (optimizer, rule) is gone. */
  [Symbol.dispose](): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.#owned.dispose();
    if (this.#running) this.#running.finally(() => this.#detach());
    else this.#detach();
  }

  /** Without it a disposed run would drive, or end, the run that the network has now. */
  #checkLive(): void {
    if (this.#disposed) throw new EngineError("unknown-handle", "Cannot use this training run: it is disposed");
  }

  #detach(): void {
    try {
      const status = newStatus();
      check(native().network_detach(this.network.handle, status), status);
    } catch (fault) {
      // The network may be gone already, or hurt by a bug: there is nothing left to detach.
      if (!(fault instanceof EngineError && ["unknown-handle", "poisoned"].includes(fault.code))) throw fault;
    }
  }
}
