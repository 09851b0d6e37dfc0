/**
 * Numbers for people.
 *
 * @module
 */

/** A number to so many significant digits, without zeros at its end: `0.0042` of 0.004200001. */
export function digits(value: number, significant: number): string {
  return String(Number(value.toPrecision(significant)));
}
