/** A run that was saved, ended, loaded and resumed gives the same bits as one that was never interrupted. */

import { assertEquals } from "@std/assert";
import {
  adam,
  adamW,
  cosine,
  Dataset,
  dense,
  dropout,
  type Layer,
  layerNorm,
  loadCheckpoint,
  Network,
  oneCycle,
  relu,
  rmsProp,
  sgd,
  stepDecay,
  Trainer,
  type TrainOptions,
  warmUp,
} from "../../mod.ts";
import { assertSameBits, bits, inTemporaryFolder, steps, table } from "../helpers.ts";

const layers: Layer[] = [dense(24), layerNorm(), relu(), dropout(0.4), dense(4)];
const rows = table(90, { shape: [6], classes: 4 });

const runs: Record<string, TrainOptions> = {
  "sgd, step": { optimizer: sgd(0.1), schedule: stepDecay(1, 0.5) },
  "sgd with weight decay, clipped": { optimizer: sgd(0.1, { weightDecay: 0.01 }), clipNorm: 0.2 },
  "momentum, cosine": { optimizer: sgd(0.05, { momentum: 0.9 }), schedule: cosine() },
  "nesterov, warm-up": { optimizer: sgd(0.05, { momentum: 0.9, nesterov: true }), schedule: warmUp(1, cosine()) },
  "adam, one cycle": { optimizer: adam(1e-2), schedule: oneCycle() },
  "adam, clipped, no shuffling": { optimizer: adam(1e-2), clipNorm: 0.1, shuffle: false },
  "adamW, dropLast": { optimizer: adamW(1e-2), dropLast: true },
  "rmsProp, two and a half epochs": { optimizer: rmsProp(1e-2), epochs: 2.5 },
};

/** 90 rows in batches of 16: six steps an epoch, the last of ten rows. */
const common = { epochs: 3, batchSize: 16, seed: 8 };

/** Takes the rest of a run epoch by epoch: what each reported at its end. */
async function finish(trainer: Trainer): Promise<unknown[]> {
  const reports: unknown[] = [];
  for (;;) {
    const { seconds: _, ...progress } = await trainer.epoch();
    reports.push(progress);
    if (progress.done) return reports;
  }
}

for (const precision of ["f32", "f64"] as const) {
  for (const [name, options] of Object.entries(runs)) {
    // One run suffices to see that f64 state is kept whole.
    if (precision === "f64" && name !== "adam, one cycle") continue;
    Deno.test(`Trainer.resume() goes on with the same bits: ${precision} ${name}`, async () => {
      await inTemporaryFolder(async (folder) => {
        const path = `${folder}/run.safetensors`;
        const create = () => Network.create({ input: [6], layers, precision, seed: 2 });
        using whole = create();
        using uninterrupted = await Trainer.create(whole, rows, { ...common, ...options });
        const expected = await finish(uninterrupted);

        // Before the first step, inside an epoch, at the end of one, and in the last.
        for (const stop of [0, 1, 5, 6, 9, 14]) {
          {
            using network = create();
            using data = await Dataset.create(rows);
            using trainer = await Trainer.create(network, data, { ...common, ...options });
            await steps(network, data, stop);
            await trainer.save(path);
            // What happens after saving is not in the file.
            await steps(network, data, 1);
          }
          const checkpoint = await loadCheckpoint(path);
          using network = checkpoint.network;
          using trainer = await Trainer.resume(checkpoint, rows);
          const reports = await finish(trainer);
          assertEquals(reports, expected.slice(-reports.length), `stopped after ${stop} steps`);
          assertSameBits(bits(network), bits(whole), `stopped after ${stop} steps`);
        }
      });
    });
  }
}

Deno.test("Trainer.resume() may be interrupted again and again", async () => {
  await inTemporaryFolder(async (folder) => {
    const path = `${folder}/run.safetensors`;
    const options = { ...common, optimizer: adam(1e-2) };
    using whole = Network.create({ input: [6], layers, seed: 2 });
    using uninterrupted = await Trainer.create(whole, rows, options);
    await finish(uninterrupted);
    {
      using network = Network.create({ input: [6], layers, seed: 2 });
      using trainer = await Trainer.create(network, rows, options);
      await trainer.save(path);
    }
    using data = await Dataset.create(rows);
    for (let done = false; !done;) {
      const checkpoint = await loadCheckpoint(path);
      using network = checkpoint.network;
      using trainer = await Trainer.resume(checkpoint, data);
      ({ done } = await steps(network, data, 1));
      await trainer.save(path);
    }
    using final = await Network.load(path);
    assertSameBits(bits(final), bits(whole), "after an interruption at every step");
  });
});

Deno.test("Trainer.resume() of a finished run has nothing to do", async () => {
  await inTemporaryFolder(async (folder) => {
    const path = `${folder}/run.safetensors`;
    using network = Network.create({ input: [6], layers });
    using trainer = await Trainer.create(network, rows, { ...common, epochs: 1 });
    const last = await trainer.epoch();
    await trainer.save(path);
    const checkpoint = await loadCheckpoint(path);
    using loaded = checkpoint.network;
    using resumed = await Trainer.resume(checkpoint, rows);
    const { seconds: _, ...progress } = await resumed.epoch();
    const { seconds: __, ...expected } = last;
    assertEquals(progress, expected);
    assertSameBits(bits(loaded), bits(network), "a finished run");
  });
});
