/** decorrelated: what is refused, and what stays as it is and says why. */

import { assertAlmostEquals, assertEquals, assertRejects, assertThrows } from "@std/assert";
import {
  batchNorm,
  combine,
  ConfigError,
  conv2d,
  Dataset,
  decorrelated,
  type DecorrelatedOptions,
  dense,
  dual,
  EngineError,
  flatten,
  frontContribution,
  globalAvgPool2d,
  type Layer,
  memAop,
  Network,
  type Rule,
  sgd,
  sparse,
  tanh,
  Trainer,
} from "../../mod.ts";
import { steps, table } from "../helpers.ts";
import { common, dataOf, nets, networkOf } from "./decorrelated_helpers.ts";

const refused: [string, () => Rule, string][] = [
  ["rate", () => decorrelated({ rate: -1 }), "Cannot use decorrelated.rate"],
  ["kappa", () => decorrelated({ kappa: 1.5 }), "Cannot use decorrelated.kappa"],
  ["rows", () => decorrelated({ rows: 1.5 }), "Cannot use decorrelated.rows"],
  ["every", () => decorrelated({ every: 0 }), "Cannot use decorrelated.every"],
  ["autoStep", () => decorrelated({ autoStep: 2 }), "Cannot use decorrelated.autoStep"],
  ["form", () => decorrelated({ form: "other" as "local" }), "Cannot use decorrelated.form"],
  ["rate of another form", () => decorrelated({ form: "cholesky", rate: 1 }), "Cannot use decorrelated.rate"],
  ["kappa of another form", () => decorrelated({ form: "newtonSchulz", kappa: 1 }), "Cannot use decorrelated.kappa"],
  [
    "autoStep of another form",
    () => decorrelated({ form: "newtonSchulz", autoStep: false }),
    "Cannot use decorrelated.autoStep: expected the form local or driftFree beside it but found newtonSchulz",
  ],
  ["ridge of another form", () => decorrelated({ ridge: 1 }), "Cannot use decorrelated.ridge"],
  ["ridge", () => decorrelated({ form: "cholesky", ridge: 0 }), "Cannot use decorrelated.ridge"],
  ["ridge of axes", () => decorrelated({ first: "axes", ridge: 1 }), "Cannot use decorrelated.ridge"],
  ["power", () => decorrelated({ first: "axes", power: 1.5 }), "Cannot use decorrelated.power"],
  [
    "power of another first layer",
    () => decorrelated({ power: 0.5 }),
    "Cannot use decorrelated.power: expected axes as `first` beside it but found learn",
  ],
  ["layers", () => decorrelated({ layers: "0" as unknown as string[] }), "Cannot use decorrelated.layers"],
  ["option", () => decorrelated({ kapa: 1 } as DecorrelatedOptions), "did you mean kappa"],
];

Deno.test("options that cannot be used are refused", () => {
  for (const [, make, text] of refused) assertThrows(make, ConfigError, text);
});

Deno.test("what is not defined beside decorrelated() is refused by name", async () => {
  const check = async (
    rule: Rule,
    text: string,
    net: { input: number[]; layers: Layer[] } = nets.dense!,
    more = {},
  ) => {
    using network = Network.create(net);
    const rows = table(40, { shape: net.input, classes: 3 });
    const options = { rule, optimizer: sgd(0.01), batchSize: 10, ...more };
    await assertRejects(() => Trainer.create(network, rows, options), EngineError, text);
  };
  await check(combine(decorrelated(), sparse({ sparsity: 0.5 })), "dense weights beside decorrelated()");
  for (const rule of [dual({ mode: "weight", force: true }), dual({ step: "hyperdual" })]) {
    await check(combine(decorrelated(), rule), "beside rules in other slots but found dual with");
  }
  const published = combine(decorrelated(), dual({ mode: "local", seedAt: "input" }));
  await check(published, "beside", { input: [6], layers: [dense(3)] });
  await check(combine(decorrelated(), frontContribution()), "beside decorrelated() but found front-contribution");
  await check(combine(decorrelated(), memAop({ scope: "batch" })), "beside decorrelated()");
  await check(decorrelated({ layers: ["7"] }), "rule.layers");
  const plain = { input: [8, 8, 2], layers: [conv2d(4, { bias: false }), batchNorm(), globalAvgPool2d(), dense(3)] };
  await check(decorrelated({ center: true }), "layer 0 (conv2d) without one", plain);
  const grouped = { input: [8, 8, 2], layers: [conv2d(4, { groups: 2 }), globalAvgPool2d(), dense(3)] };
  await check(decorrelated({ layers: ["0"] }), "layer 0 (conv2d) with 2", grouped);
  await check(decorrelated({ first: "center", center: false }), "rule.center");
  const late = { input: [24], layers: [tanh(), dense(3)] };
  const images = { input: [8, 8, 1], layers: [flatten(), dense(3)] };
  for (const first of ["center", "raw", "precompute", "axes"] as const) {
    const expected = "learn, or a dense or conv2d layer that takes part and reads the network's input";
    await check(decorrelated({ first }), `Cannot use rule.first: expected ${expected} but found ${first}`, late);
  }
  for (const first of ["precompute", "axes"] as const) {
    await check(decorrelated({ first }), `beside augmentation but found ${first}`, images, { augment: { flip: true } });
  }
});

Deno.test("a first layer without a bias cannot be centred, and says so", async () => {
  const layers = [conv2d(4, { bias: false }), batchNorm(), globalAvgPool2d(), dense(3)];
  using network = Network.create({ input: [8, 8, 2], layers });
  using data = await Dataset.create(table(40, { shape: [8, 8, 2], classes: 3 }));
  using _trainer = await Trainer.create(network, data, { rule: decorrelated({ first: "center" }), batchSize: 10 });
  const [first] = await network.describeRule();
  const why = "reads the network's input, without a bias that takes its means up";
  assertEquals(first!.slots.inputs, { kind: "raw", why });
});

Deno.test("gradients() refuses weights behind matrices, and a copy has them", async () => {
  using network = networkOf("dense");
  using data = await Dataset.create(dataOf("dense"));
  using _trainer = await Trainer.create(network, data, { ...common, rule: decorrelated({ every: 1, rate: 0.05 }) });
  await steps(network, data, 2);
  await assertRejects(
    () => network.gradients(data),
    EngineError,
    "Cannot compute gradients: a run that decorrelates inputs is training this network",
  );
  using copy = network.fold();
  const { loss } = await copy.gradients(data);
  assertAlmostEquals(loss, (await network.evaluate(data)).loss, 1e-12);
});

Deno.test("a grouped convolution stays as it is, and says why", async () => {
  using network = Network.create({ input: [8, 8, 2], layers: [conv2d(4, { groups: 2 }), globalAvgPool2d(), dense(3)] });
  using data = await Dataset.create(table(40, { shape: [8, 8, 2], classes: 3 }));
  using _trainer = await Trainer.create(network, data, { rule: decorrelated(), batchSize: 10 });
  const [first, last] = await network.describeRule();
  assertEquals(first!.slots.inputs, { kind: "raw", why: "grouped convolution" });
  assertEquals(last!.slots.inputs.kind, "decorrelated");
});
