/**
 * Arrays of numbers with a shape, as the IDX and NPY formats hold them, and their way into a {@linkcode Table}.
 *
 * @module
 */
import { listGiven, objectGiven, oneOf } from "../config.ts";
import { ConfigError, DataError } from "../errors.ts";
import type { FeatureArray, LabelTargets, Table, ValueTargets } from "./table.ts";

/** Number types that the readers know. */
export type NumberType = "b1" | "u1" | "i1" | "u2" | "i2" | "u4" | "i4" | "u8" | "i8" | "f4" | "f8";

/** Any typed array that holds one of the {@linkcode NumberType}s. */
export type NumberValues =
  | Uint8Array<ArrayBuffer>
  | Int8Array<ArrayBuffer>
  | Uint16Array<ArrayBuffer>
  | Int16Array<ArrayBuffer>
  | Uint32Array<ArrayBuffer>
  | Int32Array<ArrayBuffer>
  | BigUint64Array<ArrayBuffer>
  | BigInt64Array<ArrayBuffer>
  | Float32Array<ArrayBuffer>
  | Float64Array<ArrayBuffer>;

/** Numbers with a shape, last axis running fastest. */
export interface NumberArray {
  /** Type of the numbers; `b1` (true or false) is stored as bytes 0 and 1. */
  readonly type: NumberType;
  /** Length of each axis; empty for a single number. */
  readonly shape: readonly number[];
  /** product(shape) numbers. */
  readonly values: NumberValues;
}

/** Refuses what is no array with a type and a shape; for arguments. */
export function numberArrayGiven(path: string, given: unknown): void {
  objectGiven(path, given, "an array with a shape such as { type, shape, values }");
  const { type, shape, values } = given as Partial<NumberArray>;
  oneOf(`${path}.type`, type, Object.keys(bytesPerNumber));
  listGiven(`${path}.shape`, shape, "the length of each axis, such as [100, 784]");
  listGiven(`${path}.values`, values, "a typed array of numbers");
}

/** Bytes per number of each type. */
export const bytesPerNumber: Readonly<Record<NumberType, number>> = {
  b1: 1,
  u1: 1,
  i1: 1,
  u2: 2,
  i2: 2,
  u4: 4,
  i4: 4,
  u8: 8,
  i8: 8,
  f4: 4,
  f8: 8,
};

/** More classes than any classifier here could want: a larger label is a sign of a wrong file. */
const maxClasses = 1_000_000;

const littleEndianMachine = new Uint8Array(new Uint16Array([1]).buffer)[0] === 1;

/**
 * Multiplies the axes of a shape.
 *
 * @param shape lengths
 * @returns number of elements; 1 for the empty shape
 */
export function elementCount(shape: readonly number[]): number {
  return shape.reduce((product, length) => product * length, 1);
}

/**
 * Copies raw bytes into a typed array of this machine's byte order.
 *
 * @param bytes whole numbers of elements
 * @param type the number type
 * @param littleEndian byte order of `bytes`
 * @returns the numbers, in memory of their own
 */
export function numbersFromBytes(
  bytes: Uint8Array<ArrayBuffer>,
  type: NumberType,
  littleEndian: boolean,
): NumberValues {
  const size = bytesPerNumber[type];
  const copy = bytes.slice();
  if (size > 1 && littleEndian !== littleEndianMachine) swapBytes(copy, size);
  const buffer = copy.buffer;
  switch (type) {
    case "b1":
    case "u1":
      return copy;
    case "i1":
      return new Int8Array(buffer);
    case "u2":
      return new Uint16Array(buffer);
    case "i2":
      return new Int16Array(buffer);
    case "u4":
      return new Uint32Array(buffer);
    case "i4":
      return new Int32Array(buffer);
    case "u8":
      return new BigUint64Array(buffer);
    case "i8":
      return new BigInt64Array(buffer);
    case "f4":
      return new Float32Array(buffer);
    case "f8":
      return new Float64Array(buffer);
  }
}

/**
 * Copies a typed array's bytes in little-endian order.
 *
 * @param values the numbers
 * @returns their bytes
 */
export function littleEndianBytes(values: NumberValues): Uint8Array<ArrayBuffer> {
  const copy = new Uint8Array(values.buffer, values.byteOffset, values.byteLength).slice();
  if (values.BYTES_PER_ELEMENT > 1 && !littleEndianMachine) swapBytes(copy, values.BYTES_PER_ELEMENT);
  return copy;
}

