/**
 * How parameters start.
 *
 * @module
 */

import { oneOf } from "../config.ts";

/** Element arrays of parameters. */
export type ParameterArray = Float32Array<ArrayBuffer> | Float64Array<ArrayBuffer>;

/** How a parameter can start. */
const INITS = [
  "heNormal",
  "heUniform",
  "glorotNormal",
  "glorotUniform",
  "lecunNormal",
  "lecunUniform",
  "fanInUniform",
  "zeros",
  "ones",
] as const satisfies readonly Init[];

/**
 * How a parameter starts: `he*` has variance 2 / inputs (He et al. 2015), `glorot*` 2 / (inputs + outputs) (Glorot and Bengio
 * 2010), `lecun*` 1 / inputs (LeCun et al. 1998); `fanInUniform` is uniform between ±1 / √inputs, as PyTorch's linear layers.
 */
export type Init =
  | "heNormal"
  | "heUniform"
  | "glorotNormal"
  | "glorotUniform"
  | "lecunNormal"
  | "lecunUniform"
  | "fanInUniform"
  | "zeros"
  | "ones";

/** A rule or numbers. @throws {ConfigError} for anything else */
export function checkInit(path: string, value: Init | ParameterArray): Init | ParameterArray {
  if (value instanceof Float32Array || value instanceof Float64Array) return value;
  return oneOf(path, value, INITS);
}
