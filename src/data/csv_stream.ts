/**
 * CSV files larger than memory: columns are fitted on the first rows, then rows come part by part.
 *
 * @module
 */

import { knownOptions, number } from "../config.ts";
import { DataError } from "../errors.ts";
import { type CsvOptions, parseCsv } from "./csv.ts";
import { columnNames, type CsvSheet, isBlank, parseSheet } from "./csv_records.ts";
import { type CsvTransform, placeColumns } from "./csv_transform.ts";
import { type ReadControl, readFault, telling } from "./files.ts";
import { type Fitted, fittedTable } from "./fitted.ts";
import { joinParts } from "./stream.ts";
import type { Table } from "./table.ts";

/** Options of {@linkcode csvStream}: those of `readCsv` that do not split or shuffle rows, and sizes. */
export interface CsvStreamOptions
  extends
    ReadControl,
    Pick<CsvOptions, "target" | "task" | "oneHot" | "ignore" | "standardize" | "header" | "delimiter" | "precision"> {
  /** Rows at the beginning that columns are fitted on: means, deviations, categories, classes. Default 100000. */
  readonly fitRows?: number;
  /** Rows of a part. Default 4096. */
  readonly partRows?: number;
}

const OPTIONS = [
  "target",
  "task",
  "oneHot",
  "ignore",
  "standardize",
  "header",
  "delimiter",
  "precision",
  "fitRows",
  "partRows",
  "onRead",
] as const satisfies readonly (keyof CsvStreamOptions)[];

/** A CSV file as a stream. */
export interface CsvStream {
  /** Begins a pass over the rows: what `train` takes. */
  readonly train: () => AsyncGenerator<Table, void, void>;
  /** Rows of the file; `stepsPerEpoch` is that over the batch size, rounded up. */
  readonly rows: number;
  /** Shape of a row: the number of inputs. */
  readonly shape: readonly number[];
  /** What the columns became. */
  readonly transform: CsvTransform;
  /** All rows of another file, treated as this one's, such as rows to watch; its columns are found by name where the file has a header. */
  readonly read: (path: string) => Promise<Table>;
}

/**
 * Opens a CSV file whose rows do not fit into memory. The first rows are read to fit the columns, the others are counted.
 *
 * @param path the file, plain or gzip, in UTF-8; no record has a line end inside a field of more than `partRows` records
 * @param options which columns are what
 * @returns the stream
 * @throws {DataError} with file, line and column, where a field cannot be used, also in the middle of training
 * @throws {ConfigError} where an option cannot be used
 *
 * @example
 * ```ts ignore
 * import { csvStream, mlp, Network, train } from "@leanprop/leanprop";
 * const stream = await csvStream("clicks.csv.gz", { target: "clicked", task: "classification" });
 * using network = Network.create(mlp({ input: stream.shape, outputs: 2 }));
 * const stepsPerEpoch = Math.ceil(stream.rows / 128);
 * for await (const p of train(network, stream, { stepsPerEpoch, epochs: 3 })) console.log(p.trainLoss);
 * ```
 */
export async function csvStream(path: string, options: CsvStreamOptions = {}): Promise<CsvStream> {
  knownOptions("csvStream", options, OPTIONS);
  const { fitRows = 100_000, partRows = 4096, onRead, ...columns } = options;
  number("fitRows", fitRows, { min: 1, whole: true });
  number("partRows", partRows, { min: 1, whole: true });
  let transform: CsvTransform | undefined;
  let shape: readonly number[] = [];
  let records = 0;
  for await (const block of blocks(path, fitRows + 1, onRead && { onRead })) {
    records += block.records;
    if (transform) continue;
    const fit = parseCsv(block.text, { ...columns, where: path });
    transform = fit.transform;
    shape = fit.train.shape;
  }
  if (!transform) throw new DataError(path, "at least one record", "an empty file");
  const fitted = { transform, partRows, precision: columns.precision ?? "f32" };
  return {
    train: () => tables(path, fitted),
    rows: records - (transform.headed ? 1 : 0),
    shape,
    transform,
    read: (path) => joinParts(tables(path, fitted), path),
  };
}

