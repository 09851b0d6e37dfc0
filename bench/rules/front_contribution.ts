/**
 * How much faster a training step is with front contribution than with back-propagation, and how well that was predicted: both in
 * turn, medians of the ratios of neighbours.
 *
 * `deno run --allow-ffi --allow-read --allow-env --allow-run bench/rules/front_contribution.ts [cases|grid|memory]
 * [--threads 1,2] [--rounds 9, of the grid 21] [--seconds 0.1] [--only TEXT]`
 *
 * @module
 */

// deno-lint-ignore-file no-console

import {
  backprop,
  Dataset,
  dense,
  frontContribution,
  type Layer,
  Network,
  relu,
  type Rule,
  sgd,
  type Table,
  Trainer,
  type TrainOptions,
} from "../../mod.ts";
import { number, oneOf } from "../../src/config.ts";
import { median } from "../../src/statistics.ts";
import { interleave } from "../interleave.ts";
import { draw } from "../numbers.ts";
import { numbers, only, option, readOptions, script } from "../options.ts";

/** One comparison. */
export interface FrontCase {
  /** Its name. */
  readonly name: string;
  /** Training rows. */
  readonly rows: number;
  /** Columns. */
  readonly inputs: number;
  /** The layers. */
  readonly layers: readonly Layer[];
  /** Rows of a step. */
  readonly batch: number;
  /** What is collapsed. */
  readonly collapse: "gram" | "linearPair";
  /** Step time of back-propagation ÷ front that is asked for. */
  readonly least?: number;
}

/** What was measured. */
export interface FrontResult {
  /** The case. */
  readonly name: string;
  /** Threads. */
  readonly threads: number;
  /** Milliseconds of a step of back-propagation. */
  readonly backprop: number;
  /** Milliseconds of a step of front contribution. */
  readonly front: number;
  /** Median of back-propagation's time ÷ front's. */
  readonly ratio: number;
  /** What the plan had predicted for a step. */
  readonly predicted: number;
}

const mlp = (...widths: number[]): Layer[] =>
  widths.flatMap((width, at) => at + 1 < widths.length ? [dense(width), relu()] : [dense(width)]);
const wide = { inputs: 5000, layers: mlp(64, 32, 5), collapse: "gram" } as const;
const digits = { inputs: 784, layers: mlp(256, 10), collapse: "gram" } as const;
const pair = { layers: [dense(4096, { bias: false }), dense(5)], inputs: 20, collapse: "linearPair" } as const;

/** The cases of the documentation, losing ones too. */
export const frontCases: readonly FrontCase[] = [
  { name: "5000-64-32-5, 100 rows, full batch", ...wide, rows: 100, batch: 100, least: 12 },
  { name: "5000-64-32-5, 100 rows, batch 20", ...wide, rows: 100, batch: 20, least: 8 },
  { name: "784-256-10, 200 rows, full batch", ...digits, rows: 200, batch: 200, least: 3.5 },
  { name: "784-256-10, 200 rows, batch 50", ...digits, rows: 200, batch: 50 },
  { name: "784-256-10, 800 rows, full batch", ...digits, rows: 800, batch: 800, least: 1.5 },
  { name: "784-256-10, 800 rows, batch 50", ...digits, rows: 800, batch: 50 },
  { name: "784-256-10, 1600 rows, full batch", ...digits, rows: 1600, batch: 1600 },
  { name: "784-256-10, 1600 rows, batch 50", ...digits, rows: 1600, batch: 50 },
  { name: "linear pair 20-4096-5, batch 100", ...pair, rows: 1000, batch: 100, least: 20 },
  { name: "linear pair 20-4096-5, batch 10", ...pair, rows: 1000, batch: 10, least: 20 },
  {
    name: "linear pair 10-64-3, batch 100",
    inputs: 10,
    layers: [dense(64, { bias: false }), dense(3)],
    collapse: "linearPair",
    rows: 1000,
    batch: 100,
  },
];

/** Options of a measurement. */
export interface MeasureOptions {
  /** Threads. */
  readonly threads: number;
  /** Turns of each side. */
  readonly rounds: number;
  /** Seconds of a turn. */
  readonly seconds: number;
}

