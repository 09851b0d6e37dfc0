/**
 * Decorrelated back-propagation beside back-propagation: all sides choose from the same grid of learning rates, and all are
 * measured in epochs and in seconds, in runs of several lengths, each with a schedule of that length.
 *
 * `--only` picks tasks by a part of their names (glyphs; mnist, batch 64; mnist, batch 512; convnet; resnet18), `--share` takes a share
 * of the training rows for a quick look.
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
import { isDivergence } from "../../src/errors.ts";
import { mean } from "../../src/statistics.ts";
import type { Chart, Experiment, Outcome, ReproduceOptions, ResultTable } from "./experiment.ts";

/** Learning rates of Adam that both sides choose from. */
const RATES = [5e-4, 1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2, 3.2e-2];

/** The best rate may lie beyond these. */
const EDGES = [RATES[0]!, RATES.at(-1)!];

interface Task {
  readonly name: string;
  readonly data: (dataDir: string | undefined) => Promise<Data>;
  readonly model: Model;
  readonly options: TrainOptions;
  /** What a rate is chosen by, and what the epochs and seconds are counted to. */
  readonly by: "train loss" | "test accuracy";
  /** Back-propagation comes first; its first length gives the target. */
  readonly sides: readonly Side[];
}

/** A rule, and the epochs of its runs. */
interface Side {
  readonly name: string;
  readonly rule: Rule;
  readonly lengths: readonly number[];
}

const side = (name: string, rule: Rule, ...lengths: number[]): Side => ({ name, rule, lengths });
/** Forms with an averaged covariance, as they do best in small networks. */
const averaged = { every: 1, ridge: 0.01 } as const;

const small = [
  side("back-propagation", backprop(), 10, 5),
  side("decorrelated", decorrelated(), 10, 5),
  side("paper()", decorrelated.paper(), 10, 5),
  side("newtonSchulz", decorrelated({ form: "newtonSchulz", first: "center", ...averaged }), 10, 6, 5),
  side("cholesky", decorrelated({ form: "cholesky", first: "center", ...averaged }), 10, 6, 5),
  side("cholesky, axes", decorrelated({ form: "cholesky", first: "axes", ...averaged }), 10, 6, 5),
];

const from = (dataDir: string | undefined) => dataDir === undefined ? {} : { dataDir };
const images = { outputs: 10, input: [32, 32, 3] };
const digits = mlp({ input: [28, 28, 1], hidden: [128, 128], outputs: 10 });

const TASKS: readonly Task[] = [
  {
    name: "glyphs",
    data: () => Promise.resolve(glyphs({ rows: 4000, testRows: 2000 })),
    model: digits,
    options: { batchSize: 64 },
    by: "train loss",
    sides: small,
  },
  ...[64, 512].map((batchSize): Task => ({
    name: `mnist, batch ${batchSize}`,
    data: (dataDir) => mnist(from(dataDir)),
    model: digits,
    options: { batchSize },
    by: "train loss",
    sides: small,
  })),
  {
    name: "convnet, cifar10",
    data: (dataDir) => cifar10(from(dataDir)),
    model: convnet(images),
    options: { batchSize: 128, augment: { crop: 4, flip: true } },
    by: "test accuracy",
    sides: [
      side("back-propagation", backprop(), 6),
      side("decorrelated", decorrelated(), 3),
      side("cholesky", decorrelated({ form: "cholesky" }), 2),
    ],
  },
  {
    name: "resnet18 width 1/4, cifar10",
    data: (dataDir) => cifar10(from(dataDir)),
    model: resnet18({ ...images, width: 0.25 }),
    options: { batchSize: 128, augment: { crop: 4, flip: true } },
    by: "test accuracy",
    // The published settings cost twice to three times a step in both.
    sides: [
      side("back-propagation", backprop(), 6),
      side("decorrelated", decorrelated(), 4),
      side("cholesky", decorrelated({ form: "cholesky" }), 4),
    ],
  },
];

/** One run: an entry for each epoch. */
interface Run {
  readonly seconds: readonly number[];
  readonly losses: readonly number[];
  readonly accuracies: readonly number[];
}

