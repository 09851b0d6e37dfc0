/**
 * A training run, step by step under the caller's control: what `train` is made of.
 *
 * @module
 */

import { abortSignal, boolean, callback, knownOptions, number, objectGiven, seedNumber } from "../config.ts";
import { Dataset } from "../data/dataset.ts";
import { isStream, type StreamData, type TableStream } from "../data/stream.ts";
import type { Data, Table } from "../data/table.ts";
import { CheckpointError, ConfigError, EngineError } from "../errors.ts";
import { native } from "../ffi/native.ts";
import { check, encode, newStatus } from "../ffi/status.ts";
import { type Network, networkGiven } from "../network/network.ts";
import { backprop, fillSlots, isRule, type Rule } from "../rules/mod.ts";
import { type Checkpoint, saveCheckpoint } from "../run/checkpoint.ts";
import { type Augment, checkAugment } from "./augment.ts";
import { evaluate, type Metrics } from "./metrics.ts";
import { type Rows, StoredRows, StreamedRows } from "./rows.ts";
import { adam, checkOptimizer, type Optimizer } from "./optimizers.ts";
import { Pace } from "./pace.ts";
import { probe } from "./probe.ts";
import { ProbeMoment } from "./probe_moment.ts";
import { Warnings } from "./warnings.ts";
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
  /**
   * In how many parts the gradient of a batch is computed and added up, so that memory suffices for the rows of one part. The
   * result is that of the whole batch but for rounding (and for batch norms, which see a part). Rules that need a batch at once are
   * refused: `memAop`, `decorrelated`, `frontContribution`, `sparse` with schedule rigl, `dual` in modes feedback and activity.
   * Default 1.
   */
  readonly accumulate?: number;
  /**
   * For class labels: how much each class counts, one number from 0 up for each. A step follows Σ wᵢ · lossᵢ / Σ wᵢ over the rows
   * of its batch; losses are reported without weights. Default: all the same.
   */
  readonly classWeights?: readonly number[];
  /**
   * Keeps running averages of plain parameters (folded where a rule keeps them in parts) and running statistics: after each step average ← d · average + (1 − d) · value with
   * d = min(averageDecay, (1 + t) / (10 + t)) after t earlier steps; from 0 to below 1. `train` validates the averages and leaves
   * them in the network at the end; see {@linkcode Trainer.withAverage}. Default: none.
   */
  readonly averageDecay?: number;
  /** For a stream: steps of an epoch. */
  readonly stepsPerEpoch?: number;
  /** For a stream: batches that are read ahead while the engine computes. Default 2. */
  readonly prefetch?: number;
  /** Ends the run with its reason between two chunks of about 0.1 s. */
  readonly signal?: AbortSignal;
  /**
   * Whether each epoch ends with probes: how near the gradient is to back-propagation's, and more, on its last batch, or on the one
   * before where the last has fewer rows than the others. Default `false`.
   */
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
  /**
   * At the end of an epoch, where there are any: what the rule came through but should not have met, such as a matrix of
   * `decorrelated()` that had to begin anew (one sentence for each layer), layers whose mask leaves them no weight, a schedule of
   * `sparse()` that the run has no step for, a rule that takes effect in no layer, and probes that `accumulate` and masks leave out; each once
   * in a run.
   */
  readonly warnings?: readonly string[];
  /** Whether the epoch is complete. */
  readonly epochDone: boolean;
  /** Whether the run is complete. */
  readonly done: boolean;
  /** There where `train` ended the run before its last epoch. */
  readonly stoppedEarly?: true;
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
  /** Parts that a batch is computed in. */
  readonly accumulate: number;
  /** How much each class counts, or `null`. */
  readonly classWeights: readonly number[] | null;
  /** Share of the averages that a step leaves, or `null`. */
  readonly averageDecay: number | null;
  /** Steps of an epoch of a stream, or `null`. */
  readonly stepsPerEpoch: number | null;
  /** Number of training rows; `null` for a stream. */
  readonly rows: number | null;
}