/** Small rates: the numbers of a step do not matter, but they must stay finite. */
const training: TrainOptions = { optimizer: sgd(1e-5), epochs: 1e8, shuffle: true };

async function side(one: FrontCase, { rule, threads }: { readonly rule: Rule; readonly threads: number }) {
  const network = Network.create({ input: [one.inputs], layers: one.layers, threads, seed: 1 });
  const trainer = await Trainer.create(network, table(one), { ...training, rule, batchSize: one.batch });
  let before = { step: 0, seconds: 0 };
  const run = async (wanted: number) => {
    const start = before;
    while (before.seconds - start.seconds < wanted) {
      const { step, seconds } = await trainer.chunk();
      before = { step, seconds };
    }
    return { seconds: before.seconds - start.seconds, steps: before.step - start.step };
  };
  const close = () => {
    trainer[Symbol.dispose]();
    network[Symbol.dispose]();
  };
  return { run, close, network };
}

function table({ rows, inputs, ...one }: FrontCase): Table {
  const value = draw(7, 1);
  const features = Float32Array.from({ length: rows * inputs }, (_, at) => value(at) / 2 ** 24);
  const classes = classesOf({ rows, inputs, ...one });
  const values = Uint32Array.from({ length: rows }, (_, row) => row % classes);
  return { rows, shape: [inputs], features, targets: { kind: "labels", classes, values } };
}

function classesOf({ layers }: FrontCase): number {
  const last = layers.at(-1);
  return last?.kind === "dense" ? last.units : 2;
}

/** Measures one case. */
export async function measureFront(one: FrontCase, options: MeasureOptions): Promise<FrontResult> {
  const rule = frontContribution({ collapse: one.collapse, force: true });
  const [plain, front] = [
    await side(one, { rule: backprop(), threads: options.threads }),
    await side(one, { rule, threads: options.threads }),
  ];
  const sides = [{ name: "front", run: front.run }, { name: "backprop", run: plain.run }];
  const [fast, slow] = await interleave(sides, options);
  const plan = await front.network.plan({ rows: one.rows }, { ...training, rule, batchSize: one.batch });
  const predicted = plan.candidates.find(({ collapse }) => collapse === one.collapse)?.stepGain ?? NaN;
  plain.close();
  front.close();
  return {
    name: one.name,
    threads: options.threads,
    backprop: slow!.seconds.median * 1e3,
    front: fast!.seconds.median * 1e3,
    ratio: slow!.ratio.median,
    predicted,
  };
}

/** A first layer at the number of rows where neither way is faster. */
export interface BreakEven {
  /** Columns, width of the first layer, rows of a step. */
  readonly shape: readonly [number, number, number];
  /** Rows at which both take the same time, measured and predicted. */
  readonly measured: number;
  /** See `measured`. */
  readonly predicted: number;
}

/** Thirty shapes: columns × width × batch. */
export const gridShapes: readonly (readonly [number, number, number])[] = [128, 256, 512, 1024, 2048].flatMap((
  inputs,
) => [32, 128, 256].flatMap((width) => [16, 64].map((batch) => [inputs, width, batch] as const)));

/** Where front contribution stops to pay, by measuring at some numbers of rows around the predicted one. */
export async function measureBreakEven(
  shape: readonly [number, number, number],
  options: MeasureOptions,
): Promise<BreakEven> {
  const [inputs, width, batch] = shape;
  const at = (rows: number): FrontCase => ({
    name: shape.join("-"),
    rows,
    inputs,
    layers: mlp(width, 10),
    batch,
    collapse: "gram",
  });
  using network = Network.create({ input: [inputs], layers: mlp(width, 10), threads: 1 });
  const rule = frontContribution({ collapse: "gram", force: true, limitBytes: 2 ** 40 });
  const predict = async (rows: number) => {
    const plan = await network.plan({ rows }, { ...training, rule, batchSize: Math.min(batch, rows) });
    return plan.candidates[0]?.stepGain ?? NaN;
  };
  let [low, high] = [batch, 64 * inputs];
  while (high - low > 1) {
    const middle = Math.floor((low + high) / 2);
    if (await predict(middle) > 1) low = middle;
    else high = middle;
  }
  // Steps of narrow layers take microseconds, and more rows add little to them: there the points must lie further apart.
  const shares = inputs > 128 ? [0.7, 0.9, 1.1, 1.4] : [0.35, 0.6, 1, 1.6, 2.6];
  const points: [number, number][] = [];
  for (const share of shares) {
    const rows = Math.max(batch, Math.round(low * share));
    const { ratio } = await measureFront(at(rows), options);
    points.push([Math.log(rows), Math.log(ratio)]);
  }
  return { shape, measured: Math.exp(crossing(points)), predicted: low };
}

