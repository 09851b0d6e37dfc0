/**
 * Whole training steps with decorrelated inputs beside back-propagation's, in turns: medians of the ratios within a round.
 *
 * `deno run --allow-ffi --allow-read --allow-env bench/rules/decorrelated.ts [--threads 2] [--rounds 7] [--seconds 0.3] [--only TEXT]`
 *
 * @module
 */

// deno-lint-ignore-file no-console -- a program whose output is its purpose

import { decorrelated, type DecorrelatedOptions, type Rule } from "../../mod.ts";
import { interleave } from "../interleave.ts";
import { startOurs } from "../ours.ts";
import { number } from "../../src/config.ts";
import { only, option, readOptions, script } from "../options.ts";
import type { Case } from "../peer.ts";

/** The most that a step with default settings may take, in steps of back-propagation. */
const cases: readonly (Pick<Case, "net" | "batch"> & { name: string; width?: number; most: number })[] = [
  { name: "784-1024-1024-10", net: [784, 1024, 1024, 10], batch: 128, most: 1.5 },
  { name: "784-256-128-10", net: [784, 256, 128, 10], batch: 128, most: Infinity },
  { name: "convnet", net: "convnet", batch: 128, most: 1.2 },
  { name: "resnet18 width 1/4", net: "resnet18", width: 0.25, batch: 128, most: 1.2 },
];

const settings: Readonly<Record<string, DecorrelatedOptions | "paper">> = {
  "default": {},
  "one block": { block: 2 ** 20 },
  "precompute": { first: "precompute" },
  "driftFree": { form: "driftFree" },
  "newtonSchulz": { form: "newtonSchulz" },
  "cholesky": { form: "cholesky" },
  "cholesky, center": { form: "cholesky", first: "center" },
  "paper()": "paper",
};

const { chosen, threads, rounds, seconds } = readOptions({
  name: "bench/rules/decorrelated.ts",
  usage: script("bench/rules/decorrelated.ts"),
  description: "Steps with decorrelated inputs beside back-propagation's, in turns.",
  options: [
    option("threads", "number", ["threads (2)", "N"]),
    option("rounds", "number", ["turns of each side (7)", "N"]),
    option("seconds", "number", ["length of a turn (0.3)", "S"]),
    option("only", "text", ["cases with this in their name (all)", "TEXT"]),
  ],
}, ({ threads, rounds, seconds, only: text }) => ({
  chosen: only(cases, ({ name }) => name, text),
  threads: number("--threads", threads ?? 2, { min: 1, max: 1024, whole: true }),
  rounds: number("--rounds", rounds ?? 7, { min: 1, whole: true }),
  seconds: number("--seconds", seconds ?? 0.3, { above: 0 }),
}));

for (const { name, most, ...shape } of chosen) {
  const job: Case = { ...shape, batches: 8, optimizer: "adam", rate: 1e-4, threads, seed: 1 };
  const rules = Object.entries(settings).map(([name, options]): [string, Rule] => [
    name,
    options === "paper" ? decorrelated.paper() : decorrelated(options),
  ]);
  const sides = [await startOurs(job, { name: "back-propagation" })];
  for (const [name, rule] of rules) sides.push(await startOurs(job, { name, rule }));
  const timings = await interleave(sides, { rounds, seconds });
  for (const side of sides) await side.stop();
  for (const timing of timings) {
    const { seconds, ratio } = timing;
    const verdict = timing.name !== "default" || most === Infinity
      ? ""
      : ratio.median <= most
      ? `ok (most ${most})`
      : `ABOVE ${most}`;
    const figures = `${(seconds.median * 1e3).toFixed(2)} ms  ratio ${ratio.median.toFixed(2)}`;
    console.log(`${name.padEnd(20)} ${timing.name.padEnd(18)} ${figures} (p90 ${ratio.p90.toFixed(2)})  ${verdict}`);
  }
}
