/**
 * Images of bytes with mean 0 and deviation 1 of each channel: by scale and offset, so that they stay bytes.
 *
 * @module
 */
import { ConfigError } from "../errors.ts";
import { typeName } from "../config.ts";
import { dataGiven } from "./check.ts";
import type { Data, Table } from "./table.ts";

/**
 * Gives byte features a scale and an offset for each channel (last axis), so that over the training rows each channel has mean 0
 * and deviation 1. Validation and test rows get the same; a channel that never changes gets scale 1 / 255. Nothing is copied.
 *
 * @param data a data set with bytes as features
 * @returns the same rows with `scale` and `offset`
 * @throws {ConfigError} where features are not bytes
 */
export function normalizeChannels<T extends Data>(data: T): T {
  dataGiven("data", data);
  const { features, shape } = data.train;
  if (!(features instanceof Uint8Array)) {
    throw new ConfigError("features", "a Uint8Array to normalize", typeName(features));
  }
  const channels = shape.at(-1) ?? 1;
  const [scale, offset]: [number[], number[]] = [[], []];
  for (let channel = 0; channel < channels; channel++) {
    // Whole numbers: exact below 2^53.
    let [count, sum, squares] = [0, 0, 0];
    for (let at = channel; at < features.length; at += channels) {
      const byte = features[at]!;
      count++;
      sum += byte;
      squares += byte * byte;
    }
    const mean = sum / count;
    const deviation = Math.sqrt(Math.max(0, squares / count - mean * mean));
    scale.push(deviation > 0 ? 1 / deviation : 1 / 255);
    offset.push(0 - mean * scale[channel]!);
  }
  const scaled = (table: Table): Table => ({ ...table, scale, offset });
  return {
    ...data,
    train: scaled(data.train),
    ...(data.validation && { validation: scaled(data.validation) }),
    ...(data.test && { test: scaled(data.test) }),
  };
}
