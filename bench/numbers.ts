/**
 * The data and initial weights that every side of a comparison makes bit for bit: see bench/peers/README.md.
 *
 * @module
 */

import type { Table } from "../mod.ts";

const [FEATURES, TEACHER, PARAMETERS] = [1, 2, 16];

/** The finaliser of the generator. */
function mix(value: number): number {
  let x = value >>> 0;
  x ^= x >>> 16;
  x = Math.imul(x, 0x7feb352d);
  x ^= x >>> 15;
  x = Math.imul(x, 0x846ca68b);
  x ^= x >>> 16;
  return x >>> 0;
}

/** A function from an index to a whole number below 2²⁴. */
export function draw(seed: number, stream: number): (index: number) => number {
  const key = mix((seed + Math.imul(stream, 0x85ebca6b)) >>> 0);
  return (index) => mix((Math.imul(index + 1, 0x9e3779b9) + key) >>> 0) >>> 8;
}

/** `rows` rows of uniform features with the labels of a linear teacher; images have the shape [height, width, channels]. */
export function uniformTable(
  options: { rows: number; shape: readonly number[]; classes: number; seed: number },
): Table {
  const { rows, shape, classes, seed } = options;
  const inputs = shape.reduce((product, axis) => product * axis, 1);
  const channels = shape.length === 3 ? shape[2]! : 1;
  const pixels = inputs / channels;
  const [feature, weight] = [draw(seed, FEATURES), draw(seed, TEACHER)];
  const teacher = Float64Array.from({ length: inputs * classes }, (_, index) => (weight(index) & 15) - 8);
  const features = new Float32Array(rows * inputs);
  const labels = new Uint32Array(rows);
  const scores = new Float64Array(classes);
  for (let row = 0; row < rows; row++) {
    scores.fill(0);
    for (let input = 0; input < inputs; input++) {
      const whole = feature(row * inputs + input);
      // The generator counts channel by channel, as PyTorch's images do.
      const place = input % pixels * channels + Math.floor(input / pixels);
      features[row * inputs + place] = whole / 2 ** 24;
      for (let c = 0; c < classes; c++) scores[c]! += (whole - 2 ** 23) * teacher[input * classes + c]!;
    }
    labels[row] = scores.indexOf(Math.max(...scores));
  }
  return { rows, shape, features, targets: { kind: "labels", classes, values: labels } };
}

/** Weights of the parameter tensor with number `index`, `outputs` × fan-in. */
export function initialWeights(
  options: { index: number; outputs: number; fanIn: number; seed: number },
): Float32Array<ArrayBuffer> {
  const { index, outputs, fanIn, seed } = options;
  const [value, limit] = [draw(seed, PARAMETERS + index), Math.sqrt(6 / fanIn)];
  return Float32Array.from({ length: outputs * fanIn }, (_, at) => Math.fround((value(at) / 2 ** 23 - 1) * limit));
}
