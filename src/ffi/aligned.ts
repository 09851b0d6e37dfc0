/**
 * Arrays that begin where vector loads are cheapest.
 *
 * @module
 */

/** Bytes of a cache line, and of the widest vector. */
const LINE = 64;

/**
 * An array of zeros whose memory begins at a multiple of 64 bytes. Those that JavaScript makes begin 16 bytes after one, so that every
 * vector of 64 bytes lies across two cache lines; a kernel that does little else than load then takes up to 1.7 times as long.
 *
 * @param type the type of the array
 * @param length elements
 * @returns the array, in a buffer that is a little larger
 */
export function alignedArray<T extends Float32Array<ArrayBuffer> | Float64Array<ArrayBuffer>>(
  type: { new (buffer: ArrayBuffer, offset: number, length: number): T; readonly BYTES_PER_ELEMENT: number },
  length: number,
): T {
  const buffer = new ArrayBuffer(length * type.BYTES_PER_ELEMENT + LINE);
  const address = Deno.UnsafePointer.value(Deno.UnsafePointer.of(new Uint8Array(buffer)));
  return new type(buffer, (LINE - Number(address % BigInt(LINE))) % LINE, length);
}
