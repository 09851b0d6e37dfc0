/**
 * What a run with sparse weights says before it trains: the masks, and where it measured, what decided.
 *
 * @module
 */

import type { Network } from "../network/network.ts";
import { runMasks } from "../train/run_masks.ts";

/**
 * Describes the masks of a network in training.
 *
 * @param network a network that a run with sparse weights is training
 * @returns a table: a line for each dense or conv2d layer
 */
export async function masksTable(network: Network): Promise<string> {
  const masks = await runMasks(network);
  const measured = masks.some((mask) => mask.measured);
  const rows = [["layer", "weights", "now", "in the end", ...(measured ? ["sparse ms", "dense ms", "chosen"] : [])]];
  for (const { layer, kind, weights, nonZeros, left, measured: times } of masks) {
    const ms = (value: number | undefined) => value === undefined ? "" : value.toFixed(3);
    const decided = [ms(times?.sparseMs), ms(times?.denseMs), times ? (times.sparse ? "sparse" : "dense") : ""];
    rows.push([`${layer} (${kind})`, ...[weights, nonZeros, left].map(String), ...(measured ? decided : [])]);
  }
  return aligned(rows);
}

/** Rows of a table, the first column to the left and the others to the right. */
function aligned(rows: readonly (readonly string[])[]): string {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  const line = (row: readonly string[]) =>
    row.map((cell, column) => column === 0 ? cell.padEnd(widths[0]!) : cell.padStart(widths[column]!)).join("  ");
  return rows.map((row) => `${line(row).trimEnd()}\n`).join("");
}
