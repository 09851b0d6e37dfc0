/**
 * Single sparse layers, forward and both gradients, beside PyTorch's dense layers, in turns.
 *
 * `deno run --allow-ffi --allow-read --allow-env --allow-run bench/rules/sparse_layers.ts [--only linear,batch,conv] [--threads 1]
 * [--sparsity 0.5,0.8,0.9,0.95,0.99] [--rounds 7] [--seconds 0.1]`
 *
 * Each column is PyTorch's time over ours: in the kernels' own layout, as layers inside a network hand values on, and in brackets with
 * the conversion of all arrays from and to rows in each call. With several threads PyTorch has as many, and a figure after × says how
 * many times faster ours are than on one. The environment variable LEANPROP_ISA pins our instruction set.
 * Sparsity 0 is computed first: there both sides must agree.
 *
 * @module
 */

// deno-lint-ignore-file no-console -- a program whose output is its purpose

import { number, oneOf } from "../../src/config.ts";
import { SparseMap, type SparseMapOptions } from "../../src/kernels.ts";
import { numbers, option, readOptions, script } from "../options.ts";
import { interleave, type Timed } from "../interleave.ts";
import { draw } from "../numbers.ts";
import { startPeer } from "../peer.ts";

/** One layer as both sides read it; a size above 0 makes a convolution of 3 × 3 on square images. */
interface LayerCase {
  readonly batch: number;
  readonly inputs: number;
  readonly outputs: number;
  readonly size: number;
  readonly threads: number;
  readonly seed: number;
}

const groups: Record<string, readonly (readonly [batch: number, inputs: number, outputs: number, size: number])[]> = {
  linear: [[128, 512, 512, 0], [128, 1024, 1024, 0], [128, 1024, 4096, 0], [128, 4096, 1024, 0]],
  batch: [[16, 1024, 1024, 0], [32, 1024, 1024, 0], [64, 1024, 1024, 0]],
  conv: [[32, 64, 64, 28], [32, 128, 128, 14], [32, 256, 256, 7]],
};

/** Streams of the generator, as in torch_layer.py; the last chooses the weights that there are. */
const STREAMS = { features: 1, gradients: 2, mask: 3, weights: 16, bias: 17 };

/** How far the sides' mean absolute values may part. */
const CHECK_SHARE = 1e-3;

const { threads, chosen, sparsities, timing } = readOptions({
  name: "bench/rules/sparse_layers.ts",
  usage: script("bench/rules/sparse_layers.ts"),
  description: "Single sparse layers, forward and both gradients, beside PyTorch's dense layers, in turns.",
  options: [
    option("only", "words", ["kinds of layers (linear,batch,conv)", "A,B"]),
    option("threads", "number", ["threads of both sides (1)", "N"]),
    option("sparsity", "numbers", ["shares of zeros (0.5,0.8,0.9,0.95,0.99)", "LIST"]),
    option("rounds", "number", ["turns of each side (7)", "N"]),
    option("seconds", "number", ["seconds of a turn (0.1)", "S"]),
  ],
}, ({ only = Object.keys(groups), threads, sparsity, rounds, seconds }) => ({
  threads: number("--threads", threads ?? 1, { min: 1, whole: true }),
  chosen: only.map((group) => oneOf("--only", group, Object.keys(groups))),
  sparsities: numbers("--sparsity", sparsity ?? [0.5, 0.8, 0.9, 0.95, 0.99], { min: 0, below: 1 }),
  timing: {
    rounds: number("--rounds", rounds ?? 7, { min: 1, whole: true }),
    seconds: number("--seconds", seconds ?? 0.1, { above: 0 }),
  },
}));
console.log(`| layer | PyTorch | ${sparsities.join(" | ")} |\n| --- | --- |${" --- |".repeat(sparsities.length)}`);
for (const group of chosen) {
  for (const [batch, inputs, outputs, size] of groups[group]!) {
    await measure({ batch, inputs, outputs, size, threads, seed: 1 });
  }
}

