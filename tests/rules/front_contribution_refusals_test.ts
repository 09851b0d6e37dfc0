/** What front contribution refuses, sentence by sentence, and what its plans say. */

import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import {
  adam,
  adamW,
  backprop,
  combine,
  ConfigError,
  conv2d,
  Dataset,
  decorrelated,
  dense,
  describePlan,
  dropout,
  dual,
  EngineError,
  flatten,
  frontContribution,
  type FrontContributionOptions,
  Gram,
  type Layer,
  layerNorm,
  Network,
  relu,
  residual,
  rmsProp,
  sgd,
  sparse,
  spectra,
  tanh,
  Trainer,
  type TrainOptions,
} from "../../mod.ts";
import { table } from "../helpers.ts";

/** The message with which a run is refused. */
async function refusal(
  layers: readonly Layer[],
  { rows = 20, input = [30], ...options }: TrainOptions & { readonly rows?: number; readonly input?: number[] },
): Promise<string> {
  using network = Network.create({ input, layers, seed: 1 });
  const before = network.describe();
  const attempt = Trainer.create(network, table(rows, { shape: input, classes: 3 }), {
    optimizer: sgd(0.1),
    ...options,
  });
  const fault = await assertRejects(() => attempt, EngineError);
  assert(fault.code === "invalid-config" || fault.code === "shape-mismatch", fault.code);
  // The network is free and whole afterwards.
  assertEquals(network.describe(), before);
  using _next = await Trainer.create(network, table(rows, { shape: input, classes: 3 }));
  return fault.message;
}

const front = (options: FrontContributionOptions = {}) => ({ rule: frontContribution({ force: true, ...options }) });
const gram = { collapse: "gram" } as const;
const pair = { collapse: "linearPair" } as const;
const last = { collapse: "final" } as const;
const net = [dense(8), relu(), dense(3)];
const linear = [dense(8), dense(3)];

Deno.test("an adaptive optimizer on what is collapsed is refused", async () => {
  const rest = ", which scales each weight by itself; use sgd, or give the rule an optimizer of its own: " +
    "frontContribution({ optimizer: sgd(0.1) })";
  for (const [optimizer, name] of [[adam(), "adam"], [adamW(), "adamW"], [rmsProp(), "rmsProp"]] as const) {
    assertEquals(
      await refusal(net, { ...front(gram), optimizer }),
      `Cannot use optimizer: expected sgd for layer 0 (dense), which is collapsed but found ${name}${rest}`,
    );
    assertEquals(
      await refusal(linear, { ...front(pair), optimizer }),
      `Cannot use optimizer: expected sgd for layer 1 (dense), which is collapsed but found ${name}${rest}`,
    );
  }
  assertThrows(
    () => frontContribution({ optimizer: adam() as never }),
    ConfigError,
    "Cannot use frontContribution.optimizer: expected the result of sgd() but found adam",
  );
});

Deno.test("momentum on a linear pair is refused, of the run and of the rule", async () => {
  const sentence = (place: string) =>
    `Cannot use ${place}: expected no momentum for layer 1 (dense), which collapse "linearPair" takes with the one below it ` +
    'but found momentum 0.9; use sgd without momentum, or collapse "gram"';
  assertEquals(
    await refusal(linear, { ...front(pair), optimizer: sgd(0.1, { momentum: 0.9 }) }),
    sentence("optimizer"),
  );
  const optimizer = sgd(0.1, { momentum: 0.9 });
  assertEquals(await refusal(linear, { ...front({ ...pair, optimizer }) }), sentence("rule.optimizer"));
});

Deno.test("inputs that are not the same in every epoch, and first layers that are not dense, are refused", async () => {
  assertEquals(
    await refusal([dropout(0.1), ...net], front(gram)),
    'Cannot use layer 0: expected the same inputs in every epoch for collapse "gram" but found dropout before the first dense ' +
      "layer; put it after that layer, or use backprop()",
  );
  for (
    const [layers, name] of [
      [[layerNorm(), ...net], "layer 0 (layerNorm)"],
      [[relu(), ...net], "layer 0 (relu)"],
    ] as const
  ) {
    assertEquals(
      await refusal(layers, front(gram)),
      `Cannot use rule.collapse: expected a dense first layer for collapse "gram" but found ${name}; use collapse "final" on ` +
        "trained features, or backprop()",
    );
  }
});

Deno.test("convolutions first and branches from the input are refused", async () => {
  assertEquals(
    await refusal([conv2d(2, { padding: 1 }), flatten(), dense(3)], { ...front(gram), input: [4, 4, 1] }),
    'Cannot use rule.collapse: expected a dense first layer for collapse "gram" but found layer 0 (conv2d); use collapse "final" ' +
      "on trained features, or backprop()",
  );
  assertEquals(
    await refusal([residual([dense(30), relu()]), dense(3)], front(gram)),
    'Cannot use rule.collapse: expected one dense layer that reads the input for collapse "gram" but found two branches that do; ' +
      "use backprop()",
  );
});

