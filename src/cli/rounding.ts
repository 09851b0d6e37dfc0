/**
 * What changes, and what only seems to.
 *
 * @module
 */

/** What changes less than this, as a share of the largest value or of 1, changes by rounding only. */
const ROUNDING = 1e-6;

/**
 * Whether figures of a probe change by more than rounding.
 *
 * @param values the figures
 * @returns false also where there are none
 */
export function changes(values: readonly number[]): boolean {
  const [low, high] = [Math.min(...values), Math.max(...values)];
  return (high - low) / Math.max(1, Math.abs(low), Math.abs(high)) > ROUNDING;
}