/** A pass over a file, with its columns by their names in it. */
async function* tables(
  path: string,
  { transform, precision, partRows }: Fitted & { readonly partRows: number },
): AsyncGenerator<Table, void, void> {
  const { headed, delimiter } = transform;
  let names: readonly string[] | undefined;
  let placed = transform;
  for await (const { text, line } of blocks(path, partRows)) {
    const where = line === 1 ? path : `${path}, after line ${line - 1}`;
    const block = parseSheet(text, { where, header: false, delimiter });
    const header = names === undefined && headed ? block.records[0] : undefined;
    const records = block.records.slice(header ? 1 : 0).map((record) => ({ ...record, line: record.line + line - 1 }));
    names ??= columnNames(header, headed ? block.names.length : transform.width);
    const sheet: CsvSheet = { where: path, headed, names, records };
    if (header) placed = placeColumns(sheet, transform);
    const { width } = placed;
    const other = records.find(({ fields }) => fields.length < width || !fields.slice(width).every(isBlank));
    if (other) throw new DataError(`${path}, line ${other.line}`, `${width} fields`, `${other.fields.length} fields`);
    if (records.length > 0) yield fittedTable(sheet, { transform: placed, precision });
  }
}

/** Some whole records of a file. */
interface Block {
  readonly text: string;
  /** Line of the file on which it starts, from 1. */
  readonly line: number;
  /** Records that are not blank. */
  readonly records: number;
}

/** A file in blocks of whole records; a line end inside quotes ends none. Blocks of blank lines are left out. */
async function* blocks(path: string, most: number, control: ReadControl = {}): AsyncGenerator<Block, void, void> {
  let [rest, line, records, lines] = ["", 1, 0, 0];
  let [at, start, quoted] = [0, 0, false];
  for await (const text of readTexts(path, control)) {
    rest += text;
    for (; at < rest.length; at++) {
      const code = rest.charCodeAt(at);
      if (code === 34) quoted = !quoted;
      else if (code === 10) lines++;
      if (code !== 10 || quoted) continue;
      if (rest.slice(start, at).trim() !== "") records++;
      start = at + 1;
      if (records < most) continue;
      yield { text: rest.slice(0, start), line, records };
      line += lines;
      [rest, records, lines] = [rest.slice(start), 0, 0];
      [at, start] = [-1, 0];
    }
  }
  if (rest.slice(start).trim() !== "") records++;
  if (records > 0) yield { text: rest, line, records };
}

/** The text of a file, piece by piece; gzip is undone where the first two bytes say so. */
async function* readTexts(path: string, control: ReadControl): AsyncGenerator<string, void, void> {
  const file = await Deno.open(path).catch((cause) => {
    throw readFault(path, cause);
  });
  const head = new Uint8Array(2);
  let size = 0;
  try {
    ({ size } = await file.stat());
    await file.read(head);
    await file.seek(0, Deno.SeekMode.Start);
  } catch (cause) {
    file.close();
    throw readFault(path, cause);
  }
  const zipped = head[0] === 0x1f && head[1] === 0x8b;
  const told = file.readable.pipeThrough(telling(path, { what: "reading", size, control }));
  const plain = zipped ? told.pipeThrough(new DecompressionStream("gzip")) : told;
  const reader = plain.pipeThrough(new TextDecoderStream("utf-8", { fatal: true })).getReader();
  try {
    for (;;) {
      const { value, done } = await reader.read().catch((cause) => {
        throw new DataError(path, zipped ? "a whole gzip file of UTF-8 text" : "UTF-8 text", "bytes that are not", {
          cause,
        });
      });
      if (done) return;
      yield value;
    }
  } finally {
    await reader.cancel().catch(() => {});
  }
}