Deno.test("options that change rows, or what a step computes, are refused", async () => {
  const images = { input: [4, 4, 1], ...front(gram) };
  assertEquals(
    await refusal([flatten(), ...net], { ...images, augment: { flip: true } }),
    "Cannot use augment: expected none beside frontContribution, which computes with the features as they were before the run but " +
      "found one; leave it out, or use backprop()",
  );
  assertEquals(
    await refusal(net, { ...front(gram), accumulate: 2 }),
    "Cannot use accumulate: expected a rule under which gradients of parts of a batch add up to that of the batch but found " +
      "front-contribution, which takes the place of the gradient of what is collapsed",
  );
  assertEquals(
    await refusal(net, { ...front(gram), averageDecay: 0.9 }),
    "Cannot use averageDecay: expected a rule under which weights can be averaged but found front-contribution, which keeps " +
      "weights in another form; leave it out, or use backprop()",
  );
  for (
    const [other, name] of [[sparse({ sparsity: 0.5 }), "sparse weights"], [decorrelated(), "decorrelated()"]] as const
  ) {
    assertEquals(
      await refusal(net, { rule: combine(frontContribution({ force: true }), other) }),
      `Cannot use rule: expected a rule that is defined beside ${name} but found front-contribution`,
    );
  }
});

Deno.test("three linear layers in a row, and no pair at all, are refused", async () => {
  assertEquals(
    await refusal([dense(9), dense(8), dense(3)], front(pair)),
    "Cannot use layers 0, 1 and 2: expected at most two dense layers in a row without an activation between but found three; put " +
      "an activation after the second, or leave one out (three linear layers are no more than two)",
  );
  assertEquals(
    await refusal(net, front(pair)),
    'Cannot use rule.collapse: expected two dense layers in a row without an activation between, for collapse "linearPair" but ' +
      'found none; use collapse "gram", or backprop()',
  );
  // Advice names no collapse that the network has no place for.
  assertEquals(
    await refusal([layerNorm(), ...net], front(pair)),
    'Cannot use rule.collapse: expected two dense layers in a row without an activation between, for collapse "linearPair" but ' +
      "found none; use backprop()",
  );
});

Deno.test("K beyond the limit is refused", async () => {
  assertEquals(
    await refusal(net, { ...front({ ...gram, limitBytes: 1000 }), rows: 20 }),
    "Cannot use rule.limitBytes: expected at most 1000 bytes but found 1.6 KiB for K of 20 × 20 numbers; use at most 15 rows, a " +
      "limit of 1600, or backprop()",
  );
  for (const [limitBytes, advice] of [[10, "at most 1 row, a limit of 1600"], [1, "a limit of 1600"]] as const) {
    const message = await refusal(net, { ...front({ ...gram, limitBytes }), rows: 20 });
    assert(message.endsWith(`; use ${advice}, or backprop()`), message);
  }
  using network = Network.create({ input: [30], layers: net });
  const plan = await network.plan({ rows: 20_000 }, { ...front(gram), optimizer: sgd(0.1) });
  assert(plan.chosen === null && plan.reason.includes("expected at most 1.0 GiB but found 1.5 GiB for K"), plan.reason);
});

Deno.test("a run without a predicted gain is refused unless it is forced", async () => {
  const message = await refusal(net, { rule: frontContribution(gram), rows: 200, input: [30] });
  assert(
    /^Cannot use rule\.collapse: expected a gain from collapse "gram" but found 0\.\d\d times the speed of back-propagation for 200 rows in batches of 128; use backprop\(\), fewer rows, or force: true$/
      .test(message),
    message,
  );
  // Fewer rows are no advice where there are few.
  const small = await refusal(net, { rule: frontContribution(gram), rows: 2 });
  assert(small.endsWith("for 2 rows in batches of 2; use backprop() or force: true"), small);
  using network = Network.create({ input: [30], layers: net });
  using _run = await Trainer.create(network, table(200, { shape: [30], classes: 3 }), {
    ...front(gram),
    optimizer: sgd(0.1),
  });
});

Deno.test("final is refused where nothing can stand still, or what stands still would not", async () => {
  assertEquals(
    await refusal([dense(3)], front(last)),
    'Cannot use rule.collapse: expected layers below the last one for collapse "final" but found one layer only; use backprop()',
  );
  assertEquals(
    await refusal([dense(8), dropout(0.5), dense(3)], front(last)),
    "Cannot use rule.collapse: expected layers that give the same outputs in every epoch below the last one, for collapse " +
      '"final" but found layer 1 (dropout); leave it out, or use backprop()',
  );
  assertEquals(
    await refusal([dense(3), layerNorm()], front(last)),
    'Cannot use rule.collapse: expected a dense last layer for collapse "final" but found another layer; use backprop()',
  );
});

