/**
 * Means over runs and how far two of them may lie apart.
 *
 * @module
 */

/** A curve over epochs from several runs, or a published one. */
export interface Curve {
  /** Mean of the runs at each epoch. */
  readonly mean: readonly number[];
  /** Standard deviation of the runs at each epoch. */
  readonly std: readonly number[];
  /** Number of runs. */
  readonly runs: number;
}

/** Mean and sample standard deviation of several runs, epoch by epoch. */
export function curveOf(runs: readonly (readonly number[])[]): Curve {
  const epochs = runs[0]?.length ?? 0;
  const at = (epoch: number) => runs.map((run) => run[epoch]!);
  const mean = Array.from({ length: epochs }, (_, epoch) => average(at(epoch)));
  const std = mean.map((mean, epoch) => {
    const square = average(at(epoch).map((value) => (value - mean) ** 2));
    return Math.sqrt(square * runs.length / Math.max(runs.length - 1, 1));
  });
  return { mean, std, runs: runs.length };
}

/**
 * The difference of two means at an epoch (from 1) in combined standard errors. A single run of ours is taken to vary like the
 * published ones.
 */
export function distance(found: Curve, published: Curve, epoch: number): number {
  const error = (curve: Curve) => (curve.runs > 1 ? curve : published).std[epoch - 1]! ** 2 / curve.runs;
  return (found.mean[epoch - 1]! - published.mean[epoch - 1]!) / Math.sqrt(error(found) + error(published));
}

function average(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
