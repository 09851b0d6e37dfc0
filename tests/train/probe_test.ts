import { assert, assertAlmostEquals, assertEquals, assertRejects } from "@std/assert";
import {
  backprop,
  combine,
  ConfigError,
  decorrelated,
  dense,
  dual,
  EngineError,
  frontContribution,
  glyphs,
  loadCheckpoint,
  memAop,
  Network,
  probe,
  type Progress,
  relu,
  type Rule,
  sgd,
  sparse,
  stepMultiplyAdds,
  train,
  Trainer,
  type TrainOptions,
} from "../../mod.ts";
import { native } from "../../src/ffi/native.ts";
import { rules } from "../../src/rules/mod.ts";
import { bits, inTemporaryFolder } from "../helpers.ts";

// Opened before the first test: what is opened within a test has to be closed there.
native();

const table = glyphs({ rows: 96, testRows: 1 }).train;
const make = () =>
  Network.create({
    input: [28, 28, 1],
    layers: [{ kind: "flatten" }, dense(24), relu(), dense(10)],
    seed: 2,
    threads: 1,
  });
const few = { epochs: 2, batchSize: 32, optimizer: sgd(0.05) } satisfies TrainOptions;

async function probesOf(rule: Rule): Promise<Readonly<Record<string, number>>[]> {
  using network = make();
  const found = [];
  for await (const { probes } of train(network, table, { ...few, rule, probe: true })) found.push(probes!);
  return found;
}

Deno.test("probe() finds back-propagation equal to itself", async () => {
  const found = await probesOf({ name: "backprop", slots: {} });
  assertEquals(found.length, 2);
  for (const probes of found) {
    for (const name of ["", ".1.weight", ".1.bias", ".3.weight", ".3.bias"]) {
      assertAlmostEquals(probes[`probe.cosine${name}`]!, 1, 1e-6, name);
      assertAlmostEquals(probes[`probe.normRatio${name}`]!, 1, 1e-6, name);
      assertAlmostEquals(probes[`probe.squaredError${name}`]!, 0, 1e-6, name);
    }
    // Forward twice, weight gradient twice, input gradient once, of 32 rows.
    assertEquals(probes["probe.multiplyAdds"], 32 * (2 * 784 * 24 + 3 * 24 * 10));
  }
});

Deno.test("probe() says how far mem-aop is off, what it kept, and what is in its memory", async () => {
  const [, probes] = await probesOf(memAop({ k: 8, minSize: 0 }));
  const cosine = probes!["probe.cosine.1.weight"]!;
  assert(cosine > 0.2 && cosine < 0.9999, `cosine ${cosine}`);
  assertAlmostEquals(probes!["probe.cosine.3.weight"]!, 1, 1e-6, "the output layer is exact");
  const [ratio, error] = [probes!["probe.normRatio.1.weight"]!, probes!["probe.squaredError.1.weight"]!];
  assertAlmostEquals(error, ratio ** 2 - 2 * ratio * cosine + 1, 1e-12);
  const share = probes!["probe.products.1.keptShare"]!;
  assert(share > 0 && share < 1, `kept ${share}`);
  assert(probes!["probe.products.1.memoryNorms.0"]! > 0);
  assertEquals(probes!["probe.multiplyAdds"], 32 * (784 * 24 * (1 + 8 / 32) + 3 * 24 * 10));
});

Deno.test("probe() says of sparse weights how many there are, and what a step with them takes", async () => {
  const [, probes] = await probesOf(combine(sparse({ sparsity: 0.75 }), memAop({ k: 16, minSize: 0 })));
  assertEquals(probes!["probe.weights.1.nonZeros"], 784 * 24 / 4);
  assertEquals(probes!["probe.multiplyAdds"], 32 * (784 * 24 / 4 * (1 + 16 / 32) + 3 * 24 * 10));
  assertEquals(Object.keys(probes!).filter((name) => name.startsWith("probe.cosine")), []);
});

