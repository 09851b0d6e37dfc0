/** Same seed, same bits: for any number of threads, any chunks; and what shuffling, batches and epochs mean. */

import { assert, assertEquals, assertNotEquals } from "@std/assert";
import {
  adam,
  adamW,
  Dataset,
  dense,
  dropout,
  gelu,
  type Layer,
  layerNorm,
  leakyRelu,
  Network,
  type Optimizer,
  relu,
  rmsProp,
  sgd,
  type Table,
  tanh,
  train,
  Trainer,
  type TrainOptions,
} from "../../mod.ts";
import type { ParameterArray } from "../../src/network/layers.ts";
import { assertSameBits, bits, bitsOf, steps, table } from "../helpers.ts";
import { assertClose, tolerance } from "../tolerance.ts";

type Precision = "f32" | "f64";

/**
 * Wide enough that every kernel shares its work (from 3 million operations on): the products have 2 · 192 · 300 · 1100
 * operations, and each elementwise layer costs 10 to 60 a value. Odd widths leave tails in every block.
 */
const wide = {
  input: [300],
  layers: [
    dense(1101),
    layerNorm(),
    gelu(),
    dropout(0.25),
    dense(517),
    relu(),
    dense(389, { bias: false }),
    tanh(),
    dropout(0.1),
    dense(10),
  ] as Layer[],
  batch: 192,
  // The last batch of an epoch is smaller.
  rows: 192 * 2 + 45,
};

/** Batches tall enough that products are cut by rows instead of columns. */
const tall = {
  input: [40],
  layers: [dense(120), leakyRelu(), layerNorm(), dense(60), gelu(), dense(10)] as Layer[],
  batch: 1500,
  rows: 3100,
};

const optimizers: Record<string, { optimizer: Optimizer; clipNorm?: number }> = {
  "sgd": { optimizer: sgd(0.05) },
  "sgd with weight decay": { optimizer: sgd(0.05, { weightDecay: 0.01 }) },
  "momentum": { optimizer: sgd(0.02, { momentum: 0.9, nesterov: true }) },
  "adam": { optimizer: adam(1e-3) },
  "adamW, clipped": { optimizer: adamW(1e-3), clipNorm: 0.3 },
  "rmsProp": { optimizer: rmsProp(1e-3) },
  "sgd, clipped": { optimizer: sgd(0.05), clipNorm: 0.3 },
};

interface Outcome {
  readonly parameters: string;
  readonly losses: readonly number[];
  readonly predictions: string;
  readonly evaluation: unknown;
}

/** Trains a new network for two epochs; everything that must not depend on threads. */
async function outcome(
  net: typeof wide,
  rows: Table,
  { precision, threads, ...options }: { precision: Precision; threads: number } & TrainOptions,
): Promise<Outcome> {
  using network = Network.create({ input: net.input, layers: net.layers, precision, threads, seed: 5 });
  assertEquals(network.describe().threads, threads);
  const losses: number[] = [];
  for await (const p of train(network, rows, { epochs: 2, batchSize: net.batch, seed: 11, ...options })) {
    losses.push(p.trainLoss, p.trainAccuracy!);
  }
  const predictions = bitsOf([await network.predict(rows)]);
  return { parameters: bits(network), losses, predictions, evaluation: await network.evaluate(rows) };
}

