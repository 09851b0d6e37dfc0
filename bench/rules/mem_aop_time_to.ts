/**
 * Seconds of training until a network has 97.5 % of MNIST's test digits right: back-propagation against mem-aop, each with the
 * best of the same rates. The rows of a rate stop as soon as they are slower than the best so far.
 *
 * `deno run --allow-ffi --allow-read --allow-env bench/rules/mem_aop_time_to.ts [--hidden 1024,1024] [--rates 0.1,0.2,0.4,0.8]
 * [--epochs 10] [--threads 1] [--seeds 1] [--target 0.975] [--only TEXT]`
 *
 * @module
 */

// deno-lint-ignore-file no-console

import { backprop, Dataset, memAop, mlp, mnist, Network, type Rule, sgd, Trainer } from "../../mod.ts";
import { number } from "../../src/config.ts";
import { numbers, only, option, readOptions, script } from "../options.ts";

const rules: readonly (readonly [string, Rule])[] = [
  ["back-propagation", backprop()],
  ["topK with memory, centred", memAop({ fraction: 0.25 })],
  ["wta, centred", memAop({ fraction: 0.25, policy: "wta" })],
  ["wta, scope batch", memAop({ fraction: 0.25, scope: "batch" })],
];

const { chosen, hidden, rates, epochs, threads, seeds, target, dataDir } = readOptions({
  name: "bench/rules/mem_aop_time_to.ts",
  usage: script("bench/rules/mem_aop_time_to.ts"),
  description: "Seconds until MNIST's test digits are right, with back-propagation and with mem-aop.",
  options: [
    option("hidden", "numbers", ["widths of the hidden layers (1024,1024)", "LIST"]),
    option("rates", "numbers", ["learning rates, of which the best counts (0.1,0.2,0.4,0.8)", "LIST"]),
    option("epochs", "number", ["most epochs of a run (10)", "N"]),
    option("threads", "number", ["threads (1)", "N"]),
    option("seeds", "number", ["seeds, from 1 (1)", "N"]),
    option("target", "number", ["share of the test digits (0.975)", "X"]),
    option("only", "text", ["rules with this in their name (all)", "TEXT"]),
    option("data-dir", "text", ["where MNIST is looked for first", "DIR"]),
  ],
}, ({ hidden, rates, epochs, threads, seeds, target, only: text, "data-dir": dataDir }) => ({
  chosen: only(rules, ([name]) => name, text),
  hidden: (hidden ?? [1024, 1024]).map((width) => number("--hidden", width, { min: 1, whole: true })),
  rates: numbers("--rates", rates ?? [0.1, 0.2, 0.4, 0.8], { above: 0 }),
  epochs: number("--epochs", epochs ?? 10, { above: 0 }),
  threads: number("--threads", threads ?? 1, { min: 1, max: 1024, whole: true }),
  seeds: number("--seeds", seeds ?? 1, { min: 1, whole: true }),
  target: number("--target", target ?? 0.975, { above: 0, max: 1 }),
  dataDir,
}));
const batch = 128;
const data = await mnist(dataDir === undefined ? {} : { dataDir });
using train = await Dataset.create(data.train);
using test = await Dataset.create(data.test!);

/** Seconds in training until the target is met, looking twice an epoch; nothing where it is not. */
async function secondsTo(rule: Rule, { rate, seed, most }: { rate: number; seed: number; most: number }) {
  const model = mlp({ input: [28, 28, 1], hidden, outputs: 10 });
  using network = Network.create({ ...model, seed, threads });
  const options = { rule, optimizer: sgd(rate), batchSize: batch, epochs, seed };
  using trainer = await Trainer.create(network, train, options);
  const half = Math.ceil(train.rows / batch / 2);
  let next = half;
  for (;;) {
    const { step, seconds, done } = await trainer.chunk();
    if (step < next && !done) continue;
    next += half;
    const { accuracy = 0 } = await network.evaluate(test);
    if (accuracy >= target) return { seconds, epochs: step * batch / train.rows };
    if (done || seconds > most) return undefined;
  }
}

const median = (list: readonly number[]) => [...list].sort((a, b) => a - b)[Math.floor(list.length / 2)]!;

for (const [name, rule] of chosen) {
  let best: { seconds: number; epochs: number; rate: number } | undefined;
  for (const rate of rates) {
    const found: { seconds: number; epochs: number }[] = [];
    for (let seed = 1; seed <= seeds; seed++) {
      const one = await secondsTo(rule, { rate, seed, most: best?.seconds ?? Infinity }).catch(() => undefined);
      if (one) found.push(one);
    }
    if (found.length < seeds) continue;
    const seconds = median(found.map((one) => one.seconds));
    if (best === undefined || seconds < best.seconds) {
      best = { seconds, epochs: median(found.map((one) => one.epochs)), rate };
    }
  }
  const result = best === undefined
    ? `not within ${epochs} epochs at any rate`
    : `${best.seconds.toFixed(2)} s, ${best.epochs.toFixed(1)} epochs at rate ${best.rate}`;
  console.log(`${name.padEnd(28)} ${result}`);
}
