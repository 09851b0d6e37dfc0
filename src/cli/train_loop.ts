/**
 * The training loop of the command line: epochs with their lines and checkpoints, and an end in good order on Ctrl-C.
 *
 * @module
 */

import type { Dataset } from "../data/dataset.ts";
import type { Table } from "../data/table.ts";
import { CheckpointError, EngineError } from "../errors.ts";
import type { Metrics } from "../train/metrics.ts";
import type { Progress, Trainer } from "../train/trainer.ts";
import { Interruption } from "./errors.ts";
import type { ProgressView } from "./progress.ts";
import {
  appendEvent,
  checkpointFile,
  type DoneEvent,
  type EpochEvent,
  type InterruptedEvent,
  type RunEvent,
} from "./run_folder.ts";
import type { Tracking } from "./run_table/tracking.ts";
import { print } from "./terminal.ts";

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
  /** Its row in the table of runs, where it has one. */
  readonly tracking: Tracking | undefined;
  /** Ends the run. */
  readonly signal: AbortSignal;
}

/** What changes while a run goes on. */
interface State {
  /** Steps done. */
  step: number;
  /** Seconds spent in training since the run began. */
  seconds: number;
  /** Step of the checkpoint that is on the disk. */
  saved: number;
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
 */
export async function trainToEnd(run: Run): Promise<DoneEvent> {
  const { trainer, step, events, view } = run;
  const before = events.at(-1)?.seconds ?? 0;
  const state: State = { step, seconds: before, saved: step, pending: pendingEpoch(events) };
  try {
    if (state.pending) await endEpoch(run, state);
    for (;;) {
      const progress = await trainer.chunk();
      const fresh = progress.step > state.step;
      state.step = progress.step;
      state.seconds = toMilliseconds(before + progress.seconds);
      view.step(progress);
      if (!progress.epochDone && !progress.done) continue;
      // A run that was complete already only reports where it stands.
      if (fresh) {
        state.pending = epochEvent(progress, state.seconds);
        await endEpoch(run, state);
      }
      if (progress.done) return await finish(run, state);
    }
  } catch (fault) {
    if (fault instanceof Interruption) throw await saveForLater(run, { state, interruption: fault });
    if (fault instanceof EngineError && fault.code === "not-finite") {
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
async function endEpoch(run: Run, state: State): Promise<void> {
  const { folder, trainer, validation, view, json, tracking, signal } = run;
  if (validation) view.status("validating");
  const metrics = validation && await trainer.network.evaluate(validation, { signal });
  const event: EpochEvent = {
    ...state.pending!,
    validationLoss: metrics?.loss ?? null,
    validationAccuracy: metrics?.accuracy ?? null,
  };
  await appendEvent(folder, event);
  await save(run, state);
  state.pending = undefined;
  tracking?.event(event);
  view.epoch(event, trainer.config.epochs);
  if (json) print(`${JSON.stringify(event)}\n`);
}

async function finish(run: Run, state: State): Promise<DoneEvent> {
  const { folder, trainer, test, view, json, tracking, signal } = run;
  if (test) view.status("testing");
  const metrics: Partial<Metrics> = test ? await trainer.network.evaluate(test, { signal }) : {};
  const done: DoneEvent = {
    event: "done",
    testLoss: metrics.loss ?? null,
    testAccuracy: metrics.accuracy ?? null,
    testMeanAbsoluteError: metrics.meanAbsoluteError ?? null,
    step: state.step,
    seconds: state.seconds,
    checkpoint: checkpointFile(folder),
  };
  await appendEvent(folder, done);
  tracking?.event(done);
  if (json) print(`${JSON.stringify(done)}\n`);
  return done;
}

/** Saves the exact state (line first, then checkpoint; see `keepEvents`); gives the words to leave with. */
async function saveForLater(
  run: Run,
  { state, interruption }: { readonly state: State; readonly interruption: Interruption },
): Promise<Interruption> {
  const { folder } = run;
  const { step, seconds, pending } = state;
  const event: InterruptedEvent = { event: "interrupted", step, seconds, ...(pending && { pending }) };
  await appendEvent(folder, event);
  await save(run, state);
  run.tracking?.event(event);
  const message = `Interrupted after ${step} steps; the state is saved\n` +
    `Resume with: deno task train --resume ${folder}`;
  return new Interruption(interruption.exitCode, message);
}

/** Writes the checkpoint. */
async function save(run: Run, state: State): Promise<void> {
  try {
    await run.trainer.save(checkpointFile(run.folder));
    state.saved = state.step;
  } catch (fault) {
    if (!(fault instanceof CheckpointError)) throw fault;
    throw new CheckpointError(`${fault.message}; ${keptWords(run, state)}`, { cause: fault });
  }
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
