/**
 * What it costs a training run to be kept: the same epochs alone and as `train` runs them, in turns. That is a folder with a line
 * for each epoch, a row with its figures in the table of runs, and progress on standard error (a bar where that is a terminal,
 * otherwise a line for each epoch); and with all that also the checkpoints that are written by default.
 *
 * `deno run --allow-ffi --allow-read --allow-env --allow-write --allow-sys bench/tracking.ts [--hidden 256,128] [--step-ms 10]
 * [--threads 2] [--epochs 12] [--rounds 9]`
 *
 * The batch is as large as steps of about `--step-ms` need. Sides train from the same weights on the same rows: they must end with the
 * same loss. Beside the ratio of whole turns, which a busy machine blurs, stands the share of a turn that was not spent in the engine's
 * calls: what is added can only hide in these by slowing them down.
 *
 * @module
 */

// deno-lint-ignore-file no-console -- a program whose output is its purpose

import { adam, Dataset, mlp, Network, Trainer } from "../mod.ts";
import { describeMachine } from "../src/cli/machine.ts";
import { ProgressView } from "../src/cli/progress.ts";
import { checkpointFile, createRunFolder, writeRecord } from "../src/cli/run_folder.ts";
import { RunLock } from "../src/cli/run_lock.ts";
import { RunTable } from "../src/cli/run_table/table.ts";
import { Tracking } from "../src/cli/run_table/tracking.ts";
import { trainToEnd } from "../src/cli/train_loop.ts";
import { number } from "../src/config.ts";
import { median } from "../src/statistics.ts";
import { interleave, type Timed } from "./interleave.ts";
import { uniformTable } from "./numbers.ts";
import { option, readOptions, script } from "./options.ts";

const CLASSES = 10;
const INPUTS = 784;
const STEPS_PER_EPOCH = 25;

/** Steps from which the length of one is taken. */
const LOOK = 50;

const { hidden, stepMs, threads, epochs, rounds } = readOptions({
  name: "bench/tracking.ts",
  usage: script("bench/tracking.ts", "--allow-write --allow-sys"),
  description:
    "What run folder, table of runs, progress and checkpoints add to a training run, in turns with none of them.",
  options: [
    option("hidden", "numbers", ["widths of the hidden layers (256,128)", "LIST"]),
    option("step-ms", "number", ["milliseconds of a step, about (10)", "X"]),
    option("threads", "number", ["threads (2)", "N"]),
    option("epochs", "number", [`epochs of a turn, of ${STEPS_PER_EPOCH} steps (12)`, "N"]),
    option("rounds", "number", ["turns of each side (9)", "N"]),
  ],
}, ({ hidden, "step-ms": stepMs, threads, epochs, rounds }) => ({
  hidden: (hidden ?? [256, 128]).map((width) => number("--hidden", width, { min: 1, whole: true })),
  stepMs: number("--step-ms", stepMs ?? 10, { above: 0 }),
  threads: number("--threads", threads ?? 2, { min: 1, max: 1024, whole: true }),
  epochs: number("--epochs", epochs ?? 12, { min: 1, whole: true }),
  rounds: number("--rounds", rounds ?? 9, { min: 1, whole: true }),
}));

/** A run on data in the engine, before its first step. */
async function begin(data: Dataset, batchSize: number, owned: DisposableStack): Promise<Trainer> {
  const network = owned.use(
    Network.create({ ...mlp({ input: [INPUTS], hidden, outputs: CLASSES }), seed: 1, threads }),
  );
  return owned.use(await Trainer.create(network, data, { optimizer: adam(), batchSize, epochs, seed: 1 }));
}

function rowsFor(batchSize: number): Promise<Dataset> {
  const rows = batchSize * STEPS_PER_EPOCH;
  return Dataset.create(uniformTable({ rows, shape: [INPUTS], classes: CLASSES, seed: 1 }));
}

/** The batch with which a step takes as long as asked for: twice corrected, since small batches take longer for each row. */
async function batchFor(seconds: number): Promise<number> {
  let batchSize = 64;
  for (let look = 0; look < 2; look++) {
    using data = await rowsFor(batchSize);
    using owned = new DisposableStack();
    const trainer = await begin(data, batchSize, owned);
    const times: number[] = [];
    for (let done = false; !done && times.length < LOOK;) {
      const start = performance.now();
      ({ done } = await trainer.step());
      times.push((performance.now() - start) / 1000);
    }
    batchSize = Math.max(1, Math.round(batchSize * seconds / median(times)));
  }
  return batchSize;
}

