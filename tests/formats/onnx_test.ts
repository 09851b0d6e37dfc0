/**
 * ONNX files: onnxruntime computes what the network predicts. It comes from PyPI; without it those tests are ignored. The
 * environment variable LEANPROP_PYTHON names the interpreter that has it (python3).
 */

import { assert, assertEquals, assertRejects } from "@std/assert";
import {
  avgPool2d,
  batchNorm,
  binaryCrossEntropy,
  cnn,
  combine,
  conv2d,
  decorrelated,
  dense,
  dropout,
  dropout2d,
  dual,
  flatten,
  frontContribution,
  gelu,
  globalAvgPool2d,
  groupNorm,
  layerNorm,
  leakyRelu,
  loadNpz,
  loadPyTorch,
  maxPool2d,
  meanSquaredError,
  memAop,
  mlp,
  Network,
  type NetworkOptions,
  relu,
  residual,
  resnet18,
  saveNpz,
  savePyTorch,
  sgd,
  sigmoid,
  softmax,
  sparse,
  spectra,
  spirals,
  tanh,
  Trainer,
  type TrainOptions,
} from "../../mod.ts";
import { onnxBytes, writeOnnx } from "../../src/formats/onnx.ts";
import { npyBytes } from "../../src/data/npy.ts";
import { assertSameBits, bits, inTemporaryFolder, numbers, scramble } from "../helpers.ts";
import { assertClose } from "../tolerance.ts";

const python = Deno.env.get("LEANPROP_PYTHON") ?? "python3";

/** Runs a program in Python; gives its output, or nothing where there is no such interpreter or package. */
async function inPython(program: string, args: readonly string[] = []): Promise<Uint8Array | undefined> {
  try {
    const command = new Deno.Command(python, { args: ["-c", program, ...args], stdin: "null", stderr: "piped" });
    const { success, stdout, stderr } = await command.output();
    if (success) return stdout;
    const text = new TextDecoder().decode(stderr);
    if (/ModuleNotFoundError/.test(text)) return undefined;
    throw new Error(text);
  } catch (fault) {
    if (fault instanceof Deno.errors.NotFound) return undefined;
    throw fault;
  }
}

const found = await inPython("import onnxruntime, numpy; print(onnxruntime.__version__)") !== undefined;

const RUN = `
import numpy, onnxruntime, sys
folder, count = sys.argv[1], int(sys.argv[2])
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
for i in range(count):
    session = onnxruntime.InferenceSession(f"{folder}/{i}.onnx", options)
    x = numpy.load(f"{folder}/{i}.npy")
    outputs, predictions = session.run(["outputs", "predictions"], {"input": x})
    numpy.save(f"{folder}/{i}.outputs.npy", outputs)
    sys.stdout.buffer.write(predictions.astype("<f4").tobytes())
`;

/** Networks with every kind of layer, and the ready-made ones. */
const image = [7, 6, 4];
const cases: Record<string, NetworkOptions> = {
  mlp: { ...mlp({ input: [20], outputs: 5 }) },
  "activations and dropout": {
    input: [9],
    layers: [
      dense(8),
      gelu(),
      dropout(0.5),
      dense(8, { bias: false }),
      tanh(),
      dense(7),
      leakyRelu(0.2),
      dense(6),
      sigmoid(),
    ],
    loss: meanSquaredError(),
  },
  "norms of rows": {
    input: [12],
    layers: [dense(8), batchNorm(), relu(), layerNorm({ epsilon: 1e-3 }), dense(6), groupNorm(3), softmax(), dense(2)],
    loss: binaryCrossEntropy(),
  },
  "convolutions, strides, groups, pooling": {
    input: image,
    layers: [
      conv2d(8, { kernel: [3, 2], stride: [2, 1], padding: [1, 0], groups: 2 }),
      batchNorm(),
      relu(),
      dropout2d(0.3),
      maxPool2d(2, { stride: 1, padding: 1 }),
      avgPool2d([2, 3], { stride: 1, padding: 1 }),
      groupNorm(4),
      tanh(),
      layerNorm(),
      flatten(),
      dense(3),
    ],
  },
  "softmax over an image, then pooling": {
    input: image,
    layers: [conv2d(4, { padding: "same" }), softmax(), conv2d(3), globalAvgPool2d(), dense(3)],
  },
  "residuals of images and rows": {
    input: image,
    layers: [
      residual([conv2d(4, { padding: "same" }), batchNorm()]),
      residual([conv2d(6, { stride: 2 })], [maxPool2d(3, { stride: 2 }), conv2d(6, { kernel: 1 })]),
      flatten(),
      residual([dense(36), relu()]),
      residual([dense(5)], [dense(5)]),
    ],
  },
  "an image as it is": { input: [3, 4, 2], layers: [flatten(), dense(2)] },
  "64-bit": { ...mlp({ input: [6], outputs: 3 }), precision: "f64" },
  cnn: { ...cnn({ input: [28, 28, 1], outputs: 10 }) },
  resnet18: { ...resnet18({ input: [8, 8, 3], outputs: 4, width: 1 / 16 }) },
  sparse: { ...mlp({ input: [20], outputs: 5, hidden: [64, 64] }) },
};

