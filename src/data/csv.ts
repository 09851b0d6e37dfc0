/**
 * Data sets from CSV files: chosen target column, numbers standardised, categories one-hot, first rows or random rows
 * for testing.
 *
 * @module
 */
import { knownOptions } from "../config.ts";
import { ConfigError, DataError } from "../errors.ts";
import { didYouMean } from "../nearest.ts";
import { checkFraction, checkTable } from "./check.ts";
import { type CsvSheet, parseNumber, parseSheet } from "./csv_records.ts";
import {
  applyColumns,
  categoriesOf,
  categoryFinder,
  type CsvTransform,
  type NumberColumn,
  numberField,
  type OneHotColumn,
} from "./csv_transform.ts";
import { type ReadControl, readText } from "./files.ts";
import { permutation } from "./random.ts";
import { splitCount, splitOrder, takeRows, usableDeviation } from "./split.ts";
import type { Data, LabelTargets, ValueTargets } from "./table.ts";

/** A column of a CSV file: its name in the header, or its position from 0. */
export type CsvColumn = string | number;

/** Options of {@linkcode readCsv}. */
export interface CsvOptions extends ReadControl {
  /** What to predict; default the last column. Several columns only for regression. */
  readonly target?: CsvColumn | readonly CsvColumn[];
  /** `"classification"` or `"regression"`; needed where the target is a number, words are always classes. */
  readonly task?: "classification" | "regression";
  /** Columns that become one input per category; categories are collected over all rows. Default none. */
  readonly oneHot?: readonly CsvColumn[];
  /** Columns to leave out. Default none. */
  readonly ignore?: readonly CsvColumn[];
  /** Which number columns to bring to mean 0 and deviation 1 over the training rows: all (true, default), none, these. */
  readonly standardize?: boolean | readonly CsvColumn[];
  /** The first so many rows are for training, the rest for testing. Default all. Not with `testFraction`. */
  readonly trainRows?: number;
  /** Share of the rows for testing, between 0 and 1: the last ones, or with `shuffleSeed` random ones. Default none. */
  readonly testFraction?: number;
  /** Brings the rows into a random order before they are split. Default: order of the file. */
  readonly shuffleSeed?: number;
  /** Share of the training rows that is split off for validation before anything is fitted, between 0 and 1. Default none. */
  readonly validationFraction?: number;
  /** Chooses the validation rows at random with this seed; without it the last training rows are taken. */
  readonly validationSeed?: number;
  /** Whether the first record names the columns. Default: found out. */
  readonly header?: boolean;
  /** One character between fields. Default `","`. */
  readonly delimiter?: string;
  /** Type of features and real-valued targets. Default `"f32"`. */
  readonly precision?: "f32" | "f64";
  /** Name of the data set. Default `"csv"`. */
  readonly name?: string;
}

/** Names of the options. */
export const CSV_OPTIONS = [
  "target",
  "task",
  "oneHot",
  "ignore",
  "standardize",
  "trainRows",
  "testFraction",
  "shuffleSeed",
  "validationFraction",
  "validationSeed",
  "header",
  "delimiter",
  "precision",
  "name",
  "onRead",
] as const satisfies readonly (keyof CsvOptions)[];

/** A data set with what is needed to treat later rows the same. */
export interface CsvData extends Data {
  /** What each column became; plain JSON. Give it to {@linkcode readCsvFeatures}. */
  readonly transform: CsvTransform;
}

/**
 * Reads a CSV file.
 *
 * @param path the file, plain or gzip, in UTF-8
 * @param options which columns are what
 * @returns training rows, test rows where asked for, and the fitted transform
 * @throws {DataError} with file, line and column, where a field cannot be used
 * @throws {ConfigError} where an option cannot be used
 *
 * @example
 * ```ts
 * const data = await readCsv("houses.csv", { target: "price", task: "regression", oneHot: ["town"], testFraction: 0.2 });
 * ```
 */
export async function readCsv(path: string, options: CsvOptions = {}): Promise<CsvData> {
  knownOptions("readCsv", options, CSV_OPTIONS);
  return parseCsv(await readText(path, options), { ...options, where: path });
}

/**
 * Like {@linkcode readCsv}, for text in memory.
 *
 * @param text the CSV text
 * @param options which columns are what, and a name for messages
 * @returns training rows, test rows where asked for, and the fitted transform
 * @throws {DataError} with line and column, where a field cannot be used
 * @throws {ConfigError} where an option cannot be used
 */
export function parseCsv(text: string, options: CsvOptions & { readonly where?: string } = {}): CsvData {
  knownOptions("parseCsv", options, [...CSV_OPTIONS, "where"]);
  if (typeof text !== "string") throw new ConfigError("text", "the text of a CSV file", text);
  const { where = "CSV text", header, delimiter = ",", onRead } = options;
  const told = onRead && { onRead };
  return sheetData(parseSheet(text, { where, delimiter, ...(header !== undefined && { header }), ...told }), options);
}

