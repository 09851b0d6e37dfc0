/**
 * The kernels of the front contribution over typed arrays; part of `./kernels`.
 *
 * @module
 */

import { boolean, knownOptions, number, typeName } from "./config.ts";
import { ConfigError } from "./errors.ts";
import { native } from "./ffi/native.ts";
import { check, newStatus } from "./ffi/status.ts";

/** Arrays of one call have the same type. */
type Numbers = Float32Array<ArrayBuffer> | Float64Array<ArrayBuffer>;

/** Options of {@linkcode gram}. */
export interface GramKernelOptions {
  /** Rows of x. */
  readonly rows: number;
  /** Columns of x. */
  readonly columns: number;
}

/** Options of {@linkcode panelStep}. */
export interface PanelStepOptions {
  /** Columns of z. */
  readonly outputs: number;
  /** Step size. */
  readonly rate: number;
  /** L2 weight decay. Default 0. */
  readonly decay?: number;
  /** Share of the velocity that is kept. Default 0. */
  readonly momentum?: number;
  /** Whether the step looks ahead. Default `false`. */
  readonly nesterov?: boolean;
}

/** What {@linkcode panelStep} works on; all row after row. */
export interface PanelStepArrays<T extends Float32Array<ArrayBuffer> | Float64Array<ArrayBuffer>> {
  /** Pre-activations of all rows, rows × outputs; changed. */
  readonly z: T;
  /** The batch's rows of K = X · Xᵀ: batch × rows. */
  readonly k: T;
  /** Gradient of the batch's pre-activations: batch × outputs. */
  readonly d: T;
  /** Velocity of z, rows × outputs, with momentum; changed. */
  readonly velocity?: T;
}

/** Options of {@linkcode pairStep}. */
export interface PairStepOptions {
  /** Inputs of the first layer. */
  readonly inputs: number;
  /** Outputs of the second layer. */
  readonly outputs: number;
  /** Step size. */
  readonly rate: number;
  /** L2 weight decay. Default 0. */
  readonly decay?: number;
}

/** What {@linkcode pairStep} works on; all row after row. */
export interface PairStepArrays<T extends Float32Array<ArrayBuffer> | Float64Array<ArrayBuffer>> {
  /** W₁ · W₂ for W₁ of inputs × hidden and W₂ of hidden × outputs; changed. */
  readonly product: T;
  /** W₁ · W₁ᵀ: inputs × inputs; changed. */
  readonly left: T;
  /** W₂ᵀ · W₂: outputs × outputs; changed. */
  readonly right: T;
  /** Gradient of the product: inputs × outputs. */
  readonly gradient: T;
}

const status = newStatus();

/**
 * K = X · Xᵀ, the products of all rows with each other; symmetric to the last bit.
 *
 * @param x rows × columns numbers, row after row
 * @param options sizes
 * @returns rows × rows numbers
 * @throws {ConfigError} where an option or the array's type cannot be used
 * @throws {EngineError} `shape-mismatch` where the length does not fit
 *
 * @example
 * ```ts
 * import { gram } from "@leanprop/leanprop/kernels";
 * console.log(gram(new Float32Array([1, 2, 3, 4]), { rows: 2, columns: 2 })); // 5, 11, 11, 25
 * ```
 */
export function gram<T extends Float32Array<ArrayBuffer> | Float64Array<ArrayBuffer>>(
  x: T,
  options: GramKernelOptions,
): T {
  knownOptions("gram", options, ["rows", "columns"]);
  const [rows, columns] = [size("gram.rows", options.rows), size("gram.columns", options.columns)];
  const wide = isWide("gram", { x });
  const k = wide ? new Float64Array(rows * rows) : new Float32Array(rows * rows);
  const call = wide ? native().kernel_gram_f64 : native().kernel_gram_f32;
  check(call(rows, columns, x, x.length, k, k.length, status), status);
  return k as T;
}

