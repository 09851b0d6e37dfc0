/**
 * Learning with dual numbers on MNIST and CIFAR-10, and its memory against depth. The paper's own experiments are not at hand, so
 * nothing is compared with published figures: back-propagation with the same network, data, order and seed is the measure, and
 * both have their rates chosen on rows kept apart.
 *
 * @module
 */

import {
  adam,
  backprop,
  cifar10,
  cnn,
  cosine,
  Dataset,
  dense,
  dual,
  type Layer,
  mlp,
  mnist,
  type Model,
  Network,
  relu,
  type Rule,
  sgd,
  splitRows,
  Trainer,
} from "../../mod.ts";
import type { Chart, Experiment, Outcome, ReproduceOptions, ResultTable } from "./experiment.ts";
import { average } from "./statistics.ts";

const BATCH = 128;

/** Learning rates of Adam to choose from, on rows kept apart. */
const RATES = { dense: [1e-3, 2e-3, 4e-3, 8e-3], images: [1e-3, 2e-3] };

interface Entrant {
  readonly name: string;
  readonly rule: Rule;
  /** Whether it finds its step length itself: there is no rate to choose then. */
  readonly ownLength?: boolean;
}

const plain: Entrant = { name: "back-propagation", rule: backprop() };
const feedback: Entrant = { name: "feedback", rule: dual() };

/** All that take part where a run takes seconds. */
const all: readonly Entrant[] = [
  plain,
  feedback,
  { name: "feedback, a lane for each layer", rule: dual({ shareLanes: false }) },
  { name: "feedback, hyperdual steps", rule: dual({ step: "hyperdual" }), ownLength: true },
  { name: "activity, 8 lanes", rule: dual({ mode: "activity" }) },
];

/** A network, its data, and how long it trains. */
interface Subject {
  readonly name: string;
  readonly data: "mnist" | "cifar10";
  readonly model: Model;
  readonly epochs: number;
  readonly rates: readonly number[];
  /** Epochs of a run that chooses a rate. */
  readonly choosing: number;
  readonly entrants: readonly Entrant[];
  /** Most points by which feedback may lie below back-propagation, and the least that it must reach; none where it is only told. */
  readonly below?: number;
  readonly least?: number;
}

const mnistImage = [28, 28, 1];

const subjects: readonly Subject[] = [
  {
    name: "MNIST 784-256-128-10",
    data: "mnist",
    model: mlp({ input: mnistImage, hidden: [256, 128], outputs: 10 }),
    epochs: 10,
    rates: RATES.dense,
    choosing: 3,
    entrants: all,
    below: 1,
    least: 96.5,
  },
  {
    name: "MNIST 784-128-128-128-128-10",
    data: "mnist",
    model: mlp({ input: mnistImage, hidden: [128, 128, 128, 128], outputs: 10 }),
    epochs: 10,
    rates: RATES.dense,
    choosing: 3,
    entrants: all,
    below: 1,
    least: 96.5,
  },
  {
    name: "MNIST cnn",
    data: "mnist",
    model: cnn({ input: mnistImage, outputs: 10 }),
    epochs: 2,
    rates: RATES.images,
    choosing: 1,
    entrants: [plain, feedback],
    below: 1.5,
  },
  {
    name: "CIFAR-10 cnn",
    data: "cifar10",
    model: cnn({ input: [32, 32, 3], outputs: 10 }),
    epochs: 3,
    rates: RATES.images,
    choosing: 1,
    entrants: [plain, feedback],
  },
];

/** The end of an epoch: share of rows right, and seconds of training so far. */
interface Epoch {
  readonly accuracy: number;
  readonly seconds: number;
}

interface Setting {
  readonly model: Model;
  readonly entrant: Entrant;
  readonly rate: number;
  readonly epochs: number;
  readonly seed: number;
}

async function once(setting: Setting, data: { readonly train: Dataset; readonly held: Dataset }): Promise<Epoch[]> {
  const { model, entrant, rate, epochs, seed } = setting;
  using network = Network.create({ ...model, seed });
  const optimizer = entrant.ownLength ? sgd(rate) : adam(rate);
  const options = { rule: entrant.rule, optimizer, schedule: cosine(), batchSize: BATCH, epochs, seed };
  using trainer = await Trainer.create(network, data.train, options);
  const list: Epoch[] = [];
  for (;;) {
    const { seconds, done } = await trainer.epoch();
    list.push({ accuracy: (await network.evaluate(data.held)).accuracy!, seconds });
    if (done) return list;
  }
}

