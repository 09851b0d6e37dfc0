/**
 * Writing files so that a fault leaves the old file, never half a new one.
 *
 * @module
 */

import { CheckpointError } from "../errors.ts";
import { replaceFile } from "../half_written.ts";

/**
 * Writes a file whole or not at all, and waits until it is on the disk.
 *
 * @param path the file
 * @param parts its bytes, one part after the other
 * @throws {CheckpointError} where it cannot be written; the old file is untouched then
 */
export async function writeWhole(path: string | URL, parts: readonly Uint8Array<ArrayBuffer>[]): Promise<void> {
  const target = fileName(path);
  try {
    await replaceFile(target, async (beside) => {
      using file = await Deno.open(beside, { write: true, createNew: true });
      for (const part of parts) {
        for (let done = 0; done < part.length;) done += await file.write(part.subarray(done));
      }
      await file.syncData();
    });
  } catch (cause) {
    throw new CheckpointError(`Cannot write ${target}: ${reason(cause)}`, { cause });
  }
}

/** A path as text. */
export function fileName(path: string | URL): string {
  return path instanceof URL ? decodeURIComponent(path.pathname) : path;
}

/** Why an operation on a file failed, in words. */
export function reason(cause: unknown): string {
  if (cause instanceof Deno.errors.NotFound) return "the file or its folder does not exist";
  if (cause instanceof Deno.errors.NotCapable) return `permission is missing (${cause.message.split("\n")[0]})`;
  if (cause instanceof Deno.errors.PermissionDenied) return "the system denies access";
  const text = cause instanceof Error ? cause.message : String(cause);
  if (/os error 28|no space/i.test(text)) return "the disk is full";
  if (/os error 30|read-only/i.test(text)) return "the file system is read-only";
  return text;
}
