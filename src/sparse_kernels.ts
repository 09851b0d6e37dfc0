/**
 * Sparse linear maps and convolutions on typed arrays in one call. A map is made ready anew in each of them; a
 * {@linkcode SparseMap} is made once.
 *
 * @module
 */

import { knownOptions } from "./config.ts";
import { ConfigError } from "./errors.ts";
import type { KernelArray } from "./kernels.ts";
import { type SparseGradients, SparseMap, type SparseMapOptions } from "./sparse_map.ts";

const LINEAR = ["inputs", "outputs", "bias"];

const IMAGES = [...LINEAR, "height", "width", "kernel", "stride", "padding"];

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
 * @throws {ConfigError} where types differ or an option cannot be used
 * @throws {EngineError} where a length or a position does not fit
 *
 * @example
 * ```ts
 * import { spmm } from "@leanprop/leanprop/kernels";
 * const weights = { positions: new Uint32Array([1, 2]), values: new Float32Array([3, 5]) };
 * console.log(spmm(weights, new Float32Array([1, 10]), { inputs: 2, outputs: 2 })); // 30, 5
 * ```
 */
export function spmm<T extends KernelArray>(weights: SparseWeights<T>, x: T, options: SpmmOptions): T {
  knownOptions("spmm", options, LINEAR);
  return forward(weights, x, options);
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
  [x, g]: readonly [T, T],
  options: Omit<SpmmOptions, "bias">,
): SparseGradients<T> {
  knownOptions("spmmBackward", options, LINEAR);
  return backward(weights, [x, g], options);
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
  knownOptions("sparseConv2d", options, IMAGES);
  return forward(weights, x, options);
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
  [x, g]: readonly [T, T],
  options: Omit<SparseConv2dOptions, "bias">,
): SparseGradients<T> {
  knownOptions("sparseConv2dBackward", options, IMAGES);
  return backward(weights, [x, g], options);
}

/** A map for the rows of `x`, and the weights in its order. */
function made<T extends KernelArray>(
  { positions, values }: SparseWeights<T>,
  x: T,
  { bias: _, ...sizes }: SpmmOptions & Partial<SparseConv2dOptions>,
): { readonly map: SparseMap; readonly ordered: T } {
  const { inputs, height = 1, width = 1 } = sizes;
  const batch = Math.max(1, Math.floor(x.length / (height * width * inputs)));
  if (values.length !== positions.length) {
    throw new ConfigError("weights.values", `${positions.length} values, one for each position`, values.length);
  }
  const map = SparseMap.create(positions, { ...sizes, batch } satisfies SparseMapOptions);
  return { map, ordered: values.map((_, slot) => values[map.order[slot]!]!) as T };
}

function forward<T extends KernelArray>(weights: SparseWeights<T>, x: T, options: SpmmOptions): T {
  const { map: of, ordered } = made(weights, x, options);
  using map = of;
  return map.forward(ordered, x, options.bias === undefined ? {} : { bias: options.bias });
}

function backward<T extends KernelArray>(
  weights: SparseWeights<T>,
  arrays: readonly [T, T],
  options: SpmmOptions,
): SparseGradients<T> {
  const { map: of, ordered } = made(weights, arrays[0], options);
  using map = of;
  const { inputs, values } = map.backward(ordered, arrays);
  const given = values.slice() as T;
  map.order.forEach((place, slot) => given[place] = values[slot]!);
  return { inputs, values: given };
}
