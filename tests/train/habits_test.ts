/** Accumulated gradients, class weights and running averages: what they compute, resumed bits, and what is refused. */

import { assert, assertEquals, assertRejects } from "@std/assert";
import {
  adam,
  batchNorm,
  combine,
  ConfigError,
  conv2d,
  Dataset,
  decorrelated,
  dense,
  dropout,
  dual,
  type DualOptions,
  EngineError,
  flatten,
  frontContribution,
  type Layer,
  loadCheckpoint,
  memAop,
  Network,
  relu,
  type Rule,
  sgd,
  sparse,
  type Table,
  train,
  Trainer,
  type TrainOptions,
} from "../../mod.ts";
import { assertSameBits, bits, inTemporaryFolder, steps, table } from "../helpers.ts";
import { assertClose } from "../tolerance.ts";

const layers: Layer[] = [dense(24), relu(), dropout(0.4), dense(4)];
const rows = table(90, { shape: [6], classes: 4 });

/** 90 rows in batches of 16: six steps an epoch, the last of ten rows. */
const common = { epochs: 3, batchSize: 16, seed: 8 };

async function trained(options: TrainOptions, given: { input?: number[]; layers?: Layer[]; data?: Table } = {}) {
  const { input = [6], data = rows } = given;
  const network = Network.create({ input, layers: given.layers ?? layers, precision: "f64", seed: 2 });
  for await (const _ of train(network, data, { ...common, ...options }));
  return network;
}

function assertAlike(found: Network, expected: Network, what: string): void {
  for (const [name, values] of expected.parameters()) {
    assertClose({ name: `${what}: ${name}`, limit: 1e-11 }, found.read(name), values);
  }
}

Deno.test("accumulate gives the parameters of whole batches, also in unequal parts, clipped and with momentum", async () => {
  const runs: TrainOptions[] = [
    { optimizer: sgd(0.1, { momentum: 0.9 }) },
    { optimizer: adam(1e-2), clipNorm: 0.1 },
    { optimizer: adam(1e-2), classWeights: [1, 2, 0, 0.5] },
  ];
  for (const options of runs) {
    using whole = await trained(options);
    for (const accumulate of [2, 3, 16]) {
      using parts = await trained({ ...options, accumulate });
      assertAlike(parts, whole, `${accumulate} parts`);
    }
  }
  const images = { input: [6, 6, 2], layers: [conv2d(3), relu(), flatten(), dense(3)] };
  const data = table(40, { shape: [6, 6, 2], classes: 3 });
  using whole = await trained({ optimizer: adam(1e-2) }, { ...images, data });
  using parts = await trained({ optimizer: adam(1e-2), accumulate: 5 }, { ...images, data });
  assertAlike(parts, whole, "images");
});

Deno.test("accumulate gives the parameters of whole batches under rules whose gradients add up", async () => {
  const rules: Record<string, Rule> = {
    "static masks": sparse({ sparsity: 0.5 }),
    "gradual pruning": sparse({ sparsity: 0.6, schedule: "gmp", every: 3 }),
    "sparse and dense phases": sparse({ sparsity: 0.6, schedule: "acdc", every: 2 }),
    "random growth": sparse({ sparsity: 0.5, schedule: "set", every: 3 }),
    "exact dual numbers": dual({ mode: "exact" }),
    "weight directions": dual({ mode: "weight", lanes: 5 }),
    "exact dual numbers under masks": combine(dual({ mode: "exact" }), sparse({ sparsity: 0.5 })),
  };
  for (const [name, rule] of Object.entries(rules)) {
    for (const options of [{ optimizer: adam(1e-2) }, { optimizer: sgd(0.1, { momentum: 0.9 }), clipNorm: 0.1 }]) {
      using whole = await trained({ ...options, rule });
      using parts = await trained({ ...options, rule, accumulate: 3 });
      assertAlike(parts, whole, name);
      if (name.includes("masks") || name.includes("growth")) {
        const [mask, other] = [parts.mask("0"), whole.mask("0")];
        assertEquals(mask, other);
        assert(mask.includes(0), "there is a mask");
      }
    }
  }
  using whole = await trained({ rule: dual({ mode: "local" }), optimizer: sgd(0.1) }, { layers: [dense(4)] });
  using parts = await trained({ rule: dual({ mode: "local" }), optimizer: sgd(0.1), accumulate: 5 }, {
    layers: [dense(4)],
  });
  assertAlike(parts, whole, "local");
  // Masks that a network has already.
  const masked = async (accumulate: number) => {
    const network = Network.create({ input: [6], layers, precision: "f64", seed: 2 });
    await network.sparsify({ sparsity: 0.5 });
    for await (const _ of train(network, rows, { ...common, accumulate }));
    return network;
  };
  using one = await masked(1);
  using three = await masked(3);
  assertAlike(three, one, "masks of the network");
});

