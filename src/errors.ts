/**
 * The errors that leanprop throws. Each message is one sentence that says where, what was expected and what was found.
 *
 * @module
 */

/** A wrong option, shape or combination given by the caller. */
export class ConfigError extends Error {
  /** Always `"ConfigError"`. */
  override name = "ConfigError";
  /** Where: the dotted path of the option, such as `rule.k`. */
  readonly path: string;

  /**
   * Makes the sentence.
   *
   * @param path dotted path of the option
   * @param expected what would be accepted, in words
   * @param found what was given; shown as JSON unless it is a string in words
   */
  constructor(path: string, expected: string, found: unknown) {
    super(`Cannot use ${path}: expected ${expected} but found ${show(found)}`);
    this.path = path;
  }
}

/** Options of a {@linkcode DataError}. */
export interface DataErrorOptions extends ErrorOptions {
  /** What failed; default `"read"`. */
  readonly action?: "read" | "use" | "download" | "find";
}

/** Data (a file, an array, a stream) that cannot be used. */
export class DataError extends Error {
  /** Always `"DataError"`. */
  override name = "DataError";

  /**
   * Makes the sentence.
   *
   * @param where the file and the place in it, or the argument
   * @param expected what would be accepted, in words
   * @param found what is there
   * @param options what failed, and the usual `cause`
   */
  constructor(where: string, expected: string, found: unknown, options: DataErrorOptions = {}) {
    super(`Cannot ${options.action ?? "read"} ${where}: expected ${expected} but found ${show(found)}`, options);
  }
}

/** A checkpoint that cannot be written, read, or used for this network. */
export class CheckpointError extends Error {
  /** Always `"CheckpointError"`. */
  override name = "CheckpointError";
}

/** Why the engine refused or failed; see {@linkcode EngineError.code}. */
export type EngineErrorCode =
  | "invalid-config"
  | "shape-mismatch"
  | "unknown-handle"
  | "busy"
  | "poisoned"
  | "panic"
  | "not-finite"
  | "out-of-memory"
  | "unknown-name"
  | "library";

/** An error that the Rust engine reported, or that kept it from loading. */
export class EngineError extends Error {
  /** Always `"EngineError"`. */
  override name = "EngineError";
  /** The kind of fault, for programs that want to tell them apart. */
  readonly code: EngineErrorCode;

  /**
   * Keeps the sentence and its kind.
   *
   * @param code the kind of fault
   * @param message one sentence
   * @param options the usual `cause`
   */
  constructor(code: EngineErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/** Whether something thrown says that a run came to a number that is none. */
export function isDivergence(fault: unknown): fault is EngineError {
  return fault instanceof EngineError && fault.code === "not-finite";
}

/** Shows a value in an error message: words as they are, everything else as short JSON. */
function show(found: unknown): string {
  if (typeof found === "string") return found === "" ? "an empty string" : found;
  if (typeof found === "number" || found === undefined) return String(found);
  if (typeof found === "bigint") return `${found}n`;
  if (typeof found === "function") return `the function ${found.name}, not called`;
  const text = JSON.stringify(found) ?? String(found);
  return text.length > 80 ? `${text.slice(0, 77)}...` : text;
}
