/**
 * The training loop of the command line: epochs with their lines and checkpoints, and an end in good order on Ctrl-C.
 *
 * @module
 */

import type { Dataset } from "../data/dataset.ts";
import type { Table } from "../data/table.ts";
import { CheckpointError, DataError, EngineError, isDivergence } from "../errors.ts";
import { Network } from "../network/network.ts";
import type { EarlyStopping, Watched } from "../train/early_stopping.ts";
import type { Metrics } from "../train/metrics.ts";
import type { Progress, Trainer } from "../train/trainer.ts";
import { Interruption } from "./errors.ts";
import type { ProgressView } from "./progress.ts";
import {
  appendEvent,
  averageFile,
  bestFile,
  checkpointFile,
  type DoneEvent,
  type EpochEvent,
  type InterruptedEvent,
  type RunEvent,
} from "./run_folder.ts";
import type { Shadow } from "./shadow.ts";
import type { Tracking } from "./run_table/tracking.ts";
import { print } from "./terminal.ts";

/**
 * Milliseconds between checkpoints where no number of epochs is asked for, which is what a kill may cost; and so many times what the last
 * one took, at least: they shall cost half a percent of the time at most.
 */
const SAVE = { ms: 1000, times: 200 };

/** A run and what is watched. */
export interface Run {
  /** Its folder. */
  readonly folder: string;
  /** The run in the engine. */
  readonly trainer: Trainer;
  /** Steps that it has behind it. */
  readonly step: number;
  /** What `metrics.jsonl` holds already. */
  readonly events: readonly RunEvent[];
  /** Rows to watch. */
  readonly validation: Dataset | undefined;
  /** Rows for the final figure. */
  readonly test: Table | undefined;
  /** Where progress is shown. */
  readonly view: ProgressView;
  /** Whether events go to standard output. */
  readonly json: boolean;
  /** Back-propagation beside it, where the probes of its rule need that. */
  readonly shadow: Shadow | undefined;
  /** Its row in the table of runs, where it has one. */
  readonly tracking: Tracking | undefined;
  /** What ends it early, where something does; it knows no epoch yet. */
  readonly stopping: EarlyStopping | undefined;
  /** Epochs between two checkpoints; where none are said, see {@linkcode SAVE}. */
  readonly every: number | undefined;
  /** Ends the run. */
  readonly signal: AbortSignal;
}

/** What changes while a run goes on. */
interface State {
  /** Steps done. */
  step: number;
  /** Epochs whose line is written. */
  epoch: number;
  /** Seconds spent in training since the run began. */
  seconds: number;
  /** Step of the checkpoint that is on the disk. */
  saved: number;
  /** When the next one is due, by `performance.now`, where no number of epochs is asked for. */
  due: number;
  /** An epoch whose validation is under way. */
  pending: EpochEvent | undefined;
}

/**
 * Trains until the run is complete.
 *
 * @param run the run
 * @returns its last event
 * @throws {Interruption} when the signal aborts; the state is saved then
 * @throws {CheckpointError} where the folder cannot be written to
 * @throws {DataError} where rows of a stream cannot be read; the state is saved then
 */
export async function trainToEnd(run: Run): Promise<DoneEvent> {
  const { trainer, step, events, view } = run;
  const before = events.at(-1)?.seconds ?? 0;
  const epoch = events.findLast((event) => event.event === "epoch")?.epoch ?? 0;
  // The state at the beginning is on the disk already.
  const state: State = {
    step,
    epoch,
    seconds: before,
    saved: step,
    due: performance.now() + SAVE.ms,
    pending: pendingEpoch(events),
  };
  try {
    // A run that goes on knows what it had seen: it stops where it would have stopped.
    for (const event of events) if (event.event === "epoch") run.stopping?.observe(figuresOf(event));
    if (state.pending) await endEpoch(run, state, true);
    for (;;) {
      if (run.stopping?.stop) return await finish(run, state);
      const progress = await trainer.chunk();
      const fresh = progress.step > state.step;
      state.step = progress.step;
      state.seconds = toMilliseconds(before + progress.seconds);
      view.step(progress);
      for (const warning of progress.warnings ?? []) view.warn(warning);
      if (!progress.epochDone && !progress.done) continue;
      // A run that was complete already only reports where it stands.
      if (fresh) {
        state.pending = epochEvent(await withDifference(run, progress), state.seconds);
        await endEpoch(run, state, progress.done);
      }
      if (progress.done) return await finish(run, state);
    }
  } catch (fault) {
    if (fault instanceof Interruption) throw await saveForLater(run, { state, interruption: fault });
    if (fault instanceof DataError) {
      // Rows that cannot be read: the network is where its last whole step has left it, and none of that shall be lost.
      const [step = 0] = trainer.network.read("training.counters");
      state.step = step;
      await saveState(run, state);
      // Rows that are mended have another hash, and a run goes on with its own rows alone.
      const use = "predict and export read it, --resume needs the same rows";
      fault.message = `${fault.message}; ${keptWords(run, state)}: ${use}`;
    }
    if (isDivergence(fault)) {
      const words = fault.message.replace("clipNorm", "--clip-norm");
      throw new EngineError(fault.code, `${words}; ${keptWords(run, state)}`, { cause: fault });
    }
    throw fault;
  } finally {
    view.clear();
  }
}

/** The epoch that a stopped run had trained but not validated. */
function pendingEpoch(events: readonly RunEvent[]): EpochEvent | undefined {
  const last = events.at(-1);
  return last?.event === "interrupted" ? last.pending : undefined;
}

