/**
 * The local rule of `decorrelated()` over typed arrays; part of `./kernels`.
 *
 * @module
 */

import { knownOptions, number, typeName } from "./config.ts";
import { ConfigError } from "./errors.ts";
import { native } from "./ffi/native.ts";
import { check, newStatus } from "./ffi/status.ts";

/** Options of {@linkcode decorrelationUpdate}. */
export interface DecorrelationUpdateOptions {
  /** Rows of x. */
  readonly rows: number;
  /** Step size η. */
  readonly rate: number;
  /** Weight κ of variances against correlations, from 0 to 1. Default 0.5. */
  readonly kappa?: number;
  /**
   * The most that η (B + 2 max(κ, 1 − κ) Λ) may be, below 2, where B bounds the largest eigenvalue of the step's matrix and Λ that of C:
   * up to 1.4 no step raises the loss of these rows, as long as no variance is above 11. Default: no limit.
   */
  readonly autoStep?: number;
}

/** What {@linkcode decorrelationUpdate} did. */
export interface DecorrelationStep {
  /**
   * The loss before the step: (1 − κ) Σ C² off the diagonal + κ Σ v² on it, over the number of elements of C. v is C − 1, but at most
   * 10, and 0 for an input whose variance is below 1e-6.
   */
  readonly loss: number;
  /** The η that was used. */
  readonly rate: number;
  /** Whether R was not finite after the step, and became the identity. */
  readonly reset: boolean;
}

const status = newStatus();

/**
 * One step of R from rows x, by z = R x, C = zᵀ z / rows, R ← R − η ((1 − κ) (C − diag C) + κ diag v) R, with v as in the
 * {@linkcode DecorrelationStep.loss}.
 *
 * @param operands `[x, r]` of the same element type: x rows × size, r size × size; r is changed
 * @param options rows, η, κ, the limit on the step
 * @returns the loss before the step, the η that was used, whether R began anew
 * @throws {ConfigError} where types differ or an option cannot be used
 * @throws {EngineError} `shape-mismatch` where a length does not fit
 *
 * @example
 * ```ts
 * import { decorrelationUpdate } from "@leanprop/leanprop/kernels";
 * const [x, r] = [new Float64Array([1, 1, -1, -1, 2, 1]), new Float64Array([1, 0, 0, 1])];
 * for (let step = 0; step < 100; step++) decorrelationUpdate([x, r], { rows: 3, rate: 0.1 });
 * console.log(decorrelationUpdate([x, r], { rows: 3, rate: 0.1 }).loss < 1e-6); // true
 * ```
 */
export function decorrelationUpdate<T extends Float32Array<ArrayBuffer> | Float64Array<ArrayBuffer>>(
  operands: readonly [T, T],
  options: DecorrelationUpdateOptions,
): DecorrelationStep {
  const name = "decorrelationUpdate";
  knownOptions(name, options, ["rows", "rate", "kappa", "autoStep"]);
  const rows = number(`${name}.rows`, options.rows, { min: 1, max: 2 ** 24, whole: true });
  const rate = number(`${name}.rate`, options.rate, { min: 0 });
  const kappa = number(`${name}.kappa`, options.kappa ?? 0.5, { min: 0, max: 1 });
  const { autoStep } = options;
  const limit = autoStep === undefined ? 0 : number(`${name}.autoStep`, autoStep, { above: 0, below: 2 });
  const [x, r] = operands;
  if (!(x instanceof Float32Array || x instanceof Float64Array)) {
    throw new ConfigError(`${name}.x`, "a Float32Array or Float64Array", typeName(x));
  }
  const wide = x instanceof Float64Array;
  if (!(wide ? r instanceof Float64Array : r instanceof Float32Array)) {
    throw new ConfigError(`${name}.r`, `${typeName(x)} like x`, typeName(r));
  }
  const figures = new Float64Array(3);
  const call = wide ? native().kernel_decorrelation_update_f64 : native().kernel_decorrelation_update_f32;
  check(call(rows, rate, kappa, limit, x, x.length, r, r.length, figures, figures.length, status), status);
  return { loss: figures[0]!, rate: figures[1]!, reset: figures[2]! > 0 };
}
