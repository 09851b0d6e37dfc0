/**
 * Options of a command from one declarative list: parsing, types, help text, and the same names in JSON files.
 *
 * Arguments are cut up by Node's `parseArgs`; what they mean is decided here.
 *
 * @module
 */

import { parseArgs } from "node:util";
import { didYouMean } from "../nearest.ts";
import { UsageError } from "./errors.ts";

/** Types of options, and what their values are in TypeScript. */
export interface OptionTypes {
  /** Any text. */
  readonly text: string;
  /** A finite number. */
  readonly number: number;
  /** No value; `--no-NAME` says false. */
  readonly flag: boolean;
  /** Whole numbers with commas between; `none` is the empty list. */
  readonly numbers: readonly number[];
  /** Words with commas between. */
  readonly words: readonly string[];
}

/** One option. */
export interface OptionSpec {
  /** Name without dashes, in kebab case. */
  readonly name: string;
  /** What its value is. */
  readonly type: keyof OptionTypes;
  /** What stands for the value in help texts. */
  readonly value?: string;
  /** One line. */
  readonly help: string;
  /** Heading in help texts. */
  readonly group: string;
  /**
   * `result`: decides what comes out, is kept with a run and stays as it is when the run is resumed. `place`: kept, but may
   * differ on another machine. `display`: not kept.
   */
  readonly effect: "result" | "place" | "display";
}

/** Values by option name. */
export type Values<S extends readonly OptionSpec[]> = {
  -readonly [K in S[number] as K["name"]]?: OptionTypes[K["type"]];
};

/** A value of an option. */
export type OptionValue = OptionTypes[keyof OptionTypes];

/** A command with its options. */
export interface CommandSpec<S extends readonly OptionSpec[] = readonly OptionSpec[]> {
  /** Name of the command. */
  readonly name: string;
  /** What it does, for the top of the help text. */
  readonly description: string;
  /** Its options. */
  readonly options: S;
  /** What words without an option before them are, as help texts show it; such words are refused where this is not given. */
  readonly words?: string;
  /** How it is called; `deno task NAME` where this is not given. */
  readonly usage?: string;
  /** What dotted options belong to, such as learning rules: `--mem-aop.k 16`. */
  readonly dotted?: readonly string[];
  /** More sections for the end of the help text. */
  readonly sections?: readonly { readonly title: string; readonly lines: readonly (readonly [string, string])[] }[];
}

/** What a command line says. */
export interface Parsed<S extends readonly OptionSpec[]> {
  /** Values of options that were given. */
  readonly values: Values<S>;
  /** Values of dotted options by full name, such as `mem-aop.k`. */
  readonly dotted: Readonly<Record<string, OptionValue>>;
  /** Words without an option before them. */
  readonly words: readonly string[];
  /** Whether help was asked for. */
  readonly help: boolean;
}

/**
 * Reads a command line.
 *
 * @param command the options that it may use
 * @param args the arguments
 * @returns the values; an option that comes twice counts as it came last
 * @throws {UsageError} for the first argument that cannot be used
 */
export function parseOptions<const S extends readonly OptionSpec[]>(
  command: CommandSpec<S>,
  args: readonly string[],
): Parsed<S> {
  const specs = new Map<string, OptionSpec>(command.options.map((spec) => [spec.name, spec]));
  const { tokens } = parseArgs({
    args: [...args],
    options: argumentTypes(command, args),
    strict: false,
    allowPositionals: true,
    tokens: true,
  });
  const values: Record<string, OptionValue> = {};
  const dotted: Record<string, OptionValue> = {};
  const words: string[] = [];
  let help = false;
  for (const token of tokens) {
    if (token.kind === "option-terminator") continue;
    if (token.kind === "positional") {
      words.push(token.value);
      if (command.words !== undefined) continue;
      throw new UsageError(`the argument ${token.value}`, "options only, such as --help", "a word without an option");
    }
    const { name, rawName, value } = token;
    if (name === "help" || rawName === "-h") {
      help = true;
    } else if (name.includes(".")) {
      checkDotted(name, command);
      dotted[name] = value === undefined ? true : scalar(value);
    } else {
      const spec = specs.get(name) ?? negated(name, specs);
      if (spec === undefined) throw unknownOption(rawName, command);
      values[spec.name] = spec.name === name ? fromText(spec, value) : noValue(spec, { value, name });
    }
  }
  return { values: values as Values<S>, dotted, words, help };
}

/**
 * Reads options from the contents of a JSON file.
 *
 * @param command the options that it may use
 * @param json an object with option names (without dashes) as keys
 * @param where the file, for messages
 * @returns the values
 * @throws {UsageError} where a name is unknown or a value is of another type
 */
export function optionsFromJson<const S extends readonly OptionSpec[]>(
  command: CommandSpec<S>,
  json: Readonly<Record<string, unknown>>,
  where: string,
): Pick<Parsed<S>, "values" | "dotted"> {
  const specs = new Map<string, OptionSpec>(command.options.map((spec) => [spec.name, spec]));
  const values: Record<string, OptionValue> = {};
  const dotted: Record<string, OptionValue> = {};
  for (const [name, value] of Object.entries(json)) {
    if (name.includes(".")) {
      checkDotted(name, command);
      dotted[name] = value as OptionValue;
      continue;
    }
    const spec = specs.get(name);
    if (spec === undefined) {
      const hint = didYouMean(name, specs.keys());
      throw new UsageError(`${name} in ${where}`, `the name of an option of ${command.name}${hint}`, "an unknown one");
    }
    values[name] = fromJson(spec, value, where);
  }
  return { values: values as Values<S>, dotted };
}