Deno.test("accumulate needs the memory of a part only", async () => {
  const memory = async (accumulate: number) => {
    using network = Network.create({ input: [6], layers });
    using _trainer = await Trainer.create(network, rows, { ...common, accumulate });
    return (await network.trainingMemory()).values;
  };
  const [whole, half] = [await memory(1), await memory(2)];
  assert(half <= whole / 2, `${half} of ${whole}`);
});

Deno.test("classWeights: a class of weight 2 counts as if its rows were there twice", async () => {
  const { values } = rows.targets;
  const twice = [...values.keys()].flatMap((row) => values[row] === 1 ? [row, row] : [row]);
  const doubled: Table = {
    rows: twice.length,
    shape: [6],
    features: Float32Array.from(twice.flatMap((row) => [...rows.features.subarray(row * 6, row * 6 + 6)])),
    targets: { kind: "labels", classes: 4, values: Uint32Array.from(twice, (row) => values[row]!) },
  };
  const plain: Layer[] = [dense(24), relu(), dense(4)];
  const options = { optimizer: sgd(0.5), epochs: 20 };
  using weighed = await trained({ ...options, classWeights: [3, 6, 3, 3], batchSize: 90 }, { layers: plain });
  using expected = await trained({ ...options, batchSize: doubled.rows }, { layers: plain, data: doubled });
  assertAlike(weighed, expected, "class weights");
});

Deno.test("classWeights: a batch of a class that counts nothing changes nothing", async () => {
  const one: Table = { ...rows, targets: { kind: "labels", classes: 4, values: new Uint32Array(90).fill(2) } };
  using network = await trained({ optimizer: sgd(1), classWeights: [1, 1, 0, 1] }, { data: one });
  using fresh = Network.create({ input: [6], layers, precision: "f64", seed: 2 });
  assertSameBits(bits(network), bits(fresh), "weights");
});

Deno.test("averageDecay keeps averages by the formula; train() leaves them in the network", async () => {
  const body: Layer[] = [dense(5), batchNorm(), relu(), dense(4)];
  using network = Network.create({ input: [6], layers: body, precision: "f64", seed: 2 });
  using data = await Dataset.create(rows);
  const options = { ...common, optimizer: adam(1e-2), averageDecay: 0.3 };
  using trainer = await Trainer.create(network, data, options);
  const names = network.tensors().filter(({ group }) => ["parameter", "buffer"].includes(group)).map(({ name }) =>
    name
  );
  const expected = new Map(names.map((name) => [name, network.read(name)]));
  for (let step = 0; step < 10; step++) {
    await trainer.step();
    const share = 1 - Math.min(0.3, (1 + step) / (10 + step));
    for (const [name, average] of expected) {
      const values = network.read(name);
      values.forEach((value, index) => average[index]! += share * (value - average[index]!));
    }
  }
  const before = bits(network);
  await trainer.withAverage(async () => {
    for (const [name, average] of expected) assertClose({ name, limit: 1e-12 }, network.read(name), average);
    await assertRejects(() => trainer.step(), EngineError, "the averages are in the place of the parameters");
    await assertRejects(() => trainer.save("never"), EngineError, "the averages are in the place of the parameters");
  });
  assertSameBits(bits(network), before, "after withAverage");
  assertClose({ name: "average", limit: 1e-12 }, network.read("average.0.weight"), expected.get("0.weight")!);

  // The same run to its end: what train() leaves are the averages, and it validates them.
  using other = Network.create({ input: [6], layers: body, precision: "f64", seed: 2 });
  using raw = Network.create({ input: [6], layers: body, precision: "f64", seed: 2 });
  using rest = await Trainer.create(raw, rows, { ...common, optimizer: adam(1e-2) });
  for (let done = false; !done;) ({ done } = await rest.epoch());
  let reported = NaN;
  for await (const p of train(other, { name: "x", train: rows, validation: rows }, options)) {
    reported = p.validation!.loss;
  }
  assert(bits(other) !== bits(raw), "the averages differ from the last parameters");
  assertEquals(reported, (await other.evaluate(rows)).loss);
});

