/** Early stopping in `train`, the rate finder, and weights of classes from their rows. */

import { assert, assertAlmostEquals, assertEquals, assertRejects, assertThrows } from "@std/assert";
import {
  adam,
  balancedClassWeights,
  ConfigError,
  decorrelated,
  dense,
  EarlyStopping,
  findLearningRate,
  mlp,
  Network,
  type Progress,
  relu,
  sgd,
  sparse,
  spectra,
  spirals,
  train,
  Trainer,
  type TrainLoopOptions,
  withValidation,
} from "../../mod.ts";
import { assertSameBits, bits, table } from "../helpers.ts";

const data = withValidation(spirals({ rows: 300 }), { fraction: 0.2, seed: 1 });
const model = { input: [2], layers: [dense(16), relu(), dense(3)], seed: 1 };

Deno.test("EarlyStopping counts epochs since the best, and minDelta is what counts as better", () => {
  const seen = (losses: number[], options = {}) => {
    const stopping = new EarlyStopping({ patience: 2, ...options });
    return losses.map((loss) =>
      `${stopping.observe({ loss, accuracy: -loss })} ${stopping.stop} ${stopping.bestEpoch}`
    );
  };
  assertEquals(seen([3, 2, 2, 1, 4, 5]), [
    "true false 1",
    "true false 2",
    "false false 2",
    "true false 4",
    "false false 4",
    "false true 4",
  ]);
  assertEquals(seen([3, 2.95, 2.9], { minDelta: 0.2 }).at(-1), "false true 1");
  assertEquals(seen([3, 2, 2.5, 2.6], { monitor: "accuracy" }).at(-1), "false true 2");
  assertThrows(() => new EarlyStopping({ patience: 0 }), ConfigError, "earlyStopping.patience");
  assertThrows(
    () => new EarlyStopping({ monitor: "accuracy" }).observe({ loss: 1 }),
    ConfigError,
    "Cannot use earlyStopping: expected validation rows with class labels beside it but found none",
  );
});

const rules = [
  undefined,
  sparse({ sparsity: 0.5, schedule: "gmp", begin: 0.1, end: 0.9, every: 3 }),
  decorrelated({ every: 1, rate: 0.05 }),
  decorrelated({ form: "cholesky" }),
];

for (const [index, rule] of rules.entries()) {
  for (const averageDecay of rule?.name === "sparse" ? [undefined] : [undefined, 0.8]) {
    Deno.test(`train() stops early and has the best epoch's network: rule ${index}, ${rule?.name ?? "backprop"}, ${averageDecay}`, async () => {
      using network = Network.create(model);
      const options = { epochs: 40, batchSize: 16, optimizer: adam(0.3), ...(rule && { rule }) };
      const run = { ...options, ...(averageDecay !== undefined && { averageDecay }) };
      const epochs: Progress[] = [];
      for await (const p of train(network, data, { ...run, earlyStopping: { patience: 3 } })) epochs.push(p);
      const last = epochs.at(-1)!;
      const losses = epochs.map((p) => p.validation!.loss);
      const best = Math.min(...losses);
      assertEquals([last.done, last.stoppedEarly, epochs.length - losses.indexOf(best)], [true, true, 4]);
      // What was behind matrices is folded, which rounds.
      const limit = rule?.name === "decorrelated" ? 1e-5 * best : 0;
      assertAlmostEquals((await network.evaluate(data.validation!)).loss, best, limit);
      using other = Network.create(model);
      for await (const p of train(other, data, { ...run, earlyStopping: { patience: 3, restoreBest: false } })) {
        if (p.done) assertAlmostEquals((await other.evaluate(data.validation!)).loss, losses.at(-1)!, limit);
      }
    });
  }
}

Deno.test("train() refuses early stopping without rows to watch, and knows it by name", async () => {
  using network = Network.create(model);
  await assertRejects(
    () => train(network, data.train, { earlyStoping: {} } as TrainLoopOptions).next(),
    ConfigError,
    "onProgress, earlyStopping (did you mean earlyStopping?) but found an unknown option",
  );
  await assertRejects(
    () => train(network, data.train, { earlyStopping: {} }).next(),
    ConfigError,
    "Cannot use earlyStopping: expected data with validation rows beside it but found none",
  );
});

