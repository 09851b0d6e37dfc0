/** decorrelated: the laws of the rule inside a network, saving and resuming, folding, and what is refused. */

import { assert, assertAlmostEquals, assertEquals, assertNotEquals, assertRejects, assertThrows } from "@std/assert";
import {
  adam,
  batchNorm,
  combine,
  ConfigError,
  conv2d,
  cosine,
  Dataset,
  decorrelated,
  type DecorrelatedOptions,
  dense,
  dual,
  EngineError,
  flatten,
  frontContribution,
  globalAvgPool2d,
  type Layer,
  loadCheckpoint,
  maxPool2d,
  memAop,
  Network,
  type Optimizer,
  relu,
  type Rule,
  sgd,
  sparse,
  tanh,
  train,
  Trainer,
  type TrainOptions,
} from "../../mod.ts";
import { decorrelationUpdate } from "../../src/kernels.ts";
import { ruleByName } from "../../src/rules/mod.ts";
import { assertSameBits, bits, inTemporaryFolder, numbers, steps, table } from "../helpers.ts";
import { assertClose } from "../tolerance.ts";

const nets: Record<string, { input: number[]; layers: Layer[] }> = {
  // Wide enough for two stages, narrow enough for one, and 24 inputs for blocks.
  dense: { input: [24], layers: [dense(40), tanh(), dense(24), relu(), dense(3)] },
  conv: {
    input: [8, 8, 2],
    layers: [
      conv2d(6, { padding: [1, 1] }),
      relu(),
      maxPool2d(),
      conv2d(8, { stride: [2, 2] }),
      tanh(),
      globalAvgPool2d(),
      dense(3),
    ],
  },
};

const BATCH = 10;

const dataOf = (net: string) => table(40, { shape: nets[net]!.input, classes: 3 });

interface Machine {
  readonly threads?: number;
  readonly precision?: "f32" | "f64";
}

function networkOf(net: string, { threads = 1, precision = "f64" }: Machine = {}): Network {
  return Network.create({ ...nets[net]!, precision, threads, seed: 3 });
}

const common = { epochs: 2, batchSize: BATCH, seed: 4, schedule: cosine({ finalFactor: 0.1 }), optimizer: sgd(0.05) };

async function trained(net: string, options: Partial<TrainOptions>, machine: Machine = {}) {
  using network = networkOf(net, machine);
  for await (const _ of train(network, dataOf(net), { ...common, ...options }));
  return { bits: bits(network), parameters: network.parameters() };
}

const optimizers: Record<string, { optimizer: Optimizer; clipNorm?: number }> = {
  "sgd": { optimizer: sgd(0.05) },
  "momentum, clipped": { optimizer: sgd(0.02, { momentum: 0.9 }), clipNorm: 0.3 },
  "adam": { optimizer: adam(1e-3) },
};

for (const [name, options] of Object.entries(optimizers)) {
  for (const net of Object.keys(nets)) {
    Deno.test(`decorrelated() with rate 0 is back-propagation: ${net}, ${name}`, async () => {
      const plain = await trained(net, options);
      for (const form of ["local", "driftFree"] as const) {
        const found = await trained(net, { ...options, rule: decorrelated({ rate: 0, form }) });
        for (const [parameter, values] of plain.parameters) {
          assertClose({ name: `${form} ${parameter}`, limit: 1e-12 }, found.parameters.get(parameter)!, values);
        }
      }
      const other = await trained(net, { ...options, rule: decorrelated() });
      assertNotEquals(other.bits, plain.bits);
    });
  }
}

/** Rows of a matrix given flat. */
const at = (values: ArrayLike<number>, columns: number) => (row: number, column: number) =>
  values[row * columns + column]!;