/** Where a least-squares line through some points meets 0: near break-even logarithms of ratios are nearly linear in those of rows. */
function crossing(points: readonly (readonly [number, number])[]): number {
  const mean = (column: 0 | 1) => points.reduce((sum, point) => sum + point[column], 0) / points.length;
  const [x, y] = [mean(0), mean(1)];
  const slope = points.reduce((sum, [a, b]) => sum + (a - x) * (b - y), 0) /
    points.reduce((sum, [a]) => sum + (a - x) ** 2, 0);
  return x - y / slope;
}

/** Peak memory of one way of training. */
export interface MemoryResult {
  /** What was trained, and how. */
  readonly name: string;
  /** Bytes that the process took at most, beside what it takes with the data alone. */
  readonly measured: number;
  /** What the plan predicts. */
  readonly predicted: number;
}

/** Cases whose memory is large enough to be seen beside Deno's own. */
export const memoryCases: readonly FrontCase[] = [
  {
    name: "20000-512-4, 200 rows, batch 50",
    rows: 200,
    inputs: 20_000,
    layers: mlp(512, 4),
    batch: 50,
    collapse: "gram",
  },
  {
    name: "20000-512-4, 600 rows, full batch",
    rows: 600,
    inputs: 20_000,
    layers: mlp(512, 4),
    batch: 600,
    collapse: "gram",
  },
  {
    name: "2000-256-4, 3000 rows, batch 100",
    rows: 3000,
    inputs: 2000,
    layers: mlp(256, 4),
    batch: 100,
    collapse: "gram",
  },
];

/** Processes that one peak is the median of: what Deno takes for itself changes by a mebibyte or two. */
const PROCESSES = 3;

/** Measures peak memory in processes of their own: with the data alone, with back-propagation and with front contribution. */
export async function measureMemory(one: FrontCase): Promise<MemoryResult[]> {
  const number = memoryCases.indexOf(one);
  const once = async (way: string) => {
    // What the system says about a process may be read with all permissions only.
    const args = ["run", "--no-prompt", "--quiet", "--allow-all"];
    const command = new Deno.Command(Deno.execPath(), {
      args: [...args, new URL(import.meta.url).pathname, "peak", String(number), way],
    });
    const { success, stdout, stderr } = await command.output();
    // Of a process that failed there is no peak: 0 would look like a saving.
    if (!success) throw new Error(`Cannot measure ${one.name}, ${way}: ${new TextDecoder().decode(stderr).trim()}`);
    return Number(new TextDecoder().decode(stdout));
  };
  const peak = async (way: string) => {
    const found: number[] = [];
    while (found.length < PROCESSES) found.push(await once(way));
    return median(found);
  };
  using network = Network.create({ input: [one.inputs], layers: one.layers });
  const rule = frontContribution({ collapse: one.collapse, force: true });
  const plan = await network.plan({ rows: one.rows }, { ...memoryTraining, rule, batchSize: one.batch });
  const base = await peak("data");
  const result = async (way: string, predicted: number) => ({
    name: `${one.name}, ${way}`,
    measured: await peak(way) - base,
    predicted,
  });
  return [
    await result("back-propagation", plan.backprop.bytes),
    await result(
      "front contribution",
      plan.candidates.find(({ collapse }) => collapse === one.collapse)?.figures?.bytes ?? NaN,
    ),
  ];
}

const memoryTraining: TrainOptions = { optimizer: sgd(1e-5, { momentum: 0.9 }), epochs: 3 };

