/**
 * Event files of TensorBoard: records of length, checksums and a protocol buffer with scalars.
 *
 * Formats: `tensorflow/core/lib/io/record_writer.h`, `tensorflow/core/util/event.proto`.
 *
 * @module
 */

/** One scalar at one step. */
export interface Scalar {
  /** Its name. */
  readonly tag: string;
  /** Steps done. */
  readonly step: number;
  /** The number. */
  readonly value: number;
  /** When it was found, in seconds since 1970. */
  readonly time: number;
}

/** Polynomial of CRC-32C, bits reversed. */
const POLYNOMIAL = 0x82f63b78;

const table = Uint32Array.from({ length: 256 }, (_, byte) => {
  let rest = byte;
  for (let bit = 0; bit < 8; bit++) rest = rest & 1 ? (rest >>> 1) ^ POLYNOMIAL : rest >>> 1;
  return rest;
});

/**
 * An event file.
 *
 * @param scalars in the order in which they shall stand
 * @param begun when the run began, in seconds since 1970
 * @returns the bytes of the file
 */
export function eventFile(scalars: readonly Scalar[], begun: number): Uint8Array<ArrayBuffer> {
  const header = [...field(1, double(begun)), ...field(3, text("brain.Event:2"))];
  const events = scalars.map(({ tag, step, value, time }) => {
    const scalar = [...field(1, text(tag)), ...field(2, float(value))];
    return [...field(1, double(time)), ...field(2, varint(step)), ...field(5, bytes(field(1, bytes(scalar))))];
  });
  return Uint8Array.from([header, ...events].flatMap(record));
}

/** A record: length and contents, each with its checksum. */
function record(contents: readonly number[]): number[] {
  const length = new Uint8Array(8);
  new DataView(length.buffer).setBigUint64(0, BigInt(contents.length), true);
  return [...length, ...checksum(length), ...contents, ...checksum(contents)];
}

/** CRC-32C, turned and shifted as these files have it. */
function checksum(contents: ArrayLike<number>): number[] {
  let crc = 0xffffffff;
  for (let index = 0; index < contents.length; index++) crc = table[(crc ^ contents[index]!) & 255]! ^ (crc >>> 8);
  crc = ~crc >>> 0;
  const masked = (((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0;
  return [masked & 255, masked >>> 8 & 255, masked >>> 16 & 255, masked >>> 24];
}

/** A value as protocol buffers have it: how it is stored, and its bytes. */
type Stored = readonly [wireType: 0 | 1 | 2 | 5, contents: readonly number[]];

function field(number: number, [wireType, contents]: Stored): number[] {
  return [number << 3 | wireType, ...contents];
}

function varint(value: number): Stored {
  const contents: number[] = [];
  // Division instead of shifts: steps may have more than 32 bits.
  for (; value >= 128; value = Math.floor(value / 128)) contents.push(value % 128 + 128);
  return [0, [...contents, value]];
}

function double(value: number): Stored {
  return [1, [...new Uint8Array(Float64Array.of(value).buffer)]];
}

function float(value: number): Stored {
  return [5, [...new Uint8Array(Float32Array.of(value).buffer)]];
}

function text(value: string): Stored {
  return bytes([...new TextEncoder().encode(value)]);
}

function bytes(contents: readonly number[]): Stored {
  return [2, [...varint(contents.length)[1], ...contents]];
}
