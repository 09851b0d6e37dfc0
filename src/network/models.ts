/**
 * Ready-made networks.
 *
 * @module
 */

import { number } from "../config.ts";
import { dense, flatten, type Layer, relu } from "./layers.ts";

/** Options of {@linkcode mlp}. */
export interface MlpOptions {
  /** Shape of one sample. */
  readonly input: readonly number[];
  /** Widths of the hidden layers. Default `[256, 128]`. */
  readonly hidden?: readonly number[];
  /** Number of outputs (classes). */
  readonly outputs: number;
}

/**
 * The layers of a multi-layer perceptron: dense layers with ReLU between them.
 *
 * @param options input shape, hidden widths, outputs
 * @returns `input` and `layers` for `Network.create`
 */
export function mlp(
  { input, hidden = [256, 128], outputs }: MlpOptions,
): { input: readonly number[]; layers: Layer[] } {
  const widths = hidden.map((width, index) => number(`hidden[${index}]`, width, { min: 1, whole: true }));
  const layers = widths.flatMap((width) => [dense(width), relu()]);
  return { input, layers: [...(input.length > 1 ? [flatten()] : []), ...layers, dense(outputs)] };
}
