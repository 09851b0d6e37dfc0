/**
 * Rows that come part by part, for data sets larger than memory: cut into batches of one size, read ahead while the engine
 * computes.
 *
 * @module
 */

import { typeName } from "../config.ts";
import { DataError } from "../errors.ts";
import { elementCount, showShape } from "./array.ts";
import { isTable } from "./check.ts";
import type { FeatureArray, LabelTargets, Table, ValueTargets } from "./table.ts";

/**
 * Rows that come part by part, in parts of any size: an async iterable such as a `ReadableStream`, or a function that begins it
 * anew for each pass, which are counted from 0. What is no function can be read once only, and a run that wants more rows than it has ends with an error.
 */
export type TableStream = AsyncIterable<Table> | ((pass: number) => AsyncIterable<Table>);

/** A data set whose training rows come part by part. */
export interface StreamData {
  /** Short name. */
  readonly name?: string;
  /** Rows to train on. */
  readonly train: TableStream;
  /** Rows to watch while training. */
  readonly validation?: Table;
}

/** How {@linkcode batches} cuts a stream. */
export interface BatchOptions {
  /** Rows of a batch. */
  readonly batchSize: number;
  /** Whether rows that do not fill a last batch are left out. */
  readonly dropLast: boolean;
}

/**
 * Whether some data comes part by part.
 *
 * @param data a table, a data set, or a stream
 * @returns whether it is a stream
 */
export function isStream(data: unknown): data is TableStream {
  return typeof data === "function" || (typeof data === "object" && data !== null && Symbol.asyncIterator in data);
}

/**
 * The parts of one pass.
 *
 * @param stream the parts, or a function that begins them
 * @param pass counted from 0
 * @returns what can be looped over
 * @throws {DataError} where the function gives something else
 */
export function partsOf(stream: TableStream, pass: number): AsyncIterable<Table> {
  const parts: unknown = typeof stream === "function" ? stream(pass) : stream;
  const loops = typeof parts === "object" && parts !== null &&
    (Symbol.asyncIterator in parts || Symbol.iterator in parts);
  if (loops) return parts as AsyncIterable<Table>;
  throw new DataError("the stream", "a function that gives an async iterable of tables", typeName(parts), {
    action: "use",
  });
}

/**
 * Batches of a stream, pass after pass without end where it can be begun anew. A batch never holds rows of two passes: the last
 * one of a pass may have fewer rows.
 *
 * @param stream the parts
 * @param options size of a batch
 * @returns tables of `batchSize` rows
 * @throws {DataError} where a part has another shape or other targets than the first one, a pass is empty, or a stream that
 * cannot be begun anew has ended
 */
export async function* batches(stream: TableStream, options: BatchOptions): AsyncGenerator<Table, never, void> {
  let first: Table | undefined;
  for (let pass = 1;; pass++) {
    if (pass > 1 && typeof stream !== "function") {
      const expected = "as many rows as the run has steps for, or a function that begins it anew for each pass";
      throw new DataError("the stream", expected, "its end", { action: "use" });
    }
    let number = 0;
    let given = 0;
    let rest: Table[] = [];
    let waiting = 0;
    for await (const part of partsOf(stream, pass - 1)) {
      number++;
      checkAlike(part, first ??= part, number);
      rest.push(part);
      waiting += part.rows;
      if (waiting < options.batchSize) continue;
      const whole = join(rest);
      let from = 0;
      for (; from + options.batchSize <= whole.rows; from += options.batchSize) {
        given++;
        yield slice(whole, from, from + options.batchSize);
      }
      rest = from < whole.rows ? [slice(whole, from, whole.rows)] : [];
      waiting = whole.rows - from;
    }
    if (waiting > 0 && !options.dropLast) {
      given++;
      yield join(rest);
    }
    if (given === 0) {
      throw new DataError("the stream", `at least ${options.dropLast ? "one batch" : "one row"}`, "none", {
        action: "use",
      });
    }
  }
}

/** How {@linkcode Prefetch} reads ahead. */
export interface PrefetchOptions<T> {
  /** How many values are under way or wait at once, from 1. */
  readonly count: number;
  /** Frees a value that nobody took. */
  readonly discard: (value: T) => void;
}

/** Reads ahead: asks for the next values before they are wanted, so that reading goes on while the engine computes. */
export class Prefetch<T> implements AsyncDisposable {
  readonly #source: AsyncGenerator<T, unknown, void>;
  readonly #options: PrefetchOptions<T>;
  readonly #waiting: Promise<IteratorResult<T, unknown>>[] = [];

