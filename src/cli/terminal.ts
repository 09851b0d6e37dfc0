/**
 * Writing to the user: results to standard output, everything else to standard error.
 *
 * @module
 */

import { environment } from "../data/places.ts";

const encoder = new TextEncoder();

/** Writes text to standard output, whole. */
export function print(text: string): void {
  writeAll(Deno.stdout, text);
}

/** Writes text to standard error, whole. */
export function note(text: string): void {
  writeAll(Deno.stderr, text);
}

/** Whether standard error is a terminal that can redraw a line. */
export function canRedraw(): boolean {
  return Deno.stderr.isTerminal() && environment("TERM") !== "dumb";
}

/** Whether colours are wanted; see https://no-color.org. */
export function wantsColour(): boolean {
  return canRedraw() && !environment("NO_COLOR");
}

/** Columns of the terminal: at least 20, since some terminals say 0, and 80 where it does not say. */
export function columns(): number {
  try {
    return Math.max(20, Deno.consoleSize().columns || 80);
  } catch {
    return 80;
  }
}

function writeAll(stream: { writeSync(bytes: Uint8Array): number }, text: string): void {
  const bytes = encoder.encode(text);
  for (let done = 0; done < bytes.length;) done += stream.writeSync(bytes.subarray(done));
}