/** A rule and how long it may take. */
interface Contestant {
  readonly name: string;
  readonly rule: Rule;
  readonly epochs: number;
}

/** A run; where it diverges, its epochs until then and worst ones after, so that no such rate is chosen. */
async function once(
  task: Task,
  data: Data,
  { rule, epochs }: Contestant,
  { rate, seed }: { rate: number; seed: number },
): Promise<Run> {
  using network = Network.create({ ...task.model, seed });
  const options = { ...task.options, rule, seed, epochs, optimizer: adam(rate), schedule: cosine() };
  const run = { seconds: [] as number[], losses: [] as number[], accuracies: [] as number[] };
  const rows = { ...data, validation: data.test! };
  const note = (seconds: number, loss: number, accuracy: number) => {
    run.seconds.push(seconds);
    run.losses.push(loss);
    run.accuracies.push(accuracy);
  };
  try {
    for await (const { epochDone, seconds, trainLoss, validation } of train(network, rows, options)) {
      if (epochDone) note(seconds, trainLoss, validation?.accuracy ?? NaN);
    }
  } catch (fault) {
    if (!isDivergence(fault)) throw fault;
    while (run.losses.length < epochs) note(run.seconds.at(-1) ?? 0, Infinity, 0);
  }
  return run;
}

const at = (runs: readonly Run[], of: keyof Run, epoch: number) => mean(runs.map((run) => run[of][epoch]!));

/** How good a run is: larger is better. */
const score = ({ by }: Task, run: Run) => by === "train loss" ? -run.losses.at(-1)! : run.accuracies.at(-1)!;

/** Runs of one rule with the rate of the grid that serves its first seed best. */
interface Tuned extends Contestant {
  readonly rate: number;
  readonly runs: readonly Run[];
}

/** All contestants in turn, at each rate and then with each seed, so that a machine that slows down or speeds up does so for all. */
async function tuned(
  task: Task,
  data: Data,
  contestants: readonly Contestant[],
  options: ReproduceOptions,
): Promise<Tuned[]> {
  const report = ({ name, epochs }: Contestant, where: string, run: Run) =>
    options.report(
      `${task.name}, ${name}, ${epochs} epochs, ${where}: loss ${run.losses.at(-1)!.toPrecision(3)}, ` +
        `test accuracy ${run.accuracies.at(-1)!.toFixed(4)}, ${run.seconds.at(-1)!.toFixed(1)} s`,
    );
  const best: { rate: number; run: Run }[] = [];
  for (const rate of RATES) {
    for (const [index, contestant] of contestants.entries()) {
      const run = await once(task, data, contestant, { rate, seed: 1 });
      report(contestant, `rate ${rate}`, run);
      const other = best[index];
      if (other === undefined || score(task, run) > score(task, other.run)) best[index] = { rate, run };
    }
  }
  const sides = contestants.map((contestant, index) => ({
    ...contestant,
    rate: best[index]!.rate,
    runs: [best[index]!.run],
  }));
  for (let seed = 2; seed <= options.runs; seed++) {
    for (const side of sides) {
      const run = await once(task, data, side, { rate: side.rate, seed });
      report(side, `rate ${side.rate}, seed ${seed}`, run);
      side.runs.push(run);
    }
  }
  return sides;
}

/** The first epoch (from 0) at which the mean of the runs is as good as the target; none where it never is. */
function reaches(task: Task, side: Tuned, target: number): number | undefined {
  for (let epoch = 0; epoch < side.epochs; epoch++) {
    const good = task.by === "train loss"
      ? at(side.runs, "losses", epoch) <= target
      : at(side.runs, "accuracies", epoch) >= target;
    if (good) return epoch;
  }
}

