/** Checkpoints: what is saved is loaded with the same bits, and files that lie about a network are refused. */

import { assert, assertEquals, assertRejects } from "@std/assert";
import fc from "fast-check";
import {
  adam,
  CheckpointError,
  ConfigError,
  DataError,
  Dataset,
  dense,
  dropout,
  EngineError,
  gelu,
  layerNorm,
  leakyRelu,
  loadCheckpoint,
  Network,
  sgd,
  Trainer,
} from "../../mod.ts";
import { decodeSafetensors, encodeSafetensors, type Tensor } from "../../src/run/safetensors.ts";
import { bits, inTemporaryFolder, scramble, steps, table } from "../helpers.ts";

const options = {
  input: [6],
  layers: [dense(8), layerNorm(), gelu(), dropout(0.2), dense(5, { bias: false }), leakyRelu(0.1), dense(3)],
  seed: 4,
};

const rows = table(64, { shape: [6], classes: 3 });

/** Makes a file with a network, and with a run that is in its second epoch if `run` is set. */
async function saved(path: string, { run = false } = {}): Promise<void> {
  using network = Network.create(options);
  scramble(network, 3);
  if (!run) return await network.save(path);
  using trainer = await Trainer.create(network, rows, { epochs: 3, batchSize: 16, optimizer: adam(1e-2), clipNorm: 1 });
  await trainer.epoch();
  await trainer.save(path);
}

interface Parts {
  header: Record<string, unknown> & { network: Record<string, unknown>; training?: Record<string, unknown> };
  tensors: Map<string, Tensor>;
}

/** Rewrites a checkpoint. */
async function change(path: string, edit: (parts: Parts) => void): Promise<void> {
  const { metadata, tensors } = decodeSafetensors(await Deno.readFile(path), path);
  const parts = { header: JSON.parse(metadata.leanprop!), tensors: new Map(tensors) };
  edit(parts);
  await write(path, JSON.stringify(parts.header), parts.tensors);
}

async function write(path: string, header: string | undefined, tensors: Map<string, Tensor>): Promise<void> {
  const metadata: Record<string, string> = header === undefined ? { format: "pt" } : { leanprop: header };
  await Deno.writeFile(path, new Blob(encodeSafetensors({ metadata, tensors })).stream());
}

for (const precision of ["f32", "f64"] as const) {
  Deno.test(`Network.load() gives the network that save() wrote: ${precision}`, async () => {
    await inTemporaryFolder(async (folder) => {
      const path = `${folder}/network.safetensors`;
      using network = Network.create({ ...options, precision, threads: 1 });
      scramble(network, 3);
      await network.save(path);
      using loaded = await Network.load(path, { threads: 2 });
      assertEquals(bits(loaded), bits(network));
      assertEquals(await loaded.predict(rows.features), await network.predict(rows.features));
      assertEquals({ ...loaded.config, threads: 1 }, network.config);
      assertEquals(loaded.describe().threads, 2);
      // A second file is the same file: nothing in it depends on when or where it was written.
      await loaded.save(`${folder}/again.safetensors`);
      assertEquals(await Deno.readFile(`${folder}/again.safetensors`), await Deno.readFile(path));
    });
  });
}

Deno.test("Network.load() and save() take a URL", async () => {
  await inTemporaryFolder(async (folder) => {
    const url = new URL(`file://${folder}/with space.safetensors`);
    using network = Network.create(options);
    await network.save(url);
    using loaded = await Network.load(url);
    assertEquals(bits(loaded), bits(network));
    assert((await Deno.stat(`${folder}/with space.safetensors`)).isFile);
  });
});

Deno.test("a file holds PyTorch's names and shapes", async () => {
  await inTemporaryFolder(async (folder) => {
    await saved(`${folder}/a`);
    const { tensors } = decodeSafetensors(await Deno.readFile(`${folder}/a`), "a");
    const found = Object.fromEntries([...tensors].map(([name, { shape }]) => [name, shape]));
    assertEquals(found, {
      "0.weight": [8, 6],
      "0.bias": [8],
      "1.weight": [8],
      "1.bias": [8],
      "4.weight": [5, 8],
      "6.weight": [3, 5],
      "6.bias": [3],
    });
  });
});