/** Validates, and writes the epoch's line and the checkpoint; in this order, see `keepEvents`. */
async function endEpoch(run: Run, state: State, last: boolean): Promise<void> {
  const { folder, trainer, validation, view, json, tracking, stopping, every, signal } = run;
  if (validation) view.status("validating");
  const metrics = validation && await withAverage(trainer, () => trainer.network.evaluate(validation, { signal }));
  const event: EpochEvent = {
    ...state.pending!,
    validationLoss: metrics?.loss ?? null,
    validationAccuracy: metrics?.accuracy ?? null,
  };
  // The best network is on the disk before the line that tells of it.
  if (stopping?.observe(figuresOf(event))) await withAverage(trainer, () => trainer.network.save(bestFile(folder)));
  await appendEvent(folder, event);
  state.epoch = event.epoch;
  // Of short epochs most of the time would go into checkpoints that are never read.
  const due = every === undefined ? performance.now() >= state.due : event.epoch % every === 0;
  if (last || stopping?.stop || due) await save(run, state);
  state.pending = undefined;
  tracking?.event(event);
  view.epoch(event, trainer.config.epochs);
  if (json) print(`${JSON.stringify(event)}\n`);
}

async function finish(run: Run, state: State): Promise<DoneEvent> {
  const { folder, trainer, test, view, json, tracking, stopping, signal } = run;
  if (test) view.status("testing");
  using best = stopping && await Network.load(bestFile(folder), { threads: trainer.network.describe().threads });
  const network = best ?? trainer.network;
  const measure = async () => test ? await network.evaluate(test, { signal }) : {};
  const averages = !best && trainer.config.averageDecay !== null;
  const metrics: Partial<Metrics> = averages ? await trainer.withAverage(measure) : await measure();
  if (averages) await trainer.withAverage(() => network.save(averageFile(folder)));
  const done: DoneEvent = {
    event: "done",
    testLoss: metrics.loss ?? null,
    testAccuracy: metrics.accuracy ?? null,
    testMeanAbsoluteError: metrics.meanAbsoluteError ?? null,
    step: state.step,
    seconds: state.seconds,
    ...(stopping?.best !== undefined && {
      bestEpoch: stopping.bestEpoch,
      stoppedEarly: state.epoch < Math.ceil(trainer.config.epochs),
    }),
    checkpoint: best ? bestFile(folder) : averages ? averageFile(folder) : checkpointFile(folder),
  };
  await appendEvent(folder, done);
  tracking?.event(done);
  if (json) print(`${JSON.stringify(done)}\n`);
  return done;
}

/** Does something with the running averages in the place of the parameters, where the run keeps any. */
async function withAverage<T>(trainer: Trainer, body: () => Promise<T>): Promise<T> {
  return await (trainer.config.averageDecay === null ? body() : trainer.withAverage(body));
}

function figuresOf({ validationLoss, validationAccuracy }: EpochEvent): Watched {
  return { loss: validationLoss, accuracy: validationAccuracy };
}

/** Saves the exact state; gives the words to leave with. */
async function saveForLater(
  run: Run,
  { state, interruption }: { readonly state: State; readonly interruption: Interruption },
): Promise<Interruption> {
  run.tracking?.event(await saveState(run, state));
  const message = `Interrupted after ${state.step} steps; the state is saved\n` +
    `Resume with: deno task train --resume ${run.folder}`;
  return new Interruption(interruption.exitCode, message);
}

/** Saves the exact state: line first, then checkpoint; see `keepEvents`. Gives the line. */
async function saveState(run: Run, state: State): Promise<InterruptedEvent> {
  const { step, seconds, pending } = state;
  const event: InterruptedEvent = { event: "interrupted", step, seconds, ...(pending && { pending }) };
  await appendEvent(run.folder, event);
  await save(run, state);
  return event;
}

/** Writes the checkpoint. */
async function save(run: Run, state: State): Promise<void> {
  try {
    const start = performance.now();
    await run.trainer.save(checkpointFile(run.folder));
    const end = performance.now();
    state.saved = state.step;
    state.due = end + Math.max(SAVE.ms, SAVE.times * (end - start));
  } catch (fault) {
    if (!(fault instanceof CheckpointError)) throw fault;
    throw new CheckpointError(`${fault.message}; ${keptWords(run, state)}`, { cause: fault });
  }
}

/** Adds how far a collapsed run is from back-propagation to its probes. */
async function withDifference({ shadow, trainer }: Run, progress: Progress): Promise<Progress> {
  if (shadow === undefined) return progress;
  const difference = await shadow.difference(trainer.network, progress.step);
  return { ...progress, probes: { ...progress.probes, "probe.largestDifference": difference } };
}

function keptWords({ folder }: Run, { saved }: State): string {
  return `${checkpointFile(folder)} still holds the state after ${saved} steps`;
}

function epochEvent(progress: Progress, seconds: number): EpochEvent {
  const { epoch, step, trainLoss, trainAccuracy, learningRate, probes } = progress;
  return {
    event: "epoch",
    epoch,
    step,
    trainLoss,
    trainAccuracy: trainAccuracy ?? null,
    validationLoss: null,
    validationAccuracy: null,
    learningRate,
    seconds,
    ...(probes && { probes }),
  };
}

/** Seconds with as many digits as a clock can vouch for. */
function toMilliseconds(seconds: number): number {
  return Math.round(seconds * 1000) / 1000;
}
