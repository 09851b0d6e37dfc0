/**
 * Parquet files as data sets: the `./parquet` export. It needs the npm packages hyparquet and hyparquet-compressors, which are
 * loaded at the first file.
 *
 * @module
 */

import { knownOptions, number } from "../config.ts";
import { CSV_OPTIONS, type CsvData, type CsvOptions, sheetData } from "../data/csv.ts";
import type { CsvRecord, CsvSheet } from "../data/csv_records.ts";
import { placeColumns } from "../data/csv_transform.ts";
import type { CsvStream } from "../data/csv_stream.ts";
import { readFault } from "../data/files.ts";
import { type Fitted, fittedTable } from "../data/fitted.ts";
import { joinParts } from "../data/stream.ts";
import type { Table } from "../data/table.ts";
import { DataError } from "../errors.ts";

/** Options of {@linkcode readParquet}: those of `readCsv`, but for the form of text. */
export type ParquetOptions = Omit<CsvOptions, "header" | "delimiter">;

/**
 * Reads a Parquet file: columns of numbers and of words, as `readCsv` reads a CSV file with a header.
 *
 * @param path the file; compressed or not
 * @param options which columns are what
 * @returns training rows, validation and test rows where asked for, and the fitted transform
 * @throws {DataError} where the file cannot be read or a value cannot be used; rows are counted as lines below a header
 * @throws {ConfigError} where an option cannot be used
 *
 * @example
 * ```ts ignore
 * import { readParquet } from "@leanprop/leanprop/parquet";
 * const data = await readParquet("houses.parquet", { target: "price", task: "regression", testFraction: 0.2 });
 * ```
 */
export async function readParquet(path: string, options: ParquetOptions = {}): Promise<CsvData> {
  knownOptions("readParquet", options, CSV_OPTIONS.filter((name) => name !== "header" && name !== "delimiter"));
  const file = await ParquetFile.open(path);
  const records: CsvRecord[] = [];
  for await (const sheet of file.sheets()) {
    for (const record of sheet.records) records.push(record);
    options.onRead?.({ file: path, what: "reading", share: records.length / file.rows });
  }
  return sheetData(file.sheet(records), { name: "parquet", ...options });
}

/** Options of {@linkcode parquetStream}: those of `readParquet` that do not split or shuffle rows. */
export interface ParquetStreamOptions
  extends Pick<ParquetOptions, "onRead" | "target" | "task" | "oneHot" | "ignore" | "standardize" | "precision"> {
  /** Rows at the beginning that columns are fitted on: means, deviations, categories, classes. Default 100000. */
  readonly fitRows?: number;
}

/**
 * Opens a Parquet file that does not fit into memory. Of its row groups, one at a time is read and decoded: files for streams should
 * have groups of some 10,000 to 100,000 rows.
 *
 * @param path the file; compressed or not
 * @param options which columns are what
 * @returns the stream; its parts are the row groups
 * @throws {DataError} where the file cannot be read or a value cannot be used, also in the middle of training; rows are counted as
 * lines below a header
 * @throws {ConfigError} where an option cannot be used
 *
 * @example
 * ```ts ignore
 * import { mlp, Network, train } from "@leanprop/leanprop";
 * import { parquetStream } from "@leanprop/leanprop/parquet";
 * const stream = await parquetStream("clicks.parquet", { target: "clicked", task: "classification" });
 * using network = Network.create(mlp({ input: stream.shape, outputs: 2 }));
 * const stepsPerEpoch = Math.ceil(stream.rows / 128);
 * for await (const p of train(network, stream, { stepsPerEpoch, epochs: 3 })) console.log(p.trainLoss);
 * ```
 */
export async function parquetStream(path: string, options: ParquetStreamOptions = {}): Promise<CsvStream> {
  knownOptions("parquetStream", options, STREAM_OPTIONS);
  const { fitRows = 100_000, ...columns } = options;
  number("parquetStream.fitRows", fitRows, { min: 1, whole: true });
  const file = await ParquetFile.open(path);
  const records: CsvRecord[] = [];
  for await (const sheet of file.sheets()) {
    for (const record of sheet.records) if (records.length < fitRows) records.push(record);
    columns.onRead?.({
      file: path,
      what: "reading",
      share: Math.min(1, records.length / Math.min(fitRows, file.rows)),
    });
    if (records.length >= fitRows) break;
  }
  const { transform, train: { shape } } = sheetData(file.sheet(records), { name: "parquet", ...columns });
  const fitted = { transform, precision: columns.precision ?? "f32" };
  return {
    train: () => tables(file, fitted),
    rows: file.rows,
    shape,
    transform,
    read: async (path) => {
      const other = await ParquetFile.open(path);
      const placed = placeColumns(other.sheet([]), transform);
      return await joinParts(tables(other, { ...fitted, transform: placed }), path);
    },
  };
}

