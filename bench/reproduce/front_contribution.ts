/**
 * Front contribution beside back-propagation: the XOR equality of the paper's abstract, the largest difference of outputs along
 * trajectories, step times, peak memory, and a study of five folds × five seeds.
 *
 * @module
 */

import {
  backprop,
  Dataset,
  dense,
  frontContribution,
  Gram,
  type Layer,
  meanSquaredError,
  Network,
  type NetworkOptions,
  relu,
  type Rule,
  sgd,
  sigmoid,
  spectra,
  type Table,
  tanh,
  train,
  Trainer,
  type TrainOptions,
} from "../../mod.ts";
import { frontCases, measureFront, measureMemory, memoryCases } from "../rules/front_contribution.ts";
import type { Experiment, Outcome, ReproduceOptions, ResultTable } from "./experiment.ts";

/** Largest difference of outputs in f64 that counts as equal. */
const EQUAL = 1e-10;

/** A network and rows on which both ways are followed. */
interface Path {
  readonly name: string;
  readonly net: Pick<NetworkOptions, "input" | "layers" | "loss">;
  readonly rows: Table;
  readonly training: TrainOptions;
  readonly collapse: "gram" | "linearPair";
  readonly steps: number;
  /** The largest difference that is allowed. */
  readonly most: number;
}

const xor: Table = {
  rows: 4,
  shape: [2],
  features: new Float64Array([0, 0, 0, 1, 1, 0, 1, 1]),
  targets: { kind: "values", size: 1, values: new Float64Array([0, 1, 1, 0]) },
};

function paths(): Path[] {
  const onXor = Object.entries({ relu, tanh, sigmoid }).map(([name, activation]): Path => ({
    name: `XOR, 2-4-1, ${name}`,
    net: { input: [2], layers: [dense(4), activation(), dense(1)], loss: meanSquaredError() },
    rows: xor,
    training: { optimizer: sgd(0.2), batchSize: 4 },
    collapse: "gram",
    steps: 5000,
    most: 1e-12,
  }));
  const { train: rows } = spectra({ rows: 100 });
  const on = (name: string, layers: Layer[], training: TrainOptions, collapse: Path["collapse"] = "gram"): Path => ({
    name,
    net: { input: rows.shape, layers },
    rows,
    training,
    collapse,
    steps: 200,
    most: EQUAL,
  });
  const deep = [dense(64), relu(), dense(32), tanh(), dense(4)];
  const momentum = sgd(0.01, { momentum: 0.9, weightDecay: 1e-3 });
  return [
    ...onXor,
    on("spectra, 5000-64-32-4, momentum, decay, full batch", deep, { optimizer: momentum, batchSize: 100 }),
    on("spectra, 5000-64-32-4, momentum, decay, batch 20", deep, { optimizer: momentum, batchSize: 20 }),
    on("spectra, 5000-64-32-4, clipped, batch 20", deep, { optimizer: sgd(0.05), batchSize: 20, clipNorm: 0.5 }),
    on(
      "spectra, linear pair inside: 5000-16-(256-16)-4, batch 20",
      [dense(16), tanh(), dense(256), dense(16), tanh(), dense(4)],
      { optimizer: sgd(0.01), batchSize: 20 },
      "linearPair",
    ),
  ];
}

/** Largest difference of outputs, up to each of 40 places along the way. */
async function follow(path: Path): Promise<{ readonly step: number; readonly difference: number }[]> {
  const make = async (rule: Rule) => {
    const network = Network.create({ ...path.net, precision: "f64", seed: 1 });
    const trainer = await Trainer.create(network, path.rows, { ...path.training, rule, epochs: path.steps, seed: 1 });
    return { network, trainer };
  };
  const plain = await make(backprop());
  const front = await make(frontContribution({ collapse: path.collapse, force: true }));
  const points: { step: number; difference: number }[] = [];
  let largest = 0;
  const every = path.steps / 40;
  for (let step = 0; step < path.steps;) {
    const [progress] = [await plain.trainer.epoch(), await front.trainer.epoch()];
    const before = Math.floor(step / every);
    step = progress.step;
    if (Math.floor(step / every) === before) continue;
    const [a, b] = [await plain.network.predict(path.rows), await front.network.predict(path.rows)];
    a.forEach((value, index) => largest = Math.max(largest, Math.abs(value - b[index]!)));
    // A logarithmic picture has no 0.
    points.push({ step, difference: Math.max(largest, Number.EPSILON / 2) });
  }
  for (const { network, trainer } of [plain, front]) {
    trainer[Symbol.dispose]();
    network[Symbol.dispose]();
  }
  return points;
}

