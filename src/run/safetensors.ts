/**
 * The safetensors format: 8 bytes with the length of a JSON header, the header, raw little-endian numbers.
 *
 * A file is not trusted: every way in which its header can lie about its contents is refused.
 *
 * @module
 */

import { CheckpointError } from "../errors.ts";
import { otherFile } from "./other_files.ts";

/** Element types that leanprop reads and writes, by their name in the format. */
const BYTES = { F64: 8, F32: 4, F16: 2, U32: 4, I64: 8, I32: 4, U8: 1 } as const;

/** An element type's name in the format. */
export type DType = keyof typeof BYTES;

/** One tensor. */
export interface Tensor {
  /** Element type. */
  readonly dtype: DType;
  /** Shape. */
  readonly shape: readonly number[];
  /** Its numbers, row after row, little-endian. */
  readonly bytes: Uint8Array<ArrayBuffer>;
}

/** The contents of a file. */
export interface Safetensors {
  /** Words about the file. */
  readonly metadata: Readonly<Record<string, string>>;
  /** The tensors by name, in the order of the file. */
  readonly tensors: ReadonlyMap<string, Tensor>;
}

/** Key of the header that holds no tensor. */
const METADATA = "__metadata__";

/** Longest header that is read: more would be an attack, not a model. */
const MOST_HEADER = 100_000_000;

/**
 * Writes the format.
 *
 * @param contents metadata and tensors
 * @returns parts to be written one after the other, so that no copy of all tensors is made
 */
export function encodeSafetensors({ metadata, tensors }: Safetensors): Uint8Array<ArrayBuffer>[] {
  const entries: [string, unknown][] = [[METADATA, metadata]];
  let offset = 0;
  for (const [name, { dtype, shape, bytes }] of tensors) {
    if (name === METADATA) {
      throw new CheckpointError(`Cannot write a tensor named ${METADATA}: the format keeps that name`);
    }
    entries.push([name, { dtype, shape, data_offsets: [offset, offset + bytes.length] }]);
    offset += bytes.length;
  }
  // `fromEntries` makes plain properties of all names, `__proto__` too.
  const bare = new TextEncoder().encode(JSON.stringify(Object.fromEntries(entries)));
  // Padded with spaces: numbers then start at a multiple of 8, so that readers can map them.
  const json = new Uint8Array(Math.ceil(bare.length / 8) * 8).fill(0x20);
  json.set(bare);
  const length = new Uint8Array(8);
  new DataView(length.buffer).setBigUint64(0, BigInt(json.length), true);
  return [length, json, ...[...tensors.values()].map((tensor) => tensor.bytes)];
}

/**
 * Reads the format.
 *
 * @param file the whole file
 * @param where its name, for messages
 * @param wanted what the file should be, for messages
 * @returns metadata and tensors; their bytes are views into `file`
 * @throws {CheckpointError} saying what is wrong and where
 */
export function decodeSafetensors(
  file: Uint8Array<ArrayBuffer>,
  where: string,
  wanted: string = "a safetensors file",
): Safetensors {
  const fail = (expected: string, found: unknown): never => {
    throw new CheckpointError(`Cannot read ${where}: expected ${expected} but found ${found}`);
  };
  if (file.length < 8) fail(wanted, `only ${file.length} bytes`);
  const headerLength = new DataView(file.buffer, file.byteOffset).getBigUint64(0, true);
  const other = headerLength > BigInt(file.length - 8) ? otherFile(file) : undefined;
  if (other !== undefined) fail(wanted, other);
  if (headerLength > BigInt(MOST_HEADER)) {
    fail("a safetensors header of at most 100 MB", `one of ${headerLength} bytes`);
  }
  const start = 8 + Number(headerLength);
  if (start > file.length) fail(`a header of ${headerLength} bytes`, `the end of the file after ${file.length - 8}`);
  const header = parseHeader(file.subarray(8, start), where);

  const metadata = header[METADATA] ?? {};
  const words = isObject(metadata) && Object.values(metadata).every((value) => typeof value === "string");
  if (!words) fail("metadata of words", show(metadata));
  delete header[METADATA];

  const available = file.length - start;
  const tensors = new Map<string, Tensor>();
  const spans: [number, number, string][] = [];
  for (const [name, entry] of Object.entries(header)) {
    const place = `a tensor entry for ${name}`;
    if (!isObject(entry)) fail(place, show(entry));
    const { dtype, shape, data_offsets: offsets } = entry as Record<string, unknown>;
    if (typeof dtype !== "string" || !Object.hasOwn(BYTES, dtype)) {
      fail(`${place} of type ${Object.keys(BYTES).join(", ")}`, show(dtype));
    }
    if (!isCounts(shape)) fail(`${place} with a shape of whole numbers`, show(shape));
    if (!isCounts(offsets) || offsets.length !== 2) fail(`${place} with two offsets`, show(offsets));
    const [from, to] = offsets as [number, number];
    if (from > to || to > available) fail(`${place} within ${available} bytes of data`, `offsets ${from} to ${to}`);
    const expected = (shape as number[]).reduce((product, axis) => product * axis, 1) * BYTES[dtype as DType];
    if (to - from !== expected) fail(`${expected} bytes for ${name} of shape [${shape}]`, `${to - from}`);
    spans.push([from, to, name]);
    const bytes = file.subarray(start + from, start + to);
    tensors.set(name, { dtype: dtype as DType, shape: shape as number[], bytes });
  }
  spans.sort((a, b) => a[0] - b[0] || a[1] - b[1]);
  let end = 0;
  for (const [from, to, name] of spans) {
    if (from !== end) fail(`${name} to begin at byte ${end} of the data`, `byte ${from} (a gap or an overlap)`);
    end = to;
  }
  if (end !== available) fail(`${end} bytes of data`, `${available}`);
  return { metadata: metadata as Record<string, string>, tensors };
}

function parseHeader(bytes: Uint8Array<ArrayBuffer>, where: string): Record<string, unknown> {
  try {
    const header: unknown = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
    if (isObject(header)) return header;
  } catch (cause) {
    const message = `Cannot read ${where}: expected a safetensors header in JSON but found other bytes`;
    throw new CheckpointError(message, { cause });
  }
  throw new CheckpointError(`Cannot read ${where}: expected a JSON object as header but found another value`);
}

/** A value in a message: short, whatever a file holds. */
function show(value: unknown): string {
  const text = JSON.stringify(value) ?? "nothing";
  return text.length > 60 ? `${text.slice(0, 57)}...` : text;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isCounts(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((item) => Number.isSafeInteger(item) && item >= 0);
}
