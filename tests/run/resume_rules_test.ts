/** A run that was interrupted ten times gives the same bits as one that was not, for every rule. */

import {
  Dataset,
  dense,
  flatten,
  loadCheckpoint,
  Network,
  relu,
  type Rule,
  sgd,
  Trainer,
  type TrainOptions,
} from "../../mod.ts";
import { native } from "../../src/ffi/native.ts";
import { ruleByName, rules } from "../../src/rules/mod.ts";
import { assertSameBits, bits, inTemporaryFolder, steps, table } from "../helpers.ts";

// Opened before the first test: what is opened within a test has to be closed there.
native();

const rows = table(60, { shape: [40], classes: 4 });
const make = () =>
  Network.create({ input: [40], layers: [flatten(), dense(16), relu(), dense(12), relu(), dense(4)], seed: 3 });

/** 60 rows in batches of 16: four steps an epoch, the last of twelve rows; 24 steps in all. */
const common = { epochs: 6, batchSize: 16, seed: 4, optimizer: sgd(0.05, { momentum: 0.9 }) } satisfies TrainOptions;

/** Steps between two interruptions: ten of them, within epochs and at their ends. */
const PARTS = [1, 2, 1, 4, 3, 1, 2, 5, 2, 1, 2];

const entries = [
  ...rules.map(({ name, create }) => {
    const options: Record<string, Record<string, unknown>> = {
      // So few rows gain nothing from a collapse, and so small layers nothing from a choice of rows: the rules would leave them out.
      "front-contribution": { force: true },
      "mem-aop": { k: 4, minSize: 0 },
      sparse: { schedule: "rigl", every: 3 },
    };
    return { name, rule: create(options[name] ?? {}) };
  }),
  { name: "sparse+mem-aop", rule: ruleByName("sparse+mem-aop", { "mem-aop": { k: 4, minSize: 0 } }) },
] satisfies { name: string; rule: Rule }[];

for (const { name, rule } of entries) {
  Deno.test(`a run with ${name} that was resumed ten times equals one run`, async () => {
    await inTemporaryFolder(async (folder) => {
      const path = `${folder}/run.safetensors`;
      using data = await Dataset.create(rows);
      using whole = make();
      using uninterrupted = await Trainer.create(whole, data, { ...common, rule });
      await steps(whole, data, PARTS.reduce((sum, part) => sum + part, 0));

      {
        using network = make();
        using trainer = await Trainer.create(network, data, { ...common, rule });
        await steps(network, data, PARTS[0]!);
        await trainer.save(path);
      }
      for (const part of PARTS.slice(1)) {
        const checkpoint = await loadCheckpoint(path);
        using network = checkpoint.network;
        using trainer = await Trainer.resume(checkpoint, data);
        await steps(network, data, part);
        await trainer.save(path);
      }
      const { network } = await loadCheckpoint(path);
      using resumed = network;
      await uninterrupted.save(`${folder}/whole.safetensors`);
      const expected = await loadCheckpoint(`${folder}/whole.safetensors`);
      using reference = expected.network;
      assertSameBits(bits(resumed), bits(reference), name);
    });
  });
}
