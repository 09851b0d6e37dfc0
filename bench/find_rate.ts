/**
 * How good the suggestions of `findLearningRate` are: for networks on the embedded data and three optimizers, the rate of a grid at
 * which a whole run ends with the smallest loss on test rows, and by what factor suggestions for other seeds miss it. Rates beside the
 * best of a grid in steps of √10 are as good as it within its resolution, a factor of 1.8.
 *
 * deno run --allow-ffi --allow-read --allow-env bench/find_rate.ts [--only glyphs] [--seeds 3]
 *
 * @module
 */

// deno-lint-ignore-file no-console -- a program whose output is its purpose

import {
  adam,
  cnn,
  type Data,
  findLearningRate,
  glyphs,
  mlp,
  type Model,
  Network,
  type Optimizer,
  sgd,
  spectra,
  spirals,
  train,
} from "../mod.ts";
import { number } from "../src/config.ts";
import { isDivergence } from "../src/errors.ts";
import { median } from "../src/statistics.ts";
import { only, option, readOptions, script } from "./options.ts";

/** Rates of whole runs. */
const GRID = Array.from({ length: 13 }, (_, index) => 10 ** (-5 + index / 2));

const OPTIMIZERS: Readonly<Record<string, (learningRate: number) => Optimizer>> = {
  adam,
  sgd,
  "sgd, momentum 0.9": (learningRate) => sgd(learningRate, { momentum: 0.9 }),
};

interface Task {
  readonly name: string;
  readonly data: Data;
  readonly model: Model;
  readonly batchSize: number;
  readonly epochs: number;
}

const TASKS: readonly Task[] = [
  {
    name: "glyphs 784-128-10",
    data: glyphs({ rows: 4000 }),
    model: perceptron([784], 10, 128),
    batchSize: 64,
    epochs: 5,
  },
  {
    name: "glyphs 784-256-128-10",
    data: glyphs({ rows: 1000 }),
    model: perceptron([784], 10, 256, 128),
    batchSize: 100,
    epochs: 20,
  },
  {
    name: "glyphs cnn",
    data: glyphs({ rows: 1000 }),
    model: cnn({ input: [28, 28, 1], outputs: 10 }),
    batchSize: 50,
    epochs: 3,
  },
  { name: "spirals 2-64-64-3", data: spirals(), model: perceptron([2], 3, 64, 64), batchSize: 32, epochs: 20 },
  { name: "spirals 2-32-3", data: spirals(), model: perceptron([2], 3, 32), batchSize: 128, epochs: 20 },
  { name: "spectra 5000-32-4", data: spectra(), model: perceptron([5000], 4, 32), batchSize: 20, epochs: 10 },
];

function perceptron(input: readonly number[], outputs: number, ...hidden: number[]): Model {
  return mlp({ input, outputs, hidden });
}

const { tasks, seeds } = readOptions({
  name: "bench/find_rate.ts",
  usage: script("bench/find_rate.ts"),
  description: "How far the suggestions of the rate finder are from the best rate of a grid of whole runs.",
  options: [
    option("only", "text", ["tasks whose name has this in it (all)", "TEXT"]),
    option("seeds", "number", ["suggestions for each task and optimizer (3)", "N"]),
  ],
}, (values) => ({
  tasks: only(TASKS, ({ name }) => name, values.only),
  seeds: number("--seeds", values.seeds ?? 3, { min: 1, whole: true }),
}));

/** Loss of the test rows after a whole run; infinite where it diverged. */
async function lossAfter({ data, model, batchSize, epochs }: Task, optimizer: Optimizer): Promise<number> {
  using network = Network.create({ ...model, seed: 1 });
  try {
    for await (const _ of train(network, data.train, { optimizer, batchSize, epochs, seed: 1 }));
    return (await network.evaluate(data.test!)).loss;
  } catch (fault) {
    if (isDivergence(fault)) return Infinity;
    throw fault;
  }
}

const misses: number[] = [];
for (const task of tasks) {
  for (const [kind, make] of Object.entries(OPTIMIZERS)) {
    let [best, least] = [NaN, Infinity];
    for (const rate of GRID) {
      const loss = await lossAfter(task, make(rate));
      if (loss < least) [best, least] = [rate, loss];
    }
    const found: string[] = [];
    for (let seed = 2; seed < 2 + seeds; seed++) {
      using network = Network.create({ ...task.model, seed });
      const options = { optimizer: make(1), batchSize: task.batchSize, seed };
      const { suggested } = await findLearningRate(network, task.data, options);
      misses.push(Math.max(suggested / best, best / suggested));
      found.push(suggested.toPrecision(2));
    }
    console.log(`${task.name}, ${kind}: best ${best.toPrecision(2)}, suggested ${found.join(", ")}`);
  }
}
const beyond = (factor: number) => misses.filter((miss) => miss > factor).length;
console.log(
  `${misses.length} suggestions: median miss ×${median(misses).toFixed(1)}, by more than 3.2 ${beyond(3.2)}, ` +
    `by more than 10 ${beyond(10)}`,
);
