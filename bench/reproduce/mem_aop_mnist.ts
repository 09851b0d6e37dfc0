/**
 * Mem-AOP-GD on MNIST (figure 4 of the paper): one linear layer of 784 inputs and 10 outputs, cross-entropy, batches of 64, rate
 * 0.01, 30 epochs.
 *
 * The authors' network ends in a softmax layer and their loss (PyTorch's CrossEntropyLoss) applies softmax once more. Losses cannot
 * fall below 1.461 then and gradients are small, which is why all accuracies lie below those of a plain linear classifier. Their
 * figures can only be met with both, so both are here. Training and validation leave out a batch that is not full, while their
 * accuracies divide by all 60,000 and 10,000 rows.
 *
 * @module
 */

import { Dataset, dense, flatten, mnist, Network, sgd, softmax, type Table, Trainer } from "../../mod.ts";
import type { Experiment, Outcome, ReproduceOptions } from "./experiment.ts";
import { compareTable, concurrently, curveChart, publishedCurves, type Setting, settings } from "./mem_aop_settings.ts";
import { curveOf } from "./statistics.ts";

const BATCH = 64;
const EPOCHS = 30;

/** Pixels from −1 to 1, and whole batches only. */
function prepare(table: Table, rows: number): Table {
  const size = table.shape.reduce((product, axis) => product * axis, 1);
  if (!(table.features instanceof Uint8Array) || table.targets.kind !== "labels") {
    throw new Error("MNIST has bytes and labels");
  }
  return {
    ...table,
    rows,
    features: table.features.subarray(0, rows * size),
    targets: { ...table.targets, values: table.targets.values.subarray(0, rows) },
    scale: [2 / 255],
    offset: [-1],
  };
}

/** One run: losses and accuracies of every epoch. */
async function once(setting: Setting, data: { train: Dataset; validation: Dataset }, seed: number) {
  const start = { weightInit: "fanInUniform", biasInit: "fanInUniform" } as const;
  using network = Network.create({
    input: [28, 28, 1],
    layers: [flatten(), dense(10, start), softmax()],
    seed,
    threads: 1,
  });
  const options = { rule: setting.rule, optimizer: sgd(0.01), batchSize: BATCH, epochs: EPOCHS, dropLast: true, seed };
  using trainer = await Trainer.create(network, data.train, options);
  const curves = { loss: [] as number[], loss_val: [] as number[], acc: [] as number[], acc_val: [] as number[] };
  for (;;) {
    const { trainLoss, trainAccuracy, rows, done } = await trainer.epoch();
    const validation = await network.evaluate(data.validation);
    curves.loss.push(trainLoss);
    curves.acc.push(trainAccuracy! * rows / 60_000);
    curves.loss_val.push(validation.loss);
    curves.acc_val.push(validation.accuracy! * validation.rows / 10_000);
    if (done) return curves;
  }
}

async function run(options: ReproduceOptions): Promise<Outcome> {
  const tables = await mnist({
    download: options.download,
    ...(options.dataDir !== undefined && { dataDir: options.dataDir }),
  });
  using train = await Dataset.create(prepare(tables.train, 60_000));
  using validation = await Dataset.create(prepare(tables.test!, Math.floor(10_000 / BATCH) * BATCH));
  const published = await publishedCurves({ prefix: "MNIST", batch: BATCH }, options);
  const list = settings([32, 16, 8], { batch: BATCH, only: options.only });
  const jobs = list.flatMap((setting) =>
    Array.from({ length: options.runs }, (_, seed) => ({ setting, seed: seed + 1 }))
  );
  let done = 0;
  const runs = await concurrently(jobs, async ({ setting, seed }) => {
    const curves = await once(setting, { train, validation }, seed);
    done++;
    if (done % options.runs === 0) options.report(`${done} of ${jobs.length} runs`);
    return curves;
  });
  const measures = ["loss", "loss_val", "acc", "acc_val"] as const;
  const results = list.map((setting, at) => {
    const own = runs.slice(at * options.runs, (at + 1) * options.runs);
    const found = Object.fromEntries(measures.map((measure) => [measure, curveOf(own.map((run) => run[measure]))]));
    return { setting, found, published: published(setting) };
  });
  const { table, deviations } = compareTable("MNIST (the authors' mean; difference in combined standard errors)", {
    results,
    columns: [
      { measure: "acc_val", title: "validation accuracy", epochs: [1, 15, 30], digits: 4 },
      { measure: "loss_val", title: "validation loss", epochs: [30], digits: 4 },
    ],
  });
  return {
    tables: [table],
    charts: [
      curveChart("mem-aop-mnist-accuracy", {
        results,
        measure: "acc_val",
        title: "validation accuracy",
        scale: "linear",
      }),
      curveChart("mem-aop-mnist-loss", { results, measure: "loss_val", title: "validation loss", scale: "linear" }),
    ],
    figures: results.map(({ setting, found }) => ({ setting: setting.name, ...found })),
    deviations,
  };
}

/** Figure 4. */
export const memAopMnist: Experiment = {
  name: "mem-aop-mnist",
  description: "Mem-AOP-GD on one linear layer and MNIST: all policies, with and without memory, k = 32, 16, 8",
  paper: "Hernandez, Rini, Duman 2021, figure 4",
  runs: 10,
  run,
};
