/**
 * Rows of a table: taking, shuffling, splitting off, standardising.
 *
 * @module
 */
import { listGiven, objectGiven, objectOfOptions } from "../config.ts";
import { ConfigError, DataError } from "../errors.ts";
import { elementCount } from "./array.ts";
import { checkFraction, tableGiven } from "./check.ts";
import { permutation } from "./random.ts";
import type { Data, LabelTargets, Table, ValueTargets } from "./table.ts";

/**
 * Copies some rows of a table.
 *
 * @param table the table
 * @param rows which rows, in the wanted order; a row may come twice
 * @returns a table of those rows
 * @throws {ConfigError} where there is no table, or no list of rows
 * @throws {DataError} where there is no row to take or a row does not exist
 */
export function takeRows(table: Table, rows: ArrayLike<number>): Table {
  tableGiven("table", table);
  listGiven("rows", rows, "a list of row numbers");
  if (rows.length === 0) throw new DataError("the rows to take", "at least one row", "none", { action: "use" });
  for (let index = 0; index < rows.length; index++) {
    const row = rows[index]!;
    if (!Number.isInteger(row) || row < 0 || row >= table.rows) {
      throw new DataError("the rows to take", `rows from 0 to ${table.rows - 1}`, row, { action: "use" });
    }
  }
  const features = gather(table.features, rows, elementCount(table.shape));
  return { ...table, rows: rows.length, features, targets: takeTargets(table.targets, rows) };
}

/**
 * Brings the rows of a table into a random order.
 *
 * @param table the table
 * @param seed whole number; the same seed gives the same order on every machine
 * @returns a copy
 * @throws {ConfigError} where what is given is no table
 */
export function shuffleRows(table: Table, seed: number): Table {
  tableGiven("table", table);
  return takeRows(table, permutation(table.rows, seed));
}

/** Options of {@linkcode splitRows} and {@linkcode withValidation}. */
export interface SplitOptions {
  /** Share of the rows that is split off, between 0 and 1; rounded to whole rows, at least one on either side. */
  readonly fraction: number;
  /** Chooses the rows at random with this seed; without it the last rows are split off. */
  readonly seed?: number;
}

/**
 * Splits a table in two.
 *
 * @param table at least two rows
 * @param options share and seed
 * @returns the rows that stay and the rows that are split off; both keep the order of the table
 * @throws {ConfigError} where the fraction or the seed cannot be used
 * @throws {DataError} where there are fewer than two rows
 */
export function splitRows(table: Table, options: SplitOptions): { kept: Table; split: Table } {
  objectGiven("table", table, "a table of rows");
  objectOfOptions("", options, "fraction");
  checkFraction("fraction", options.fraction);
  if (table.rows < 2) {
    throw new DataError("the table to split", "at least two rows", `${table.rows} rows`, { action: "use" });
  }
  const { kept, split } = splitOrder(table.rows, options);
  return { kept: takeRows(table, kept), split: takeRows(table, split) };
}

/**
 * Which rows {@linkcode splitRows} takes.
 *
 * @param rows number of rows, at least 2
 * @param options share and seed
 * @returns the numbers of the rows that stay and of those that are split off, ascending
 * @throws {ConfigError} where the fraction or the seed cannot be used
 */
export function splitOrder(rows: number, options: SplitOptions): { kept: Uint32Array; split: Uint32Array } {
  checkFraction("fraction", options.fraction);
  const count = splitCount(rows, options.fraction);
  const order = options.seed === undefined
    ? Uint32Array.from({ length: rows }, (_, row) => row)
    : permutation(rows, options.seed);
  return { kept: order.slice(0, rows - count).sort(), split: order.slice(rows - count).sort() };
}

/**
 * Splits validation rows off the training rows of a data set.
 *
 * @param data a data set without validation rows
 * @param options share and seed
 * @returns the data set with fewer training rows, and validation rows
 * @throws {ConfigError} where it has validation rows already, or an option cannot be used
 */
export function withValidation(data: Data, options: SplitOptions): Data {
  objectGiven("data", data, "a data set with training rows");
  if (data.validation !== undefined) {
    throw new ConfigError("validationSplit", "a data set without validation rows", `${data.name}, which has them`);
  }
  const { kept, split } = splitRows(data.train, options);
  return { ...data, train: kept, validation: split };
}

/**
 * How many of `rows` a fraction takes: rounded, at least one, and at least one is left.
 *
 * @param rows number of rows, at least 2
 * @param fraction between 0 and 1
 * @returns whole number of rows
 */