/** Rules under which plain weights come and go, or are behind something else. */
const averaged: Record<string, Rule> = {
  "static masks": sparse({ sparsity: 0.5 }),
  "masks that grow by gradient": sparse({ sparsity: 0.5, schedule: "rigl", every: 3, end: 1 }),
  "masks that grow at random": sparse({ sparsity: 0.5, schedule: "set", every: 3, end: 1 }),
  "gradual pruning": sparse({ sparsity: 0.7, schedule: "gmp", every: 3, end: 1 }),
  "sparse and dense phases": sparse({ sparsity: 0.6, schedule: "acdc", every: 2, begin: 0.2, end: 0.9 }),
  "decorrelation, two stages": decorrelated({ rate: 0.05, every: 1 }),
  "decorrelation without drift": decorrelated({ rate: 0.05, every: 1, form: "driftFree" }),
  "decorrelation, precomputed": decorrelated({ rate: 0.05, every: 2, first: "precompute" }),
  "decorrelation, in principal axes": decorrelated({ rate: 0.05, every: 2, first: "axes" }),
  "mem-aop behind decorrelation": combine(decorrelated({ rate: 0.05 }), memAop({ k: 4, minSize: 0 })),
  "dual numbers": dual(),
};

for (const [name, rule] of Object.entries(averaged)) {
  Deno.test(`averageDecay averages plain parameters: ${name}`, async () => {
    // Of 6, 24 and 4 units at 16 rows: two stages where there are many outputs, fused where there are few.
    using network = Network.create({ input: [6], layers, precision: "f64", seed: 2 });
    using data = await Dataset.create(rows);
    using trainer = await Trainer.create(network, data, { ...common, optimizer: adam(1e-2), averageDecay: 0.8, rule });
    const names = [...network.parameters().keys()];
    const plain = (name: string) => network.read(name, { folded: true });
    const maskOf = (name: string) => name.endsWith(".weight") ? network.mask(name.split(".")[0]!) : undefined;
    const expected = new Map(names.map((name) => [name, plain(name)]));
    const masks = new Map(names.map((name) => [name, maskOf(name)]));
    let changes = 0;
    for (let step = 0; step < 18; step++) {
      await trainer.step();
      const share = 1 - Math.min(0.8, (1 + step) / (10 + step));
      for (const [name, average] of expected) {
        const [values, mask, before] = [plain(name), maskOf(name), masks.get(name)];
        values.forEach((value, index) => {
          // A weight that leaves the mask takes its average along; one that joins begins at 0.
          const stays = mask === undefined || mask[index] === 1;
          const was = before === undefined || before[index] === 1;
          average[index] = stays ? (was ? average[index]! : 0) * (1 - share) + share * value : 0;
          if (stays !== was) changes++;
        });
        masks.set(name, mask);
      }
    }
    assertEquals(changes > 0, /grow|pruning|phases/.test(name), `${changes} changes of masks`);
    const [before, loss] = [bits(network), (await network.evaluate(rows)).loss];
    using other = Network.create({ input: [6], layers, precision: "f64" });
    await trainer.withAverage(async () => {
      for (const [name, average] of expected) {
        assertClose({ name, limit: 1e-11 }, network.read(name), average);
        assertClose({ name, limit: 1e-11 }, plain(name), average);
        other.write(name, average);
      }
      const found = (await network.evaluate(rows)).loss;
      assertClose({ name: "loss", limit: 1e-11 }, [found], [(await other.evaluate(rows)).loss]);
      assert(Math.abs(found - loss) > 1e-6, "the average is another network");
    });
    assertSameBits(bits(network), before, "after withAverage");
    assertEquals((await network.evaluate(rows)).loss, loss);
    await trainer.keepAverage();
    trainer[Symbol.dispose]();
    for (const [name, average] of expected) assertClose({ name, limit: 1e-11 }, network.read(name), average);
  });

  Deno.test(`runs with averages resume with the same bits: ${name}`, async () => {
    await assertResumes({ ...common, optimizer: adam(1e-2), averageDecay: 0.9, rule }, [0, 3, 4, 11, 17]);
  });
}

Deno.test("runs with accumulated gradients, class weights and averages resume with the same bits", async () => {
  const more = { accumulate: 3, classWeights: [1, 2, 1, 0.5], averageDecay: 0.9 };
  await assertResumes({ ...common, optimizer: adam(1e-2), ...more }, [0, 1, 5, 6, 9, 17]);
});

