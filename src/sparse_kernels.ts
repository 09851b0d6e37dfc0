/**
 * Sparse linear maps and convolutions on typed arrays in one call. A map is made ready anew in each of them; a
 * {@linkcode SparseMap} is made once.
 *
 * @module
 */

import { knownOptions, objectGiven, typeName } from "./config.ts";
import { ConfigError } from "./errors.ts";
import type { KernelArray } from "./kernels.ts";
import {
  checkBias,
  inputsAndGradients,
  isWide,
  sizesOf,
  type SparseGradients,
  SparseMap,
  type SparseMapSizes,
} from "./sparse_map.ts";

const LINEAR = ["inputs", "outputs"];

const IMAGES = [...LINEAR, "height", "width", "kernel", "stride", "padding"];

/** Most rows of a batch. */
const ROWS = 2 ** 24;

/** The weights of a sparse linear map or convolution. */
export interface SparseWeights<T extends KernelArray> {
  /**
   * Where there are weights, ascending: places in the dense weights outputs × inputs, or outputs × inputs × kernel height × kernel
   * width, counted row after row.
   */
  readonly positions: Uint32Array<ArrayBuffer>;
  /** The weights, one for each position. */
  readonly values: T;
}

/** Sizes of a sparse linear map; see {@linkcode spmm}. */
export interface SpmmOptions {
  /** Inputs of a row. */
  readonly inputs: number;
  /** Outputs of a row. */
  readonly outputs: number;
  /** One number for each output, added to it; of the weights' type. Default: none. */
  readonly bias?: KernelArray;
}

/** Sizes of a sparse convolution; see {@linkcode sparseConv2d}. */
export interface SparseConv2dOptions extends SpmmOptions {
  /** Height of the images. */
  readonly height: number;
  /** Width of the images. */
  readonly width: number;
  /** Height and width of the kernel. */
  readonly kernel: readonly [number, number];
  /** Step of the kernel in both directions: 1 or 2. Default 1. */
  readonly stride?: number;
  /** Rows and columns of zeros around the images. Default none. */
  readonly padding?: readonly [number, number];
}

/**
 * y = x · Wᵀ + b with sparse weights: rows × inputs in, rows × outputs out.
 *
 * @param weights positions in outputs × inputs, and values
 * @param x rows × inputs, of the weights' type
 * @param options inputs, outputs, bias
 * @returns rows × outputs
 * @throws {ConfigError} where types differ, or an option, a length or a position cannot be used
 * @throws {EngineError} where a kernel is larger than its image, or there is not enough memory
 *
 * @example
 * ```ts
 * import { spmm } from "@leanprop/leanprop/kernels";
 * const weights = { positions: new Uint32Array([1, 2]), values: new Float32Array([3, 5]) };
 * console.log(spmm(weights, new Float32Array([1, 10]), { inputs: 2, outputs: 2 })); // 30, 5
 * ```
 */
export function spmm<T extends KernelArray>(weights: SparseWeights<T>, x: T, options: SpmmOptions): T {
  knownOptions("spmm", options, [...LINEAR, "bias"]);
  return forward("spmm", { weights, x }, options);
}

/**
 * Gradients of {@linkcode spmm}: that of the inputs, and that of the weights at their positions only.
 *
 * @param weights as in the forward pass
 * @param arrays `[x, g]`: inputs, and gradients of the outputs
 * @param options inputs, outputs
 * @returns both gradients
 * @throws as {@linkcode spmm}
 */
export function spmmBackward<T extends KernelArray>(
  weights: SparseWeights<T>,
  arrays: readonly [T, T],
  options: Omit<SpmmOptions, "bias">,
): SparseGradients<T> {
  knownOptions("spmmBackward", options, LINEAR);
  return backward("spmmBackward", { weights, arrays }, options);
}

/**
 * Convolution of images (height × width × channels) with sparse weights.
 *
 * @param weights positions in outputs × inputs × kernel height × kernel width, and values
 * @param x rows × height × width × inputs, of the weights' type
 * @param options sizes, stride, padding, bias
 * @returns rows × height × width × outputs, of the result's height and width
 * @throws as {@linkcode spmm}
 */