const batchSize = await batchFor(stepMs / 1000);
const steps = epochs * STEPS_PER_EPOCH;
using data = await rowsFor(batchSize);
const folder = await Deno.makeTempDir({ prefix: "leanprop-tracking-" });
const table = `${folder}/runs.db`;
const losses = new Set<number>();
const beginnings: number[] = [];

/** One of the sides, and which share of each of its turns was not spent in the engine's calls. */
class Side implements Timed {
  readonly name: string;
  readonly outside: number[] = [];
  readonly #turn: () => Promise<Turn>;

  constructor(name: string, turn: () => Promise<Turn>) {
    this.name = name;
    this.#turn = turn;
  }

  /** Trains a whole run, whatever it takes. */
  async run(): Promise<{ seconds: number; steps: number }> {
    const { seconds, training, loss } = await this.#turn();
    losses.add(loss);
    this.outside.push(1 - training / seconds);
    return { seconds, steps };
  }
}

/** Seconds of a run, those of them that were spent in the engine's calls, and the loss of its last epoch. */
interface Turn {
  readonly seconds: number;
  readonly training: number;
  readonly loss: number;
}

/** The run by itself. */
async function alone(): Promise<Turn> {
  using owned = new DisposableStack();
  const trainer = await begin(data, batchSize, owned);
  const start = performance.now();
  let progress = await trainer.chunk();
  while (!progress.done) progress = await trainer.chunk();
  return { seconds: (performance.now() - start) / 1000, training: progress.seconds, loss: progress.trainLoss };
}

/** The run as `train` keeps it; `every` is `--checkpoint-every`. */
async function kept(every: number | undefined): Promise<Turn> {
  using owned = new DisposableStack();
  const trainer = await begin(data, batchSize, owned);
  const created = performance.now();
  const tracking = owned.use(new Tracking({ table, server: undefined }));
  const place = await createRunFolder(`${folder}/${crypto.randomUUID()}`, { data: "uniform", rule: "backprop" });
  owned.use(await RunLock.take(place));
  await trainer.save(checkpointFile(place));
  const record = await writeRecord(place, {
    id: crypto.randomUUID(),
    created: new Date().toISOString(),
    options: {},
    data: {
      name: "uniform",
      hash: "",
      rows: { train: data.rows, validation: 0, test: 0 },
      shape: [INPUTS],
      targets: data.targets,
    },
    network: trainer.network.config,
    training: trainer.config,
    machine: describeMachine(trainer.network),
  });
  tracking.begin({ folder: place, record, events: [] });
  const start = performance.now();
  beginnings.push(start - created);
  const done = await trainToEnd({
    folder: place,
    trainer,
    step: 0,
    events: [],
    validation: undefined,
    test: undefined,
    view: new ProgressView(false),
    json: false,
    shadow: undefined,
    tracking,
    stopping: undefined,
    every,
    signal: new AbortController().signal,
  });
  const seconds = (performance.now() - start) / 1000;
  using runs = new RunTable(table);
  const found = runs.metrics(record.id).filter(({ name }) => name === "trainLoss");
  if (found.length !== epochs) throw new Error(`expected ${epochs} epochs in the table but found ${found.length}`);
  return { seconds, training: done.seconds, loss: found.at(-1)!.value };
}

try {
  const sides = [
    new Side("the run alone", alone),
    new Side("with folder, table and progress", () => kept(epochs)),
    new Side("and checkpoints", () => kept(undefined)),
  ];
  const timings = await interleave(sides, { rounds, seconds: 0 });
  if (losses.size > 1) throw new Error(`expected one loss on all sides but found ${[...losses].join(", ")}`);
  const name = [INPUTS, ...hidden, CLASSES].join("-");
  console.log(`${name}, batch ${batchSize}, ${threads} threads: runs of ${steps} steps, ${rounds} turns`);
  const percent = (share: number) => `${(100 * share).toFixed(2)} %`;
  for (const [index, { name, seconds, ratio }] of timings.entries()) {
    const [more, low, high] = [ratio.median, ratio.p10, ratio.p90].map((ratio) => percent(ratio - 1));
    console.log(
      `  ${name.padEnd(32)} ${(1000 * seconds.median).toFixed(2)} ms a step, ${
        percent(median(sides[index]!.outside))
      } of it outside of the engine's calls${index === 0 ? "" : `; ${more} more (${low} to ${high})`}`,
    );
  }
  console.log(`  before the first step, once      ${median(beginnings).toFixed(1)} ms`);
} finally {
  await Deno.remove(folder, { recursive: true });
}
