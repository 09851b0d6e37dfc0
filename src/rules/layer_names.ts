/**
 * Options that name the layers on which a rule acts.
 *
 * @module
 */

import { ConfigError } from "../errors.ts";

/** Names of layers as the engine reads them; `null` where none are given. @throws {ConfigError} for anything but a list of names */
export function layerNames(path: string, layers: unknown): readonly string[] | null {
  if (layers === undefined) return null;
  if (Array.isArray(layers) && layers.every((layer) => typeof layer === "string" && layer !== "")) return layers;
  throw new ConfigError(path, 'a list of names of layers such as ["0", "2"]', layers);
}

/** Options of the command line, where layers are words with commas between, as the rule's function takes them. */
export function splitLayers({ layers, ...options }: Record<string, unknown>): Record<string, unknown> {
  if (layers === undefined) return options;
  return { ...options, layers: Array.isArray(layers) ? layers : String(layers).split(",") };
}