async function measure(layer: LayerCase): Promise<void> {
  const layouts = layer.size === 0 ? ["contiguous"] : ["contiguous", "channels_last"];
  const peers = [];
  for (const layout of layouts) {
    const peer = await startPeer("torch_layer.py", { ...layer, layout }, { name: layout });
    if (typeof peer === "string") throw new Error(`PyTorch is needed: ${peer}`);
    peers.push(peer);
  }
  const arrays = makeArrays(layer);
  const dense = makeSide(layer, arrays, { sparsity: 0, layout: "rows" });
  const [expected, found] = [(await peers[0]!.steps(1)).meanLoss, dense.check()];
  dense.stop();
  if (!(Math.abs(found / expected - 1) < CHECK_SHARE)) throw new Error(`expected ${expected} but found ${found}`);
  const kinds: Kind[] = sparsities.flatMap((sparsity) => [
    { sparsity, layout: "tiles" },
    { sparsity, layout: "rows" },
    ...(threads > 1 ? [{ sparsity, layout: "tiles", threads: 1 } as const] : []),
  ]);
  const ours = kinds.map((kind) => makeSide(layer, arrays, kind));
  const timings = await interleave([...peers, ...ours], timing);
  for (const side of [...peers, ...ours]) await side.stop();
  const medians = timings.map(({ seconds }) => seconds.median);
  const torch = Math.min(...medians.slice(0, peers.length));
  const cells = sparsities.map((wanted) => {
    const [tiles = NaN, rows = NaN, alone] = medians.slice(peers.length).filter((_, i) =>
      kinds[i]!.sparsity === wanted
    );
    const scaling = alone === undefined ? "" : ` ×${(alone / tiles).toFixed(2)}`;
    return `${(torch / tiles).toFixed(1)} (${(torch / rows).toFixed(1)})${scaling}`;
  });
  const { batch, inputs, outputs, size } = layer;
  const name = size === 0 ? `linear ${inputs} to ${outputs}` : `conv 3×3 ${inputs} at ${size}²`;
  console.log(`| ${name}, ${batch} rows | ${(torch * 1e3).toFixed(2)} ms | ${cells.join(" | ")} |`);
}

/** Which of our sides. */
interface Kind {
  readonly sparsity: number;
  readonly layout: "rows" | "tiles";
  /** Default: as many as PyTorch. */
  readonly threads?: number;
}

type Arrays = Readonly<Record<"x" | "g" | "w" | "bias", Float32Array<ArrayBuffer>>>;

/** Inputs, gradients, dense weights and bias, as torch_layer.py makes them; images have their channels last here. */
function makeArrays({ batch, inputs, outputs, size, seed }: LayerCase): Arrays {
  const numbers = (stream: number, count: number) => {
    const at = draw(seed, stream);
    return Float32Array.from({ length: count }, (_, i) => at(i) / 2 ** 23 - 1);
  };
  const pixels = Math.max(1, size * size);
  const images = (stream: number, channels: number) => {
    const channelsFirst = numbers(stream, batch * channels * pixels);
    return channelsFirst.map((_, i) => {
      const [channel, pixel, row] = [
        i % channels,
        Math.floor(i / channels) % pixels,
        Math.floor(i / channels / pixels),
      ];
      return channelsFirst[(row * channels + channel) * pixels + pixel]!;
    });
  };
  return {
    x: images(STREAMS.features, inputs),
    g: images(STREAMS.gradients, outputs),
    w: numbers(STREAMS.weights, outputs * inputs * (size === 0 ? 1 : 9)),
    bias: numbers(STREAMS.bias, outputs),
  };
}

interface Side extends Timed {
  /** What torch_layer.py gives as the loss. */
  check(): number;
  stop(): void;
}

/** A sparse layer that takes steps. */
function makeSide(
  { batch, inputs, outputs, size, seed, ...layer }: LayerCase,
  arrays: Arrays,
  { sparsity, layout, threads = layer.threads }: Kind,
): Side {
  const chance = draw(seed, STREAMS.mask);
  const positions = Uint32Array.from(arrays.w.keys().filter((at) => chance(at) >= sparsity * 2 ** 24));
  const image = size === 0 ? {} : { height: size, width: size, kernel: [3, 3], padding: [1, 1] } as const;
  const map = SparseMap.create(positions, { batch, inputs, outputs, ...image, threads, layout } as SparseMapOptions);
  const values = Float32Array.from(map.positions, (position) => arrays.w[position]!);
  const { bias } = arrays;
  const [x, g] = layout === "rows"
    ? [arrays.x, arrays.g]
    : [map.toTiles("inputs", arrays.x), map.toTiles("outputs", arrays.g)];
  const out = map.forward(values, x, { bias });
  const gradients = map.backward(values, [x, g]);
  const step = () => {
    map.forward(values, x, { bias, out });
    map.backward(values, [x, g], { out: gradients });
  };
  const mean = (numbers: Float32Array) => numbers.reduce((sum, value) => sum + Math.abs(value), 0) / numbers.length;
  return {
    name: `${sparsity} ${layout}`,
    run: (seconds) => {
      const start = performance.now();
      let [steps, passed] = [0, 0];
      do {
        step();
        steps++;
        passed = (performance.now() - start) / 1000;
      } while (passed < seconds);
      return Promise.resolve({ steps, seconds: passed });
    },
    check: () => {
      step();
      return mean(out) + mean(gradients.inputs) + mean(gradients.values);
    },
    stop: () => map[Symbol.dispose](),
  };
}
