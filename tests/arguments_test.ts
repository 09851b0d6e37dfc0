/** Every public function refuses arguments of the wrong kind in a sentence of its own, whatever JavaScript makes of them. */

import { assert, assertRejects, assertThrows } from "@std/assert";
import * as main from "../mod.ts";
import * as images from "../src/formats/image_folder.ts";
import * as onnx from "../src/formats/onnx.ts";
import * as parquet from "../src/formats/parquet.ts";
import * as kernels from "../src/kernels.ts";
import { native } from "../src/ffi/native.ts";

// Opened before the first test: what is opened within a test has to be closed there.
native();

const { CheckpointError, ConfigError, DataError, EngineError, Network } = main;

/** What people pass by mistake. A text is the path of a file that is not there. */
const WRONG = [null, undefined, 3, "no-such-folder/file", [], {}, true];

type Call = (...given: unknown[]) => unknown;

const functions = Object.values({ main, images, onnx, parquet, kernels }).flatMap((module) =>
  Object.entries(module).filter(([, value]) => typeof value === "function" && !isClass(value)) as [string, Call][]
);

function isClass(value: unknown): boolean {
  return /^class\b/.test(Function.prototype.toString.call(value));
}

/** Asserts that a call ends with one of the library's errors, or well. */
async function assertSays(call: () => unknown, what: string): Promise<void> {
  try {
    const found = await call();
    // Loops begin with their first turn.
    if (typeof found === "object" && found !== null && "next" in found) await (found as AsyncGenerator).next();
  } catch (fault) {
    const ours = [CheckpointError, ConfigError, DataError, EngineError].some((kind) => fault instanceof kind);
    assert(ours, `${what}: ${fault}`);
  }
}

Deno.test("public functions answer a first argument of the wrong kind with an error of the library", async () => {
  assert(functions.length > 90, `${functions.length} functions`);
  for (const [name, call] of functions) {
    // Without options these read data sets that this machine may have.
    const reads = ["mnist", "cifar10", "energy", "loadData"].includes(name);
    for (const wrong of WRONG) {
      if (reads && (wrong === undefined || String(wrong) === "[object Object]")) continue;
      await assertSays(() => call(wrong), `${name}(${JSON.stringify(wrong)})`);
    }
  }
});

Deno.test("public functions that take apart what they are given name the argument", async () => {
  const data = main.glyphs({ rows: 20, testRows: 5 });
  const table = data.train;
  using network = Network.create({ input: [28, 28, 1], layers: [main.flatten(), main.dense(10)], threads: 1 });
  using set = await main.Dataset.create(table);
  const file = "no-such-folder/file";
  const folded = new Map<string, Float32Array<ArrayBuffer>>();
  const calls: readonly (readonly [message: string, call: (wrong: never) => unknown])[] = [
    ["trainer: expected a Trainer", main.probe],
    ["trainer: expected a Trainer", main.stepMultiplyAdds],
    ["trainer: expected a Trainer", main.trainingBytes],
    ["network: expected a Network", onnx.onnxBytes],
    ["network: expected a Network", (wrong) => onnx.writeOnnx(wrong, file)],
    ["network: expected a Network", (wrong) => main.saveNpz(wrong, file)],
    ["network: expected a Network", (wrong) => main.savePyTorch(wrong, file)],
    ["table: expected a table of rows, shape", (wrong) => main.checkTable(wrong, "here")],
    ["table: expected a table of rows, shape", main.hashTable],
    ["table: expected a table of rows, shape", (wrong) => main.takeRows(wrong, [0])],
    ["table: expected a table of rows, shape", (wrong) => main.shuffleRows(wrong, 0)],
    ["table: expected a table of rows, shape", main.fitStandardization],
    ["fit: expected means and deviations", (wrong) => main.standardize(table, wrong)],
    ["data: expected a data set", (wrong) => main.kernelData(wrong, { kind: "rbf", gamma: 1 })],
    ["data: expected a data set", main.normalizeChannels],
    ["kernel: expected a kernel", (wrong) => main.kernelData(data, wrong)],
    ["targets: expected targets", (wrong) => main.Dataset.create({ ...table, targets: wrong })],
    ["rows: expected a list of row numbers", (wrong) => set.select(wrong)],
    ["rows: expected a list of row numbers", (wrong) => main.takeRows(table, wrong)],
    ["array: expected an array with a shape", main.npyBytes],
    ["arrays.x: expected an array with a shape", (wrong) => main.npzBytes({ x: wrong })],
    ["arrays: expected arrays by name", main.npzBytes],
    ["bytes: expected the bytes of a file", (wrong) => main.parseNpy(wrong, "here")],
    ["bytes: expected the bytes of a file", (wrong) => main.parseNpz(wrong, "here")],
    ["bytes: expected the bytes of a file", (wrong) => main.parseIdx(wrong, "here")],
    ["paths: expected a list of files", main.readCifar],
    ["readIdx: expected options", (wrong) => main.readIdx(file, wrong)],
    ["parseCsvFeatures: expected options", (wrong) => main.parseCsvFeatures("a\n1", wrong)],
    ["plan: expected what Network.plan() gives", main.describePlan],
    ["loss: expected options", main.checkLoss],
    ["optimizer: expected options", main.checkOptimizer],
    ["schedule: expected options", main.checkSchedule],
    ["schedule.then: expected options", (wrong) => main.warmUp(1, wrong)],
    [
      "checkpoint.run: expected what",
      (wrong) => main.Trainer.resume({ network, folded, run: wrong || 3 as never }, table),
    ],
    [
      "checkpoint.run.config: expected what",
      (wrong) => main.Trainer.resume({ network, folded, run: { config: wrong, tensors: folded } }, table),
    ],
  ];
  for (const wrong of [null, 3, "k"] as never[]) {
    for (const [message, call] of calls) {
      await assertRejects(async () => await call(wrong), ConfigError, `Cannot use ${message}`, `${message} ${wrong}`);
    }
  }
  for (const wrong of [null, 3] as never[]) {
    const expected = "Cannot use the training features: expected an array with a shape";
    await assertRejects(() => main.npyData({ features: wrong, targets: wrong }), ConfigError, expected);
    assertThrows(
      () => network.write(wrong, new Float32Array(1)),
      ConfigError,
      "Cannot use name: expected the name of a tensor",
    );
    await assertRejects(
      () => images.imageFolder(wrong),
      ConfigError,
      "Cannot use folder: expected the path of a folder",
    );
    await assertRejects(
      () => main.idxData(wrong),
      ConfigError,
      "Cannot use source: expected a folder, or 2 or 4 paths",
    );
  }
});

Deno.test("a folder of images that is a file is refused as such", async () => {
  const file = new URL("../deno.json", import.meta.url).pathname;
  const expected = `Cannot read ${file}: expected a folder but found a file`;
  await assertRejects(() => images.imageFolder(file), DataError, expected);
  await assertRejects(() => images.imageStream(file), DataError, expected);
});