Deno.test("findLearningRate() tries growing rates, then single ones, leaves the network as it was, and its rate trains well", async () => {
  using network = Network.create(model);
  const before = bits(network);
  const { points, smallest, trials, suggested } = await findLearningRate(network, data, {
    optimizer: sgd(1),
    batchSize: 16,
    lowest: 1e-4,
    highest: 100,
    steps: 80,
  });
  assertSameBits(bits(network), before, "the network");
  assert(points.length > 30 && points.length <= 80, `${points.length} points`);
  points.forEach(({ rate }, index) => {
    const expected = 1e-4 * (1e6 ** (1 / 79)) ** index;
    assert(Math.abs(rate / expected - 1) < 1e-6, `rate ${rate} of step ${index} where ${expected} is expected`);
  });
  assert(points.some(({ rate }) => rate === smallest), `${smallest} is a rate of the sweep`);
  trials.forEach(({ rate }, index) => {
    assert(Math.abs(rate * Math.sqrt(10) ** index / trials[0]!.rate - 1) < 1e-9, `rate ${rate} of trial ${index}`);
  });
  assert(trials.some(({ rate }) => Math.abs(rate / smallest - 1) < 1e-9), "the smallest is tried");
  const best = Math.min(...trials.map(({ loss }) => loss));
  assertEquals(trials.find(({ loss }) => loss === best)!.rate, suggested);
  // The last two are worse than the best: nothing was left out.
  assert(trials.length > 2 && trials.slice(-2).every(({ loss }) => loss > best), `${trials.map(({ loss }) => loss)}`);
  // A trial is a run like any other: as many steps from the same parameters.
  using twin = Network.create(model);
  const perEpoch = Math.ceil(data.train.rows / 16);
  using trainer = await Trainer.create(twin, data.train, {
    optimizer: sgd(suggested),
    batchSize: 16,
    epochs: 80 / perEpoch,
  });
  const losses: number[] = [];
  let [sum, rows] = [0, 0];
  for (let step = 1; step <= 80; step++) {
    const progress = await trainer.step();
    if (progress.rows <= rows) [sum, rows] = [0, 0];
    losses.push((progress.trainLoss * progress.rows - sum) / (progress.rows - rows));
    [sum, rows] = [progress.trainLoss * progress.rows, progress.rows];
  }
  assertAlmostEquals(losses.slice(-20).reduce((a, b) => a + b) / 20, best, 1e-6 * best);
  const after = async (rate: number) => {
    using fresh = Network.create(model);
    let loss = NaN;
    for await (const p of train(fresh, data.train, { optimizer: sgd(rate), epochs: 5, batchSize: 16 })) {
      loss = p.trainLoss;
    }
    return loss;
  };
  const found = await after(suggested);
  for (const rate of [1e-4, suggested / 30, suggested * 30]) assert(found < await after(rate), `better than ${rate}`);
  for (const range of [{ lowest: 1e-9, highest: 1e-8 }, { lowest: 1e4, highest: 1e5 }]) {
    await assertRejects(
      () => findLearningRate(network, data, { optimizer: sgd(1), batchSize: 16, ...range }),
      ConfigError,
      "bring the loss down but found ",
    );
  }
  assertSameBits(bits(network), before, "the network after refusals");
});

Deno.test("findLearningRate() does not fall for rates at which a network runs away and ends at a loss of 0", async () => {
  const data = spectra({ rows: 800 });
  using network = Network.create({ ...mlp({ input: data.train.shape, outputs: 4, hidden: [16] }), seed: 1 });
  const { trials, suggested } = await findLearningRate(network, data, { batchSize: 20 });
  const diverged = trials.filter(({ loss }) => loss === Infinity).map(({ rate }) => rate);
  assert(diverged.length > 1 && Math.min(...diverged) > suggested, `${diverged} above ${suggested}`);
  assert(suggested > 3e-4 && suggested < 3e-2, `${suggested}`);
});

Deno.test("findLearningRate() refuses what it cannot use", async () => {
  using network = Network.create(model);
  const wrong = findLearningRate(network, data, { epochs: 3 } as Record<string, number>);
  await assertRejects(() => wrong, ConfigError, "Cannot use findLearningRate.epochs");
  await assertRejects(
    () => findLearningRate(network, { train: ReadableStream.from([data.train]) } as never),
    ConfigError,
    "Cannot use data: expected training rows that are all in memory but found a stream",
  );
  await assertRejects(
    () => findLearningRate(network, (() => ReadableStream.from([data.train])) as never),
    ConfigError,
    "Cannot use data: expected training rows that are all in memory but found a stream",
  );
  await assertRejects(
    () => findLearningRate(network, null as never),
    ConfigError,
    "Cannot use data: expected training rows that are all in memory but found null",
  );
  await assertRejects(
    () => findLearningRate(network, data, { lowest: 2, highest: 1 }),
    ConfigError,
    "findLearningRate.highest",
  );
});

Deno.test("balancedClassWeights() makes every class count alike", () => {
  const labels = Uint32Array.of(0, 0, 0, 1);
  const weights = balancedClassWeights({ rows: 4, targets: { kind: "labels", classes: 3, values: labels } });
  assertEquals(weights, [4 / 9, 4 / 3, 0]);
  assertThrows(() => balancedClassWeights(table(3, { shape: [2], values: 1 })), ConfigError, "class labels");
  using network = Network.create(mlp({ input: [2], outputs: 3 }));
  assert(network.handle > 0);
});
