/** How close numbers must be: the only table of tolerances, by element type and by what they are compared with. */

import { assert } from "@std/assert";

/** Relative to the largest magnitude of the expected tensor. */
export const tolerance = {
  /**
   * Gradients against central differences with step 1e-5: the differences are off by about 1e-10 (the third derivative) and by
   * 1e-16 / 1e-5 (rounding).
   */
  differences: { f64: 1e-8 },
  /** Gradients and ten steps against PyTorch's f64, which adds up in another order. */
  golden: { f64: 1e-12, f32: 1e-5 },
  /** One pass of 18 layers. */
  goldenDeep: { f64: 1e-11, f32: 1e-5 },
  /**
   * Five steps of them. Rounding may leave the input of a ReLU on the other side of 0, and with momentum all that follows differs: in
   * f64, initial weights moved by 1e-6 of themselves gave losses that differ by 1e-4 to 7e-3.
   */
  goldenDeepSteps: { f64: 1e-11, f32: 1e-2 },
  /** The same formula, evaluated here in double precision. */
  formula: { f64: 1e-13, f32: 2e-6 },
} as const;

/** The step of central differences. */
export const DIFFERENCE_STEP = 1e-5;

/**
 * Fails unless all numbers agree; the message has the name, the worst index, both values and the largest difference.
 *
 * @param name what is compared
 * @param found the numbers
 * @param expected what they should be
 * @param limit relative to the largest expected magnitude
 */
export function assertClose(
  { name, limit }: { readonly name: string; readonly limit: number },
  found: ArrayLike<number>,
  expected: ArrayLike<number>,
): void {
  assert(found.length === expected.length, `${name}: ${found.length} numbers where ${expected.length} are expected`);
  let [worst, at, scale] = [0, 0, 0];
  for (let index = 0; index < expected.length; index++) {
    scale = Math.max(scale, Math.abs(expected[index]!));
    const difference = Math.abs(found[index]! - expected[index]!);
    // Written so that NaN counts as worst.
    if (!(difference <= worst)) [worst, at] = [difference, index];
  }
  assert(
    worst <= limit * Math.max(scale, Number.MIN_VALUE),
    `${name}: element ${at} is ${found[at]} where ${expected[at]} is expected; largest difference ${worst}, ` +
      `allowed ${limit} of ${scale}`,
  );
}
