/**
 * The network that a checkpoint or the folder of a run leaves: what is predicted with, exported and reported on.
 *
 * @module
 */

import { CheckpointError } from "../errors.ts";
import type { Network } from "../network/network.ts";
import { loadAlone, type SavedRun } from "../run/checkpoint.ts";
import { averageFile, bestFile, checkpointFile } from "./run_folder.ts";

/**
 * The file with the network that a file or the folder of a run means: of a run, its best or averaged network where it kept one.
 *
 * @param path a checkpoint, or the folder of a run
 * @returns the file
 * @throws {CheckpointError} where there is nothing of that name
 */
export async function networkFile(path: string): Promise<string> {
  if (!await isFolder(path)) return path;
  for (const file of [bestFile(path), averageFile(path)]) if (await exists(file)) return file;
  return checkpointFile(path);
}

/**
 * Loads the network of a file. A run with running averages is validated by them, so they are its network, also where it was
 * stopped or killed before it wrote them to a file of their own.
 *
 * @param file a checkpoint
 * @param options threads of the network
 * @returns the network
 * @throws {CheckpointError} where the file is no checkpoint, or lies about its contents
 */
export async function loadTrained(file: string, options: { readonly threads?: number } = {}): Promise<Network> {
  const { network, run } = await loadAlone(file, options);
  if (run === undefined || run.config.averageDecay === null) return network;
  try {
    takeAverages(network, run);
    return network;
  } catch (cause) {
    network[Symbol.dispose]();
    throw new CheckpointError(`Cannot read ${file}: ${cause instanceof Error ? cause.message : cause}`, { cause });
  }
}

function takeAverages(network: Network, { tensors }: SavedRun): void {
  for (const { name, group } of network.tensors()) {
    if (group !== "parameter" && group !== "buffer") continue;
    const average = tensors.get(`average.${name}`);
    if (average === undefined) throw new Error(`expected a tensor average.${name} but found none`);
    network.write(name, average);
  }
}

async function isFolder(path: string): Promise<boolean> {
  try {
    return (await Deno.stat(path)).isDirectory;
  } catch (cause) {
    if (cause instanceof Deno.errors.NotFound || cause instanceof Deno.errors.NotADirectory) {
      throw new CheckpointError(`Cannot read ${path}: the file or its folder does not exist`, { cause });
    }
    throw cause;
  }
}

async function exists(path: string): Promise<boolean> {
  return await Deno.stat(path).then(() => true, () => false);
}
