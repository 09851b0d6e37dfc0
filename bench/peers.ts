/**
 * Our training steps beside those of JAX and PyTorch: same network, data, weights, precision and threads, in turns, with the
 * losses of all sides compared first. `deno task bench:peers --suite dense`; `--json` prints one line for each case. Where options
 * leave one case, the largest memory of each side's process is reported too.
 *
 * @module
 */

// deno-lint-ignore-file no-console -- a program whose output is its purpose

import { ConfigError, dual } from "../mod.ts";
import { number, oneOf } from "../src/config.ts";
import { interleave, type Timing } from "./interleave.ts";
import { option, readOptions } from "./options.ts";
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

const imageNets: [net: "cnn" | "convnet" | "resnet18", batch: number, batches: number][] = [
  ["cnn", 64, 16],
  ["cnn", 128, 16],
  ["convnet", 64, 8],
  ["resnet18", 32, 2],
];

/** The suites by name. */
const suites: Record<string, Case[]> = {
  conv: [1, 2].flatMap((threads) =>
    imageNets.map(([net, batch, batches]): Case => ({
      net,
      batch,
      batches,
      optimizer: "sgd",
      rate: 0.001,
      threads,
      seed: 1,
    }))
  ),
  // Networks so small that a GPU waits for its launches; `--device cuda` puts PyTorch on one.
  small: [1, 2].flatMap((threads) =>
    [50, 128].map((batch): Case => ({
      net: [784, 128, 10],
      batch,
      batches: 64,
      optimizer: "adam",
      rate: 1e-3,
      threads,
      seed: 1,
    }))
  ),
  // One direction of random signs of all weights on our side, one jvp along such on JAX's. At this rate the losses check the
  // forward pass only.
  forward: [1, 2].map((threads): Case => ({
    net: [784, 256, 128, 10],
    batch: 128,
    batches: 64,
    optimizer: "sgd",
    rate: 1e-6,
    threads,
    seed: 1,
    gradient: "forward",
  })),
  dense: [1, 2].flatMap((threads) =>
    nets.flatMap(([net, batch, batches]) =>
      (["sgd", "adam"] as const).map((optimizer): Case => {
        const rate = optimizer === "sgd" ? 0.01 : 1e-4;
        return { net, batch, batches, optimizer, rate, threads, seed: 1 };
      })
    )
  ),
};

const nameOf = (job: Case) => `${[job.net].flat().join("-")}, ${job.batch}, ${job.optimizer}`;
const values = readOptions({
  name: "bench:peers",
  description: "Our training steps beside those of JAX and PyTorch, in turns.",
  options: [
    option("suite", "text", [`${Object.keys(suites).join(", ")} (dense)`, "NAME"]),
    option("json", "flag", ["one line of JSON for each case"]),
    option("rounds", "number", ["turns of each side (9)", "N"]),
    option("seconds", "number", ["seconds of a turn (0.25)", "S"]),
    option("threads", "number", ["cases with this number of threads only", "N"]),
    option("filter", "text", ["cases with this in their name only, such as 784-256", "TEXT"]),
    option("peers", "words", ["jax, torch, and leanprop for our step on one thread (jax,torch)", "A,B"]),
    option("device", "text", ["device of PyTorch, such as cuda (cpu)", "NAME"]),
  ],
}, ({ suite, rounds, seconds, threads, filter = "", peers = ["jax", "torch"], device = "cpu", json = false }) => {
  const all = suites[oneOf("--suite", suite ?? "dense", Object.keys(suites))]!;
  const jobs = all.filter((job) => (threads ?? job.threads) === job.threads && nameOf(job).includes(filter));
  if (jobs.length === 0) {
    const names = [...new Set(all.map(nameOf))].join("; ");
    throw new ConfigError("--threads and --filter", `options that leave one of the cases ${names}`, "none left");
  }
  return {
    jobs,
    rounds: number("--rounds", rounds ?? 9, { min: 1, whole: true }),
    seconds: number("--seconds", seconds ?? 0.25, { above: 0 }),
    peers: peers.map((peer) => oneOf("--peers", peer, ["jax", "torch", "leanprop"])),
    device,
    json,
  };
});

