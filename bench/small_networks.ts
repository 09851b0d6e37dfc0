/**
 * A small network on this machine's CPU beside PyTorch (on a CPU, or with `--device cuda` on a GPU) and JAX: 784-128-10 on MNIST at
 * batch 50 and 128. Step times are measured on all sides, steps to 95 % of the test rows with this engine alone (median of three
 * seeds): all sides take the same steps (deno task bench:peers --suite small compares their losses), so a peer's time to 95 % is an
 * estimate from our steps. The last lines ask how large a network may be before its step here takes longer than the launches alone
 * of an eager GPU step: an estimate too, and where a GPU is at hand `--device cuda` measures instead.
 *
 * deno run --allow-ffi --allow-read --allow-env --allow-run --allow-sys bench/small_networks.ts [--device cuda] [--threads 2]
 *
 * @module
 */

// deno-lint-ignore-file no-console -- a program whose output is its purpose

import { adam, Dataset, dual, mlp, mnist, Network, type Rule, Trainer } from "../mod.ts";
import { number } from "../src/config.ts";
import { median } from "../src/statistics.ts";
import { interleave } from "./interleave.ts";
import { largest } from "./largest.ts";
import { option, readOptions, script } from "./options.ts";
import { startOurs } from "./ours.ts";
import { type Case, type Side, startPeer } from "./peer.ts";

const RATE = 1e-3;
const GOAL = 0.95;
const SEEDS = [1, 2, 3];

/** Kernels that an eager step of a network with one hidden layer launches: forward 2 products with bias, ReLU, log-softmax and loss (5);
 * backward loss, log-softmax, 3 products, 2 sums, ReLU (8); one fused update of all tensors (1): Adam with `fused=True`, where PyTorch's
 * default (foreach) launches several kernels. */
const LAUNCHES = { base: 14, ofFurtherLayer: 5 };

/** Seconds of one launch: 4 to 6 µs were measured on an RTX 5070 Ti with CUDA 13 (susun-blog.com/blog/pegainfer-3-cuda-graph);
 * the work of PyTorch itself for each call comes on top and is not counted. */
const LAUNCH = { least: 4e-6, most: 6e-6 };

/** Hidden widths of 784-H-10 that are asked for its largest: multiples of 8, up to this one. */
const WIDTHS = { of: 8, most: 1024 };

const { device, threads, rounds } = readOptions({
  name: "bench/small_networks.ts",
  usage: script("bench/small_networks.ts", "--allow-run --allow-sys"),
  description: "A network so small that a GPU would wait for its launches, on this machine and beside PyTorch and JAX.",
  options: [
    option("device", "text", ["device of PyTorch, such as cuda (cpu)", "NAME"]),
    option("threads", "number", ["threads of all sides (2)", "N"]),
    option("rounds", "number", ["turns of each side (9)", "N"]),
  ],
}, ({ device, threads, rounds }) => ({
  device: device ?? "cpu",
  threads: number("--threads", threads ?? 2, { min: 1, whole: true }),
  rounds: number("--rounds", rounds ?? 9, { min: 1, whole: true }),
}));

/** Steps until the test accuracy reaches the goal, asked for every tenth of an epoch; `Infinity` where 20 epochs are too few. */
async function stepsToGoal(batchSize: number, seed: number, rule?: Rule): Promise<number> {
  const tables = await mnist();
  using train = await Dataset.create(tables.train);
  using test = await Dataset.create(tables.test!);
  using network = Network.create({ ...mlp({ input: [28, 28, 1], hidden: [128], outputs: 10 }), seed, threads });
  const options = { batchSize, epochs: 20, optimizer: adam(RATE), seed, ...(rule && { rule }) };
  using trainer = await Trainer.create(network, train, options);
  const pause = Math.round(train.rows / batchSize / 10);
  for (;;) {
    // Single steps: a chunk ends by the clock, and the count would depend on the machine.
    const { step, done } = await trainer.step();
    if (step % pause !== 0 && !done) continue;
    if ((await network.evaluate(test)).accuracy! >= GOAL) return step;
    if (done) return Infinity;
  }
}

