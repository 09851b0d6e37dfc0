/** Sparse convolutions in networks: training under every schedule, and growth where neighbours hand each other tiles. */

import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import {
  adam,
  conv2d,
  Dataset,
  dense,
  EngineError,
  flatten,
  globalAvgPool2d,
  type Layer,
  type MaskSchedule,
  maxPool2d,
  Network,
  relu,
  residual,
  sparse,
  tanh,
  train,
  Trainer,
} from "../../mod.ts";
import { assertSameBits, bits, numbers, scramble, steps } from "../helpers.ts";

const SHAPE = [8, 8, 2];

const CLASSES = 3;

/** Images with noise, and in one of three places a brighter patch: the class. */
function images(rows: number) {
  const features = Float32Array.from(numbers(rows * 128, 4), (x) => 0.5 * x);
  const labels = Uint32Array.from(numbers(rows, 5), (x) => Math.floor((x + 1) / 2 * CLASSES) % CLASSES);
  for (const [row, label] of labels.entries()) {
    for (let pixel = 0; pixel < 9; pixel++) {
      const [y, x] = [2 * label + Math.floor(pixel / 3), 2 * label + pixel % 3];
      features[row * 128 + (y * 8 + x) * 2]! += 1.5;
    }
  }
  return { rows, shape: SHAPE, features, targets: { kind: "labels", classes: CLASSES, values: labels } } as const;
}

/** Neighbours of every kind, the first large enough for several threads: two convolutions that share tiles, a 1×1, a stride of 2 in a residual block, pooling, a dense layer. */
const LAYERS: Layer[] = [
  conv2d(8, { padding: "same" }),
  relu(),
  conv2d(16, { padding: "same" }),
  tanh(),
  conv2d(10, { kernel: 1 }),
  maxPool2d(),
  residual([conv2d(12, { stride: 2, padding: 1 }), relu(), conv2d(12, { padding: "same" })], [
    conv2d(12, { kernel: 1, stride: 2 }),
  ]),
  relu(),
  flatten(),
  dense(16),
  relu(),
  dense(CLASSES),
];

const SCHEDULES: readonly MaskSchedule[] = ["static", "gmp", "rigl", "set", "acdc"];

Deno.test("a network of sparse convolutions learns under every schedule, with the same bits at any number of threads", async () => {
  const data = images(240);
  for (const schedule of SCHEDULES) {
    const found: string[] = [];
    for (const threads of [1, 2]) {
      using network = Network.create({ input: SHAPE, layers: LAYERS, seed: 3, threads });
      const timing = schedule === "static" ? {} : { every: 6 };
      const options = {
        rule: sparse({ sparsity: 0.7, schedule, ...timing }),
        optimizer: adam(0.01),
        batchSize: 20,
        epochs: 8,
        seed: 1,
      };
      let [first, last] = [NaN, NaN];
      for await (const { trainLoss } of train(network, data, options)) {
        if (Number.isNaN(first)) first = trainLoss;
        last = trainLoss;
      }
      assert(last < 0.2 && last < first / 3, `${schedule}: from a loss of ${first} to ${last}`);
      const masks = await network.masks();
      const sparseOnes = masks.filter((mask) => mask.sparse);
      assertEquals(
        sparseOnes.map(({ layer }) => layer),
        ["2", "4", "6.body.0", "6.body.2", "6.shortcut.0", "9"],
        schedule,
      );
      for (const { weights, nonZeros, layer } of sparseOnes) {
        assertEquals(nonZeros, Math.round(weights * (1 - 0.7)), `${schedule}, layer ${layer}`);
        const mask = network.mask(layer);
        assert(network.read(`${layer}.weight`).every((weight, at) => mask[at] === 1 || weight === 0));
      }
      found.push(bits(network));
    }
    assertSameBits(found[1]!, found[0]!, `${schedule}, 2 threads`);
  }
});

Deno.test("rigl grows the weights of convolutions with the largest gradients, also where their neighbours hand them tiles", async () => {
  const layers = [
    conv2d(6, { padding: "same" }),
    relu(),
    conv2d(7, { padding: "same" }),
    relu(),
    conv2d(9, { stride: 2 }),
    relu(),
    conv2d(5, { kernel: 1 }),
    globalAvgPool2d(),
    dense(CLASSES),
  ];
  const masked = ["2", "4", "6"];
  const make = () => {
    const network = Network.create({ input: SHAPE, layers, seed: 3, precision: "f64" });
    scramble(network, 5);
    return network;
  };
  using network = make();
  using whole = make();
  using data = await Dataset.create(images(9));
  const rule = sparse({ sparsity: 0.8, schedule: "rigl", every: 3, end: 1 });
  using _trainer = await Trainer.create(network, data, { batchSize: 9, epochs: 30, rule, optimizer: adam(0.01) });
  await steps(network, data, 3);
  for (const [name, values] of network.parameters()) whole.write(name, values);
  const before = masked.map((layer) => network.mask(layer));
  const { gradients } = await whole.gradients(images(9));
  await steps(network, data, 1);
  for (const [i, layer] of masked.entries()) {
    const [old, now] = [before[i]!, network.mask(layer)];
    const steepness = gradients.get(`${layer}.weight`)!.map(Math.abs);
    const places = [...old.keys()].filter((at) => old[at] === 0).sort((a, b) => steepness[b]! - steepness[a]!);
    const grown = places.filter((at) => now[at] === 1);
    assert(grown.length > 0, `layer ${layer}`);
    assertEquals(new Set(grown), new Set(places.slice(0, grown.length)), `layer ${layer}`);
    assert(grown.every((at) => network.read(`${layer}.weight`)[at] === 0));
  }
});

Deno.test("images too large for the kernels are refused by the layer's name, and change nothing", async () => {
  using network = Network.create({
    input: [2048, 2048, 64],
    layers: [conv2d(2, { kernel: 1 }), globalAvgPool2d(), dense(1)],
  });
  const refused = await assertRejects(() => network.sparsify({ sparsity: 0.5, layers: ["0"] }), EngineError);
  assertStringIncludes(refused.message, "expected less than 2³¹ numbers in 16 rows of a batch");
  assert((await network.masks()).every(({ sparse }) => !sparse));
});