Deno.test("one step is the paper's: z = R (x − μ), gradients with R at rest, then R by the local rule", async () => {
  const [size, units, kappa, rate] = [5, 3, 0.2, 0.05];
  for (const [way, units_] of [["two-stage", 40], ["fused", units]] as const) {
    const data = table(BATCH, { shape: [size], values: units_ });
    using network = Network.create({
      input: [size],
      layers: [dense(units_)],
      loss: { kind: "meanSquaredError" },
      precision: "f64",
      seed: 1,
    });
    const weights = () => at(network.read("0.weight"), size);
    const rule = decorrelated({ rate, kappa, center: false, autoStep: false });
    using trainer = await Trainer.create(network, data, {
      rule,
      optimizer: sgd(0.1),
      batchSize: BATCH,
      epochs: 10,
      shuffle: false,
    });
    const x = at(Float64Array.from(data.features as Float32Array), size);
    const targets = data.targets.kind === "values" ? at(data.targets.values as Float64Array, units_) : () => 0;
    let r = Array.from({ length: size }, (_, i) => Array.from({ length: size }, (_, j) => i === j ? 1 : 0));
    let w = Array.from({ length: units_ }, (_, i) => Array.from({ length: size }, (_, j) => weights()(i, j)));
    let b = Array(units_).fill(0) as number[];
    for (let step = 0; step < 3; step++) {
      await trainer.chunk({ steps: 1 });
      const rows = Array.from({ length: BATCH }, (_, row) => row);
      const z = rows.map((row) => r.map((line) => line.reduce((sum, value, j) => sum + value * x(row, j), 0)));
      const g = rows.map((row) =>
        w.map((line, i) => {
          const y = line.reduce((sum, value, j) => sum + value * z[row]![j]!, b[i]!);
          return 2 * (y - targets(row, i)) / units_ / BATCH;
        })
      );
      w = w.map((line, i) => line.map((value, j) => value - 0.1 * rows.reduce((s, n) => s + g[n]![i]! * z[n]![j]!, 0)));
      b = b.map((value, i) => value - 0.1 * rows.reduce((sum, n) => sum + g[n]![i]!, 0));
      const c = r.map((_, i) => r.map((_, j) => rows.reduce((sum, n) => sum + z[n]![i]! * z[n]![j]!, 0) / BATCH));
      r = r.map((line, i) =>
        line.map((value, j) => {
          const cr = r.reduce((sum, other, k) => sum + (k === i ? 0 : c[i]![k]! * other[j]!), 0);
          return value - rate * ((1 - kappa) * cr + kappa * (c[i]![i]! - 1) * value);
        })
      );
      assertClose({ name: `${way} weights`, limit: 1e-10 }, network.read("0.weight"), Float64Array.from(w.flat()));
      assertClose({ name: `${way} bias`, limit: 1e-10 }, network.read("0.bias"), Float64Array.from(b));
      // Stored is the transpose.
      const transposed = r.map((_, i) => r.map((line) => line[i]!)).flat();
      assertClose({ name: `${way} R`, limit: 1e-10 }, network.read("rule.0.inputs.s"), Float64Array.from(transposed));
    }
    assertEquals((await network.describeRule())[0]!.slots.inputs.way, way);
  }
});

/** A run in the middle, with R far from the identity. */
async function underWay(net: string, options: DecorrelatedOptions = {}, machine: Machine = {}) {
  const network = networkOf(net, machine);
  const rule = decorrelated({ rate: 0.05, ...options });
  const trainer = await Trainer.create(network, dataOf(net), { ...common, rule });
  await steps(trainer, 5);
  return {
    network,
    trainer,
    [Symbol.dispose]() {
      trainer[Symbol.dispose]();
      network[Symbol.dispose]();
    },
  };
}

const ways: Record<string, DecorrelatedOptions> = {
  "default": {},
  "not centred": { center: false },
  "blocks": { block: 7 },
  "few rows": { rows: 4 },
  "a share of the rows, every second step": { rows: 0.3, every: 2 },
  "precomputed": { first: "precompute" },
  "raw first layer": { first: "raw" },
  "drift-free": { form: "driftFree" },
};

for (const net of Object.keys(nets)) {
  for (const [name, options] of Object.entries(ways)) {
    Deno.test(`folding and ending a run keep the function: ${net}, ${name}`, async () => {
      using run = await underWay(net, options);
      const { features } = dataOf(net);
      const expected = await run.network.predict(features as Float32Array<ArrayBuffer>);
      using folded = run.network.fold();
      const found = await folded.predict(features as Float32Array<ArrayBuffer>);
      assertClose({ name: "folded", limit: 1e-11 }, found, expected);
      if (options.form !== "driftFree") {
        assertNotEquals(folded.read("0.weight"), run.network.read(options.first === "raw" ? "0.bias" : "0.weight"));
      }
      await inTemporaryFolder(async (folder) => {
        await run.network.save(`${folder}/plain.safetensors`);
        using loaded = await Network.load(`${folder}/plain.safetensors`);
        assertSameBits(bits(loaded), bits(folded), "saved");
      });
      run.trainer[Symbol.dispose]();
      assertSameBits(bits(run.network), bits(folded), "after the run");
      const after = await run.network.predict(features as Float32Array<ArrayBuffer>);
      assertClose({ name: "after", limit: 1e-11 }, after, expected);
    });

    Deno.test(`any number of threads gives the same bits: ${net}, ${name}`, async () => {
      for (const precision of ["f32", "f64"] as const) {
        const rule = decorrelated({ rate: 0.05, ...options });
        const one = await trained(net, { rule }, { precision });
        for (const threads of [2, 3]) {
          const found = await trained(net, { rule }, { precision, threads });
          assertSameBits(found.bits, one.bits, `${threads} threads, ${precision}`);
        }
      }
    });

    Deno.test(`a saved run goes on with the same bits: ${net}, ${name}`, async () => {
      using run = await underWay(net, options, { precision: "f32" });
      await inTemporaryFolder(async (folder) => {
        const path = `${folder}/run.safetensors`;
        await run.trainer.save(path);
        const checkpoint = await loadCheckpoint(path);
        using network = checkpoint.network;
        using trainer = await Trainer.resume(network, dataOf(net), checkpoint.run!);
        for (const one of [run.trainer, trainer]) await steps(one, 3);
        assertSameBits(bits(network), bits(run.network), "after 3 steps");
        for (const { name, group } of network.tensors()) {
          if (group === "rule") assertSameBits(numbers(network.read(name)), numbers(run.network.read(name)), name);
        }
      });
    });
  }
}
