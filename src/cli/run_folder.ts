/**
 * The folder of a run: what it was (`config.json`), how it went (`metrics.jsonl`) and where it stands
 * (`checkpoint.safetensors`). A folder is a run from the moment when `config.json` is in it.
 *
 * @module
 */

import type { CsvTransform } from "../data/csv_transform.ts";
import type { TargetInfo } from "../data/dataset.ts";
import { CheckpointError, DataError } from "../errors.ts";
import type { Network } from "../network/network.ts";
import { reason, writeWhole } from "../run/files.ts";
import type { TrainingConfig } from "../train/trainer.ts";
import { UsageError } from "./errors.ts";
import { readJsonFile } from "./json_file.ts";
import type { Machine } from "./machine.ts";

/** Version of `config.json`. */
const FORMAT = 1;

/** What `config.json` holds: everything that is needed to repeat the run. */
export interface RunRecord {
  /** Version of this file. */
  readonly format: number;
  /** Identity of the run, in the table of runs too. */
  readonly id: string;
  /** When the run began, in UTC. */
  readonly created: string;
  /** Options of `train` by name, with the defaults that were filled in; a model from a file stands here in full. */
  readonly options: Readonly<Record<string, unknown>>;
  /** The data set. */
  readonly data: {
    /** Its name. */
    readonly name: string;
    /** SHA-256 over all rows as they were read. */
    readonly hash: string;
    /** Rows by part. */
    readonly rows: { readonly train: number; readonly validation: number; readonly test: number };
    /** Shape of one sample. */
    readonly shape: readonly number[];
    /** What the network should give. */
    readonly targets: TargetInfo;
    /** For byte features: value = byte · scale + offset. */
    readonly scale?: readonly number[];
    /** See `scale`. */
    readonly offset?: readonly number[];
    /** For CSV files: what each column became. */
    readonly transform?: CsvTransform;
  };
  /** The network with its defaults. */
  readonly network: Network["config"];
  /** The training run with its defaults. */
  readonly training: TrainingConfig;
  /** What it ran on. */
  readonly machine: Machine;
}

/** The line of a finished epoch. */
export interface EpochEvent {
  /** What happened. */
  readonly event: "epoch";
  /** Epoch, from 1. */
  readonly epoch: number;
  /** Steps done since the run began. */
  readonly step: number;
  /** Mean loss of the epoch's rows, each taken before its step's update. */
  readonly trainLoss: number;
  /** Share of those rows whose class was right; `null` without classes. */
  readonly trainAccuracy: number | null;
  /** Mean loss on the validation rows; `null` without any. */
  readonly validationLoss: number | null;
  /** Share of validation rows whose class was right; `null` without any or without classes. */
  readonly validationAccuracy: number | null;
  /** Learning rate of the last step. */
  readonly learningRate: number;
  /** Seconds spent in training since the run began, evaluation and pauses left out. */
  readonly seconds: number;
  /** Figures about the rule's gradient and state, where the run was asked for them. */
  readonly probes?: Readonly<Record<string, number>>;
}

/** The line of a finished run. */
export interface DoneEvent {
  /** What happened. */
  readonly event: "done";
  /** Mean loss on the test rows; `null` without any. */
  readonly testLoss: number | null;
  /** Share of test rows whose class was right; `null` without any or without classes. */
  readonly testAccuracy: number | null;
  /** Mean absolute difference between predictions and test targets; `null` without any or with classes. */
  readonly testMeanAbsoluteError: number | null;
  /** Steps of the run. */
  readonly step: number;
  /** Seconds spent in training since the run began. */
  readonly seconds: number;
  /** With early stopping: the epoch whose network was kept. */
  readonly bestEpoch?: number;
  /** With early stopping: whether the run ended before its last epoch. */
  readonly stoppedEarly?: boolean;
  /** The file with the network to predict with. */
  readonly checkpoint: string;
}

/** The line of a run that was stopped and can be resumed. */
export interface InterruptedEvent {
  /** What happened. */
  readonly event: "interrupted";
  /** Steps done since the run began. */
  readonly step: number;
  /** Seconds spent in training since the run began. */
  readonly seconds: number;
  /** A finished epoch whose validation was cut short; it is made up for when the run goes on. */
  readonly pending?: EpochEvent;
}

/** A line of `metrics.jsonl`. */
export type RunEvent = EpochEvent | DoneEvent | InterruptedEvent;

/** The checkpoint of a run. */
export function checkpointFile(folder: string): string {
  return `${folder}/checkpoint.safetensors`;
}

/** The network of the best epoch, for runs that stop early. */
export function bestFile(folder: string): string {
  return `${folder}/best.safetensors`;
}

/** The averages of the parameters at the end, for runs that keep them. */
export function averageFile(folder: string): string {
  return `${folder}/average.safetensors`;
}

/**
 * Makes the folder of a new run.
 *
 * @param out where the user wants it, or nothing
 * @param names of data set and rule, for a folder below `runs`
 * @returns the path of an empty folder
 * @throws {UsageError} where the wanted folder exists and is not empty
 * @throws {CheckpointError} where it cannot be made
 */