const STREAM_OPTIONS = ["target", "task", "oneHot", "ignore", "standardize", "precision", "fitRows", "onRead"] as const;

async function* tables(file: ParquetFile, fitted: Fitted): AsyncGenerator<Table, void, void> {
  for await (const sheet of file.sheets()) yield fittedTable(sheet, fitted);
}

/** Columns and row groups of a file, of which only the end has been read. */
class ParquetFile {
  /** Names of the columns. */
  readonly names: readonly string[];
  /** Rows of all groups. */
  readonly rows: number;
  readonly #path: string;
  readonly #groups: readonly number[];
  readonly #read: (rowStart: number, rowEnd: number) => Promise<unknown[][]>;

  private constructor(
    path: string,
    columns: { readonly names: readonly string[]; readonly groups: readonly number[] },
    read: (rowStart: number, rowEnd: number) => Promise<unknown[][]>,
  ) {
    this.#path = path;
    this.names = columns.names;
    this.#groups = columns.groups;
    this.rows = columns.groups.reduce((sum, rows) => sum + rows, 0);
    this.#read = read;
  }

  static async open(path: string): Promise<ParquetFile> {
    const file = await ranges(path);
    const [{ parquetMetadataAsync, parquetRead, parquetSchema }, { compressors }] = await Promise.all([
      import("hyparquet"),
      import("hyparquet-compressors"),
    ]);
    const metadata = await parquetMetadataAsync(file).catch((cause) => {
      throw damaged(path, cause);
    });
    const names = parquetSchema(metadata).children.map(({ element }) => element.name);
    const groups = metadata.row_groups.map(({ num_rows }) => Number(num_rows));
    if (!groups.some((rows) => rows > 0)) throw new DataError(path, "at least one row", "none");
    return new ParquetFile(path, { names, groups }, async (rowStart, rowEnd) => {
      let rows: unknown[][] = [];
      await parquetRead({
        file,
        metadata,
        compressors,
        rowStart,
        rowEnd,
        onComplete: (data) => rows = data as unknown[][],
      });
      return rows;
    });
  }

  /** Records under the names of the columns. */
  sheet(records: readonly CsvRecord[]): CsvSheet {
    return { where: this.#path, headed: true, names: this.names, records };
  }

  /** The row groups, each read and decoded when it is asked for. */
  async *sheets(): AsyncGenerator<CsvSheet, void, void> {
    let from = 0;
    for (const [index, count] of this.#groups.entries()) {
      if (count === 0) continue;
      const rows = await this.#read(from, from + count).catch((cause) => {
        throw cause instanceof DataError ? cause : damaged(`${this.#path}, row group ${index + 1}`, cause);
      });
      yield this.sheet(rows.map((row, index) => this.#record(row, from + index + 2)));
      from += count;
    }
  }

  #record(row: readonly unknown[], line: number): CsvRecord {
    const fields = this.names.map((name, column) =>
      field(row[column], `${this.#path}, line ${line}, column ${column + 1} (${name})`)
    );
    return { line, fields };
  }
}

/** A file of which parts are read as they are asked for. */
async function ranges(
  path: string,
): Promise<{ byteLength: number; slice: (start: number, end?: number) => Promise<ArrayBuffer> }> {
  const stat = await Deno.stat(path).catch((cause) => {
    throw readFault(path, cause);
  });
  if (stat.isDirectory) throw new DataError(path, "a file", "a folder");
  const slice = async (start: number, end = stat.size) => {
    const bytes = new Uint8Array(end - start);
    try {
      using file = await Deno.open(path);
      await file.seek(start, Deno.SeekMode.Start);
      for (let done = 0; done < bytes.length;) {
        const count = await file.read(bytes.subarray(done));
        if (count === null) throw new DataError(path, `${stat.size} bytes as when it was opened`, start + done);
        done += count;
      }
    } catch (cause) {
      throw readFault(path, cause);
    }
    return bytes.buffer;
  };
  return { byteLength: stat.size, slice };
}

function damaged(where: string, cause: unknown): DataError {
  return new DataError(where, "a Parquet file", `other or damaged bytes (${(cause as Error).message})`, { cause });
}

/** A value as text, which brings every number back exactly. */
function field(value: unknown, where: string): string {
  // A gap is null; what is not there at all has been lost with its page.
  if (value === undefined) throw damaged(where, new Error("a page with fewer values than the row group has rows"));
  if (value === null) return "";
  if (value instanceof Date) return value.toISOString();
  if (typeof value === "boolean") return value ? "1" : "0";
  if (typeof value === "string" || typeof value === "number" || typeof value === "bigint") return String(value);
  throw new DataError(where, "a number, a word or a date", "a list or another structure");
}
