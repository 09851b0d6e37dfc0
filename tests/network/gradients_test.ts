/** Every layer and every loss against central finite differences, parameter by parameter, in f64; f32 against f64. */

import { assert, assertEquals, assertThrows } from "@std/assert";
import {
  binaryCrossEntropy,
  ConfigError,
  Dataset,
  dense,
  dropout,
  flatten,
  gelu,
  type Layer,
  layerNorm,
  leakyRelu,
  type Loss,
  meanSquaredError,
  Network,
  relu,
  sigmoid,
  softmax,
  softmaxCrossEntropy,
  tanh,
} from "../../mod.ts";
import { checkLayer } from "../../src/network/layers.ts";
import { checkLoss } from "../../src/network/losses.ts";
import { scramble, table } from "../helpers.ts";
import { assertClose, DIFFERENCE_STEP, tolerance } from "../tolerance.ts";

interface Case {
  readonly input: readonly number[];
  readonly layers: readonly Layer[];
  readonly loss?: Loss;
  readonly training?: boolean;
}

const OUTPUTS = 3;
const ROWS = 5;

/** An activation alone after a linear map (fused), before one (folded into its input gradient), apart from both, and last. */
const around = (activation: Layer): Record<string, Case> => ({
  [`dense, ${activation.kind}, dense`]: { input: [4], layers: [dense(5), activation, dense(OUTPUTS)] },
  [`dense, layerNorm, ${activation.kind}, layerNorm, dense`]: {
    input: [4],
    layers: [dense(5), layerNorm(), activation, layerNorm(), dense(OUTPUTS)],
  },
  [`dense, ${activation.kind}, layerNorm, dense, ${activation.kind}`]: {
    input: [4],
    layers: [dense(5), activation, layerNorm(), dense(OUTPUTS), activation],
    loss: meanSquaredError(),
  },
});

const cases: Record<string, Case> = {
  "dense": { input: [4], layers: [dense(OUTPUTS)] },
  "dense without bias": { input: [4], layers: [dense(6, { bias: false }), dense(OUTPUTS, { bias: false })] },
  "dense, dense, dense": { input: [4], layers: [dense(6), dense(1), dense(OUTPUTS)] },
  ...around(relu()),
  ...around(leakyRelu(0.2)),
  ...around(gelu()),
  ...around(tanh()),
  ...around(sigmoid()),
  ...around(softmax()),
  "two activations in a row": { input: [4], layers: [dense(5), tanh(), gelu(), sigmoid(), relu(), dense(OUTPUTS)] },
  "dropout in training": {
    input: [6],
    layers: [dropout(0.3), dense(9), relu(), dropout(0.5), dense(7), dropout(0.2), gelu(), dense(OUTPUTS)],
    training: true,
  },
  "layerNorm first": { input: [4], layers: [layerNorm({ epsilon: 0.1 }), dense(OUTPUTS)] },
  "layerNorm on height, width, channels": {
    input: [2, 3, 4],
    layers: [layerNorm(), tanh(), layerNorm({ epsilon: 0.01 }), flatten(), dense(OUTPUTS)],
  },
  "flatten of one axis": { input: [4], layers: [dense(5), flatten(), dense(OUTPUTS)] },
  ...Object.fromEntries(
    [
      softmaxCrossEntropy(),
      softmaxCrossEntropy({ labelSmoothing: 0.1 }),
      meanSquaredError(),
      binaryCrossEntropy(),
      binaryCrossEntropy({ labelSmoothing: 0.2 }),
    ].map((loss) => [`loss ${JSON.stringify(loss)}`, { input: [4], layers: [dense(5), tanh(), dense(OUTPUTS)], loss }]),
  ),
};

const optionsOf = (one: Case) => ({ input: one.input, layers: one.layers, loss: one.loss ?? softmaxCrossEntropy() });

const rowsFor = (one: Case) => {
  const labels = optionsOf(one).loss.kind === "softmaxCrossEntropy";
  return table(ROWS, { shape: one.input, ...(labels ? { classes: OUTPUTS } : { values: OUTPUTS }) });
};

