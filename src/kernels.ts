/**
 * The engine's kernels as thin synchronous functions over typed arrays: for benches, and for researchers who write a learning
 * rule of their own in TypeScript. They run on one thread, on the calling one.
 *
 * @module
 */

import { boolean, knownOptions, number, oneOf, seedNumber, typeName } from "./config.ts";
import { ConfigError } from "./errors.ts";
import { native } from "./ffi/native.ts";
import { check, newStatus } from "./ffi/status.ts";
import { ROW_POLICIES, type RowPolicy } from "./rules/mem_aop.ts";

export { ConfigError, EngineError } from "./errors.ts";
export type { RowPolicy } from "./rules/mem_aop.ts";

/** Arrays that kernels compute on; all arrays of one call have the same type. */
export type KernelArray = Float32Array<ArrayBuffer> | Float64Array<ArrayBuffer>;

/** Options of {@linkcode matmul}. */
export interface MatmulOptions {
  /** Rows of c. */
  readonly m: number;
  /** Columns of c. */
  readonly n: number;
  /** Length of the sums. */
  readonly k: number;
  /** Factor on the product. Default 1. */
  readonly alpha?: number;
  /** Whether a is stored k × m instead of m × k. Default `false`. */
  readonly transposeA?: boolean;
  /** Whether b is stored n × k instead of k × n. Default `false`. */
  readonly transposeB?: boolean;
  /** Where the result goes: m × n. Default: a new array. */
  readonly out?: KernelArray;
  /** Whether the product is added to `out`. Default `false`. */
  readonly accumulate?: boolean;
}

const status = newStatus();

/**
 * c = alpha · a · b for matrices stored row after row.
 *
 * @param operands `[a, b]`, of the same element type
 * @param options sizes, transposes, output
 * @returns c, m × n
 * @throws {ConfigError} where types differ or an option cannot be used
 * @throws {EngineError} `shape-mismatch` where a length does not fit
 *
 * @example
 * ```ts
 * import { matmul } from "@leanprop/leanprop/kernels";
 * const c = matmul([new Float32Array([1, 2]), new Float32Array([3, 4])], { m: 1, n: 1, k: 2 });
 * console.log(c[0]); // 11
 * ```
 */
export function matmul<T extends KernelArray>(operands: readonly [T, T], options: MatmulOptions): T {
  knownOptions("matmul", options, ["m", "n", "k", "alpha", "transposeA", "transposeB", "out", "accumulate"]);
  const size = (name: "m" | "n" | "k") =>
    number(`matmul.${name}`, options[name], { min: 1, max: 2 ** 24, whole: true });
  const [m, n, k] = [size("m"), size("n"), size("k")];
  const [a, b] = operands;
  // The engine would read past the end of an array with smaller elements.
  if (!(a instanceof Float32Array || a instanceof Float64Array)) {
    throw new ConfigError("matmul.a", "a Float32Array or Float64Array", typeName(a));
  }
  const wide = a instanceof Float64Array;
  const out = options.out ?? (wide ? new Float64Array(m * n) : new Float32Array(m * n));
  for (const [name, array] of [["b", b], ["out", out]] as const) {
    if (wide ? array instanceof Float64Array : array instanceof Float32Array) continue;
    throw new ConfigError(`matmul.${name}`, `${typeName(a)} like a`, typeName(array));
  }
  const alpha = number("matmul.alpha", options.alpha ?? 1);
  const call = wide ? native().kernel_matmul_f64 : native().kernel_matmul_f32;
  const flags = { a: options.transposeA ? 1 : 0, b: options.transposeB ? 1 : 0, add: options.accumulate ? 1 : 0 };
  check(call(m, n, k, alpha, a, a.length, flags.a, b, b.length, flags.b, flags.add, out, out.length, status), status);
  return out as T;
}

/** Options of {@linkcode chooseRows}. */
export interface ChooseRowsOptions {
  /** How rows are chosen; see `memAop`. */
  readonly policy: RowPolicy;
  /** How many rows, or draws. */
  readonly k: number;
  /** Seed of the random choices. Default 0. */
  readonly seed?: number;
  /** Number of the step: choices of one seed differ by it. Default 0. */
  readonly step?: number;
}

/** Rows with their weights in a sum. */
export interface ChosenRows {
  /** The rows, ascending, each once; fewer than k where one was drawn twice. */
  readonly rows: Uint32Array<ArrayBuffer>;
  /** Their weights: 1, or with `"crs"` and `"wta"` what makes the sum right on average. */
  readonly weights: Float64Array<ArrayBuffer>;
}

