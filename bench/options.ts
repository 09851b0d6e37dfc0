/**
 * Options of benchmarks, read and refused as those of the command line are.
 *
 * @module
 */

// deno-lint-ignore-file no-console -- for programs whose output is their purpose

import { UsageError } from "../src/cli/errors.ts";
import { type CommandSpec, helpText, type OptionSpec, parseOptions, type Values } from "../src/cli/options.ts";
import { ConfigError } from "../src/errors.ts";

/**
 * Reads this program's arguments; ends it after `--help`, and with one sentence and exit code 2 where they cannot be used.
 *
 * @param command the options that it may use
 * @param finish fills in defaults and checks values; may throw as `number` and `oneOf` do
 * @returns what `finish` gives
 */
export function readOptions<const S extends readonly OptionSpec[], T>(
  command: CommandSpec<S>,
  finish: (values: Values<S>) => T,
): T {
  try {
    const { values, help } = parseOptions(command, Deno.args);
    if (!help) return finish(values);
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
