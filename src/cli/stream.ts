/**
 * Data that is read part by part while a network trains (`--stream`): what the options mean for it, and what they cannot mean.
 *
 * @module
 */

import { createHash } from "node:crypto";
import { number } from "../config.ts";
import { csvStream } from "../data/csv_stream.ts";
import type { CsvTransform } from "../data/csv_transform.ts";
import { type ReadControl, readFault, telling } from "../data/files.ts";
import { hashTable } from "../data/hash.ts";
import { shuffleStream } from "../data/shuffle_stream.ts";
import { joinParts, partsOf, type TableStream } from "../data/stream.ts";
import type { Data, Table } from "../data/table.ts";
import { DataError } from "../errors.ts";
import { dataOptions } from "./data.ts";
import { UsageError } from "./errors.ts";
import { note } from "./terminal.ts";
import type { TrainValues } from "./train_options.ts";

/** Most bytes of rows that wait to be mixed, where nothing is said. */
const WINDOW_BYTES = 2 ** 28;

/** Most of such rows. */
const WINDOW_ROWS = 65_536;

/** Training rows that are not all there. */
export interface Streamed {
  /** Rows to watch and to test on, where there are any; in the place of the training rows the first part of them, which says what they are. */
  readonly data: Data & { readonly transform?: CsvTransform };
  /** The training rows, mixed. */
  readonly train: TableStream;
  /** How many there are. */
  readonly rows: number;
  /** SHA-256 over the files. */
  readonly hash: string;
}

/** A data set as it is opened. */
interface Opened {
  /** Its short name. */
  readonly name: string;
  readonly train: () => AsyncIterable<Table>;
  readonly rows: number;
  readonly transform?: CsvTransform;
  /** Reads rows to watch or to test on. */
  readonly read: (path: string) => Promise<Table>;
  /** Where rows to test on are, if it has any. */
  readonly test?: string;
  /** What it consists of. */
  readonly files: readonly string[];
  /** Whether the contents of the files count for the hash, or only their names and sizes. */
  readonly contents: boolean;
}

interface StreamSource {
  readonly options: readonly string[];
  readonly open: (path: string, options: Record<string, unknown>) => Promise<Opened>;
}

const COLUMNS = ["target", "task", "oneHot", "ignore", "standardize", "precision", "fitRows"] as const;

/** What can be streamed, by the beginning of its name. */
const streams: Readonly<Record<string, StreamSource>> = {
  "csv:": {
    options: [...COLUMNS, "header", "delimiter"],
    open: async (path, options) => ({ name: "csv", ...await csvStream(path, options), files: [path], contents: true }),
  },
  "parquet:": {
    options: COLUMNS,
    open: async (path, options) => {
      const { parquetStream } = await import("../formats/parquet.ts");
      return { name: "parquet", ...await parquetStream(path, options), files: [path], contents: true };
    },
  },
  "images:": {
    options: ["size", "colour", "skipBroken"],
    open: async (path, options) => {
      const { imageStream } = await import("../formats/image_folder.ts");
      const { onRead, ...own } = options as ReadControl;
      const { testFolder, ...stream } = await imageStream(path, {
        ...own,
        ...(onRead && {
          onProgress: (done, total) => onRead({ file: path, what: "reading", share: done / total }),
        }),
        onSkip: (_, fault) => note(`Left out: ${fault.message}\n`),
      });
      return { ...stream, ...(testFolder !== undefined && { test: testFolder }), contents: false };
    },
  },
};

/** Options that only mean something beside `--stream`. */
const ONLY_STREAM = ["shuffle-window", "validation-data", "test-data", "fit-rows"] as const;

/** Options that need all rows at once. */
const NEEDS_ALL = {
  "train-rows": "no such option",
  "test-fraction": "--test-data PATH instead",
  "shuffle-seed": "no such option",
  "validation-seed": "--validation-data PATH instead",
} as const;

/**
 * Refuses options that do not go with the way in which rows are read.
 *
 * @param values options of `train`
 * @throws {UsageError} for the first of them
 */
export function checkStreamOptions(values: TrainValues): void {
  if (!values.stream) {
    const found = ONLY_STREAM.find((name) => values[name] !== undefined);
    if (found !== undefined) throw new UsageError(`--${found}`, "--stream beside it", "none");
    return;
  }
  const refuse = (name: string, expected: string, found: unknown) => {
    throw new UsageError(`--${name} with --stream`, `${expected}, since the rows are never all there`, String(found));
  };
  const window = values["shuffle-window"];
  if (window !== undefined) number("shuffleWindow", window, { min: 0, max: 2 ** 31, whole: true });
  for (const [name, instead] of Object.entries(NEEDS_ALL)) {
    const value = values[name as keyof typeof NEEDS_ALL];
    if (value !== undefined) refuse(name, instead, value);
  }
  const split = values["validation-split"];
  if (split) refuse("validation-split", "--validation-data PATH instead", split);
  if (values["class-weights"] === "balanced") refuse("class-weights", "a weight for each class", "balanced");
  if (values.explain) refuse("explain", "no such option", "one");
}

