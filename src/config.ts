/**
 * Checks on options: unknown names and values of the wrong kind are refused where they are given.
 *
 * @module
 */

import { ConfigError } from "./errors.ts";
import { didYouMean } from "./nearest.ts";

/** Refuses what is no object; for arguments, of which the message says what they should be. */
export function objectGiven(path: string, value: unknown, expected: string): void {
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return;
  throw new ConfigError(path, expected, quoted(value));
}

/** Refuses what is no text; for arguments such as the path of a file. */
export function textGiven(path: string, value: unknown, expected: string): void {
  if (typeof value !== "string") throw new ConfigError(path, expected, value);
}

/** Refuses what is neither an array nor something like one. */
export function listGiven(path: string, value: unknown, expected: string): void {
  if (typeof value === "object" && value !== null && typeof (value as ArrayLike<unknown>).length === "number") return;
  throw new ConfigError(path, expected, quoted(value));
}

/** Refuses what are no bytes. */
export function bytesGiven(path: string, value: unknown): void {
  if (!(value instanceof Uint8Array)) throw new ConfigError(path, "the bytes of a file as a Uint8Array", quoted(value));
}

/** Refuses what is no object; for what takes options apart before it can check their names. */
export function objectOfOptions(path: string, options: unknown, example = ""): void {
  objectGiven(
    path === "" ? "options" : path,
    options,
    example === "" ? "an object" : `options such as { ${example}: … }`,
  );
}

/** Refuses what is no object, and options that nothing would read, with the nearest known name. */
export function knownOptions(path: string, options: object, known: readonly string[]): void {
  objectOfOptions(path, options, known[0]);
  for (const name of Object.keys(options)) {
    if (known.includes(name)) continue;
    const place = path === "" ? name : `${path}.${name}`;
    const expected = known.length === 0 ? "no options here" : `one of ${known.join(", ")}${didYouMean(name, known)}`;
    throw new ConfigError(place, expected, "an unknown option");
  }
}

/** A range for {@linkcode number}. */
export interface Range {
  /** Smallest allowed value. */
  readonly min?: number;
  /** Largest allowed value. */
  readonly max?: number;
  /** Values must be above this. */
  readonly above?: number;
  /** Values must be below this. */
  readonly below?: number;
  /** Whether only whole numbers are allowed. */
  readonly whole?: boolean;
}

/** A finite number in a range. @throws {ConfigError} otherwise */
export function number(path: string, value: unknown, range: Range = {}): number {
  const { min, max, above, below, whole } = range;
  const fits = typeof value === "number" && Number.isFinite(value) && (!whole || Number.isSafeInteger(value)) &&
    (min === undefined || value >= min) && (max === undefined || value <= max) &&
    (above === undefined || value > above) && (below === undefined || value < below);
  if (fits) return value;
  const words = [
    min === undefined ? "" : max === undefined ? `from ${min} up` : `from ${min} to ${max}`,
    above === undefined ? "" : `above ${above}`,
    max === undefined || min !== undefined ? "" : `up to ${max}`,
    below === undefined ? "" : `below ${below}`,
  ].filter((part) => part !== "");
  throw new ConfigError(path, `a ${whole ? "whole " : ""}number ${words.join(" and ")}`.trim(), quoted(value));
}

/** A boolean. @throws {ConfigError} otherwise */
export function boolean(path: string, value: unknown): boolean {
  if (typeof value === "boolean") return value;
  throw new ConfigError(path, "true or false", quoted(value));
}

/** A function that is called back, or nothing. @throws {ConfigError} otherwise */
export function callback(path: string, value: unknown): void {
  if (value === undefined || typeof value === "function") return;
  throw new ConfigError(path, "a function", quoted(value));
}

/** What ends the work early, or nothing. @throws {ConfigError} otherwise */
export function abortSignal(path: string, value: unknown): void {
  if (value === undefined || typeof (value as AbortSignal | null)?.throwIfAborted === "function") return;
  throw new ConfigError(path, "an AbortSignal", quoted(value));
}

/** One of some words. @throws {ConfigError} otherwise, with the nearest */
export function oneOf<T extends string>(path: string, value: unknown, words: readonly T[]): T {
  const found = words.find((word) => word === value);
  if (found !== undefined) return found;
  const hint = typeof value === "string" ? didYouMean(value, words) : "";
  throw new ConfigError(path, `one of ${words.join(", ")}${hint}`, value);
}

/** Text in quotes, so that "3" where a number belongs does not read like one. */
function quoted(value: unknown): unknown {
  return typeof value === "string" && value !== "" ? JSON.stringify(value) : value;
}

/** What kind of thing a value is, in words, such as `a Uint8Array`. */
export function typeName(value: unknown): string {
  const name = typeof value === "object" && value !== null ? value.constructor?.name ?? "object" : undefined;
  return name === undefined ? String(value) : `${/^[AEIO]/.test(name) ? "an" : "a"} ${name}`;
}

/** A seed: a whole number from 0 that a JavaScript number holds exactly. */
export function seedNumber(path: string, value: unknown): number {
  return number(path, value, { min: 0, max: Number.MAX_SAFE_INTEGER, whole: true });
}