/** A run with averages ends with the same bits, wherever it was stopped, saved and resumed. */
async function assertResumes(options: TrainOptions, stops: readonly number[]): Promise<void> {
  await inTemporaryFolder(async (folder) => {
    const path = `${folder}/run.safetensors`;
    using whole = Network.create({ input: [6], layers, seed: 2 });
    for await (const _ of train(whole, rows, options));
    for (const stop of stops) {
      {
        using network = Network.create({ input: [6], layers, seed: 2 });
        using data = await Dataset.create(rows);
        using trainer = await Trainer.create(network, data, options);
        await steps(network, data, stop);
        await trainer.save(path);
      }
      const checkpoint = await loadCheckpoint(path);
      using network = checkpoint.network;
      using trainer = await Trainer.resume(checkpoint, rows);
      for (let done = false; !done;) ({ done } = await trainer.epoch());
      await trainer.keepAverage();
      assertSameBits(bits(network), bits(whole), `stopped after ${stop} steps`);
    }
  });
}

Deno.test("a plain run's bits do not depend on the new options at their defaults", async () => {
  using plain = await trained({ optimizer: adam(1e-2) });
  using weighed = await trained({ optimizer: adam(1e-2), accumulate: 1, averageDecay: 0 });
  // A decay of 0 keeps the last values.
  assertAlike(weighed, plain, "decay 0");
});

Deno.test("what cannot be combined is refused by name", async () => {
  using network = Network.create({ input: [6], layers });
  const refused = async (options: TrainOptions, message: string, data: Table = rows) => {
    const fault = await assertRejects(async () => {
      using _trainer = await Trainer.create(network, data, { ...common, ...options });
    }, Error);
    assert(fault instanceof ConfigError || fault instanceof EngineError, String(fault));
    assertEquals(fault.message, message);
  };
  await refused(
    { accumulate: 17 },
    "Cannot use accumulate: expected a whole number from 1 to 16 (the rows of a batch) but found 17",
  );
  await refused({ accumulate: 1.5 }, "Cannot use accumulate: expected a whole number from 1 up but found 1.5");
  const whole: (readonly [Rule, string])[] = [
    [memAop({ k: 4 }), "mem-aop, which chooses among the rows of a whole batch"],
    [decorrelated(), "decorrelated, whose matrices learn from the rows of a whole batch"],
    [
      sparse({ sparsity: 0.5, schedule: "rigl" }),
      "sparse with schedule rigl, which grows weights by the gradient of a whole batch",
    ],
  ];
  for (const options of [{}, { mode: "activity", lanes: 2 }, { mode: "exact", step: "hyperdual" }] as DualOptions[]) {
    whole.push([
      dual(options),
      "dual in a mode or with a step that learns from the lanes of a whole batch; use mode exact, local or weight",
    ]);
  }
  for (const [rule, found] of whole) {
    await refused(
      { accumulate: 2, rule, optimizer: sgd(1) },
      `Cannot use accumulate: expected a rule under which gradients of parts of a batch add up to that of the batch but found ${found}`,
    );
  }
  await refused(
    { classWeights: [1, 2] },
    "Cannot use classWeights: expected 4 numbers, one for each class but found 2",
  );
  await refused(
    { classWeights: [0, 0, 0, 0] },
    "Cannot use classWeights: expected a number above 0 but found zeros only",
  );
  await refused(
    { classWeights: [1, -1, 1, 1] },
    "Cannot use classWeights[1]: expected a number from 0 up but found -1",
  );
  await refused({ averageDecay: 1 }, "Cannot use averageDecay: expected a number from 0 up and below 1 but found 1");
  await refused(
    { averageDecay: 0.9, rule: frontContribution(), optimizer: sgd(0.1) },
    "Cannot use averageDecay: expected a rule under which weights can be averaged but found front-contribution, which keeps " +
      "weights in another form; leave it out, or use backprop()",
  );
  using values = Network.create({ input: [6], layers: [dense(1)], loss: { kind: "meanSquaredError" } });
  const fault = await assertRejects(
    () => Trainer.create(values, table(20, { shape: [6], values: 1 }), { batchSize: 4, classWeights: [1] }),
    EngineError,
  );
  assertEquals(
    fault.message,
    "Cannot use classWeights: expected data with class labels beside them but found values as targets",
  );
  using normed = Network.create({ input: [6], layers: [dense(4), batchNorm(), dense(4)] });
  await assertRejects(
    () => Trainer.create(normed, rows, { batchSize: 30, accumulate: 30 }),
    EngineError,
    "a part (of 90 rows by 30, in 30 parts each) of 1",
  );
  using plain = await Trainer.create(network, rows, common);
  await assertRejects(() => plain.withAverage(() => Promise.resolve()), EngineError, "averageDecay");
});

Deno.test("rules that need one batch at once may still weigh classes and keep averages", async () => {
  using network = await trained({ rule: combine(memAop({ k: 8 })), classWeights: [1, 2, 1, 1], averageDecay: 0.9 });
  assert((await network.evaluate(rows)).loss > 0);
});
