/** Networks for images: what is refused, models, running statistics, the same bits at any number of threads. */

import { assert, assertEquals, assertThrows } from "@std/assert";
import {
  avgPool2d,
  batchNorm,
  cnn,
  ConfigError,
  conv2d,
  convnet,
  Dataset,
  dense,
  dropout2d,
  EngineError,
  flatten,
  globalAvgPool2d,
  groupNorm,
  type Layer,
  maxPool2d,
  mlp,
  Network,
  relu,
  residual,
  resnet18,
  sgd,
  train,
  Trainer,
} from "../../mod.ts";
import { checkLayer } from "../../src/network/layers.ts";
import { assertSameBits, bitsOf, steps, table } from "../helpers.ts";
import { assertClose, tolerance } from "../tolerance.ts";

const refused: [what: string, layers: Layer[], message: string][] = [
  [
    "images for dense()",
    [dense(3)],
    "Cannot use layer 0 (dense): expected inputs with one axis but found the shape [6, 7, 2]; put flatten() before dense()",
  ],
  [
    "rows for conv2d()",
    [flatten(), conv2d(3)],
    "Cannot use layer 1 (conv2d): expected images of shape [height, width, channels] but found [84]",
  ],
  [
    "rows for a pool",
    [flatten(), maxPool2d()],
    "Cannot use layer 1 (maxPool2d): expected images of shape [height, width, channels] but found [84]",
  ],
  [
    "rows for the mean",
    [flatten(), globalAvgPool2d()],
    "Cannot use layer 1 (globalAvgPool2d): expected images of shape [height, width, channels] but found [84]",
  ],
  [
    "rows for dropout2d()",
    [flatten(), dropout2d(0.1)],
    "Cannot use layer 1 (dropout2d): expected images of shape [height, width, channels] but found [84]",
  ],
  [
    "a large kernel",
    [conv2d(3, { kernel: [9, 3], padding: 1 })],
    "Cannot use layer 0 (conv2d): expected a kernel no larger than the padded image (8×9) but found 9×3",
  ],
  [
    "groups that do not divide",
    [conv2d(3, { groups: 3 })],
    "Cannot use layer 0 (conv2d): expected a number of groups that divides 2 input and 3 output channels but found 3",
  ],
  [
    "a large window",
    [maxPool2d(2), maxPool2d(4)],
    "Cannot use layer 1 (maxPool2d): expected a window no larger than the padded image (3×3) but found 4×4",
  ],
  [
    "padding as large as the window",
    [avgPool2d(2, { padding: 2 })],
    "Cannot use layer 0 (avgPool2d): expected a padding smaller than the window (2×2) but found 2×2",
  ],
  [
    "a window of more than a byte counts",
    [maxPool2d([16, 16], { padding: 8 })],
    "Cannot use layer 0 (maxPool2d): expected a window of 1 to 255 pixels but found 16×16",
  ],
  [
    "groups of groupNorm()",
    [groupNorm(4)],
    "Cannot use groups of layer 0 (groupNorm): expected a number that divides the 2 channels but found 4",
  ],
  [
    "branches of two shapes",
    [residual([conv2d(2)])],
    "Cannot use layer 0 (residual): expected two branches of the same shape but found [4, 5, 2] from the body and [6, 7, 2] from the shortcut",
  ],
  [
    "branches of two numbers of channels",
    [residual([conv2d(3, { padding: 1 })], [conv2d(4, { padding: 1 })])],
    "Cannot use layer 0 (residual): expected two branches of the same shape but found [6, 7, 3] from the body and [6, 7, 4] from the shortcut",
  ],
  [
    "an empty body",
    [residual([])],
    "Cannot use layer 0 (residual): expected a body that computes something but found none",
  ],
  [
    "a fault inside a branch",
    [conv2d(2, { padding: "same" }), residual([groupNorm(2), conv2d(2, { kernel: 7 })])],
    "Cannot use layer 1.body.1 (conv2d): expected a kernel no larger than the padded image (6×7) but found 7×7",
  ],
];

