/** Accumulated gradients, class weights and running averages: what they compute, resumed bits, and what is refused. */

import { assert, assertEquals, assertRejects } from "@std/assert";
import {
  adam,
  batchNorm,
  combine,
  ConfigError,
  conv2d,
  Dataset,
  dense,
  dropout,
  EngineError,
  flatten,
  frontContribution,
  type Layer,
  loadCheckpoint,
  memAop,
  Network,
  relu,
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

Deno.test("runs with accumulated gradients, class weights and averages resume with the same bits", async () => {
  await inTemporaryFolder(async (folder) => {
    const path = `${folder}/run.safetensors`;
    const options: TrainOptions = {
      ...common,
      optimizer: adam(1e-2),
      accumulate: 3,
      classWeights: [1, 2, 1, 0.5],
      averageDecay: 0.9,
    };
    using whole = Network.create({ input: [6], layers, seed: 2 });
    for await (const _ of train(whole, rows, options));
    for (const stop of [0, 1, 5, 6, 9, 17]) {
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
});

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
  for (const rule of [memAop({ k: 4 }), sparse({ sparsity: 0.5 })]) {
    await refused(
      { accumulate: 2, rule },
      "Cannot use accumulate: expected backprop as the rule, since other rules need a batch at once but found another rule",
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
    { averageDecay: 0.9, rule: sparse({ sparsity: 0.5 }) },
    "Cannot use averageDecay: expected a rule under which weights can be averaged but found sparse, which changes the masks of " +
      "the weights; leave it out, or use backprop()",
  );
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
