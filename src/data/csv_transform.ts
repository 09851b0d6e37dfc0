/**
 * What a CSV file's columns become: numbers (standardised) and one-hot categories. Fitted once, on the training rows;
 * plain JSON, so that a checkpoint can carry it and later rows are treated the same.
 *
 * @module
 */
import { objectGiven, objectOfOptions, textGiven } from "../config.ts";
import { DataError } from "../errors.ts";
import { didYouMean } from "../nearest.ts";
import { type CsvRecord, type CsvSheet, parseNumber, parseSheet } from "./csv_records.ts";
import { readText } from "./files.ts";
import type { Table } from "./table.ts";

/** A column that is one input: (number - mean) / deviation. */
export interface NumberColumn {
  /** Tells the kinds of columns apart. */
  readonly kind: "number";
  /** Name in the header. */
  readonly name: string;
  /** Position in the file, from 0. */
  readonly index: number;
  /** Mean over the training rows; 0 where the column is not standardised. */
  readonly mean: number;
  /** Population deviation over the training rows; 1 where the column is constant or not standardised. */
  readonly deviation: number;
}

/** A column that is one input per category: 1 for the row's category, 0 for the others. */
export interface OneHotColumn {
  /** Tells the kinds of columns apart. */
  readonly kind: "oneHot";
  /** Name in the header. */
  readonly name: string;
  /** Position in the file, from 0. */
  readonly index: number;
  /** The categories in input order. */
  readonly categories: readonly string[];
}

/** A column of targets. */
export interface TargetColumn {
  /** Name in the header. */
  readonly name: string;
  /** Position in the file, from 0. */
  readonly index: number;
}

/** How rows of a CSV file become inputs of a network. */
export interface CsvTransform {
  /** Whether columns are found by name (the file had a header) or by position. */
  readonly headed: boolean;
  /** Character between fields. */
  readonly delimiter: string;
  /** Number of columns of the file. */
  readonly width: number;
  /** The columns that become inputs, in input order. */
  readonly columns: readonly (NumberColumn | OneHotColumn)[];
  /** The target columns; {@linkcode readCsvFeatures} does not need them. */
  readonly targets: readonly TargetColumn[];
  /** Class names in label order, for classification. */
  readonly classNames?: readonly string[];
}

/** The features part of a table. */
export type CsvFeatures = Pick<Table, "rows" | "shape" | "features">;

/** Options of {@linkcode readCsvFeatures} and {@linkcode parseCsvFeatures}. */
export interface CsvFeaturesOptions {
  /** What {@linkcode readCsv} gave beside the training data. */
  readonly transform: CsvTransform;
  /** Type of the features; default `"f32"`. */
  readonly precision?: "f32" | "f64";
  /** Whether the first record names the columns; default: as in the file of the training data. */
  readonly header?: boolean;
}

/**
 * Reads new rows, without or with target columns, the way the training rows were read.
 *
 * @param path the CSV file, plain or gzip
 * @param options the transform fitted on the training rows
 * @returns features of shape `[inputs]`
 * @throws {ConfigError} where the options have no transform
 * @throws {DataError} where a column is missing, a field is no number, or a category was not there in training
 */
export async function readCsvFeatures(path: string, options: CsvFeaturesOptions): Promise<CsvFeatures> {
  return parseCsvFeatures(await readText(path), { ...options, where: path });
}

/**
 * Like {@linkcode readCsvFeatures}, for text in memory.
 *
 * @param text the CSV text
 * @param options the transform, and a name for messages
 * @returns features of shape `[inputs]`
 * @throws {ConfigError} where there is no text, or the options have no transform
 * @throws {DataError} where a column is missing, a field is no number, or a category was not there in training
 */
export function parseCsvFeatures(text: string, options: CsvFeaturesOptions & { readonly where?: string }): CsvFeatures {
  objectOfOptions("parseCsvFeatures", options, "transform");
  objectGiven("parseCsvFeatures.transform", options.transform, "the transform of the training rows");
  textGiven("text", text, "the text of a CSV file");
  const { transform, where = "CSV text", precision = "f32", header = transform.headed } = options;
  const sheet = parseSheet(text, { where, header, delimiter: transform.delimiter });
  const columns = transform.columns.map((column) => ({ ...column, index: findColumn(sheet, { column, transform }) }));
  return applyColumns(sheet, { columns, precision });
}

/**
 * Turns records into features.
 *
 * @param sheet the records
 * @param options the fitted columns, and the type of the features
 * @returns features of shape `[inputs]`
 * @throws {DataError} where a field is no number or an unknown category
 */
