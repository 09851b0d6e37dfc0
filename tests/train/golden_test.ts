/** Ten steps of every optimizer, first gradients and outputs against PyTorch; see `tests/golden/README.md`. */

import { assert, assertEquals } from "@std/assert";
import {
  cnn,
  conv2d,
  Dataset,
  dense,
  type Layer,
  loadPyTorch,
  type Loss,
  meanSquaredError,
  Network,
  type Optimizer,
  resnet18,
  type Table,
  Trainer,
} from "../../mod.ts";
import type { ParameterArray } from "../../src/network/layers.ts";
import { optimizerKinds } from "../../src/train/optimizers.ts";
import { reorder } from "../../src/run/pytorch.ts";
import { pytorchEntries } from "../../src/run/pytorch_names.ts";
import { decodeSafetensors, encodeSafetensors, type Safetensors, type Tensor } from "../../src/run/safetensors.ts";
import { inTemporaryFolder, steps } from "../helpers.ts";
import { assertClose, tolerance } from "../tolerance.ts";

const folder = new URL("../golden/", import.meta.url);

interface Golden {
  /** Share of each weight that a mask keeps at 0; files from before masks have none. */
  readonly sparsity?: number;
  readonly network: {
    readonly input: number[];
    readonly layers?: Layer[];
    readonly model?: "cnn" | "resnet18";
    readonly width?: number;
  };
  readonly probes: number | null;
  readonly loss: Loss;
  readonly runs: Record<string, { readonly optimizer: Optimizer; readonly clipNorm: number | null }>;
}

type Precision = "f32" | "f64";

const files = [...Deno.readDirSync(folder)].map((entry) => entry.name).filter((name) => name.endsWith(".safetensors"))
  .sort();

function load(file: string): { golden: Golden; tensors: Safetensors["tensors"] } {
  const { metadata, tensors } = decodeSafetensors(Deno.readFileSync(new URL(file, folder)), file);
  return { golden: JSON.parse(metadata.golden!), tensors };
}

function numbersOf(tensor: Tensor | undefined): Float32Array<ArrayBuffer> | Float64Array<ArrayBuffer> {
  assert(tensor, "the golden file lacks a tensor");
  const { buffer } = tensor.bytes.slice();
  if (tensor.dtype === "I32") return Float64Array.from(new Int32Array(buffer));
  return tensor.dtype === "F32" ? new Float32Array(buffer) : new Float64Array(buffer);
}

/** The entries under a prefix, by what follows it. */
function group(tensors: Safetensors["tensors"], prefix: string): Map<string, ParameterArray> {
  const found = [...tensors.keys()].filter((name) => name.startsWith(prefix) && !name.includes("#"));
  return new Map(found.map((name) => [name.slice(prefix.length), numbersOf(tensors.get(name))]));
}

/** Shape of a sample here: PyTorch has channels first. */
function inputOf({ network: { input } }: Golden): number[] {
  return input.length === 3 ? [input[1]!, input[2]!, input[0]!] : input;
}

/** Images with channels last, for images with channels first. */
function channelsLast(features: ParameterArray, { network: { input } }: Golden): ParameterArray {
  if (input.length !== 3) return features;
  const [channels = 1, height = 1, width = 1] = input;
  const [pixels, size] = [height * width, height * width * channels];
  return features.map((_, index) => {
    const [start, inside] = [index - index % size, index % size];
    return features[start + (inside % channels) * pixels + Math.floor(inside / channels)]!;
  });
}

/** A network with the golden weights, read by the way that users take. */
async function build({ golden, tensors }: ReturnType<typeof load>, precision: Precision): Promise<Network> {
  const { layers, model, width = 1 } = golden.network;
  const input = inputOf(golden);
  const outputs = tensors.get("f64/outputs")!.shape[1]!;
  const models = {
    cnn: () => cnn({ input, outputs }),
    resnet18: () => resnet18({ input, outputs, width }),
  };
  const made = model ? models[model]() : { input, layers: layers! };
  const network = Network.create({ ...made, loss: golden.loss, precision });
  const initial = new Map(
    [...tensors].filter(([name]) => name.startsWith("initial/")).map(([name, tensor]) => [name.slice(8), tensor]),
  );
  const parameters = pytorchEntries(network).filter(({ tensor }) => tensor.group === "parameter");
  assertEquals([...initial.keys()].sort(), parameters.map(({ name }) => name).sort());
  // The golden files hold what is trained: running statistics begin as they always do.
  for (const { tensor, name } of pytorchEntries(network)) {
    if (tensor.group === "parameter") continue;
    const bytes = new Uint8Array(Float64Array.from(network.read(tensor.name)).buffer);
    initial.set(name, { dtype: "F64", shape: tensor.shape, bytes });
  }
  await inTemporaryFolder(async (folder) => {
    await Deno.writeFile(
      `${folder}/golden.safetensors`,
      new Blob(encodeSafetensors({ metadata: {}, tensors: initial })).stream(),
    );
    await loadPyTorch(network, `${folder}/golden.safetensors`);
  });
  if (golden.sparsity) {
    const layers = (await network.masks()).map(({ layer }) => layer);
    // Numbers that are 0 by chance do not happen: zeros are the mask.
    const masks = await network.sparsify({ by: "zeros", layers });
    assert(masks.every(({ sparsity }) => sparsity > golden.sparsity! / 2));
  }
  return network;
}

