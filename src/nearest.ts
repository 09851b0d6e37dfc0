/**
 * "Did you mean": the nearest known word for a misspelt one, for error messages.
 *
 * @module
 */

/**
 * Edits (insert, delete, replace, swap of neighbours) between two words; optimal string alignment distance.
 *
 * @param a one word
 * @param b the other word
 * @returns number of edits
 */
export function editDistance(a: string, b: string): number {
  // Three rows of the table are enough: a swap looks two rows back.
  let beforeLast: number[] = [];
  let last = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const replace = last[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1);
      let best = Math.min(replace, last[j]! + 1, row[j - 1]! + 1);
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) {
        best = Math.min(best, beforeLast[j - 2]! + 1);
      }
      row.push(best);
    }
    beforeLast = last;
    last = row;
  }
  return last[b.length]!;
}

/**
 * The candidate nearest to a word, where one is near enough to be a likely slip: at most a third of the letters
 * differ (at least one edit is always allowed). Capitals, `-` and `_` do not count.
 *
 * @param word what was written
 * @param candidates what is known
 * @returns the nearest candidate (the first of equals), or `undefined` where none is near
 */
export function nearest(word: string, candidates: Iterable<string>): string | undefined {
  const plain = fold(word);
  let best: string | undefined;
  let fewest = Infinity;
  for (const candidate of candidates) {
    const other = fold(candidate);
    const limit = Math.max(1, Math.floor(Math.max(plain.length, other.length) / 3));
    // The difference in length is a lower bound, which keeps very long words cheap.
    if (Math.abs(plain.length - other.length) > limit) continue;
    const edits = editDistance(plain, other);
    if (edits <= limit && edits < fewest) {
      best = candidate;
      fewest = edits;
    }
  }
  return best;
}

/**
 * The end of an error's "expected": ` (did you mean mnist?)`, or nothing where no candidate is near.
 *
 * @param word what was written
 * @param candidates what is known
 * @returns text to append
 */
export function didYouMean(word: string, candidates: Iterable<string>): string {
  const found = nearest(word, candidates);
  return found === undefined ? "" : ` (did you mean ${found}?)`;
}

function fold(word: string): string {
  return word.toLowerCase().replaceAll(/[-_\s]/g, "");
}
