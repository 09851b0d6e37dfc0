/**
 * The file that holds the table of runs: opened, created, checked; and what its faults mean.
 *
 * @module
 */

import { dirname } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { environment } from "../../data/places.ts";
import { RunTableError } from "../errors.ts";

/** Version of the tables, kept as SQLite's `user_version`. */
const VERSION = 1;

/** Milliseconds that a write waits for another process. */
const PATIENCE_MS = 10_000;

/** Where the table lies unless option or environment say otherwise. */
const DEFAULT_PLACE = "runs/runs.db";

/** What SQLite's messages begin with, and the sentences that they become; Deno does not hand its codes on. */
const FAULTS: readonly (readonly [string, string])[] = [
  ["database is locked", "another process keeps it locked"],
  ["database table is locked", "another process keeps it locked"],
  ["database or disk is full", "the disk is full"],
  ["attempt to write a readonly database", "it is read-only"],
  ["file is not a database", "it is no SQLite file"],
  ["database disk image is malformed", "it is damaged"],
  ["unable to open database file", "it cannot be opened"],
];

const TABLES = `
  CREATE TABLE runs (
    id TEXT PRIMARY KEY,
    folder TEXT NOT NULL,
    created TEXT NOT NULL,
    updated TEXT NOT NULL,
    status TEXT NOT NULL,
    message TEXT,
    data TEXT NOT NULL,
    model TEXT NOT NULL,
    rule TEXT NOT NULL,
    optimizer TEXT NOT NULL,
    learningRate REAL NOT NULL,
    batchSize INTEGER NOT NULL,
    seed INTEGER NOT NULL,
    epochs REAL NOT NULL,
    epoch INTEGER NOT NULL,
    step INTEGER NOT NULL,
    seconds REAL NOT NULL,
    trainLoss REAL,
    validationLoss REAL,
    accuracy REAL,
    bestAccuracy REAL,
    testLoss REAL,
    testAccuracy REAL,
    testMeanAbsoluteError REAL,
    options TEXT NOT NULL,
    machine TEXT NOT NULL,
    server TEXT,
    remote TEXT
  ) STRICT;
  CREATE TABLE metrics (
    run TEXT NOT NULL REFERENCES runs(id) ON DELETE CASCADE,
    step INTEGER NOT NULL,
    name TEXT NOT NULL,
    value REAL NOT NULL,
    epoch INTEGER,
    seconds REAL NOT NULL,
    sent INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (run, step, name)
  ) STRICT, WITHOUT ROWID;
`;

/**
 * Where the table of runs lies.
 *
 * @param asked what an option says
 * @returns the path: the option's, the environment's (`LEANPROP_RUNS`), or `runs/runs.db`; nothing where either says `none`
 */
export function tablePlace(asked: string | undefined): string | undefined {
  const place = asked ?? environment("LEANPROP_RUNS") ?? DEFAULT_PLACE;
  return place === "none" ? undefined : place;
}

/**
 * Opens the file, and makes it where it is new.
 *
 * @param path the file
 * @param patience milliseconds that a write waits for another process
 * @returns the connection, in write-ahead mode
 * @throws {RunTableError} where it cannot be used, or a newer version made it
 */
export function openDatabase(path: string, patience: number = PATIENCE_MS): DatabaseSync {
  const database = inWords(path, () => {
    Deno.mkdirSync(dirname(path), { recursive: true });
    return new DatabaseSync(path, { timeout: patience, enableForeignKeyConstraints: true });
  });
  try {
    inWords(path, () => {
      startWriteAhead(database, patience);
      // A commit survives a killed process without waiting for the disk; only a power cut can take the last ones away.
      database.exec("PRAGMA synchronous = NORMAL");
      if (versionOf(database) === 0) create(database);
    });
    const version = versionOf(database);
    if (version !== VERSION) {
      throw new RunTableError(path, `expected version ${VERSION} but found ${version}, made by a newer leanprop`);
    }
    return database;
  } catch (fault) {
    database.close();
    throw fault;
  }
}

/**
 * Runs what works on the file; faults of SQLite come out as sentences.
 *
 * @param path the file, for messages
 * @param work what to do
 * @returns what it gives
 * @throws {RunTableError} for a fault of SQLite or the file system
 */
export function inWords<T>(path: string, work: () => T): T {
  try {
    return work();
  } catch (cause) {
    const words = causeInWords(cause);
    if (words === undefined) throw cause;
    throw new RunTableError(path, words, { cause });
  }
}

/** Runs what belongs together: all of it is kept, or nothing. */
export function transaction<T>(database: DatabaseSync, work: () => T): T {
  // Immediate: a transaction that reads first and writes then cannot wait for its turn.
  database.exec("BEGIN IMMEDIATE");
  try {
    const result = work();
    database.exec("COMMIT");
    return result;
  } catch (fault) {
    if (database.isTransaction) database.exec("ROLLBACK");
    throw fault;
  }
}

/** Changing the mode does not wait for its turn as other statements do, so this waits for it. */
function startWriteAhead(database: DatabaseSync, patience: number): void {
  const end = Date.now() + patience;
  for (;;) {
    try {
      database.exec("PRAGMA journal_mode = WAL");
      return;
    } catch (fault) {
      if (!isSqlite(fault) || !/^database is locked/.test(fault.message) || Date.now() > end) throw fault;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 10);
    }
  }
}

/** Makes the tables, unless another process was faster. */
function create(database: DatabaseSync): void {
  transaction(database, () => {
    if (versionOf(database) !== 0) return;
    database.exec(`${TABLES} PRAGMA user_version = ${VERSION}`);
  });
}

function versionOf(database: DatabaseSync): number {
  return database.prepare("PRAGMA user_version").get()?.user_version as number;
}

function causeInWords(cause: unknown): string | undefined {
  if (isSqlite(cause)) return FAULTS.find(([start]) => cause.message.startsWith(start))?.[1] ?? cause.message;
  if (cause instanceof Deno.errors.NotADirectory || cause instanceof Deno.errors.AlreadyExists) {
    return "its folder is a file";
  }
  return cause instanceof Deno.errors.PermissionDenied ? "the system denies access" : undefined;
}

function isSqlite(fault: unknown): fault is Error {
  return fault instanceof Error && "code" in fault && fault.code === "ERR_SQLITE_ERROR";
}
