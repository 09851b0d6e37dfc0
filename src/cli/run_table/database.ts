/**
 * The file that holds the table of runs: opened, created, checked; and what its faults mean.
 *
 * @module
 */

import { dirname } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { environment } from "../../data/places.ts";
import { reason } from "../../run/files.ts";
import { RunTableError } from "../errors.ts";

/** Version of the tables, kept as SQLite's `user_version`. */
const VERSION = 1;

/** Milliseconds that a write waits for another process. */
const PATIENCE_MS = 10_000;

/** Where the table lies unless option or environment say otherwise. */
const DEFAULT_PLACE = "runs/runs.db";

/** What to try where another file may do. */
const ELSEWHERE = "(--runs FILE names another)";

/** Where somebody has it locked; this is waited for. */
const LOCKED = ["a turn to write (try again later)", "it locked by another process"] as const;

/** What SQLite's messages begin with, what was expected then, and what that means was found; Deno does not hand its codes on. */
const FAULTS: readonly (readonly [start: string, expected: string, found: string])[] = [
  ["database is locked", ...LOCKED],
  ["database table is locked", ...LOCKED],
  ["database or disk is full", `room on its disk ${ELSEWHERE}`, "none left"],
  ["disk I/O error", `a disk that takes what is written ${ELSEWHERE}`, "a full one, or one that fails"],
  ["attempt to write a readonly database", `a file that may be written ${ELSEWHERE}`, "one that is read-only"],
  ["file is not a database", `an SQLite file ${ELSEWHERE}`, "another file"],
  [
    "database disk image is malformed",
    "a whole SQLite file (move it away; deno task runs add FOLDER enters runs anew)",
    "a damaged one",
  ],
  [
    "unable to open database file",
    `a file that can be opened or made ${ELSEWHERE}`,
    "one that cannot, such as a folder",
  ],
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
      throw new RunTableError(path, `version ${VERSION} ${ELSEWHERE}`, `${version}, made by a newer leanprop`);
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
    throw new RunTableError(path, ...words, { cause });
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

/** What was expected and what was found; nothing for what is no fault of SQLite or the system. */
function causeInWords(cause: unknown): readonly [expected: string, found: string] | undefined {
  if (isSqlite(cause)) {
    const [, expected = "statements to be carried out", found = cause.message] = FAULTS.find(([start]) =>
      cause.message.startsWith(start)
    ) ?? [];
    return [expected, found];
  }
  if (cause instanceof Deno.errors.NotADirectory || cause instanceof Deno.errors.AlreadyExists) {
    return [`a file in a folder ${ELSEWHERE}`, "a file where its folder should be"];
  }
  return isOfSystem(cause)
    ? [`a file that can be opened or made ${ELSEWHERE}`, `a refusal: ${reason(cause)}`]
    : undefined;
}

function isSqlite(fault: unknown): fault is Error {
  return fault instanceof Error && "code" in fault && fault.code === "ERR_SQLITE_ERROR";
}

/** Whether a fault comes from the file system, whose codes are words such as ENOENT, or from missing permission. */
function isOfSystem(fault: unknown): boolean {
  return fault instanceof Deno.errors.NotCapable ||
    fault instanceof Error && "code" in fault && /^E[A-Z0-9]+$/.test(String(fault.code));
}