/** Names of the options of a run. */
export const trainOptionNames = [
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
  "accumulate",
  "classWeights",
  "averageDecay",
  "stepsPerEpoch",
  "prefetch",
  "signal",
  "probe",
  "onProgress",
] as const satisfies readonly (keyof TrainOptions)[];

/** Fills in defaults and refuses what cannot be used; `rows` is `null` for a stream. */
export function trainingConfig(options: TrainOptions, rows: number | null): TrainingConfig {
  knownOptions("", options, trainOptionNames);
  checkStream(options, rows === null);
  callback("onProgress", options.onProgress);
  abortSignal("signal", options.signal);
  const most = rows ?? Number.MAX_SAFE_INTEGER;
  const rule = options.rule ?? backprop();
  if (!isRule(rule)) throw new ConfigError("rule", "a learning rule such as backprop()", rule);
  return {
    ruleName: rule.name,
    rule: rule.slots,
    optimizer: checkOptimizer({ ...options.optimizer ?? adam() }),
    schedule: checkSchedule({ ...options.schedule ?? constant() }),
    epochs: number("epochs", options.epochs ?? 10, { above: 0 }),
    batchSize: number("batchSize", options.batchSize ?? Math.min(128, most), {
      min: 1,
      ...(rows !== null && { max: rows }),
      whole: true,
    }),
    seed: seedNumber("seed", options.seed ?? 0),
    shuffle: boolean("shuffle", options.shuffle ?? rows !== null),
    dropLast: boolean("dropLast", options.dropLast ?? false),
    clipNorm: options.clipNorm === undefined ? null : number("clipNorm", options.clipNorm, { above: 0 }),
    augment: options.augment === undefined ? null : checkAugment(options.augment),
    accumulate: number("accumulate", options.accumulate ?? 1, { min: 1, whole: true }),
    classWeights: options.classWeights === undefined ? null : checkWeights(options.classWeights),
    averageDecay: options.averageDecay === undefined
      ? null
      : number("averageDecay", options.averageDecay, { min: 0, below: 1 }),
    stepsPerEpoch: options.stepsPerEpoch ?? null,
    rows,
  };
}

/** Refuses options of a stream without one, and the other way round. */
function checkStream({ stepsPerEpoch, prefetch, shuffle }: TrainOptions, stream: boolean): void {
  if (stream) {
    number("stepsPerEpoch", stepsPerEpoch, { min: 1, whole: true });
    if (shuffle) {
      const expected = "false beside a stream, whose rows have an order of their own (shuffleStream mixes them)";
      throw new ConfigError("shuffle", expected, shuffle);
    }
    return;
  }
  for (const [name, value] of Object.entries({ stepsPerEpoch, prefetch })) {
    if (value !== undefined) throw new ConfigError(name, "a stream of rows beside it", "rows that are all there");
  }
}

function checkWeights(weights: readonly number[]): readonly number[] {
  if (!Array.isArray(weights)) throw new ConfigError("classWeights", "a list of numbers, one for each class", weights);
  return weights.map((weight, index) => number(`classWeights[${index}]`, weight, { min: 0 }));
}

/** Throws why a checkpoint's run cannot go on: what the file gets wrong, as a fault of the file. */
function refuse(cause: unknown): never {
  const faults = ["invalid-config", "not-finite", "unknown-name"];
  if (cause instanceof ConfigError || (cause instanceof EngineError && faults.includes(cause.code))) {
    throw new CheckpointError(`Cannot resume: the checkpoint's run is unusable (${cause.message})`, { cause });
  }
  throw cause;
}

/** What a run can train on: a table or a stream, with or without validation rows, or a data set in the engine. */
export type TrainingData = Data | Table | Dataset | StreamData | TableStream;

/** The rows to train on, and those to watch. @throws {ConfigError} where there are none */
function partsOf(data: TrainingData): Pick<Data, "validation"> & { readonly train: Table | Dataset | TableStream } {
  const found = typeof data === "object" && data !== null && "train" in data ? data : { train: data };
  if (isStream(found.train)) return found;
  const place = found === data ? "data.train" : "data";
  objectGiven(place, found.train, "a table of training rows, a data set, or a stream of tables");
  return found as ReturnType<typeof partsOf>;
}