const last = (epochs: readonly Epoch[]): number => 100 * epochs.at(-1)!.accuracy;

/** What one entrant reached with one network. */
interface Result {
  readonly subject: string;
  readonly rule: string;
  readonly rate: number;
  readonly runs: readonly (readonly Epoch[])[];
}

async function accuracy(subject: Subject, options: ReproduceOptions): Promise<Result[]> {
  const taking = subject.entrants.filter(({ name }) => `${subject.name}, ${name}`.includes(options.only));
  if (taking.length === 0) return [];
  const load = { mnist, cifar10 }[subject.data];
  const tables = await load(options.dataDir === undefined ? {} : { dataDir: options.dataDir });
  const parts = splitRows(tables.train, { fraction: 1 / 6, seed: 1 });
  using chooseTrain = await Dataset.create(parts.kept);
  using chooseHeld = await Dataset.create(parts.split);
  using train = await Dataset.create(tables.train);
  using held = await Dataset.create(tables.test!);
  const { model, epochs } = subject;
  const results: Result[] = [];
  for (const entrant of taking) {
    let [rate, best] = [1, -1];
    for (const tried of entrant.ownLength ? [] : subject.rates) {
      const setting = { model, entrant, rate: tried, epochs: subject.choosing, seed: 1 };
      const reached = last(await once(setting, { train: chooseTrain, held: chooseHeld }));
      if (reached > best) [rate, best] = [tried, reached];
    }
    const runs: Epoch[][] = [];
    for (let seed = 1; seed <= options.runs; seed++) {
      runs.push(await once({ model, entrant, rate, epochs, seed }, { train, held }));
    }
    options.report(`${subject.name}, ${entrant.name}: ${average(runs.map(last)).toFixed(2)} %`);
    results.push({ subject: subject.name, rule: entrant.name, rate, runs });
  }
  return results;
}

const hidden = (units: readonly number[]): Layer[] => units.flatMap((count) => [dense(count), relu()]);

interface Memory {
  readonly depth: number;
  readonly rule: string;
  readonly bytes: number;
}

/** Bytes of one step's values, gradients and tangents, by depth, at width 256; feedback matrices, which are kept, apart. */
async function memory(): Promise<Memory[]> {
  const [width, rows] = [256, BATCH];
  const list: Memory[] = [];
  using data = await Dataset.create({
    rows,
    shape: [width],
    features: new Float32Array(rows * width),
    targets: { kind: "labels", classes: 10, values: new Uint32Array(rows) },
  });
  for (const depth of [2, 4, 8, 16, 32, 64]) {
    const layers = [...hidden(Array.from({ length: depth }, () => width)), dense(10)];
    const rules = [plain, feedback, { name: "feedback, two passes", rule: dual({ twoPass: true }) }];
    for (const { name, rule } of rules) {
      using network = Network.create({ input: [width], layers });
      using _trainer = await Trainer.create(network, data, { rule, batchSize: rows });
      const { values, gradients, tangents, kept } = await network.trainingMemory();
      list.push({ depth, rule: name, bytes: values + gradients + tangents });
      if (rule === feedback.rule) list.push({ depth, rule: "feedback matrices (kept)", bytes: kept });
    }
    list.push({
      depth,
      rule: "back-propagation, checkpointing (counted)",
      bytes: checkpointed(depth, { width, rows }),
    });
  }
  return list;
}

/**
 * Bytes that back-propagation with checkpointing needs for the same network (Chen et al. 2016). This engine has no such mode, so they
 * are counted: the inputs, every s-th hidden layer, the layers between two of those, the outputs, and two gradients; for the best s.
 */
function checkpointed(depth: number, { width, rows }: { readonly width: number; readonly rows: number }): number {
  const stretches = Array.from({ length: depth }, (_, index) => index + 1);
  const kept = Math.min(...stretches.map((stretch) => Math.ceil(depth / stretch) - 1 + stretch));
  return 4 * rows * ((1 + kept + 2) * width + 10);
}

function accuracyTable(results: readonly Result[]): ResultTable {
  const rows = results.map(({ subject, rule, rate, runs }) => {
    const reached = runs.map(last);
    const gap = gapOf(results, subject, rule);
    const to97 = runs.map((run) => run.find((epoch) => epoch.accuracy >= 0.97)?.seconds);
    return [
      subject,
      rule,
      String(rate),
      average(reached).toFixed(2),
      `${Math.min(...reached).toFixed(2)} to ${Math.max(...reached).toFixed(2)}`,
      gap === undefined ? "" : gap.toFixed(2),
      average(runs.map((run) => run.at(-1)!.seconds)).toFixed(1),
      to97.includes(undefined) ? "not reached" : average(to97.map((seconds) => seconds!)).toFixed(1),
    ];
  });
  const head = ["network", "rule", "rate", "test, %", "range", "points above", "seconds", "seconds to 97 %"];
  return { title: `Test accuracy after training in batches of ${BATCH}; points above back-propagation`, head, rows };
}

