/**
 * Whole training steps with sparse weights beside our dense steps and PyTorch's dense steps, in turns: medians of the ratios within
 * a round.
 *
 * `deno run --allow-ffi --allow-read --allow-env --allow-run bench/rules/sparse.ts [--net 784-1024-1024-10 or resnet18]
 * [--threads 1] [--sparsity 0.8,0.9,0.95] [--batch 128] [--optimizer sgd] [--rounds 7] [--seconds 0.3]`
 *
 * Single layers are measured by `bench/rules/sparse_layers.ts`.
 *
 * @module
 */

// deno-lint-ignore-file no-console -- a program whose output is its purpose

import { sparse } from "../../mod.ts";
import { number, oneOf } from "../../src/config.ts";
import { numbers, option, readOptions, script } from "../options.ts";
import { interleave } from "../interleave.ts";
import { startOurs } from "../ours.ts";
import { type Case, type Side, startPeer } from "../peer.ts";

const { net, threads, sparsities, batch, optimizer, timing } = readOptions({
  name: "bench/rules/sparse.ts",
  usage: script("bench/rules/sparse.ts"),
  description: "Training steps with sparse weights beside our dense steps and PyTorch's, in turns.",
  options: [
    option("net", "text", ["widths, or resnet18 (784-1024-1024-10)", "NET"]),
    option("threads", "number", ["threads of all sides (1)", "N"]),
    option("sparsity", "numbers", ["shares of zeros (0.8,0.9,0.95)", "LIST"]),
    option("batch", "number", ["rows of a step (128)", "N"]),
    option("optimizer", "text", ["sgd or adam (sgd)", "NAME"]),
    option("rounds", "number", ["turns of each side (7)", "N"]),
    option("seconds", "number", ["seconds of a turn (0.3)", "S"]),
  ],
}, ({ net = "784-1024-1024-10", threads, sparsity, batch, optimizer, rounds, seconds }) => ({
  net: net === "resnet18"
    ? net as "resnet18"
    : net.split("-").map((width) => number("--net", Number(width), { min: 1, whole: true })),
  threads: number("--threads", threads ?? 1, { min: 1, whole: true }),
  sparsities: numbers("--sparsity", sparsity ?? [0.8, 0.9, 0.95], { min: 0, below: 1 }),
  batch: number("--batch", batch ?? 128, { min: 1, whole: true }),
  optimizer: oneOf("--optimizer", optimizer ?? "sgd", ["sgd", "adam"] as const),
  timing: {
    rounds: number("--rounds", rounds ?? 7, { min: 1, whole: true }),
    seconds: number("--seconds", seconds ?? 0.3, { above: 0 }),
  },
}));
const job: Case = {
  net,
  batch,
  // Few enough for a net that takes a second a step.
  batches: net === "resnet18" ? 2 : 16,
  optimizer,
  rate: optimizer === "sgd" ? 0.01 : 1e-4,
  threads,
  seed: 1,
};

const sides: Side[] = [await startOurs(job, { name: "dense" })];
for (const sparsity of sparsities) {
  sides.push(await startOurs(job, { name: `sparse ${sparsity}`, rule: sparse({ sparsity }) }));
}
// Images in both of PyTorch's layouts: which one is faster depends on the network.
const layouts: [name: string, job: Case][] = [["torch dense", job]];
if (net === "resnet18") layouts.push(["torch channels last", { ...job, layout: "channels_last" }]);
for (const [name, job] of layouts) {
  const peer = await startPeer("torch_step.py", job, { name });
  if (typeof peer === "string") console.error(`${name} is left out: ${peer}`);
  else sides.push(peer);
}

// A step that learns nothing would be no step: losses fall from the first to the tenth pass over the batches.
for (const side of sides) {
  const [first, later] = [(await side.steps(job.batches)).meanLoss, (await side.steps(9 * job.batches)).meanLoss];
  if (!(later < first)) throw new Error(`${side.name} does not learn: its loss goes from ${first} to ${later}`);
}
const timings = await interleave(sides, timing);
for (const side of sides) await side.stop();

// Ratios are to PyTorch's faster layout.
const torch = timings.filter(({ name }) => name.startsWith("torch"))
  .toSorted((a, b) => a.seconds.median - b.seconds.median)[0];
console.log(`${[net].flat().join("-")}, batch ${batch}, ${optimizer}, ${job.threads} thread(s)`);
for (const { name, seconds, ratio } of timings) {
  const beside = torch ? `  torch ÷ it ${(torch.seconds.median / seconds.median).toFixed(2)}` : "";
  console.log(
    `  ${name.padEnd(20)} ${(seconds.median * 1e3).toFixed(3)} ms (p10 ${(seconds.p10 * 1e3).toFixed(3)})  ` +
      `dense ÷ it ${(1 / ratio.median).toFixed(2)}${beside}`,
  );
}
