/**
 * NumPy's `.npy` files, versions 1 to 3: one array of booleans, whole numbers or floating point, either byte order,
 * either axis order. Objects, text, complex and structured arrays are refused by name.
 * Source: numpy.lib.format.
 *
 * @module
 */
import { bytesGiven } from "../config.ts";
import { DataError } from "../errors.ts";
import {
  bytesPerNumber,
  elementCount,
  littleEndianBytes,
  type NumberArray,
  numberArrayGiven,
  numbersFromBytes,
  type NumberType,
  type NumberValues,
  showShape,
} from "./array.ts";
import { readPlain, writeWhole } from "./files.ts";

const magic = "\x93NUMPY";

/**
 * Reads a `.npy` file.
 *
 * @param path the file
 * @returns its numbers and shape
 * @throws {DataError} where it is missing, damaged, or holds what is not supported
 */
export async function readNpy(path: string): Promise<NumberArray> {
  return parseNpy(await readPlain(path), path);
}

/**
 * Reads the bytes of a `.npy` file.
 *
 * @param bytes the whole file
 * @param where its name, for messages
 * @returns its numbers and shape; an array in Fortran order is brought into C order
 * @throws {ConfigError} where what is given is not bytes
 * @throws {DataError} where the bytes are damaged or hold what is not supported
 */
export function parseNpy(bytes: Uint8Array<ArrayBuffer>, where: string): NumberArray {
  bytesGiven("bytes", bytes);
  const start = String.fromCharCode(...bytes.subarray(0, 6));
  if (start !== magic) throw new DataError(where, "an NPY file (first bytes 93 4e 55 4d 50 59)", foundStart(bytes));
  const version = bytes[6];
  if (version !== 1 && version !== 2 && version !== 3) {
    throw new DataError(where, "NPY version 1, 2 or 3", version === undefined ? "a file cut off there" : version);
  }
  const prefix = version === 1 ? 10 : 12;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  if (bytes.length < prefix) throw new DataError(where, `at least ${prefix} bytes`, `${bytes.length} bytes`);
  const body = prefix + (version === 1 ? view.getUint16(8, true) : view.getUint32(8, true));
  if (bytes.length < body) {
    throw new DataError(where, `an NPY header of ${body} bytes`, `${bytes.length} bytes (cut off)`);
  }
  const header = new TextDecoder().decode(bytes.subarray(prefix, body));
  const { type, littleEndian, fortranOrder, shape } = parseHeader(header, where);
  const size = body + elementCount(shape) * bytesPerNumber[type];
  if (bytes.length !== size) {
    const fault = bytes.length < size ? "cut off" : "too long";
    throw new DataError(where, `${size} bytes for shape ${showShape(shape)}`, `${bytes.length} bytes (${fault})`);
  }
  const values = numbersFromBytes(bytes.subarray(body), type, littleEndian);
  return { type, shape, values: fortranOrder && shape.length > 1 ? rowsFirst(values, shape) : values };
}

/**
 * Writes numbers as a `.npy` file that NumPy reads; a file of this name is replaced in one stroke.
 *
 * @param path the file
 * @param array numbers and shape
 * @throws {ConfigError} where what is given is no array with a type and a shape
 * @throws {DataError} where the shape does not fit the numbers
 */
export async function writeNpy(path: string, array: NumberArray): Promise<void> {
  await writeWhole(path, npyBytes(array));
}

/**
 * The bytes of a `.npy` file (version 1, little-endian, C order).
 *
 * @param array numbers and shape
 * @returns the whole file
 * @throws {ConfigError} where what is given is no array with a type and a shape
 * @throws {DataError} where the shape does not fit the numbers
 */
export function npyBytes(array: NumberArray): Uint8Array<ArrayBuffer> {
  numberArrayGiven("array", array);
  const { type, shape, values } = array;
  const size = bytesPerNumber[type];
  if (values.length !== elementCount(shape) || values.BYTES_PER_ELEMENT !== size) {
    throw new DataError(
      "the array to write",
      `${elementCount(shape)} numbers of ${size} bytes for type ${type} and shape ${showShape(shape)}`,
      `${values.length} of ${values.BYTES_PER_ELEMENT} bytes`,
    );
  }
  const tuple = shape.length === 1 ? `(${shape[0]},)` : `(${shape.join(", ")})`;
  const order = size === 1 ? "|" : "<";
  const text = `{'descr': '${order}${type}', 'fortran_order': False, 'shape': ${tuple}, }`;
  // The numbers start at a multiple of 64 bytes, as NumPy has it, so that the file can be mapped into memory.
  const length = Math.ceil((10 + text.length + 1) / 64) * 64;
  const bytes = new Uint8Array(length + values.byteLength);
  bytes.fill(0x20, 0, length);
  bytes.set([0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59, 1, 0]);
  new DataView(bytes.buffer).setUint16(8, length - 10, true);
  bytes.set(new TextEncoder().encode(text), 10);
  bytes[length - 1] = 0x0a;
  bytes.set(littleEndianBytes(values), length);
  return bytes;
}

interface Header {
  readonly type: NumberType;
  readonly littleEndian: boolean;
  readonly fortranOrder: boolean;
  readonly shape: number[];
}

/** Reads the header, a Python dictionary with the keys descr, fortran_order and shape. */
function parseHeader(header: string, where: string): Header {
  const descr = /'descr'\s*:\s*(?:'([^']*)'|(\[))/.exec(header);
  const order = /'fortran_order'\s*:\s*(True|False)/.exec(header);
  const shape = /'shape'\s*:\s*\(([\d\sL,]*)\)/.exec(header);
  if (descr === null || order === null || shape === null) {
    throw new DataError(where, "an NPY header with descr, fortran_order and shape", JSON.stringify(header.trim()));
  }
  const kind = descr[1] ?? "a structured array";
  const type = kind.slice(1);
  if (!/^[<>|=][a-z]\d$/.test(kind) || !(type in bytesPerNumber)) {
    throw new DataError(where, `numbers of type ${Object.keys(bytesPerNumber).join(", ")}`, kind);
  }
  const lengths = shape[1]!.split(",").map((text) => text.replace("L", "").trim()).filter((text) => text !== "");
  return {
    type: type as NumberType,
    littleEndian: kind[0] !== ">",
    fortranOrder: order[1] === "True",
    shape: lengths.map(Number),
  };
}

/** Copies an array whose first axis runs fastest into one whose last axis does. */
function rowsFirst(values: NumberValues, shape: readonly number[]): NumberValues {
  const sorted = values.slice();
  const index = new Array<number>(shape.length).fill(0);
  const strides: number[] = [];
  shape.reduce((stride, length) => (strides.push(stride), stride * length), 1);
  for (let at = 0; at < values.length; at++) {
    let from = 0;
    for (let axis = 0; axis < shape.length; axis++) from += index[axis]! * strides[axis]!;
    sorted[at] = values[from]!;
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      index[axis]!++;
      if (index[axis]! < shape[axis]!) break;
      index[axis] = 0;
    }
  }
  return sorted;
}

function foundStart(bytes: Uint8Array<ArrayBuffer>): string {
  return bytes.length === 0 ? "an empty file" : bytes.slice(0, 6).toHex();
}
