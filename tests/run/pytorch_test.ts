/** Names and orders of PyTorch: what is reordered, what is refused. The golden tests load whole networks of PyTorch. */

import { assert, assertEquals, assertRejects } from "@std/assert";
import {
  batchNorm,
  CheckpointError,
  cnn,
  conv2d,
  dense,
  flatten,
  groupNorm,
  type Layer,
  loadPyTorch,
  Network,
  relu,
  residual,
  resnet18,
  savePyTorch,
} from "../../mod.ts";
import { pytorchEntries } from "../../src/run/pytorch_names.ts";
import { decodeSafetensors, encodeSafetensors, type Tensor } from "../../src/run/safetensors.ts";
import { assertSameBits, bits, inTemporaryFolder, numbers, scramble } from "../helpers.ts";
import { assertClose } from "../tolerance.ts";

/** The entries of a file. */
async function entriesOf(path: string): Promise<Map<string, Tensor>> {
  return new Map(decodeSafetensors(await Deno.readFile(path), path).tensors);
}

async function writeEntries(path: string, tensors: Map<string, Tensor>): Promise<void> {
  await Deno.writeFile(path, new Blob(encodeSafetensors({ metadata: {}, tensors })).stream());
}

const f32 = (...values: number[]): Tensor => ({
  dtype: "F32",
  shape: [values.length],
  bytes: new Uint8Array(Float32Array.from(values).buffer),
});

Deno.test("savePyTorch() and loadPyTorch() bring every network back, running statistics included", async () => {
  const models: [input: number[], layers: Layer[]][] = [
    [[28, 28, 1], cnn({ input: [28, 28, 1], outputs: 10 }).layers],
    [[8, 8, 3], resnet18({ input: [8, 8, 3], outputs: 4, width: 1 / 16 }).layers],
    [[3, 4, 2], [flatten(), batchNorm(), relu(), residual([batchNorm()]), dense(3)]],
    [[5], [dense(4), residual([dense(4)]), dense(2)]],
  ];
  await inTemporaryFolder(async (folder) => {
    for (const [input, layers] of models) {
      for (const precision of ["f32", "f64"] as const) {
        using network = Network.create({ input, layers, precision });
        scramble(network, 3);
        for (const { name, group, shape } of network.tensors()) {
          if (group === "buffer") network.write(name, numbers(shape[0]!, 8).map((x) => x + 1.5));
        }
        const path = `${folder}/state.safetensors`;
        await savePyTorch(network, path);
        using other = Network.create({ input, layers, precision, seed: 9 });
        await loadPyTorch(other, path);
        assertSameBits(bits(other), bits(network), JSON.stringify(input));
        for (const { name, group } of network.tensors()) {
          if (group === "buffer") assertEquals(other.read(name), network.read(name));
        }
      }
    }
  });
});

Deno.test("a dense layer after flatten() takes PyTorch's order, channel by channel", async () => {
  const [height, width, channels] = [2, 3, 2] as const;
  await inTemporaryFolder(async (folder) => {
    const path = `${folder}/state.safetensors`;
    const weight = Float32Array.from({ length: 12 }, (_, index) => index);
    await writeEntries(
      path,
      new Map<string, Tensor>([
        ["1.weight", { dtype: "F32", shape: [1, 12], bytes: new Uint8Array(weight.buffer) }],
        ["1.bias", f32(0)],
      ]),
    );
    using network = Network.create({
      input: [height, width, channels],
      layers: [flatten(), dense(1)],
      loss: { kind: "meanSquaredError" },
    });
    await loadPyTorch(network, path);
    const image = numbers(12, 4);
    let expected = 0;
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        for (let channel = 0; channel < channels; channel++) {
          expected += image[(y * width + x) * channels + channel]! * weight[(channel * height + y) * width + x]!;
        }
      }
    }
    assertClose({ name: "prediction", limit: 1e-6 }, await network.predict(Float32Array.from(image)), [expected]);
  });
});

Deno.test("resnet18() has torchvision's names, and other networks their own", () => {
  using resnet = Network.create(resnet18({ input: [8, 8, 3], outputs: 4, width: 1 / 16 }));
  const names = new Map(pytorchEntries(resnet).map(({ tensor, name }) => [tensor.name, name]));
  assertEquals(
    names.size,
    102,
    "62 parameters and 40 running statistics, as many as in PyTorch's state_dict without counters",
  );
  const expected = {
    "0.weight": "conv1.weight",
    "1.running_var": "bn1.running_var",
    "5.body.4.bias": "layer1.1.bn2.bias",
    "7.shortcut.0.weight": "layer2.0.downsample.0.weight",
    "7.shortcut.1.running_mean": "layer2.0.downsample.1.running_mean",
    "17.body.3.weight": "layer4.1.conv2.weight",
    "20.bias": "fc.bias",
  };
  for (const [ours, theirs] of Object.entries(expected)) assertEquals(names.get(ours), theirs);
  using other = Network.create({
    input: [4, 4, 1],
    layers: [conv2d(1), residual([conv2d(1, { padding: 1 })]), flatten()],
  });
  assert(pytorchEntries(other).every(({ tensor, name }) => tensor.name === name));
});

