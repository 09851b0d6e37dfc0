/**
 * Medians, and how sure the ratio of two of them is.
 *
 * @module
 */

import { createRandom } from "../data/random.ts";

/** Draws of the bootstrap. */
const DRAWS = 2000;

/** Share of the draws that lies outside of an interval. */
const OUTSIDE = 0.05;

/** A ratio of medians, with an interval. */
export interface RatioInterval {
  /** The ratio. */
  readonly ratio: number;
  /** Where the interval begins. */
  readonly low: number;
  /** Where it ends. */
  readonly high: number;
  /** Pairs that it comes from. */
  readonly pairs: number;
}

/** The middle of some numbers; `NaN` of none. */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const half = sorted.length / 2;
  return Number.isInteger(half) ? (sorted[half - 1]! + sorted[half]!) / 2 : sorted[Math.floor(half)]!;
}

/**
 * The ratio of the medians of pairs, with a 95 % bootstrap interval over the pairs (percentile method; Efron and Tibshirani 1993,
 * An Introduction to the Bootstrap, chapter 13). The draws are seeded: the same numbers give the same interval.
 *
 * @param pairs values and what each of them is divided by, measured side by side
 * @returns the ratio and its interval
 */
export function ratioInterval(pairs: readonly (readonly [value: number, reference: number])[]): RatioInterval {
  const ratioOf = (chosen: readonly (readonly [number, number])[]) =>
    median(chosen.map(([value]) => value)) / median(chosen.map(([, reference]) => reference));
  const random = createRandom(0);
  const draws = Array.from({ length: DRAWS }, () => ratioOf(pairs.map(() => pairs[random.below(pairs.length)]!)))
    .sort((a, b) => a - b);
  const outside = Math.floor(DRAWS * OUTSIDE / 2);
  return { ratio: ratioOf(pairs), low: draws[outside]!, high: draws[DRAWS - 1 - outside]!, pairs: pairs.length };
}