/** Compares a tensor in PyTorch's order with the golden one, of which a large network's file holds some values and the norm. */
function compare(
  place: { readonly name: string; readonly limit: number },
  [found, entry]: readonly [ArrayLike<number>, string],
  { golden, tensors }: ReturnType<typeof load>,
): void {
  const expected = numbersOf(tensors.get(entry));
  const { probes } = golden;
  if (probes === null || found.length <= probes) return assertClose(place, found, expected);
  const norm = Math.sqrt(Array.from(found, (value) => value * value).reduce((sum, square) => sum + square, 0));
  const picked = expected.map((_, index) => found[Math.floor(index * found.length / probes)]!);
  // On the scale of the whole tensor, whose largest value may not be among those picked.
  assertClose({ ...place, name: `${place.name}, norm` }, [norm], numbersOf(tensors.get(`${entry}#norm`)));
  assertClose(place, picked, expected);
}

/** All steps' rows as one table: step s trains on rows s · batch and on. */
function rowsOf({ golden, tensors }: ReturnType<typeof load>): { all: Table; batch: number; steps: number } {
  const [count = 0, batch = 0] = tensors.get("features")!.shape;
  const features = channelsLast(numbersOf(tensors.get("features")), golden);
  const target = tensors.get("targets")!;
  const values = numbersOf(target);
  const targets: Table["targets"] = golden.loss.kind === "softmaxCrossEntropy"
    ? { kind: "labels", classes: tensors.get("f64/outputs")!.shape[1]!, values: Uint32Array.from(values) }
    : { kind: "values", size: target.shape[2]!, values };
  return { all: { rows: count * batch, shape: inputOf(golden), features, targets }, batch, steps: count };
}

function firstBatch(all: Table, batch: number): Table {
  const size = all.features.length / all.rows;
  const features = all.features.slice(0, batch * size);
  const { targets } = all;
  return targets.kind === "labels"
    ? { ...all, rows: batch, features, targets: { ...targets, values: targets.values.slice(0, batch) } }
    : { ...all, rows: batch, features, targets: { ...targets, values: targets.values.slice(0, batch * targets.size) } };
}

/** Outputs before the loss makes predictions of them, in evaluation mode. */
async function outputs(network: Network, rows: Table): Promise<ParameterArray> {
  const { input, layers, precision } = network.config;
  using bare = Network.create({ input, layers, precision, loss: meanSquaredError() });
  for (const { name } of pytorchEntries(network).map(({ tensor }) => tensor)) bare.write(name, network.read(name));
  return await bare.predict(rows);
}

/**
 * The network behind a layer that changes nothing: the gradient of that layer's bias is a sum over the gradient of the inputs,
 * and that of its weights a sum over its products with the inputs.
 */
function behindIdentity(network: Network): Network {
  const { input, layers, loss, precision } = network.config;
  const size = input.at(-1)!;
  const identity = input.length === 3
    ? conv2d(size, { kernel: 1, groups: size, weightInit: new Float32Array(size).fill(1) })
    : dense(size, {
      weightInit: Float32Array.from({ length: size * size }, (_, at) => at % (size + 1) === 0 ? 1 : 0),
    });
  const watched = Network.create({ input, layers: [identity, ...layers], loss, precision });
  for (const { name } of pytorchEntries(network).map(({ tensor }) => tensor)) {
    watched.write(name.replace(/^\d+/, (layer) => String(Number(layer) + 1)), network.read(name));
  }
  return watched;
}

/** What the gradients of {@linkcode behindIdentity}'s bias and weights are for a gradient of the inputs. */
function sumsOf(
  gradient: ParameterArray,
  { shape, features }: Table,
): { readonly plain: number[]; readonly withInputs: number[]; readonly scale: number } {
  const size = shape.at(-1)!;
  const ofSize = (length: number) => new Array<number>(length).fill(0);
  const [plain, withInputs] = [ofSize(size), ofSize(shape.length === 3 ? size : size * size)];
  for (const [index, value] of gradient.entries()) {
    const channel = index % size;
    plain[channel]! += value;
    if (shape.length === 3) withInputs[channel]! += value * features[index]!;
    else {for (let from = 0; from < size; from++) {
        withInputs[channel * size + from]! += value * features[index - channel + from]!;
      }}
  }
  return { plain, withInputs, scale: Array.from(gradient, Math.abs).reduce((sum, value) => sum + value, 0) / size };
}

