/** Augmentation through the public interface: what it changes, what is refused, and resuming. */

import { assert, assertEquals, assertThrows } from "@std/assert";
import {
  type Augment,
  batchNorm,
  ConfigError,
  conv2d,
  Dataset,
  dense,
  dropout2d,
  EngineError,
  flatten,
  loadCheckpoint,
  Network,
  relu,
  type Table,
  Trainer,
} from "../../mod.ts";
import { trainingConfig } from "../../src/train/trainer.ts";
import { assertSameBits, bitsOf, inTemporaryFolder, numbers, steps } from "../helpers.ts";

const images: Table = {
  rows: 30,
  shape: [6, 5, 2],
  features: Uint8Array.from(numbers(30 * 60, 1), (x) => Math.round((x + 1) * 127)),
  scale: [1 / 100, 1 / 50],
  offset: [-1, 0.5],
  targets: { kind: "labels", classes: 3, values: Uint32Array.from({ length: 30 }, (_, row) => row % 3) },
};

const layers = [conv2d(4, { padding: 1 }), batchNorm(), relu(), dropout2d(0.1), flatten(), dense(3)];

function stateOf(network: Network): string {
  return bitsOf(network.tensors().filter(({ group }) => group !== "gradient").map(({ name }) => network.read(name)));
}

async function run(augment: Augment | undefined, count: number): Promise<string> {
  using network = Network.create({ input: images.shape, layers, seed: 1 });
  using data = await Dataset.create(images);
  using _ = await Trainer.create(network, data, { epochs: 9, batchSize: 8, seed: 4, ...(augment && { augment }) });
  for (let step = 0; step < count; step++) {
    if ((await steps(network, data, 1)).done) break;
  }
  return stateOf(network);
}

Deno.test("augmentation changes a run, the same way each time; one that changes nothing changes no bit", async () => {
  const plain = await run(undefined, 3);
  assertSameBits(await run({}, 3), plain, "no crop and no flip");
  const cropped = await run({ crop: 2 }, 3);
  const flipped = await run({ flip: true }, 3);
  assertEquals(new Set([plain, cropped, flipped, await run({ crop: 2, flip: true }, 3)]).size, 4);
  assertSameBits(await run({ crop: 2 }, 3), cropped, "again");
});

Deno.test("a run with augmentation, dropout and batch norm goes on from a checkpoint with the same bits", async () => {
  const augment = { crop: 1, flip: true };
  const whole = await run(augment, 11);
  await inTemporaryFolder(async (folder) => {
    const path = `${folder}/run.safetensors`;
    using data = await Dataset.create(images);
    {
      using network = Network.create({ input: images.shape, layers, seed: 1 });
      using trainer = await Trainer.create(network, data, { epochs: 9, batchSize: 8, seed: 4, augment });
      // In the middle of the second epoch.
      await steps(network, data, 6);
      await trainer.save(path);
    }
    const checkpoint = await loadCheckpoint(path);
    assertEquals(checkpoint.run!.config.augment, augment);
    using network = checkpoint.network;
    using _trainer = await Trainer.resume(checkpoint, data);
    await steps(network, data, 5);
    assertSameBits(stateOf(network), whole, "resumed");
  });
});

Deno.test("augmentation is refused where rows are no images, and where a crop could miss the image", async () => {
  const attempt = async (augment: Augment, shape: number[]) => {
    using network = Network.create({ input: shape, layers: shape.length > 1 ? [flatten(), dense(3)] : [dense(3)] });
    const fault = await Trainer.create(network, { ...images, shape, scale: [1], offset: [0] }, { augment }).catch((
      fault,
    ) => fault);
    assert(fault instanceof EngineError, String(fault));
    return fault.message;
  };
  assertEquals(
    await attempt({ flip: true }, [60]),
    "Cannot use augment: expected data with images of shape [height, width, channels] but found rows of shape [60]",
  );
  assertEquals(
    await attempt({ crop: 5 }, [6, 5, 2]),
    "Cannot use augment.crop: expected a whole number from 0 to 4 (images of 6×5) but found 5",
  );
});

Deno.test("options of augmentation are checked", () => {
  const message = (augment: unknown) =>
    assertThrows(() => trainingConfig({ augment: augment as Augment }, 10), ConfigError).message;
  assertEquals(message({ crop: -1 }), "Cannot use augment.crop: expected a whole number from 0 up but found -1");
  assertEquals(message({ flip: 1 }), "Cannot use augment.flip: expected true or false but found 1");
  assertEquals(
    message({ mirror: true }),
    "Cannot use augment.mirror: expected one of crop, flip but found an unknown option",
  );
  assertEquals(message(4), "Cannot use augment: expected an object such as { crop: 4, flip: true } but found 4");
});
