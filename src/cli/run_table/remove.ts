/**
 * Takes the files of a run away, and nothing else that lies in its folder.
 *
 * @module
 */

import { CheckpointError, DataError } from "../../errors.ts";
import { wholeName } from "../../half_written.ts";
import { reason } from "../../run/files.ts";
import { readRecord } from "../run_folder.ts";

/** What `train` and `runs report` write, whole or half; what makes the folder a run comes last. */
const OWN = [
  /^(metrics\.jsonl|(checkpoint|best|average)\.safetensors|run\.lock|report\.html)$/,
  /^((loss|accuracy)-over-(epoch|seconds)|learning-rate|throughput|confusion|probe-[\w-]+)\.svg$/,
  /^config\.json$/,
];

/**
 * Removes the files of a run, and its folder where nothing else is in it.
 *
 * @param run its identity and folder; a folder that is gone is no fault
 * @returns what stays and why, in words; nothing where all is gone
 * @throws {DataError} where the folder holds a record that cannot be read
 * @throws {CheckpointError} where a file cannot be removed
 */
export async function removeRunFiles(
  { id, folder }: { readonly id: string; readonly folder: string },
): Promise<string | undefined> {
  try {
    const names = await namesIn(folder);
    if (names.length > 0) {
      if (!names.includes("config.json")) return "it holds no run";
      if ((await readRecord(folder)).id !== id) return "it holds another run";
    }
    for (const own of OWN) {
      for (const name of names) if (own.test(wholeName(name))) await Deno.remove(`${folder}/${name}`);
    }
    const others = await namesIn(folder);
    if (others.length > 0) return `${others.join(", ")} ${others.length === 1 ? "is" : "are"} not of the run`;
    await Deno.remove(folder);
  } catch (cause) {
    if (cause instanceof Deno.errors.NotFound) return undefined;
    if (cause instanceof DataError) throw cause;
    throw new CheckpointError(`Cannot delete ${folder}: ${reason(cause)}`, { cause });
  }
  return undefined;
}

async function namesIn(folder: string): Promise<string[]> {
  return (await Array.fromAsync(Deno.readDir(folder))).map(({ name }) => name).sort();
}
