/**
 * Step times of the dual rule next to back-propagation's, through the public API: runs of both take turns, so that a busy
 * machine slows both alike.
 *
 * deno run --allow-ffi --allow-read --allow-env bench/rules/dual.ts [--rounds 7] [--threads 2] [--only TEXT]
 *
 * @module
 */

import {
  adam,
  backprop,
  cnn,
  Dataset,
  dense,
  dual,
  type DualOptions,
  glyphs,
  type Layer,
  Network,
  relu,
  type Rule,
  Trainer,
} from "../../mod.ts";
import { number } from "../../src/config.ts";
import { only, option, readOptions, script } from "../options.ts";

const BATCH = 128;

interface Subject {
  readonly layers: readonly Layer[];
  readonly input: readonly number[];
  /** Rules that take part; all where nothing is said. */
  readonly rules?: readonly string[];
}

const hidden = (units: readonly number[]) => units.flatMap((count) => [dense(count), relu()]);

const subjects: Readonly<Record<string, Subject>> = {
  "784-256-128-10": { input: [784], layers: [...hidden([256, 128]), dense(10)] },
  "cnn": { ...cnn({ input: [28, 28, 1], outputs: 10 }), rules: ["feedback, 1 lane", "feedback, two passes"] },
  "784-128x4-10": { input: [784], layers: [...hidden([128, 128, 128, 128]), dense(10)] },
};

const rules: Readonly<Record<string, DualOptions>> = {
  "feedback, 1 lane": {},
  "feedback, 4 lanes": { lanes: 4 },
  "feedback, a lane for each layer": { shareLanes: false },
  "feedback, two passes": { twoPass: true },
  "activity, 8 lanes": { mode: "activity" },
  "weight, 1 direction": { mode: "weight", force: true },
};

/** All rows of the table. */
const all = Object.entries(subjects).flatMap(([network, { rules: taking }]) =>
  Object.keys(rules).filter((rule) => taking?.includes(rule) ?? true).map((rule) => ({ network, rule }))
);

const { rows, rounds, threads } = readOptions({
  name: "bench/rules/dual.ts",
  usage: script("bench/rules/dual.ts"),
  description: "Step times of the dual rule beside back-propagation's, in turns.",
  options: [
    option("rounds", "number", ["turns of each side (7)", "N"]),
    option("threads", "number", ["threads (2)", "N"]),
    option("only", "text", ["rows with this in their network and rule, such as cnn", "TEXT"]),
  ],
}, ({ rounds, threads, only: text }) => ({
  rows: only(all, ({ network, rule }) => `${network}, ${rule}`, text),
  rounds: number("--rounds", rounds ?? 7, { min: 1, whole: true }),
  threads: number("--threads", threads ?? 2, { min: 1, whole: true }),
}));

/** Seconds of one step: a chunk of about 0.1 s of the run, which is then at its end again. */
async function chunk(trainer: Trainer): Promise<number> {
  const before = performance.now();
  const first = trainerSteps.get(trainer) ?? 0;
  const { step } = await trainer.chunk();
  trainerSteps.set(trainer, step);
  return (performance.now() - before) / 1000 / (step - first);
}

const trainerSteps = new WeakMap<Trainer, number>();

const median = (numbers: readonly number[]) => [...numbers].sort((a, b) => a - b)[numbers.length >> 1] ?? NaN;

const table = glyphs({ rows: 12_800, seed: 1 }).train;

for (const { network: name, rule: label } of rows) {
  using stack = new DisposableStack();
  const { input, layers } = subjects[name]!;
  const data = stack.use(await Dataset.create({ ...table, shape: input }));
  const start = async (rule: Rule) => {
    const network = stack.use(Network.create({ input, layers, seed: 1, threads }));
    return stack.use(
      await Trainer.create(network, data, { rule, batchSize: BATCH, epochs: 100_000, optimizer: adam(1e-3) }),
    );
  };
  const [reference, trainer] = [await start(backprop()), await start(dual(rules[label]!))];
  for (const side of [reference, trainer]) await chunk(side);
  const ratios: number[] = [];
  const times: number[] = [];
  for (let round = 0; round < rounds; round++) {
    const [a, b] = [await chunk(reference), await chunk(trainer)];
    ratios.push(b / a);
    times.push(b);
  }
  const row = { network: name, batchSize: BATCH, threads, rule: label, step: median(times), ratio: median(ratios) };
  // deno-lint-ignore no-console
  console.log(JSON.stringify({ ...row, ratios: ratios.map((ratio) => Number(ratio.toFixed(3))) }));
}
