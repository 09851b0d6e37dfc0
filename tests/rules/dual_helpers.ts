/** Networks and rows that the tests of the dual rule share. */

import {
  avgPool2d,
  batchNorm,
  conv2d,
  Dataset,
  dense,
  dropout,
  dropout2d,
  flatten,
  gelu,
  globalAvgPool2d,
  groupNorm,
  type Layer,
  layerNorm,
  leakyRelu,
  type Loss,
  maxPool2d,
  Network,
  type ParameterArray,
  relu,
  residual,
  type Rule,
  sgd,
  sigmoid,
  softmax,
  softmaxCrossEntropy,
  type Table,
  tanh,
  Trainer,
  type TrainOptions,
} from "../../mod.ts";
import { scramble, steps, table } from "../helpers.ts";
import { assertClose } from "../tolerance.ts";

/** Networks from 6 inputs to 3 outputs; together they have every layer. */
export const nets: Readonly<Record<string, readonly Layer[]>> = {
  "dense, relu": [dense(9), relu(), dense(7), relu(), dense(3)],
  "every activation": [dense(5), tanh(), dense(5), sigmoid(), dense(5), leakyRelu(0.2), dense(5), gelu(), dense(3)],
  "norm and softmax": [layerNorm({ epsilon: 0.1 }), dense(6), layerNorm(), gelu(), dense(5), softmax(), dense(3)],
  "dropout": [dropout(0.2), dense(9), relu(), dropout(0.4), dense(7), dropout(0.1), tanh(), dense(3)],
  "activation last": [dense(6), tanh(), dense(3), sigmoid()],
};

/** Shape of the images below. */
export const IMAGE = [6, 5, 2];

/** Networks for images with 3 outputs; together they have every layer of images that keeps the rows of a batch apart. */
export const imageNets: Readonly<Record<string, readonly Layer[]>> = {
  "convolutions and pooling": [
    conv2d(4, { padding: "same" }),
    tanh(),
    maxPool2d(3, { stride: 2, padding: 1 }),
    conv2d(5, { kernel: 2 }),
    gelu(),
    avgPool2d(2, { stride: 1 }),
    flatten(),
    dense(3),
  ],
  "group norm, residual sum": [
    conv2d(4, { padding: "same", groups: 2 }),
    groupNorm(2),
    sigmoid(),
    residual([conv2d(4, { padding: "same" }), groupNorm(4), gelu()]),
    dropout2d(0.2),
    globalAvgPool2d(),
    dense(3),
  ],
};

/** Networks whose normalisation mixes the rows of a batch, and the shape of their inputs. */
export const mixingNets: Readonly<Record<string, readonly [input: readonly number[], layers: readonly Layer[]]>> = {
  "batch norm between dense layers": [[6], [dense(4), batchNorm(), relu(), dense(4), batchNorm(), dense(3)]],
  "batch norm of images": [IMAGE, [batchNorm(), conv2d(3), batchNorm(), relu(), globalAvgPool2d(), dense(3)]],
};

/** All of them with the shapes of their inputs. */
export const everyNet: readonly (readonly [name: string, input: readonly number[], layers: readonly Layer[]])[] = [
  ...Object.entries(nets).map(([name, layers]) => [name, [6], layers] as const),
  ...Object.entries(imageNets).map(([name, layers]) => [name, IMAGE, layers] as const),
  ...Object.entries(mixingNets).map(([name, [input, layers]]) => [name, input, layers] as const),
];

/** Rows whose targets fit a loss. */
export function rowsFor(loss: Loss, rows: number, input: readonly number[] = [6]): Table {
  return table(rows, { shape: input, ...(loss.kind === "softmaxCrossEntropy" ? { classes: 3 } : { values: 3 }) });
}

/** Parameters after steps in f64. */
export async function after(
  { layers, rule, input = [6], loss = softmaxCrossEntropy(), count = 20, ...options }:
    & {
      readonly layers: readonly Layer[];
      readonly rule?: Rule;
      readonly input?: readonly number[];
      readonly loss?: Loss;
      readonly count?: number;
    }
    & Pick<TrainOptions, "optimizer" | "clipNorm" | "batchSize" | "epochs">,
): Promise<Map<string, ParameterArray>> {
  using network = Network.create({ input, layers, loss, precision: "f64", threads: 1, seed: 2 });
  scramble(network, 5);
  using data = await Dataset.create(rowsFor(loss, 24, input));
  const plain = { optimizer: sgd(0.05), batchSize: 8, epochs: 100, seed: 4 };
  using _trainer = await Trainer.create(network, data, { ...plain, ...options, ...(rule && { rule }) });
  await steps(network, data, count);
  return network.parameters();
}

/** Fails unless all parameters agree. */
export function assertSameParameters(
  { name, limit }: { readonly name: string; readonly limit: number },
  found: Map<string, ParameterArray>,
  expected: Map<string, ParameterArray>,
): void {
  for (const [parameter, values] of expected) {
    assertClose({ name: `${name}, ${parameter}`, limit }, found.get(parameter)!, values);
  }
}
