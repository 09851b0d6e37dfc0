/**
 * Whole training steps with decorrelated inputs beside back-propagation's, in turns: medians of the ratios within a round.
 *
 * `deno run --allow-ffi --allow-read --allow-env bench/rules/decorrelated.ts [--threads 2] [--rounds 7] [--seconds 0.3] [--only TEXT]`
 *
 * @module
 */

// deno-lint-ignore-file no-console -- a program whose output is its purpose

import { parseArgs } from "node:util";
import { decorrelated, type DecorrelatedOptions, type Rule } from "../../mod.ts";
import { interleave } from "../interleave.ts";
import { startOurs } from "../ours.ts";
import type { Case } from "../peer.ts";

const { values } = parseArgs({
  options: {
    threads: { type: "string", default: "2" },
    rounds: { type: "string", default: "7" },
    seconds: { type: "string", default: "0.3" },
    only: { type: "string", default: "" },
  },
});

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

for (const { name, most, ...shape } of cases) {
  if (!name.includes(values.only)) continue;
  const job: Case = { ...shape, batches: 8, optimizer: "adam", rate: 1e-4, threads: Number(values.threads), seed: 1 };
  const rules = Object.entries(settings).map(([name, options]): [string, Rule] => [
    name,
    options === "paper" ? decorrelated.paper() : decorrelated(options),
  ]);
  const sides = [await startOurs(job, { name: "back-propagation" })];
  for (const [name, rule] of rules) sides.push(await startOurs(job, { name, rule }));
  const timings = await interleave(sides, { rounds: Number(values.rounds), seconds: Number(values.seconds) });
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