export async function createRunFolder(
  out: string | undefined,
  names: { readonly data: string; readonly rule: string },
): Promise<string> {
  try {
    if (out !== undefined) {
      await Deno.mkdir(out, { recursive: true });
      const names = (await Array.fromAsync(Deno.readDir(out))).map(({ name }) => name).sort();
      if (names.length > 0) throw usedFolder(out, names);
      return out;
    }
    await Deno.mkdir("runs", { recursive: true });
    const time = new Date().toISOString().slice(0, 19).replaceAll(":", "-");
    // Two runs may begin in the same second: making the folder is what claims the name.
    for (let number = 1;; number++) {
      const path = `runs/${time}-${names.data}-${names.rule}${number === 1 ? "" : `-${number}`}`;
      try {
        await Deno.mkdir(path);
        return path;
      } catch (fault) {
        if (!(fault instanceof Deno.errors.AlreadyExists)) throw fault;
      }
    }
  } catch (cause) {
    if (cause instanceof UsageError) throw cause;
    const words = cause instanceof Deno.errors.AlreadyExists || cause instanceof Deno.errors.NotADirectory
      ? "a file of that name is in the way"
      : reason(cause);
    throw new CheckpointError(`Cannot make the run folder ${out ?? "runs"}: ${words}`, { cause });
  }
}

/** Says what is in a folder that is not empty, and what can be done about it. */
function usedFolder(out: string, names: readonly string[]): UsageError {
  const expected = (also: string) => `a folder that is new or empty${also}`;
  if (names.includes("config.json")) {
    return new UsageError(
      "--out",
      expected(` (name another one; deno task train --resume ${out} goes on with its run)`),
      `a run in ${out}`,
    );
  }
  const others = names.length > 1 ? ` and ${names.length - 1} more` : "";
  const found = names.includes("compare.json") ? "a comparison" : `${names[0]}${others}`;
  return new UsageError("--out", expected(" (name another one)"), `${found} in ${out}`);
}

/** Writes `config.json`; gives what it holds. */
export async function writeRecord(folder: string, content: Omit<RunRecord, "format">): Promise<RunRecord> {
  const record = { format: FORMAT, ...content };
  const text = JSON.stringify(record, undefined, 2);
  await writeWhole(`${folder}/config.json`, [new TextEncoder().encode(`${text}\n`)]);
  return record;
}

/**
 * Reads `config.json`.
 *
 * @param folder the folder of a run
 * @returns the record
 * @throws {DataError} where there is none, or it is none of ours
 */
export async function readRecord(folder: string): Promise<RunRecord> {
  const path = `${folder}/config.json`;
  const json = await readJsonFile(path);
  if (json.format !== FORMAT) throw new DataError(path, `the record of a run, format ${FORMAT}`, json.format);
  const { options, data, network, training } = json as Partial<Record<keyof RunRecord, Record<string, unknown>>>;
  const whole = [options, data, network, training].every((part) => typeof part === "object" && part !== null) &&
    typeof json.id === "string" && typeof data?.hash === "string" && typeof data.targets === "object";
  if (!whole) {
    throw new DataError(path, "the record of a run with id, options, data, network and training", "parts of one");
  }
  return json as unknown as RunRecord;
}

/** Appends a line to `metrics.jsonl`. */
export async function appendEvent(folder: string, event: RunEvent): Promise<void> {
  const path = `${folder}/metrics.jsonl`;
  try {
    await Deno.writeTextFile(path, `${JSON.stringify(event)}\n`, { append: true });
  } catch (cause) {
    throw new CheckpointError(`Cannot write ${path}: ${reason(cause)}`, { cause });
  }
}

/**
 * Takes lines out of `metrics.jsonl` that are newer than the checkpoint (a kill between two writes leaves such: their epochs
 * are trained again) and the line of a finished run, which is written again.
 *
 * @param folder the folder of a run
 * @param step steps that the checkpoint has behind it
 * @returns the lines that stay
 */
export async function keepEvents(folder: string, step: number): Promise<RunEvent[]> {
  const path = `${folder}/metrics.jsonl`;
  const text = await readLines(path);
  const kept = parseEvents(text).filter((event) => event.event !== "done" && event.step <= step);
  const lines = kept.map((event) => `${JSON.stringify(event)}\n`).join("");
  if (lines !== text) await writeWhole(path, [new TextEncoder().encode(lines)]);
  return kept;
}

/**
 * Reads `metrics.jsonl`.
 *
 * @param folder the folder of a run
 * @returns its lines; none where the file is not there yet
 * @throws {CheckpointError} where it cannot be read
 */
export async function readEvents(folder: string): Promise<RunEvent[]> {
  return parseEvents(await readLines(`${folder}/metrics.jsonl`));
}

async function readLines(path: string): Promise<string> {
  return await Deno.readTextFile(path).catch((cause) => {
    if (cause instanceof Deno.errors.NotFound) return "";
    throw new CheckpointError(`Cannot read ${path}: ${reason(cause)}`, { cause });
  });
}

function parseEvents(text: string): RunEvent[] {
  return text.split("\n").flatMap((line) => parseEvent(line) ?? []);
}

/** A line as an event; a line that was cut off in the middle is none. */
function parseEvent(line: string): RunEvent | undefined {
  try {
    return JSON.parse(line);
  } catch {
    return undefined;
  }
}
