/**
 * Options of benchmarks, read and refused as those of the command line are.
 *
 * @module
 */

// deno-lint-ignore-file no-console -- for programs whose output is their purpose

import { UsageError } from "../src/cli/errors.ts";
import { type CommandSpec, helpText, type OptionSpec, parseOptions, type Values } from "../src/cli/options.ts";
import { number, type Range } from "../src/config.ts";
import { ConfigError } from "../src/errors.ts";

/**
 * Reads this program's arguments; ends it after `--help`, and with one sentence and exit code 2 where they cannot be used.
 *
 * @param command the options that it may use
 * @param finish fills in defaults and checks values and words; may throw as `number` and `oneOf` do
 * @returns what `finish` gives
 */
export function readOptions<const S extends readonly OptionSpec[], T>(
  command: CommandSpec<S>,
  finish: (values: Values<S>, words: readonly string[]) => T,
): T {
  try {
    const { values, words, help } = parseOptions(command, Deno.args);
    if (!help) return finish(values, words);
  } catch (fault) {
    if (!(fault instanceof UsageError || fault instanceof ConfigError)) throw fault;
    console.error(`error: ${fault.message}`);
    Deno.exit(2);
  }
  console.log(helpText(command));
  Deno.exit(0);
}

/** An option, its help text and what stands for its value; without that it is a flag. */
export function option<const N extends string, const K extends OptionSpec["type"]>(
  name: N,
  type: K,
  [help, value]: readonly [help: string, value?: string],
): OptionSpec & { readonly name: N; readonly type: K } {
  return { name, type, help, group: "Options", effect: "display", ...(value !== undefined && { value }) };
}

/** How a program is called that is no task. */
export function script(path: string, permissions = ""): string {
  return `deno run --allow-ffi --allow-read --allow-env ${permissions === "" ? "" : `${permissions} `}${path}`;
}

/** Numbers, at least one, each in a range. @throws {ConfigError} otherwise */
export function numbers(path: string, values: readonly number[], range: Range): readonly number[] {
  if (values.length === 0) throw new ConfigError(path, "at least one number", "none");
  return values.map((value) => number(path, value, range));
}

/** Cases whose name has some text in it, at least one. @throws {ConfigError} otherwise */
export function only<C>(cases: readonly C[], nameOf: (one: C) => string, text: string | undefined): readonly C[] {
  const found = cases.filter((one) => nameOf(one).includes(text ?? ""));
  if (found.length > 0) return found;
  throw new ConfigError("--only", `text in the name of a case (${cases.map(nameOf).join("; ")})`, text);
}
