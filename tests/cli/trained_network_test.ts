import { assertEquals, assertNotEquals } from "@std/assert";
import { loadTrained } from "../../src/cli/trained_network.ts";
import { batchNorm, dense, Network, relu, Trainer } from "../../mod.ts";
import { native } from "../../src/ffi/native.ts";
import { temporaryFolder } from "./helpers.ts";

native();

Deno.test("loadTrained() takes the averages of a run that was stopped, and the parameters of one without", async () => {
  await using folder = await temporaryFolder();
  const path = `${folder.path}/checkpoint.safetensors`;
  const rows = 40;
  const features = Float32Array.from({ length: 2 * rows }, (_, index) => Math.sin(index));
  const values = Uint32Array.from({ length: rows }, (_, row) => row % 2);
  const data = { rows, shape: [2], features, targets: { kind: "labels", classes: 2, values } } as const;
  for (const averageDecay of [undefined, 0.9]) {
    using network = Network.create({ input: [2], layers: [dense(4), batchNorm(), relu(), dense(2)] });
    using trainer = await Trainer.create(network, data, {
      epochs: 3,
      batchSize: 8,
      ...(averageDecay !== undefined && { averageDecay }),
    });
    await trainer.chunk();
    await trainer.save(path);
    const judged = async () => await network.predict(features);
    const last = await judged();
    const wanted = averageDecay === undefined ? last : await trainer.withAverage(judged);
    using loaded = await loadTrained(path);
    assertEquals(await loaded.predict(features), wanted);
    if (averageDecay !== undefined) assertNotEquals(wanted, last);
  }
});
