/**
 * The table of runs: one row a run, one row a figure.
 *
 * @module
 */

import type { DatabaseSync, SQLInputValue } from "node:sqlite";
import type { EpochEvent, RunEvent, RunRecord } from "../run_folder.ts";
import { inWords, openDatabase, transaction } from "./database.ts";

/** Where a run stands. */
export type RunStatus = "running" | "finished" | "interrupted" | "failed";

/** A row of the table. */
export interface RunRow {
  /** Identity, kept in the run's `config.json` too. */
  readonly id: string;
  /** Folder of the run, as an absolute path. */
  readonly folder: string;
  /** When the run began, in UTC. */
  readonly created: string;
  /** When this row last changed, in UTC. */
  readonly updated: string;
  /** Where the run stands. */
  readonly status: RunStatus;
  /** What went wrong, for a run that failed. */
  readonly message: string | null;
  /** Name of the data set. */
  readonly data: string;
  /** Name of the model. */
  readonly model: string;
  /** Name of the learning rule. */
  readonly rule: string;
  /** Kind of the optimizer. */
  readonly optimizer: string;
  /** Its learning rate. */
  readonly learningRate: number;
  /** Rows of a step. */
  readonly batchSize: number;
  /** Seed. */
  readonly seed: number;
  /** Epochs that were asked for. */
  readonly epochs: number;
  /** Epochs done. */
  readonly epoch: number;
  /** Steps done. */
  readonly step: number;
  /** Seconds spent in training. */
  readonly seconds: number;
  /** Loss of the last epoch; at the end of a run with early stopping of the one whose network is kept. */
  readonly trainLoss: number | null;
  /** Loss on the validation rows after that epoch. */
  readonly validationLoss: number | null;
  /** Accuracy on the validation rows after that epoch. */
  readonly accuracy: number | null;
  /** Best accuracy on the validation rows. */
  readonly bestAccuracy: number | null;
  /** Loss on the test rows. */
  readonly testLoss: number | null;
  /** Accuracy on the test rows. */
  readonly testAccuracy: number | null;
  /** Mean absolute error on the test rows. */
  readonly testMeanAbsoluteError: number | null;
  /** Options of `train` as JSON. */
  readonly options: string;
  /** Machine as JSON. */
  readonly machine: string;
  /** Address of the MLflow server that has the run. */
  readonly server: string | null;
  /** Identity of the run there. */
  readonly remote: string | null;
}

/** One figure of a run. */
export interface MetricRow {
  /** Identity of the run. */
  readonly run: string;
  /** Steps done. */
  readonly step: number;
  /** Name of the figure. */
  readonly name: string;
  /** The figure. */
  readonly value: number;
  /** Epoch, from 1; `null` for figures of the whole run. */
  readonly epoch: number | null;
  /** Seconds spent in training. */
  readonly seconds: number;
  /** 1 where the MLflow server has it, otherwise 0. */
  readonly sent: number;
}

/** What each column of the table holds. */
const kinds: Readonly<Record<keyof RunRow, "text" | "number">> = {
  id: "text",
  folder: "text",
  created: "text",
  updated: "text",
  status: "text",
  message: "text",
  data: "text",
  model: "text",
  rule: "text",
  optimizer: "text",
  learningRate: "number",
  batchSize: "number",
  seed: "number",
  epochs: "number",
  epoch: "number",
  step: "number",
  seconds: "number",
  trainLoss: "number",
  validationLoss: "number",
  accuracy: "number",
  bestAccuracy: "number",
  testLoss: "number",
  testAccuracy: "number",
  testMeanAbsoluteError: "number",
  options: "text",
  machine: "text",
  server: "text",
  remote: "text",
};

/** Columns of the table, in order. */
export const columns = Object.keys(kinds) as readonly (keyof RunRow)[];

/** Those of them that hold text; all others hold numbers. */
export const textColumns: readonly (keyof RunRow)[] = columns.filter((column) => kinds[column] === "text");

/** What is known of a run when it begins, or is read from its folder. */
export interface RunEntry {
  /** Its folder, as an absolute path. */
  readonly folder: string;
  /** Its record. */
  readonly record: RunRecord;
  /** Its events so far. */
  readonly events: readonly RunEvent[];
  /** Where it stands. */
  readonly status: RunStatus;
}

/** The table of runs in one file. Several processes may use it at once. */
export class RunTable implements Disposable {
  /** The file. */
  readonly path: string;
  readonly #database: DatabaseSync;

  /**
   * Opens the table, and makes it where it is new.
   *
   * @param path the file
   * @throws {RunTableError} where it cannot be used
   */
  constructor(path: string) {
    this.path = path;
    this.#database = openDatabase(path);
  }

  /** Closes the file. */
  [Symbol.dispose](): void {
    this.#database.close();
  }