Deno.test("auto refuses in one sentence: that of the collapse which the network has a place for", async () => {
  const momentum = sgd(0.1, { momentum: 0.9 });
  // Without two linear layers in a row, and with them beside a first layer, it is that of gram.
  for (const layers of [net, linear]) {
    const cases: [readonly Layer[], TrainOptions & { input?: number[] }, FrontContributionOptions][] = [
      [layers, { optimizer: adam() }, {}],
      [layers, { optimizer: momentum }, { limitBytes: 1000 }],
      [[dense(9), ...linear], { optimizer: momentum }, { limitBytes: 1000 }],
      [[dropout(0.1), ...net], {}, {}],
      [[conv2d(2), flatten(), dense(3)], { input: [4, 4, 1] }, {}],
      [[layerNorm(), ...net], {}, {}],
    ];
    for (const [layers, options, limits] of cases) {
      const expected = await refusal(layers, { ...options, ...front({ ...gram, ...limits }) });
      assertEquals(await refusal(layers, { ...options, ...front(limits) }), expected);
    }
  }
  assertEquals(
    await refusal(net, { ...front(), optimizer: adam() }),
    "Cannot use optimizer: expected sgd for layer 0 (dense), which is collapsed but found adam, which scales each weight by itself; " +
      "use sgd, or give the rule an optimizer of its own: frontContribution({ optimizer: sgd(0.1) })",
  );
  // Two linear layers above one that cannot be collapsed: that of the pair.
  assertEquals(
    await refusal([layerNorm(), ...linear], { ...front(), optimizer: momentum }),
    'Cannot use optimizer: expected no momentum for layer 2 (dense), which collapse "linearPair" takes with the one below it but ' +
      "found momentum 0.9; use sgd without momentum, or backprop()",
  );
});

Deno.test("auto never freezes layers", async () => {
  using network = Network.create({ input: [5000], layers: [dense(64), relu(), dense(4)] });
  const plan = await network.plan({ rows: 200 }, { rule: frontContribution(), optimizer: sgd(0.1) });
  assertEquals(plan.chosen, "gram");
  const final = plan.candidates.find(({ collapse }) => collapse === "final")!;
  assert(final.gain! > plan.candidates[0]!.gain! && plan.candidates[0]!.gain! > 1);
  // Both are possible: the wide pair gains more where there are many rows.
  using wide = Network.create({ input: [20], layers: [dense(4096), dense(5)] });
  assertEquals(
    (await wide.plan({ rows: 5000 }, { rule: frontContribution(), optimizer: sgd(0.1) })).chosen,
    "linearPair",
  );
});

Deno.test("a plan has the multiply-adds of the shapes, and says what the run then does", async () => {
  using network = Network.create({ input: [300], layers: [dense(10), tanh(), dense(3)], seed: 1 });
  const data = table(40, { shape: [300], classes: 3 });
  const options = { rule: frontContribution(), optimizer: sgd(0.1), batchSize: 16, epochs: 5 };
  const plan = await network.plan({ rows: 40 }, options);
  assertEquals([plan.rows, plan.batchSize, plan.steps], [40, 16, 15]);
  assertEquals(plan.backprop.stepMultiplyAdds, 16 * (2 * 300 * 10 + 3 * 10 * 3));
  assertEquals(plan.backprop.onceMultiplyAdds, 0);
  const figures = plan.candidates.find(({ collapse }) => collapse === "gram")!.figures!;
  assertEquals(figures.stepMultiplyAdds, 16 * (40 * 10 + 3 * 10 * 3));
  assertEquals(figures.onceMultiplyAdds, 40 * 40 * 300 / 2 + 2 * 40 * 300 * 10);
  const text = describePlan(plan);
  assert(text.startsWith("Predicted for 40 rows, batches of 16, 15 steps\n") && text.endsWith(plan.reason), text);
  using trainer = await Trainer.create(network, data, options);
  const found = await network.describePropagation() as { kind: string; asked: string; plan: typeof plan };
  assertEquals([found.kind, found.asked, found.plan.chosen], ["frontContribution", "auto", plan.chosen]);
  assertEquals(found.plan, plan);
  trainer[Symbol.dispose]();
  assertEquals(await network.describePropagation(), { kind: "backprop" });
  await assertRejects(
    () => network.plan({ rows: 40 }, { rule: backprop() }),
    EngineError,
    "Cannot use rule: expected frontContribution() for a plan but found another rule",
  );
  await assertRejects(
    () => network.plan(null as never, options),
    ConfigError,
    "Cannot use rows: expected a whole number from 1 up but found undefined",
  );
});

