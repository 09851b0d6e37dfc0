/**
 * Rows to predict from: CSV as the run's data was, NPY, or IDX. The bytes decide, not the file's name.
 *
 * @module
 */

import { elementCount, featuresFrom, type NumberArray, showShape } from "../data/array.ts";
import { parseCsvFeatures } from "../data/csv_transform.ts";
import type { Features } from "../data/dataset.ts";
import { readPlain } from "../data/files.ts";
import { parseIdx } from "../data/idx.ts";
import { parseNpy } from "../data/npy.ts";
import { DataError } from "../errors.ts";
import type { Network } from "../network/network.ts";
import type { RunRecord } from "./run_folder.ts";

/** What the rows are for. */
export interface InputPurpose {
  /** The network. */
  readonly network: Network;
  /** What its training data was, where that is known. */
  readonly data: RunRecord["data"] | undefined;
}

/**
 * Reads rows for a network.
 *
 * @param path the file, plain or gzip
 * @param purpose the network and its training data
 * @returns features in the shape that the network takes
 * @throws {DataError} where the file cannot be read, or is not what the network takes
 */
export async function readInput(path: string, { network, data }: InputPurpose): Promise<Features> {
  const bytes = await readPlain(path);
  const array = parseArray(bytes, path);
  const { input, precision } = network.config;
  if (data?.transform) {
    if (array) throw new DataError(path, "a CSV file with the columns of the training data", "an array of numbers");
    const text = decode(bytes, path);
    return fit(parseCsvFeatures(text, { transform: data.transform, precision, where: path }), input, path);
  }
  if (!array) {
    const hint = data
      ? "the training data had no CSV columns"
      : "no config.json beside the checkpoint says what CSV columns mean";
    throw new DataError(path, `an NPY or IDX file (${hint})`, "other bytes");
  }
  const features = featuresFrom(oneRow(array, input), path);
  const scaling = features.features instanceof Uint8Array && data?.scale
    ? { scale: data.scale, ...(data.offset && { offset: data.offset }) }
    : {};
  return fit({ ...features, ...scaling }, input, path);
}

function parseArray(bytes: Uint8Array<ArrayBuffer>, path: string): NumberArray | undefined {
  if (bytes[0] === 0x93 && bytes[1] === 0x4e) return parseNpy(bytes, path);
  return bytes[0] === 0 && bytes[1] === 0 ? parseIdx(bytes, path) : undefined;
}

/** A single sample without an axis for rows gets one. */
function oneRow(array: NumberArray, input: readonly number[]): NumberArray {
  const single = showShape(array.shape) === showShape(input) ||
    (input.at(-1) === 1 && input.length > 1 && showShape(array.shape) === showShape(input.slice(0, -1)));
  return single ? { ...array, shape: [1, ...array.shape] } : array;
}

/**
 * Rows in the network's shape. Numbers alone do not tell the order of axes, so another shape is refused even where it has as many:
 * PyTorch's images, channels first, would give other classes.
 */
function fit(features: Features, input: readonly number[], path: string): Features {
  const { shape } = features;
  const flat = shape.length === 1 && shape[0] === elementCount(input);
  // Training, too, lays the pixels of one channel in a row for a network that begins with dense(); of colours nobody knows the order.
  const pixels = input.length === 1 && bare(shape).length === 2 && elementCount(shape) === input[0];
  if (flat || pixels || showShape(bare(shape)) === showShape(bare(input))) return { ...features, shape: input };
  const first = showShape([...shape.slice(1), ...shape.slice(0, 1)]) === showShape(input);
  const accepted = input.length === 1
    ? `rows of ${input[0]} numbers`
    : `rows of ${input.join(" × ")}, or of ${elementCount(input)} numbers in that order`;
  const hint = first && shape.length === 3 ? " (put the channels last)" : "";
  throw new DataError(path, accepted, `rows of ${bare(shape).join(" × ")}${hint}`);
}

/** A shape without a last axis of 1: images of one channel may leave that axis out. */
function bare(shape: readonly number[]): readonly number[] {
  return shape.length > 1 && shape.at(-1) === 1 ? shape.slice(0, -1) : shape;
}

function decode(bytes: Uint8Array<ArrayBuffer>, path: string): string {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch (cause) {
    throw new DataError(path, "UTF-8 text", "bytes that are not", { cause });
  }
}
