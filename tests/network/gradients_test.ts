/** Every layer and every loss against central finite differences, parameter by parameter, in f64; f32 against f64. */

import { assert, assertEquals, assertThrows } from "@std/assert";
import {
  avgPool2d,
  batchNorm,
  binaryCrossEntropy,
  ConfigError,
  conv2d,
  Dataset,
  dense,
  dropout,
  dropout2d,
  flatten,
  gelu,
  globalAvgPool2d,
  groupNorm,
  type Layer,
  layerNorm,
  leakyRelu,
  type Loss,
  maxPool2d,
  meanSquaredError,
  Network,
  relu,
  residual,
  sigmoid,
  softmax,
  softmaxCrossEntropy,
  tanh,
} from "../../mod.ts";
import { checkLayer } from "../../src/network/layers.ts";
import { checkLoss } from "../../src/network/losses.ts";
import { numbers, scramble, table } from "../helpers.ts";
import { assertClose, DIFFERENCE_STEP, tolerance } from "../tolerance.ts";

interface Case {
  readonly input: readonly number[];
  readonly layers: readonly Layer[];
  readonly loss?: Loss;
  readonly training?: boolean;
  readonly rows?: number;
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

/** Layers of images between convolutions, so that gradients pass them. A bias before a batch norm has gradient 0: none there. */
const inside = (...layers: Layer[]): Layer[] => [
  conv2d(4, { bias: layers[0]?.kind !== "batchNorm" }),
  ...layers,
  conv2d(3, { padding: 1 }),
  flatten(),
  dense(OUTPUTS),
];

const images: Record<string, Case> = {
  "conv2d at odd sizes, stride 2": {
    input: [6, 7, 2],
    layers: [conv2d(3, { stride: 2 }), tanh(), conv2d(4, { kernel: 2, stride: [1, 2] }), flatten(), dense(OUTPUTS)],
  },
  "conv2d with a kernel as large as the padded image, and padding beyond half the kernel": {
    input: [3, 2, 1],
    layers: [
      conv2d(2, { kernel: [5, 4], padding: [1, 1] }),
      sigmoid(),
      conv2d(3, { kernel: 2, padding: 2 }),
      flatten(),
      dense(OUTPUTS),
    ],
  },
  "conv2d of one channel, one row of the batch": {
    input: [5, 4, 1],
    layers: [conv2d(1, { bias: false }), relu(), conv2d(1, { padding: "same" }), flatten(), dense(OUTPUTS)],
    rows: 1,
  },
  "conv2d in groups, depthwise, 1×1": {
    input: [5, 5, 4],
    layers: [
      conv2d(6, { groups: 2 }),
      gelu(),
      conv2d(12, { groups: 6, padding: 1, stride: 2 }),
      conv2d(4, { kernel: 1 }),
      flatten(),
      dense(OUTPUTS),
    ],
  },
  "maxPool2d, windows apart, overlapping and padded": {
    input: [9, 8, 2],
    layers: inside(maxPool2d(2), maxPool2d([3, 2], { stride: 1, padding: 1 })),
  },
  "maxPool2d first": { input: [5, 5, 2], layers: [maxPool2d(2), flatten(), dense(OUTPUTS)] },
  "avgPool2d, windows apart, overlapping and padded": {
    input: [9, 8, 2],
    layers: inside(avgPool2d(2), avgPool2d([3, 2], { stride: [1, 2], padding: 1 })),
  },
  "maxPool2d of one channel, padded beyond half the window, one row of the batch": {
    input: [5, 4, 1],
    layers: [conv2d(1), maxPool2d(3, { stride: 2, padding: 2 }), tanh(), flatten(), dense(OUTPUTS)],
    rows: 1,
  },
  "avgPool2d of one channel, padded beyond half the window, one row of the batch": {
    input: [5, 4, 1],
    layers: [conv2d(1), avgPool2d([3, 4], { stride: [2, 1], padding: [2, 3] }), tanh(), flatten(), dense(OUTPUTS)],
    rows: 1,
  },
  "maxPool2d and avgPool2d at odd sizes, remainders cut off": {
    input: [8, 9, 1],
    layers: inside(maxPool2d([2, 3], { padding: [1, 2] }), avgPool2d(2, { stride: 3, padding: 1 })),
  },
  "globalAvgPool2d of one channel, one row of the batch": {
    input: [3, 4, 1],
    layers: [conv2d(1, { kernel: [2, 1] }), tanh(), globalAvgPool2d(), dense(OUTPUTS)],
    rows: 1,
  },
  "conv2d in groups with an uneven kernel": {
    input: [5, 6, 4],
    layers: [
      conv2d(6, { kernel: [2, 5], groups: 2, padding: [1, 2] }),
      tanh(),
      conv2d(3, { kernel: [4, 1], groups: 3, stride: [1, 2] }),
      flatten(),
      dense(OUTPUTS),
    ],
  },
  "globalAvgPool2d": { input: [4, 5, 2], layers: [conv2d(5), relu(), globalAvgPool2d(), dense(OUTPUTS)] },
  "batchNorm of images in training": { input: [5, 4, 2], layers: inside(batchNorm()), training: true },
  "batchNorm of images in training, one row": {
    input: [5, 4, 2],
    layers: inside(batchNorm()),
    training: true,
    rows: 1,
  },
  "batchNorm with a fused ReLU": {
    input: [5, 4, 2],
    layers: inside(batchNorm({ epsilon: 0.1 }), relu(), batchNorm()),
    training: true,
  },
  "batchNorm in evaluation": { input: [5, 4, 2], layers: inside(batchNorm(), batchNorm({ epsilon: 0.1 }), relu()) },
  "batchNorm first, dense, in both modes": {
    input: [4],
    layers: [batchNorm(), dense(5), batchNorm({ momentum: 0.5 }), relu(), dense(OUTPUTS)],
    training: true,
  },
  "batchNorm first, in evaluation": {
    input: [4],
    layers: [batchNorm(), dense(5), batchNorm(), tanh(), dense(OUTPUTS)],
  },
  "groupNorm": {
    input: [5, 4, 2],
    layers: inside(groupNorm(2), tanh(), groupNorm(4, { epsilon: 0.1 }), relu(), groupNorm(1, { epsilon: 0.1 })),
  },
  "groupNorm first": { input: [2, 3, 4], layers: [groupNorm(2), flatten(), dense(OUTPUTS)], rows: 1 },
  "dropout2d in training": {
    input: [5, 4, 2],
    layers: [dropout2d(0.4), ...inside(dropout2d(0.5), relu())],
    training: true,
  },
  "residual with and without projection": {
    input: [4, 5, 2],
    layers: [
      residual([conv2d(2, { padding: 1 }), relu(), conv2d(2, { padding: 1 })]),
      relu(),
      residual([conv2d(4, { stride: 2, padding: 1, bias: false }), batchNorm(), relu()], [
        conv2d(4, { kernel: 1, stride: 2, bias: false }),
        batchNorm(),
      ]),
      relu(),
      flatten(),
      residual([dense(24), tanh(), residual([dense(24)])]),
      dense(OUTPUTS),
    ],
    training: true,
  },
};

const cases: Record<string, Case> = {
  ...images,
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
  return table(one.rows ?? ROWS, { shape: one.input, ...(labels ? { classes: OUTPUTS } : { values: OUTPUTS }) });
};

/** Gives running statistics values that are not those they begin with. */
function scrambleStatistics(network: Network): void {
  for (const { name, group, shape } of network.tensors()) {
    if (group !== "buffer") continue;
    const shift = name.endsWith("running_var") ? 1.2 : 0;
    network.write(name, numbers(shape[0]!, 5).map((x) => x + shift));
  }
}

for (const [name, one] of Object.entries(cases)) {
  Deno.test(`gradients() equals finite differences: ${name}`, async () => {
    using network = Network.create({ ...optionsOf(one), precision: "f64", threads: 1 });
    scramble(network, 7);
    scrambleStatistics(network);
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
    for (const network of [narrow, wide]) scrambleStatistics(network);
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
