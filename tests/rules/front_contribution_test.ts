/** Front contribution: trajectories of back-propagation, and every refusal's sentence. */

import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import {
  adam,
  backprop,
  ConfigError,
  Dataset,
  dense,
  dropout,
  EngineError,
  flatten,
  frontContribution,
  type FrontContributionOptions,
  gelu,
  Gram,
  type Layer,
  layerNorm,
  type Loss,
  meanSquaredError,
  Network,
  relu,
  type Rule,
  sgd,
  sigmoid,
  type Table,
  tanh,
  Trainer,
  type TrainOptions,
} from "../../mod.ts";
import type { ParameterArray } from "../../src/network/layers.ts";
import { loadCheckpoint } from "../../src/run/checkpoint.ts";
import { assertSameBits, bits, bitsOf, inTemporaryFolder, numbers, scramble, steps, table } from "../helpers.ts";

/** A network and rows for a run. */
interface Case {
  readonly input: readonly number[];
  readonly layers: readonly Layer[];
  readonly rows: Table;
  readonly loss?: Loss;
  readonly precision?: "f32" | "f64";
}

type Run = TrainOptions & { readonly threads?: number };

/** A network in training, with single steps. */
async function start({ rows, precision = "f64", ...net }: Case, { threads, ...options }: Run) {
  const network = Network.create({ ...net, precision, seed: 3, ...(threads !== undefined && { threads }) });
  scramble(network, 50);
  // Pre-activations of about 1, whatever the width.
  for (const [name, values] of network.parameters()) {
    if (!name.endsWith("weight")) continue;
    const width = network.tensors().find((tensor) => tensor.name === name)!.shape.at(-1)!;
    network.write(name, values.map((w) => w * 1.6 / Math.sqrt(width)) as ParameterArray);
  }
  const data = await Dataset.create(rows);
  const trainer = await Trainer.create(network, data, { epochs: 1e6, seed: 4, ...options });
  return {
    network,
    trainer,
    data,
    /** Takes single steps; an epoch's end is no obstacle. */
    step: (count: number) => steps(network, data, count),
    outputs: async () => {
      using whole = await Dataset.create(rows);
      return await predictions(network, whole, rows);
    },
    [Symbol.dispose]: () => {
      trainer[Symbol.dispose]();
      data[Symbol.dispose]();
      network[Symbol.dispose]();
    },
  };
}

async function predictions(network: Network, _: Dataset, rows: Table): Promise<ParameterArray> {
  return await network.predict({ rows: rows.rows, shape: rows.shape, features: rows.features });
}

function difference(a: ArrayLike<number>, b: ArrayLike<number>): number {
  assertEquals(a.length, b.length);
  let worst = 0;
  for (let index = 0; index < a.length; index++) worst = Math.max(worst, Math.abs(a[index]! - b[index]!));
  return worst;
}

/** Largest difference of outputs along the trajectories of two rules, looked at every ten steps, and of parameters at the end. */
async function compare(net: Case, options: Run, rule: Rule, { count = 200, every = 20 } = {}) {
  using plain = await start(net, { ...options, rule: backprop() });
  using front = await start(net, { ...options, rule });
  let outputs = 0;
  let moved = 0;
  const before = await plain.outputs();
  for (let step = 0; step < count; step += every) {
    await plain.step(every);
    await front.step(every);
    const [expected, found] = [await plain.outputs(), await front.outputs()];
    outputs = Math.max(outputs, difference(found, expected));
    moved = Math.max(moved, difference(before, expected));
  }
  const expected = plain.network.parameters();
  const parameters = Math.max(
    ...[...front.network.parameters()].map(([name, values]) => difference(values, expected.get(name)!)),
  );
  return { outputs, parameters, moved };
}

const activations: Record<string, () => Layer> = { relu, tanh, sigmoid, gelu };
const kinds: Record<string, Run> = {
  "plain": { optimizer: sgd(0.05) },
  "momentum": { optimizer: sgd(0.01, { momentum: 0.9 }) },
  "Nesterov": { optimizer: sgd(0.01, { momentum: 0.9, nesterov: true }) },
  "decay": { optimizer: sgd(0.05, { weightDecay: 0.01 }) },
  "momentum and decay": { optimizer: sgd(0.01, { momentum: 0.9, weightDecay: 0.01 }) },
  "Nesterov and decay": { optimizer: sgd(0.01, { momentum: 0.9, nesterov: true, weightDecay: 0.01 }) },
  "clipping": { optimizer: sgd(0.1), clipNorm: 0.4 },
  "clipping, momentum and decay": { optimizer: sgd(0.02, { momentum: 0.8, weightDecay: 0.01 }), clipNorm: 0.4 },
};
/** For rows as small as in these tests no gain is predicted. */
const gram = (options: FrontContributionOptions = {}) => frontContribution({ collapse: "gram", force: true, ...options });

for (const [activation, layer] of Object.entries(activations)) {
  for (const depth of [1, 2, 3]) {
    Deno.test(`gram: ${activation}, ${depth} hidden layers: outputs along 200 steps and weights are those of back-propagation`, async () => {
      const hidden = [17, 12, 9].slice(0, depth).flatMap((units) => [dense(units), layer()]);
      const net = { input: [40], layers: [...hidden, dense(4)], rows: table(45, { shape: [40], classes: 4 }) };
      for (const [kind, options] of Object.entries(kinds)) {
        for (const batchSize of [45, 10]) {
          const found = await compare(net, { ...options, batchSize }, gram());
          const what = `${kind}, batch ${batchSize}: ${JSON.stringify(found)}`;
          assert(found.outputs <= 1e-10 && found.parameters <= 1e-10 && found.moved > 1e-3, what);
        }
      }
    });
  }
}

Deno.test("gram: values as targets, layers without bias, dropout and normalisation above, images, f32", async () => {
  const rows = { ...table(30, { shape: [4, 5, 2], values: 3 }) };
  const layers = [flatten(), dense(16, { bias: false }), layerNorm(), tanh(), dropout(0.2), dense(3)];
  const net = { input: [4, 5, 2], layers, rows, loss: meanSquaredError() };
  const options = { optimizer: sgd(0.05, { momentum: 0.5 }), batchSize: 7, dropLast: true };
  const found = await compare(net, options, gram());
  assert(found.outputs <= 1e-10 && found.parameters <= 1e-10 && found.moved > 1e-3, JSON.stringify(found));
  const single = await compare({ ...net, precision: "f32" }, options, gram());
  assert(single.outputs <= 1e-4 && single.parameters <= 1e-4 && single.moved > 1e-3, JSON.stringify(single));
});

/** The four rows of XOR. */
const xor: Table = {
  rows: 4,
  shape: [2],
  features: new Float64Array([0, 0, 0, 1, 1, 0, 1, 1]),
  targets: { kind: "values", size: 1, values: new Float64Array([0, 1, 1, 0]) },
};

for (const [name, layer] of Object.entries({ relu, tanh, sigmoid })) {
  Deno.test(`gram: XOR with ${name} stays within 1e-12 of back-propagation over 5,000 steps`, async () => {
    for (const hidden of [2, 4]) {
      const net = { input: [2], layers: [dense(hidden), layer(), dense(1)], rows: xor, loss: meanSquaredError() };
      const found = await compare(net, { optimizer: sgd(0.1), batchSize: 4 }, gram(), { count: 5000, every: 250 });
      assert(found.outputs <= 1e-12 && found.moved > 0.1, JSON.stringify(found));
    }
  });
}