/** The help text of a command. */
export function helpText(command: CommandSpec): string {
  const groups = Map.groupBy(command.options, (spec) => spec.group);
  const sections = [...groups].map(([title, specs]) => ({
    title,
    lines: specs.map(({ name, value, help }) => [`--${name}${value ? ` ${value}` : ""}`, help] as const),
  }));
  const all = [...sections, ...command.sections ?? []];
  const width = Math.max(...all.flatMap(({ lines }) => lines.map(([left]) => left.length)).filter((l) => l <= 26));
  const line = ([left, right]: readonly [string, string]) =>
    left.length > width ? `  ${left}\n  ${" ".repeat(width)}  ${right}` : `  ${left.padEnd(width)}  ${right}`;
  const body = all.map(({ title, lines }) => `${title}\n${lines.map(line).join("\n")}`);
  const words = command.words === undefined ? "" : ` ${command.words}`;
  const { usage = `deno task ${command.name}` } = command;
  return [`Usage: ${usage}${words} [options]`, command.description, ...body].join("\n\n") + "\n";
}

/** How `parseArgs` shall cut: which options take the argument after them. */
function argumentTypes(command: CommandSpec, args: readonly string[]): Record<string, { type: "string" | "boolean" }> {
  const types: Record<string, { type: "string" | "boolean" }> = { help: { type: "boolean" } };
  for (const { name, type } of command.options) types[name] = { type: type === "flag" ? "boolean" : "string" };
  args.forEach((argument, index) => {
    const name = /^--([^=]*\.[^=]*)$/.exec(argument)?.[1];
    const next = args[index + 1];
    if (name !== undefined) types[name] = { type: next === undefined || next.startsWith("--") ? "boolean" : "string" };
  });
  return types;
}

function checkDotted(name: string, command: CommandSpec): void {
  const owners = command.dotted ?? [];
  const owner = name.slice(0, name.indexOf("."));
  if (owners.includes(owner)) return;
  const expected = owners.length === 0
    ? `an option of ${command.name}`
    : `an option of ${owners.join(", ")}${didYouMean(owner, owners)}`;
  throw new UsageError(`--${name}`, expected, `one of ${owner === "" ? "nothing" : owner}`);
}

function negated(name: string, specs: ReadonlyMap<string, OptionSpec>): OptionSpec | undefined {
  const spec = name.startsWith("no-") ? specs.get(name.slice(3)) : undefined;
  return spec?.type === "flag" ? spec : undefined;
}

function unknownOption(rawName: string, command: CommandSpec): UsageError {
  const names = [...command.options.map((spec) => `--${spec.name}`), "--help"];
  const hint = didYouMean(rawName, names) || "; --help lists them";
  return new UsageError(rawName, `an option of ${command.name}${hint}`, "an unknown one");
}

function noValue(spec: OptionSpec, given: { readonly value: string | undefined; readonly name: string }): boolean {
  if (given.value === undefined) return false;
  throw new UsageError(`--${given.name}`, `no value, or --${spec.name}=true or false`, given.value);
}

function fromText(spec: OptionSpec, text: string | undefined): OptionValue {
  const refuse = (expected: string): UsageError => new UsageError(`--${spec.name}`, expected, text || "nothing");
  if (spec.type === "flag") {
    if (text === undefined || text === "true") return true;
    if (text === "false") return false;
    throw refuse("no value, true or false");
  }
  if (text === undefined || text === "" || text.startsWith("--")) throw refuse(`${spec.value} after it`);
  switch (spec.type) {
    case "text":
      return text;
    case "number": {
      const number = toNumber(text);
      if (number === undefined) throw refuse("a number");
      return number;
    }
    case "numbers": {
      if (text === "none") return [];
      const numbers = text.split(",").map(toNumber);
      if (numbers.includes(undefined)) throw refuse(`numbers with commas between, such as ${spec.value}`);
      return numbers as number[];
    }
    case "words":
      return text.split(",").map((word) => word.trim());
  }
}

function fromJson(spec: OptionSpec, value: unknown, where: string): OptionValue {
  const isList = (kind: "string" | "number") => Array.isArray(value) && value.every((item) => typeof item === kind);
  const [fits, expected] = {
    text: [typeof value === "string", "a text"],
    number: [typeof value === "number", "a number"],
    flag: [typeof value === "boolean", "true or false"],
    numbers: [isList("number"), "a list of numbers"],
    words: [isList("string"), "a list of texts"],
  }[spec.type] as [boolean, string];
  if (fits) return value as OptionValue;
  throw new UsageError(`${spec.name} in ${where}`, expected, JSON.stringify(value).slice(0, 80));
}

/** A value of a rule's option: the rule knows its type, so only what is plainly a number or a truth value is converted. */
function scalar(text: string): OptionValue {
  if (text === "true" || text === "false") return text === "true";
  return toNumber(text) ?? text;
}

function toNumber(text: string): number | undefined {
  const number = text.trim() === "" ? NaN : Number(text);
  return Number.isFinite(number) ? number : undefined;
}