  /** Nothing is read yet. */
  constructor(source: AsyncGenerator<T, unknown, void>, options: PrefetchOptions<T>) {
    this.#source = source;
    this.#options = options;
  }

  /** The next value. @throws what the source throws, where it would have stood; and at an end that should not be one */
  async next(): Promise<T> {
    this.#ask();
    const { done, value } = await this.#waiting.shift()!;
    if (done) throw new DataError("the stream", "more rows", "its end", { action: "use" });
    this.#ask();
    return value as T;
  }

  #ask(): void {
    while (this.#waiting.length < this.#options.count) {
      const next = this.#source.next();
      // Whoever asks for this value gets the fault; until then it is nobody's.
      next.catch(() => {});
      this.#waiting.push(next);
    }
  }

  /** Ends the source, once what is under way has come. */
  async [Symbol.asyncDispose](): Promise<void> {
    for (const result of await Promise.allSettled(this.#waiting.splice(0))) {
      if (result.status === "fulfilled" && !result.value.done) this.#options.discard(result.value.value);
    }
    await this.#source.return(undefined);
  }
}

/** Refuses a part that cannot belong to the same data as the first. */
export function checkAlike(part: Table, first: Table, number: number): void {
  const where = `part ${number} of the stream`;
  if (!isTable(part)) {
    throw new DataError(where, "a table of rows, shape, features and targets", typeName(part), { action: "use" });
  }
  const { rows, shape, features } = part;
  if (features.length !== rows * elementCount(shape)) {
    throw new DataError(where, `${rows * elementCount(shape)} features (${rows} rows)`, features.length, {
      action: "use",
    });
  }
  if (showShape(shape) !== showShape(first.shape)) {
    throw new DataError(where, `samples of shape ${showShape(first.shape)} as in the first part`, showShape(shape), {
      action: "use",
    });
  }
  const [expected, found] = [describe(first), describe(part)];
  if (expected !== found) throw new DataError(where, `${expected} as in the first part`, found, { action: "use" });
}

function describe({ features, scale, offset, targets }: Table): string {
  const scaled = features instanceof Uint8Array ? ` scaled by ${scale ?? "1/255"} from ${offset ?? 0}` : "";
  const kind = targets.kind === "labels" ? `labels of ${targets.classes} classes` : `${targets.size} values per row`;
  return `features in a ${features.constructor.name}${scaled} and ${kind}`;
}

/**
 * All parts of a stream as one table.
 *
 * @param parts tables of one kind
 * @param where what they come from, for messages
 * @returns the table
 * @throws {DataError} where there is no row, or a part is of another kind than the first
 */
export async function joinParts(parts: AsyncIterable<Table>, where: string): Promise<Table> {
  const all: Table[] = [];
  for await (const part of parts) {
    all.push(part);
    checkAlike(part, all[0]!, all.length);
  }
  if (!all.some(({ rows }) => rows > 0)) throw new DataError(where, "at least one row", "none");
  return join(all);
}

/** Tables one after another as one. */
function join(tables: readonly Table[]): Table {
  const [first, ...others] = tables;
  if (others.length === 0) return first!;
  return {
    ...first!,
    rows: tables.reduce((sum, { rows }) => sum + rows, 0),
    features: concat(tables.map(({ features }) => features)) as FeatureArray,
    targets: {
      ...first!.targets,
      values: concat(tables.map(({ targets }) => targets.values)),
    } as LabelTargets | ValueTargets,
  };
}

/** Some rows of a table, without copying them. */
function slice(table: Table, from: number, to: number): Table {
  const size = elementCount(table.shape);
  const width = table.targets.kind === "labels" ? 1 : table.targets.size;
  return {
    ...table,
    rows: to - from,
    features: table.features.subarray(from * size, to * size) as FeatureArray,
    targets: {
      ...table.targets,
      values: table.targets.values.subarray(from * width, to * width),
    } as LabelTargets | ValueTargets,
  };
}

type Numbers = FeatureArray | Uint32Array<ArrayBuffer>;

function concat(arrays: readonly Numbers[]): Numbers {
  const count = arrays.reduce((sum, { length }) => sum + length, 0);
  const whole = new (arrays[0]!.constructor as { new (length: number): Numbers })(count);
  let at = 0;
  for (const array of arrays) {
    whole.set(array as never, at);
    at += array.length;
  }
  return whole;
}
