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

import { parseArgs } from "node:util";
import { backprop, Dataset, memAop, mlp, mnist, Network, type Rule, sgd, Trainer } from "../../mod.ts";

const { values } = parseArgs({
  options: {
    hidden: { type: "string", default: "1024,1024" },
    rates: { type: "string", default: "0.1,0.2,0.4,0.8" },
    epochs: { type: "string", default: "10" },
    threads: { type: "string", default: "1" },
    seeds: { type: "string", default: "1" },
    target: { type: "string", default: "0.975" },
    only: { type: "string", default: "" },
    "data-dir": { type: "string" },
  },
});
const numbers = (text: string) => text.split(",").map(Number);
const [target, batch] = [Number(values.target), 128];

const rules: readonly (readonly [string, Rule])[] = [
  ["back-propagation", backprop()],
  ["topK with memory, centred", memAop({ fraction: 0.25 })],
  ["wta, centred", memAop({ fraction: 0.25, policy: "wta" })],
  ["wta, scope batch", memAop({ fraction: 0.25, scope: "batch" })],
];

const data = await mnist(values["data-dir"] === undefined ? {} : { dataDir: values["data-dir"] });
using train = await Dataset.create(data.train);
using test = await Dataset.create(data.test!);

/** Seconds in training until the target is met, looking twice an epoch; nothing where it is not. */
async function secondsTo(rule: Rule, { rate, seed, most }: { rate: number; seed: number; most: number }) {
  const model = mlp({ input: [28, 28, 1], hidden: numbers(values.hidden), outputs: 10 });
  using network = Network.create({ ...model, seed, threads: Number(values.threads) });
  const options = { rule, optimizer: sgd(rate), batchSize: batch, epochs: Number(values.epochs), seed };
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

for (const [name, rule] of rules.filter(([name]) => name.includes(values.only))) {
  let best: { seconds: number; epochs: number; rate: number } | undefined;
  for (const rate of numbers(values.rates)) {
    const found: { seconds: number; epochs: number }[] = [];
    for (let seed = 1; seed <= Number(values.seeds); seed++) {
      const one = await secondsTo(rule, { rate, seed, most: best?.seconds ?? Infinity }).catch(() => undefined);
      if (one) found.push(one);
    }
    if (found.length < Number(values.seeds)) continue;
    const seconds = median(found.map((one) => one.seconds));
    if (best === undefined || seconds < best.seconds) {
      best = { seconds, epochs: median(found.map((one) => one.epochs)), rate };
    }
  }
  const result = best === undefined
    ? `not within ${values.epochs} epochs at any rate`
    : `${best.seconds.toFixed(2)} s, ${best.epochs.toFixed(1)} epochs at rate ${best.rate}`;
  console.log(`${name.padEnd(28)} ${result}`);
}