Deno.test("Network.load() of a run gives the network alone", async () => {
  await inTemporaryFolder(async (folder) => {
    await saved(`${folder}/a`, { run: true });
    using network = await Network.load(`${folder}/a`);
    assertEquals(network.tensors().map((tensor) => tensor.group), Array(7).fill("parameter"));
    assertEquals(network.config.seed, 4);
  });
});

const bytes = (count: number) => new Uint8Array(count);

/** Lies about a network, each with a part of the sentence that refuses it. */
const lies: Record<string, [(parts: Parts) => void, string]> = {
  "a future format": [({ header }) => header.format = 2, "expected checkpoint format 1 but found 2"],
  "no format": [({ header }) => delete header.format, "expected checkpoint format 1 but found undefined"],
  "no configuration": [
    ({ header }) => delete (header as Partial<Parts["header"]>).network,
    "its network cannot be made",
  ],
  "a configuration that is text": [({ header }) => header.network = "mlp" as never, "its network cannot be made"],
  "a configuration without layers": [({ header }) => delete header.network.layers, "Cannot use layers"],
  "no layers": [({ header }) => header.network.layers = [], "Cannot use layers: expected at least one layer"],
  "an unknown kind of layer": [
    ({ header }) => (header.network.layers as { kind: string }[])[0]!.kind = "dens",
    "expected one of dense",
  ],
  "a layer with an unknown option": [
    ({ header }) => Object.assign((header.network.layers as object[])[0]!, { unit: 8 }),
    "did you mean units?",
  ],
  "a layer that is a number": [({ header }) => header.network.layers = [5], "Cannot use layers[0]"],
  "a negative input": [({ header }) => header.network.input = [-6], "Cannot use input[0]"],
  "an input in words": [({ header }) => header.network.input = "6", "Cannot use input"],
  "an unknown loss": [({ header }) => header.network.loss = { kind: "hinge" }, "Cannot use loss.kind"],
  "an unknown precision": [({ header }) => header.network.precision = "f16", "Cannot use precision"],
  "threads that no machine has": [({ header }) => header.network.threads = 1e6, "Cannot use threads"],
  "an option of the future": [({ header }) => header.network.sparse = true, "Cannot use sparse"],
  "a network that fits no memory": [
    ({ header }) => Object.assign((header.network.layers as object[])[0]!, { units: 2 ** 45 }),
    "its network cannot be made",
  ],
  "another width": [
    ({ header }) => Object.assign((header.network.layers as object[])[0]!, { units: 9 }),
    "expected 0.weight to be F32 [9,6] but found F32 [8,6]",
  ],
  "another precision": [
    ({ header }) => header.network.precision = "f64",
    "expected 0.weight to be F64 [8,6] but found F32 [8,6]",
  ],
  "a missing tensor": [({ tensors }) => tensors.delete("4.weight"), "expected a tensor 4.weight but found none"],
  "one tensor too many": [
    ({ tensors }) => tensors.set("7.weight", { dtype: "F32", shape: [1], bytes: bytes(4) }),
    "expected only the network's parameters but found also 7.weight",
  ],
  "state of an optimizer without a run": [
    ({ tensors }) => tensors.set("optimizer.first.0.weight", { dtype: "F32", shape: [8, 6], bytes: bytes(192) }),
    "found also optimizer.first.0.weight",
  ],
  "a transposed tensor": [
    ({ tensors }) => tensors.set("0.weight", { ...tensors.get("0.weight")!, shape: [6, 8] }),
    "expected 0.weight to be F32 [8,6] but found F32 [6,8]",
  ],
  "whole numbers for weights": [
    ({ tensors }) => tensors.set("0.bias", { ...tensors.get("0.bias")!, dtype: "I32" }),
    "expected 0.bias to be F32 [8] but found I32 [8]",
  ],
  "NaN in a weight": [
    ({ tensors }) => tensors.get("1.weight")!.bytes.set([0, 0, 0xc0, 0x7f], 8),
    "1.weight: expected finite numbers but found NaN",
  ],
  "infinity in a bias": [
    ({ tensors }) => tensors.get("6.bias")!.bytes.set([0, 0, 0x80, 0xff], 0),
    "6.bias: expected finite numbers but found -inf",
  ],
};

for (const [what, [edit, sentence]] of Object.entries(lies)) {
  Deno.test(`Network.load() refuses ${what}`, async () => {
    await inTemporaryFolder(async (folder) => {
      await saved(`${folder}/a`);
      await change(`${folder}/a`, edit);
      const fault = await assertRejects(() => Network.load(`${folder}/a`), CheckpointError, sentence);
      assert(fault.message.startsWith(`Cannot read ${folder}/a: `), fault.message);
    });
  });
}