/** The features part of a table. */
export type FeaturePart = Pick<Table, "rows" | "shape" | "features" | "scale">;

/**
 * Takes an array as features, one row per entry of its first axis. Rank 3 is taken as images with one channel. Bytes
 * stay bytes and are read as `byte / 255`; other whole numbers become floating point.
 *
 * @param array rows × anything
 * @param where the file, for messages
 * @returns the features part of a table
 * @throws {DataError} where there is no row or nothing in a row
 */
export function featuresFrom(array: NumberArray, where: string): FeaturePart {
  const [rows, ...rest] = array.shape;
  if (rows === undefined) throw new DataError(where, "an array with one entry per row", "a single number");
  const shape = rest.length === 0 ? [1] : rest.length === 2 ? [...rest, 1] : rest;
  if (rows === 0 || elementCount(shape) === 0) {
    throw new DataError(where, "at least one row with at least one feature", `shape ${showShape(array.shape)}`);
  }
  const features = featureNumbers(array);
  return features instanceof Uint8Array && array.type === "u1"
    ? { rows, shape, features, scale: [1 / 255] }
    : { rows, shape, features };
}

/**
 * Takes an array as class labels.
 *
 * @param array rows, or rows × 1; whole numbers from 0
 * @param where the file, for messages
 * @param classes number of classes; default the largest label plus one
 * @returns the labels
 * @throws {DataError} where a label is no whole number, below 0, or not below `classes`
 */
export function labelsFrom(array: NumberArray, where: string, classes?: number): LabelTargets {
  if (classes !== undefined && (!Number.isInteger(classes) || classes < 2 || classes > maxClasses)) {
    throw new ConfigError("classes", `a whole number from 2 to ${maxClasses}`, classes);
  }
  const [rows, width] = array.shape;
  if (rows === undefined || array.shape.length > 2 || (width ?? 1) !== 1) {
    throw new DataError(where, "one label per row", `shape ${showShape(array.shape)}`);
  }
  const limit = classes ?? maxClasses;
  const values = new Uint32Array(rows);
  let largest = 0;
  for (let row = 0; row < rows; row++) {
    const label = Number(array.values[row]);
    if (!Number.isInteger(label) || label < 0 || label >= limit) {
      throw new DataError(
        `${where}, row ${row} (counted from 0)`,
        `a class label, a whole number from 0 to ${limit - 1}`,
        label,
      );
    }
    values[row] = label;
    if (label > largest) largest = label;
  }
  // One class alone cannot be trained on; a file whose labels are all 0 still describes two.
  return { kind: "labels", classes: classes ?? Math.max(2, largest + 1), values };
}

/**
 * Takes an array as real-valued targets.
 *
 * @param array rows, or rows × size
 * @param where the file, for messages
 * @returns the targets
 * @throws {DataError} where the array has more than two axes
 */
export function valuesFrom(array: NumberArray, where: string): ValueTargets {
  const [rows, size = 1] = array.shape;
  if (rows === undefined || array.shape.length > 2 || size === 0) {
    throw new DataError(where, "rows or rows × targets", `shape ${showShape(array.shape)}`);
  }
  const numbers = featureNumbers(array);
  return { kind: "values", size, values: numbers instanceof Uint8Array ? Float32Array.from(numbers) : numbers };
}

/**
 * A shape in words.
 *
 * @param shape lengths
 * @returns such as `[60000, 28, 28]`
 */
export function showShape(shape: readonly number[]): string {
  return `[${shape.join(", ")}]`;
}

/** The numbers as an array that a table can hold; float32 where that is exact, float64 where it is not. */
function featureNumbers(array: NumberArray): FeatureArray {
  const { values } = array;
  if (values instanceof Float32Array || values instanceof Float64Array) return values;
  if (values instanceof Uint8Array) return array.type === "b1" ? Float32Array.from(values) : values;
  if (values instanceof BigInt64Array || values instanceof BigUint64Array) return Float64Array.from(values, Number);
  return values.BYTES_PER_ELEMENT > 2 ? Float64Array.from(values) : Float32Array.from(values);
}

function swapBytes(bytes: Uint8Array, size: number): void {
  for (let start = 0; start < bytes.length; start += size) bytes.subarray(start, start + size).reverse();
}
