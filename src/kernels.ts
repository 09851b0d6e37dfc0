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
import { ROW_POLICIES, type RowPolicy, weighsRows } from "./rules/mem_aop.ts";

export {
  type DecorrelationStep,
  decorrelationUpdate,
  type DecorrelationUpdateOptions,
} from "./decorrelation_kernels.ts";
export { ConfigError, EngineError } from "./errors.ts";
export {
  gram,
  type GramKernelOptions,
  pairStep,
  type PairStepArrays,
  type PairStepOptions,
  panelStep,
  type PanelStepArrays,
  type PanelStepOptions,
} from "./gram_kernels.ts";
export type { RowPolicy } from "./rules/mem_aop.ts";
export {
  sparseConv2d,
  sparseConv2dBackward,
  type SparseConv2dOptions,
  type SparseWeights,
  spmm,
  spmmBackward,
  type SpmmOptions,
} from "./sparse_kernels.ts";
export { type SparseGradients, SparseMap, type SparseMapOptions, type SparseSide } from "./sparse_map.ts";

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
  /**
   * What was not used so far, shaped like x and g: the factors are added to it, chosen rows leave it; not with
   * the policies `crs` and `wta`. Default: nothing is kept.
   */
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
  if (weighsRows(options.policy) && options.memory !== undefined) {
    const expected = `none with the policy ${options.policy}, whose sums are right on average`;
    throw new ConfigError(`${name}.memory`, expected, "one");
  }
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

/** Options of {@linkcode conv2d}. */
export interface ConvOptions<T extends KernelArray> {
  /** Number of images. */
  readonly images: number;
  /** Shape of an image: [height, width, channels]. */
  readonly shape: readonly [number, number, number];
  /** Channels of the result. */
  readonly outputs: number;
  /** Height and width of the kernel. Default `[3, 3]`. */
  readonly kernel?: readonly [number, number];
  /** Steps of the kernel downwards and to the right. Default `[1, 1]`. */
  readonly stride?: readonly [number, number];
  /** Rows and columns of zeros around the image. Default `[0, 0]`. */
  readonly padding?: readonly [number, number];
  /** Groups of channels that do not see each other. Default 1. */
  readonly groups?: number;
  /** One number an output channel. Default: none. */
  readonly bias?: T;
}

/**
 * A convolution of images, by whichever method is fastest for the shape.
 *
 * @param operands `[x, w]` of the same element type: x images × height × width × channels, w outputs × channels of a group ×
 * kernel height × kernel width
 * @param options sizes, bias
 * @returns images × height × width × outputs, where the result has ⌊(height + 2 · padding − kernel) / stride⌋ + 1 rows, and as many
 * columns by the same rule
 * @throws {ConfigError} where types differ or an option cannot be used
 * @throws {EngineError} where sizes do not fit each other (`invalid-config`) or a length does not fit (`shape-mismatch`)
 *
 * @example
 * ```ts
 * import { conv2d } from "@leanprop/leanprop/kernels";
 * const [x, w] = [new Float32Array([1, 2, 3, 4]), new Float32Array([1, 1, 1, 1])];
 * const y = conv2d([x, w], { images: 1, shape: [2, 2, 1], outputs: 1, kernel: [2, 2] });
 * console.log(y[0]); // 10
 * ```
 */
export function conv2d<T extends KernelArray>(operands: readonly [T, T], options: ConvOptions<T>): T {
  knownOptions("conv2d", options, [
    "images",
    "shape",
    "outputs",
    "kernel",
    "stride",
    "padding",
    "groups",
    "bias",
  ]);
  const size = (name: string, value: unknown, min = 1) =>
    number(`conv2d.${name}`, value, { min, max: 2 ** 24, whole: true });
  const pair = (name: "kernel" | "stride" | "padding", fallback: number, min = 1) => {
    const [down, right] = options[name] ?? [fallback, fallback];
    return [size(name, down, min), size(name, right, min)] as const;
  };
  const [images, outputs] = [size("images", options.images), size("outputs", options.outputs)];
  const [height, width, channels] = [0, 1, 2].map((axis) => size("shape", options.shape[axis])) as [
    number,
    number,
    number,
  ];
  const [kernel, stride, padding] = [pair("kernel", 3), pair("stride", 1), pair("padding", 0, 0)];
  const groups = size("groups", options.groups ?? 1);
  const [x, w] = operands;
  if (!(x instanceof Float32Array || x instanceof Float64Array)) {
    throw new ConfigError("conv2d.x", "a Float32Array or Float64Array", typeName(x));
  }
  const wide = x instanceof Float64Array;
  const array = (count: number) => (wide ? new Float64Array(count) : new Float32Array(count)) as T;
  const { bias = array(0) } = options;
  for (const [name, given] of [["w", w], ["bias", bias]] as const) {
    if (wide ? given instanceof Float64Array : given instanceof Float32Array) continue;
    throw new ConfigError(`conv2d.${name}`, `${typeName(x)} like x`, typeName(given));
  }
  // A kernel that does not fit gives no results here; the engine says so.
  const along = (axis: 0 | 1, length: number) =>
    Math.max(0, Math.floor((length + 2 * padding[axis] - kernel[axis]) / stride[axis]) + 1);
  const y = array(images * along(0, height) * along(1, width) * outputs);
  const sizes = Uint32Array.of(images, height, width, channels, outputs, ...kernel, ...stride, ...padding, groups);
  const call = wide ? native().kernel_conv2d_f64 : native().kernel_conv2d_f32;
  check(call(sizes, sizes.length, x, x.length, w, w.length, bias, bias.length, y, y.length, status), status);
  return y;
}

