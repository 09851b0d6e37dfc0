/**
 * A sparse linear map or convolution that is made ready once and used any number of times.
 *
 * @module
 */

import { knownOptions, number, objectOfOptions, oneOf, typeName } from "./config.ts";
import { ConfigError } from "./errors.ts";
import { alignedArray } from "./ffi/aligned.ts";
import { Handle } from "./ffi/handle.ts";
import { native } from "./ffi/native.ts";
import { check, newStatus } from "./ffi/status.ts";
import type { KernelArray } from "./kernels.ts";

const status = newStatus();

/** What a {@linkcode SparseMap} connects. A convolution has `height`, `width` and `kernel`, a linear map has none of them. */
export interface SparseMapOptions {
  /** Rows of a batch. */
  readonly batch: number;
  /** Inputs of a row, or channels of its image. */
  readonly inputs: number;
  /** Outputs of a row, or channels of its result. */
  readonly outputs: number;
  /** Height of the images. */
  readonly height?: number;
  /** Width of the images. */
  readonly width?: number;
  /** Height and width of the kernel. */
  readonly kernel?: readonly [number, number];
  /** Step of the kernel in both directions: 1 or 2. Default 1. */
  readonly stride?: number;
  /** Rows and columns of zeros around the images. Default none. */
  readonly padding?: readonly [number, number];
  /**
   * How arrays of inputs and outputs lie. `"rows"`: rows × features, or rows × height × width × channels; they are converted in each
   * call. `"tiles"`: as the kernels work, see {@linkcode SparseMap.toTiles}. Default `"rows"`.
   */
  readonly layout?: "rows" | "tiles";
  /** Threads to use, from 1; results do not depend on it. Default 1. */
  readonly threads?: number;
}

/** Gradients of a sparse map. */
export interface SparseGradients<T extends KernelArray> {
  /** Gradient of the inputs, shaped like them. */
  readonly inputs: T;
  /** Gradient of the weights, one for each of them. */
  readonly values: T;
}

/** Which side of a map an array belongs to. */
export type SparseSide = "inputs" | "outputs";

/** What a map is made for, without its rows, layout and threads. */
export type SparseMapSizes = Omit<SparseMapOptions, "batch" | "layout" | "threads">;

const NAMES = ["batch", "inputs", "outputs", "height", "width", "kernel", "stride", "padding", "layout", "threads"];

/**
 * The kernels of sparse layers, for batches of one size. The weights of a map are an array of the caller's, in the order of
 * {@linkcode SparseMap.positions}. Free the map with `using`.
 *
 * @example
 * ```ts
 * import { SparseMap } from "@leanprop/leanprop/kernels";
 * using map = SparseMap.create(new Uint32Array([1, 2]), { batch: 1, inputs: 2, outputs: 2 });
 * const values = Float32Array.from(map.positions, (position) => position === 1 ? 3 : 5);
 * console.log(map.forward(values, new Float32Array([1, 10]))); // 30, 5
 * ```
 */
export class SparseMap implements Disposable {
  readonly #handle: Handle;
  readonly #facts: Facts;

  private constructor(handle: number, facts: Facts) {
    this.#handle = new Handle(this, handle, "sparse map", native().sparse_destroy);
    this.#facts = facts;
  }

  /**
   * Makes a map ready.
   *
   * @param positions where there are weights, ascending: places in the dense weights outputs × inputs, or outputs × inputs × kernel
   * height × kernel width, counted row after row
   * @param options sizes, layout, threads
   * @returns the map
   * @throws {ConfigError} where an option or a position cannot be used
   * @throws {EngineError} where there is not enough memory
   */
  static create(positions: Uint32Array<ArrayBuffer>, options: SparseMapOptions): SparseMap {
    knownOptions("sparseMap", options, NAMES);
    if (!(positions instanceof Uint32Array)) {
      throw new ConfigError("sparseMap.positions", "a Uint32Array", typeName(positions));
    }
    const sizes = sizesOf("sparseMap", options);
    checkPositions(positions, weightsOf(options));
    const layout = oneOf("sparseMap.layout", options.layout ?? "rows", ["rows", "tiles"] as const);
    const threads = number("sparseMap.threads", options.threads ?? 1, { min: 1, max: 1024, whole: true });
    const [order, made] = [new Uint32Array(positions.length), new Uint32Array(5)];
    const lists = [sizes, sizes.length, positions, positions.length] as const;
    const rows = layout === "rows" ? 1 : 0;
    check(native().sparse_create(...lists, rows, threads, order, order.length, made, made.length, status), status);
    const [handle = 0, rowsIn = 0, rowsOut = 0, tilesIn = 0, tilesOut = 0] = made;
    const lengths = { rows: { inputs: rowsIn, outputs: rowsOut }, tiles: { inputs: tilesIn, outputs: tilesOut } };
    const facts = { order, positions: order.map((place) => positions[place]!), layout, lengths };
    return new SparseMap(handle, { ...facts, outputs: options.outputs });
  }