/**
 * Like {@linkcode parseCsv}, for records that are cut up already.
 *
 * @param given the records
 * @param options which columns are what
 * @returns training rows, validation and test rows where asked for, and the fitted transform
 * @throws {DataError} with line and column, where a field cannot be used
 * @throws {ConfigError} where an option cannot be used
 */
export function sheetData(given: CsvSheet, options: CsvOptions): CsvData {
  const { delimiter = ",", precision = "f32", name = "csv", onRead } = options;
  const { where } = given;
  if (precision !== "f32" && precision !== "f64") throw new ConfigError("precision", '"f32" or "f64"', precision);
  const sheet = shuffled(given, options);
  const roles = assignRoles(sheet, options);
  const rows = sheet.records.length;
  const trainRows = countTrainRows(rows, options);
  const { kept, split } = chooseValidation(trainRows, options);
  const columns = roles.features.map((index, done) => {
    onRead?.({ file: where, what: "fitting", share: done / roles.features.length });
    return fitColumn(sheet, { index, roles, kept });
  });
  const targets = readTargets(sheet, { columns: roles.targets, task: options.task, precision });
  const table = checkTable({ ...applyColumns(sheet, { columns, precision }), targets }, where);
  const transform: CsvTransform = {
    headed: sheet.headed,
    delimiter,
    width: sheet.names.length,
    columns,
    targets: roles.targets.map((index) => ({ name: sheet.names[index]!, index })),
    ...(targets.kind === "labels" && targets.names && { classNames: targets.names }),
  };
  const test = Array.from({ length: rows - trainRows }, (_, row) => trainRows + row);
  return {
    name,
    train: takeRows(table, kept),
    ...(split.length > 0 && { validation: takeRows(table, split) }),
    ...(test.length > 0 && { test: takeRows(table, test) }),
    transform,
  };
}

/** Which of the training rows stay, and which are for validation. */
function chooseValidation(rows: number, options: CsvOptions): { kept: ArrayLike<number>; split: ArrayLike<number> } {
  const { validationFraction: fraction, validationSeed: seed } = options;
  if (fraction === undefined) {
    if (seed !== undefined) throw new ConfigError("validationSeed", "validationFraction beside it", "none");
    return { kept: Array.from({ length: rows }, (_, row) => row), split: [] };
  }
  if (rows < 2) throw new ConfigError("validationFraction", "at least two training rows", `${rows} row`);
  return splitOrder(rows, { fraction, ...(seed !== undefined && { seed }) });
}

interface Roles {
  readonly targets: readonly number[];
  readonly features: readonly number[];
  readonly oneHot: ReadonlySet<number>;
  readonly standardize: ReadonlySet<number>;
}

function assignRoles(sheet: CsvSheet, options: CsvOptions): Roles {
  const { target = sheet.names.length - 1, oneHot = [], ignore = [], standardize = true } = options;
  const targets = findColumns(sheet, { path: "target", columns: typeof target === "object" ? target : [target] });
  if (targets.length === 0) throw new ConfigError("target", "at least one column", "none");
  const ignored = new Set(findColumns(sheet, { path: "ignore", columns: ignore }));
  const hot = new Set(findColumns(sheet, { path: "oneHot", columns: oneHot }));
  const named = typeof standardize === "object"
    ? findColumns(sheet, { path: "standardize", columns: standardize })
    : [];
  const taken = new Set([...targets, ...ignored]);
  for (const [path, columns] of [["oneHot", [...hot]], ["standardize", named]] as const) {
    const clash = columns.find((column) => taken.has(column) || (path === "standardize" && hot.has(column)));
    if (clash !== undefined) throw new ConfigError(path, "columns that are not used otherwise", sheet.names[clash]);
  }
  const bothWays = targets.find((column) => ignored.has(column));
  if (bothWays !== undefined) throw new ConfigError("ignore", "columns that are no target", sheet.names[bothWays]);
  const features = sheet.names.map((_, index) => index).filter((index) => !taken.has(index));
  if (features.length === 0) throw new ConfigError("target", "at least one column left as a feature", "none");
  const numeric = features.filter((index) => !hot.has(index));
  return { targets, features, oneHot: hot, standardize: new Set(standardize === true ? numeric : named) };
}

/** Positions of columns given by name or position; digits count as a position where no column has that name. */
function findColumns(
  sheet: CsvSheet,
  wanted: { readonly path: string; readonly columns: readonly CsvColumn[] },
): number[] {
  const { names } = sheet;
  const found = wanted.columns.map((column) => {
    const matches = names.flatMap((name, index) => sheet.headed && name === column ? [index] : []);
    if (matches.length > 1) throw new ConfigError(wanted.path, "a name that only one column has", column);
    const index = matches[0] ?? (typeof column === "string" && /^\d+$/.test(column) ? Number(column) : column);
    if (typeof index === "number" && Number.isInteger(index) && index >= 0 && index < names.length) return index;
    const expected = typeof column === "string"
      ? `a column of ${sheet.where} (${shorten(names)})${didYouMean(column, names)}`
      : `a column of ${sheet.where}, a position from 0 to ${names.length - 1}`;
    throw new ConfigError(wanted.path, expected, column);
  });
  return [...new Set(found)];
}

