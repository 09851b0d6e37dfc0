/**
 * Sparse linear maps and convolutions on typed arrays. A pattern is built anew in each call: for studies, not for speed.
 *
 * @module
 */

import { knownOptions, number, typeName } from "./config.ts";
import { ConfigError } from "./errors.ts";
import { native } from "./ffi/native.ts";
import { check, newStatus } from "./ffi/status.ts";
import type { KernelArray } from "./kernels.ts";

const status = newStatus();

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

/** Gradients of a sparse map. */
export interface SparseGradients<T extends KernelArray> {
  /** Gradient of the inputs, shaped like them. */
  readonly inputs: T;
  /** Gradient of the weights, one for each position. */
  readonly values: T;
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
  return sparseForward("spmm", weights, x, linearSizes("spmm", x, options));
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
  return sparseBackward("spmmBackward", weights, [x, g], linearSizes("spmmBackward", x, options));
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
  return sparseForward("sparseConv2d", weights, x, imageSizes("sparseConv2d", x, options));
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
  return sparseBackward("sparseConv2dBackward", weights, [x, g], imageSizes("sparseConv2dBackward", x, options));
}

/** Sizes of one call as the engine takes them, elements of the outputs, and the bias. */
interface SparseSizes {
  readonly sizes: Uint32Array<ArrayBuffer>;
  readonly outputs: number;
  readonly bias: KernelArray | undefined;
}

function linearSizes(name: string, x: KernelArray, options: SpmmOptions): SparseSizes {
  knownOptions(name, options, ["inputs", "outputs", "bias"]);
  const [inputs, outputs] = [size(`${name}.inputs`, options.inputs), size(`${name}.outputs`, options.outputs)];
  const rows = Math.floor(x.length / inputs);
  return { sizes: Uint32Array.of(rows, inputs, outputs), outputs: rows * outputs, bias: options.bias };
}

function imageSizes(name: string, x: KernelArray, options: SparseConv2dOptions): SparseSizes {
  knownOptions(name, options, ["inputs", "outputs", "bias", "height", "width", "kernel", "stride", "padding"]);
  const of = (option: "inputs" | "outputs" | "height" | "width") => size(`${name}.${option}`, options[option]);
  const [inputs, outputs, height, width] = [of("inputs"), of("outputs"), of("height"), of("width")];
  const stride = number(`${name}.stride`, options.stride ?? 1, { min: 1, max: 2, whole: true });
  const pair = (option: "kernel" | "padding", [a, b]: readonly [number, number], min: number) =>
    [a, b].map((value, i) => number(`${name}.${option}[${i}]`, value, { min, max: 2 ** 16, whole: true }));
  const [rows = 1, columns = 1] = pair("kernel", options.kernel, 1);
  const [above = 0, beside = 0] = pair("padding", options.padding ?? [0, 0], 0);
  const batch = Math.floor(x.length / (height * width * inputs));
  const results = (padded: number, taps: number) => Math.max(0, Math.floor((padded - taps) / stride) + 1);
  const pixels = results(height + 2 * above, rows) * results(width + 2 * beside, columns);
  return {
    sizes: Uint32Array.of(batch, inputs, outputs, height, width, rows, columns, stride, stride, above, beside),
    outputs: batch * pixels * outputs,
    bias: options.bias,
  };
}

function size(path: string, value: number): number {
  return number(path, value, { min: 1, max: 2 ** 24, whole: true });
}

function checkSparse<T extends KernelArray>(
  name: string,
  { positions, values }: SparseWeights<T>,
  arrays: object,
): boolean {
  if (!(positions instanceof Uint32Array)) {
    throw new ConfigError(`${name}.weights.positions`, "a Uint32Array", typeName(positions));
  }
  if (!(values instanceof Float32Array || values instanceof Float64Array)) {
    throw new ConfigError(`${name}.weights.values`, "a Float32Array or Float64Array", typeName(values));
  }
  const wide = values instanceof Float64Array;
  for (const [part, array] of Object.entries(arrays)) {
    if (wide ? array instanceof Float64Array : array instanceof Float32Array) continue;
    throw new ConfigError(`${name}.${part}`, `${typeName(values)} like the weights`, typeName(array));
  }
  return wide;
}

function sparseForward<T extends KernelArray>(name: string, weights: SparseWeights<T>, x: T, sizes: SparseSizes): T {
  const wide = checkSparse(name, weights, { x, ...(sizes.bias && { bias: sizes.bias }) });
  const make = (length: number) => wide ? new Float64Array(length) : new Float32Array(length);
  const [{ positions, values }, bias, out] = [weights, sizes.bias ?? make(0), make(sizes.outputs)];
  const call = wide ? native().kernel_sparse_forward_f64 : native().kernel_sparse_forward_f32;
  const where = [sizes.sizes, sizes.sizes.length, positions, positions.length] as const;
  const arrays = [values, values.length, bias, bias.length, x, x.length, out, out.length] as const;
  check(call(...where, ...arrays, status), status);
  return out as T;
}

function sparseBackward<T extends KernelArray>(
  name: string,
  weights: SparseWeights<T>,
  [x, g]: readonly [T, T],
  { sizes }: SparseSizes,
): SparseGradients<T> {
  const wide = checkSparse(name, weights, { x, g });
  const make = (length: number) => (wide ? new Float64Array(length) : new Float32Array(length)) as T;
  const { positions, values } = weights;
  const gradients = { inputs: make(x.length), values: make(values.length) };
  const call = wide ? native().kernel_sparse_backward_f64 : native().kernel_sparse_backward_f32;
  const arrays = [
    ...[sizes, sizes.length, positions, positions.length] as const,
    ...[values, values.length, x, x.length, g, g.length] as const,
    ...[gradients.inputs, gradients.inputs.length, gradients.values, gradients.values.length] as const,
  ] as const;
  check(call(...arrays, status), status);
  return gradients;
}
