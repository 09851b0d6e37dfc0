/**
 * Our training steps beside those of JAX and PyTorch: same network, data, weights, precision and threads, in turns, with the
 * losses of all sides compared first. `deno task bench:peers --suite dense`; `--json` prints one line for each case.
 *
 * @module
 */

// deno-lint-ignore-file no-console -- a program whose output is its purpose

import { parseArgs } from "node:util";
import { interleave, type Timing } from "./interleave.ts";
import { startOurs } from "./ours.ts";
import { type Case, type Side, startPeer } from "./peer.ts";

/** How far the losses of the first pass over the batches may part: rounding flips single ReLUs. */
const CHECK_SHARE = 0.02;

const nets: [net: number[], batch: number, batches: number][] = [
  [[64, 64, 10], 32, 2048],
  [[784, 256, 128, 10], 64, 128],
  [[784, 256, 128, 10], 128, 64],
  [[784, 1024, 1024, 10], 128, 64],
  [[784, 1024, 1024, 10], 512, 16],
];

/** The suites by name. */
const suites: Record<string, Case[]> = {
  dense: [1, 2].flatMap((threads) =>
    nets.flatMap(([net, batch, batches]) =>
      (["sgd", "adam"] as const).map((optimizer): Case => {
        const rate = optimizer === "sgd" ? 0.01 : 1e-4;
        return { net, batch, batches, optimizer, rate, threads, seed: 1 };
      })
    )
  ),
};

const { values } = parseArgs({
  options: {
    suite: { type: "string", default: "dense" },
    json: { type: "boolean", default: false },
    rounds: { type: "string", default: "9" },
    seconds: { type: "string", default: "0.25" },
    threads: { type: "string" },
    filter: { type: "string" },
    help: { type: "boolean", default: false },
  },
});
if (values.help) {
  console.log("bench:peers [--suite dense] [--json] [--rounds 9] [--seconds 0.25] [--threads 1] [--filter 784-256]");
  Deno.exit(0);
}
const suite = suites[values.suite];
if (!suite) {
  console.error(
    `error: Cannot use --suite: expected one of ${Object.keys(suites).join(", ")} but found ${values.suite}`,
  );
  Deno.exit(2);
}

let failed = false;
for (const job of suite) {
  const name = `${[job.net].flat().join("-")}, ${job.batch}, ${job.optimizer}`;
  if (values.threads && Number(values.threads) !== job.threads) continue;
  if (values.filter && !name.includes(values.filter)) continue;
  const { sides, missing } = await startAll(job);
  const losses: Record<string, number> = {};
  for (const side of sides) losses[side.name] = (await side.steps(job.batches)).meanLoss;
  const ours = losses.leanprop!;
  const apart = Object.entries(losses).filter(([, loss]) => Math.abs(loss / ours - 1) > CHECK_SHARE);
  if (apart.length > 0) {
    failed = true;
    console.error(`error: ${name}: the first ${job.batches} steps give other losses: ${JSON.stringify(losses)}`);
  }
  const options = { rounds: Number(values.rounds), seconds: Number(values.seconds) };
  const timings = await interleave(sides, options);
  for (const side of sides) await side.stop();
  report(name, job, { timings, losses, missing });
}
if (failed) Deno.exit(1);

/** All sides that can take part. */
async function startAll(job: Case): Promise<{ sides: Side[]; missing: Record<string, string> }> {
  const sides: Side[] = [await startOurs(job)];
  const missing: Record<string, string> = {};
  // PyTorch's threads spin while they wait, which helps on idle cores and ruins shared ones: both ways take part.
  // JAX takes part as people write it (a jitted step) and, where that is faster, as one compiled loop over many steps.
  const wanted: [script: string, name: string, job: Case, env: Record<string, string>][] = [
    ["jax_step.py", "jax jit", { ...job, dispatch: "step" }, {}],
    ["jax_step.py", "jax loop", { ...job, dispatch: "loop" }, {}],
    ["torch_step.py", "torch", job, {}],
  ];
  if (job.threads > 1) wanted.push(["torch_step.py", "torch passive", job, { OMP_WAIT_POLICY: "passive" }]);
  for (const [script, name, job, env] of wanted) {
    const peer = await startPeer(script, job, { name, env });
    if (typeof peer === "string") missing[name] = peer;
    else sides.push(peer);
  }
  return { sides, missing };
}

function report(
  name: string,
  job: Case,
  result: { timings: Timing[]; losses: Record<string, number>; missing: Record<string, string> },
): void {
  if (values.json) {
    console.log(JSON.stringify({ case: name, ...job, ...result }));
    return;
  }
  const ms = (seconds: number) =>
    seconds < 1e-3 ? `${(seconds * 1e6).toFixed(1)} µs` : `${(seconds * 1e3).toFixed(2)} ms`;
  console.log(`${name}, ${job.threads} thread${job.threads > 1 ? "s" : ""}`);
  for (const { name, seconds, ratio } of result.timings) {
    const loss = result.losses[name]!.toFixed(5);
    console.log(
      `  ${name.padEnd(14)} ${ms(seconds.median).padStart(9)} (p10 ${ms(seconds.p10)})  ÷ ours ${
        ratio.median.toFixed(2)
      }  loss ${loss}`,
    );
  }
  for (const [peer, why] of Object.entries(result.missing)) console.log(`  ${peer.padEnd(14)} left out: ${why}`);
}