function shorten(names: readonly string[]): string {
  return names.length <= 12 ? names.join(", ") : `${names.slice(0, 12).join(", ")} and ${names.length - 12} more`;
}

function shuffled(sheet: CsvSheet, options: CsvOptions): CsvSheet {
  if (options.shuffleSeed === undefined) return sheet;
  const order = permutation(sheet.records.length, options.shuffleSeed);
  return { ...sheet, records: Array.from(order, (row) => sheet.records[row]!) };
}

function countTrainRows(rows: number, options: CsvOptions): number {
  const { trainRows, testFraction } = options;
  if (trainRows !== undefined && testFraction !== undefined) {
    throw new ConfigError("trainRows", "trainRows or testFraction", "both");
  }
  if (testFraction !== undefined) {
    checkFraction("testFraction", testFraction);
    if (rows < 2) throw new ConfigError("testFraction", "a file of at least two rows", `${rows} row`);
    return rows - splitCount(rows, testFraction);
  }
  if (trainRows === undefined) return rows;
  if (!Number.isInteger(trainRows) || trainRows < 1 || trainRows > rows) {
    throw new ConfigError("trainRows", `a whole number from 1 to ${rows}, the rows of the file`, trainRows);
  }
  return trainRows;
}

function fitColumn(
  sheet: CsvSheet,
  wanted: { readonly index: number; readonly roles: Roles; readonly kept: ArrayLike<number> },
): NumberColumn | OneHotColumn {
  const { index, roles, kept } = wanted;
  const name = sheet.names[index]!;
  if (roles.oneHot.has(index)) return { kind: "oneHot", name, index, categories: categoriesOf(sheet, index) };
  const hint = "words need the column under oneHot or ignore";
  const all = sheet.records.map((record) => numberField(sheet, { record, column: index, hint }));
  if (!roles.standardize.has(index)) return { kind: "number", name, index, mean: 0, deviation: 1 };
  // What follows must not know the rows for validation and testing.
  const numbers = Array.from(kept, (row) => all[row]!);
  const mean = numbers.reduce((sum, number) => sum + number, 0) / numbers.length;
  const squares = numbers.reduce((sum, number) => sum + (number - mean) * (number - mean), 0);
  return { kind: "number", name, index, mean, deviation: usableDeviation(Math.sqrt(squares / numbers.length), mean) };
}

function readTargets(
  sheet: CsvSheet,
  wanted: {
    readonly columns: readonly number[];
    readonly task: CsvOptions["task"];
    readonly precision: "f32" | "f64";
  },
): LabelTargets | ValueTargets {
  const { columns, precision } = wanted;
  const rows = sheet.records.length;
  const names = columns.map((column) => sheet.names[column]!);
  const task = wanted.task ?? guessTask(sheet, columns);
  if (task === "regression") {
    const values = precision === "f64"
      ? new Float64Array(rows * columns.length)
      : new Float32Array(rows * columns.length);
    sheet.records.forEach((record, row) =>
      columns.forEach((column, position) => {
        values[row * columns.length + position] = numberField(sheet, { record, column });
      })
    );
    return { kind: "values", size: columns.length, values, names };
  }
  if (task !== "classification") throw new ConfigError("task", '"classification" or "regression"', task);
  if (columns.length > 1) throw new ConfigError("target", "one column for classification", names.join(", "));
  const column = columns[0]!;
  const classes = categoriesOf(sheet, column);
  if (classes.length < 2) throw new DataError(sheet.where, `at least two classes in ${names[0]}`, classes[0]);
  const find = categoryFinder(classes);
  const values = Uint32Array.from(sheet.records, ({ fields }) => find(fields[column]!)!);
  return { kind: "labels", classes: classes.length, values, names: classes };
}

/**
 * Words are classes; numbers can be either, and a wrong guess would train the wrong thing without a word. Words among
 * numbers may be gaps in a column of numbers: not guessed either.
 */
function guessTask(sheet: CsvSheet, columns: readonly number[]): "classification" {
  const [column] = columns;
  const isWord = ({ fields }: CsvSheet["records"][number]) => parseNumber(fields[column!]!) === undefined;
  if (columns.length === 1 && sheet.records.every(isWord)) return "classification";
  const names = columns.map((target) => sheet.names[target]!).join(", ");
  throw new ConfigError("task", `"classification" or "regression" for the numbers in ${names}`, undefined);
}
