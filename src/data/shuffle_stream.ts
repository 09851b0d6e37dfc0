/**
 * Rows of a stream in a random order, as far as a window of memory reaches.
 *
 * @module
 */

import { knownOptions, number, seedNumber, typeName } from "../config.ts";
import { ConfigError } from "../errors.ts";
import { elementCount } from "./array.ts";
import { createRandom, permutation, type Random } from "./random.ts";
import { takeRows } from "./split.ts";
import { checkAlike, isStream, partsOf, type TableStream } from "./stream.ts";
import type { FeatureArray, LabelTargets, Table, ValueTargets } from "./table.ts";

/** Options of {@linkcode shuffleStream}. */
export interface ShuffleStreamOptions {
  /** Rows that wait in memory, from 1. Default 16384. */
  readonly window?: number;
  /** Seed of the order; each pass has one of its own. Whole number from 0. Default 0. */
  readonly seed?: number;
}

/**
 * Mixes the rows of a stream: each row takes the place of a random one among those that wait, which goes on. Rows can thus move back
 * any distance, but forward by no more than about the window: a file that is sorted by class should be mixed once on the disk, or
 * the window be as large as memory allows.
 *
 * @param stream the parts
 * @param options rows that wait, and a seed
 * @returns the stream, with parts of about the same sizes; the same for the same parts, seed and pass
 * @throws {ConfigError} where an option cannot be used, or what is given is no stream
 *
 * @example
 * ```ts ignore
 * import { csvStream, mlp, Network, shuffleStream, train } from "@leanprop/leanprop";
 * const { rows, shape, train: parts } = await csvStream("clicks.csv.gz", { target: "clicked", task: "classification" });
 * using network = Network.create(mlp({ input: shape, outputs: 2 }));
 * const stepsPerEpoch = Math.ceil(rows / 128);
 * for await (const p of train(network, shuffleStream(parts, { window: 100_000 }), { stepsPerEpoch })) console.log(p.trainLoss);
 * ```
 */
export function shuffleStream(stream: TableStream, options: ShuffleStreamOptions = {}): TableStream {
  knownOptions("shuffleStream", options, ["window", "seed"]);
  const window = number("shuffleStream.window", options.window ?? 16_384, { min: 1, max: 2 ** 31, whole: true });
  const seed = seedNumber("shuffleStream.seed", options.seed ?? 0);
  if (!isStream(stream)) {
    throw new ConfigError(
      "shuffleStream",
      "an async iterable of tables, or a function that gives one",
      typeName(stream),
    );
  }
  if (typeof stream !== "function") return mixed(stream, { window, seed, pass: 0 });
  return (pass) => mixed(partsOf(stream, pass), { window, seed, pass });
}

async function* mixed(
  parts: AsyncIterable<Table>,
  { window, seed, pass }: { readonly window: number; readonly seed: number; readonly pass: number },
): AsyncGenerator<Table, void, void> {
  const random = createRandom(seed, pass);
  let waiting: Waiting | undefined;
  let first: Table | undefined;
  let number = 0;
  for await (const part of parts) {
    number++;
    checkAlike(part, first ??= part, number);
    waiting ??= new Waiting(part, window);
    const out = waiting.exchange(part, random);
    if (out.rows > 0) yield out;
  }
  const rest = waiting?.rest(random.bits());
  if (rest) yield rest;
}

/** The rows that wait. */
class Waiting {
  readonly #kind: Table;
  readonly #most: number;
  #features: FeatureArray;
  #targets: Uint32Array<ArrayBuffer> | FeatureArray;
  #count = 0;
  #room: number;
  readonly #size: number;
  readonly #width: number;

  constructor(like: Table, most: number) {
    this.#kind = like;
    this.#most = most;
    this.#room = Math.min(most, Math.max(1, like.rows));
    this.#size = elementCount(like.shape);
    this.#width = like.targets.kind === "labels" ? 1 : like.targets.size;
    this.#features = empty(like.features, this.#room * this.#size);
    this.#targets = empty(like.targets.values, this.#room * this.#width);
  }

  /** Takes rows in; gives as many others as there is no room for. */
  exchange(part: Table, random: Random): Table {
    const [size, width] = [this.#size, this.#width];
    const stay = Math.min(part.rows, this.#most - this.#count);
    this.#grow(this.#count + stay);
    this.#features.set(part.features.subarray(0, stay * size) as never, this.#count * size);
    this.#targets.set(part.targets.values.subarray(0, stay * width) as never, this.#count * width);
    this.#count += stay;
    const rows = part.rows - stay;
    const features = empty(part.features, rows * size);
    const targets = empty(part.targets.values, rows * width);
    for (let row = 0; row < rows; row++) {
      const place = random.below(this.#count);
      move(this.#features, { place, from: part.features, at: stay + row, to: features, row, size });
      move(this.#targets, { place, from: part.targets.values, at: stay + row, to: targets, row, size: width });
    }
    return this.#table(rows, features, targets);
  }

  /** All rows that still wait, in a random order; nothing where none does. */
  rest(seed: number): Table | undefined {
    if (this.#count === 0) return undefined;
    const features = this.#features.subarray(0, this.#count * this.#size) as FeatureArray;
    const targets = this.#targets.subarray(0, this.#count * this.#width) as FeatureArray;
    return takeRows(this.#table(this.#count, features, targets), permutation(this.#count, seed));
  }

  #grow(rows: number): void {
    if (rows <= this.#room) return;
    this.#room = Math.min(this.#most, Math.max(rows, 2 * this.#room));
    const [features, targets] = [this.#features, this.#targets];
    this.#features = empty(features, this.#room * this.#size);
    this.#features.set(features as never);
    this.#targets = empty(targets, this.#room * this.#width);
    this.#targets.set(targets as never);
  }

  #table(rows: number, features: FeatureArray, values: Uint32Array<ArrayBuffer> | FeatureArray): Table {
    const targets = { ...this.#kind.targets, values } as LabelTargets | ValueTargets;
    return { ...this.#kind, rows, features, targets };
  }
}

type Numbers = FeatureArray | Uint32Array<ArrayBuffer>;

/** One row goes on to `to`, another takes its place. */
function move(
  waiting: Numbers,
  { place, from, at, to, row, size }: {
    readonly place: number;
    readonly from: Numbers;
    readonly at: number;
    readonly to: Numbers;
    readonly row: number;
    readonly size: number;
  },
): void {
  to.set(waiting.subarray(place * size, (place + 1) * size) as never, row * size);
  waiting.set(from.subarray(at * size, (at + 1) * size) as never, place * size);
}

function empty<T extends Numbers>(like: T, length: number): T {
  return new (like.constructor as { new (length: number): T })(length);
}