export function sparseConv2d<T extends KernelArray>(weights: SparseWeights<T>, x: T, options: SparseConv2dOptions): T {
  knownOptions("sparseConv2d", options, [...IMAGES, "bias"]);
  return forward("sparseConv2d", { weights, x }, imageSizes("sparseConv2d", options));
}

/**
 * Gradients of {@linkcode sparseConv2d}.
 *
 * @param weights as in the forward pass
 * @param arrays `[x, g]`: images, and gradients of the results
 * @param options sizes, stride, padding
 * @returns both gradients
 * @throws as {@linkcode spmm}
 */
export function sparseConv2dBackward<T extends KernelArray>(
  weights: SparseWeights<T>,
  arrays: readonly [T, T],
  options: Omit<SparseConv2dOptions, "bias">,
): SparseGradients<T> {
  knownOptions("sparseConv2dBackward", options, IMAGES);
  return backward("sparseConv2dBackward", { weights, arrays }, imageSizes("sparseConv2dBackward", options));
}

/** Refuses options of a convolution that would make a linear map. */
function imageSizes<T extends SparseMapSizes>(name: string, options: T): T {
  const missing = (["height", "width", "kernel"] as const).find((option) => options[option] === undefined);
  if (missing === undefined) return options;
  throw new ConfigError(`${name}.${missing}`, "height, width and kernel of a convolution", undefined);
}

/** A map for the rows of `x`, and the weights in its order. `name` is the function's, for messages. */
function made<T extends KernelArray>(
  name: string,
  { weights, x }: { readonly weights: SparseWeights<T>; readonly x: T },
  sizes: SparseMapSizes,
): { readonly map: SparseMap; readonly ordered: T } {
  objectGiven("weights", weights, "an object { positions, values }");
  const { positions, values } = weights;
  if (!(positions instanceof Uint32Array)) {
    throw new ConfigError("weights.positions", "a Uint32Array", typeName(positions));
  }
  isWide("weights", values, {});
  isWide(name, values, { x });
  if (values.length !== positions.length) {
    throw new ConfigError("weights.values", `${positions.length} values, one for each position`, values.length);
  }
  sizesOf(name, { ...sizes, batch: 1 });
  const row = (sizes.height ?? 1) * (sizes.width ?? 1) * sizes.inputs;
  const batch = x.length / row;
  if (!Number.isInteger(batch) || batch < 1 || batch > ROWS) {
    const expected = `whole rows of ${row} elements each, from 1 to ${ROWS} of them`;
    throw new ConfigError(`${name}.x`, expected, `${x.length} elements`);
  }
  sizesOf(name, { ...sizes, batch });
  const map = SparseMap.create(positions, { ...sizes, batch });
  const { order } = map;
  return { map, ordered: values.map((_, slot) => values[order[slot]!]!) as T };
}

function forward<T extends KernelArray>(
  name: string,
  arrays: { readonly weights: SparseWeights<T>; readonly x: T },
  { bias, ...sizes }: SparseMapSizes & { readonly bias?: KernelArray },
): T {
  const { map: of, ordered } = made(name, arrays, sizes);
  using map = of;
  checkBias(name, { values: ordered, bias, outputs: sizes.outputs });
  return map.forward(ordered, arrays.x, bias === undefined ? {} : { bias });
}

function backward<T extends KernelArray>(
  name: string,
  { weights, arrays }: { readonly weights: SparseWeights<T>; readonly arrays: readonly [T, T] },
  sizes: SparseMapSizes,
): SparseGradients<T> {
  const [x, g] = inputsAndGradients(name, arrays);
  const { map: of, ordered } = made(name, { weights, x }, sizes);
  using map = of;
  isWide(name, ordered, { g });
  const { inputs, values } = map.backward(ordered, [x, g]);
  const given = values.slice() as T;
  map.order.forEach((place, slot) => given[place] = values[slot]!);
  return { inputs, values: given };
}
