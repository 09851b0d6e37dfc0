/** Networks and rows that the tests of the decorrelated rule share. */

import { conv2d, cosine, dense, globalAvgPool2d, type Layer, maxPool2d, Network, relu, sgd, tanh } from "../../mod.ts";
import { table } from "../helpers.ts";

export const nets: Record<string, { input: number[]; layers: Layer[] }> = {
  // Wide enough for two stages, narrow enough for one, and 24 inputs for blocks.
  dense: { input: [24], layers: [dense(40), tanh(), dense(24), relu(), dense(3)] },
  conv: {
    input: [8, 8, 2],
    layers: [
      conv2d(6, { padding: [1, 1] }),
      relu(),
      maxPool2d(),
      conv2d(8, { stride: [2, 2] }),
      tanh(),
      globalAvgPool2d(),
      dense(3),
    ],
  },
};

export const BATCH = 10;

export const dataOf = (net: string) => table(40, { shape: nets[net]!.input, classes: 3 });

export interface Machine {
  readonly threads?: number;
  readonly precision?: "f32" | "f64";
}

export function networkOf(net: string, { threads = 1, precision = "f64" }: Machine = {}): Network {
  return Network.create({ ...nets[net]!, precision, threads, seed: 3 });
}

export const common = {
  epochs: 2,
  batchSize: BATCH,
  seed: 4,
  schedule: cosine({ finalFactor: 0.1 }),
  optimizer: sgd(0.05),
};

export const at = (values: ArrayLike<number>, columns: number) => (row: number, column: number) =>
  values[row * columns + column]!;
