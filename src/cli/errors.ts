/**
 * What the command line says when something goes wrong, and with which exit code it ends.
 *
 * @module
 */

import { CheckpointError, ConfigError, DataError, EngineError } from "../errors.ts";
import { type FlagNames, nameFlags } from "./flags.ts";

/** A command line that cannot be understood. Ends with exit code 2. */
export class UsageError extends Error {
  /** Always `"UsageError"`. */
  override name = "UsageError";

  /**
   * @param what the option or argument as it was written
   * @param expected what would be accepted, in words
   * @param found what was given, in words
   */
  constructor(what: string, expected: string, found: string) {
    super(`Cannot use ${what}: expected ${expected} but found ${found}`);
  }

  /** A refusal of the API in the words of the command line. */
  static of(fault: ConfigError, what: string): UsageError {
    const error = new UsageError(what, "", "");
    error.message = fault.message.replace(`Cannot use ${fault.path}`, `Cannot use ${what}`);
    return error;
  }
}

/** The table of runs cannot be read or written. */
export class RunTableError extends Error {
  /** Always `"RunTableError"`. */
  override name = "RunTableError";

  /**
   * @param path the file
   * @param expected what would be accepted, and what to try, in words
   * @param found what is there, in words
   * @param options the usual `cause`
   */
  constructor(path: string, expected: string, found: string, options?: ErrorOptions) {
    super(`Cannot use the table of runs ${path}: expected ${expected} but found ${found}`, options);
  }
}

/** The user asked to stop: Ctrl-C or a request of the system. */
export class Interruption extends Error {
  /** Always `"Interruption"`. */
  override name = "Interruption";
  /** 128 and the signal's number, as shells have it. */
  readonly exitCode: number;

  /**
   * @param exitCode 129 for SIGHUP, 130 for SIGINT, 143 for SIGTERM
   * @param message what has been saved and how to go on
   */
  constructor(exitCode: number, message = "Interrupted") {
    super(message);
    this.exitCode = exitCode;
  }
}

/** How a command ends. */
export interface Ending {
  /** Lines for standard error. */
  readonly message: string;
  /** Exit code. */
  readonly code: number;
}

/**
 * Says what went wrong: one sentence for what users can mend, and for anything else that it is our bug.
 *
 * @param fault what was thrown
 * @param names of the command's options: a message about `batchSize` then says `--batch-size`
 * @returns the message and the exit code
 */
export function explain(fault: unknown, names: FlagNames = { options: [] }): Ending {
  if (fault instanceof Interruption) return { message: fault.message, code: fault.exitCode };
  if (fault instanceof UsageError) return { message: `error: ${fault.message}`, code: 2 };
  const known = sentence(fault);
  if (known === undefined) return { message: bug(fault), code: 1 };
  const named = nameFlags(known, names);
  // What a file gets wrong is no fault of the command line, whatever option may help.
  return { message: `error: ${named}`, code: named === known || fault instanceof DataError ? 1 : 2 };
}

/** The sentence of an error that we expect; `undefined` for others. */
function sentence(fault: unknown): string | undefined {
  if (fault instanceof EngineError) return ["panic", "poisoned"].includes(fault.code) ? undefined : fault.message;
  const expected = [ConfigError, DataError, CheckpointError, RunTableError];
  if (expected.some((kind) => fault instanceof kind)) return (fault as Error).message;
  if (fault instanceof Deno.errors.NotCapable) {
    return `Cannot continue: a permission is missing (${fault.message.split("\n")[0]})`;
  }
  if (fault instanceof RangeError && /allocation|array length|too large/i.test(fault.message)) {
    return `Cannot continue: the data does not fit into memory (${fault.message})`;
  }
  return undefined;
}

function bug(fault: unknown): string {
  const text = fault instanceof Error ? fault.stack ?? fault.message : String(fault);
  return `error: This is a bug in leanprop; please report it with the lines that follow\n${text}`;
}
