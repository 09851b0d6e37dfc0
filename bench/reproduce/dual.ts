/**
 * Learning with dual numbers on MNIST, and its memory against depth. The paper's own experiments are not at hand, so nothing is
 * compared with published figures: back-propagation with the same network, data, order and seed is the measure.
 *
 * @module
 */

import {
  adam,
  backprop,
  cosine,
  Dataset,
  dense,
  dual,
  type Layer,
  mnist,
  Network,
  relu,
  type Rule,
  sgd,
  softmaxCrossEntropy,
  splitRows,
  type Table,
  Trainer,
} from "../../mod.ts";
import type { Chart, Experiment, Outcome, ReproduceOptions, ResultTable } from "./experiment.ts";

const BATCH = 128;
const EPOCHS = 10;

/** Learning rates of Adam to choose from, on rows kept apart. */
const RATES = [5e-4, 1e-3, 2e-3, 4e-3];

/** Epochs of a run that chooses. */
const CHOOSING_EPOCHS = 3;

interface Entrant {
  readonly name: string;
  readonly rule: Rule;
  /** Whether it finds its step length itself: there is no rate to choose then. */
  readonly ownLength?: boolean;
}

const entrants: readonly Entrant[] = [
  { name: "back-propagation", rule: backprop() },
  { name: "feedback", rule: dual() },
  { name: "feedback, a lane for each layer", rule: dual({ shareLanes: false }) },
  { name: "feedback, two passes", rule: dual({ twoPass: true }) },
  { name: "feedback, hyperdual steps", rule: dual({ step: "hyperdual" }), ownLength: true },
  { name: "activity, 8 lanes", rule: dual({ mode: "activity" }) },
];

const hidden = (units: readonly number[]): Layer[] => units.flatMap((count) => [dense(count), relu()]);

const networks: Readonly<Record<string, readonly Layer[]>> = {
  "784-256-128-10": [...hidden([256, 128]), dense(10)],
  "784-128-128-128-128-10": [...hidden([128, 128, 128, 128]), dense(10)],
};

interface Run {
  /** Share of rows right, and seconds of training, at the end of each epoch. */
  readonly epochs: readonly { readonly accuracy: number; readonly seconds: number }[];
}

async function once(
  { layers, entrant, rate, epochs, seed }: {
    readonly layers: readonly Layer[];
    readonly entrant: Entrant;
    readonly rate: number;
    readonly epochs: number;
    readonly seed: number;
  },
  data: { readonly train: Dataset; readonly held: Dataset },
): Promise<Run> {
  using network = Network.create({ input: [784], layers, seed });
  const optimizer = entrant.ownLength ? sgd(rate) : adam(rate);
  const options = { rule: entrant.rule, optimizer, schedule: cosine(), batchSize: BATCH, epochs, seed };
  using trainer = await Trainer.create(network, data.train, options);
  const list: { accuracy: number; seconds: number }[] = [];
  for (;;) {
    const { seconds, done } = await trainer.epoch();
    list.push({ accuracy: (await network.evaluate(data.held)).accuracy!, seconds });
    if (done) return { epochs: list };
  }
}

const mean = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;

async function accuracy(options: ReproduceOptions) {
  const tables = await mnist(options.dataDir === undefined ? {} : { dataDir: options.dataDir });
  const flat = (table: Table): Table => ({ ...table, shape: [784] });
  const parts = splitRows(flat(tables.train), { fraction: 1 / 6, seed: 1 });
  using chooseTrain = await Dataset.create(parts.kept);
  using chooseHeld = await Dataset.create(parts.split);
  using train = await Dataset.create(flat(tables.train));
  using held = await Dataset.create(flat(tables.test!));
  const results = [];
  for (const [name, layers] of Object.entries(networks)) {
    for (const entrant of entrants.filter((entrant) => `${name} ${entrant.name}`.includes(options.only))) {
      let [rate, best] = [1, -1];
      for (const tried of entrant.ownLength ? [] : RATES) {
        const run = await once({ layers, entrant, rate: tried, epochs: CHOOSING_EPOCHS, seed: 1 }, {
          train: chooseTrain,
          held: chooseHeld,
        });
        const { accuracy } = run.epochs.at(-1)!;
        if (accuracy > best) [rate, best] = [tried, accuracy];
      }
      const runs: Run[] = [];
      for (let seed = 1; seed <= options.runs; seed++) {
        runs.push(await once({ layers, entrant, rate, epochs: EPOCHS, seed }, { train, held }));
      }
      options.report(
        `${name}, ${entrant.name}: ${(100 * mean(runs.map((run) => run.epochs.at(-1)!.accuracy))).toFixed(2)} %`,
      );
      results.push({ network: name, rule: entrant.name, rate, runs });
    }
  }
  return results;
}