async function make(name: string, options: NetworkOptions): Promise<Network> {
  const network = Network.create({ ...options, threads: 1 });
  scramble(network, 5);
  for (const tensor of network.tensors()) {
    if (tensor.group === "buffer") network.write(tensor.name, numbers(tensor.shape[0]!, 8).map((x) => x / 2 + 1));
  }
  if (name === "sparse") await network.sparsify({ sparsity: 0.9 });
  return network;
}

/** A network in a file, with rows and what it predicts for them. */
interface Exported {
  readonly name: string;
  readonly predictions: Float32Array;
}

/** Writes a network as number `index` of a folder, with some rows. */
async function exportTo(folder: string, index: number, network: Network, name: string): Promise<Exported> {
  const shape = [5, ...network.config.input];
  const x = Float32Array.from(numbers(shape.reduce((product, axis) => product * axis, 1), index));
  await writeOnnx(network, `${folder}/${index}.onnx`);
  await Deno.writeFile(`${folder}/${index}.npy`, npyBytes({ type: "f4", shape, values: x }));
  return { name, predictions: Float32Array.from(await network.predict(x)) };
}

/** Lets onnxruntime predict the same from the files. */
async function assertPredicted(folder: string, exported: readonly Exported[]): Promise<void> {
  const output = await inPython(RUN, [folder, String(exported.length)]);
  const all = new Float32Array(output!.slice().buffer);
  let at = 0;
  for (const { name, predictions } of exported) {
    assertClose({ name, limit: 1e-5 }, all.subarray(at, at += predictions.length), predictions);
  }
  assertEquals(at, all.length);
}

Deno.test({
  name: "onnxruntime predicts what the network predicts, for every kind of layer (needs onnxruntime for Python)",
  ignore: !found,
  fn: async () => {
    await inTemporaryFolder(async (folder) => {
      const exported: Exported[] = [];
      for (const [name, options] of Object.entries(cases)) {
        using network = await make(name, options);
        exported.push(await exportTo(folder, exported.length, network, name));
      }
      await assertPredicted(folder, exported);
    });
  },
});

/** Runs whose networks have something beside or instead of plain weights while they last. */
const runs: Record<string, readonly [layers: NetworkOptions["layers"], options: TrainOptions]> = {
  decorrelated: [[dense(12), relu(), dense(12), relu(), dense(3)], { rule: decorrelated({ every: 1, rate: 0.01 }) }],
  "decorrelated, without drift": [[dense(12), relu(), dense(3)], { rule: decorrelated({ form: "driftFree" }) }],
  "decorrelated, first precomputed": [[dense(12), relu(), dense(3)], { rule: decorrelated({ first: "precompute" }) }],
  "decorrelated, in principal axes": [[dense(12), relu(), dense(3)], { rule: decorrelated({ first: "axes" }) }],
  "sparse, with masks that change": [
    [dense(32), relu(), dense(32), relu(), dense(3)],
    { rule: sparse({ schedule: "rigl", every: 2 }) },
  ],
  "sparse and mem-aop": [[dense(32), relu(), dense(3)], { rule: combine(sparse(), memAop({ minSize: 0 })) }],
  "front-contribution, gram": [
    [dense(16), relu(), dense(3)],
    { rule: frontContribution({ collapse: "gram", force: true }), optimizer: sgd(0.1) },
  ],
  "front-contribution, linear pair": [
    [dense(16), dense(8), relu(), dense(3)],
    { rule: frontContribution({ collapse: "linearPair", force: true }), optimizer: sgd(0.1) },
  ],
  "front-contribution, final": [
    [dense(16), relu(), dense(3)],
    { rule: frontContribution({ collapse: "final", force: true }), optimizer: sgd(0.1) },
  ],
  dual: [[dense(16), relu(), dense(3)], { rule: dual() }],
  averages: [[dense(16), relu(), dense(3)], { averageDecay: 0.9 }],
};

Deno.test({
  name: "onnxruntime predicts what a trained network predicts, in the middle of a run and after it (needs onnxruntime)",
  ignore: !found,
  fn: async () => {
    const { train: rows } = spectra({ rows: 60, testRows: 4, classes: 3 });
    // The first 20 columns, brought to about 1: collapses want few rows, decorrelation inputs that are correlated.
    const features = Float32Array.from({ length: 60 * 20 }, (_, at) => {
      const value = rows.features[Math.floor(at / 20) * rows.shape[0]! + (at % 20) * 100]!;
      return value + 0.3 * Math.sin(at % 20);
    });
    const table = { ...rows, shape: [20], features };
    await inTemporaryFolder(async (folder) => {
      const exported: Exported[] = [];
      for (const [name, [layers, options]] of Object.entries(runs)) {
        using network = Network.create({ input: [20], layers, seed: 3, threads: 1 });
        const before = bits(network);
        {
          using trainer = await Trainer.create(network, table, { epochs: 4, batchSize: 12, ...options });
          await trainer.epoch();
          exported.push(await exportTo(folder, exported.length, network, `${name}, in the middle`));
          for (let done = false; !done;) ({ done } = await trainer.epoch());
        }
        exported.push(await exportTo(folder, exported.length, network, `${name}, at the end`));
        assert(bits(network) !== before, `${name} has trained`);
        const [middle, end] = exported.slice(-2);
        assert(middle!.predictions.some((value, index) => value !== end!.predictions[index]), name);
      }
      await assertPredicted(folder, exported);
    });
  },
});

