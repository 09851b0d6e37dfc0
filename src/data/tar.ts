/**
 * Plain files out of a TAR archive (POSIX ustar).
 *
 * @module
 */
import { DataError } from "../errors.ts";

const block = 512;

/**
 * Lists the plain files of an archive.
 *
 * @param archive the whole archive, gzip undone
 * @param where its name, for messages
 * @returns content by name, without folders before the name
 * @throws {DataError} where the archive is cut off or damaged
 */
export function readTar(archive: Uint8Array<ArrayBuffer>, where: string): Map<string, Uint8Array<ArrayBuffer>> {
  const files = new Map<string, Uint8Array<ArrayBuffer>>();
  const text = (start: number, length: number) =>
    new TextDecoder().decode(archive.subarray(start, start + length)).replace(/\0.*$/s, "");
  let at = 0;
  // Two blocks of zeros end the archive; one is enough to know.
  while (at + block <= archive.length && archive[at] !== 0) {
    const name = text(at, 100);
    const size = parseInt(text(at + 124, 12).trim(), 8);
    if (text(at + 257, 5) !== "ustar" || !Number.isInteger(size) || at + block + size > archive.length) {
      throw new DataError(where, "a whole TAR archive", `damage at byte ${at}`);
    }
    const kind = text(at + 156, 1);
    if (kind === "0" || kind === "") {
      files.set(name.slice(name.lastIndexOf("/") + 1), archive.subarray(at + block, at + block + size));
    }
    at += block + Math.ceil(size / block) * block;
  }
  return files;
}