Deno.test("Network.load() refuses what is no checkpoint of this program", async () => {
  await inTemporaryFolder(async (folder) => {
    const path = `${folder}/a`;
    const refused = (sentence: string) => assertRejects(() => Network.load(path), CheckpointError, sentence);
    await refused(`Cannot read ${path}: the file or its folder does not exist`);
    await Deno.writeTextFile(path, "weights");
    await refused("expected a safetensors file that train or Network.save wrote but found only 7 bytes");
    await write(path, undefined, new Map());
    await refused("wrote but found weights without their network, as export and PyTorch write them");
    await Deno.writeFile(path, new Blob(encodeSafetensors({ metadata: {}, tensors: new Map() })).stream());
    await refused("expected a safetensors file that train or Network.save wrote but found one of another program");
    await write(path, "{network", new Map());
    await refused("expected JSON under the metadata key leanprop but found other text");
    for (const header of ["null", "5", "[]", '"text"']) {
      await write(path, header, new Map());
      await refused("expected checkpoint format 1 but found undefined");
    }
    await Deno.remove(path);
    await Deno.mkdir(path);
    await refused(`Cannot read ${path}: `);
  });
});

Deno.test("Network.load() tells a wrong number of threads from a wrong file", async () => {
  await inTemporaryFolder(async (folder) => {
    await saved(`${folder}/a`);
    for (const threads of [0, 1.5, 1e6, "2" as unknown as number]) {
      await assertRejects(
        () => Network.load(`${folder}/a`, { threads }),
        ConfigError,
        "Cannot use threads: expected a whole number from 1 to 1024",
      );
    }
  });
});

/** Lies about a run. */
const runLies: Record<string, [(parts: Parts) => void, string, "load" | "resume"]> = {
  "a run that is a number": [({ header }) => header.training = 5 as never, "expected a training run", "load"],
  "a run without its rate": [({ header }) => delete header.training!.optimizer, "one without optimizer", "load"],
  "a run without clipping's word": [({ header }) => delete header.training!.clipNorm, "one without clipNorm", "load"],
  "state in bytes": [
    ({ tensors }) => tensors.set("training.counters", { dtype: "U8", shape: [48], bytes: bytes(48) }),
    "expected training.counters to be F32 or F64 but found U8",
    "load",
  ],
  "an unknown optimizer": [
    ({ header }) => header.training!.optimizer = { kind: "lion", learningRate: 1 },
    "Cannot use optimizer.kind",
    "resume",
  ],
  "an unknown option": [({ header }) => header.training!.lr = 1, "Cannot use lr", "resume"],
  "another number of rows": [
    ({ header }) => header.training!.rows = 60,
    "expected 60 training rows as before but found 64",
    "resume",
  ],
  "a rule without slots": [({ header }) => header.training!.rule = 7, "Cannot use rule", "resume"],
  "missing state": [
    ({ tensors }) => tensors.delete("optimizer.second.0.bias"),
    "holds no tensor optimizer.second.0.bias",
    "resume",
  ],
  "state of another optimizer": [
    ({ header }) => header.training!.optimizer = { ...sgd(0.1, { momentum: 0.9 }) },
    "this run has no tensor optimizer.second.0.weight",
    "resume",
  ],
  "state in another precision": [
    ({ tensors }) => tensors.set("optimizer.first.6.bias", { dtype: "F64", shape: [3], bytes: bytes(24) }),
    "expected optimizer.first.6.bias in f32",
    "resume",
  ],
  "state of another length": [
    ({ tensors }) => tensors.set("optimizer.first.6.bias", { dtype: "F32", shape: [4], bytes: bytes(16) }),
    "expected 3 numbers in optimizer.first.6.bias but found 4",
    "resume",
  ],
  "NaN in state": [
    ({ tensors }) => tensors.get("optimizer.second.0.weight")!.bytes.fill(0xff, 0, 4),
    "optimizer.second.0.weight: expected finite numbers",
    "resume",
  ],
  "counters that are no counts": [
    ({ tensors }) => tensors.get("training.counters")!.bytes.set(new Uint8Array(new Float64Array([-1.5]).buffer), 0),
    "training.counters: expected whole numbers from 0 up",
    "resume",
  ],
};

