/**
 * Decorrelated back-propagation beside back-propagation: both sides choose from the same grid of learning rates, and both are
 * measured in epochs and in seconds.
 *
 * `--only` picks tasks (glyphs, mnist, convnet, resnet18), `--share` takes a share of the training rows for a quick look.
 *
 * @module
 */

import {
  adam,
  backprop,
  cifar10,
  convnet,
  cosine,
  type Data,
  decorrelated,
  glyphs,
  mlp,
  mnist,
  type Model,
  Network,
  resnet18,
  type Rule,
  takeRows,
  train,
  type TrainOptions,
} from "../../mod.ts";
import type { Chart, Experiment, Outcome, ReproduceOptions, ResultTable } from "./experiment.ts";

/** Learning rates of Adam that both sides choose from. */
const RATES = [5e-4, 1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2];

interface Task {
  readonly name: string;
  readonly data: (dataDir: string | undefined) => Promise<Data>;
  readonly model: Model;
  readonly epochs: number;
  readonly options: TrainOptions;
  /** What a rate is chosen by, and what the epochs and seconds are counted to. */
  readonly by: "train loss" | "test accuracy";
  readonly rules: Readonly<Record<string, Rule>>;
}

const from = (dataDir: string | undefined) => dataDir === undefined ? {} : { dataDir };
const images = { outputs: 10, input: [32, 32, 3] };

const TASKS: readonly Task[] = [
  {
    name: "glyphs, 784-128-128-10",
    data: () => Promise.resolve(glyphs({ rows: 4000, testRows: 2000 })),
    model: mlp({ input: [28, 28, 1], hidden: [128, 128], outputs: 10 }),
    epochs: 10,
    options: { batchSize: 64 },
    by: "train loss",
    rules: { "decorrelated": decorrelated(), "paper()": decorrelated.paper() },
  },
  {
    name: "mnist, 784-128-128-10",
    data: (dataDir) => mnist(from(dataDir)),
    model: mlp({ input: [28, 28, 1], hidden: [128, 128], outputs: 10 }),
    epochs: 10,
    options: { batchSize: 64 },
    by: "train loss",
    rules: { "decorrelated": decorrelated(), "paper()": decorrelated.paper() },
  },
  {
    name: "convnet, cifar10",
    data: (dataDir) => cifar10(from(dataDir)),
    model: convnet(images),
    epochs: 6,
    options: { batchSize: 128, augment: { crop: 4, flip: true } },
    by: "test accuracy",
    rules: { "decorrelated": decorrelated(), "paper()": decorrelated.paper() },
  },
  {
    name: "resnet18 width 1/4, cifar10",
    data: (dataDir) => cifar10(from(dataDir)),
    model: resnet18({ ...images, width: 0.25 }),
    epochs: 6,
    options: { batchSize: 128, augment: { crop: 4, flip: true } },
    by: "test accuracy",
    rules: { "decorrelated": decorrelated(), "paper()": decorrelated.paper() },
  },
];

/** One run: an entry for each epoch. */
interface Run {
  readonly seconds: readonly number[];
  readonly losses: readonly number[];
  readonly accuracies: readonly number[];
}

async function once(task: Task, data: Data, { rule, rate, seed }: { rule: Rule; rate: number; seed: number }) {
  using network = Network.create({ ...task.model, seed });
  const options = { ...task.options, rule, seed, epochs: task.epochs, optimizer: adam(rate), schedule: cosine() };
  const run = { seconds: [] as number[], losses: [] as number[], accuracies: [] as number[] };
  const rows = { ...data, validation: data.test! };
  for await (const { epochDone, seconds, trainLoss, validation } of train(network, rows, options)) {
    if (!epochDone) continue;
    run.seconds.push(seconds);
    run.losses.push(trainLoss);
    run.accuracies.push(validation?.accuracy ?? NaN);
  }
  return run;
}

const mean = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;
const at = (runs: readonly Run[], of: keyof Run, epoch: number) => mean(runs.map((run) => run[of][epoch]!));

/** How good a run is: larger is better. */
const score = ({ by }: Task, run: Run) => by === "train loss" ? -run.losses.at(-1)! : run.accuracies.at(-1)!;

/** Runs of one rule with the rate of the grid that serves its first seed best. */
interface Side {
  readonly name: string;
  readonly rate: number;
  readonly runs: readonly Run[];
}

async function tuned(task: Task, data: Data, name: string, rule: Rule, options: ReproduceOptions): Promise<Side> {
  let best: { rate: number; run: Run } | undefined;
  for (const rate of RATES) {
    const run = await once(task, data, { rule, rate, seed: 1 });
    options.report(
      `${task.name}, ${name}, rate ${rate}: loss ${run.losses.at(-1)!.toPrecision(3)}, ` +
        `test accuracy ${run.accuracies.at(-1)!.toFixed(4)}, ${run.seconds.at(-1)!.toFixed(1)} s`,
    );
    if (best === undefined || score(task, run) > score(task, best.run)) best = { rate, run };
  }
  const runs = [best!.run];
  for (let seed = 2; seed <= options.runs; seed++) runs.push(await once(task, data, { rule, rate: best!.rate, seed }));
  return { name, rate: best!.rate, runs };
}

