/** Ten steps of every optimizer, first gradients and outputs against PyTorch; see `tests/golden/README.md`. */

import { assert, assertEquals } from "@std/assert";
import {
  Dataset,
  type Layer,
  type Loss,
  meanSquaredError,
  Network,
  type Optimizer,
  type Table,
  Trainer,
} from "../../mod.ts";
import type { ParameterArray } from "../../src/network/layers.ts";
import { optimizerKinds } from "../../src/train/optimizers.ts";
import { decodeSafetensors, type Safetensors, type Tensor } from "../../src/run/safetensors.ts";
import { steps } from "../helpers.ts";
import { assertClose, tolerance } from "../tolerance.ts";

const folder = new URL("../golden/", import.meta.url);

/**
 * Cases that need layers which the engine does not have yet, each with the first such layer. A new layer empties this list: the
 * test below fails when one of them could run.
 */
const waiting: Record<string, string> = {
  "cnn": "conv2d",
  "conv-mixed": "conv2d",
  "dense-batch-norm": "batchNorm",
  "resnet18": "resnet18",
  "sparse-conv": "conv2d",
};

interface Golden {
  /** Share of each weight that a mask keeps at 0; files from before masks have none. */
  readonly sparsity?: number;
  readonly network: { readonly input: number[]; readonly layers?: Layer[]; readonly model?: string };
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

function build({ golden, tensors }: ReturnType<typeof load>, precision: Precision, loss = golden.loss): Network {
  const { input, layers } = golden.network;
  const network = Network.create({ input, layers: layers!, loss, precision });
  const initial = group(tensors, "initial/");
  assertEquals([...initial.keys()].sort(), [...network.parameters().keys()].sort());
  for (const [name, values] of initial) {
    network.write(name, values);
    // Numbers that are 0 by chance do not happen: zeros are the mask.
    if (golden.sparsity && name.endsWith(".weight")) {
      network.setMask(name.slice(0, -".weight".length), Uint8Array.from(values, (value) => value === 0 ? 0 : 1));
    }
  }
  return network;
}

/** All steps' rows as one table: step s trains on rows s · batch and on. */
function rowsOf({ golden, tensors }: ReturnType<typeof load>): { all: Table; batch: number; steps: number } {
  const [count = 0, batch = 0] = tensors.get("features")!.shape;
  const features = numbersOf(tensors.get("features"));
  const target = tensors.get("targets")!;
  const values = numbersOf(target);
  const targets: Table["targets"] = golden.loss.kind === "softmaxCrossEntropy"
    ? { kind: "labels", classes: tensors.get("f64/outputs")!.shape[1]!, values: Uint32Array.from(values) }
    : { kind: "values", size: target.shape[2]!, values };
  return { all: { rows: count * batch, shape: golden.network.input, features, targets }, batch, steps: count };
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
  for (const [name, values] of network.parameters()) bare.write(name, values);
  return await bare.predict(rows);
}

for (const file of files.filter((file) => !(file.replace(".safetensors", "") in waiting))) {
  const name = file.replace(".safetensors", "");
  const loaded = load(file);
  const { golden, tensors } = loaded;
  for (const precision of ["f64", "f32"] as const) {
    const place = (what: string) => ({ name: `${name} ${precision} ${what}`, limit: tolerance.golden[precision] });
    const expected = (entry: string) => numbersOf(tensors.get(`${precision}/${entry}`));

    Deno.test(`PyTorch has the same outputs and gradients: ${name} ${precision}`, async () => {
      const { all, batch } = rowsOf(loaded);
      const rows = firstBatch(all, batch);
      using network = build(loaded, precision);
      assertClose(place("outputs"), await outputs(network, rows), expected("outputs"));
      const { gradients } = await network.gradients(rows, { training: true });
      const reference = group(tensors, `${precision}/gradient/`);
      assertEquals([...reference.keys()].sort(), [...gradients.keys()].sort());
      for (const [parameter, values] of reference) assertClose(place(parameter), gradients.get(parameter)!, values);
    });

    for (const [run, { optimizer, clipNorm }] of Object.entries(golden.runs)) {
      Deno.test(`PyTorch takes the same steps: ${name} ${precision} ${run}`, async () => {
        const { all, batch, steps: count } = rowsOf(loaded);
        using network = build(loaded, precision);
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
        const final = group(tensors, `${precision}/${run}/final/`);
        assertEquals([...final.keys()].sort(), [...network.parameters().keys()].sort());
        for (const [parameter, values] of final) assertClose(place(parameter), network.read(parameter), values);
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
  const runs = files.filter((file) => !(file.replace(".safetensors", "") in waiting))
    .flatMap((file) => Object.values(load(file).golden.runs));
  assertEquals([...new Set(runs.map((run) => run.optimizer.kind))].sort(), [...optimizerKinds].sort());
  const sgd = runs.map((run) => run.optimizer).filter((optimizer) => optimizer.kind === "sgd");
  assert(sgd.some((one) => one.momentum > 0 && !one.nesterov) && sgd.some((one) => one.nesterov));
  for (const kind of optimizerKinds) {
    assert(runs.some(({ optimizer }) => optimizer.kind === kind && optimizer.weightDecay > 0), kind);
  }
  assert(runs.some((run) => run.clipNorm !== null));
});

Deno.test("only golden cases with layers that the engine lacks are left out", () => {
  for (const [name, lacking] of Object.entries(waiting)) {
    const { network } = load(`${name}.safetensors`).golden;
    assert(network.model === lacking || network.layers!.some((layer) => layer.kind as string === lacking), name);
    let message = "";
    try {
      Network.create({ input: network.input, layers: network.layers ?? [{ kind: network.model } as unknown as Layer] });
    } catch (fault) {
      message = (fault as Error).message;
    }
    assert(message.includes(`but found ${lacking}`), `${name} could run now: ${message}`);
  }
});
