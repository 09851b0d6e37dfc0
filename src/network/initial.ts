/**
 * Initial values that are given as arrays: they are written as parameters and stand in no configuration.
 *
 * @module
 */

import type { ParameterArray } from "./init.ts";
import type { Layer } from "./layers.ts";

/** The arrays of some layers by the names of their parameters; `prefix` stands before the number of a layer. */
export function initialArrays(layers: readonly Layer[], prefix = ""): [name: string, values: ParameterArray][] {
  return layers.flatMap((layer, index) => {
    const name = `${prefix}${index}`;
    if (layer.kind === "residual") {
      return [...initialArrays(layer.body, `${name}.body.`), ...initialArrays(layer.shortcut, `${name}.shortcut.`)];
    }
    if (layer.kind !== "dense" && layer.kind !== "conv2d") return [];
    const arrays: [string, ParameterArray][] = [];
    if (typeof layer.weightInit !== "string") arrays.push([`${name}.weight`, layer.weightInit]);
    if (typeof layer.biasInit !== "string" && layer.bias) arrays.push([`${name}.bias`, layer.biasInit]);
    return arrays;
  });
}

/** A layer as the engine and checkpoints read it. */
export function withoutArrays(layer: Layer): Layer {
  if (layer.kind === "residual") {
    return { ...layer, body: layer.body.map(withoutArrays), shortcut: layer.shortcut.map(withoutArrays) };
  }
  if (layer.kind !== "dense" && layer.kind !== "conv2d") return layer;
  const name = (init: typeof layer.weightInit) => typeof init === "string" ? init : "zeros";
  return { ...layer, weightInit: name(layer.weightInit), biasInit: name(layer.biasInit) };
}