const { jobs } = values;
let failed = false;
for (const job of jobs) {
  const name = nameOf(job);
  const { sides, missing } = await startAll(job);
  const losses: Record<string, number> = {};
  for (const side of sides) losses[side.name] = (await side.steps(job.batches)).meanLoss;
  const ours = losses.leanprop!;
  const apart = Object.entries(losses).filter(([, loss]) => Math.abs(loss / ours - 1) > CHECK_SHARE);
  if (apart.length > 0) {
    failed = true;
    console.error(`error: ${name}: the first ${job.batches} steps give other losses: ${JSON.stringify(losses)}`);
  }
  const timings = await interleave(sides, values);
  // Our side's process is this one: after several cases its peak is that of the largest.
  const peaks: Record<string, number> = {};
  if (jobs.length === 1) { for (const side of sides) peaks[side.name] = (await side.steps(1)).peakBytes; }
  for (const side of sides) await side.stop();
  report(name, job, { timings, losses, peaks, missing });
}
if (failed) Deno.exit(1);

/** A peer to start: its program, name in tables, case and environment. */
type Wanted = [script: string, name: string, job: Case, env: Record<string, string>];

/** All sides that can take part. */
async function startAll(job: Case): Promise<{ sides: Side[]; missing: Record<string, string> }> {
  const forward = job.gradient === "forward";
  const sides: Side[] = [await startOurs(job, forward ? { rule: dual({ mode: "weight", force: true }) } : {})];
  const missing: Record<string, string> = {};
  // PyTorch's threads spin while they wait, which helps on idle cores and ruins shared ones: both ways take part.
  // JAX takes part as people write it (a jitted step) and, where that is faster, as one compiled loop over many steps.
  const jax: Wanted[] = [["jax_step.py", "jax jit", { ...job, dispatch: "step" }, {}]];
  // Convolutions in a compiled loop were measured 8 to 12 times slower: XLA has no fast kernel for them there.
  if (typeof job.net !== "string") jax.push(["jax_step.py", "jax loop", { ...job, dispatch: "loop" }, {}]);
  // Images in both of PyTorch's layouts: which one is faster depends on the network.
  const layouts: [suffix: string, job: Case][] = [["", job]];
  if (typeof job.net === "string") layouts.push([" channels last", { ...job, layout: "channels_last" }]);
  const torch = layouts.flatMap(([suffix, job]): Wanted[] => {
    const active: Wanted = ["torch_step.py", `torch${suffix}`, job, {}];
    if (forward) return [];
    if (values.device !== "cpu") return [["torch_step.py", `torch${suffix} ${values.device}`, job, {}]];
    if (job.threads === 1) return [active];
    return [active, ["torch_step.py", `torch${suffix} passive`, job, { OMP_WAIT_POLICY: "passive" }]];
  });
  const { peers } = values;
  // How much further threads gain, in the same turns.
  if (peers.includes("leanprop")) sides.push(await startOurs({ ...job, threads: 1 }, { name: "leanprop, 1 thread" }));
  const wanted = [...(peers.includes("jax") ? jax : []), ...(peers.includes("torch") ? torch : [])];
  for (const [script, name, job, env] of wanted) {
    const args = script === "torch_step.py" ? ["--device", values.device] : [];
    const peer = await startPeer(script, job, { name, args, env });
    if (typeof peer === "string") missing[name] = peer;
    else sides.push(peer);
  }
  return { sides, missing };
}

function report(
  name: string,
  job: Case,
  result: {
    timings: Timing[];
    losses: Record<string, number>;
    peaks: Record<string, number>;
    missing: Record<string, string>;
  },
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
    const peak = result.peaks[name] === undefined ? "" : `  peak ${(result.peaks[name] / 1e6).toFixed(0)} MB`;
    console.log(
      `  ${name.padEnd(27)} ${ms(seconds.median).padStart(9)} (p10 ${ms(seconds.p10)})  ÷ ours ${
        ratio.median.toFixed(2)
      }  loss ${loss}${peak}`,
    );
  }
  for (const [peer, why] of Object.entries(result.missing)) console.log(`  ${peer.padEnd(27)} left out: ${why}`);
}
