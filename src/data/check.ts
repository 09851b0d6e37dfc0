/**
 * Looks a table over before anything is computed from it.
 *
 * @module
 */
import { objectGiven, typeName } from "../config.ts";
import { ConfigError, DataError } from "../errors.ts";
import { elementCount, showShape } from "./array.ts";
import type { Table } from "./table.ts";

/** Whether something has what a table must have, each of its kind. */
export function isTable(given: unknown): given is Table {
  if (typeof given !== "object" || given === null) return false;
  const { rows, shape, features, targets } = given as Partial<Table>;
  return Number.isInteger(rows) && rows! >= 0 && Array.isArray(shape) && isFeatures(features) &&
    (targets?.kind === "labels" && targets.values instanceof Uint32Array ||
      targets?.kind === "values" && isFeatures(targets.values));
}

function isFeatures(values: unknown): boolean {
  return values instanceof Float32Array || values instanceof Float64Array || values instanceof Uint8Array;
}

/** Refuses what is no table; for arguments. */
export function tableGiven(path: string, given: unknown): void {
  if (!isTable(given)) throw new ConfigError(path, "a table of rows, shape, features and targets", typeName(given));
}

/** Refuses what is no data set with a table of training rows; for arguments. */
export function dataGiven(path: string, given: unknown): void {
  objectGiven(path, given, "a data set with training rows");
  tableGiven(`${path}.train`, (given as { readonly train?: unknown }).train);
}

/**
 * Refuses a table that cannot be trained on: no rows, lengths that do not fit the shape, NaN or infinity, labels that
 * are not below `classes`.
 *
 * @param table rows of features with their targets
 * @param where the file or argument, for messages
 * @returns the table
 * @throws {ConfigError} where what is given is no table
 * @throws {DataError} for the first fault found
 */
export function checkTable(table: Table, where: string): Table {
  tableGiven("table", table);
  const { rows, shape, features, targets } = table;
  if (!Number.isInteger(rows) || rows < 1) {
    throw new DataError(where, "at least one row", `${rows} rows`, { action: "use" });
  }
  if (shape.length === 0 || shape.some((length) => !Number.isInteger(length) || length < 1)) {
    throw new DataError(where, "a shape of whole numbers from 1", showShape(shape), { action: "use" });
  }
  const width = elementCount(shape);
  checkLength(`${where}, features`, features.length, { rows, width });
  const channels = shape[shape.length - 1]!;
  for (const key of ["scale", "offset"] as const) checkChannels(`${where}, ${key}`, table[key], channels);
  // Every byte is a number: only floating-point features can hold NaN or infinity.
  if (!(features instanceof Uint8Array)) checkFinite(where, features, width);
  if (targets.kind === "labels") {
    checkLength(`${where}, labels`, targets.values.length, { rows, width: 1 });
    if (!Number.isInteger(targets.classes) || targets.classes < 2) {
      throw new DataError(`${where}, classes`, "a whole number from 2", targets.classes, { action: "use" });
    }
    const wrong = targets.values.findIndex((label) => label >= targets.classes);
    if (wrong >= 0) {
      throw new DataError(
        `${where}, row ${wrong} (counted from 0)`,
        `a class label, a whole number from 0 to ${targets.classes - 1}`,
        targets.values[wrong],
        { action: "use" },
      );
    }
  } else {
    if (!Number.isInteger(targets.size) || targets.size < 1) {
      throw new DataError(`${where}, targets`, "a size that is a whole number from 1", targets.size, { action: "use" });
    }
    checkLength(`${where}, targets`, targets.values.length, { rows, width: targets.size });
    checkFinite(`${where}, targets`, targets.values, targets.size);
  }
  return table;
}

/**
 * Refuses two tables that cannot belong to one data set.
 *
 * @param train rows to train on
 * @param other validation or test rows
 * @param where the data set, for messages
 * @throws {DataError} where shapes or targets differ
 */
export function checkAlike(train: Table, other: Table, where: string): void {
  if (showShape(train.shape) !== showShape(other.shape)) {
    throw new DataError(where, `samples of shape ${showShape(train.shape)} as in training`, showShape(other.shape), {
      action: "use",
    });
  }
  const expected = describeTargets(train);
  const found = describeTargets(other);
  if (expected !== found) throw new DataError(where, `${expected} as in training`, found, { action: "use" });
}

/**
 * Refuses a fraction of rows that is none.
 *
 * @param path the option, for messages
 * @param fraction the value
 * @throws {ConfigError} unless it lies between 0 and 1
 */
export function checkFraction(path: string, fraction: number): void {
  if (!(fraction > 0 && fraction < 1)) throw new ConfigError(path, "a number between 0 and 1", fraction);
}

function describeTargets(table: Table): string {
  const { targets } = table;
  return targets.kind === "labels" ? `labels of ${targets.classes} classes` : `${targets.size} target values per row`;
}

function checkLength(where: string, found: number, expected: { rows: number; width: number }): void {
  const { rows, width } = expected;
  if (found !== rows * width) {
    throw new DataError(where, `${rows * width} numbers (${rows} rows × ${width})`, found, { action: "use" });
  }
}

function checkChannels(where: string, entries: readonly number[] | undefined, channels: number): void {
  if (entries === undefined) return;
  if (entries.length !== 1 && entries.length !== channels) {
    throw new DataError(where, `1 or ${channels} entries`, entries.length, { action: "use" });
  }
  if (!entries.every(Number.isFinite)) {
    throw new DataError(where, "finite numbers", entries.join(", "), { action: "use" });
  }
}

function checkFinite(where: string, numbers: Float32Array | Float64Array, width: number): void {
  for (let index = 0; index < numbers.length; index++) {
    const number = numbers[index]!;
    // The difference is 0 for every finite number and NaN for all others.
    if (number - number !== 0) {
      const row = Math.floor(index / width);
      throw new DataError(`${where}, row ${row}, column ${index % width} (counted from 0)`, "a finite number", number, {
        action: "use",
      });
    }
  }
}