Deno.test("probe() sees the noise of dual numbers, and counts their lanes", async () => {
  const [probes] = await probesOf(dual({ mode: "activity", lanes: 2 }));
  const cosine = probes!["probe.cosine.1.weight"]!;
  assert(cosine > 0 && cosine < 0.999, `cosine ${cosine}`);
  // Forward and weight gradients; two lanes through the last layer; their derivatives, and the lanes weighed by these.
  const expected = 2 * 32 * (784 * 24 + 24 * 10) + 2 * 32 * 24 * 10 + 32 * (2 * 10 + 24 * 2);
  assertEquals(probes!["probe.multiplyAdds"], expected);
});

Deno.test("the variance of a gradient that is drawn is what theory says, and the same for the same seed", async () => {
  using network = Network.create({ input: [28, 28, 1], layers: [{ kind: "flatten" }, dense(2), dense(10)], seed: 2 });
  const rule = dual({ mode: "weight", estimate: "mean", lanes: 100 });
  using trainer = await Trainer.create(network, table, { ...few, rule });
  await trainer.step();
  const found = await probe(trainer, { draws: 200 });
  const parameters = 2 * 784 + 2 + 20 + 10;
  // docs/dual.md: (P − 1) / k; of 200 draws the mean is within a few percent of it.
  const expected = (parameters - 1) / 100;
  assertAlmostEquals(found["probe.variance"]!, expected, 0.1 * expected);
  assertEquals(found["probe.squaredError"], found["probe.variance"]);
  assert(found["probe.variance.2.bias"]! > 0);
  assertEquals(await probe(trainer, { draws: 200 }), found);
  const { "probe.variance": few8 } = await probe(trainer);
  assertEquals((await probe(trainer, { draws: 8 }))["probe.variance"], few8);
  assert(few8 !== found["probe.variance"]);
  await assertRejects(
    () => probe(trainer, { draws: 0 }),
    ConfigError,
    "Cannot use probe.draws: expected a whole number",
  );
});

Deno.test("probe() tells a variance only of what is drawn and right on average", async () => {
  const has = async (rule: Rule) => {
    const [probes] = await probesOf(rule);
    assert("probe.squaredError.1.weight" in probes!);
    return "probe.variance.1.weight" in probes! && "probe.variance" in probes!;
  };
  const rows = { k: 8, minSize: 0 };
  assertEquals(await has(backprop()), false, "nothing is drawn");
  assertEquals(await has(dual()), false, "feedback matrices stand for a mean");
  assertEquals(await has(dual({ mode: "activity" })), true);
  assertEquals(await has(dual({ mode: "weight" })), false, "a projection is too short");
  assertEquals(await has(memAop(rows)), false, "the largest rows are no draw");
  assertEquals(await has(memAop({ ...rows, policy: "randK" })), false, "some rows for all of them");
  for (const policy of ["crs", "wta"] as const) assertEquals(await has(memAop({ ...rows, policy })), true);
  assertEquals(await has(memAop({ k: 8, scope: "batch" })), true);
  assertEquals(await has(combine(dual(), memAop({ ...rows, policy: "wta" }))), false, "right only by itself");
});

Deno.test("a run with probes and batches in parts says once which probes are missing", async () => {
  using network = make();
  const told: string[] = [];
  for await (const p of train(network, table, { ...few, accumulate: 2, probe: true })) {
    assertEquals(Object.keys(p.probes!).filter((name) => name.startsWith("probe.cosine")), []);
    assert(p.probes!["probe.multiplyAdds"]! > 0);
    told.push(...p.warnings ?? []);
  }
  assertEquals(told, [
    "probes have no cosines, norm ratios and squared errors beside accumulate: gradients of batches in parts are not compared " +
    "with back-propagation's",
  ]);
});

