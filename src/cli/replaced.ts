/**
 * Files that are written where one may be already.
 *
 * @module
 */

/**
 * How a file is told of that a command writes over: who did not mean to hears of it.
 *
 * @param path the file, before it is written
 * @returns the path, with what was there
 */
export async function placeInWords(path: string): Promise<string> {
  const there = await Deno.stat(path).then(({ isFile }) => isFile, () => false);
  return there ? `${path}, over the file that was there` : path;
}