Deno.test("collapsed weights cannot be written during a run, other parameters can", async () => {
  using network = Network.create({ input: [30], layers: [dense(6), dense(5), relu(), dense(3)], seed: 1 });
  const rows = table(20, { shape: [30], classes: 3 });
  for (
    const [collapse, refused, allowed] of [
      ["gram", ["0.weight"], ["0.bias", "1.weight", "1.bias", "3.weight"]],
      ["linearPair", ["0.weight", "0.bias", "1.weight"], ["1.bias", "3.weight"]],
    ] as const
  ) {
    using _run = await Trainer.create(network, rows, { ...front({ collapse }), optimizer: sgd(0.1) });
    for (const name of refused) {
      assertThrows(
        () => network.write(name, network.read(name)),
        EngineError,
        `Cannot write ${name} now: the run in training has collapsed layer ${
          name[0]
        } (dense); write it before the run begins`,
      );
    }
    for (const name of allowed) network.write(name, network.read(name));
  }
});

Deno.test("a Gram of other rows, of another precision or after its end is refused", async () => {
  const rows = table(20, { shape: [300], classes: 3 });
  using data = await Dataset.create(rows);
  using other = await Dataset.create(rows);
  const shared = await Gram.create(data);
  const rule = frontContribution({ ...gram, gram: shared });
  const attempt = async (where: Dataset, precision: "f32" | "f64") => {
    using network = Network.create({ input: [300], layers: net, precision });
    using _run = await Trainer.create(network, where, { rule, optimizer: sgd(0.1) });
  };
  await attempt(data, "f32");
  const sentence =
    "Cannot use rule.gram: expected the Gram of this data set or of one that it was selected from but found one of " +
    "other rows or of another precision";
  await assertRejects(() => attempt(other, "f32"), EngineError, sentence);
  await assertRejects(() => attempt(data, "f64"), EngineError, sentence);
  shared[Symbol.dispose]();
  shared[Symbol.dispose]();
  await assertRejects(() => attempt(data, "f32"), EngineError, sentence);
  assertThrows(
    () => frontContribution({ gram: shared }),
    ConfigError,
    "Cannot use frontContribution.gram: expected a Gram in use but found one that is disposed",
  );
  assertThrows(() => frontContribution({ gram: {} as never }), ConfigError, "expected a Gram but found an Object");
  await assertRejects(
    () => Gram.create(rows as never),
    ConfigError,
    "Cannot use data: expected a Dataset such as await Dataset.create(table) but found an Object",
  );
});

Deno.test("frontContribution() refuses options that cannot be used", () => {
  const refused = (options: Record<string, unknown>, message: string) =>
    assertThrows(() => frontContribution(options as FrontContributionOptions), ConfigError, message);
  refused({ colapse: "gram" }, "Cannot use frontContribution.colapse: expected one of collapse,");
  refused({ collapse: "grams" }, "expected one of auto, gram, linearPair, final (did you mean gram?) but found grams");
  refused({ limitBytes: -1 }, "Cannot use frontContribution.limitBytes: expected a whole number from 0");
  refused({ force: 1 }, "Cannot use frontContribution.force: expected true or false but found 1");
  refused({ kernel: true, collapse: "final" }, 'expected false beside a collapse other than "gram" but found true');
  refused(
    { collapse: "final", optimizer: sgd(0.1) },
    "Cannot use frontContribution.optimizer: expected none beside final, whose last layer is trained with the run's optimizer but " +
      "found one; give it to the run",
  );
  refused(
    { optimizer: { kind: "sgd", learningRate: -1 } },
    "Cannot use frontContribution.optimizer.learningRate: expected a number from 0 up but found -1",
  );
  assertEquals(
    frontContribution({ optimizer: { kind: "sgd", learningRate: 0.2 } as never }).slots.propagation!.optimizer,
    sgd(0.2),
  );
  assertThrows(
    () => frontContribution(null as never),
    ConfigError,
    "Cannot use frontContribution: expected options such as { collapse: … } but found null",
  );
  assertThrows(
    () => combine(frontContribution(), dual()),
    ConfigError,
    "expected rules that fill different slots but found front-contribution and dual, which both choose the propagation",
  );
});

Deno.test("frontContribution() gains on spectra out of the box", async () => {
  const { train } = spectra();
  using network = Network.create({ input: train.shape, layers: [flatten(), dense(64), relu(), dense(4)] });
  const plan = await network.plan(train, { rule: frontContribution(), optimizer: sgd(0.1) });
  assertEquals(plan.chosen, "gram");
  assert(plan.candidates[0]!.stepGain! > 3, JSON.stringify(plan));
});