/**
 * Chooses rows by scores, in time proportional to their number.
 *
 * @param scores one for each row, from 0 up
 * @param options policy, k, seed, step
 * @returns rows and weights
 * @throws {ConfigError} where an option or a score cannot be used
 *
 * @example
 * ```ts
 * import { chooseRows } from "@leanprop/leanprop/kernels";
 * const { rows } = chooseRows(new Float64Array([0.1, 3, 2, 0.5]), { policy: "topK", k: 2 });
 * console.log(rows); // 1, 2
 * ```
 */
export function chooseRows(scores: Float64Array<ArrayBuffer>, options: ChooseRowsOptions): ChosenRows {
  knownOptions("chooseRows", options, ["policy", "k", "seed", "step"]);
  if (!(scores instanceof Float64Array)) {
    throw new ConfigError("chooseRows.scores", "a Float64Array", typeName(scores));
  }
  scores.forEach((score, row) => number(`chooseRows.scores[${row}]`, score, { min: 0 }));
  const { policy, k, seed, step } = choiceOptions("chooseRows", options);
  const most = Math.min(k, scores.length);
  const [rows, weights, chosen] = [new Uint32Array(most), new Float64Array(most), new Uint32Array(1)];
  const code = native().kernel_choose_rows(
    policy,
    k,
    seed,
    step,
    scores,
    scores.length,
    rows,
    rows.length,
    weights,
    weights.length,
    chosen,
    status,
  );
  check(code, status);
  return { rows: rows.slice(0, chosen[0]), weights: weights.slice(0, chosen[0]) };
}

/** Options of {@linkcode approximateProduct}. */
export interface ApproximateProductOptions extends Omit<ChooseRowsOptions, "policy"> {
  /** Rows of x and g. */
  readonly rows: number;
  /** How rows are chosen; see `memAop`. Default `"topK"`. */
  readonly policy?: RowPolicy;
  /** Whether the part that the column means of x make is exact. Default `false`. */
  readonly center?: boolean;
  /** What was not used so far, shaped like x and g: the factors are added to it, chosen rows leave it. Default: nothing is kept. */
  readonly memory?: readonly [KernelArray, KernelArray];
  /** Where the result goes: inputs × outputs. Default: a new array. */
  readonly out?: KernelArray;
}

/**
 * xᵀ · g from k of its outer products: the weight gradient of `memAop` for one layer.
 *
 * @param factors `[x, g]` of the same element type: rows × inputs, rows × outputs
 * @param options rows, k, policy, memory and so on
 * @returns the sum, inputs × outputs
 * @throws {ConfigError} where types differ or an option cannot be used
 * @throws {EngineError} `shape-mismatch` where a length does not fit
 */
export function approximateProduct<T extends KernelArray>(
  factors: readonly [T, T],
  options: ApproximateProductOptions,
): T {
  const name = "approximateProduct";
  knownOptions(name, options, ["rows", "policy", "k", "center", "seed", "step", "memory", "out"]);
  const rows = number(`${name}.rows`, options.rows, { min: 1, max: 2 ** 24, whole: true });
  const choice = choiceOptions(name, { policy: "topK", ...options });
  const [x, g] = factors;
  if (!(x instanceof Float32Array || x instanceof Float64Array)) {
    throw new ConfigError(`${name}.x`, "a Float32Array or Float64Array", typeName(x));
  }
  const wide = x instanceof Float64Array;
  const make = (length: number) => wide ? new Float64Array(length) : new Float32Array(length);
  const [memoryX, memoryG] = options.memory ?? [make(0), make(0)];
  const out = options.out ?? make(Math.floor(x.length / rows) * Math.floor(g.length / rows));
  for (const [part, array] of Object.entries({ g, "memory[0]": memoryX, "memory[1]": memoryG, out })) {
    if (wide ? array instanceof Float64Array : array instanceof Float32Array) continue;
    throw new ConfigError(`${name}.${part}`, `${typeName(x)} like x`, typeName(array));
  }
  const center = boolean(`${name}.center`, options.center ?? false) ? 1 : 0;
  const call = wide ? native().kernel_approximate_product_f64 : native().kernel_approximate_product_f32;
  const arrays = [x, x.length, g, g.length, memoryX, memoryX.length, memoryG, memoryG.length, out, out.length] as const;
  check(call(rows, choice.policy, choice.k, center, choice.seed, choice.step, ...arrays, status), status);
  return out as T;
}

/** The numbers that the engine knows a choice by. */
function choiceOptions(name: string, { policy, k, seed, step }: ChooseRowsOptions) {
  return {
    policy: ROW_POLICIES.indexOf(oneOf(`${name}.policy`, policy, ROW_POLICIES)),
    k: number(`${name}.k`, k, { min: 1, max: 2 ** 24, whole: true }),
    seed: seedNumber(`${name}.seed`, seed ?? 0),
    step: number(`${name}.step`, step ?? 0, { min: 0, max: 2 ** 32 - 1, whole: true }),
  };
}

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
