/**
 * Where data lies: the folder that the caller names, the one that `LEANPROP_DATA` names, and the cache.
 *
 * Environment variables are looked at only where that needs no question: without `--allow-env` they count as unset.
 *
 * @module
 */
import { ConfigError, DataError } from "../errors.ts";
import { readFault } from "./files.ts";

/**
 * Reads an environment variable where that is permitted.
 *
 * @param name its name
 * @returns its value; `undefined` where it is unset, empty, or not permitted
 */
export function environment(name: string): string | undefined {
  if (Deno.permissions.querySync({ name: "env", variable: name }).state !== "granted") return undefined;
  return Deno.env.get(name) || undefined;
}

/**
 * The folder for files that can be fetched again: `LEANPROP_CACHE`, or `leanprop` in the system's cache folder.
 *
 * @param os the operating system; default this one
 * @param read looks up an environment variable; default {@linkcode environment}
 * @returns the folder (it need not exist), or `undefined` where no variable says where the user's files are
 */
export function cacheDirectory(
  os: typeof Deno.build.os = Deno.build.os,
  read: (name: string) => string | undefined = environment,
): string | undefined {
  const own = read("LEANPROP_CACHE");
  if (own !== undefined) return own;
  const home = read("HOME");
  if (os === "windows") {
    const profile = read("USERPROFILE");
    const local = read("LOCALAPPDATA") ?? (profile === undefined ? undefined : `${profile}\\AppData\\Local`);
    return local === undefined ? undefined : `${local}\\leanprop`;
  }
  if (os === "darwin") return home === undefined ? undefined : `${home}/Library/Caches/leanprop`;
  const xdg = read("XDG_CACHE_HOME") ?? (home === undefined ? undefined : `${home}/.cache`);
  return xdg === undefined ? undefined : `${xdg}/leanprop`;
}

/**
 * The cache folder of one data set, for downloads.
 *
 * @param folder the data set's folder name
 * @returns the folder
 * @throws {ConfigError} where no cache folder is known
 */
export function cacheFolder(folder: string): string {
  const cache = cacheDirectory();
  if (cache === undefined) {
    throw new ConfigError(
      "download",
      "a cache folder from LEANPROP_CACHE or the user's home (needs --allow-env)",
      "neither variable readable",
    );
  }
  return `${cache}/${folder}`;
}

/**
 * The folders in which a named data set is looked for, in order: `dataDir` and the set's folder below it, the same for
 * `LEANPROP_DATA`, and the cache.
 *
 * @param folder the data set's own folder name, such as `mnist`
 * @param dataDir the caller's folder, if any
 * @returns the folders
 * @throws {ConfigError} where `dataDir` is no folder: the files of another place would be taken without a word
 */
export function searchFolders(folder: string, dataDir?: string): string[] {
  if (dataDir !== undefined) checkFolder(dataDir);
  const folders: string[] = [];
  for (const base of [dataDir, environment("LEANPROP_DATA")]) {
    if (base !== undefined) folders.push(base, `${base}/${folder}`);
  }
  const cache = cacheDirectory();
  if (cache !== undefined) folders.push(`${cache}/${folder}`);
  return [...new Set(folders)];
}

function checkFolder(dataDir: string): void {
  try {
    if (Deno.statSync(dataDir).isDirectory) return;
  } catch (cause) {
    // What may not be looked into is named by missingData() where no other place has the files.
    if (cause instanceof Deno.errors.NotCapable) return;
    if (!absent.some((kind) => cause instanceof kind)) throw readFault(dataDir, cause);
    throw new ConfigError("dataDir", "a folder that exists", dataDir);
  }
  throw new ConfigError("dataDir", "a folder", `the file ${dataDir}`);
}

/** What {@linkcode locate} needs. */
export interface LocateOptions {
  /** Folders to look in, in order. */
  readonly folders: readonly string[];
  /** File names that all have to be there; each is also accepted with `.gz` after it. */
  readonly files: readonly string[];
}

/**
 * Finds the first folder that holds all files. A folder that may not be looked into counts as empty:
 * {@linkcode missingData} names it.
 *
 * @param options folders and files
 * @returns the paths in the order of `files`; `undefined` where no folder holds them all
 */
export async function locate(options: LocateOptions): Promise<string[] | undefined> {
  for (const folder of options.folders) {
    const paths: string[] = [];
    for (const file of options.files) {
      const path = await firstFile([`${folder}/${file}`, `${folder}/${file}.gz`]);
      if (path === undefined) break;
      paths.push(path);
    }
    if (paths.length === options.files.length) return paths;
  }
  return undefined;
}

/**
 * The error for a named data set that is nowhere.
 *
 * @param name the data set
 * @param expected the files it consists of, in words
 * @param options the folders that were searched, and how else to get the files
 * @returns the error to throw
 */
export function missingData(
  name: string,
  expected: string,
  options: { readonly folders: readonly string[]; readonly help: string },
): DataError {
  const shown = options.folders.map((folder) =>
    Deno.permissions.querySync({ name: "read", path: folder }).state === "granted"
      ? folder
      : `${folder} (not looked into: needs --allow-read)`
  );
  const places = shown.length > 0
    ? `in one of the folders ${shown.join(", ")}`
    : "in a folder named by LEANPROP_DATA, which needs --allow-env to be read";
  return new DataError(name, `${expected} ${places} (${options.help})`, "no such files", { action: "find" });
}

const absent = [Deno.errors.NotFound, Deno.errors.NotADirectory, Deno.errors.NotCapable];

async function firstFile(paths: readonly string[]): Promise<string | undefined> {
  for (const path of paths) {
    try {
      if ((await Deno.stat(path)).isFile) return path;
    } catch (cause) {
      if (absent.some((kind) => cause instanceof kind)) continue;
      throw readFault(path, cause);
    }
  }
  return undefined;
}