/** Attaches a run to a network, for rows like the first ones. */
function attach(
  network: Network,
  first: Dataset,
  { config, resumed }: { readonly config: TrainingConfig; readonly resumed: boolean },
): void {
  const { ruleName, rule, rows: _, ...rest } = config;
  const json = encode(JSON.stringify({ ...rest, rule: fillSlots({ name: ruleName, slots: rule }), resumed }));
  const status = newStatus();
  check(native().network_attach(network.handle, first.handle, json, json.length, status), status);
}

/** A run attached to a network. While it lives, no other run can train that network. */
export class Trainer implements Disposable, AsyncDisposable {
  /** The network in training. */
  readonly network: Network;
  /** The options with their defaults. */
  readonly config: TrainingConfig;
  readonly #rows: Rows;
  readonly #validation: Dataset | undefined;
  readonly #owned: DisposableStack;
  readonly #options: TrainOptions;
  /** When an epoch is probed, in a run with probes. */
  #moment: ProbeMoment | undefined;
  readonly #pace = new Pace();
  readonly #warnings: Warnings;
  #seconds = 0;
  #running: Promise<unknown> | undefined;
  #averaged = false;
  #closed: Promise<void> | undefined;
  #disposed = false;

  private constructor(
    network: Network,
    config: TrainingConfig,
    options: TrainOptions,
    data: { rows: Rows; validation: Dataset | undefined; owned: DisposableStack },
  ) {
    this.network = network;
    this.config = config;
    this.#options = options;
    this.#rows = data.rows;
    const probes = boolean("probe", options.probe ?? false);
    this.#moment = probes ? new ProbeMoment(config, 0) : undefined;
    this.#warnings = new Warnings({ ...config, probes });
    this.#validation = data.validation;
    this.#owned = data.owned;
  }

  /**
   * Copies the data into the engine and attaches a run to a network. Of a stream, only the batches that are next are in memory.
   *
   * @param network the network
   * @param data training rows, or a stream of them; with validation rows where there are any
   * @param options how to train
   * @returns the run, before its first step
   * @throws {ConfigError} where an option cannot be used
   * @throws {EngineError} where the data does not fit the network, or the network is in training already (`busy`)
   * @throws {DataError} where a stream has no rows
   */
  static async create(network: Network, data: TrainingData, options: TrainOptions = {}): Promise<Trainer> {
    return await Trainer.#attach(network, data, options, false);
  }

