/**
 * Opens the native library: lazily, once, and never closes it (a call under way would crash).
 *
 * @module
 */

import { EngineError } from "../errors.ts";
import { libraryFile } from "./library.ts";
import { ABI_FINGERPRINT, symbols } from "./symbols.gen.ts";

/** The library's functions. */
export type Native = Deno.DynamicLibrary<typeof symbols>["symbols"];

/** Oldest Deno whose background calls keep their buffers alive and refuse resizable ones. */
const OLDEST_DENO = [2, 9, 4] as const;

let loaded: Native | undefined;

/**
 * The native library.
 *
 * @throws {EngineError} `library`, when it cannot be found or opened, was built from another version, or Deno is too old
 */
export function native(): Native {
  return loaded ??= open();
}

function open(): Native {
  checkDeno(Deno.version.deno);
  const file = libraryFile();
  let library: Deno.DynamicLibrary<typeof symbols>;
  try {
    library = Deno.dlopen(file, symbols);
  } catch (cause) {
    throw new EngineError("library", explain(file, cause), { cause });
  }
  const found = library.symbols.abi_fingerprint();
  if (found !== ABI_FINGERPRINT) {
    library.close();
    throw new EngineError("library", stale(file, `0x${found.toString(16)}`));
  }
  return library.symbols;
}

/**
 * Refuses a Deno that is too old.
 *
 * @param version such as `2.9.6`
 * @throws {EngineError} `library`
 */
export function checkDeno(version: string): void {
  const found = version.split(/[.+-]/).map(Number);
  for (const [index, oldest] of OLDEST_DENO.entries()) {
    const part = found[index] ?? 0;
    if (part > oldest) return;
    if (part < oldest) {
      const expected = OLDEST_DENO.join(".");
      const message = `Cannot run on Deno ${version}: expected ${expected} or newer; run \`deno upgrade\``;
      throw new EngineError("library", message);
    }
  }
}

/** Says in one sentence why the library could not be opened and what to do. */
function explain(file: string | URL, cause: unknown): string {
  const path = file instanceof URL ? decodeURIComponent(file.pathname) : file;
  if (cause instanceof Deno.errors.NotCapable || cause instanceof Deno.errors.PermissionDenied) {
    return `Cannot open the native library: permission is missing; run with --allow-ffi=${path}`;
  }
  const text = cause instanceof Error ? cause.message : String(cause);
  // A symbol that is not there means another interface, like a fingerprint that differs.
  if (/register symbol/i.test(text)) return stale(file, "one without all functions");
  return `Cannot open the native library ${path}: run \`deno task build\` first (${text.split("\n")[0]})`;
}

function stale(file: string | URL, found: string): string {
  const path = file instanceof URL ? decodeURIComponent(file.pathname) : file;
  const expected = `0x${ABI_FINGERPRINT.toString(16)}`;
  return `Cannot use the native library ${path}: expected interface ${expected} but found ${found}; run \`deno task build\``;
}
