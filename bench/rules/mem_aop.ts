/**
 * How much faster a whole training step is with mem-aop than with back-propagation: both in turn, 80 ms each, medians of the
 * ratios of neighbours and the tenth percentile.
 *
 * `deno run --allow-ffi --allow-read --allow-env bench/rules/mem_aop.ts [--threads 1,2] [--pairs 15] [--only TEXT]`
 *
 * @module
 */

// deno-lint-ignore-file no-console

import {
  adam,
  backprop,
  cnn,
  dense,
  type Layer,
  memAop,
  Network,
  type Optimizer,
  relu,
  resnet18,
  type Rule,
  sgd,
  type Table,
  Trainer,
} from "../../mod.ts";
import { number } from "../../src/config.ts";
import { numbers, only, option, readOptions, script } from "../options.ts";

interface Case {
  readonly name: string;
  readonly input: readonly number[];
  readonly layers: readonly Layer[];
  readonly batch: number;
  readonly rule: Rule;
  readonly optimizer: Optimizer;
  /** The most that the ratio may be. */
  readonly most?: number;
}

const mlp = (...widths: number[]): Layer[] =>
  widths.flatMap((width, at) => at + 1 < widths.length ? [dense(width), relu()] : [dense(width)]);

const wide = { input: [784], layers: mlp(1024, 1024, 10), batch: 128 };
const small = { input: [64], layers: mlp(128, 64, 10), batch: 64 };
const medium = { input: [784], layers: mlp(256, 128, 10), batch: 64 };

const images = { ...cnn({ input: [28, 28, 1], outputs: 10 }), batch: 64, optimizer: sgd(0.01) };
const residual = { ...resnet18({ input: [32, 32, 3], outputs: 10 }), batch: 16, optimizer: sgd(0.01) };

const cases: readonly Case[] = [
  { name: "784-1024-1024-10, memory", ...wide, rule: memAop({ k: 32 }), optimizer: sgd(0.01), most: 0.8 },
  {
    name: "784-1024-1024-10, no memory",
    ...wide,
    rule: memAop({ k: 32, memory: false }),
    optimizer: sgd(0.01),
    most: 0.76,
  },
  {
    name: "784-1024-1024-10, no memory, not centred",
    ...wide,
    rule: memAop({ k: 32, memory: false, center: false }),
    optimizer: sgd(0.01),
    most: 0.76,
  },
  {
    name: "784-1024-1024-10, batch",
    ...wide,
    rule: memAop({ k: 32, scope: "batch" }),
    optimizer: sgd(0.01),
    most: 0.62,
  },
  { name: "784-1024-1024-10, memory, adam", ...wide, rule: memAop({ k: 32 }), optimizer: adam() },
  { name: "784-1024-1024-10, batch, adam", ...wide, rule: memAop({ k: 32, scope: "batch" }), optimizer: adam() },
  { name: "784-256-128-10, default", ...medium, rule: memAop(), optimizer: sgd(0.01), most: 1.03 },
  {
    name: "784-256-128-10, all layers",
    ...medium,
    rule: memAop({ minSize: 0, exactOutput: false }),
    optimizer: sgd(0.01),
  },
  { name: "784-256-128-10, batch", ...medium, rule: memAop({ scope: "batch" }), optimizer: sgd(0.01), most: 1.03 },
  { name: "64-128-64-10, default", ...small, rule: memAop(), optimizer: sgd(0.01), most: 1.03 },
  {
    name: "64-128-64-10, all layers",
    ...small,
    rule: memAop({ minSize: 0, exactOutput: false }),
    optimizer: sgd(0.01),
  },
  { name: "64-128-64-10, batch", ...small, rule: memAop({ scope: "batch" }), optimizer: sgd(0.01), most: 1.03 },
  { name: "cnn 28×28, patches, 1/8", ...images, rule: memAop({ fraction: 0.125 }), most: 1.03 },
  {
    name: "cnn 28×28, patches, 1/8, all layers",
    ...images,
    rule: memAop({ fraction: 0.125, minSize: 0 }),
  },
  {
    name: "cnn 28×28, images, 1/8, all layers",
    ...images,
    rule: memAop({ fraction: 0.125, minSize: 0, convolution: "images" }),
  },
  { name: "resnet18, patches, 1/8", ...residual, rule: memAop({ fraction: 0.125 }), most: 1.03 },
  {
    name: "resnet18, images, 1/8",
    ...residual,
    rule: memAop({ fraction: 0.125, convolution: "images" }),
    most: 1.03,
  },
  {
    name: "resnet18, images, 1/8, no memory",
    ...residual,
    rule: memAop({ fraction: 0.125, convolution: "images", memory: false }),
    most: 1.03,
  },
];