Deno.test("probes look past a short batch that ends an epoch, in memory, in a stream and in a run that was resumed", async () => {
  // 32, 32 and 8 rows: eight rows of eight are all of them.
  const short = glyphs({ rows: 72, testRows: 1 }).train;
  const options = { ...few, rule: memAop({ k: 8, minSize: 0 }), shuffle: false, probe: true };
  async function* parts() {
    await Promise.resolve();
    yield short;
  }
  using alone = make();
  const expected: Record<string, number>[] = [];
  {
    const { probe: _, ...rest } = options;
    await using trainer = await Trainer.create(alone, short, rest);
    for (let step = 1; step <= 6; step++) {
      await trainer.step();
      if (step % 3 === 2) expected.push(await probe(trainer));
    }
  }
  assert(expected.every((found) => found["probe.cosine.1.weight"]! < 0.9999));
  const probesBy = async (trainer: Trainer, go: () => Promise<Progress>) => {
    const found = [];
    for (let done = false; !done;) {
      const progress = await go();
      if (progress.probes) found.push(progress.probes);
      done = progress.done;
    }
    await trainer[Symbol.asyncDispose]();
    return found;
  };
  for (const [data, own] of [[short, options], [() => parts(), { ...options, stepsPerEpoch: 3 }]] as const) {
    for (const way of ["step", "chunk", "epoch"] as const) {
      using network = make();
      const trainer = await Trainer.create(network, data, own);
      assertEquals(await probesBy(trainer, () => trainer[way]()), expected, `${way} of ${typeof data}`);
      assertEquals(bits(network), bits(alone));
    }
  }
  await inTemporaryFolder(async (folder) => {
    const path = `${folder}/checkpoint.safetensors`;
    using network = make();
    await using begun = await Trainer.create(network, short, options);
    await begun.step();
    await begun.save(path);
    const checkpoint = await loadCheckpoint(path);
    using again = checkpoint.network;
    const trainer = await Trainer.resume(checkpoint, short, { probe: true });
    assertEquals(await probesBy(trainer, () => trainer.chunk()), expected);
    assertEquals(bits(again), bits(alone));
  });
});

Deno.test("of an epoch whose only batch is short, probes look at that", async () => {
  using network = make();
  const rows = glyphs({ rows: 40, testRows: 1 }).train;
  async function* parts() {
    await Promise.resolve();
    yield rows;
  }
  const found = [];
  const options = { ...few, rule: memAop({ k: 8, minSize: 0 }), stepsPerEpoch: 1, probe: true };
  for await (const { probes } of train(network, () => parts(), options)) {
    found.push(probes!["probe.cosine.1.weight"]!);
  }
  assert(found[0]! < 0.9999, `32 rows: ${found[0]}`);
  assertAlmostEquals(found[1]!, 1, 1e-6, "8 rows");
});

Deno.test("a run with probes says once that masks leave some out, and which layers have them", async () => {
  const told = async (rule: Rule) => {
    using network = make();
    const warnings = [];
    for await (const p of train(network, table, { ...few, rule, probe: true })) warnings.push(...p.warnings ?? []);
    return warnings;
  };
  const start = "probes have no cosines, norm ratios and squared errors ";
  const masks = "under masks (layer 1): back-propagation has gradients beside them";
  assertEquals(await told(sparse()), [start + masks]);
  assertEquals(await told(sparse({ schedule: "gmp" })), [start + masks], "dense at first");
  assertEquals(await told(frontContribution({ force: true })), [], "its outputs are back-propagation's");
  assertEquals(await told(dual({ mode: "activity" })), []);
});

for (
  const [name, rule] of [
    ...rules.map(({ name, create }) =>
      // So few rows gain nothing from a collapse; the rule would refuse them.
      [name, create(name === "front-contribution" ? { force: true } : {})] as const
    ),
    ["drawn directions", dual({ mode: "activity" })] as const,
    ["drawn rows", memAop({ k: 8, minSize: 0, policy: "weightedK" })] as const,
    ["drawn rows and learnt inputs", combine(decorrelated(), memAop({ k: 8, minSize: 0, policy: "randK" }))] as const,
  ]
) {
  Deno.test(`probes leave a run with ${name} the same bits`, async () => {
    const parameters = async (probe: boolean) => {
      using network = make();
      for await (const p of train(network, table, { ...few, rule, probe })) {
        assertEquals(p.probes !== undefined, probe);
      }
      return network.parameters();
    };
    assertEquals(await parameters(true), await parameters(false));
  });
}

Deno.test("probe() is refused before the first step", async () => {
  using network = make();
  using trainer = await Trainer.create(network, table, few);
  await assertRejects(() => probe(trainer), EngineError, "take a step first");
  assertEquals(await stepMultiplyAdds(trainer), 32 * (2 * 784 * 24 + 3 * 24 * 10));
});