for (const [what, layers, message] of refused) {
  Deno.test(`Network.create() refuses ${what}, naming the layer`, () => {
    const fault = assertThrows(() => Network.create({ input: [6, 7, 2], layers }), EngineError);
    assertEquals(fault.message, message);
  });
}

Deno.test("initial weights of another size are refused in numbers", () => {
  const layers = [conv2d(4, { weightInit: new Float32Array(10) })];
  const fault = assertThrows(() => Network.create({ input: [6, 7, 3], layers }), EngineError);
  assertEquals(
    fault.message,
    "Cannot use the array for 0.weight: expected 4×3×3×3 = 108 numbers but found 10",
  );
});

Deno.test("layers of images refuse options that they cannot use", () => {
  const message = (make: () => unknown) => assertThrows(make, ConfigError).message;
  assertEquals(message(() => conv2d(0)), "Cannot use conv2d.filters: expected a whole number from 1 up but found 0");
  assertEquals(
    message(() => conv2d(3, { kernel: [3, 3, 3] as unknown as [number, number] })),
    "Cannot use conv2d.kernel: expected one number, or two (downwards, to the right) but found 3 numbers",
  );
  assertEquals(
    message(() => conv2d(3, { kernel: 2, padding: "same" })),
    'Cannot use conv2d.padding: expected numbers, since "same" needs an odd kernel but found "same" for 2×2',
  );
  assertEquals(
    message(() => conv2d(3, { stride: 2, padding: "same" })),
    'Cannot use conv2d.padding: expected numbers, since "same" needs stride 1 but found "same" for stride 2×2',
  );
  assertEquals(
    message(() => conv2d(3, { padding: "valid" as "same" })),
    'Cannot use conv2d.padding: expected a whole number from 0 up, two of them, or "same" but found "valid"',
  );
  assertEquals(
    message(() => conv2d(3, { kernel: "3" as unknown as number })),
    'Cannot use conv2d.kernel: expected a whole number from 1 up but found "3"',
  );
  assertEquals(
    message(() => conv2d(3, { bias: "true" as unknown as boolean })),
    'Cannot use conv2d.bias: expected true or false but found "true"',
  );
  assertEquals(
    message(() => maxPool2d(0)),
    "Cannot use maxPool2d.kernel: expected a whole number from 1 up but found 0",
  );
  assertEquals(
    message(() => dropout2d(1)),
    "Cannot use dropout2d.rate: expected a number from 0 up and below 1 but found 1",
  );
  assertEquals(
    message(() => batchNorm({ momentum: 2 })),
    "Cannot use batchNorm.momentum: expected a number from 0 to 1 but found 2",
  );
  assertEquals(
    message(() => checkLayer({ kind: "residual", body: [{ kind: "relu" }, { kind: "reli" }] }, "layers[3]")),
    "Cannot use layers[3].body[1].kind: expected one of " +
      "dense, relu, leakyRelu, gelu, tanh, sigmoid, softmax, flatten, dropout, layerNorm, batchNorm, groupNorm, conv2d, " +
      "maxPool2d, avgPool2d, globalAvgPool2d, dropout2d, residual (did you mean relu?) but found reli",
  );
  assertEquals(
    message(() => checkLayer({ kind: "residual", shortcut: [] }, "layers[3]")),
    "Cannot use layers[3].body: expected a list of layers but found undefined",
  );
});

Deno.test("models refuse misspelt options and sizes that are none", () => {
  const message = (make: (options: never) => unknown, options: unknown) =>
    assertThrows(() => make(options as never), ConfigError).message;
  const sizes = { input: [32, 32, 3], outputs: 10 };
  assertEquals(
    message(resnet18, { ...sizes, widht: 0.5 }),
    "Cannot use resnet18.widht: expected one of input, outputs, width (did you mean width?) but found an unknown option",
  );
  assertEquals(
    message(mlp, { ...sizes, hiden: [3] }),
    "Cannot use mlp.hiden: expected one of input, outputs, hidden (did you mean hidden?) but found an unknown option",
  );
  for (const [name, model] of Object.entries({ cnn, convnet })) {
    assertEquals(
      message(model, { ...sizes, width: 2 }),
      `Cannot use ${name}.width: expected one of input, outputs but found an unknown option`,
    );
  }
  for (const model of [mlp, cnn, convnet, resnet18]) {
    assertEquals(
      message(model, { input: sizes.input }),
      "Cannot use outputs: expected a whole number from 1 up but found undefined",
    );
    assertEquals(
      message(model, { ...sizes, input: 784 }),
      "Cannot use input: expected a shape such as [28, 28, 1] but found 784",
    );
  }
  assertEquals(
    message(mlp, { ...sizes, hidden: 64 }),
    "Cannot use hidden: expected a list of widths such as [256, 128] but found 64",
  );
});

