/** What the dual rule refuses, sentence by sentence. */

import { assertEquals, assertMatch, assertRejects, assertThrows } from "@std/assert";
import {
  adamW,
  batchNorm,
  combine,
  ConfigError,
  dense,
  dual,
  type DualMode,
  type DualOptions,
  EngineError,
  type Layer,
  memAop,
  Network,
  relu,
  rmsProp,
  type Rule,
  sgd,
  softmax,
  sparse,
  Trainer,
  type TrainOptions,
} from "../../mod.ts";
import { DUAL_OPTIONS } from "../../src/rules/dual.ts";
import { table } from "../helpers.ts";

Deno.test("dual() refuses options that the mode would not read, and values that it cannot use", () => {
  const beside = (option: string, modes: string, mode: string) =>
    `Cannot use dual.${option}: expected mode ${modes} beside it but found mode ${mode}`;
  const cases: [DualOptions, string][] = [
    [{ mode: "local", lanes: 2 }, beside("lanes", "feedback or activity or exact or weight", "local")],
    [{ mode: "exact", twoPass: true }, beside("twoPass", "feedback or activity", "exact")],
    [{ mode: "weight", shareLanes: true }, beside("shareLanes", "feedback or activity", "weight")],
    [{ mode: "activity", feedback: "ema" }, beside("feedback", "feedback", "activity")],
    [{ mode: "activity", estimate: "mean" }, beside("estimate", "weight", "activity")],
    [{ budget: 1 }, beside("budget", "exact", "feedback")],
    [{ force: true }, beside("force", "weight", "feedback")],
    [{ seedAt: "input" }, "Cannot use dual.seedAt: expected output or preactivation in mode feedback but found input"],
    [{ mode: "local", seedAt: "output" }, "expected preactivation or input in mode local but found output"],
    [{ mode: "weight", seedAt: "output" }, beside("seedAt", "feedback or activity or exact or local", "weight")],
    [{ lanes: 0 }, "Cannot use dual.lanes: expected a whole number from 1 to 4096 but found 0"],
    [{ feedbackRate: 1.5 }, "Cannot use dual.feedbackRate: expected a number above 0 and up to 1 but found 1.5"],
    [
      { feedback: "ema", feedbackRate: 1 },
      "Cannot use dual.feedbackRate: expected a number above 0 and below 1 but found 1",
    ],
    [{ mode: "exakt" as "exact" }, "expected one of feedback, activity, exact, local, weight (did you mean exact?)"],
    [{ lane: 1 } as DualOptions, "Cannot use dual.lane"],
  ];
  for (const [options, message] of cases) assertThrows(() => dual(options), ConfigError, message);
  assertThrows(() => combine(dual(), dual()), ConfigError, "dual and dual, which both choose the propagation");
});

/** An option of each kind in a mode that reads it. */
const READ: Readonly<Record<(typeof DUAL_OPTIONS)[number], DualMode>> = {
  mode: "feedback",
  lanes: "feedback",
  seedAt: "local",
  shareLanes: "activity",
  twoPass: "feedback",
  step: "feedback",
  feedback: "feedback",
  feedbackRate: "feedback",
  estimate: "weight",
  allowBias: "activity",
  force: "weight",
  budget: "exact",
};

Deno.test("dual() takes undefined for an option that was left out, in every mode, and refuses null by name", () => {
  for (const name of DUAL_OPTIONS) {
    for (const mode of ["feedback", "activity", "exact", "local", "weight"] as const) {
      const without = name === "mode" ? {} : { mode };
      assertEquals(dual({ ...without, [name]: undefined } as DualOptions), dual(without), `${name} in mode ${mode}`);
    }
    const error = assertThrows(() => dual({ mode: READ[name], [name]: null } as DualOptions), ConfigError);
    assertEquals(error.path, `dual.${name}`);
    assertMatch(error.message, /but found null$/);
  }
});

const two: readonly Layer[] = [dense(8), relu(), dense(3)];

const mixing: readonly Layer[] = [dense(8), batchNorm(), relu(), dense(3)];

