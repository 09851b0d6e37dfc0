/**
 * Who trains a run: a lock on a file in its folder, which the system lets go of when the process ends, however it ends.
 *
 * @module
 */

import { wholeName } from "../half_written.ts";
import { CheckpointError } from "../errors.ts";
import { reason } from "../run/files.ts";

/** Times that a lock is tried for: whoever only looks holds it for a moment. */
const TRIES = 20;

/** Milliseconds between two tries. */
const PAUSE_MS = 50;

/** Files that only a run in training writes: half-written ones of other commands may be under way beside it. */
const OF_RUN = /^(checkpoint|best|average)\.safetensors$/;

/** Holds the lock of a run while it lives. */
export class RunLock implements Disposable {
  readonly #file: Deno.FsFile;
  readonly #path: string;

  private constructor(file: Deno.FsFile, path: string) {
    this.#file = file;
    this.#path = path;
  }

  /**
   * Takes the lock, and removes what a killed process had half written: whoever holds the lock is the only one that writes it.
   *
   * @param folder the folder of a run
   * @returns the lock
   * @throws {CheckpointError} where another process trains this run, or the folder cannot be written to
   */
  static async take(folder: string): Promise<RunLock> {
    const path = lockFile(folder);
    for (let tries = 1;; tries++) {
      const file = await Deno.open(path, { create: true, write: true }).catch((cause) => {
        throw new CheckpointError(`Cannot write ${path}: ${reason(cause)}`, { cause });
      });
      if (await file.tryLock(true)) {
        await removeLeftOver(folder);
        return new RunLock(file, path);
      }
      file.close();
      if (tries === TRIES) {
        throw new CheckpointError(`Cannot train the run in ${folder}: another process is training it`);
      }
      await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
    }
  }

  /** Lets go. */
  [Symbol.dispose](): void {
    // Removed before it is let go: nobody then takes a lock on a file that is about to vanish.
    try {
      Deno.removeSync(this.#path);
    } catch {
      // The folder may be gone, or the system keeps open files: an unlocked file says the same as none.
    }
    this.#file.close();
  }
}

/**
 * Whether a process trains the run in a folder now.
 *
 * @param folder the folder of a run
 * @returns `false` also where the folder is gone
 */
export function isTraining(folder: string): boolean {
  try {
    using file = Deno.openSync(lockFile(folder), { write: true });
    return !file.tryLockSync(true);
  } catch (fault) {
    if (fault instanceof Deno.errors.NotFound || fault instanceof Deno.errors.NotADirectory) return false;
    throw new CheckpointError(`Cannot look at ${lockFile(folder)}: ${reason(fault)}`, { cause: fault });
  }
}

/** Best effort: a file that stays takes space, and nothing else. */
async function removeLeftOver(folder: string): Promise<void> {
  for await (const { name } of Deno.readDir(folder)) {
    const whole = wholeName(name);
    if (whole !== name && OF_RUN.test(whole)) await Deno.remove(`${folder}/${name}`).catch(() => {});
  }
}

function lockFile(folder: string): string {
  return `${folder}/run.lock`;
}