Deno.test("layers of images come from JSON with the defaults of their functions", () => {
  const layers = [
    conv2d(4),
    conv2d(4, { kernel: [3, 2], stride: 2, padding: [1, 0], groups: 2, bias: false, weightInit: "lecunNormal" }),
    maxPool2d(),
    maxPool2d([3, 2], { stride: 1, padding: 1 }),
    avgPool2d(3),
    globalAvgPool2d(),
    batchNorm(),
    groupNorm(2),
    dropout2d(0.5),
    residual([conv2d(4, { padding: "same" })], [relu()]),
  ];
  for (const layer of layers) assertEquals(checkLayer(JSON.parse(JSON.stringify(layer)), "layer"), layer);
  assertEquals(checkLayer({ kind: "conv2d", filters: 4 }, "layer"), conv2d(4));
  assertEquals(
    checkLayer({ kind: "conv2d", filters: 4, kernel: 5, padding: "same" }, "layer"),
    conv2d(4, { kernel: 5, padding: "same" }),
  );
  assertEquals(checkLayer({ kind: "maxPool2d" }, "layer"), maxPool2d());
  assertEquals(checkLayer({ kind: "residual", body: [{ kind: "relu" }] }, "layer"), residual([relu()]));
});

Deno.test("initial arrays reach convolutions, also in branches, in the order outputs, channels, height, width", async () => {
  const weightInit = Float32Array.from([1, 2, 3, 4, 5, 6, 7, 8]);
  const inner = conv2d(1, { kernel: 1, weightInit: new Float32Array([0]), biasInit: new Float32Array([0]) });
  using network = Network.create({
    input: [2, 2, 2],
    layers: [
      conv2d(1, { kernel: 2, weightInit, biasInit: new Float64Array([0.5]) }),
      residual([inner]),
      flatten(),
    ],
    loss: { kind: "meanSquaredError" },
  });
  assertEquals([...network.read("0.weight")], [1, 2, 3, 4, 5, 6, 7, 8]);
  assertEquals(network.tensors().map((tensor) => [tensor.name, tensor.shape]).slice(0, 4), [
    ["0.weight", [1, 2, 2, 2]],
    ["0.bias", [1]],
    ["1.body.0.weight", [1, 1, 1, 1]],
    ["1.body.0.bias", [1]],
  ]);
  // Channel 0 has 1000, 100, 10, 1 and channel 1 has 0.1, 0, 0, 0, pixel by pixel.
  const [value] = await network.predict(new Float32Array([1000, 0.1, 100, 0, 10, 0, 1, 0]));
  assertClose({ name: "prediction", limit: tolerance.formula.f32 }, [value!], [1000 + 200 + 30 + 4 + 0.5 + 0.5]);
});

Deno.test("cnn(), convnet() and resnet18() have their published sizes", () => {
  const total = (model: Parameters<typeof Network.create>[0]) => {
    using network = Network.create(model);
    const { parameters, layers } = network.describe();
    return [parameters, layers.at(-1)!.shape, layers.reduce((sum, layer) => sum + layer.multiplyAdds, 0)];
  };
  assertEquals(total(cnn({ input: [28, 28, 1], outputs: 10 })), [225_034, [10], 2_631_040]);
  assertEquals(total(convnet({ input: [32, 32, 3], outputs: 10 })), [591_274, [10], 25_003_264]);
  // 11,173,962: as counted for PyTorch's ResNet-18 with a 3×3 stem and ten classes.
  assertEquals(total(resnet18({ input: [32, 32, 3], outputs: 10 })), [11_173_962, [10], 555_422_720]);
  assertEquals(total(resnet18({ input: [32, 32, 3], outputs: 10, width: 0.001 }))[1], [10]);
  assertThrows(() => resnet18({ input: [32, 32, 3], outputs: 10, width: 0 }), ConfigError);
});

