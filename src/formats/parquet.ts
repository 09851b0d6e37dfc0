/**
 * Parquet files as data sets: the `./parquet` export. It needs the npm packages hyparquet and hyparquet-compressors, which are
 * loaded at the first file.
 *
 * @module
 */

import { type CsvData, type CsvOptions, sheetData } from "../data/csv.ts";
import { readBytes } from "../data/files.ts";
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
  const bytes = await readBytes(path);
  const [{ parquetMetadataAsync, parquetRead, parquetSchema }, { compressors }] = await Promise.all([
    import("hyparquet"),
    import("hyparquet-compressors"),
  ]);
  const file = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength);
  let names: string[] = [];
  let rows: unknown[][] = [];
  try {
    const metadata = await parquetMetadataAsync(file);
    names = parquetSchema(metadata).children.map(({ element }) => element.name);
    await parquetRead({ file, metadata, compressors, onComplete: (data) => rows = data as unknown[][] });
  } catch (cause) {
    throw new DataError(path, "a Parquet file", `other or damaged bytes (${(cause as Error).message})`, { cause });
  }
  if (rows.length === 0) throw new DataError(path, "at least one row", "none");
  const records = rows.map((row, index) => ({
    line: index + 2,
    fields: names.map((name, column) =>
      field(row[column], `${path}, line ${index + 2}, column ${column + 1} (${name})`)
    ),
  }));
  return sheetData({ where: path, headed: true, names, records }, { name: "parquet", ...options });
}

/** A value as text, which brings every number back exactly. */
function field(value: unknown, where: string): string {
  if (value === null || value === undefined) return "";
  if (value instanceof Date) return value.toISOString();
  if (typeof value === "boolean") return value ? "1" : "0";
  if (typeof value === "string" || typeof value === "number" || typeof value === "bigint") return String(value);
  throw new DataError(where, "a number, a word or a date", "a list or another structure");
}
