import { assertRejects, assertThrows } from "@std/assert";
import {
  adam,
  avgPool2d,
  batchNorm,
  binaryCrossEntropy,
  cifar10,
  compare,
  conv2d,
  cosine,
  csvStream,
  decorrelated,
  dense,
  dual,
  EarlyStopping,
  energy,
  findLearningRate,
  frontContribution,
  glyphs,
  idxData,
  maxPool2d,
  memAop,
  mlp,
  mnist,
  Network,
  npyData,
  npzData,
  oneCycle,
  parseCsv,
  readCsv,
  sgd,
  sparse,
  spectra,
  spirals,
  train,
  Trainer,
} from "../mod.ts";
import { ConfigError } from "../src/errors.ts";
import { readParquet } from "../src/formats/parquet.ts";
import { native } from "../src/ffi/native.ts";

native();

/** What people pass where options belong, and how a message shows it. */
const WRONG: readonly (readonly [unknown, string])[] = [
  [null, "null"],
  [3, "3"],
  ["k", '"k"'],
  [[], "[]"],
  [dense, "the function dense, not called"],
];

/** Functions with options, by the name and the example that their refusal has. */
const CALLS: Readonly<Record<string, readonly [example: string, call: (options: never) => unknown]>> = {
  memAop: ["k", memAop],
  "memAop.paper": ["k", memAop.paper],
  sparse: ["sparsity", sparse],
  decorrelated: ["rate", decorrelated],
  dual: ["mode", dual],
  frontContribution: ["collapse", frontContribution],
  dense: ["bias", (options) => dense(8, options)],
  conv2d: ["kernel", (options) => conv2d(8, options)],
  maxPool2d: ["stride", (options) => maxPool2d(2, options)],
  avgPool2d: ["stride", (options) => avgPool2d(2, options)],
  batchNorm: ["epsilon", batchNorm],
  mlp: ["input", mlp],
  loss: ["labelSmoothing", binaryCrossEntropy],
  optimizer: ["momentum", (options) => sgd(0.1, options)],
  schedule: ["finalFactor", cosine],
  glyphs: ["rows", glyphs],
  spirals: ["rows", spirals],
  spectra: ["rows", spectra],
  parseCsv: ["target", (options) => parseCsv("a,b", options)],
  earlyStopping: ["patience", (options) => new EarlyStopping(options)],
  options: ["input", Network.create],
};

Deno.test("functions with options refuse what is no object by name", () => {
  for (const [name, [example, call]] of Object.entries(CALLS)) {
    for (const [wrong, shown] of WRONG) {
      const message = `Cannot use ${name}: expected options such as { ${example}: … } but found ${shown}`;
      assertThrows(() => call(wrong as never), ConfigError, message, `${name}(${shown})`);
    }
  }
  assertThrows(() => oneCycle(null as never), ConfigError, "Cannot use schedule: expected options such as { rise: … }");
  assertThrows(
    () => adam(0.1, null as never),
    ConfigError,
    "Cannot use optimizer: expected options such as { beta1: … }",
  );
});

Deno.test("calls of the engine refuse what is no object by name", async () => {
  const { train: rows } = spirals({ rows: 30, testRows: 10 });
  using network = Network.create(mlp({ input: [2], outputs: 3, hidden: [4] }));
  const calls: Readonly<Record<string, (options: never) => Promise<unknown>>> = {
    "options: expected options such as { rule: … }": (options) => Trainer.create(network, rows, options),
    "options: expected options such as { epochs: … }": (options) => train(network, rows, options).next(),
    "findLearningRate: expected options such as { lowest: … }": (options) => findLearningRate(network, rows, options),
    "compare: expected options such as { network: … }": compare,
    "mnist: expected options such as { dataDir: … }": mnist,
    "cifar10: expected options such as { dataDir: … }": cifar10,
    "energy: expected options such as { dataDir: … }": energy,
    "readCsv: expected options such as { target: … }": (options) => readCsv("never.csv", options),
    "csvStream: expected options such as { target: … }": (options) => csvStream("never.csv", options),
    "idxData: expected options such as { classes: … }": (options) => idxData("never", options),
    "npyData: expected options such as { features: … }": npyData,
    "npzData: expected options such as { task: … }": (options) => npzData("never.npz", options),
    "readParquet: expected options such as { target: … }": (options) => readParquet("never.parquet", options),
    "evaluate: expected options such as { topK: … }": (options) => network.evaluate(rows, options),
    "gradients: expected options such as { rule: … }": (options) => network.gradients(rows, options),
    "save: expected options such as { compact: … }": (options) => network.save("never.safetensors", options),
  };
  const plan = (options: never) => network.plan(rows, options);
  for (const [wrong, shown] of WRONG) {
    for (const [message, call] of Object.entries(calls)) {
      await assertRejects(() => call(wrong as never), ConfigError, `Cannot use ${message} but found ${shown}`);
    }
    const message = `Cannot use options: expected options such as { rule: … } but found ${shown}`;
    await assertRejects(() => plan(wrong as never), ConfigError, message);
  }
});

Deno.test("data sets refuse misspelt options with the nearest name", async () => {
  const misspelt = { row: 20 } as never;
  assertThrows(
    () => glyphs(misspelt),
    ConfigError,
    "Cannot use glyphs.row: expected one of rows, testRows, seed (did you",
  );
  assertThrows(() => spirals(misspelt), ConfigError, "Cannot use spirals.row");
  assertThrows(() => spectra(misspelt), ConfigError, "Cannot use spectra.row");
  assertThrows(() => parseCsv("a,b\n1,2", { targt: "b" } as never), ConfigError, "(did you mean target?)");
  await assertRejects(() => readCsv("never.csv", { targt: "b" } as never), ConfigError, "(did you mean target?)");
  await assertRejects(() => csvStream("never.csv", { fitRow: 3 } as never), ConfigError, "(did you mean fitRows?)");
  await assertRejects(() => mnist({ downlod: true } as never), ConfigError, "(did you mean download?)");
  await assertRejects(() => idxData("never", { clases: 3 } as never), ConfigError, "(did you mean classes?)");
  await assertRejects(() => npzData("never.npz", { tsk: "regression" } as never), ConfigError, "(did you mean task?)");
});
