/** The dual rule: the same bits in one pass and two, for any number of threads, after a resume; memory; asking changes nothing. */

import { assert, assertEquals, assertNotEquals, assertRejects } from "@std/assert";
import {
  adam,
  batchNorm,
  combine,
  conv2d,
  Dataset,
  decorrelated,
  dense,
  dropout,
  dual,
  type DualOptions,
  EngineError,
  flatten,
  gelu,
  groupNorm,
  type Layer,
  layerNorm,
  loadCheckpoint,
  maxPool2d,
  Network,
  type Optimizer,
  relu,
  type Rule,
  sgd,
  sparse,
  tanh,
  Trainer,
} from "../../mod.ts";
import { assertSameBits, bits, inTemporaryFolder, steps, table } from "../helpers.ts";
import { IMAGE, imageNets } from "./dual_helpers.ts";

const small = { input: [20], layers: [dense(32), relu(), dense(16), relu(), dense(3)] as Layer[] };

const optimizerFor = (options: DualOptions) => options.step === "hyperdual" ? sgd(1) : adam(1e-2);

interface Setting {
  readonly threads?: number;
  readonly layers?: readonly Layer[];
  readonly input?: readonly number[];
  readonly batchSize?: number;
  readonly optimizer?: Optimizer;
}

/** Bits after some steps; the last batch of an epoch is smaller. */
function trained(options: DualOptions, setting: Setting = {}): Promise<string> {
  return trainedBy(dual(options), { ...setting, optimizer: optimizerFor(options) });
}

async function trainedBy(rule: Rule, setting: Setting): Promise<string> {
  const { optimizer = adam(1e-2) } = setting;
  const { threads = 1, layers = small.layers, input = small.input, batchSize = 32 } = setting;
  using network = Network.create({ input, layers, threads, seed: 1 });
  using data = await Dataset.create(table(2 * batchSize + 9, { shape: input, classes: 3 }));
  const run = { rule, batchSize, epochs: 4, seed: 6, optimizer };
  using _trainer = await Trainer.create(network, data, run);
  await steps(network, data, 8);
  return bits(network);
}

Deno.test("two passes give the bits of one", async () => {
  const layers = [dense(24), layerNorm(), gelu(), dense(20), relu(), dropout(0.2), dense(18), tanh(), dense(3)];
  for (
    const options of [
      { shareLanes: false },
      { shareLanes: true },
      { shareLanes: false, lanes: 3, feedback: "ema", seedAt: "preactivation" },
      { shareLanes: true, step: "hyperdual" },
      { mode: "activity", lanes: 4, shareLanes: true },
      { mode: "activity", lanes: 4, shareLanes: false },
      { mode: "activity", lanes: 4 },
    ] as DualOptions[]
  ) {
    const [one, two] = [await trained(options, { layers }), await trained({ ...options, twoPass: true }, { layers })];
    assertSameBits(two, one, JSON.stringify(options));
  }
});

const images: Setting = { layers: imageNets["group norm, residual sum"]!, input: IMAGE, batchSize: 10 };

Deno.test("two passes give the bits of one on images", async () => {
  for (const options of [{}, { mode: "activity", lanes: 3, shareLanes: true }] as DualOptions[]) {
    for (const layers of Object.values(imageNets)) {
      const setting = { ...images, layers };
      const [one, two] = [await trained(options, setting), await trained({ ...options, twoPass: true }, setting)];
      assertSameBits(two, one, JSON.stringify(options));
    }
  }
});

Deno.test("memory of two passes does not grow with depth; with kept values it does", async () => {
  const memory = async (depth: number, options?: DualOptions) => {
    const hidden = Array.from({ length: depth }, () => [dense(64), relu()]).flat();
    using network = Network.create({ input: [64], layers: [...hidden, dense(3)], threads: 1 });
    using data = await Dataset.create(table(64, { shape: [64], classes: 3 }));
    using _trainer = await Trainer.create(network, data, { ...(options && { rule: dual(options) }), batchSize: 64 });
    const { values, gradients, tangents } = await network.trainingMemory();
    return values + gradients + tangents;
  };
  assertEquals(await memory(32, { twoPass: true }), await memory(2, { twoPass: true }));
  for (const options of [undefined, {}]) assert(await memory(32, options) > 3 * await memory(2, options));
  assert(await memory(32, { twoPass: true }) < 0.5 * await memory(32));
});