for (const [what, [edit, sentence, when]] of Object.entries(runLies)) {
  Deno.test(`a checkpoint is refused at ${when} for ${what}`, async () => {
    await inTemporaryFolder(async (folder) => {
      await saved(`${folder}/a`, { run: true });
      await change(`${folder}/a`, edit);
      if (when === "load") {
        await assertRejects(() => loadCheckpoint(`${folder}/a`), CheckpointError, sentence);
        return;
      }
      const checkpoint = await loadCheckpoint(`${folder}/a`);
      using network = checkpoint.network;
      await assertRejects(() => Trainer.resume(checkpoint, rows), CheckpointError, sentence);
      // The refused run is not left attached.
      using _trainer = await Trainer.create(network, rows, { epochs: 1 });
    });
  });
}

Deno.test("Trainer.resume() refuses a checkpoint without a run", async () => {
  await inTemporaryFolder(async (folder) => {
    await saved(`${folder}/a`);
    const checkpoint = await loadCheckpoint(`${folder}/a`);
    using _network = checkpoint.network;
    await assertRejects(() => Trainer.resume(checkpoint, rows), CheckpointError, "holds a network but no training run");
  });
});

Deno.test("save() refuses a diverged network and keeps the old file", async () => {
  await inTemporaryFolder(async (folder) => {
    const path = `${folder}/a`;
    using network = Network.create({ input: [6], layers: [dense(3)], loss: { kind: "meanSquaredError" } });
    await network.save(path);
    const before = await Deno.readFile(path);
    const data = table(64, { shape: [6], values: 3 });
    const large = { ...data, features: data.features.map((x) => 1000 * x) as typeof data.features };
    // One step is enough for weights beyond f32; its loss was still finite.
    using trainer = await Trainer.create(network, large, { optimizer: sgd(3e38), epochs: 1, batchSize: 64 });
    await trainer.epoch();
    await assertRejects(() => trainer.save(path), CheckpointError, "expected finite numbers in 0.weight");
    await assertRejects(
      () => network.save(path),
      CheckpointError,
      "expected finite numbers in 0.weight but found NaN or infinity",
    );
    assertEquals(await Deno.readFile(path), before);
  });
});

Deno.test("a checkpoint with flipped bytes loads or is refused, and trains or is refused: the process lives", async () => {
  await inTemporaryFolder(async (folder) => {
    const path = `${folder}/a`;
    await saved(path, { run: true });
    const original = await Deno.readFile(path);
    const headerEnd = 8 + Number(new DataView(original.buffer).getBigUint64(0, true));
    // Half of the flips hit the header, where the lies are.
    const place = fc.oneof(fc.nat(headerEnd - 1), fc.nat(original.length - 1));
    const flips = fc.array(fc.tuple(place, fc.integer({ min: 1, max: 255 })), { minLength: 1, maxLength: 3 });
    const outcomes = { refused: 0, loaded: 0, trained: 0 };
    await fc.assert(
      fc.asyncProperty(flips, async (changes) => {
        const bytes = original.slice();
        for (const [at, mask] of changes) bytes[at]! ^= mask;
        await Deno.writeFile(path, bytes);
        try {
          const checkpoint = await loadCheckpoint(path);
          using network = checkpoint.network;
          outcomes.loaded++;
          if (!checkpoint.run) return;
          try {
            using _trainer = await Trainer.resume(checkpoint, rows);
            await trainAlong(network);
            outcomes.trained++;
          } catch (fault) {
            // A run may ask for what these rows are not (ConfigError), or diverge (EngineError).
            const kinds = [CheckpointError, ConfigError, EngineError, DataError];
            if (!kinds.some((kind) => fault instanceof kind)) throw fault;
            assert(!(fault instanceof EngineError && fault.code === "panic"), String(fault));
          }
        } catch (fault) {
          if (!(fault instanceof CheckpointError)) throw fault;
          outcomes.refused++;
        }
      }),
      { seed: 1, numRuns: 800 },
    );
    assert(outcomes.refused > 100 && outcomes.loaded > 50 && outcomes.trained > 30, JSON.stringify(outcomes));
  });
});

/** Two chunks of a resumed run, through the engine's own door. */
async function trainAlong(network: Network): Promise<void> {
  using data = await Dataset.create(rows);
  await steps(network, data, 2);
}
