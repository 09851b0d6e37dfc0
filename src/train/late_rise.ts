/**
 * Runs whose training loss rises again before they end.
 *
 * @module
 */

import { digits } from "../digits.ts";

/** How many times its smallest the last loss is, and which share of its fall the rise, from which on it is worth a word. */
const RISE = { times: 2, share: 0.01 };

/**
 * Says that a run ends well above the smallest of its training losses: its last steps have lost what others had learnt.
 *
 * @param losses training loss of each epoch
 * @returns a sentence without full stop; nothing where the loss does not rise so far
 */
export function lateRise(losses: readonly number[]): string | undefined {
  const [first, last] = [losses[0], losses.at(-1)];
  if (first === undefined || last === undefined) return undefined;
  const least = Math.min(...losses);
  if (last <= RISE.times * least || last - least <= RISE.share * (first - least)) return undefined;
  const epoch = losses.indexOf(least) + 1;
  return `the training loss rose from ${digits(least, 4)} in epoch ${epoch} to ${
    digits(last, 4)
  } at the end: a smaller learning rate or early ` +
    "stopping may keep what was learnt";
}
