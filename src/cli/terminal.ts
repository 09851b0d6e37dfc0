/**
 * Writing to the user: results to standard output, everything else to standard error.
 *
 * @module
 */

import { environment } from "../data/places.ts";
import { reason } from "../run/files.ts";

type Stream = typeof Deno.stdout | typeof Deno.stderr;

const encoder = new TextEncoder();

/** Streams that take nothing any more, and what the system said. */
const lost = new Map<Stream, unknown>();

/** Writes text to standard output, whole. */
export function print(text: string): void {
  writeAll(Deno.stdout, text);
}

/** Writes text to standard error, whole. */
export function note(text: string): void {
  writeAll(Deno.stderr, text);
}

/** Why standard output did not take everything, in one sentence; nothing where it did, or where its reader has gone. */
export function outputFault(): string | undefined {
  const fault = lost.get(Deno.stdout);
  return fault === undefined || isGone(fault) ? undefined : `Cannot write to standard output: ${reason(fault)}`;
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

/**
 * What a stream does not take is dropped, and all that follows: a terminal that was closed, or `head` that has read enough, shall not
 * cost the results of hours. So the work goes on, and its exit code says how the work went.
 */
function writeAll(stream: Stream, text: string): void {
  if (lost.has(stream)) return;
  const bytes = encoder.encode(text);
  try {
    for (let done = 0; done < bytes.length;) done += stream.writeSync(bytes.subarray(done));
  } catch (fault) {
    lost.set(stream, fault);
  }
}

/** Whether nobody is there to read: a pipe says EPIPE, a terminal EIO. */
function isGone(fault: unknown): boolean {
  return fault instanceof Error && "code" in fault && (fault.code === "EPIPE" || fault.code === "EIO");
}
