/**
 * IDX files, the format of MNIST and its relatives: two zero bytes, a type byte, the number of axes, their lengths
 * (32-bit, high byte first), then the numbers. Plain or gzip; the bytes decide, not the name.
 *
 * @module
 */
import { bytesGiven, knownOptions, objectOfOptions } from "../config.ts";
import { DataError } from "../errors.ts";
import {
  bytesPerNumber,
  elementCount,
  featuresFrom,
  labelsFrom,
  type NumberArray,
  numbersFromBytes,
  type NumberType,
  showShape,
} from "./array.ts";
import { checkTable } from "./check.ts";
import { type ReadControl, readPlain } from "./files.ts";
import type { Table } from "./table.ts";

const types: Readonly<Record<number, NumberType>> = {
  0x08: "u1",
  0x09: "i1",
  0x0b: "i2",
  0x0c: "i4",
  0x0d: "f4",
  0x0e: "f8",
};

/**
 * Reads an IDX file.
 *
 * @param path the file, plain or gzip
 * @param control progress
 * @returns its numbers and shape
 * @throws {ConfigError} where the options are no object
 * @throws {DataError} where the file is missing, no IDX file, cut off, or longer than its header says
 *
 * @example
 * ```ts
 * const images = await readIdx("t10k-images-idx3-ubyte.gz"); // shape [10000, 28, 28], type "u1"
 * ```
 */
export async function readIdx(path: string, control: ReadControl = {}): Promise<NumberArray> {
  objectOfOptions("readIdx", control, "onRead");
  return parseIdx(await readPlain(path, control), path);
}

/**
 * Reads the bytes of a plain IDX file.
 *
 * @param bytes the whole file
 * @param where its name, for messages
 * @returns its numbers and shape
 * @throws {ConfigError} where what is given is not bytes
 * @throws {DataError} where the bytes are no IDX file, cut off, or more than the header says
 */
export function parseIdx(bytes: Uint8Array<ArrayBuffer>, where: string): NumberArray {
  bytesGiven("bytes", bytes);
  if (bytes.length < 4) throw new DataError(where, "an IDX file of at least 4 bytes", `${bytes.length} bytes`);
  const type = types[bytes[2]!];
  if (bytes[0] !== 0 || bytes[1] !== 0 || type === undefined) {
    throw new DataError(where, "an IDX file (first bytes 00 00 and a type 08 to 0e)", bytes.slice(0, 4).toHex());
  }
  const rank = bytes[3]!;
  const header = 4 + 4 * rank;
  if (bytes.length < header) {
    throw new DataError(where, `an IDX header of ${header} bytes (${rank} axes)`, `a file of ${bytes.length} bytes`);
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, header);
  const shape = Array.from({ length: rank }, (_, axis) => view.getUint32(4 + 4 * axis));
  const size = header + elementCount(shape) * bytesPerNumber[type];
  if (bytes.length !== size) {
    const fault = bytes.length < size ? "cut off" : "too long";
    throw new DataError(where, `${size} bytes for shape ${showShape(shape)}`, `${bytes.length} bytes (${fault})`);
  }
  return { type, shape, values: numbersFromBytes(bytes.subarray(header), type, false) };
}

/** Options of {@linkcode idxPair}. */
export interface IdxPairOptions extends ReadControl {
  /** Path of the labels. */
  readonly labels: string;
  /** Number of classes; default the largest label plus one. */
  readonly classes?: number;
}

/**
 * Reads images (or other features) and their labels from two IDX files.
 *
 * @param images path of the images: rows × height × width, or rows × anything
 * @param options path of the labels: one per row; number of classes
 * @returns a table; byte images stay bytes, with shape `[height, width, 1]` and scale 1 / 255
 * @throws {DataError} where a file cannot be read, the row counts differ, or a label is out of range
 */
export async function idxPair(images: string, options: IdxPairOptions): Promise<Table> {
  knownOptions("idxPair", options, ["labels", "classes", "onRead"]);
  const [imageArray, labelArray] = await Promise.all([readIdx(images, options), readIdx(options.labels)]);
  const features = featuresFrom(imageArray, images);
  const targets = labelsFrom(labelArray, options.labels, options.classes);
  if (targets.values.length !== features.rows) {
    throw new DataError(
      options.labels,
      `${features.rows} labels, one for each row of ${images}`,
      `${targets.values.length} labels`,
    );
  }
  return checkTable({ ...features, targets }, images);
}