Deno.test("summary() shows layers inside residual ones before their sum", () => {
  using network = Network.create({
    input: [4, 4, 1],
    layers: [residual([conv2d(1, { padding: 1 }), batchNorm()], [conv2d(1, { kernel: 1 })]), flatten()],
  });
  assertEquals(
    network.summary().split("\n").slice(2).map((line) => line.trim().split(/\s{2,}/)),
    [
      ["0.body.0", "conv2d", "4×4×1", "10", "144"],
      ["0.body.1", "batchNorm", "4×4×1", "2", "0"],
      ["0.shortcut.0", "conv2d", "4×4×1", "2", "16"],
      ["0", "residual", "4×4×1", "0", "0"],
      ["1", "flatten", "16", "0", "0"],
      ["total", "14", "160"],
    ],
  );
});

const everything = {
  input: [9, 10, 3],
  layers: [
    conv2d(8, { padding: "same" }),
    batchNorm(),
    relu(),
    maxPool2d(),
    residual([conv2d(8, { padding: 1, groups: 8 }), groupNorm(2)]),
    relu(),
    dropout2d(0.2),
    residual([conv2d(12, { padding: 1, stride: 2 }), batchNorm()], [conv2d(12, { kernel: 1, stride: 2 })]),
    avgPool2d(2, { stride: 1 }),
    globalAvgPool2d(),
    batchNorm(),
    dense(4),
  ],
  seed: 5,
} as const;

Deno.test("training gives the same bits at 1, 2 and 3 threads, running statistics included", async () => {
  const rows = table(90, { shape: everything.input, classes: 4 });
  const results: string[] = [];
  for (const threads of [1, 2, 3]) {
    using network = Network.create({ ...everything, threads });
    const options = {
      epochs: 2,
      batchSize: 32,
      optimizer: sgd(0.05, { momentum: 0.9 }),
      augment: { crop: 2, flip: true },
    };
    for await (const progress of train(network, rows, options)) assert(Number.isFinite(progress.trainLoss));
    const kept = network.tensors().filter(({ group }) => group === "parameter" || group === "buffer");
    assert(kept.some(({ name }) => name === "1.running_var"));
    results.push(bitsOf(kept.map(({ name }) => network.read(name))));
  }
  assertSameBits(results[1]!, results[0]!, "2 threads");
  assertSameBits(results[2]!, results[0]!, "3 threads");
});

Deno.test("batchNorm() keeps running statistics as PyTorch does, and evaluation takes them", async () => {
  using network = Network.create({
    input: [1],
    layers: [batchNorm({ momentum: 0.25, epsilon: 0.5 })],
    loss: { kind: "meanSquaredError" },
    precision: "f64",
  });
  const features = Float64Array.from([1, 2, 4, 9]);
  const rows = { rows: 4, shape: [1], features, targets: { kind: "values", size: 1, values: features } } as const;
  for await (const _ of train(network, rows, { epochs: 1, batchSize: 4, optimizer: sgd(1e-9) })) { /* one step */ }
  // Mean 4; unbiased variance 38 / 3.
  assertClose({ name: "mean", limit: 1e-12 }, network.read("0.running_mean"), [0.25 * 4]);
  assertClose({ name: "variance", limit: 1e-12 }, network.read("0.running_var"), [0.75 + 0.25 * 38 / 3]);
  const [value] = await network.predict(Float64Array.from([9]));
  assertClose({ name: "prediction", limit: 1e-6 }, [value!], [(9 - 1) / Math.sqrt(0.75 + 0.25 * 38 / 3 + 0.5)]);
  const before = network.read("0.running_mean");
  await network.gradients(rows, { training: true });
  assertEquals(network.read("0.running_mean"), before);
});

