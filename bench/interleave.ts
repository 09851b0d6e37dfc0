/**
 * Timing on machines that are shared and noisy: sides take turns, ratios are taken within a round.
 *
 * @module
 */

import type { Ran } from "./peer.ts";

/** Anything that can be timed in turns. */
export interface Timed {
  /** Its name in tables. */
  readonly name: string;
  /** Trains for about this long. */
  run(seconds: number): Promise<Pick<Ran, "seconds" | "steps">>;
}

/** Quantiles of one quantity. */
export interface Quantiles {
  /** Tenth part from below. */
  readonly p10: number;
  /** Middle. */
  readonly median: number;
  /** Tenth part from above. */
  readonly p90: number;
}

/** One side's times. */
export interface Timing {
  /** The side. */
  readonly name: string;
  /** Seconds of a step. */
  readonly seconds: Quantiles;
  /** Its seconds divided by the first side's, within a round. */
  readonly ratio: Quantiles;
}

/**
 * Lets the sides train in turns.
 *
 * @param sides the first is what the others are compared with
 * @param options rounds, and seconds of one turn
 * @returns one timing a side
 */
export async function interleave(
  sides: readonly Timed[],
  options: { readonly rounds: number; readonly seconds: number },
): Promise<Timing[]> {
  const perStep: number[][] = sides.map(() => []);
  for (const side of sides) await side.run(options.seconds / 2);
  for (let round = 0; round < options.rounds; round++) {
    for (const [index, side] of sides.entries()) {
      const ran = await side.run(options.seconds);
      perStep[index]!.push(ran.seconds / ran.steps);
    }
  }
  return sides.map(({ name }, index) => {
    const times = perStep[index]!;
    return {
      name,
      seconds: quantiles(times),
      ratio: quantiles(times.map((time, round) => time / perStep[0]![round]!)),
    };
  });
}

/** Quantiles of some numbers. */
export function quantiles(numbers: readonly number[]): Quantiles {
  const sorted = numbers.toSorted((a, b) => a - b);
  const at = (share: number) => sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? NaN;
  return { p10: at(0.1), median: at(0.5), p90: at(0.9) };
}