for (const precision of ["f32", "f64"] as const) {
  for (const [name, options] of Object.entries(optimizers)) {
    // Updates are generic over the element type: in f64, one with its fused form, one with state, one with clipping.
    if (precision === "f64" && !["sgd", "adam", "adamW, clipped"].includes(name)) continue;
    Deno.test(`train() gives the same bits on 1, 2 and 3 threads: ${precision} ${name}`, async () => {
      for (const net of [wide, tall]) {
        // Tall batches meet the same optimizers; two of them suffice.
        if (net === tall && !["sgd", "adam"].includes(name)) continue;
        const rows = table(net.rows, { shape: net.input, classes: 10 });
        const one = await outcome(net, rows, { precision, threads: 1, ...options });
        for (const threads of [2, 3]) {
          const many = await outcome(net, rows, { precision, threads, ...options });
          const what = `${net === wide ? "wide" : "tall"} network on ${threads} threads`;
          assertSameBits(many.parameters, one.parameters, `${what}, parameters`);
          assertSameBits(many.predictions, one.predictions, `${what}, predictions`);
          assertEquals([many.losses, many.evaluation], [one.losses, one.evaluation]);
        }
      }
    });
  }
}

Deno.test("gradients() gives the same bits on 1, 2 and 3 threads", async () => {
  const rows = table(wide.batch, { shape: wide.input, classes: 10 });
  const gradients = async (threads: number) => {
    using network = Network.create({ input: wide.input, layers: wide.layers, threads });
    const { loss, gradients } = await network.gradients(rows, { training: true });
    return `${loss} ${bitsOf([...gradients.values()])}`;
  };
  const one = await gradients(1);
  for (const threads of [2, 3]) assertSameBits(await gradients(threads), one, `${threads} threads`);
});

/** A small network for everything that is not about threads. */
const small = { input: [6], layers: [dense(16), relu(), dropout(0.3), dense(3)] as Layer[] };
const smallRows = table(50, { shape: small.input, classes: 3 });

async function trained(
  { networkSeed = 1, rows = smallRows, ...options }: TrainOptions & { networkSeed?: number; rows?: Table } = {},
): Promise<string> {
  using network = Network.create({ ...small, seed: networkSeed });
  for await (const _ of train(network, rows, { epochs: 3, batchSize: 8, seed: 1, ...options }));
  return bits(network);
}

Deno.test("train() depends on its seed and the network's, and on nothing else", async () => {
  const first = await trained();
  assertSameBits(await trained(), first, "the same seeds");
  assertNotEquals(await trained({ seed: 2 }), first);
  assertNotEquals(await trained({ networkSeed: 2 }), first);
});

Deno.test("Network.create() draws the same parameters for every number of threads, rounded to the precision", () => {
  const make = (precision: Precision, threads: number) => {
    using network = Network.create({ ...small, precision, threads, seed: 9 });
    return [...network.parameters().values()];
  };
  assertEquals(make("f32", 1), make("f32", 3));
  assertEquals(make("f32", 1), make("f64", 1).map((values): ParameterArray => Float32Array.from(values)));
});

Deno.test("Trainer.chunk() may end anywhere: single steps give the same bits", async () => {
  for (const options of [{ optimizer: adam(1e-2) }, { optimizer: sgd(0.1, { momentum: 0.9 }), clipNorm: 0.5 }]) {
    using network = Network.create({ ...small, seed: 1 });
    using data = await Dataset.create(smallRows);
    using _trainer = await Trainer.create(network, data, { epochs: 3, batchSize: 8, seed: 1, ...options });
    let done = false;
    while (!done) ({ done } = await steps(network, data, 1));
    assertSameBits(bits(network), await trained(options), JSON.stringify(options));
  }
});

Deno.test("a run takes epochs · ceil(rows / batch) steps; with dropLast, whole batches only", async () => {
  const count = async (options: TrainOptions) => {
    using network = Network.create(small);
    using trainer = await Trainer.create(network, smallRows, options);
    const rows: number[] = [];
    for (;;) {
      const progress = await trainer.epoch();
      rows.push(progress.rows);
      assertEquals(progress.totalSteps >= progress.step, true);
      if (progress.done) return { steps: progress.step, rows };
    }
  };
  assertEquals(await count({ epochs: 2, batchSize: 8 }), { steps: 14, rows: [50, 50] });
  assertEquals(await count({ epochs: 2, batchSize: 8, dropLast: true }), { steps: 12, rows: [48, 48] });
  assertEquals(await count({ epochs: 1, batchSize: 50 }), { steps: 1, rows: [50] });
  assertEquals(await count({ epochs: 1, batchSize: 50, dropLast: true }), { steps: 1, rows: [50] });
  // Two and a half epochs of seven steps are 17.5: rounded to 18.
  assertEquals(await count({ epochs: 2.5, batchSize: 8 }), { steps: 18, rows: [50, 50, 32] });
  assertEquals(await count({ epochs: 0.3, batchSize: 10 }), { steps: 2, rows: [20] });
  // Less than half a step is one step: a run without any would have no loss.
  assertEquals(await count({ epochs: 0.001, batchSize: 50 }), { steps: 1, rows: [50] });
});

