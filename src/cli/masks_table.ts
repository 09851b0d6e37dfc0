/**
 * What a run with sparse weights says before it trains: the masks, and where it measured, what decided.
 *
 * @module
 */

import type { Network } from "../network/network.ts";
import { emptyLayers, runMasks } from "../train/run_masks.ts";

/** What is said about a network's masks. */
export interface MasksText {
  /** A line for each dense or conv2d layer; empty where no rule makes weights sparse. */
  readonly table: string;
  /** Layers that are, or will be, left without any weight: one sentence each. */
  readonly warnings: readonly string[];
}

/**
 * Describes the masks of a network in training.
 *
 * @param network a network that a run is training
 * @returns the table and the warnings
 */
export async function describeMasks(network: Network): Promise<MasksText> {
  const masks = await runMasks(network);
  if (!masks.some(({ ruled }) => ruled)) return { table: "", warnings: [] };
  const measured = masks.some((mask) => mask.measured);
  const rows = [["layer", "weights", "now", "in the end", ...(measured ? ["sparse ms", "dense ms", "chosen"] : [])]];
  for (const { layer, kind, weights, nonZeros, left, measured: times } of masks) {
    const ms = (value: number | undefined) => value === undefined ? "" : value.toFixed(3);
    const decided = [ms(times?.sparseMs), ms(times?.denseMs), times ? (times.sparse ? "sparse" : "dense") : ""];
    rows.push([`${layer} (${kind})`, ...[weights, nonZeros, left].map(String), ...(measured ? decided : [])]);
  }
  return { table: aligned(rows), warnings: emptyLayers(masks) };
}

/** Rows of a table, the first column to the left and the others to the right. */
function aligned(rows: readonly (readonly string[])[]): string {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  const line = (row: readonly string[]) =>
    row.map((cell, column) => column === 0 ? cell.padEnd(widths[0]!) : cell.padStart(widths[column]!)).join("  ");
  return rows.map((row) => `${line(row).trimEnd()}\n`).join("");
}