/**
 * Opens the data set that the options name.
 *
 * @param values options of `train`
 * @param control progress of what is read before the first step
 * @returns the stream, and what is known about it
 * @throws {UsageError} where this data set cannot be streamed, or an option is not for it
 */
export async function openStream(values: TrainValues, control: ReadControl = {}): Promise<Streamed> {
  const { path, opened, first, train } = await openMixed(values, control);
  const { name, rows, transform, read, files, contents } = opened;
  const { "validation-data": watched, "test-data": tested = opened.test } = values;
  const validation = watched === undefined ? undefined : await read(watched);
  const test = tested === undefined ? undefined : await read(tested);
  const hashes = [contents ? await hashContents(files[0]!, control) : await hashListing(files, path)];
  for (const table of [validation, test]) if (table) hashes.push(await hashTable(table));
  return {
    data: {
      name,
      train: first,
      ...(validation && { validation }),
      ...(test && { test }),
      ...(transform && { transform }),
    },
    train,
    rows,
    hash: createHash("sha256").update(hashes.join("\n")).digest("hex"),
  };
}

/**
 * Some rows of the data set that the options name, mixed, for what needs no more of them.
 *
 * @param values options of `train`
 * @param wanted how many rows, by the first part and how many rows there are; less where 256 MiB do not hold them
 * @param control progress of what is read
 * @returns the rows, and how many there are in all
 * @throws as {@linkcode openStream}
 */
export async function someRows(
  values: TrainValues,
  wanted: (first: Table, rows: number) => number,
  control: ReadControl = {},
): Promise<{ table: Table; rows: number }> {
  const { path, opened: { rows }, first, train } = await openMixed(values, control);
  const most = Math.min(wanted(first, rows), rowsIn(WINDOW_BYTES, first));
  async function* some() {
    let count = 0;
    for await (const part of partsOf(train, 0)) {
      yield part;
      count += part.rows;
      if (count >= most) return;
    }
  }
  return { table: await joinParts(some(), path), rows };
}

/** Opens the training rows, and looks at the first part of them. */
async function openMixed(
  values: TrainValues,
  control: ReadControl,
): Promise<{ path: string; opened: Opened; first: Table; train: TableStream }> {
  checkStreamOptions(values);
  const name = values.data ?? "glyphs";
  const source = streams[name.slice(0, name.indexOf(":") + 1)];
  if (source === undefined) {
    const names = Object.keys(streams).map((known) => `${known}PATH`);
    throw new UsageError("--stream", `one of ${names.join(", ")} as --data`, name);
  }
  const path = name.slice(name.indexOf(":") + 1);
  const options = dataOptions(values, { name, known: source.options });
  const opened = await source.open(path, { ...options, ...control });
  const first = await firstPart(opened.train(), path);
  return { path, opened, first, train: mix(opened.train, { values, first }) };
}

function mix(train: () => AsyncIterable<Table>, from: { readonly values: TrainValues; readonly first: Table }) {
  const { values: { "shuffle-window": asked, seed = 0 }, first } = from;
  if (asked === 0) return train;
  return shuffleStream(train, { window: asked ?? Math.min(rowsIn(WINDOW_BYTES, first), WINDOW_ROWS), seed });
}

/** How many rows like these so many bytes hold, at least one. */
function rowsIn(bytes: number, { rows, features }: Table): number {
  return Math.max(1, Math.floor(bytes / Math.max(1, features.byteLength / rows)));
}

async function firstPart(parts: AsyncIterable<Table>, where: string): Promise<Table> {
  for await (const part of parts) if (part.rows > 0) return part;
  throw new DataError(where, "at least one row", "none");
}

async function hashContents(path: string, control: ReadControl): Promise<string> {
  const hash = createHash("sha256");
  try {
    using file = await Deno.open(path);
    const told = telling(path, { what: "reading", size: (await file.stat()).size, control });
    for await (const bytes of file.readable.pipeThrough(told)) hash.update(bytes);
  } catch (cause) {
    throw readFault(path, cause);
  }
  return hash.digest("hex");
}

/** Of many files the names and sizes: to read them all would take as long as an epoch. */
async function hashListing(files: readonly string[], folder: string): Promise<string> {
  const hash = createHash("sha256");
  for (const file of files) hash.update(`${file.slice(folder.length)} ${(await Deno.stat(file)).size}\n`);
  return hash.digest("hex");
}
