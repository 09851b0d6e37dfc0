/**
 * The largest size that still fits a limit, by bisection.
 *
 * @module
 */

/**
 * Asks for about log₂ `most` sizes, as if whatever is smaller than one that fits did too.
 *
 * @param most the largest size to ask for
 * @param fits whether a size from 1 to `most` fits
 * @returns the largest that fits; 0 where none does
 */
export async function largest(most: number, fits: (size: number) => Promise<boolean>): Promise<number> {
  let [below, above] = [0, most + 1];
  while (above - below > 1) {
    const middle = Math.floor((below + above) / 2);
    if (await fits(middle)) below = middle;
    else above = middle;
  }
  return below;
}