/** The first epoch (from 0) at which the mean of the runs is as good as the target; none where it never is. */
function reaches(task: Task, side: Side, target: number): number | undefined {
  for (let epoch = 0; epoch < task.epochs; epoch++) {
    const good = task.by === "train loss"
      ? at(side.runs, "losses", epoch) <= target
      : at(side.runs, "accuracies", epoch) >= target;
    if (good) return epoch;
  }
}

function tableOf(task: Task, sides: readonly Side[], target: number): ResultTable {
  const rows = sides.map((side) => {
    const [epoch, last] = [reaches(task, side, target), task.epochs - 1];
    return [
      side.name,
      String(side.rate),
      at(side.runs, "losses", last).toPrecision(3),
      `${(100 * at(side.runs, "accuracies", last)).toFixed(2)} %`,
      `${(at(side.runs, "seconds", last) / task.epochs).toFixed(2)}`,
      epoch === undefined ? "never" : String(epoch + 1),
      epoch === undefined ? "never" : at(side.runs, "seconds", epoch).toFixed(1),
    ];
  });
  const what = task.by === "train loss"
    ? `train loss ${target.toPrecision(3)}`
    : `test accuracy ${(100 * target).toFixed(2)} %`;
  const head = ["rule", "rate", "train loss", "test accuracy", "s/epoch", `epochs to ${what}`, "seconds to it"];
  return { title: `${task.name}, ${task.epochs} epochs, ${sides[0]!.runs.length} seeds`, head, rows };
}

function chartOf(task: Task, sides: readonly Side[]): Chart {
  const values = sides.flatMap(({ name, runs }) =>
    Array.from({ length: task.epochs }, (_, epoch) => ({
      rule: name,
      seconds: at(runs, "seconds", epoch),
      accuracy: at(runs, "accuracies", epoch),
    }))
  );
  return {
    name: `decorrelated-${task.name.split(/[ ,]/)[0]}`,
    spec: {
      title: task.name,
      width: 480,
      height: 300,
      data: { values },
      mark: { type: "line", point: true },
      encoding: {
        x: { field: "seconds", type: "quantitative", title: "seconds of training" },
        y: { field: "accuracy", type: "quantitative", title: "test accuracy", scale: { zero: false } },
        color: { field: "rule", type: "nominal" },
      },
    },
  };
}

async function run(options: ReproduceOptions): Promise<Outcome> {
  const tables: ResultTable[] = [];
  const charts: Chart[] = [];
  const figures: Record<string, readonly Side[]> = {};
  const deviations: string[] = [];
  for (const task of TASKS.filter(({ name }) => name.includes(options.only))) {
    const all = await task.data(options.dataDir);
    const count = Math.round(all.train.rows * options.share);
    const data = { ...all, train: takeRows(all.train, Uint32Array.from({ length: count }, (_, row) => row)) };
    const sides: Side[] = [];
    for (const [name, rule] of [["back-propagation", backprop()], ...Object.entries(task.rules)] as [string, Rule][]) {
      sides.push(await tuned(task, data, name, rule, options));
    }
    const [plain, decorrelated] = [sides[0]!, sides[1]!];
    const last = task.epochs - 1;
    const target = task.by === "train loss"
      ? at(plain.runs, "losses", last)
      : Math.max(...plain.runs[0]!.losses.map((_, epoch) => at(plain.runs, "accuracies", epoch)));
    tables.push(tableOf(task, sides, target));
    charts.push(chartOf(task, sides));
    figures[task.name] = sides;
    const epoch = reaches(task, decorrelated, target);
    const spent = (side: Side, epoch: number) => task.by === "train loss" ? epoch + 1 : at(side.runs, "seconds", epoch);
    const needed = spent(plain, reaches(task, plain, target)!);
    if (epoch === undefined || spent(decorrelated, epoch) > needed / 2) {
      const unit = task.by === "train loss" ? "epochs" : "seconds";
      const found = epoch === undefined ? "never" : `in ${spent(decorrelated, epoch).toFixed(1)} ${unit}`;
      deviations.push(
        `${task.name}: decorrelated reaches the target ${found} where half of ${needed.toFixed(1)} ${unit} is expected`,
      );
    }
    const [a, b] = [at(plain.runs, "accuracies", last), at(decorrelated.runs, "accuracies", last)];
    if (b < a) {
      deviations.push(`${task.name}: test accuracy ${b.toFixed(4)} where at least ${a.toFixed(4)} is expected`);
    }
  }
  return { tables, charts, figures, deviations };
}

/** The experiment. */
export const decorrelatedExperiment: Experiment = {
  name: "decorrelated",
  description: "epochs and seconds of decorrelated back-propagation, tuned on the same grid",
  paper: "Dalm, Offergeld, Ahmad, van Gerven 2024",
  runs: 3,
  run,
};
