/**
 * The engine's kernels as thin synchronous functions over typed arrays: for benches, and for researchers who write a learning
 * rule of their own in TypeScript. They run on one thread, on the calling one.
 *
 * @module
 */

import { knownOptions, number, oneOf, typeName } from "./config.ts";
import { ConfigError } from "./errors.ts";
import { native } from "./ffi/native.ts";
import { check, newStatus } from "./ffi/status.ts";

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
  /** Factor of `leakyRelu` below 0. Default 0.01. */
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
 * @throws {ConfigError} where types differ or an option cannot be used
 * @throws {EngineError} `shape-mismatch` where a length does not fit
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
  const [x, w] = operands;
  if (!(x instanceof Float32Array || x instanceof Float64Array)) {
    throw new ConfigError("dualForward.x", "a Float32Array or Float64Array", typeName(x));
  }
  const wide = x instanceof Float64Array;
  const array = (count: number) => (wide ? new Float64Array(count) : new Float32Array(count)) as T;
  const { tangents, second = array(0), bias = array(0) } = options;
  for (const [name, given] of [["w", w], ["tangents", tangents], ["second", second], ["bias", bias]] as const) {
    if (wide ? given instanceof Float64Array : given instanceof Float32Array) continue;
    throw new ConfigError(`dualForward.${name}`, `${typeName(x)} like x`, typeName(given));
  }
  const activation = ACTIVATIONS.indexOf(
    oneOf("dualForward.activation", options.activation ?? "identity", ACTIVATIONS),
  );
  const slope = number("dualForward.slope", options.slope ?? 0.01, { above: 0 });
  const lanes = Math.floor(tangents.length / (rows * inputs));
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
    activation,
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