  /** Enters a run with all its figures, in place of what the table had about it. */
  enter({ folder, record, events, status }: RunEntry): void {
    const { options, training, data, machine } = record;
    const row: Record<string, SQLInputValue> = {
      id: record.id,
      folder,
      created: record.created,
      updated: now(),
      status,
      message: null,
      data: data.name,
      model: modelName(options),
      rule: training.ruleName,
      optimizer: training.optimizer.kind,
      learningRate: training.optimizer.learningRate,
      batchSize: training.batchSize,
      seed: training.seed,
      epochs: training.epochs,
      options: JSON.stringify(options),
      machine: JSON.stringify(machine),
      epoch: 0,
      step: 0,
      seconds: 0,
      bestAccuracy: null,
    };
    const names = Object.keys(row);
    const fresh = names.filter((name) => name !== "id").map((name) => `${name} = excluded.${name}`);
    const statement = `INSERT INTO runs (${names}) VALUES (${
      names.map(() => "?")
    }) ON CONFLICT (id) DO UPDATE SET ${fresh}`;
    this.#change(() => {
      this.#database.prepare(statement).run(...Object.values(row));
      // Steps that were done after the last checkpoint are done again.
      const last = events.at(-1)?.step ?? 0;
      this.#database.prepare("DELETE FROM metrics WHERE run = ? AND step > ?").run(record.id, last);
      for (const event of events) this.#add(record.id, event);
      // The events of a run that goes on tell how it ended last time.
      this.#database.prepare("UPDATE runs SET status = ? WHERE id = ?").run(status, record.id);
    });
  }

  /** Adds what an event says. */
  add(id: string, event: RunEvent): void {
    this.#change(() => this.#add(id, event));
  }

  /** Notes where a run stands; a run that has ended otherwise keeps its end. */
  mark(id: string, status: RunStatus, message?: string): void {
    const statement = "UPDATE runs SET status = ?, message = ?, updated = ? WHERE id = ? AND status = 'running'";
    this.#change(() => this.#database.prepare(statement).run(status, message ?? null, now(), id));
  }

  /** Notes that a run was made on a server, which has none of its figures yet. */
  pushedRun(id: string, server: string, remote: string): void {
    this.#change(() => {
      this.#database.prepare("UPDATE runs SET server = ?, remote = ? WHERE id = ?").run(server, remote, id);
      this.#database.prepare("UPDATE metrics SET sent = 0 WHERE run = ?").run(id);
    });
  }

  /** Notes that figures are on the server. */
  pushedMetrics(metrics: readonly MetricRow[]): void {
    const statement = "UPDATE metrics SET sent = 1 WHERE run = ? AND step = ? AND name = ? AND value = ?";
    this.#change(() => {
      const update = this.#database.prepare(statement);
      for (const { run, step, name, value } of metrics) update.run(run, step, name, value);
    });
  }

  /** Takes a run and its figures out. */
  remove(id: string): void {
    this.#change(() => this.#database.prepare("DELETE FROM runs WHERE id = ?").run(id));
  }

  /** All runs, the oldest first. */
  runs(): RunRow[] {
    return this.#read("SELECT * FROM runs ORDER BY created, id", []) as unknown as RunRow[];
  }

  /** All figures of a run, by step and name. */
  metrics(id: string): MetricRow[] {
    return this.#read("SELECT * FROM metrics WHERE run = ? ORDER BY step, name", [id]) as unknown as MetricRow[];
  }

  #read(statement: string, values: readonly SQLInputValue[]): Record<string, unknown>[] {
    return inWords(this.path, () => this.#database.prepare(statement).all(...values));
  }

  #change(work: () => unknown): void {
    inWords(this.path, () => transaction(this.#database, work));
  }

  #add(id: string, event: RunEvent): void {
    const insert = this.#database.prepare(
      "INSERT INTO metrics (run, step, name, value, epoch, seconds) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET " +
        "sent = iif(value = excluded.value, sent, 0), value = excluded.value, seconds = excluded.seconds",
    );
    const epoch = event.event === "epoch" ? event.epoch : null;
    for (const [name, value] of figuresOf(event)) insert.run(id, event.step, name, value, epoch, event.seconds);
    const { step, seconds } = event;
    const set = { step, seconds, updated: now(), ...rowPart(event) };
    const names = Object.keys(set);
    const best = event.event === "epoch" && event.validationAccuracy !== null
      ? `, bestAccuracy = max(ifnull(bestAccuracy, 0), ${Number(event.validationAccuracy)})`
      : "";
    this.#database.prepare(`UPDATE runs SET ${names.map((name) => `${name} = ?`)}${best} WHERE id = ?`)
      .run(...Object.values(set), id);
    if (event.event === "done" && event.bestEpoch !== undefined) this.#keepEpoch(id, event.bestEpoch);
  }

  /** What a row says of a finished run is about the network that was tested and is kept. */
  #keepEpoch(id: string, epoch: number): void {
    const figure = "(SELECT value FROM metrics WHERE run = runs.id AND epoch = ? AND name = ?)";
    const statement =
      `UPDATE runs SET trainLoss = ${figure}, validationLoss = ${figure}, accuracy = ${figure} WHERE id = ?`;
    const names = ["trainLoss", "validationLoss", "validationAccuracy"];
    this.#database.prepare(statement).run(...names.flatMap((name) => [epoch, name]), id);
  }
}

/** The finite figures of an event by name. */
export function figuresOf(event: RunEvent): [string, number][] {
  if (event.event === "interrupted") return [];
  const { event: _, epoch: _epoch, step: _step, probes, ...figures } = event as EpochEvent;
  return Object.entries({ ...figures, ...probes })
    .filter((entry): entry is [string, number] => typeof entry[1] === "number" && Number.isFinite(entry[1]))
    .filter(([name]) => name !== "seconds");
}

function rowPart(event: RunEvent): Record<string, SQLInputValue> {
  switch (event.event) {
    case "epoch": {
      const { epoch, trainLoss, validationLoss, validationAccuracy: accuracy } = event;
      return { epoch, trainLoss, validationLoss, accuracy };
    }
    case "done": {
      const { testLoss, testAccuracy, testMeanAbsoluteError } = event;
      return { status: "finished", testLoss, testAccuracy, testMeanAbsoluteError };
    }
    case "interrupted":
      return { status: "interrupted" };
  }
}

/** A model in a word: its name, the widths of `mlp`, or that it came from a file. */
function modelName({ model, hidden }: RunRecord["options"]): string {
  if (typeof model === "string") return model;
  if (model !== undefined) return "file";
  return `mlp ${Array.isArray(hidden) && hidden.length > 0 ? hidden.join(",") : "none"}`;
}

function now(): string {
  return new Date().toISOString();
}