  static async #attach(
    network: Network,
    data: TrainingData,
    options: TrainOptions,
    resumed: boolean,
  ): Promise<Trainer> {
    using owned = new DisposableStack();
    const take = async (rows: Table | Dataset) =>
      rows instanceof Dataset ? rows : owned.use(await Dataset.create(rows));
    networkGiven(network);
    const { train: source, validation: watched } = partsOf(data);
    const validation = watched && await take(watched);
    const stored = isStream(source) ? undefined : await take(source);
    const config = trainingConfig(options, stored?.rows ?? null);
    const rows = stored ? new StoredRows(stored) : new StreamedRows(source as TableStream, config, options.prefetch);
    try {
      attach(network, await rows.first(), { config, resumed });
    } catch (cause) {
      await rows.close();
      throw cause;
    }
    const trainer = new Trainer(network, config, options, { rows, validation, owned: owned.move() });
    try {
      await trainer.#warnings.begin(network);
    } catch (cause) {
      trainer[Symbol.dispose]();
      throw cause;
    }
    return trainer;
  }

  /**
   * Goes on with a run that a checkpoint holds; the finished weights are then the same bits as without the interruption.
   *
   * @param checkpoint from `loadCheckpoint`, of a file that {@linkcode Trainer.save} wrote
   * @param data the same rows as before; a stream must begin anew, and what was read before is skipped
   * @param options signal, probes, progress and reading ahead; everything else comes from the checkpoint
   * @returns the run where it stopped
   * @throws {CheckpointError} where the checkpoint holds no run, not all of its state, or options that cannot be used
   * @throws {EngineError} where the data does not fit the network, or the network is in training already (`busy`)
   */
  static async resume(
    checkpoint: Checkpoint,
    data: TrainingData,
    options: Pick<TrainOptions, "signal" | "probe" | "onProgress" | "prefetch"> = {},
  ): Promise<Trainer> {
    objectGiven("checkpoint", checkpoint, "what loadCheckpoint() gives");
    const { network, run } = checkpoint;
    if (!run) throw new CheckpointError("Cannot resume: this checkpoint holds a network but no training run");
    objectGiven("checkpoint.run", run, "what loadCheckpoint() gives");
    objectGiven("checkpoint.run.config", run.config, "what loadCheckpoint() gives");
    const { ruleName, rule, clipNorm, augment, classWeights, averageDecay, stepsPerEpoch, rows, ...rest } = run.config;
    const { train: source } = partsOf(data);
    const found = isStream(source) ? null : source.rows;
    if (found !== rows) {
      const words = (count: number | null) => count === null ? "a stream of training rows" : `${count} training rows`;
      throw new CheckpointError(`Cannot resume: expected ${words(rows)} as before but found ${words(found)}`);
    }
    const attached = {
      ...rest,
      rule: { name: ruleName, slots: rule },
      ...(clipNorm !== null && { clipNorm }),
      ...(augment !== null && { augment }),
      ...(classWeights !== null && { classWeights }),
      ...(averageDecay !== null && { averageDecay }),
      ...(stepsPerEpoch !== null && { stepsPerEpoch }),
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
      const [step = 0, , inEpoch = 0] = network.read("training.counters");
      trainer.#moment &&= new ProbeMoment(trainer.config, inEpoch);
      await trainer.#rows.skip(step);
    } catch (cause) {
      await trainer[Symbol.asyncDispose]();
      refuse(cause);
    }
    return trainer;
  }

  /**
   * What there is to warn of before the first step. What is taken here does not come again with the first epoch.
   *
   * @returns sentences without a full stop; see `Progress.warnings`
   */
  takeWarnings(): string[] {
    return this.#warnings.take();
  }

  /**
   * Writes the network and the whole state of the run, to be resumed.
   *
   * @param path a safetensors file; the old one survives a fault
   * @throws {CheckpointError} where it cannot be written, or a number to be saved is not finite
   */
  async save(path: string | URL): Promise<void> {
    this.#checkLive();
    if (this.#averaged) {
      throw new EngineError("busy", "Cannot save this training run: the averages are in the place of the parameters");
    }
    await saveCheckpoint(this.network, path, { training: this.config });
  }

  /**
   * Trains until the end of the epoch.
   *
   * @returns the state at its end, with validation metrics: of the averages, where the run keeps any
   * @throws the signal's reason when it aborts; the run can go on afterwards
   * @throws {EngineError} `not-finite` when the loss stops being a number (names the layer)
   */
  async epoch(): Promise<Progress> {
    for (;;) {
      const progress = await this.chunk();
      if (!progress.epochDone && !progress.done) continue;
      const rows = this.#validation;
      if (!rows) return progress;
      const { signal } = this.#options;
      const measure = async () => await evaluate(this.network, rows, signal ? { signal } : {});
      const validation = this.config.averageDecay === null ? await measure() : await this.withAverage(measure);
      return { ...progress, validation };
    }
  }

  /**
   * Does something while the running averages (`averageDecay`) are in the place of the network's parameters, such as to evaluate
   * or to save it.
   *
   * @param body what to do; no step can be taken meanwhile
   * @returns what it gives
   * @throws {EngineError} `busy` where the run keeps no averages
   */
  async withAverage<T>(body: () => Promise<T>): Promise<T> {
    await this.#useAverage(true);
    try {
      return await body();
    } finally {
      await this.#useAverage(false);
    }
  }

  /**
   * Leaves the running averages (`averageDecay`) in the network as its parameters. The run takes no more steps then.
   *
   * @throws {EngineError} `busy` where the run keeps no averages
   */
  async keepAverage(): Promise<void> {
    await this.#useAverage(true);
  }

  async #useAverage(on: boolean): Promise<void> {
    this.#checkLive();
    const request = encode(JSON.stringify({ do: "useAverage", on }));
    const status = newStatus();
    check(await native().network_request(this.network.handle, request, request.length, status), status);
    this.#averaged = on;
  }

  /**
   * Trains for about 0.1 s, or until the end of the epoch.
   *
   * @returns the state afterwards
   * @throws as {@linkcode Trainer.epoch}
   */
  async chunk(): Promise<Progress> {
    return await this.#steps(CHUNK_STEPS);
  }

  /**
   * Takes one step.
   *
   * @returns the state afterwards
   * @throws as {@linkcode Trainer.epoch}
   */
  async step(): Promise<Progress> {
    return await this.#steps(1);
  }

  /** Takes up to `most` steps within a chunk's time. */
  async #steps(most: number): Promise<Progress> {
    this.#checkLive();
    this.#options.signal?.throwIfAborted();
    const report = new Float64Array(11);
    let start = performance.now();
    let probes: Record<string, number> | undefined;
    const done = (async () => {
      for (let count = 0; count < most;) {
        const rows = await this.#rows.next();
        try {
          const until = this.#moment?.stepsUntil(rows);
          if (until === 0) {
            const before = performance.now();
            probes = await probe(this);
            start += performance.now() - before;
          }
          // Rows of a stream serve one step of one call.
          const steps = this.#rows.stored ? Math.min(most - count, until || Infinity) : 1;
          const status = newStatus();
          check(await this.#call(rows.handle, { steps, report, status }), status);
          count += steps;
        } finally {
          this.#rows.release(rows);
        }
        const [, , inEpoch = 0, , , , , epochDone, finished] = report;
        this.#moment?.note(inEpoch);
        if (epochDone === 1 || finished === 1) break;
        const enough = this.#rows.stored || performance.now() - start >= CHUNK_MS;
        if (enough && !this.#moment?.last) break;
      }
    })();
    this.#running = done;
    try {
      await done;
    } finally {
      this.#running = undefined;
      this.#seconds += (performance.now() - start) / 1000;
    }
    const [
      step = 0,
      epoch = 0,
      ,
      lossSum = 0,
      correct = 0,
      rows = 0,
      learningRate = 0,
      epochDone,
      finished,
      ,
      totalSteps = 0,
    ] = report;
    const warnings = epochDone === 1 ? await this.#warnings.next(this.network) : [];
    if (epochDone === 1 && this.#moment) probes ??= await probe(this);
    const progress: Progress = {
      epoch: epoch + 1,
      epochs: this.config.epochs,
      step,
      totalSteps,
      rows,
      trainLoss: lossSum / rows,
      ...(this.#rows.labels && { trainAccuracy: correct / rows }),
      learningRate,
      seconds: this.#seconds,
      epochDone: epochDone === 1,
      done: finished === 1,
      ...(probes && { probes }),
      ...(warnings.length > 0 && { warnings }),
    };
    this.#options.onProgress?.(progress);
    return progress;
  }

  /** One call into the engine: of short steps, in the foreground. */
  async #call(
    rows: number,
    { steps, report, status }: {
      readonly steps: number;
      readonly report: Float64Array<ArrayBuffer>;
      readonly status: ReturnType<typeof newStatus>;
    },
  ): Promise<number> {
    const { handle } = this.network;
    const background = !this.#pace.foreground;
    const start = performance.now();
    const code = background
      ? await native().network_train(handle, rows, steps, CHUNK_MS, report, report.length, status)
      : native().network_train_now(handle, rows, steps, Pace.budget, report, report.length, status);
    this.#pace.note({ milliseconds: performance.now() - start, background });
    return code;
  }

  /** Ends the run, once; a chunk under way finishes first. What it kept between steps (optimizer, rule) is gone. */
  [Symbol.dispose](): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.#owned.dispose();
    // Of a stream, what is under way comes first; nobody waits for it here.
    this.#closed = this.#rows.close();
    this.#closed.catch(() => {});
    if (this.#running) this.#running.catch(() => {}).finally(() => this.#detach());
    else this.#detach();
  }

  /** As `[Symbol.dispose]`, and waits until a stream has been closed. @throws what the stream throws when it is closed */
  async [Symbol.asyncDispose](): Promise<void> {
    this[Symbol.dispose]();
    await this.#closed;
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