const cases: readonly (readonly [string, Rule, readonly Layer[], string, TrainOptions?])[] = [
  [
    "mode local with two layers",
    dual({ mode: "local" }),
    two,
    "Cannot use rule dual in mode local: expected one layer with parameters but found 2; use mode feedback",
  ],
  [
    "mode local before a softmax",
    dual({ mode: "local" }),
    [dense(3), softmax()],
    "expected only activations and dropout after the layer with parameters but found layer 1 (softmax)",
  ],
  [
    "exact lanes above the budget",
    dual({ mode: "exact", budget: 1000 }),
    two,
    "Cannot use rule dual in mode exact: expected lanes of at most 1.0e3 multiply-adds a step (dual.budget) but found 7.7e3 " +
    "for this network at batch 40; use mode feedback",
  ],
  [
    "more orthogonal lanes than units",
    dual({ mode: "activity", lanes: 9 }),
    two,
    "Cannot use dual.lanes: expected at most 8 (the values of layer 0 (dense)) but found 9",
  ],
  [
    "more weight directions than parameters",
    dual({ mode: "weight", lanes: 84 }),
    two,
    "Cannot use dual.lanes: expected at most 83 (the parameters) but found 84",
  ],
  [
    "weight directions of a large network",
    dual({ mode: "weight" }),
    [dense(20_000), dense(3)],
    "Cannot use rule dual in mode weight: expected at most 100000 parameters, or force: the noise grows with their number " +
    "but found 200003",
  ],
  ...([
    ["adam", {}, "adam"],
    ["adamW", { optimizer: adamW(0.1) }, "adamW"],
    ["rmsProp", { optimizer: rmsProp(0.1) }, "rmsProp"],
  ] as const).map(([name, options, found]) =>
    [
      `hyperdual beside ${name}`,
      dual({ step: "hyperdual" }),
      two,
      "Cannot use optimizer: expected sgd without momentum beside dual's step hyperdual (its rate is then a factor on the " +
      `exact step) but found ${found}`,
      options,
    ] as const
  ),
  [
    "hyperdual beside momentum",
    dual({ step: "hyperdual" }),
    two,
    "Cannot use optimizer.momentum: expected 0 beside dual's step hyperdual, which goes along the gradient of each batch " +
    "alone but found 0.9",
    { optimizer: sgd(1, { momentum: 0.9 }) },
  ],
  [
    "hyperdual beside weight decay",
    dual({ step: "hyperdual" }),
    two,
    "Cannot use optimizer.weightDecay: expected 0 beside dual's step hyperdual, whose length is that of the gradient alone " +
    "but found 0.01",
    { optimizer: sgd(1, { weightDecay: 0.01 }) },
  ],
  [
    "hyperdual beside clipping",
    dual({ step: "hyperdual" }),
    two,
    "Cannot use clipNorm: expected none beside dual's step hyperdual, which finds the length itself but found 1",
    { optimizer: sgd(1), clipNorm: 1 },
  ],
  [
    "hyperdual beside class weights",
    dual({ step: "hyperdual" }),
    two,
    "Cannot use classWeights: expected none beside dual's step hyperdual, which finds the length from the plain mean loss " +
    "but found weights of 3 classes",
    { optimizer: sgd(1), classWeights: [1, 2, 1] },
  ],
  [
    "weight directions beside memAop",
    combine(dual({ mode: "weight" }), memAop({ k: 4 })),
    two,
    "Cannot use rule: expected dual in mode feedback, activity or exact beside rules in other slots but found dual with mode " +
    "weight, which moves all parameters at once",
  ],
  [
    "weight directions beside sparse weights",
    combine(dual({ mode: "weight" }), sparse({ sparsity: 0.5 })),
    two,
    "Cannot use rule: expected a rule that is defined beside sparse weights but found dual in mode weight, with step hyperdual " +
    "or with seedAt input",
  ],
  ...(["feedback", "activity"] as const).map((mode) =>
    [
      `batch normalisation in mode ${mode}`,
      dual({ mode, lanes: 1 }),
      mixing,
      `Cannot use rule dual in mode ${mode}: expected layers that keep the rows of a batch apart, such as groupNorm or ` +
      "layerNorm, or allowBias but found layer 1 (batchNorm)",
    ] as const
  ),
  [
    "batch normalisation beside exact lanes",
    dual({ mode: "exact" }),
    mixing,
    "Cannot use rule dual in mode exact: expected layers that keep the rows of a batch apart, such as groupNorm or layerNorm " +
    "but found layer 1 (batchNorm)",
  ],
  [
    "batch normalisation in two passes",
    dual({ twoPass: true, allowBias: true }),
    mixing,
    "expected layers without running statistics, such as groupNorm, beside twoPass but found layer 1 (batchNorm)",
  ],
  [
    "weight directions with hyperdual steps",
    dual({ mode: "weight", step: "hyperdual" }),
    two,
    "Cannot use dual.step: expected optimizer beside mode weight, whose few directions say too little about the length of a step " +
    "but found hyperdual",
    { optimizer: sgd(1) },
  ],
  [
    "a network without parameters",
    dual(),
    [relu(), softmax()],
    "Cannot use rule dual: expected a layer with parameters but found none",
  ],
];

for (const [name, rule, layers, message, options] of cases) {
  Deno.test(`dual refuses before the run begins: ${name}`, async () => {
    using network = Network.create({ input: [6], layers });
    const last = layers.at(-1);
    const rows = table(40, {
      shape: [6],
      classes: last?.kind === "dense" ? 3 : network.describe().layers.at(-1)!.shape[0]!,
    });
    const error = await assertRejects(
      () => Trainer.create(network, rows, { rule, batchSize: 40, ...options }),
      EngineError,
      message,
    );
    assertEquals(error.code, "invalid-config");
  });
}

Deno.test("dual refuses to move weights that a mask of the network holds", async () => {
  using network = Network.create({ input: [6], layers: two });
  await network.sparsify({ sparsity: 0.5, minSparsity: 0 });
  const rows = table(40, { shape: [6], classes: 3 });
  const message =
    "Cannot use rule: expected a rule that is defined beside the mask of layer 0 (dense) but found dual in mode " +
    "weight, with step hyperdual or with seedAt input";
  for (const rule of [dual({ mode: "weight" }), dual({ step: "hyperdual" })]) {
    await assertRejects(() => Trainer.create(network, rows, { rule, optimizer: sgd(1) }), EngineError, message);
  }
  using _trainer = await Trainer.create(network, rows, { rule: dual() });
});
