/**
 * NumPy's `.npz` archives: named arrays, stored or deflated.
 *
 * @module
 */
import { bytesGiven, objectGiven, objectOfOptions } from "../config.ts";
import { DataError } from "../errors.ts";
import { type NumberArray, numberArrayGiven } from "./array.ts";
import { readBytes, writeWhole } from "./files.ts";
import { npyBytes, parseNpy } from "./npy.ts";
import { readZip, zipBytes, type ZipOptions } from "./zip.ts";

/**
 * Reads an `.npz` archive.
 *
 * @param path the file
 * @returns the arrays by name
 * @throws {DataError} where it is missing, damaged, or holds what is not supported
 */
export async function readNpz(path: string): Promise<Map<string, NumberArray>> {
  return await parseNpz(await readBytes(path), path);
}

/**
 * Reads the bytes of an `.npz` archive.
 *
 * @param bytes the whole file
 * @param where its name, for messages
 * @returns the arrays by name
 * @throws {ConfigError} where what is given is not bytes
 * @throws {DataError} where the bytes are damaged or hold what is not supported
 */
export async function parseNpz(bytes: Uint8Array<ArrayBuffer>, where: string): Promise<Map<string, NumberArray>> {
  bytesGiven("bytes", bytes);
  const arrays = new Map<string, NumberArray>();
  for (const entry of await readZip(bytes, where)) {
    if (!entry.name.endsWith(".npy")) throw new DataError(where, "entries that end in .npy", entry.name);
    arrays.set(entry.name.slice(0, -4), parseNpy(entry.bytes, `${where}, entry ${entry.name}`));
  }
  return arrays;
}

/** What {@linkcode writeNpz} writes. */
export interface NpzContents extends ZipOptions {
  /** The arrays by name. */
  readonly arrays: Readonly<Record<string, NumberArray>>;
}

/**
 * Writes arrays as an `.npz` archive that NumPy reads; a file of this name is replaced in one stroke.
 *
 * @param path the file
 * @param contents the arrays by name, and whether to deflate them
 * @throws {ConfigError} where there are no arrays by name
 */
export async function writeNpz(path: string, contents: NpzContents): Promise<void> {
  objectOfOptions("writeNpz", contents, "arrays");
  await writeWhole(path, await npzBytes(contents.arrays, contents));
}

/**
 * The bytes of an `.npz` archive.
 *
 * @param arrays the arrays by name
 * @param options whether to deflate
 * @returns the whole archive; the same arrays give the same bytes
 * @throws {ConfigError} where there are no arrays by name
 */
export async function npzBytes(
  arrays: Readonly<Record<string, NumberArray>>,
  options: ZipOptions = {},
): Promise<Uint8Array<ArrayBuffer>> {
  objectGiven("arrays", arrays, "arrays by name");
  const entries = Object.entries(arrays).map(([name, array]) => {
    numberArrayGiven(`arrays.${name}`, array);
    return { name: `${name}.npy`, bytes: npyBytes(array) };
  });
  return await zipBytes(entries, options);
}