Deno.test("loadPyTorch() names what is missing, too many, of another shape, type or not finite, and changes nothing", async () => {
  await inTemporaryFolder(async (folder) => {
    const path = `${folder}/state.safetensors`;
    using network = Network.create(resnet18({ input: [8, 8, 3], outputs: 4, width: 1 / 16 }));
    await savePyTorch(network, path);
    const good = await entriesOf(path);
    const before = bits(network);
    const attempt = async (change: (entries: Map<string, Tensor>) => unknown, message: string) => {
      const entries = new Map(good);
      change(entries);
      await writeEntries(path, entries);
      const fault = await assertRejects(() => loadPyTorch(network, path), CheckpointError);
      assertEquals(fault.message, `Cannot read ${path}: expected ${message}`);
      assertSameBits(bits(network), before, message);
    };
    await attempt(
      (entries) => entries.delete("layer1.0.conv1.weight"),
      "an entry layer1.0.conv1.weight (3.body.0.weight here) but found none",
    );
    await attempt(
      (entries) => ["fc.weight", "fc.bias"].forEach((name) => entries.delete(name)),
      "the entry fc.weight (20.weight here) and 1 more entry but found none of these",
    );
    const rename = (entries: Map<string, Tensor>, prefix: string) => {
      entries.clear();
      for (const [name, tensor] of good) entries.set(`${prefix}${name}`, tensor);
    };
    const all = "the entry conv1.weight (0.weight here) and 101 more entries but found names that all begin with";
    await attempt(
      (entries) => rename(entries, "module."),
      `${all} module., as nn.DataParallel writes them (save model.module.state_dict())`,
    );
    await attempt((entries) => rename(entries, "net.body."), `${all} net.body.`);
    await attempt(
      (entries) => entries.set("bn1.running_var", f32(1, 2, -0.5, 4)),
      "no negative variance in bn1.running_var (1.running_var here) but found -0.5",
    );
    await attempt(
      (entries) => entries.set("layer5.0.conv1.weight", f32(1)),
      "only entries of this network but found layer5.0.conv1.weight",
    );
    await attempt(
      (entries) => entries.set("fc.bias", f32(1, 2, 3)),
      "fc.bias (20.bias here) of shape [4] but found [3]",
    );
    await attempt(
      (entries) => entries.set("fc.bias", f32(1, 2, 3, NaN)),
      "finite numbers in fc.bias (20.bias here) but found NaN",
    );
    const half: Tensor = { dtype: "F16", shape: [4], bytes: new Uint8Array(8) };
    await attempt((entries) => entries.set("fc.bias", half), "fc.bias (20.bias here) in F32 or F64 but found F16");
    const counter: Tensor = { dtype: "I64", shape: [], bytes: new Uint8Array(8) };
    await attempt(
      (entries) => entries.set("fc.num_batches_tracked", counter).set("fd.num_batches_tracked", counter),
      "only entries of this network but found fd.num_batches_tracked",
    );
    await writeEntries(path, new Map(good).set("bn1.num_batches_tracked", counter));
    await loadPyTorch(network, path);
    await assertRejects(
      () => loadPyTorch(network, `${folder}/none`),
      CheckpointError,
      "the file or its folder does not exist",
    );
  });
});

Deno.test("layers that PyTorch's order cannot reach are refused by name", async () => {
  const refused: [layers: Layer[], message: string][] = [
    [
      [flatten(), groupNorm(2), dense(3)],
      "Cannot map layer 1 (groupNorm) to PyTorch: groups of a flattened image cannot be reordered",
    ],
    [
      [flatten(), residual([dense(8)]), dense(3)],
      "Cannot map layer 1 (residual) to PyTorch: the sum of a flattened image and another value cannot be reordered",
    ],
  ];
  for (const [layers, message] of refused) {
    using network = Network.create({ input: [2, 2, 2], layers });
    const fault = await assertRejects(() => savePyTorch(network, "unwritten"), CheckpointError);
    assertEquals(fault.message, message);
  }
});