/** Activations of {@linkcode dualForward}. */
export type KernelActivation = "identity" | "relu" | "leakyRelu" | "tanh" | "sigmoid" | "gelu";

/** In the engine's numbering. */
const ACTIVATIONS: readonly KernelActivation[] = ["identity", "relu", "leakyRelu", "tanh", "sigmoid", "gelu"];

/** Options of {@linkcode dualForward}. */
export interface DualForwardOptions<T extends KernelArray> {
  /** Rows of the batch. */
  readonly rows: number;
  /** Inputs of the layer. */
  readonly inputs: number;
  /** Outputs of the layer. */
  readonly outputs: number;
  /** First tangents of x: lanes × rows × inputs. */
  readonly tangents: T;
  /** Second tangents of x along the same direction, for one lane: rows × inputs. Default: none. */
  readonly second?: T;
  /** One number an output. Default: none. */
  readonly bias?: T;
  /** The activation. Default `"identity"`. */
  readonly activation?: KernelActivation;
  /** Factor of `leakyRelu` below 0, above 0 itself; refused beside other activations. Default 0.01. */
  readonly slope?: number;
}

/** What {@linkcode dualForward} gives. */
export interface DualForward<T extends KernelArray> {
  /** y = f(x · w + bias): rows × outputs. */
  readonly values: T;
  /** First tangents of y: lanes × rows × outputs. */
  readonly tangents: T;
  /** Second tangents of y: rows × outputs; empty where none were given. */
  readonly second: T;
}

/**
 * A dense layer on dual numbers: y = f(x · w + bias), and how y moves when x moves.
 *
 * @param operands `[x, w]`: x rows × inputs, w inputs × outputs, of the same element type
 * @param options sizes, tangents, bias, activation
 * @returns values and tangents
 * @throws {ConfigError} where types differ, a length does not fit, or an option cannot be used
 *
 * @example
 * ```ts
 * import { dualForward } from "@leanprop/leanprop/kernels";
 * const [x, w] = [new Float64Array([0.5]), new Float64Array([2])];
 * const y = dualForward([x, w], { rows: 1, inputs: 1, outputs: 1, tangents: new Float64Array([1]), activation: "tanh" });
 * console.log(y.tangents[0]); // 2 (1 − tanh² 1)
 * ```
 */
export function dualForward<T extends KernelArray>(
  operands: readonly [T, T],
  options: DualForwardOptions<T>,
): DualForward<T> {
  knownOptions("dualForward", options, [
    "rows",
    "inputs",
    "outputs",
    "tangents",
    "second",
    "bias",
    "activation",
    "slope",
  ]);
  const size = (name: "rows" | "inputs" | "outputs") =>
    number(`dualForward.${name}`, options[name], { min: 1, max: 2 ** 24, whole: true });
  const [rows, inputs, outputs] = [size("rows"), size("inputs"), size("outputs")];
  if (!Array.isArray(operands)) throw new ConfigError("dualForward.operands", "[x, w]", typeName(operands));
  const [x, w] = operands;
  if (!(x instanceof Float32Array || x instanceof Float64Array)) {
    throw new ConfigError("dualForward.x", "a Float32Array or Float64Array", typeName(x));
  }
  const wide = x instanceof Float64Array;
  const array = (count: number) => (wide ? new Float64Array(count) : new Float32Array(count)) as T;
  const { tangents, second = array(0), bias = array(0), activation = "identity", slope = 0.01 } = options;
  for (const [name, given] of [["w", w], ["tangents", tangents], ["second", second], ["bias", bias]] as const) {
    if (wide ? given instanceof Float64Array : given instanceof Float32Array) continue;
    throw new ConfigError(`dualForward.${name}`, `${typeName(x)} like x`, typeName(given));
  }
  const lanes = tangents.length / (rows * inputs);
  for (
    const [name, { length }, count, shape] of [
      ["x", x, rows * inputs, "rows × inputs"],
      ["w", w, inputs * outputs, "inputs × outputs"],
      ["bias", bias, bias.length === 0 ? 0 : outputs, "outputs"],
      ["tangents", tangents, Math.floor(lanes) * rows * inputs, "lanes × rows × inputs"],
      ["second", second, second.length === 0 ? 0 : rows * inputs, "rows × inputs"],
    ] as const
  ) {
    if (length === count) continue;
    const numbers = name === "tangents" ? `a multiple of ${rows * inputs}` : count;
    throw new ConfigError(`dualForward.${name}`, `${numbers} numbers (${shape})`, length);
  }
  if (second.length > 0 && lanes !== 1) {
    throw new ConfigError("dualForward.second", "tangents of one lane beside it", `${lanes} lanes`);
  }
  const place = ACTIVATIONS.indexOf(oneOf("dualForward.activation", activation, ACTIVATIONS));
  if (options.slope !== undefined && activation !== "leakyRelu") {
    throw new ConfigError("dualForward.slope", "activation leakyRelu beside it", `activation ${activation}`);
  }
  number("dualForward.slope", slope, { above: 0 });
  const sizes = new Uint32Array([rows, inputs, outputs, lanes]);
  const result = {
    values: array(rows * outputs),
    tangents: array(lanes * rows * outputs),
    second: array(second.length === 0 ? 0 : rows * outputs),
  };
  const call = wide ? native().kernel_dual_forward_f64 : native().kernel_dual_forward_f32;
  const code = call(
    sizes,
    sizes.length,
    place,
    slope,
    w,
    w.length,
    bias,
    bias.length,
    x,
    x.length,
    tangents,
    tangents.length,
    second,
    second.length,
    result.values,
    result.values.length,
    result.tangents,
    result.tangents.length,
    result.second,
    result.second.length,
    status,
  );
  check(code, status);
  return result;
}
