/**
 * Files for the readers: bytes in, gzip undone, faults told in one sentence, writing in one stroke.
 *
 * @module
 */
import { typeName } from "../config.ts";
import { DataError } from "../errors.ts";
import { replaceFile } from "../half_written.ts";

/** How far the reading of a data set is. */
export interface ReadProgress {
  /** The file or folder. */
  readonly file: string;
  /** What is being done with it. */
  readonly what: "reading" | "unpacking" | "parsing" | "fitting";
  /** Share that is done, from 0 to 1. */
  readonly share: number;
}

/** What a caller of any data set in files can set. */
export interface ReadControl {
  /** Called now and then while files are read. */
  readonly onRead?: (progress: ReadProgress) => void;
}

/** Bytes that are read at a time where somebody wants to know how far it is. */
const PIECE = 2 ** 22;

/**
 * Reads a whole file.
 *
 * @param path the file
 * @param control progress
 * @returns its bytes
 * @throws {DataError} where it is missing, a folder, or may not be read
 */
export async function readBytes(path: string, { onRead }: ReadControl = {}): Promise<Uint8Array<ArrayBuffer>> {
  try {
    if (onRead === undefined) return await Deno.readFile(path);
    using file = await Deno.open(path);
    const { size, isDirectory } = await file.stat();
    if (isDirectory) throw new DataError(path, "a file", "a folder");
    const bytes = new Uint8Array(size);
    for (let done = 0; done < size;) {
      const count = await file.read(bytes.subarray(done, done + PIECE));
      if (count === null) throw new DataError(path, `${size} bytes as when it was opened`, done);
      onRead({ file: path, what: "reading", share: (done += count) / size });
    }
    return bytes;
  } catch (cause) {
    throw readFault(path, cause);
  }
}

/**
 * Reads a whole file and unpacks it where its first bytes say gzip; the file's name does not matter.
 *
 * @param path the file
 * @param control progress
 * @returns the plain bytes
 * @throws {DataError} where it cannot be read or unpacked
 */
export async function readPlain(path: string, control: ReadControl = {}): Promise<Uint8Array<ArrayBuffer>> {
  return await unpack(await readBytes(path, control), path, control);
}

/**
 * Undoes gzip where the first two bytes say so.
 *
 * @param bytes plain or gzip bytes
 * @param where the file, for messages
 * @param control progress
 * @returns plain bytes
 * @throws {DataError} where the gzip stream is cut off or damaged
 */
export async function unpack(
  bytes: Uint8Array<ArrayBuffer>,
  where: string,
  control: ReadControl = {},
): Promise<Uint8Array<ArrayBuffer>> {
  if (bytes[0] !== 0x1f || bytes[1] !== 0x8b) return bytes;
  try {
    const told = telling(where, { what: "unpacking", size: bytes.length, control });
    const plain = new Blob([bytes]).stream().pipeThrough(told).pipeThrough(new DecompressionStream("gzip"));
    return await new Response(plain).bytes();
  } catch (cause) {
    throw new DataError(where, "a whole gzip file", `one that is cut off or damaged after ${bytes.length} bytes`, {
      cause,
    });
  }
}

/**
 * Lets bytes through, and tells how many of them there were.
 *
 * @param file the file
 * @param options what is done with them, how many there are in all, and whom to tell
 * @returns what to pipe them through
 */
export function telling(
  file: string,
  { what, size, control: { onRead } }: {
    readonly what: ReadProgress["what"];
    readonly size: number;
    readonly control: ReadControl;
  },
): TransformStream<Uint8Array<ArrayBuffer>, Uint8Array<ArrayBuffer>> {
  let done = 0;
  return new TransformStream({
    transform: (piece, controller) => {
      onRead?.({ file, what, share: (done += piece.length) / size });
      controller.enqueue(piece);
    },
  });
}

/**
 * Reads a whole file as text.
 *
 * @param path the file, plain or gzip
 * @param control progress
 * @returns its text, without a byte order mark
 * @throws {DataError} where it cannot be read or is not UTF-8
 */
export async function readText(path: string, control: ReadControl = {}): Promise<string> {
  const bytes = await readPlain(path, control);
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch (cause) {
    throw new DataError(path, "UTF-8 text", "bytes that are not", { cause });
  }
}

/**
 * Writes a file so that a reader sees the old file or the whole new one, never a part.
 *
 * @param path the file
 * @param bytes what it shall hold
 */
export async function writeWhole(path: string, bytes: Uint8Array): Promise<void> {
  await replaceFile(path, (beside) => Deno.writeFile(beside, bytes));
}

/**
 * One sentence for a file that cannot be read.
 *
 * @param path the file
 * @param cause what the system said
 * @returns the error to throw
 */
export function readFault(path: string, cause: unknown): unknown {
  // Deno takes anything for an empty path, and says one thing or another of it, depending on permissions.
  if (typeof path !== "string" || path === "") {
    return new DataError("a file", "its path as text", path === "" ? "an empty one" : typeName(path), { cause });
  }
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
