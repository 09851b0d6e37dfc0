/**
 * Mem-AOP-GD on the energy data (figure 3 of the paper): one linear layer of 16 inputs, squared error, batches of 144, rate 0.01,
 * 100 epochs.
 *
 * @module
 */

import { Dataset, dense, energy, meanSquaredError, Network, sgd, Trainer } from "../../mod.ts";
import type { Experiment, Outcome, ReproduceOptions } from "./experiment.ts";
import { compareTable, concurrently, curveChart, publishedCurves, type Setting, settings } from "./mem_aop_settings.ts";
import { curveOf } from "./statistics.ts";

const BATCH = 144;
const EPOCHS = 100;

/** One run: training loss (each step's before its update) and validation loss of every epoch. */
async function once(setting: Setting, data: { train: Dataset; validation: Dataset }, seed: number) {
  const start = { weightInit: "fanInUniform", biasInit: "fanInUniform" } as const;
  using network = Network.create({
    input: [16],
    layers: [dense(1, start)],
    loss: meanSquaredError(),
    seed,
    threads: 1,
  });
  const options = { rule: setting.rule, optimizer: sgd(0.01), batchSize: BATCH, epochs: EPOCHS, dropLast: true, seed };
  using trainer = await Trainer.create(network, data.train, options);
  const curves = { loss: [] as number[], loss_val: [] as number[] };
  for (;;) {
    const { trainLoss, done } = await trainer.epoch();
    const validation = await network.evaluate(data.validation);
    curves.loss.push(trainLoss);
    curves.loss_val.push(validation.loss);
    if (done) return curves;
  }
}

async function run(options: ReproduceOptions): Promise<Outcome> {
  const tables = await energy(options.dataDir === undefined ? {} : { dataDir: options.dataDir });
  using train = await Dataset.create(tables.train);
  using validation = await Dataset.create(tables.test!);
  const published = await publishedCurves({ prefix: "Energy_Efficiency", batch: BATCH }, options);
  const list = settings([18, 9, 3], { batch: BATCH, only: options.only });
  const jobs = list.flatMap((setting) =>
    Array.from({ length: options.runs }, (_, seed) => ({ setting, seed: seed + 1 }))
  );
  const runs = await concurrently(jobs, ({ setting, seed }) => once(setting, { train, validation }, seed));
  const results = list.map((setting, at) => {
    const own = runs.slice(at * options.runs, (at + 1) * options.runs);
    const curve = (measure: "loss" | "loss_val") => curveOf(own.map((run) => run[measure]));
    return { setting, found: { loss: curve("loss"), loss_val: curve("loss_val") }, published: published(setting) };
  });
  const { table, deviations } = compareTable("Energy efficiency, mean squared error (the authors' mean; difference)", {
    results,
    columns: [
      { measure: "loss", title: "training", epochs: [10, 50, 100], digits: 2 },
      { measure: "loss_val", title: "validation", epochs: [50, 100], digits: 2 },
    ],
  });
  const chart = (measure: string, title: string) =>
    curveChart(`mem-aop-energy-${measure}`, { results, measure, title, scale: "log" });
  return {
    tables: [table],
    charts: [chart("loss", "training, mean squared error"), chart("loss_val", "validation, mean squared error")],
    figures: results.map(({ setting, found }) => ({ setting: setting.name, ...found })),
    deviations,
  };
}

/** Figure 3. */
export const memAopEnergy: Experiment = {
  name: "mem-aop-energy",
  description:
    "Mem-AOP-GD on one linear layer and the energy data: all policies, with and without memory, k = 18, 9, 3",
  paper: "Hernandez, Rini, Duman 2021, figure 3",
  runs: 10,
  run,
};