/**
 * One step of gradient descent on a first layer, seen from its pre-activations: z ← z − rate · K[:, batch] · d, with momentum and
 * decay as in `sgd`.
 *
 * @param arrays z, the batch's rows of K and gradient; z and the velocity are changed
 * @param options sizes and the optimizer's numbers
 * @throws {ConfigError} where an option or an array's type cannot be used
 * @throws {EngineError} `shape-mismatch` where a length does not fit
 */
export function panelStep<T extends Float32Array<ArrayBuffer> | Float64Array<ArrayBuffer>>(
  arrays: PanelStepArrays<T>,
  options: PanelStepOptions,
): void {
  knownOptions("panelStep", options, ["outputs", "rate", "decay", "momentum", "nesterov"]);
  const outputs = size("panelStep.outputs", options.outputs);
  const rate = number("panelStep.rate", options.rate, { min: 0 });
  const decay = number("panelStep.decay", options.decay ?? 0, { min: 0 });
  const momentum = number("panelStep.momentum", options.momentum ?? 0, { min: 0, below: 1 });
  const nesterov = boolean("panelStep.nesterov", options.nesterov ?? false) ? 1 : 0;
  const { z, k, d, velocity } = arrays;
  const wide = isWide("panelStep", { z, k, d, ...(velocity && { velocity }) });
  const v = velocity ?? (wide ? new Float64Array(0) : new Float32Array(0));
  const call = wide ? native().kernel_panel_step_f64 : native().kernel_panel_step_f32;
  const rows = z.length / outputs;
  if (!Number.isInteger(rows)) throw new ConfigError("panelStep.z", `a multiple of ${outputs} numbers`, z.length);
  const by = [rate, decay, momentum, nesterov] as const;
  check(call(rows, outputs, k, k.length, d, d.length, ...by, z, z.length, v, v.length, status), status);
}

/**
 * One step of gradient descent on two linear layers in a row, seen from three products in which the width between them does not
 * appear.
 *
 * @param arrays the products, which are changed, and the gradient of W₁ · W₂
 * @param options sizes and the optimizer's numbers
 * @throws {ConfigError} where an option or an array's type cannot be used
 * @throws {EngineError} `shape-mismatch` where a length does not fit
 */
export function pairStep<T extends Float32Array<ArrayBuffer> | Float64Array<ArrayBuffer>>(
  arrays: PairStepArrays<T>,
  options: PairStepOptions,
): void {
  knownOptions("pairStep", options, ["inputs", "outputs", "rate", "decay"]);
  const [inputs, outputs] = [size("pairStep.inputs", options.inputs), size("pairStep.outputs", options.outputs)];
  const rate = number("pairStep.rate", options.rate, { min: 0 });
  const decay = number("pairStep.decay", options.decay ?? 0, { min: 0 });
  const { product, left, right, gradient: g } = arrays;
  const wide = isWide("pairStep", { product, left, right, gradient: g });
  const call = wide ? native().kernel_pair_step_f64 : native().kernel_pair_step_f32;
  const state = [product, product.length, left, left.length, right, right.length] as const;
  check(call(inputs, outputs, g, g.length, rate, decay, ...state, status), status);
}

function size(path: string, value: number): number {
  return number(path, value, { min: 1, max: 2 ** 24, whole: true });
}

/** Whether the arrays are f64. The engine would read past the end of an array with smaller elements. */
function isWide(path: string, arrays: Readonly<Record<string, Numbers>>): boolean {
  const [first, ...rest] = Object.entries(arrays);
  const [name, lead] = first!;
  if (!(lead instanceof Float32Array || lead instanceof Float64Array)) {
    throw new ConfigError(`${path}.${name}`, "a Float32Array or Float64Array", typeName(lead));
  }
  const wide = lead instanceof Float64Array;
  for (const [other, array] of rest) {
    if (wide ? array instanceof Float64Array : array instanceof Float32Array) continue;
    throw new ConfigError(`${path}.${other}`, `${typeName(lead)} like ${name}`, typeName(array));
  }
  return wide;
}
