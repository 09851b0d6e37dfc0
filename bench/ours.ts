/**
 * leanprop as a side of a comparison, through its public interface.
 *
 * @module
 */

import process from "node:process";
import { adam, cnn, convnet, Dataset, mlp, type Model, Network, resnet18, type Rule, sgd, Trainer } from "../mod.ts";
import { reorder } from "../src/run/pytorch.ts";
import { pytorchEntries } from "../src/run/pytorch_names.ts";
import { initialWeights, uniformTable } from "./numbers.ts";
import type { Case, Ran, Side } from "./peer.ts";

/** Classes of the networks for images. */
const CLASSES = 10;

/** The network of a case. */
export function modelOf({ net, width = 1 }: Pick<Case, "net" | "width">): Model {
  const colour = { input: [32, 32, 3], outputs: CLASSES };
  switch (net) {
    case "cnn":
      return cnn({ input: [28, 28, 1], outputs: CLASSES });
    case "convnet":
      return convnet(colour);
    case "resnet18":
      return resnet18({ ...colour, width });
    default:
      return mlp({ input: [net[0]!], hidden: net.slice(1, -1), outputs: net.at(-1)! });
  }
}

/** Starts our side of a case; with a learning rule if one is given. */
export async function startOurs(
  job: Case,
  options: { readonly name?: string; readonly rule?: Rule } = {},
): Promise<Side> {
  const model = modelOf(job);
  const network = Network.create({ ...model, threads: job.threads });
  const parameters = pytorchEntries(network).filter(({ tensor }) => tensor.group === "parameter");
  parameters.forEach(({ tensor: { name, shape }, image }, index) => {
    if (shape.length === 1) return;
    const [outputs = 1, ...rest] = shape;
    const fanIn = rest.reduce((product, axis) => product * axis, 1);
    const weights = initialWeights({ index, outputs, fanIn, seed: job.seed });
    network.write(name, image ? reorder(weights, image, "toOurs") : weights);
  });
  const classes = typeof job.net === "string" ? CLASSES : job.net.at(-1)!;
  const table = { rows: job.batch * job.batches, shape: model.input, classes, seed: job.seed };
  const data = await Dataset.create(uniformTable(table));
  const trainer = await Trainer.create(network, data, {
    optimizer: job.optimizer === "adam" ? adam(job.rate) : sgd(job.rate),
    batchSize: job.batch,
    epochs: 1e8,
    shuffle: false,
    ...(options.rule && { rule: options.rule }),
  });
  let last = 0;
  const chunks = async (enough: (steps: number, seconds: number) => boolean): Promise<Ran> => {
    const [first, start] = [last, performance.now()];
    let [meanLoss, seconds] = [NaN, 0];
    do {
      const progress = await trainer.chunk();
      // The mean over the epoch, which for `steps` is over a whole pass of the batches.
      meanLoss = progress.trainLoss;
      last = progress.step;
      seconds = (performance.now() - start) / 1000;
    } while (!enough(last - first, seconds));
    return { steps: last - first, seconds, meanLoss, peakBytes: 1024 * process.resourceUsage().maxRSS };
  };
  return {
    name: options.name ?? "leanprop",
    about: { ...network.describe(), layers: undefined },
    run: (wanted) => chunks((_, seconds) => seconds >= wanted),
    steps: (wanted) => chunks((steps) => steps >= wanted),
    stop: () => {
      trainer[Symbol.dispose]();
      data[Symbol.dispose]();
      network[Symbol.dispose]();
      return Promise.resolve();
    },
  };
}
