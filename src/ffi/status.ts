/**
 * Status blocks, and text in and out of the library.
 *
 * @module
 */

import { EngineError, type EngineErrorCode } from "../errors.ts";

/** Size of a status block: code, length, message. */
const BLOCK_BYTES = 1024;

/** Codes by number; the Rust enumeration `Code` is the other side. */
const CODES: readonly (EngineErrorCode | "ok")[] = [
  "ok",
  "invalid-config",
  "shape-mismatch",
  "unknown-handle",
  "busy",
  "poisoned",
  "panic",
  "not-finite",
  "out-of-memory",
  "unknown-name",
];

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** A block for one call. Background calls need one each. */
export function newStatus(): Uint8Array<ArrayBuffer> {
  return new Uint8Array(BLOCK_BYTES);
}

/**
 * Throws what a call reported.
 *
 * @param code the call's result
 * @param status the block it was given
 * @throws {EngineError} unless the code is 0
 */
export function check(code: number, status: Uint8Array<ArrayBuffer>): void {
  if (code === 0) return;
  const length = new DataView(status.buffer).getUint32(4, true);
  const kind = CODES[code];
  throw new EngineError(
    kind === undefined || kind === "ok" ? "panic" : kind,
    decoder.decode(status.subarray(8, 8 + length)),
  );
}

/** Text as UTF-8 bytes, for a call. */
export function encode(text: string): Uint8Array<ArrayBuffer> {
  return encoder.encode(text);
}

/** Reads JSON from a call that writes text and tells the whole length. */
export function readJson<T>(
  call: (
    out: Uint8Array<ArrayBuffer>,
    capacity: number,
    needed: Uint32Array<ArrayBuffer>,
    status: Uint8Array<ArrayBuffer>,
  ) => number,
): T {
  const needed = new Uint32Array(1);
  let out = new Uint8Array(4096);
  for (;;) {
    const status = newStatus();
    check(call(out, out.length, needed, status), status);
    const length = needed[0] ?? 0;
    if (length <= out.length) return JSON.parse(decoder.decode(out.subarray(0, length)));
    out = new Uint8Array(length);
  }
}