/** Seconds of 25 runs: five folds, five seeds. */
async function studySeconds(data: Dataset, rule: Rule): Promise<number> {
  const start = performance.now();
  const rows = Array.from({ length: data.rows }, (_, row) => row);
  for (let fold = 0; fold < 5; fold++) {
    using part = data.select(rows.filter((row) => Math.floor(row / 4) % 5 !== fold));
    for (let seed = 0; seed < 5; seed++) {
      using network = Network.create({
        input: data.shape,
        layers: [dense(64), relu(), dense(32), relu(), dense(4)],
        seed,
      });
      const options = { rule, optimizer: sgd(0.05, { momentum: 0.9 }), epochs: 30, batchSize: 32, seed };
      for await (const _ of train(network, part, options));
    }
  }
  return (performance.now() - start) / 1000;
}

async function run(options: ReproduceOptions): Promise<Outcome> {
  const deviations: string[] = [];
  const chosen = paths().filter(({ name }) => name.includes(options.only));
  const curves = [];
  for (const path of chosen) {
    options.report(path.name);
    const points = await follow(path);
    const largest = points.at(-1)!.difference;
    if (!(largest <= path.most)) deviations.push(`${path.name}: outputs differ by ${largest}, allowed ${path.most}`);
    curves.push({ ...path, points, largest });
  }
  const equality: ResultTable = {
    title: "Largest difference of outputs between front contribution and back-propagation, f64",
    head: ["case", "steps", "difference", "allowed"],
    rows: curves.map((
      { name, steps, largest, most },
    ) => [name, String(steps), largest.toExponential(1), most.toExponential(0)]),
  };

  const timings = [];
  for (const threads of [1, 2]) {
    for (const one of frontCases.filter(({ name }) => name.includes(options.only))) {
      options.report(`${one.name}, ${threads} threads`);
      timings.push(await measureFront(one, { threads, rounds: options.runs, seconds: 0.08 }));
    }
  }
  const times: ResultTable = {
    title: "Time of a step, f32: back-propagation ÷ front contribution (medians of interleaved turns)",
    head: ["case", "threads", "back-propagation, ms", "front, ms", "ratio", "predicted"],
    rows: timings.map(({ name, threads, backprop, front, ratio, predicted }) => [
      name,
      String(threads),
      backprop.toFixed(3),
      front.toFixed(3),
      ratio.toFixed(2),
      predicted.toFixed(2),
    ]),
  };

  const memory = [];
  for (const one of memoryCases.filter(({ name }) => name.includes(options.only))) {
    options.report(`memory of ${one.name}`);
    memory.push(...await measureMemory(one));
  }
  const peaks: ResultTable = {
    title: "Peak memory beside the data, f32 with momentum",
    head: ["case", "measured, MiB", "predicted, MiB"],
    rows: memory.map(({ name, measured, predicted }) => [
      name,
      (measured / 2 ** 20).toFixed(1),
      (predicted / 2 ** 20).toFixed(1),
    ]),
  };

  options.report("5 folds × 5 seeds");
  using data = await Dataset.create(spectra().train);
  using gram = await Gram.create(data);
  const front = gram.seconds + await studySeconds(data, frontContribution({ gram }));
  const plain = await studySeconds(data, backprop());
  const study: ResultTable = {
    title: "25 runs on spectra (5 folds × 5 seeds, 5000-64-32-4, 30 epochs), seconds",
    head: ["back-propagation", "front contribution, shared products", "ratio"],
    rows: [[plain.toFixed(2), front.toFixed(2), (plain / front).toFixed(1)]],
  };

  return {
    tables: [equality, times, peaks, study],
    charts: [{
      name: "front-contribution-difference",
      spec: {
        $schema: "https://vega.github.io/schema/vega-lite/v6.json",
        title: "Largest difference of outputs so far, front contribution and back-propagation, f64",
        width: 560,
        height: 300,
        data: {
          values: curves.flatMap(({ name, steps, points }) =>
            points.map(({ step, difference }) => ({ name, share: step / steps, difference }))
          ),
        },
        mark: { type: "line", interpolate: "step-after" },
        encoding: {
          x: { field: "share", type: "quantitative", title: "share of the steps", axis: { format: "%" } },
          y: { field: "difference", type: "quantitative", scale: { type: "log" }, title: "difference" },
          color: {
            field: "name",
            type: "nominal",
            title: null,
            legend: { orient: "bottom", columns: 1, labelLimit: 500 },
          },
        },
      },
    }],
    figures: { curves: curves.map(({ name, points }) => ({ name, points })), timings, memory, study: { plain, front } },
    deviations,
  };
}

/** The paper's equality, and what the reconstruction saves. */
export const frontContributionExperiment: Experiment = {
  name: "front-contribution",
  description: "equality with back-propagation on XOR and spectra, step times, memory, and 25 runs that share products",
  paper: "after Mishra, Arunkumar 2021",
  runs: 5,
  run,
};