  /** Where the weights are, in the map's own order: the order of `values` in every call. A copy each time. */
  get positions(): Uint32Array<ArrayBuffer> {
    return this.#facts.positions.slice();
  }

  /** For each weight in the map's own order its place among the positions that the map was made from. A copy each time. */
  get order(): Uint32Array<ArrayBuffer> {
    return this.#facts.order.slice();
  }

  /**
   * Elements of the inputs or outputs of a batch.
   *
   * @param side inputs or outputs
   * @param layout how they lie; default: the map's layout
   * @returns how many there are
   * @throws {ConfigError} for another side or layout
   */
  elements(side: SparseSide, layout: "rows" | "tiles" = this.#facts.layout): number {
    const of = oneOf("sparseMap.layout", layout, ["rows", "tiles"] as const);
    return this.#facts.lengths[of][oneOf("sparseMap.side", side, ["inputs", "outputs"] as const)];
  }

  /**
   * y = x · Wᵀ + bias.
   *
   * @param values the weights
   * @param x inputs, of the weights' type
   * @param options `bias`, one for each output; `out`, where the outputs go (default: a new array)
   * @returns the outputs
   * @throws {ConfigError} where types differ, or the bias has another length
   * @throws {EngineError} where another length does not fit, or the map is disposed
   */
  forward<T extends KernelArray>(
    values: T,
    x: T,
    options: { readonly bias?: KernelArray; readonly out?: T } = {},
  ): T {
    knownOptions("sparseMap.forward", options, ["bias", "out"]);
    const wide = isWide("sparseMap", values, { x, out: options.out ?? values });
    checkBias("sparseMap", { values, bias: options.bias, outputs: this.#facts.outputs });
    const out = options.out ?? this.#array(values, this.elements("outputs"));
    const bias = options.bias ?? newLike(values, 0);
    const arrays = [values, values.length, bias, bias.length, x, x.length, out, out.length] as const;
    const call = wide ? native().kernel_sparse_forward_f64 : native().kernel_sparse_forward_f32;
    check(call(this.#handle.number, ...arrays, status), status);
    return out;
  }

  /**
   * Gradients of {@linkcode SparseMap.forward}: that of the inputs, and that of the weights that there are.
   *
   * @param values the weights
   * @param arrays `[x, g]`: inputs, and gradients of the outputs
   * @param options `out`, where both go (default: new arrays)
   * @returns both gradients
   * @throws as {@linkcode SparseMap.forward}
   */
  backward<T extends KernelArray>(
    values: T,
    arrays: readonly [T, T],
    options: { readonly out?: SparseGradients<T> } = {},
  ): SparseGradients<T> {
    knownOptions("sparseMap.backward", options, ["out"]);
    const [x, g] = inputsAndGradients("sparseMap", arrays);
    const wide = isWide("sparseMap", values, { x, g });
    const out = options.out ??
      { inputs: this.#array(values, this.elements("inputs")), values: newLike(values, values.length) };
    isWide("sparseMap", values, { "out.inputs": out.inputs, "out.values": out.values });
    const call = wide ? native().kernel_sparse_backward_f64 : native().kernel_sparse_backward_f32;
    const read = [values, values.length, x, x.length, g, g.length] as const;
    const written = [out.inputs, out.inputs.length, out.values, out.values.length] as const;
    check(call(this.#handle.number, ...read, ...written, status), status);
    return out;
  }

  /**
   * Rows to tiles: 16, 32 or 64 rows of the batch side by side for each feature or pixel, images with a border of zeros.
   *
   * Tiles that a map makes begin at a multiple of 64 bytes of memory, where kernels read fastest: give them back as `out` rather than
   * arrays of your own.
   *
   * @param side which side of the map the rows belong to
   * @param rows rows × features, or rows × height × width × channels
   * @returns the tiles
   * @throws as {@linkcode SparseMap.forward}
   */
  toTiles<T extends KernelArray>(side: SparseSide, rows: T): T {
    return this.#convert(side, true, rows);
  }

  /**
   * Tiles to rows: what {@linkcode SparseMap.toTiles} does, undone.
   *
   * @param side which side of the map the tiles belong to
   * @param tiles the tiles
   * @returns the rows
   * @throws as {@linkcode SparseMap.forward}
   */
  toRows<T extends KernelArray>(side: SparseSide, tiles: T): T {
    return this.#convert(side, false, tiles);
  }

  #convert<T extends KernelArray>(side: SparseSide, toTiles: boolean, from: T): T {
    const of = oneOf("sparseMap.side", side, ["inputs", "outputs"] as const);
    const wide = isWide("sparseMap", from, {});
    const length = this.elements(of, toTiles ? "tiles" : "rows");
    const to = toTiles ? aligned(from, length) : newLike(from, length);
    const call = wide ? native().kernel_sparse_convert_f64 : native().kernel_sparse_convert_f32;
    const flags = [of === "inputs" ? 1 : 0, toTiles ? 1 : 0] as const;
    check(call(this.#handle.number, ...flags, from, from.length, to, to.length, status), status);
    return to;
  }

  /** An array in the layout of the map. */
  #array<T extends KernelArray>(values: T, length: number): T {
    return this.#facts.layout === "tiles" ? aligned(values, length) : newLike(values, length);
  }

  /** Frees the map. */
  [Symbol.dispose](): void {
    this.#handle.close();
  }
}

/** What a map knows about itself. */
interface Facts {
  readonly positions: Uint32Array<ArrayBuffer>;
  readonly order: Uint32Array<ArrayBuffer>;
  readonly layout: "rows" | "tiles";
  readonly outputs: number;
  readonly lengths: Readonly<Record<"rows" | "tiles", Readonly<Record<SparseSide, number>>>>;
}

/** Elements of an array and places in the weights are counted in 32 bits. */
const MOST = 2 ** 32 - 1;

/**
 * Sizes as the engine takes them.
 *
 * @param path what to call the options in messages
 * @param options sizes of a map
 * @returns batch, inputs, outputs, and for a convolution height and width of the image, the kernel, a stride and the padding
 * @throws {ConfigError} where a size cannot be used, or an array would have 2³² elements or more
 */
export function sizesOf(path: string, options: SparseMapSizes & { readonly batch: number }): Uint32Array<ArrayBuffer> {
  objectOfOptions(path, options, "inputs");
  const size = (option: "batch" | "inputs" | "outputs" | "height" | "width") =>
    number(`${path}.${option}`, options[option], { min: 1, max: 2 ** 24, whole: true });
  const map = [size("batch"), size("inputs"), size("outputs")];
  const given = (["height", "width", "kernel"] as const).filter((option) => options[option] !== undefined);
  if (given.length === 0) {
    const image = (["stride", "padding"] as const).find((option) => options[option] !== undefined);
    if (image !== undefined) {
      throw new ConfigError(`${path}.${image}`, "height, width and kernel beside it", "none of them");
    }
    checkElements(path, options, [1, 1]);
    return Uint32Array.from(map);
  }
  const image = [size("height"), size("width")] as const;
  const kernel = pair(`${path}.kernel`, options.kernel, { words: "[height, width]", min: 1 });
  const stride = number(`${path}.stride`, options.stride ?? 1, { min: 1, max: 2, whole: true });
  const padding = pair(`${path}.padding`, options.padding ?? [0, 0], { words: "[rows, columns] of zeros", min: 0 });
  const pixels = [0, 1].map((at) => Math.floor((image[at]! + 2 * padding[at]! - kernel[at]!) / stride) + 1);
  // A kernel that does not fit is refused by the engine, which says so.
  checkElements(path, options, [image[0] * image[1], Math.max(0, pixels[0]!) * Math.max(0, pixels[1]!)]);
  return Uint32Array.from([...map, ...image, ...kernel, stride, stride, ...padding]);
}

/** Two whole numbers. */
function pair(
  path: string,
  value: unknown,
  { words, min }: { readonly words: string; readonly min: number },
): number[] {
  if (!Array.isArray(value) || value.length !== 2) throw new ConfigError(path, `two numbers ${words}`, value);
  return value.map((part, at) => number(`${path}[${at}]`, part, { min, max: 2 ** 16, whole: true }));
}

/** Refuses what cannot be addressed. Products of sizes may be beyond the whole numbers, which changes nothing here. */
function checkElements(
  path: string,
  options: SparseMapSizes & { readonly batch: number },
  [below, above]: readonly [number, number],
): void {
  const { batch, inputs, outputs } = options;
  const counts = {
    "dense weights": weightsOf(options),
    "elements of inputs": batch * below * inputs,
    "elements of outputs": batch * above * outputs,
  };
  for (const [what, count] of Object.entries(counts)) {
    if (count > MOST) throw new ConfigError(path, `sizes with fewer than 2³² ${what}`, count);
  }
}

/** Weights of a map without zeros. */
function weightsOf({ inputs, outputs, kernel: [rows, columns] = [1, 1] }: SparseMapSizes): number {
  return outputs * inputs * rows * columns;
}

/** Refuses places that do not ascend, or are none of `all`. */
function checkPositions(positions: Uint32Array<ArrayBuffer>, all: number): void {
  for (let at = 0, before = -1; at < positions.length; at++) {
    const position = positions[at]!;
    if (position <= before || position >= all) {
      const ascending = at === 0 ? "" : ` and above ${before}, which comes before it,`;
      throw new ConfigError(`positions[${at}]`, `a position below ${all}${ascending}`, position);
    }
    before = position;
  }
}

/** What a backward pass takes. @throws {ConfigError} for anything but two arrays */
export function inputsAndGradients<T>(path: string, arrays: readonly [T, T]): readonly [T, T] {
  if (Array.isArray(arrays) && arrays.length === 2) return arrays;
  const found = Array.isArray(arrays) ? `a list of ${arrays.length}` : typeName(arrays);
  throw new ConfigError(`${path}.arrays`, "[x, g], inputs and gradients of the outputs", found);
}

/**
 * Whether arrays are of f64; all must be of one type.
 *
 * @throws {ConfigError} where they are not, or are no arrays
 */
export function isWide(path: string, values: KernelArray, others: object): boolean {
  if (!(values instanceof Float32Array || values instanceof Float64Array)) {
    throw new ConfigError(`${path}.values`, "a Float32Array or Float64Array", typeName(values));
  }
  const wide = values instanceof Float64Array;
  for (const [part, array] of Object.entries(others)) {
    if (wide ? array instanceof Float64Array : array instanceof Float32Array) continue;
    throw new ConfigError(`${path}.${part}`, `${typeName(values)} like the weights`, typeName(array));
  }
  return wide;
}

/** Refuses a bias that is not one number for each output, of the weights' type. */
export function checkBias(
  path: string,
  { values, bias, outputs }: {
    readonly values: KernelArray;
    readonly bias: KernelArray | undefined;
    readonly outputs: number;
  },
): void {
  if (bias === undefined) return;
  isWide(path, values, { bias });
  if (bias.length === outputs) return;
  throw new ConfigError(`${path}.bias`, `${outputs} elements, one for each output`, bias.length);
}

/** As {@linkcode newLike}, for tiles, which kernels read as they are. */
function aligned<T extends KernelArray>(values: T, length: number): T {
  return (values instanceof Float64Array
    ? alignedArray(Float64Array, length)
    : alignedArray(Float32Array, length)) as T;
}

function newLike<T extends KernelArray>(values: T, length: number): T {
  return (values instanceof Float64Array ? new Float64Array(length) : new Float32Array(length)) as T;
}