/** Bytes of one step's values, gradients and tangents, by depth. */
async function memory() {
  const [width, rows] = [256, 128];
  const list: { depth: number; rule: string; bytes: number }[] = [];
  const table: Table = {
    rows,
    shape: [width],
    features: new Float32Array(rows * width),
    targets: { kind: "labels", classes: 10, values: new Uint32Array(rows) },
  };
  using data = await Dataset.create(table);
  for (const depth of [2, 4, 8, 16, 32, 64]) {
    const layers = [...hidden(Array.from({ length: depth }, () => width)), dense(10)];
    for (
      const [name, rule] of [
        ["back-propagation", backprop()],
        ["feedback", dual()],
        ["feedback, two passes", dual({ twoPass: true })],
      ] as const
    ) {
      using network = Network.create({ input: [width], layers, loss: softmaxCrossEntropy() });
      using _trainer = await Trainer.create(network, data, { rule, batchSize: rows });
      const { values, gradients, tangents } = await network.trainingMemory();
      list.push({ depth, rule: name, bytes: values + gradients + tangents });
    }
    // Keeping every √depth-th value and the values of one stretch between two of them: counted, not run.
    const stretch = Math.ceil(Math.sqrt(depth));
    const kept = Math.ceil(depth / stretch) + stretch + 3;
    list.push({ depth, rule: "back-propagation with checkpointing (counted)", bytes: kept * rows * width * 4 });
  }
  return list;
}

type Accuracies = Awaited<ReturnType<typeof accuracy>>;
type Memories = Awaited<ReturnType<typeof memory>>;

function accuracyTable(results: Accuracies): ResultTable {
  const rows = results.map(({ network, rule, rate, runs }) => {
    const last = runs.map((run) => 100 * run.epochs.at(-1)!.accuracy);
    const reference = results.find((result) => result.network === network && result.rule === entrants[0]!.name);
    const gap = reference && mean(last) - mean(reference.runs.map((run) => 100 * run.epochs.at(-1)!.accuracy));
    const to97 = runs.map((run) => run.epochs.find((epoch) => epoch.accuracy >= 0.97)?.seconds ?? NaN);
    return [
      network,
      rule,
      String(rate),
      mean(last).toFixed(2),
      `${Math.min(...last).toFixed(2)} to ${Math.max(...last).toFixed(2)}`,
      gap === undefined ? "" : gap.toFixed(2),
      mean(runs.map((run) => run.epochs.at(-1)!.seconds)).toFixed(1),
      mean(to97).toFixed(1),
    ];
  });
  const head = ["network", "rule", "rate", "test, %", "range", "to back-propagation", "seconds", "seconds to 97 %"];
  return { title: `MNIST, ${EPOCHS} epochs, batches of ${BATCH}`, head, rows };
}

function memoryTable(memories: Memories): ResultTable {
  const depths = [...new Set(memories.map(({ depth }) => depth))];
  const rules = [...new Set(memories.map(({ rule }) => rule))];
  const cell = (rule: string, depth: number) =>
    ((memories.find((entry) => entry.rule === rule && entry.depth === depth)?.bytes ?? NaN) / 2 ** 20).toFixed(2);
  return {
    title: "Memory of a step beside parameters and optimizer, MiB (width 256, batch 128)",
    head: ["hidden layers", ...depths.map(String)],
    rows: rules.map((rule) => [rule, ...depths.map((depth) => cell(rule, depth))]),
  };
}

const chart = (name: string, values: readonly unknown[], encoding: Record<string, unknown>): Chart => ({
  name,
  spec: {
    $schema: "https://vega.github.io/schema/vega-lite/v6.json",
    background: "white",
    width: 420,
    height: 280,
    data: { values },
    mark: { type: "line", point: true, strokeWidth: 1.3 },
    encoding: { ...encoding, color: { field: "rule", type: "nominal", sort: null } },
  },
});

async function run(options: ReproduceOptions): Promise<Outcome> {
  const [results, memories] = [await accuracy(options), await memory()];
  const points = results.flatMap(({ network, rule, runs }) =>
    (runs[0]?.epochs ?? []).map((_, epoch) => ({
      network,
      rule,
      seconds: mean(runs.map((run) => run.epochs[epoch]!.seconds)),
      accuracy: 100 * mean(runs.map((run) => run.epochs[epoch]!.accuracy)),
    }))
  );
  const charts = Object.keys(networks).map((network) =>
    chart(`dual-accuracy-${network}`, points.filter((point) => point.network === network), {
      x: { field: "seconds", type: "quantitative", title: "seconds of training" },
      y: { field: "accuracy", type: "quantitative", title: "test accuracy, %", scale: { zero: false } },
    })
  );
  const sizes = memories.map((entry) => ({ ...entry, mebibytes: entry.bytes / 2 ** 20 }));
  const depth = chart("dual-memory", sizes, {
    x: { field: "depth", type: "quantitative", title: "hidden layers", scale: { type: "log", base: 2 } },
    y: { field: "mebibytes", type: "quantitative", title: "MiB", scale: { type: "log", base: 2 } },
  });
  return {
    tables: [accuracyTable(results), memoryTable(memories)],
    charts: [...charts, depth],
    figures: { accuracy: results, memory: memories },
    deviations: [],
  };
}

/** Accuracy and time on MNIST, memory against depth. */
export const dualMnist: Experiment = {
  name: "dual",
  description: "Dual numbers beside back-propagation on MNIST: accuracy against seconds, memory against depth",
  paper: "Jang 2023, arXiv 2308.09728 (a reconstruction; no published figure to compare with)",
  runs: 3,
  run,
};