Deno.test("any number of threads gives the same bits", async () => {
  // Wide enough that products and directions are shared between threads.
  const setting = {
    layers: [dense(517), layerNorm(), gelu(), dense(389), relu(), dropout(0.1), dense(3)],
    input: [301],
    batchSize: 96,
  };
  for (
    const options of [
      {},
      { shareLanes: true, lanes: 2, twoPass: true },
      { mode: "activity", lanes: 3 },
      { mode: "exact", lanes: 64, budget: 1e11 },
      { mode: "weight", lanes: 2, force: true },
      { step: "hyperdual" },
    ] as DualOptions[]
  ) {
    const one = await trained(options, setting);
    for (const threads of [2, 3]) {
      assertSameBits(await trained(options, { ...setting, threads }), one, JSON.stringify(options));
    }
  }
});

Deno.test("any number of threads gives the same bits with batch normalisation, pooling, beside masks and beside decorrelated inputs", async () => {
  const image = [16, 16, 3];
  const layers = [conv2d(24), batchNorm(), relu(), maxPool2d(), conv2d(32), groupNorm(4), relu(), flatten(), dense(3)];
  const biased = dual({ allowBias: true });
  const masked = combine(dual(), sparse({ sparsity: 0.7, schedule: "rigl", every: 2 }));
  const turned = combine(dual(), decorrelated({ rate: 0.01 }));
  const plain = layers.filter(({ kind }) => kind !== "batchNorm");
  for (
    const [rule, setting] of [[biased, { layers }], [masked, { layers: plain }], [turned, { layers: plain }]] as const
  ) {
    const bitsFor = (threads: number) => trainedBy(rule, { ...setting, input: image, batchSize: 24, threads });
    const one = await bitsFor(1);
    for (const threads of [2, 3]) assertSameBits(await bitsFor(threads), one, rule.name);
  }
});

Deno.test("a resumed run goes on with the same bits", async () => {
  for (
    const options of [
      {},
      { shareLanes: true },
      { mode: "activity" },
      { mode: "weight", lanes: 2 },
      { step: "hyperdual" },
    ] as DualOptions[]
  ) {
    await inTemporaryFolder(async (folder) => {
      const file = `${folder}/run.safetensors`;
      using network = Network.create({ ...small, seed: 1 });
      using data = await Dataset.create(table(73, { shape: small.input, classes: 3 }));
      const run = { rule: dual(options), batchSize: 32, epochs: 4, seed: 6, optimizer: optimizerFor(options) };
      using trainer = await Trainer.create(network, data, run);
      await steps(network, data, 5);
      await trainer.save(file);
      const checkpoint = await loadCheckpoint(file);
      using other = checkpoint.network;
      using _resumed = await Trainer.resume(checkpoint, data);
      for (const one of [network, other]) await steps(one, data, 4);
      assertSameBits(bits(other), bits(network), JSON.stringify(options));
    });
  }
});

Deno.test("directions depend on the run's seed", async () => {
  const gradients = async (seed: number) => {
    using network = Network.create({ ...small, seed: 1 });
    const batch = table(9, { shape: small.input, classes: 3 });
    const found = await network.gradients(batch, { rule: dual({ mode: "activity" }), seed });
    return [...found.gradients.values()];
  };
  assertEquals(await gradients(1), await gradients(1));
  assertNotEquals(await gradients(1), await gradients(2));
});

Deno.test("gradientCosines() needs a step, changes nothing, and is 1 for back-propagation", async () => {
  using data = await Dataset.create(table(64, { shape: small.input, classes: 3 }));
  const run = async (ask: boolean) => {
    using network = Network.create({ ...small, seed: 1 });
    await assertRejects(() => network.gradientCosines(), EngineError, "no training run is attached");
    using _trainer = await Trainer.create(network, data, { rule: dual(), batchSize: 16 });
    await assertRejects(() => network.gradientCosines(), EngineError, "take a step first");
    for (let step = 0; step < 6; step++) {
      await steps(network, data, 1);
      if (ask) await network.gradientCosines();
    }
    return bits(network);
  };
  assertSameBits(await run(true), await run(false), "with and without asking");
  using network = Network.create({ ...small, seed: 1 });
  using _trainer = await Trainer.create(network, data, { batchSize: 16 });
  await steps(network, data, 1);
  const { all } = await network.gradientCosines();
  assert(Math.abs(all.cosine - 1) < 1e-6 && Math.abs(all.ratio - 1) < 1e-6, JSON.stringify(all));
});