/** Tensors that are named after ours, in PyTorch's order and by its names. */
function asPyTorch(network: Network, read: (name: string) => ParameterArray | undefined): Map<string, ParameterArray> {
  return new Map(
    pytorchEntries(network).flatMap(({ tensor, name, image }) => {
      const values = read(tensor.name);
      return values === undefined ? [] : [[name, image ? reorder(values, image, "toTheirs") : values] as const];
    }),
  );
}

for (const file of files) {
  const name = file.replace(".safetensors", "");
  const loaded = load(file);
  const { golden, tensors } = loaded;
  for (const precision of ["f64", "f32"] as const) {
    const deep = golden.network.model === "resnet18";
    const placed = (limit: number) => (what: string) => ({ name: `${name} ${precision} ${what}`, limit });
    const place = placed(tolerance[deep ? "goldenDeep" : "golden"][precision]);
    // Our f32 is compared with PyTorch's f64: closer to the truth than PyTorch's own f32 would have to be.
    const expected = (entry: string) => numbersOf(tensors.get(`f64/${entry}`));

    Deno.test(`PyTorch has the same outputs and gradients: ${name} ${precision}`, async () => {
      const { all, batch } = rowsOf(loaded);
      const rows = firstBatch(all, batch);
      using network = await build(loaded, precision);
      const { gradients, loss } = await network.gradients(rows, { training: true });
      const [run = ""] = Object.keys(golden.runs);
      assertClose(place("loss"), [loss], expected(`${run}/losses`).slice(0, 1));
      // PyTorch's are those of training, which differ where a layer normalises by the batch.
      if (pytorchEntries(network).every(({ tensor }) => tensor.group === "parameter")) {
        assertClose(place("outputs"), await outputs(network, rows), expected("outputs"));
      }
      const found = asPyTorch(network, (name) => gradients.get(name));
      assertEquals([...group(tensors, "f64/gradient/").keys()].sort(), [...found.keys()].sort());
      for (const [parameter, values] of found) {
        compare(place(parameter), [values, `f64/gradient/${parameter}`], loaded);
      }
    });

    Deno.test(`PyTorch has the same gradient of the inputs: ${name} ${precision}`, async () => {
      const { all, batch } = rowsOf(loaded);
      const rows = firstBatch(all, batch);
      using network = await build(loaded, precision);
      using watched = behindIdentity(network);
      const { gradients } = await watched.gradients(rows, { training: true });
      const expected = sumsOf(channelsLast(numbersOf(tensors.get("f64/inputGradient")), golden), rows);
      // On the scale of what is added: in front of a batch norm the sums themselves are 0.
      const { scale } = expected;
      assertClose(place("sums"), [...gradients.get("0.bias")!, scale], [...expected.plain, scale]);
      assertClose(place("sums with inputs"), [...gradients.get("0.weight")!, scale], [...expected.withInputs, scale]);
    });

    for (const [run, { optimizer, clipNorm }] of Object.entries(golden.runs)) {
      const place = placed(tolerance[deep ? "goldenDeepSteps" : "golden"][precision]);
      Deno.test(`PyTorch takes the same steps: ${name} ${precision} ${run}`, async () => {
        const { all, batch, steps: count } = rowsOf(loaded);
        using network = await build(loaded, precision);
        using data = await Dataset.create(all);
        const clip = clipNorm === null ? {} : { clipNorm };
        using _trainer = await Trainer.create(network, data, {
          optimizer,
          ...clip,
          epochs: 1,
          batchSize: batch,
          shuffle: false,
        });
        const losses: number[] = [];
        let before = 0;
        for (let step = 0; step < count; step++) {
          const { lossSum } = await steps(network, data, 1);
          losses.push((lossSum - before) / batch);
          before = lossSum;
        }
        assertClose(place("losses"), losses, expected(`${run}/losses`));
        const found = asPyTorch(network, (name) => network.read(name));
        assertEquals([...group(tensors, `f64/${run}/final/`).keys()].sort(), [...found.keys()].sort());
        for (const [parameter, values] of found) {
          compare(place(parameter), [values, `f64/${run}/final/${parameter}`], loaded);
        }
        assertClose(
          place("outputs after training"),
          await outputs(network, firstBatch(all, batch)),
          expected(`${run}/evaluated`),
        );
      });
    }
  }
}

Deno.test("the golden runs hold every optimizer, momentum, Nesterov, weight decay and clipping", () => {
  const runs = files.flatMap((file) => Object.values(load(file).golden.runs));
  assertEquals([...new Set(runs.map((run) => run.optimizer.kind))].sort(), [...optimizerKinds].sort());
  const sgd = runs.map((run) => run.optimizer).filter((optimizer) => optimizer.kind === "sgd");
  assert(sgd.some((one) => one.momentum > 0 && !one.nesterov) && sgd.some((one) => one.nesterov));
  for (const kind of optimizerKinds) {
    assert(runs.some(({ optimizer }) => optimizer.kind === kind && optimizer.weightDecay > 0), kind);
  }
  assert(runs.some((run) => run.clipNorm !== null));
});
