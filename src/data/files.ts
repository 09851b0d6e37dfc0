/**
 * Files for the readers: bytes in, gzip undone, faults told in one sentence, writing in one stroke.
 *
 * @module
 */
import { DataError } from "../errors.ts";

/**
 * Reads a whole file.
 *
 * @param path the file
 * @returns its bytes
 * @throws {DataError} where it is missing, a folder, or may not be read
 */
export async function readBytes(path: string): Promise<Uint8Array<ArrayBuffer>> {
  try {
    return await Deno.readFile(path);
  } catch (cause) {
    throw readFault(path, cause);
  }
}

/**
 * Reads a whole file and unpacks it where its first bytes say gzip; the file's name does not matter.
 *
 * @param path the file
 * @returns the plain bytes
 * @throws {DataError} where it cannot be read or unpacked
 */
export async function readPlain(path: string): Promise<Uint8Array<ArrayBuffer>> {
  return await unpack(await readBytes(path), path);
}

/**
 * Undoes gzip where the first two bytes say so.
 *
 * @param bytes plain or gzip bytes
 * @param where the file, for messages
 * @returns plain bytes
 * @throws {DataError} where the gzip stream is cut off or damaged
 */
export async function unpack(bytes: Uint8Array<ArrayBuffer>, where: string): Promise<Uint8Array<ArrayBuffer>> {
  if (bytes[0] !== 0x1f || bytes[1] !== 0x8b) return bytes;
  try {
    const plain = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return await new Response(plain).bytes();
  } catch (cause) {
    throw new DataError(where, "a whole gzip file", `one that is cut off or damaged after ${bytes.length} bytes`, {
      cause,
    });
  }
}

/**
 * Reads a whole file as text.
 *
 * @param path the file, plain or gzip
 * @returns its text, without a byte order mark
 * @throws {DataError} where it cannot be read or is not UTF-8
 */
export async function readText(path: string): Promise<string> {
  const bytes = await readPlain(path);
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch (cause) {
    throw new DataError(path, "UTF-8 text", "bytes that are not", { cause });
  }
}

/**
 * Writes a file so that a reader sees the old file or the whole new one, never a part: into a file beside it, then
 * renamed over it.
 *
 * @param path the file
 * @param bytes what it shall hold
 */
export async function writeWhole(path: string, bytes: Uint8Array): Promise<void> {
  const part = `${path}.${crypto.randomUUID()}.part`;
  try {
    await Deno.writeFile(part, bytes);
    await Deno.rename(part, path);
  } catch (fault) {
    await removeQuietly(part);
    throw fault;
  }
}

/**
 * Removes a file that may not be there.
 *
 * @param path the file
 */
export async function removeQuietly(path: string): Promise<void> {
  // The caller is already reporting a fault: a failed removal would only hide it.
  await Deno.remove(path).catch(() => {});
}

/**
 * One sentence for a file that cannot be read.
 *
 * @param path the file
 * @param cause what the system said
 * @returns the error to throw
 */
export function readFault(path: string, cause: unknown): unknown {
  if (cause instanceof Deno.errors.NotFound) return new DataError(path, "a file", "nothing there", { cause });
  if (cause instanceof Deno.errors.NotCapable) {
    return new DataError(path, `permission to read it (--allow-read=${path})`, "none", { cause });
  }
  if (cause instanceof Deno.errors.PermissionDenied) {
    return new DataError(path, "a file that this user may read", "one that the system refuses", { cause });
  }
  if (cause instanceof Deno.errors.IsADirectory || (cause instanceof Error && /is a directory/i.test(cause.message))) {
    return new DataError(path, "a file", "a folder", { cause });
  }
  if (cause instanceof RangeError || (cause instanceof Error && /too large|out of memory/i.test(cause.message))) {
    return new DataError(path, "a file that fits into memory", "one that does not", { cause });
  }
  return cause;
}

/**
 * SHA-256 as 64 hexadecimal digits.
 *
 * @param bytes what to hash
 * @returns the digits
 */
export async function sha256(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).toHex();
}