for (const [name, one] of Object.entries(cases)) {
  Deno.test(`gradients() equals finite differences: ${name}`, async () => {
    using network = Network.create({ ...optionsOf(one), precision: "f64", threads: 1 });
    scramble(network, 7);
    using data = await Dataset.create(rowsFor(one));
    const options = { training: one.training ?? false, seed: 3 };
    const { gradients } = await network.gradients(data, options);
    assertEquals([...gradients.keys()], [...network.parameters().keys()]);
    for (const [parameter, values] of network.parameters()) {
      const differences = new Float64Array(values.length);
      for (let index = 0; index < values.length; index++) {
        const lossAt = async (shift: number) => {
          const changed = values.slice();
          changed[index]! += shift;
          network.write(parameter, changed);
          return (await network.gradients(data, options)).loss;
        };
        differences[index] = (await lossAt(DIFFERENCE_STEP) - await lossAt(-DIFFERENCE_STEP)) / (2 * DIFFERENCE_STEP);
      }
      network.write(parameter, values);
      // Differences lose the digits that a loss has before its point, so a tensor with a tiny gradient is compared on the scale
      // of a gradient of 0.01.
      const found = [...gradients.get(parameter)!, 0.01];
      const place = { name: `${name}, ${parameter}`, limit: tolerance.differences.f64 };
      assertClose(place, found, [...differences, 0.01]);
    }
  });
}

Deno.test("gradients() in f32 is close to f64 in every case", async () => {
  for (const [name, one] of Object.entries(cases)) {
    using narrow = Network.create({ ...optionsOf(one), threads: 1 });
    using wide = Network.create({ ...optionsOf(one), precision: "f64", threads: 1 });
    scramble(narrow, 7);
    for (const [parameter, values] of narrow.parameters()) wide.write(parameter, values);
    const options = { training: one.training ?? false, seed: 3 };
    const [found, expected] = [
      await narrow.gradients(rowsFor(one), options),
      await wide.gradients(rowsFor(one), options),
    ];
    for (const [parameter, gradient] of expected.gradients) {
      const place = { name: `${name}, ${parameter}`, limit: tolerance.golden.f32 };
      assertClose(place, [...found.gradients.get(parameter)!, 0.01], [...gradient, 0.01]);
    }
  }
});

Deno.test("gradients() without training leaves dropout out, and changes no parameter", async () => {
  const layers = [dense(8), relu(), dense(OUTPUTS)];
  using plain = Network.create({ input: [4], layers, precision: "f64" });
  using dropping = Network.create({
    input: [4],
    layers: [dense(8), relu(), dropout(0.5), dense(OUTPUTS)],
    precision: "f64",
  });
  scramble(plain, 1);
  const names: Record<string, string> = {
    "0.weight": "0.weight",
    "0.bias": "0.bias",
    "2.weight": "3.weight",
    "2.bias": "3.bias",
  };
  for (const [name, values] of plain.parameters()) dropping.write(names[name]!, values);
  const before = [...dropping.parameters().values()];
  const rows = table(ROWS, { shape: [4], classes: OUTPUTS });
  const [a, b] = [await plain.gradients(rows), await dropping.gradients(rows)];
  assertEquals([...a.gradients.values()], [...b.gradients.values()]);
  const other = await dropping.gradients(rows, { training: true });
  assert(other.loss !== b.loss);
  assertEquals([...dropping.parameters().values()], before);
});

Deno.test("the cases hold every kind of layer and of loss", () => {
  const listed = (fault: ConfigError) => /expected one of (.*) but/.exec(fault.message)![1]!.split(", ").sort();
  const distinct = (kinds: readonly string[]) => [...new Set(kinds)].sort();
  const all = Object.values(cases);
  const layers = listed(assertThrows(() => checkLayer({ kind: "!" }, "layers[0]"), ConfigError));
  assertEquals(distinct(all.flatMap((one) => one.layers.map((layer) => layer.kind))), layers);
  const losses = listed(assertThrows(() => checkLoss({ kind: "!" } as unknown as Loss), ConfigError));
  assertEquals(distinct(all.map((one) => optionsOf(one).loss.kind)), losses);
});
