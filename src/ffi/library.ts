/**
 * Where the native library is.
 *
 * @module
 */

import { EngineError } from "../errors.ts";

/** Environment variable that names another library file. */
export const LIBRARY_VARIABLE = "LEANPROP_LIBRARY";

/** File names of the library by system. */
const NAMES: Partial<Record<typeof Deno.build.os, string>> = {
  darwin: "libleanprop.dylib",
  windows: "leanprop.dll",
};

/**
 * The path of the native library: the file that `LEANPROP_LIBRARY` names (where reading it is permitted), else the one that
 * `deno task build` makes beside this source tree.
 *
 * @throws {EngineError} `library`, when this module was not loaded from files and the variable is not set
 */
export function libraryFile(): string | URL {
  const named = environment(LIBRARY_VARIABLE);
  if (named) return named;
  const name = NAMES[Deno.build.os] ?? "libleanprop.so";
  const built = new URL(`../../rust/target/release/${name}`, import.meta.url);
  if (built.protocol === "file:") return built;
  throw new EngineError(
    "library",
    `Cannot find the native library: set ${LIBRARY_VARIABLE} to the path of ${name} (and allow reading it with ` +
      `--allow-env=${LIBRARY_VARIABLE}); a source checkout builds it with \`deno task build\``,
  );
}

/** An environment variable, where reading it is permitted already; never prompts. */
export function environment(variable: string): string | undefined {
  const { state } = Deno.permissions.querySync({ name: "env", variable });
  return state === "granted" ? Deno.env.get(variable) : undefined;
}
