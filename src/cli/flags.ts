/**
 * What the command line calls an option that a message calls as the API or the engine does.
 *
 * @module
 */

import { rules } from "../rules/mod.ts";

/** What decides the names. */
export interface FlagNames {
  /** Names of the command's options. */
  readonly options: readonly string[];
  /** Learning rules that take part; all of them where that is not known. */
  readonly rules?: readonly string[];
}

/** The place in a refusal, after what `compare` puts before it. */
const PLACE = /^(Cannot compare (?<side>[\w+-]+): )?Cannot use (?<path>[\w.-]+)(\[\d+\])?(?=:)/;

/** An option that a message advises, or two. */
const ADVICE = /\b(with|under) ([a-z]+[A-Z]\w*)(?: or ([a-z]\w*))?\b/g;

/** Options of the API that are objects, and what the command line has for what is in them. */
const OBJECTS: Readonly<Record<string, readonly string[]>> = { augment: ["crop", "flip"] };

/** A rule, or an option of one with its value, that the engine advises as the API writes it. */
const CODE = /\b(backprop)\(\)|\b(force|allowEmpty): true\b/g;

/**
 * Names the option on the command line in a refusal that names it as the API (`optimizer.learningRate`, `memAop.k`) or the engine
 * (`rule.k`) does.
 *
 * @param message a refusal
 * @param names options of the command, and learning rules that take part
 * @returns the message; as it was where the command line has no such option
 */
export function nameFlags(message: string, names: FlagNames): string {
  const advised = message.replace(ADVICE, (whole, word: string, ...options: (string | undefined)[]) => {
    const flags = options.slice(0, 2).flatMap((option) => option === undefined ? [] : [kebab(option)]);
    const known = flags.every((flag) => names.options.includes(flag));
    return known ? `${word} ${flags.map((flag) => `--${flag}`).join(" or ")}` : whole;
  });
  const side = PLACE.exec(message)?.groups?.side;
  const taking = side === undefined ? names : { ...names, rules: side.split("+") };
  const told = advised.replace(CODE, (whole, rule?: string, option?: string) => {
    if (rule !== undefined) return names.options.includes("rule") ? `--rule ${rule}` : rule;
    const flags = flagsOf(`rule.${option}`, taking);
    return flags.length === 0 ? whole : flags.join(" or ");
  });
  return told.replace(PLACE, (whole, ...rest) => {
    const { path } = rest.at(-1) as { readonly path: string };
    const flags = flagsOf(path, taking);
    return flags.length === 0 ? whole : `${rest[0] ?? ""}Cannot use ${flags.join(" or ")}`;
  });
}

/**
 * Rules that a command line names, also where it cannot be used.
 *
 * @param args arguments of a command
 * @returns names of rules; nothing where none is named
 */
export function rulesNamed(args: readonly string[]): string[] | undefined {
  const found = args.flatMap((argument, index) => {
    const found = /^--rules?(?:=(.*))?$/.exec(argument);
    return found === null ? [] : (found[1] ?? args[index + 1] ?? "").split(/[,+]/);
  });
  return found.length === 0 ? undefined : found;
}

/** One flag as a rule; several only where rules that take part share the name and the engine does not say whose option it is. */
function flagsOf(path: string, { options, rules: taking }: FlagNames): string[] {
  const words = path.split(".");
  const [first, last] = [words[0]!, words.at(-1)!];
  const owners = first === "rule"
    ? rules.filter(({ name }) => taking === undefined || taking.includes(name))
    : rules.filter(({ name }) => name === kebab(first));
  const ofRules = words.length === 1
    ? []
    : owners.filter((owner) => owner.options.includes(last)).map(({ name }) => `--${name}.${kebab(last)}`);
  if (ofRules.length > 0) return ofRules;
  // The times of a schedule are called as other options are, and so are options of rules.
  const whole = first === "schedule" || first === "rule" || owners.length > 0;
  const parts = words.length === 1 ? OBJECTS[first]?.filter((name) => options.includes(name)) ?? [] : [];
  if (parts.length > 0) return parts.map((name) => `--${name}`);
  const candidates = whole ? [kebab(first), `${kebab(first)}s`] : [kebab(last), kebab(first)];
  return candidates.filter((name) => options.includes(name)).slice(0, 1).map((name) => `--${name}`);
}

/**
 * `batchSize` as `batch-size`.
 *
 * @param name a name in camel case
 * @returns the name in kebab case
 */
export function kebab(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}