function tableOf(task: Task, sides: readonly Tuned[], target: number): ResultTable {
  const rows = sides.map((side) => {
    const [epoch, last] = [reaches(task, side, target), side.epochs - 1];
    return [
      side.name,
      String(side.epochs),
      `${side.rate}${EDGES.includes(side.rate) ? " (edge)" : ""}`,
      at(side.runs, "losses", last).toPrecision(3),
      `${(100 * at(side.runs, "accuracies", last)).toFixed(2)} %`,
      `${(at(side.runs, "seconds", last) / side.epochs).toFixed(2)}`,
      epoch === undefined ? "never" : String(epoch + 1),
      epoch === undefined ? "never" : at(side.runs, "seconds", epoch).toFixed(1),
    ];
  });
  const what = task.by === "train loss"
    ? `train loss ${target.toPrecision(3)}`
    : `test accuracy ${(100 * target).toFixed(2)} %`;
  const head = [
    "rule",
    "epochs",
    "rate",
    "train loss",
    "test accuracy",
    "s/epoch",
    `epochs to ${what}`,
    "seconds to it",
  ];
  return { title: `${task.name}, ${sides[0]!.runs.length} seeds`, head, rows };
}

function chartOf(task: Task, sides: readonly Tuned[]): Chart {
  const values = sides.flatMap(({ name, epochs, runs }) =>
    Array.from({ length: epochs }, (_, epoch) => ({
      rule: `${name}, ${epochs} epochs`,
      seconds: at(runs, "seconds", epoch),
      accuracy: at(runs, "accuracies", epoch),
    }))
  );
  return {
    name: `decorrelated-${task.name.replaceAll(/[^a-z0-9]+/g, "-")}`,
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

/** Where the best of the decorrelated sides is not twice as fast as back-propagation, or ends less accurate. */
function shortcomings(task: Task, sides: readonly Tuned[], target: number): string[] {
  const spent = (side: Tuned) => {
    const epoch = reaches(task, side, target);
    if (epoch === undefined) return Infinity;
    return task.by === "train loss" ? epoch + 1 : at(side.runs, "seconds", epoch);
  };
  const [plain, ...others] = sides as [Tuned, ...Tuned[]];
  const accuracy = (side: Tuned) => at(side.runs, "accuracies", side.epochs - 1);
  const best = others.filter(({ name }) => name !== plain.name)
    .toSorted((a, b) => spent(a) - spent(b) || accuracy(b) - accuracy(a))[0]!;
  const unit = task.by === "train loss" ? "epochs" : "seconds";
  const found: string[] = [];
  if (!(spent(best) <= spent(plain) / 2)) {
    const words = spent(best) === Infinity ? "no rule reaches the target" : `${best.name} reaches the target`;
    const after = spent(best) === Infinity ? "" : ` in ${spent(best).toFixed(1)} ${unit}`;
    found.push(`${task.name}: ${words}${after} where half of ${spent(plain).toFixed(1)} ${unit} is expected`);
  }
  const [a, b] = [accuracy(plain), accuracy(best)];
  if (b < a) {
    found.push(
      `${task.name}: test accuracy ${b.toFixed(4)} of ${best.name} where at least ${a.toFixed(4)} is expected`,
    );
  }
  return found;
}

async function run(options: ReproduceOptions): Promise<Outcome> {
  const tables: ResultTable[] = [];
  const charts: Chart[] = [];
  const figures: Record<string, readonly Tuned[]> = {};
  const deviations: string[] = [];
  for (const task of TASKS.filter(({ name }) => name.includes(options.only))) {
    const all = await task.data(options.dataDir);
    const count = Math.round(all.train.rows * options.share);
    const data = { ...all, train: takeRows(all.train, Uint32Array.from({ length: count }, (_, row) => row)) };
    const contestants = task.sides.flatMap(({ name, rule, lengths }) =>
      lengths.map((epochs) => ({ name, rule, epochs }))
    );
    const sides = await tuned(task, data, contestants, options);
    const plain = sides[0]!;
    const target = task.by === "train loss"
      ? at(plain.runs, "losses", plain.epochs - 1)
      : Math.max(...plain.runs[0]!.losses.map((_, epoch) => at(plain.runs, "accuracies", epoch)));
    tables.push(tableOf(task, sides, target));
    charts.push(chartOf(task, sides));
    figures[task.name] = sides;
    deviations.push(...shortcomings(task, sides, target));
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
