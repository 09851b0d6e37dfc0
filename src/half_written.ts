/**
 * Files that are written beside their place and then renamed into it, and what is under way of them.
 *
 * @module
 */

const underWay = new Set<string>();

/**
 * Writes a file so that a reader sees the old one or the whole new one, never a part.
 *
 * @param path the file
 * @param write what makes the file beside it, whose name it is given
 * @throws what `write` or the system throws; the old file is untouched then, and nothing is beside it
 */
export async function replaceFile(path: string, write: (beside: string) => Promise<void>): Promise<void> {
  const beside = `${path}.${crypto.randomUUID().slice(0, 8)}.tmp`;
  underWay.add(beside);
  try {
    await write(beside);
    await Deno.rename(beside, path);
  } catch (fault) {
    // A fault is being reported: a failed removal would only hide it.
    await Deno.remove(beside).catch(() => {});
    throw fault;
  } finally {
    underWay.delete(beside);
  }
}

/** The name that a file is to get which is half written; the name itself of any other. */
export function wholeName(name: string): string {
  return name.replace(/\.[0-9a-f]{8}\.tmp$/, "");
}

/** Removes what is half written, for a process that ends on the spot. */
export function removeHalfWritten(): void {
  for (const beside of underWay) {
    try {
      Deno.removeSync(beside);
    } catch {
      // It may not be there yet, and nobody can be waited for.
    }
  }
}