const caseFor = (net: readonly number[], batch: number): Case => ({
  net,
  batch,
  batches: 64,
  optimizer: "adam",
  rate: RATE,
  threads,
  seed: 1,
});

for (const batch of [50, 128]) {
  const job = caseFor([784, 128, 10], batch);
  const rules: [string, Rule | undefined][] = [["leanprop", undefined], ["leanprop, dual feedback", dual()]];
  const steps: Record<string, number> = {};
  const sides: Side[] = [];
  for (const [name, rule] of rules) {
    sides.push(await startOurs(job, { name, ...(rule && { rule }) }));
    const found: number[] = [];
    for (const seed of SEEDS) found.push(await stepsToGoal(batch, seed, rule));
    steps[name] = median(found);
    console.log(`${name}, batch ${batch}: ${found.join(", ")} steps to 95 % with the seeds ${SEEDS.join(", ")}`);
  }
  for (
    const [script, name, args] of [["torch_step.py", `torch ${device}`, ["--device", device]], [
      "jax_step.py",
      "jax cpu",
      [],
    ]] as const
  ) {
    const peer = await startPeer(script, job, { name, args });
    if (typeof peer === "string") console.log(`${name} left out: ${peer}`);
    else sides.push(peer);
  }
  const timings = await interleave(sides, { rounds, seconds: 0.25 });
  for (const side of sides) await side.stop();
  console.log(`784-128-10, batch ${batch}, ${threads} threads`);
  for (const { name, seconds, ratio } of timings) {
    const own = steps[name];
    const [epoch, goal] = [seconds.median * 60_000 / batch, seconds.median * (own ?? steps.leanprop!)];
    console.log(
      `  ${name.padEnd(24)} ${(seconds.median * 1e6).toFixed(0).padStart(6)} µs a step  ÷ leanprop ${
        ratio.median.toFixed(2)
      }  ` +
        `${epoch.toFixed(2)} s an epoch  ${goal.toFixed(2)} s to 95 % ` +
        (own === undefined ? "(our steps × its step time)" : `(${own} steps × its step time)`),
    );
  }
}

/** Seconds of a step here. */
async function stepSeconds(net: readonly number[], batch: number): Promise<number> {
  const side = await startOurs(caseFor(net, batch));
  const [timing] = await interleave([side], { rounds: 3, seconds: 0.1 });
  await side.stop();
  return timing!.seconds.median;
}

const launchesOf = (net: readonly number[]) => LAUNCHES.base + LAUNCHES.ofFurtherLayer * (net.length - 3);

/** Whether steps here stay below the launches of a GPU's. */
const verdict = (step: number, launches: number) => {
  if (step <= launches * LAUNCH.least) return "within";
  return step <= launches * LAUNCH.most ? "about as long as" : "beyond";
};

for (const batch of [50, 128]) {
  for (
    const net of [[784, 16, 10], [784, 32, 10], [784, 64, 10], [784, 128, 10], [784, 256, 10], [64, 64, 64, 10], [
      64,
      128,
      128,
      10,
    ]]
  ) {
    const [step, launches] = [await stepSeconds(net, batch), launchesOf(net)];
    const [least, most] = [LAUNCH.least, LAUNCH.most].map((launch) => (launches * launch * 1e6).toFixed(0));
    console.log(
      `${net.join("-")}, batch ${batch}: ${(step * 1e6).toFixed(0)} µs a step, ${
        verdict(step, launches)
      } the ${launches} ` +
        `launches of an eager GPU step (${least} to ${most} µs)`,
    );
  }
}

for (const batch of [50, 128]) {
  for (const launch of [LAUNCH.least, LAUNCH.most]) {
    const net = (size: number) => [784, WIDTHS.of * size, 10];
    const limit = launch * launchesOf(net(1));
    const fits = async (size: number) => await stepSeconds(net(size), batch) <= limit;
    const found = await largest(WIDTHS.most / WIDTHS.of, fits);
    console.log(
      `largest: ${found === 0 ? "none" : net(found).join("-")} at batch ${batch}, for ${launch * 1e6} µs a launch (${
        (limit * 1e6).toFixed(0)
      } µs a step)`,
    );
  }
}