/** Mean accuracy minus back-propagation's. */
function gapOf(results: readonly Result[], subject: string, rule: string): number | undefined {
  const reached = (rule: string) => {
    const found = results.find((result) => result.subject === subject && result.rule === rule);
    return found && average(found.runs.map(last));
  };
  const [own, reference] = [reached(rule), reached(plain.name)];
  return own === undefined || reference === undefined ? undefined : own - reference;
}

function memoryTable(memories: readonly Memory[]): ResultTable {
  const depths = [...new Set(memories.map(({ depth }) => depth))];
  const rules = [...new Set(memories.map(({ rule }) => rule))];
  const cell = (rule: string, depth: number) =>
    (memories.find((entry) => entry.rule === rule && entry.depth === depth)!.bytes / 2 ** 20).toFixed(2);
  return {
    title: `Memory of a step's activations, gradients of them and tangents, MiB (width 256, batch ${BATCH})`,
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

function accuracyChart({ name }: Subject, results: readonly Result[]): Chart {
  const points = results.filter(({ subject }) => subject === name).flatMap(({ rule, runs }) =>
    runs[0]!.map((_, epoch) => ({
      rule,
      seconds: average(runs.map((run) => run[epoch]!.seconds)),
      accuracy: 100 * average(runs.map((run) => run[epoch]!.accuracy)),
    }))
  );
  return chart(`dual-accuracy-${name.toLowerCase().replaceAll(" ", "-")}`, points, {
    x: { field: "seconds", type: "quantitative", title: `seconds of training (${name})` },
    y: { field: "accuracy", type: "quantitative", title: "test accuracy, %", scale: { zero: false } },
  });
}

function memoryChart(memories: readonly Memory[]): Chart {
  return chart(
    "dual-memory",
    memories.filter(({ bytes }) => bytes > 0).map((entry) => ({ ...entry, mebibytes: entry.bytes / 2 ** 20 })),
    {
      x: { field: "depth", type: "quantitative", title: "hidden layers", scale: { type: "log", base: 2 } },
      y: { field: "mebibytes", type: "quantitative", title: "MiB", scale: { type: "log", base: 2 } },
    },
  );
}

/** Where feedback falls short of what is expected of it. */
function shortfalls(results: readonly Result[]): string[] {
  return subjects.flatMap(({ name, below, least }) => {
    const found = results.find(({ subject, rule }) => subject === name && rule === feedback.name);
    if (!found) return [];
    const [reached, gap] = [average(found.runs.map(last)), gapOf(results, name, feedback.name)];
    const list: string[] = [];
    if (below !== undefined && gap !== undefined && gap < -below) {
      list.push(
        `${name}: feedback lies ${(-gap).toFixed(2)} points below back-propagation where ${below} are expected`,
      );
    }
    if (least !== undefined && reached < least) {
      list.push(`${name}: feedback reaches ${reached.toFixed(2)} % where ${least} % is expected`);
    }
    return list;
  });
}

async function run(options: ReproduceOptions): Promise<Outcome> {
  const results: Result[] = [];
  for (const subject of subjects) results.push(...await accuracy(subject, options));
  const memories = "memory".includes(options.only) ? await memory() : [];
  const shown = subjects.filter(({ name }) => results.some(({ subject }) => subject === name));
  return {
    tables: [
      ...(results.length > 0 ? [accuracyTable(results)] : []),
      ...(memories.length > 0 ? [memoryTable(memories)] : []),
    ],
    charts: [
      ...shown.map((subject) => accuracyChart(subject, results)),
      ...(memories.length > 0 ? [memoryChart(memories)] : []),
    ],
    figures: { accuracy: results, memory: memories },
    deviations: shortfalls(results),
  };
}

/** Accuracy and time on MNIST and CIFAR-10, memory against depth. */
export const dualExperiment: Experiment = {
  name: "dual",
  description: "dual numbers beside back-propagation: accuracy against seconds (MNIST, CIFAR-10), memory against depth",
  paper: "Jang 2023 (a reconstruction; no published figure to compare with)",
  runs: 3,
  run,
};