Deno.test("npz and state_dict of a decorrelated network in training are those of its folded one", async () => {
  using network = Network.create({ input: [2], layers: [dense(8), relu(), dense(3)], seed: 3 });
  const options = { epochs: 2, rule: decorrelated({ every: 1, rate: 0.01 }) };
  using trainer = await Trainer.create(network, spirals({ rows: 300, testRows: 10 }).train, options);
  await trainer.epoch();
  using plain = network.fold();
  assert(bits(plain) !== bits(network), "there is something to fold");
  await inTemporaryFolder(async (folder) => {
    for (const [save, load] of [[saveNpz, loadNpz], [savePyTorch, loadPyTorch]] as const) {
      using other = Network.create({ input: [2], layers: [dense(8), relu(), dense(3)] });
      await save(network, `${folder}/weights`);
      await load(other, `${folder}/weights`);
      assertSameBits(bits(other), bits(plain), save.name);
    }
  });
});

Deno.test({
  name: "onnx's own checker accepts the files (needs onnx for Python)",
  ignore: await inPython("import onnx") === undefined,
  fn: async () => {
    await inTemporaryFolder(async (folder) => {
      const names = Object.keys(cases);
      for (const [index, name] of names.entries()) {
        using network = await make(name, cases[name]!);
        await writeOnnx(network, `${folder}/${index}.onnx`);
      }
      const check = `
import onnx, sys
for i in range(int(sys.argv[2])):
    model = onnx.load(f"{sys.argv[1]}/{i}.onnx")
    onnx.checker.check_model(model, full_check=True)
    print([d.dim_param or d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim])
`;
      const output = await inPython(check, [folder, String(names.length)]);
      const lines = new TextDecoder().decode(output).trim().split("\n");
      assertEquals(lines[0], "['rows', 20]");
      assertEquals(lines.length, names.length);
    });
  },
});

Deno.test("the same network gives the same bytes, and importing loads no package", async () => {
  using network = Network.create(mlp({ input: [4], outputs: 2, hidden: [3] }));
  const bytes = await onnxBytes(network);
  assertEquals(bytes, await onnxBytes(network));
  const text = new TextDecoder().decode(bytes);
  for (const word of ["leanprop", "Gemm", "Relu", "0.weight", "predictions"]) assert(text.includes(word), word);
});

Deno.test("a 64-bit network whose numbers do not fit is refused", async () => {
  using network = Network.create({ ...mlp({ input: [1], outputs: 2, hidden: [] }), precision: "f64" });
  network.write("0.bias", Float64Array.of(1e300, 0));
  const message = "Cannot use 0.bias: expected numbers that fit into 32 bits but found 1e+300";
  await assertRejects(() => onnxBytes(network), Error, message);
});

Deno.test("npz archives bring parameters and running statistics back; others are refused by name", async () => {
  await inTemporaryFolder(async (folder) => {
    const path = `${folder}/weights.npz`;
    for (const [name, options] of Object.entries(cases)) {
      using network = await make(name, options);
      await saveNpz(network, path);
      using other = Network.create({ ...options, seed: 9 });
      if (name === "sparse") other.setMask("0", network.mask("0"));
      await loadNpz(other, path);
      assertSameBits(bits(other), bits(network), name);
    }
    const cause = async (options: NetworkOptions, message: string) => {
      using network = Network.create(options);
      const before = bits(network);
      await assertRejects(() => loadNpz(network, path), Error, message);
      assertSameBits(bits(network), before, "a refused archive");
    };
    using small = Network.create(mlp({ input: [4], outputs: 2, hidden: [3] }));
    await saveNpz(small, path);
    await cause(mlp({ input: [5], outputs: 2, hidden: [3] }), "expected 0.weight of shape [3,5] but found [3,4]");
    await cause(mlp({ input: [4], outputs: 2, hidden: [3, 3] }), "expected 2.weight of shape [3,3] but found [2,3]");
    await cause({ input: [4], layers: [dense(3)] }, "expected only arrays of this network but found 2.weight");
    await Deno.writeFile(path, Uint8Array.of(1, 2, 3));
    await cause({ input: [4], layers: [dense(3)] }, "Cannot read");
    await Deno.remove(path);
    await cause({ input: [4], layers: [dense(3)] }, "the file or its folder does not exist");
  });
});
