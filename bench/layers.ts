/**
 * Where the time of a training step goes: `deno task bench:layers --net resnet18 --batch 32 --threads 1`. One line for each kind
 * of layer, `--each` adds one for each layer, `--json` prints the measurements.
 *
 * GFLOP/s are counted by the definition of a layer, two operations for each multiply-add; the backward pass has twice as many as
 * the forward pass, but for the first layer, whose input gradient nobody reads.
 *
 * @module
 */

// deno-lint-ignore-file no-console -- a program whose output is its purpose

import { Dataset, type LayerTime, Network, sgd, Trainer } from "../mod.ts";
import { number, oneOf } from "../src/config.ts";
import { uniformTable } from "./numbers.ts";
import { option, readOptions } from "./options.ts";
import { modelOf } from "./ours.ts";

/** One layer, or all layers of a kind together; times in seconds of one step. */
interface Line extends LayerTime {
  /** Operations of the forward pass. */
  readonly forwardOperations: number;
  /** Operations of the backward pass. */
  readonly backwardOperations: number;
}

const { net, width, batch, threads, seconds, each, json } = readOptions({
  name: "bench:layers",
  description: "Where the time of a training step goes, by kind of layer.",
  options: [
    option("net", "text", ["cnn, convnet or resnet18 (resnet18)", "NAME"]),
    option("width", "number", ["factor on the channels of resnet18 (1)", "X"]),
    option("batch", "number", ["rows of a step (32)", "N"]),
    option("threads", "number", ["threads (1)", "N"]),
    option("seconds", "number", ["how long to measure (10)", "S"]),
    option("each", "flag", ["a line for each layer, too"]),
    option("json", "flag", ["the measurements as JSON"]),
  ],
}, ({ net, width, batch, threads, seconds, each, json }) => ({
  net: oneOf("--net", net ?? "resnet18", ["cnn", "convnet", "resnet18"]),
  width: number("--width", width ?? 1, { above: 0 }),
  batch: number("--batch", batch ?? 32, { min: 1, whole: true }),
  threads: number("--threads", threads ?? 1, { min: 1, max: 1024, whole: true }),
  seconds: number("--seconds", seconds ?? 10, { above: 0 }),
  each,
  json,
}));
const model = modelOf({ net, width });

using network = Network.create({ ...model, threads });
using data = await Dataset.create(uniformTable({ rows: 2 * batch, shape: model.input, classes: 10, seed: 1 }));
using trainer = await Trainer.create(network, data, { optimizer: sgd(0.001), batchSize: batch, epochs: 1e8 });

// The first chunk brings memory into place.
let step = (await trainer.chunk()).step;
await network.startLayerTimes();
const [first, start] = [step, performance.now()];
while (performance.now() - start < 1000 * seconds) step = (await trainer.chunk()).step;
const perStep = (performance.now() - start) / 1000 / (step - first);
const described = new Map(network.describe().layers.map((layer) => [layer.name, layer]));
const lines = (await network.layerTimes()).map(({ name, kind, forward, backward }, index): Line => {
  const forwardOperations = 2 * batch * (described.get(name)?.multiplyAdds ?? 0);
  return {
    name,
    kind,
    forward: forward / (step - first),
    backward: backward / (step - first),
    forwardOperations,
    backwardOperations: index === 0 ? forwardOperations : 2 * forwardOperations,
  };
});
const kinds = [...Map.groupBy(lines, ({ kind }) => kind)].map(([kind, of]): Line => {
  const sum = (key: "forward" | "backward" | "forwardOperations" | "backwardOperations") =>
    of.reduce((total, line) => total + line[key], 0);
  return {
    name: "",
    kind,
    forward: sum("forward"),
    backward: sum("backward"),
    forwardOperations: sum("forwardOperations"),
    backwardOperations: sum("backwardOperations"),
  };
});
if (json) {
  console.log(JSON.stringify({ net, batch, threads, steps: step - first, perStep, kinds, layers: lines }));
} else {
  const measured = kinds.reduce((sum, { forward, backward }) => sum + forward + backward, 0);
  console.log(`${net}, batch ${batch}, ${threads} thread(s): ${(1000 * perStep).toFixed(2)} ms a step`);
  console.log("                          forward            backward       share");
  for (const line of each ? [...lines, ...kinds] : kinds) print(line);
  console.log(`${"batch, loss, rest".padEnd(62)}${percent(perStep - measured)}`);
}

function percent(seconds: number): string {
  return `${(100 * seconds / perStep).toFixed(1).padStart(5)} %`;
}

function print({ name, kind, forward, backward, forwardOperations, backwardOperations }: Line): void {
  const pass = (seconds: number, operations: number) => {
    const speed = operations === 0 ? "" : `${(operations / seconds / 1e9).toFixed(0)} GFLOP/s`;
    return `${(1000 * seconds).toFixed(2).padStart(8)} ms ${speed.padStart(11)}`;
  };
  const title = `${name} ${kind}`.trim().padEnd(18);
  console.log(
    `${title}${pass(forward, forwardOperations)}${pass(backward, backwardOperations)}${percent(forward + backward)}`,
  );
}