export function splitCount(rows: number, fraction: number): number {
  return Math.min(rows - 1, Math.max(1, Math.round(rows * fraction)));
}

/** How to bring each feature to mean 0 and deviation 1: (value - mean) / deviation. */
export interface Standardization {
  /** One mean per feature. */
  readonly means: readonly number[];
  /** One population deviation per feature; 1 for a constant feature, which becomes 0. */
  readonly deviations: readonly number[];
}

/**
 * Means and population deviations of the features.
 *
 * @param table the training rows, and only those
 * @returns one mean and one deviation per feature, of the values after `scale` and `offset`
 * @throws {ConfigError} where what is given is no table
 */
export function fitStandardization(table: Table): Standardization {
  tableGiven("table", table);
  const width = elementCount(table.shape);
  const values = plainFeatures(table);
  const means = new Array<number>(width).fill(0);
  const squares = new Array<number>(width).fill(0);
  for (let index = 0; index < values.length; index++) means[index % width]! += values[index]!;
  for (let column = 0; column < width; column++) means[column]! /= table.rows;
  // Second pass: squares of differences lose no digits, unlike the mean of squares less the square of the mean.
  for (let index = 0; index < values.length; index++) {
    const difference = values[index]! - means[index % width]!;
    squares[index % width]! += difference * difference;
  }
  return {
    means,
    deviations: squares.map((sum, column) => usableDeviation(Math.sqrt(sum / table.rows), means[column]!)),
  };
}

/**
 * The deviation to divide by: 1 where the values are constant. Rounding leaves a constant column such as 0.1 with a
 * deviation of some 1e-17 instead of 0; dividing by that would make noise of it.
 *
 * @param deviation the computed deviation
 * @param mean the computed mean
 * @returns a divisor above 0
 */
export function usableDeviation(deviation: number, mean: number): number {
  return deviation > 1e-12 * Math.abs(mean) && deviation > 0 ? deviation : 1;
}

/**
 * Standardises the features of a table.
 *
 * @param table training, validation or test rows
 * @param fit what {@linkcode fitStandardization} found on the training rows
 * @returns a table with floating-point features: float64 where the features were, float32 otherwise
 * @throws {ConfigError} where there is no table, or no means and deviations
 * @throws {DataError} where the fit is for another number of features
 */
export function standardize(table: Table, fit: Standardization): Table {
  tableGiven("table", table);
  objectGiven("fit", fit, "means and deviations such as fitStandardization() gives");
  listGiven("fit.means", fit.means, "one number for each feature");
  listGiven("fit.deviations", fit.deviations, "one number for each feature");
  const width = elementCount(table.shape);
  if (fit.means.length !== width || fit.deviations.length !== width) {
    throw new DataError(
      "the standardization",
      `one mean and deviation for each of ${width} features`,
      fit.means.length,
      { action: "use" },
    );
  }
  const values = plainFeatures(table);
  const features = table.features instanceof Float64Array
    ? new Float64Array(values.length)
    : new Float32Array(values.length);
  for (let index = 0; index < values.length; index++) {
    const column = index % width;
    features[index] = (values[index]! - fit.means[column]!) / fit.deviations[column]!;
  }
  const { rows, shape, targets } = table;
  return { rows, shape, features, targets };
}

/** The features as numbers: bytes with their scale and offset, floating point as it is. */
function plainFeatures(table: Table): ArrayLike<number> {
  const { features, scale = [1 / 255], offset = [0] } = table;
  if (!(features instanceof Uint8Array)) return features;
  const values = new Float64Array(features.length);
  for (let index = 0; index < values.length; index++) {
    values[index] = features[index]! * scale[index % scale.length]! + offset[index % offset.length]!;
  }
  return values;
}

function takeTargets(targets: LabelTargets | ValueTargets, rows: ArrayLike<number>): LabelTargets | ValueTargets {
  if (targets.kind === "labels") return { ...targets, values: gather(targets.values, rows, 1) };
  return { ...targets, values: gather(targets.values, rows, targets.size) };
}

function gather<T extends Table["features"] | Uint32Array<ArrayBuffer>>(
  source: T,
  rows: ArrayLike<number>,
  width: number,
): T {
  const taken = new (source.constructor as { new (length: number): T })(rows.length * width);
  for (let index = 0; index < rows.length; index++) {
    const start = rows[index]! * width;
    taken.set(source.subarray(start, start + width) as never, index * width);
  }
  return taken;
}
