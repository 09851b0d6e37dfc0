/**
 * Medians, and how sure the difference of two rules is.
 *
 * @module
 */

/** A ratio of geometric means, with an interval. */
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

/** A mean of differences, with an interval. */
export interface DifferenceInterval {
  /** The mean of the differences. */
  readonly difference: number;
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

/** The mean of some numbers; `NaN` of none. */
export function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

/**
 * The mean of some numbers with its 95 % interval after Student (1908, The probable error of a mean). Unlike a bootstrap, which knows
 * no values but those that it has seen, it is as wide as few numbers demand: a percentile interval of two excludes the truth in half
 * of all cases, this one in a twentieth. One number is all of its interval.
 *
 * @param values independent numbers
 * @returns mean and interval
 */
export function meanInterval(values: readonly number[]): { mean: number; low: number; high: number } {
  const middle = mean(values);
  const freedom = values.length - 1;
  if (freedom < 1) return { mean: middle, low: middle, high: middle };
  const variance = values.reduce((sum, value) => sum + (value - middle) ** 2, 0) / freedom;
  const half = studentQuantile(freedom) * Math.sqrt(variance / values.length);
  return { mean: middle, low: middle - half, high: middle + half };
}

/**
 * The ratio of the geometric means of pairs, with the 95 % interval of {@linkcode meanInterval} over the logarithms of their ratios:
 * what both of a pair have in common, such as a seed that is hard, does not widen it.
 *
 * @param pairs values and what each of them is divided by, measured side by side; above 0
 * @returns the ratio and its interval
 */
export function ratioInterval(pairs: readonly (readonly [value: number, reference: number])[]): RatioInterval {
  const { mean, low, high } = meanInterval(pairs.map(([value, reference]) => Math.log(value / reference)));
  return { ratio: Math.exp(mean), low: Math.exp(low), high: Math.exp(high), pairs: pairs.length };
}

/**
 * The mean of the differences of pairs, with the interval of {@linkcode meanInterval}: for values of which some are 0 and have no ratio.
 *
 * @param pairs values and what is taken off each of them, measured side by side
 * @returns the difference and its interval
 */
export function differenceInterval(
  pairs: readonly (readonly [value: number, reference: number])[],
): DifferenceInterval {
  const { mean, low, high } = meanInterval(pairs.map(([value, reference]) => value - reference));
  return { difference: mean, low, high, pairs: pairs.length };
}

/**
 * Whether two counts out of as many each differ by more than chance does, with an error of at most 5 % (Fisher's exact test, two-sided;
 * Fisher 1935, The Logic of Inductive Inference): 0 of 4 differ from 4 of 4, and 1 of 5 from 5 of 5, but not 2 of 5.
 *
 * @param a one count
 * @param b the other
 * @param of how many there were of each
 * @returns whether they differ
 */
export function countsDiffer(a: number, b: number, of: number): boolean {
  const logFactorials = [0];
  for (let n = 1; n <= 2 * of; n++) logFactorials.push(logFactorials[n - 1]! + Math.log(n));
  const logChoose = (n: number, k: number) => logFactorials[n]! - logFactorials[k]! - logFactorials[n - k]!;
  const both = a + b;
  let tail = 0;
  for (let k = Math.max(0, both - of); k <= Math.min(a, b); k++) {
    tail += Math.exp(logChoose(of, k) + logChoose(of, both - k) - logChoose(2 * of, both));
  }
  return 2 * tail <= 0.05;
}

/** The 97.5 % quantile of Student's distribution, to a hundredth (Abramowitz and Stegun 1964, 26.7.5); 1 degree in closed form. */
function studentQuantile(freedom: number): number {
  if (freedom === 1) return Math.tan(Math.PI * 0.475);
  const z = 1.959964;
  const powers = (...factors: readonly number[]) =>
    factors.reduce((sum, factor, at) => sum + factor * z ** (2 * at + 1), 0);
  return z + powers(1, 1) / (4 * freedom) + powers(3, 16, 5) / (96 * freedom ** 2) +
    powers(-15, 17, 19, 3) / (384 * freedom ** 3) + powers(-945, -1920, 1482, 776, 79) / (92160 * freedom ** 4);
}
