/**
 * Runs in formats that other tools read.
 *
 * @module
 */

import { basename } from "node:path";
import { CheckpointError } from "../../errors.ts";
import { reason, writeWhole } from "../../run/files.ts";
import { columns, type MetricRow, type RunRow } from "./table.ts";
import { eventFile } from "./tensorboard.ts";

/** A run with its figures. */
export interface WholeRun {
  /** Its row. */
  readonly row: RunRow;
  /** Its figures. */
  readonly metrics: readonly MetricRow[];
}

/** Formats by name. */
export const formats = ["csv", "jsonl", "tensorboard"] as const;

/**
 * Runs as JSON lines: one object a run, with its options, machine and figures.
 *
 * @param runs the runs
 * @returns the text
 */
export function asJsonLines(runs: readonly WholeRun[]): string {
  return runs.map(({ row, metrics }) => {
    const figures = metrics.map(({ step, epoch, seconds, name, value }) => ({ step, epoch, seconds, name, value }));
    const { options, machine, ...rest } = row;
    const whole = { ...rest, options: JSON.parse(options), machine: JSON.parse(machine), metrics: figures };
    return `${JSON.stringify(whole)}\n`;
  }).join("");
}

/**
 * Runs as CSV: one line for each figure, with what it needs to be grouped by.
 *
 * @param runs the runs
 * @returns the text, with a line of names first
 */
export function asCsv(runs: readonly WholeRun[]): string {
  const own = columns.filter((name) => !["options", "machine", "message"].includes(name));
  const lines = runs.flatMap(({ row, metrics }) =>
    metrics.map((metric) => [
      metric.step,
      metric.epoch,
      metric.seconds,
      metric.name,
      metric.value,
      ...own.map((name) => row[name]),
    ])
  );
  const names = ["at_step", "at_epoch", "at_seconds", "metric", "value", ...own];
  return [names, ...lines].map((cells) => `${cells.map(cell).join(",")}\n`).join("");
}

/**
 * Runs as event files of TensorBoard: a folder for each, as TensorBoard wants them.
 *
 * @param runs the runs
 * @param folder where they go
 * @throws {CheckpointError} where that cannot be written to
 */
export async function writeTensorBoard(runs: readonly WholeRun[], folder: string): Promise<void> {
  for (const { row, metrics } of runs) {
    const begun = Date.parse(row.created) / 1000;
    const scalars = metrics.map(({ name, step, value, seconds }) => ({
      tag: name,
      step,
      value,
      time: begun + seconds,
    }));
    const place = `${folder}/${basename(row.folder)}-${row.id.slice(0, 8)}`;
    try {
      await Deno.mkdir(place, { recursive: true });
    } catch (cause) {
      throw new CheckpointError(`Cannot make the folder ${place}: ${reason(cause)}`, { cause });
    }
    const file = `${place}/events.out.tfevents.${Math.floor(begun)}.leanprop`;
    await writeWhole(file, [eventFile(scalars, begun)]);
  }
}

function cell(value: string | number | null): string {
  const text = value === null ? "" : String(value);
  return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