/** Trains in this process and prints its peak memory. */
async function printPeak(one: FrontCase, way: string): Promise<void> {
  using data = await Dataset.create(table(one));
  // What the first run of a process takes for itself does not depend on the case.
  const small = { ...one, rows: 8, inputs: 4, layers: mlp(4, 4), batch: 8 };
  for (const rule of [backprop(), frontContribution({ collapse: "gram", force: true })]) {
    const { run, close } = await side(small, { rule, threads: 2 });
    await run(0.01);
    close();
  }
  if (way !== "data") {
    using network = Network.create({ input: [one.inputs], layers: one.layers, threads: 2 });
    const rule = way === "back-propagation" ? backprop() : frontContribution({ collapse: one.collapse, force: true });
    using trainer = await Trainer.create(network, data, { ...memoryTraining, rule, batchSize: one.batch });
    while (!(await trainer.epoch()).done);
  }
  const status = await Deno.readTextFile("/proc/self/status");
  console.log(1024 * Number(/VmHWM:\s+(\d+)/.exec(status)?.[1]));
}

if (import.meta.main) {
  const { what, more, threads: counts, rounds, seconds, text } = readOptions({
    name: "bench/rules/front_contribution.ts",
    usage: script("bench/rules/front_contribution.ts", "--allow-run"),
    description: "Steps with front contribution beside back-propagation's, in turns, and what was predicted.",
    words: "[cases|grid|memory]",
    options: [
      option("threads", "numbers", ["threads (1,2)", "LIST"]),
      option("rounds", "number", ["turns of each side (9, of the grid 21)", "N"]),
      option("seconds", "number", ["length of a turn (0.1)", "S"]),
      option("only", "text", ["cases with this in their name, shapes that begin with it (all)", "TEXT"]),
    ],
  }, ({ threads, rounds, seconds, only: text }, [what = "cases", ...more]) => ({
    // `peak` is what `memory` starts in processes of their own.
    what: oneOf("the word", what, ["cases", "grid", "memory", "peak"]),
    more,
    threads: numbers("--threads", threads ?? [1, 2], { min: 1, max: 1024, whole: true }),
    // Break-even is where a small difference changes its sign: single turns would move it by a fifth.
    rounds: number("--rounds", rounds ?? (what === "grid" ? 21 : 9), { min: 1, whole: true }),
    seconds: number("--seconds", seconds ?? 0.1, { above: 0 }),
    text,
  }));
  if (what === "peak") await printPeak(memoryCases[Number(more[0])]!, more[1]!);
  if (what === "memory") {
    for (const one of memoryCases) {
      for (const { name, measured, predicted } of await measureMemory(one)) {
        const mebibytes = (bytes: number) => `${(bytes / 2 ** 20).toFixed(1)} MiB`;
        console.log(`${name.padEnd(56)} measured ${mebibytes(measured)}  predicted ${mebibytes(predicted)}`);
      }
    }
  }
  for (const threads of counts) {
    const options = { threads, rounds, seconds };
    if (what === "grid") {
      const shapes = gridShapes.filter((shape) => shape.join("-").startsWith(text ?? ""));
      for (const shape of shapes) {
        const { measured, predicted } = await measureBreakEven(shape, options);
        const off = predicted / measured - 1;
        console.log(
          `${shape.join("-").padEnd(14)} ${threads} thr  break-even at ${
            measured.toFixed(0)
          } rows  predicted ${predicted}  ${(100 * off).toFixed(1)} %`,
        );
      }
    }
    if (what === "cases") {
      for (const one of only(frontCases, ({ name }) => name, text)) {
        const { name, backprop, front, ratio, predicted } = await measureFront(one, options);
        const verdict = one.least === undefined
          ? ""
          : ratio >= one.least
          ? `ok (least ${one.least})`
          : `BELOW ${one.least}`;
        console.log(
          `${name.padEnd(36)} ${threads} thr  ${backprop.toFixed(4)} ms  ${front.toFixed(4)} ms  ratio ${
            ratio.toFixed(2)
          }  predicted ${predicted.toFixed(2)}  ${verdict}`,
        );
      }
    }
  }
}