export function applyColumns(
  sheet: CsvSheet,
  options: { readonly columns: CsvTransform["columns"]; readonly precision: "f32" | "f64" },
): CsvFeatures {
  const { columns, precision } = options;
  const width = columns.reduce((sum, column) => sum + inputCount(column), 0);
  const rows = sheet.records.length;
  const features = precision === "f64" ? new Float64Array(rows * width) : new Float32Array(rows * width);
  let first = 0;
  for (const column of columns) {
    if (column.kind === "number") {
      sheet.records.forEach((record, row) => {
        const number = numberField(sheet, { record, column: column.index });
        features[row * width + first] = (number - column.mean) / column.deviation;
      });
    } else {
      const find = categoryFinder(column.categories);
      sheet.records.forEach((record, row) => {
        const field = record.fields[column.index]!;
        const input = find(field);
        if (input === undefined) {
          throw new DataError(
            place(sheet, { record, column: column.index }),
            `a category seen in training${didYouMean(field, column.categories)}`,
            field.trim(),
          );
        }
        features[row * width + first + input] = 1;
      });
    }
    first += inputCount(column);
  }
  return { rows, shape: [width], features };
}

/**
 * The different values of a column: as numbers and in their order where all are numbers, otherwise as words in the
 * order of their UTF-16 codes. `2` and `2.0` are one number.
 *
 * @param sheet the records
 * @param column position of the column, from 0
 * @returns the categories
 * @throws {DataError} where a field is empty
 */
export function categoriesOf(sheet: CsvSheet, column: number): string[] {
  const words = new Set<string>();
  for (const record of sheet.records) {
    const word = record.fields[column]!.trim();
    if (word === "") throw new DataError(place(sheet, { record, column }), "a category", "an empty field");
    words.add(word);
  }
  const numbers = [...words].map(parseNumber);
  if (numbers.some((number) => number === undefined)) return [...words].sort();
  return [...new Set(numbers as number[])].sort((a, b) => a - b).map(String);
}

/**
 * Looks fields up in categories. Where the categories are numbers, `2.0` is found as `2`.
 *
 * @param categories what {@linkcode categoriesOf} gave
 * @returns gives the position of a field's category, or `undefined` for an unknown one
 */
export function categoryFinder(categories: readonly string[]): (field: string) => number | undefined {
  const positions = new Map(categories.map((category, position) => [category, position]));
  return (field) => positions.get(field.trim()) ?? positions.get(String(parseNumber(field)));
}

/** One field of a sheet. */
export interface FieldPlace {
  /** Its record. */
  readonly record: CsvRecord;
  /** Its column, from 0. */
  readonly column: number;
  /** What else would help, for the message. */
  readonly hint?: string;
}

/**
 * Reads a field as a number.
 *
 * @param sheet the records
 * @param field record and column
 * @returns a finite number
 * @throws {DataError} where it is none
 */
export function numberField(sheet: CsvSheet, field: FieldPlace): number {
  const text = field.record.fields[field.column]!;
  const number = parseNumber(text);
  if (number !== undefined) return number;
  const expected = field.hint === undefined ? "a finite number" : `a finite number (${field.hint})`;
  throw new DataError(place(sheet, field), expected, text.trim() === "" ? "an empty field" : text.trim());
}

/**
 * A place in a CSV file, for messages.
 *
 * @param sheet the records
 * @param field record and column
 * @returns such as `wine.csv, line 7, column 3 (alcohol)`
 */
export function place(sheet: CsvSheet, field: FieldPlace): string {
  const at = `${sheet.where}, line ${field.record.line}, column ${field.column + 1}`;
  return sheet.headed ? `${at} (${sheet.names[field.column]})` : at;
}

function inputCount(column: NumberColumn | OneHotColumn): number {
  return column.kind === "number" ? 1 : column.categories.length;
}

/**
 * The transform for another file that has the target columns too: by name where both have names.
 *
 * @param sheet the other file
 * @param transform what was fitted
 * @returns the same, with the positions that the columns have there
 * @throws {DataError} where a column is missing
 */
export function placeColumns(sheet: CsvSheet, transform: CsvTransform): CsvTransform {
  const place = <Column extends TargetColumn>(column: Column) => ({
    ...column,
    index: findColumn(sheet, { column, transform }),
  });
  const { columns, targets } = transform;
  return { ...transform, width: sheet.names.length, columns: columns.map(place), targets: targets.map(place) };
}

/** Where a training column is in another file, which may lack the target columns. */
function findColumn(
  sheet: CsvSheet,
  wanted: { readonly column: TargetColumn; readonly transform: CsvTransform },
): number {
  const { column, transform } = wanted;
  if (transform.headed && sheet.headed) return findName(sheet, wanted);
  const width = sheet.names.length;
  if (width === transform.width) return column.index;
  if (width === transform.width - transform.targets.length) {
    return column.index - transform.targets.filter((target) => target.index < column.index).length;
  }
  const withoutTargets = transform.width - transform.targets.length;
  throw new DataError(sheet.where, `${withoutTargets} columns (${transform.width} with targets)`, width);
}

/** By name; columns that share theirs are told apart by position, as long as the file is as wide. */
function findName(
  { names, where }: CsvSheet,
  { column: { name, index }, transform }: { readonly column: TargetColumn; readonly transform: CsvTransform },
): number {
  const found = names.flatMap((other, position) => other === name ? [position] : []);
  if (found.length === 0) throw new DataError(where, `a column ${name}${didYouMean(name, names)}`, "none of that name");
  if (found.length === 1) return found[0]!;
  if (names.length === transform.width && found.includes(index)) return index;
  throw new DataError(where, `one column ${name}`, `${found.length} of that name`);
}