const quantile = (values: readonly number[], share: number): number =>
  [...values].sort((a, b) => a - b)[Math.min(values.length - 1, Math.floor(share * values.length))]!;

function rows(input: readonly number[], batch: number): Table {
  const size = input.reduce((product, axis) => product * axis, 1);
  const count = 8 * batch;
  const features = Float32Array.from({ length: count * size }, (_, at) => Math.sin(at * 0.7) + Math.cos(at * 0.013));
  const values = Uint32Array.from({ length: count }, (_, row) => row * 7 % 10);
  return { rows: count, shape: input, features, targets: { kind: "labels", classes: 10, values } };
}

/** Seconds of a step in one call of about 80 ms. An epoch is far longer than that. */
async function seconds(trainer: Trainer, before: { step: number; seconds: number }): Promise<number> {
  let [steps, time] = [0, 0];
  // The data has few rows, so that calls end with epochs.
  while (time < 0.08) {
    const { step, seconds } = await trainer.chunk();
    [steps, time] = [steps + step - before.step, time + seconds - before.seconds];
    [before.step, before.seconds] = [step, seconds];
  }
  return time / steps;
}

async function compare(one: Case, { threads, pairs }: { threads: number; pairs: number }): Promise<void> {
  const data = rows(one.input, one.batch);
  const make = async (rule: Rule) => {
    const network = Network.create({ input: one.input, layers: one.layers, threads, seed: 1 });
    const trainer = await Trainer.create(network, data, {
      rule,
      optimizer: one.optimizer,
      batchSize: one.batch,
      epochs: 1e6,
    });
    return { network, trainer, before: { step: 0, seconds: 0 } };
  };
  const [plain, other] = [await make(backprop()), await make(one.rule)];
  const [plainTimes, ratios]: [number[], number[]] = [[], []];
  for (let pair = -2; pair < pairs; pair++) {
    const base = await seconds(plain.trainer, plain.before);
    const found = await seconds(other.trainer, other.before);
    if (pair < 0) continue;
    plainTimes.push(base);
    ratios.push(found / base);
  }
  const median = quantile(ratios, 0.5);
  const state = (await other.network.describeRule()).map(({ layer, slots }) =>
    `${layer}: ${slots.products.why ?? `${slots.products.k} of ${slots.products.of} ${slots.products.keeps}`}`
  ).join("; ");
  const verdict = one.most === undefined ? "" : median <= one.most ? `ok (most ${one.most})` : `ABOVE ${one.most}`;
  console.log(
    `${one.name.padEnd(42)} ${threads} thr  step ${(quantile(plainTimes, 0.5) * 1e3).toFixed(3)} ms  ` +
      `ratio ${median.toFixed(3)}  p10 ${quantile(ratios, 0.1).toFixed(3)}  p90 ${
        quantile(ratios, 0.9).toFixed(3)
      }  ${verdict}  [${state}]`,
  );
  for (const { network, trainer } of [plain, other]) {
    trainer[Symbol.dispose]();
    network[Symbol.dispose]();
  }
}

const { chosen, threads, pairs } = readOptions({
  name: "bench/rules/mem_aop.ts",
  usage: script("bench/rules/mem_aop.ts"),
  description: "Steps with mem-aop beside back-propagation's, in turns.",
  options: [
    option("threads", "numbers", ["threads (1,2)", "LIST"]),
    option("pairs", "number", ["turns of each side (15)", "N"]),
    option("only", "text", ["cases with this in their name (all)", "TEXT"]),
  ],
}, ({ threads, pairs, only: text }) => ({
  chosen: only(cases, ({ name }) => name, text),
  threads: numbers("--threads", threads ?? [1, 2], { min: 1, max: 1024, whole: true }),
  pairs: number("--pairs", pairs ?? 15, { min: 1, whole: true }),
}));
for (const count of threads) for (const one of chosen) await compare(one, { threads: count, pairs });