Deno.test("a batch of all rows takes the step that gradients() tells", async () => {
  using network = Network.create({ input: [6], layers: [dense(8), tanh(), dense(3)], precision: "f64" });
  const before = network.parameters();
  const { gradients, loss } = await network.gradients(smallRows);
  for await (
    const p of train(network, smallRows, {
      epochs: 1,
      batchSize: 50,
      optimizer: sgd(0.5, { weightDecay: 0.1 }),
      shuffle: false,
    })
  ) {
    assert(Math.abs(p.trainLoss - loss) < 1e-14);
  }
  for (const [name, values] of network.parameters()) {
    const [old, gradient] = [before.get(name)!, gradients.get(name)!];
    const expected = old.map((w, index) => w - 0.5 * (gradient[index]! + 0.1 * w));
    assertClose({ name, limit: tolerance.formula.f64 }, values, expected);
  }
});

Deno.test("without shuffling rows come in their order; with it, each epoch has an order of its own", async () => {
  // The features of a row are its number: training on one row a step and a rate of 0 tells the row by its loss.
  const count = 12;
  const rows: Table = {
    rows: count,
    shape: [1],
    features: Float64Array.from({ length: count }, (_, row) => row),
    targets: { kind: "values", size: 1, values: new Float64Array(count) },
  };
  const order = async (shuffle: boolean, seed: number) => {
    const weightInit = new Float64Array([1]);
    using network = Network.create({
      input: [1],
      layers: [dense(1, { weightInit })],
      loss: { kind: "meanSquaredError" },
      precision: "f64",
    });
    using data = await Dataset.create(rows);
    using _trainer = await Trainer.create(network, data, { epochs: 2, batchSize: 1, shuffle, seed, optimizer: sgd(0) });
    const seen: number[] = [];
    let before = 0;
    for (let step = 0; step < 2 * count; step++) {
      const { lossSum } = await steps(network, data, 1);
      if (step === count) before = 0;
      seen.push(Math.round(Math.sqrt(lossSum - before)));
      before = lossSum;
    }
    return [seen.slice(0, count), seen.slice(count)] as const;
  };
  const inOrder = Array.from({ length: count }, (_, row) => row);
  assertEquals(await order(false, 1), [inOrder, inOrder]);
  const [first, second] = await order(true, 1);
  assertEquals([[...first].sort((a, b) => a - b), [...second].sort((a, b) => a - b)], [inOrder, inOrder]);
  assertNotEquals(first, inOrder);
  assertNotEquals(first, second);
  assertEquals(await order(true, 1), [first, second]);
  assertNotEquals((await order(true, 2))[0], first);
});

Deno.test("evaluate() and predict() give the same bits whole and in parts", async () => {
  using network = Network.create({ ...small, seed: 3 });
  const rows = table(700, { shape: small.input, classes: 3 });
  const whole = await network.predict(rows.features);
  for (const [from, to] of [[0, 1], [255, 257], [300, 700]] as const) {
    const part = await network.predict(rows.features.slice(from * 6, to * 6) as Float32Array<ArrayBuffer>);
    assertEquals(part, whole.slice(from * 3, to * 3) as ParameterArray);
  }
});