Deno.test("batchNorm() refuses single rows in training, and takes them where an image has pixels", async () => {
  const attempt = async (
    options: { batchSize: number; dropLast?: boolean },
    { input, layers }: { input: number[]; layers: Layer[] },
  ) => {
    using network = Network.create({ input, layers });
    try {
      for await (
        const _ of train(network, table(9, { shape: input, classes: 3 }), { epochs: 1, ...options })
      ) { /* all */ }
    } catch (fault) {
      return (fault as EngineError).message;
    }
    return "trained";
  };
  const flat = { input: [4], layers: [dense(5), batchNorm(), dense(3)] };
  assertEquals(
    await attempt({ batchSize: 1 }, flat),
    "Cannot use batchSize: expected batches of at least 2 rows for layer 1 (batchNorm) but found batches of 1",
  );
  assertEquals(
    await attempt({ batchSize: 4 }, flat),
    "Cannot use batchSize: expected batches of at least 2 rows for layer 1 (batchNorm) but found a last batch (of 9 rows by 4) of 1",
  );
  assertEquals(await attempt({ batchSize: 4, dropLast: true }, flat), "trained");
  assertEquals(await attempt({ batchSize: 3 }, flat), "trained");
  const images = { input: [4, 4, 1], layers: [conv2d(2), batchNorm(), flatten(), dense(3)] };
  assertEquals(await attempt({ batchSize: 1 }, images), "trained");
  assertEquals(
    await attempt({ batchSize: 1 }, { ...images, input: [3, 3, 1] }),
    "Cannot use batchSize: expected batches of at least 2 rows for layer 1 (batchNorm) but found batches of 1",
    "images of one pixel",
  );
  using network = Network.create(flat);
  const one = table(1, { shape: [4], classes: 3 });
  await network.gradients(one);
  const fault = await network.gradients(one, { training: true }).catch((fault) => fault);
  assert(fault instanceof EngineError && fault.message.includes("layer 1 (batchNorm)"), String(fault));
});

Deno.test("images of another size are refused", async () => {
  using network = Network.create(cnn({ input: [28, 28, 1], outputs: 10 }));
  const fault = await network.evaluate(table(2, { shape: [32, 32, 3], classes: 10 })).catch((fault) => fault);
  assertEquals(
    (fault as EngineError).message,
    "Cannot use the data set: expected rows of shape [28, 28, 1] (the network's input) but found [32, 32, 3]",
  );
});

Deno.test("layerTimes() tells the seconds of each layer in training, changes no bit, and is refused where nothing was measured", async () => {
  const rows = table(64, { shape: everything.input, classes: 4 });
  using data = await Dataset.create(rows);
  const trained = async (measured: boolean) => {
    using network = Network.create(everything);
    const refusal = async () => (await network.layerTimes().catch((fault) => fault) as EngineError).message;
    assertEquals(await refusal(), "Cannot tell the times of layers: no training run is attached to this network");
    using _trainer = await Trainer.create(network, data, { epochs: 4, batchSize: 32 });
    assertEquals(
      await refusal(),
      "Cannot tell the times of layers: nothing was measured; call startLayerTimes() first",
    );
    if (measured) await network.startLayerTimes();
    const start = performance.now();
    await steps(network, data, 3);
    const seconds = (performance.now() - start) / 1000;
    if (measured) {
      const times = await network.layerTimes();
      const sum = times.reduce((sum, { forward, backward }) => sum + forward + backward, 0);
      assert(0 < sum && sum < seconds, `${sum} of ${seconds} seconds`);
      for (const kind of ["conv2d", "batchNorm", "maxPool2d", "residual", "groupNorm", "dense"]) {
        assert(times.some((time) => time.kind === kind && time.forward > 0 && time.backward > 0), kind);
      }
      const names = network.describe().layers.map(({ name }) => name);
      assert(times.every(({ name }) => names.includes(name)));
      await refusal();
    }
    return bitsOf([...network.parameters().values()]);
  };
  assertSameBits(await trained(true), await trained(false), "measured");
});
