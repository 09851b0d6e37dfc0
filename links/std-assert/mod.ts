/**
 * The part of `@std/assert` that the tests use, taken from npm and typed here, so that tests run without the JSR
 * registry. `deno.json` links it over the `jsr:` import; the published module never imports it.
 *
 * @module
 */
import { assert as assertBody } from "npm:deno-std@1.4.0/assert/assert.js";
import { assertAlmostEquals as assertAlmostEqualsBody } from "npm:deno-std@1.4.0/assert/almost_equals.js";
import { assertEquals as assertEqualsBody } from "npm:deno-std@1.4.0/assert/equals.js";
import { assertMatch as assertMatchBody } from "npm:deno-std@1.4.0/assert/match.js";
import { assertNotEquals as assertNotEqualsBody } from "npm:deno-std@1.4.0/assert/not_equals.js";
import { assertRejects as assertRejectsBody } from "npm:deno-std@1.4.0/assert/rejects.js";
import { assertStringIncludes as assertStringIncludesBody } from "npm:deno-std@1.4.0/assert/string_includes.js";
import { assertThrows as assertThrowsBody } from "npm:deno-std@1.4.0/assert/throws.js";

// deno-lint-ignore no-explicit-any
type ErrorClass<E extends Error> = abstract new (...args: any[]) => E;

/** Fails unless the value is truthy. */
export const assert: (value: unknown, message?: string) => asserts value = assertBody;
/** Deep equality. */
export const assertEquals: <T>(actual: T, expected: T, message?: string) => void = assertEqualsBody;
/** Deep inequality. */
export const assertNotEquals: <T>(actual: T, expected: T, message?: string) => void = assertNotEqualsBody;
/** Equality within a tolerance (default 1e-7 relative). */
export const assertAlmostEquals: (actual: number, expected: number, tolerance?: number, message?: string) => void =
  assertAlmostEqualsBody;
/** The text contains the part. */
export const assertStringIncludes: (actual: string, expected: string, message?: string) => void =
  assertStringIncludesBody;
/** The text matches the pattern. */
export const assertMatch: (actual: string, expected: RegExp, message?: string) => void = assertMatchBody;
/** The function throws an error of this class whose message includes this text; gives the error. */
export const assertThrows: <E extends Error = Error>(
  body: () => unknown,
  errorClass: ErrorClass<E>,
  messageIncludes?: string,
  message?: string,
) => E = assertThrowsBody;
/** The promise rejects with an error of this class whose message includes this text; gives the error. */
export const assertRejects: <E extends Error = Error>(
  body: () => PromiseLike<unknown>,
  errorClass: ErrorClass<E>,
  messageIncludes?: string,
  message?: string,
) => Promise<E> = assertRejectsBody;
