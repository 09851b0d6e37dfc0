/** decorrelated: the laws of the rule inside a network, saving and resuming, and folding. */

import { assert, assertAlmostEquals, assertEquals, assertNotEquals, assertThrows } from "@std/assert";
import {
  adam,
  combine,
  ConfigError,
  conv2d,
  Dataset,
  decorrelated,
  type DecorrelatedOptions,
  dense,
  flatten,
  loadCheckpoint,
  meanSquaredError,
  memAop,
  Network,
  type Optimizer,
  relu,
  type Rule,
  sgd,
  tanh,
  train,
  Trainer,
  type TrainOptions,
} from "../../mod.ts";
import type { ParameterArray } from "../../src/network/layers.ts";
import { ruleByName } from "../../src/rules/mod.ts";
import { assertSameBits, bits, bitsOf, inTemporaryFolder, numbers, steps, table } from "../helpers.ts";
import { assertClose } from "../tolerance.ts";
import { at, BATCH, common, dataOf, type Machine, nets, networkOf } from "./decorrelated_helpers.ts";

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
Deno.test("one step is the paper's: z = R (x − μ), gradients with R at rest, then R by the local rule", async () => {
  const [size, kappa, rate] = [5, 0.2, 0.05];
  for (const [way, units] of [["two-stage", 40], ["fused", 3]] as const) {
    const rows_ = table(BATCH, { shape: [size], values: units });
    using network = Network.create({
      input: [size],
      layers: [dense(units)],
      loss: meanSquaredError(),
      precision: "f64",
      seed: 1,
    });
    const weights = () => at(network.read("0.weight"), size);
    const rule = decorrelated({ rate, kappa, every: 1, center: false, autoStep: false });
    const x = at(Float64Array.from(rows_.features as Float32Array), size);
    const targets = rows_.targets.kind === "values" ? at(rows_.targets.values as Float64Array, units) : () => 0;
    using data = await Dataset.create(rows_);
    const options = { rule, optimizer: sgd(0.1), batchSize: BATCH, epochs: 10, shuffle: false };
    using _trainer = await Trainer.create(network, data, options);
    let r: number[][] = Array.from({ length: size }, (_, i) => Array.from({ length: size }, (_, j) => i === j ? 1 : 0));
    let w = Array.from({ length: units }, (_, i) => Array.from({ length: size }, (_, j) => weights()(i, j)));
    let b = Array(units).fill(0) as number[];
    for (let step = 0; step < 3; step++) {
      await steps(network, data, 1);
      const rows = Array.from({ length: BATCH }, (_, row) => row);
      const z = rows.map((row) => r.map((line) => line.reduce((sum, value, j) => sum + value * x(row, j), 0)));
      const g = rows.map((row) =>
        w.map((line, i) => {
          const y = line.reduce((sum, value, j) => sum + value * z[row]![j]!, b[i]!);
          return 2 * (y - targets(row, i)) / units / BATCH;
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

/** R that moves fast, in every step unless the options say something else. */
function fast(options: DecorrelatedOptions, kappa?: number): Rule {
  const averaged = options.form === "newtonSchulz" || options.form === "cholesky";
  return decorrelated({
    every: 1,
    ...(!averaged && { rate: 0.05, ...(kappa !== undefined && { kappa }) }),
    ...options,
  });
}

/** A run in the middle, with R far from the identity. */
async function underWay(net: string, options: DecorrelatedOptions = {}, machine: Machine = {}) {
  const network = networkOf(net, machine);
  const rule = fast(options, 0.5);
  const data = await Dataset.create(dataOf(net));
  const trainer = await Trainer.create(network, data, { ...common, rule });
  await steps(network, data, 3);
  return {
    network,
    trainer,
    data,
    [Symbol.dispose]() {
      for (const one of [trainer, network, data]) one[Symbol.dispose]();
    },
  };
}

const ways: Record<string, DecorrelatedOptions> = {
  "default": {},
  "not centred": { center: false },
  "blocks": { block: 7 },
  "few rows": { rows: 4 },
  "a share of the rows, every second step": { rows: 0.3, every: 2 },
  "every third step": { every: 3 },
  "precomputed": { first: "precompute" },
  "axes": { first: "axes" },
  "axes in blocks, not stretched, not centred": { first: "axes", power: 0, block: 7, center: false },
  "raw first layer": { first: "raw" },
  "drift-free": { form: "driftFree" },
  "centred first layer": { first: "center" },
  "newtonSchulz": { form: "newtonSchulz" },
  "cholesky": { form: "cholesky" },
  "cholesky in blocks, few rows, not centred": { form: "cholesky", block: 7, rows: 6, center: false, ridge: 0.5 },
  "newtonSchulz in blocks, every second step": { form: "newtonSchulz", block: 5, every: 2, first: "center" },
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
        const same = options.first === "raw" || options.first === "center";
        assertNotEquals(folded.read("0.weight"), run.network.read(same ? "0.bias" : "0.weight"));
      }
      await inTemporaryFolder(async (folder) => {
        await run.network.save(`${folder}/plain.safetensors`);
        using loaded = await Network.load(`${folder}/plain.safetensors`);
        assertSameBits(bits(loaded), bits(folded), "saved");
        await run.trainer.save(`${folder}/run.safetensors`);
        using alone = await Network.load(`${folder}/run.safetensors`);
        assertSameBits(bits(alone), bits(folded), "loaded from the middle of the run");
      });
      run.trainer[Symbol.dispose]();
      assertSameBits(bits(run.network), bits(folded), "after the run");
      const after = await run.network.predict(features as Float32Array<ArrayBuffer>);
      assertClose({ name: "after", limit: 1e-11 }, after, expected);
    });

    Deno.test(`any number of threads gives the same bits: ${net}, ${name}`, async () => {
      for (const precision of ["f32", "f64"] as const) {
        const rule = fast(options);
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
        using trainer = await Trainer.resume(checkpoint, dataOf(net));
        const state = (of: Network) =>
          of.tensors().filter(({ group }) => group === "rule").map(({ name }) => of.read(name));
        assertSameBits(bitsOf(state(network)), bitsOf(state(run.network)), "state of the rule");
        for (const one of [run.trainer, trainer]) while (!(await one.epoch()).done);
        assertSameBits(bits(network), bits(run.network), "parameters in the end");
        assertSameBits(bitsOf(state(network)), bitsOf(state(run.network)), "state of the rule in the end");
      });
    });
  }
}

for (const net of Object.keys(nets)) {
  for (const [name, options] of Object.entries(ways).filter(([name]) => name !== "drift-free")) {
    Deno.test(`gradients are those of the loss with R at rest: ${net}, ${name}`, async () => {
      using network = networkOf(net);
      using data = await Dataset.create({ ...dataOf(net) });
      const rate = 0.01;
      // With this κ no unit is at its kink in the fifth step, where differences would see both sides.
      // Forms that follow an average move weights along with R: not in the fifth step.
      const rule = fast({ ...options, ...(options.form && { every: 3 }) }, 0.5);
      const run = { rule, optimizer: sgd(rate), batchSize: data.rows, epochs: 10, shuffle: false };
      using _trainer = await Trainer.create(network, data, run);
      await steps(network, data, 4);
      const loss = async () => (await network.evaluate(data)).loss;
      const parameters = [...network.parameters()];
      const expected = new Map<string, [number, number][]>();
      for (const [name, values] of parameters) {
        const found: [number, number][] = [];
        for (let index = 0; index < values.length; index += Math.ceil(values.length / 5)) {
          const moved = async (by: number) => {
            network.write(name, values.map((value, other) => other === index ? value + by : value) as typeof values);
            return await loss();
          };
          found.push([index, (await moved(1e-5) - await moved(-1e-5)) / 2e-5]);
        }
        network.write(name, values);
        expected.set(name, found);
      }
      await steps(network, data, 1);
      // In a step in which means move, biases take that up beside their gradient.
      const moves = !options.form && options.center !== false && options.every !== 3;
      for (const [name, before] of parameters.filter(([name]) => !(moves && name.endsWith(".bias")))) {
        const after = network.read(name);
        for (const [index, slope] of expected.get(name)!) {
          assertAlmostEquals((before[index]! - after[index]!) / rate, slope, 1e-7 * (1 + Math.abs(slope)), name);
        }
      }
    });
  }
}

Deno.test("biases take up what the means change by: a run whose weights stand still keeps its function", async () => {
  for (const options of [{}, { first: "center" }, { form: "cholesky" }] as const) {
    // Rates of R at 0 would keep the means still too: these are too small to show.
    const rate = "form" in options ? {} : { rate: 1e-12 };
    using network = networkOf("dense");
    using data = await Dataset.create(dataOf("dense"));
    const { features } = dataOf("dense");
    const rule = decorrelated({ ...options, ...rate, every: 1, rows: 4 });
    using _trainer = await Trainer.create(network, data, { ...common, rule, optimizer: sgd(1e-12) });
    // The first means of the network's input are taken as they come.
    await steps(network, data, 1);
    const before = await network.predict(features as Float32Array<ArrayBuffer>);
    await steps(network, data, 4);
    assert(network.read("rule.0.inputs.mean").some((mean) => Math.abs(mean) > 1e-3), "the means have moved");
    assertClose({ name: "outputs", limit: 1e-8 }, await network.predict(features as Float32Array<ArrayBuffer>), before);
  }
});

Deno.test("a network that has learnt something keeps its function when a run begins", async () => {
  for (const net of ["dense", "conv"]) {
    for (const first of ["learn", "precompute", "axes", "center", "raw"] as const) {
      for (const form of ["local", "driftFree", "cholesky"] as const) {
        using network = networkOf(net);
        const rows = dataOf(net);
        for await (const _ of train(network, rows, common));
        const features = rows.features as Float32Array<ArrayBuffer>;
        const before = await network.predict(features);
        using data = await Dataset.create(rows);
        // Rates of 0 would keep the means still too: this is too small to show.
        const rule = decorrelated({ form, first, every: 1, rows: 4, ...(form !== "cholesky" && { rate: 1e-13 }) });
        using _trainer = await Trainer.create(network, data, { ...common, rule, optimizer: sgd(1e-13) });
        const name = `${net}, ${first}, ${form}`;
        assertClose({ name, limit: 1e-9 }, await network.predict(features), before);
        await steps(network, data, 3);
        assertClose({ name: `${name}, three steps later`, limit: 1e-9 }, await network.predict(features), before);
      }
    }
  }
});

Deno.test("a convolution is a dense layer on its patches", async () => {
  const [shape, units] = [[3, 4, 2], 12];
  const rows = table(40, { shape, classes: units });
  const ends = [];
  for (const layer of ["conv", "dense"] as const) {
    using network = Network.create({
      input: shape,
      layers: layer === "conv" ? [conv2d(units, { kernel: [3, 4] }), flatten()] : [flatten(), dense(units)],
      precision: "f64",
      seed: 1,
    });
    // Convolutions show channels first, dense layers what lies in memory.
    const weight = numbers(24 * units, 5);
    const places = weight.map((_, at) => (at % 24 % 12) * 2 + Math.floor(at % 24 / 12) + Math.floor(at / 24) * 24);
    const name = layer === "conv" ? "0.weight" : "1.weight";
    network.write(name, layer === "conv" ? weight.map((_, at) => weight[places[at]!]!) : weight);
    using data = await Dataset.create(rows);
    // Defaults differ between convolutions and dense layers.
    const rule = decorrelated({ rate: 0.05, every: 1, kappa: 0.5, rows: 8 });
    using _trainer = await Trainer.create(network, data, { ...common, rule });
    await steps(network, data, 4);
    ends.push({
      way: (await network.describeRule())[0]!.slots.inputs.way,
      outputs: await network.predict(rows.features as Float32Array<ArrayBuffer>),
      s: network.read(`rule.${layer === "conv" ? 0 : 1}.inputs.s`),
    });
  }
  const [conv, plain] = ends;
  assertEquals([conv!.way, plain!.way], ["fused", "two-stage"]);
  assertClose({ name: "R", limit: 1e-11 }, conv!.s, plain!.s);
  assertClose({ name: "outputs", limit: 1e-11 }, conv!.outputs, plain!.outputs);
});

/** Plain weights after a step of a drift-free run, by sums: the gradient of each unit, times Rᵀ R. */
function stepped(
  weights: ParameterArray,
  gradient: ParameterArray,
  s: ParameterArray,
  { inputs, rate }: { inputs: number; rate: number },
): Float64Array {
  const [g, r] = [at(gradient, inputs), at(s, inputs)];
  const all = Array.from({ length: inputs }, (_, index) => index);
  const p = all.map((i) => all.map((j) => all.reduce((sum, k) => sum + r(i, k) * r(j, k), 0)));
  return Float64Array.from(weights, (value, index) => {
    const [unit, input] = [Math.floor(index / inputs), index % inputs];
    return value - rate * all.reduce((sum, k) => sum + g(unit, k) * p[k]![input]!, 0);
  });
}

Deno.test("drift-free with a first layer that was found before the run: a step moves plain weights by the gradient times Rᵀ R", async () => {
  for (const first of ["precompute", "axes"] as const) {
    using network = networkOf("dense");
    const rows = dataOf("dense");
    using data = await Dataset.create(rows);
    const before = await network.gradients(data);
    const weight = network.read("0.weight");
    const rate = 1e-3;
    const rule = decorrelated({ form: "driftFree", first, rate: 0 });
    const options = { ...common, rule, optimizer: sgd(rate), batchSize: rows.rows };
    using _trainer = await Trainer.create(network, data, options);
    const s = network.read("rule.0.inputs.s");
    await steps(network, data, 1);
    assertEquals(weight.length, 40 * 24);
    const expected = stepped(weight, before.gradients.get("0.weight")!, s, { inputs: 24, rate });
    assertClose({ name: `weights, ${first}`, limit: 1e-11 }, network.read("0.weight"), expected);
  }
});

Deno.test("drift-free: the function moves by the gradient times Rᵀ R, and not by R", async () => {
  const rows = table(BATCH, { shape: [6], values: 2 });
  const options = { optimizer: sgd(0.1), batchSize: BATCH, epochs: 9, shuffle: false };
  using network = Network.create({ input: [6], layers: [dense(2)], loss: meanSquaredError(), precision: "f64" });
  using data = await Dataset.create(rows);
  const rule = decorrelated({ form: "driftFree", rate: 0.1, center: false });
  using _trainer = await Trainer.create(network, data, { ...options, rule });
  await steps(network, data, 3);
  const [before, s] = [network.read("0.weight"), network.read("rule.0.inputs.s")];
  const { gradients } = await network.gradients(data);
  await steps(network, data, 1);
  const expected = stepped(before, gradients.get("0.weight")!, s, { inputs: 6, rate: 0.1 });
  assertClose({ name: "weights", limit: 1e-12 }, network.read("0.weight"), expected);
});

for (const form of ["newtonSchulz", "cholesky"] as const) {
  Deno.test(`${form}: R is that of the averaged covariance, whose state is saved`, async () => {
    const [size, units, ridge] = [6, 3, 0.25];
    const rows = table(BATCH, { shape: [size], values: units });
    using network = Network.create({
      input: [size],
      layers: [dense(units)],
      loss: meanSquaredError(),
      precision: "f64",
    });
    using data = await Dataset.create(rows);
    const options = { optimizer: sgd(0.1), batchSize: BATCH, epochs: 9, shuffle: false };
    using _trainer = await Trainer.create(network, data, { ...options, rule: decorrelated({ form, ridge, every: 1 }) });
    await steps(network, data, 1);
    const x = at(Float64Array.from(rows.features as Float32Array), size);
    const each = Array.from({ length: size }, (_, i) => i);
    const sum = (of: (row: number) => number) =>
      Array.from({ length: BATCH }, (_, row) => of(row)).reduce((a, b) => a + b) / BATCH;
    const mean = each.map((i) => sum((row) => x(row, i)));
    const sigma = each.map((i) => each.map((j) => sum((row) => (x(row, i) - mean[i]!) * (x(row, j) - mean[j]!))));
    assertClose({ name: "mean", limit: 1e-12 }, network.read("rule.0.inputs.mean"), Float64Array.from(mean));
    assertClose({ name: "Σ", limit: 1e-12 }, network.read("rule.0.inputs.covariance"), Float64Array.from(sigma.flat()));
    const variance = each.reduce((total, i) => total + sigma[i]![i]! / size, 0);
    // The first change has ten covariances' worth of the identity beside it.
    const a = sigma.map((line, i) => line.map((value, j) => i === j ? value + (ridge + 10) * variance : value));
    const s = at(network.read("rule.0.inputs.s"), size);
    if (form === "cholesky") {
      const c = each.map((i) =>
        each.map((j) => each.reduce((t, k) => t + each.reduce((u, l) => u + s(k, i) * a[k]![l]! * s(l, j), 0), 0))
      );
      const identity = each.flatMap((i) => each.map((j) => Number(i === j)));
      assertClose({ name: "Sᵀ A S", limit: 1e-11 }, Float64Array.from(c.flat()), Float64Array.from(identity));
      for (const i of each) for (const j of each.slice(0, i)) assertEquals(s(i, j), 0);
    } else {
      const [layer] = await network.describeRule();
      const rate = layer!.slots.inputs.rate as number;
      assert(rate > 0 && rate < 1, "far from the identity the step is shortened");
      const expected = each.flatMap((i) => each.map((j) => Number(i === j) * (1 + rate / 2) - rate / 2 * a[i]![j]!));
      assertClose({ name: "S", limit: 1e-12 }, network.read("rule.0.inputs.s"), Float64Array.from(expected));
    }
  });

  for (const net of Object.keys(nets)) {
    for (const clipped of [false, true]) {
      Deno.test(`${form}: weights take up what R changes: ${net}${clipped ? ", clipped" : ""}`, async () => {
        using network = networkOf(net);
        const rows = dataOf(net);
        const features = rows.features as Float32Array<ArrayBuffer>;
        using data = await Dataset.create(rows);
        const before = await network.predict(features);
        const rule = decorrelated({ form, every: 1, ridge: 0.1 });
        const options = { ...common, rule, optimizer: sgd(1e-30), epochs: 20, ...(clipped && { clipNorm: 0.1 }) };
        using _trainer = await Trainer.create(network, data, options);
        const [raw] = await network.inputStatistics(data);
        await steps(network, data, 60);
        assertClose({ name: "outputs", limit: 1e-9 }, await network.predict(features), before);
        const [white] = await network.inputStatistics(data);
        assert(Math.abs(white!.variance - 1) < Math.abs(raw!.variance - 1), `${raw!.variance} → ${white!.variance}`);
        assert(white!.loss < 0.5 * raw!.loss, `${raw!.loss} → ${white!.loss}`);
      });
    }
  }
}

Deno.test("a centred first layer is a layer of centred rows, at no R", async () => {
  const rows = table(60, { shape: [8], classes: 3 });
  const features = rows.features as Float32Array;
  // Means that the running ones have found exactly: every batch is the whole.
  const mean = Array.from(
    { length: 8 },
    (_, i) => features.filter((_, at) => at % 8 === i).reduce((a, b) => a + b) / 60,
  );
  const centred = { ...rows, features: features.map((value, at) => value - mean[at % 8]!) };
  const ends = [];
  for (
    const [data, rule] of [[rows, decorrelated({ layers: ["0"], first: "center", every: 1 })], [
      centred,
      undefined,
    ]] as const
  ) {
    using network = Network.create({ input: [8], layers: [dense(20), tanh(), dense(3)], precision: "f64", seed: 3 });
    using loaded = await Dataset.create(data);
    const options = { ...(rule && { rule }), optimizer: sgd(0.1), batchSize: 60, epochs: 30, shuffle: false };
    using _trainer = await Trainer.create(network, loaded, options);
    if (rule) {
      // The first step sees raw rows; from there on both are the same.
      const first = network.parameters();
      await steps(network, loaded, 1);
      for (const [name, values] of first) network.write(name, values);
    } else {
      await steps(network, loaded, 1);
      using again = Network.create({ input: [8], layers: [dense(20), tanh(), dense(3)], precision: "f64", seed: 3 });
      for (const [name, values] of again.parameters()) network.write(name, values);
    }
    await steps(network, loaded, 20);
    ends.push(network.parameters());
    if (rule) {
      const [layer] = await network.describeRule();
      assertEquals(layer!.slots.inputs.way, "centred");
      assertEquals(network.tensors().filter(({ name }) => name.endsWith("inputs.s")), []);
    }
  }
  const [own, plain] = ends;
  for (const [name, values] of plain!) assertClose({ name, limit: 1e-6 }, own!.get(name)!, values);
});

Deno.test("a matrix that has to begin anew is warned of, once for each layer", async () => {
  using network = Network.create({ input: [6], layers: [dense(5), relu(), dense(3)], seed: 2 });
  const rows = table(40, { shape: [6], classes: 3 });
  const rule = decorrelated({ rate: 1e39, autoStep: false, every: 1 });
  const found = [];
  for await (
    const { warnings = [] } of train(network, rows, { rule, epochs: 3, batchSize: 10, optimizer: adam(1e-3) })
  ) {
    found.push(warnings);
  }
  const text =
    "the decorrelation matrix was not finite 4 times and began anew as the identity; try a smaller rate, or autoStep";
  assertEquals(found, [[`layer 0 (dense): ${text}`, `layer 2 (dense): ${text}`], [], []]);
});

for (
  const [name, options] of Object.entries(
    {
      "precomputed": { first: "precompute", ridge: 0.1 },
      "in principal axes": { first: "axes" },
    } as const,
  )
) {
  Deno.test(`a first layer ${name} sees inputs without correlations, and takes no step`, () => seesNone(options));
}

async function seesNone(options: DecorrelatedOptions): Promise<void> {
  const size = 12;
  const rows = table(1500, { shape: [size], classes: 3 });
  const features = rows.features as Float32Array;
  for (let at = 0; at < features.length; at++) {
    if (at % size > 0) features[at] = features[at]! * 0.5 + features[at - 1]!;
  }
  using network = Network.create({ input: [size], layers: [dense(20), relu(), dense(3)], precision: "f64", seed: 2 });
  using data = await Dataset.create(rows);
  const [before] = await network.inputStatistics(data);
  const rule = decorrelated(options);
  using _trainer = await Trainer.create(network, data, { rule, batchSize: 50, optimizer: adam(1e-3) });
  const s = network.read("rule.0.inputs.s");
  const [after] = await network.inputStatistics(data);
  assert(before!.correlation > 0.5 && after!.correlation < 0.2, `${before!.correlation} → ${after!.correlation}`);
  if (options.first === "axes") assert(after!.correlation < 1e-12, "there are none along principal axes");
  else assert(after!.loss < before!.loss);
  await steps(network, data, 20);
  assertEquals(network.read("rule.0.inputs.s"), s);
  assertEquals((await network.describeRule())[0]!.slots.inputs.precomputed, true);
}

Deno.test("the power of principal axes is 0.375 by default, and makes a difference", async () => {
  for (const net of ["dense", "conv"]) {
    const after = async (more: DecorrelatedOptions = {}) =>
      (await trained(net, { rule: decorrelated({ first: "axes", layers: ["0"], ...more }) })).bits;
    assertSameBits(await after(), await after({ power: 0.375 }), net);
    assertNotEquals(await after({ power: 0 }), await after());
  }
});

Deno.test("correlations fall while a network learns", async () => {
  const rows = table(2000, { shape: [16], classes: 4 });
  const features = rows.features as Float32Array;
  for (let at = 0; at < features.length; at++) if (at % 16 > 0) features[at] = features[at]! + 0.7 * features[at - 1]!;
  const found = [];
  for (const rule of [undefined, decorrelated({ rate: 0.02 })]) {
    using network = Network.create({ input: [16], layers: [dense(24), relu(), dense(4)], seed: 2 });
    using data = await Dataset.create(rows);
    using trainer = await Trainer.create(network, data, { ...(rule && { rule }), batchSize: 50, epochs: 5 });
    while (!(await trainer.epoch()).done);
    found.push(await network.inputStatistics(data));
  }
  const [plain, other] = found;
  for (const [index, { correlation, rows, inputs }] of plain!.entries()) {
    assertEquals([rows, inputs], [2000, [16, 24][index]]);
    assert(other![index]!.correlation < 0.5 * correlation, `${correlation} → ${other![index]!.correlation}`);
  }
});

Deno.test("inputStatistics() counts what plain sums count", async () => {
  const [count, size] = [300, 5];
  const rows = table(count, { shape: [size], classes: 2 });
  using network = Network.create({ input: [size], layers: [dense(2)], precision: "f64" });
  const [found] = await network.inputStatistics(rows);
  const x = at(Float64Array.from(rows.features as Float32Array), size);
  const sum = (of: (row: number) => number) =>
    Array.from({ length: count }, (_, row) => of(row)).reduce((a, b) => a + b);
  const mean = (i: number) => sum((row) => x(row, i)) / count;
  const moment = (i: number, j: number) => sum((row) => x(row, i) * x(row, j)) / count;
  const covariance = (i: number, j: number) => moment(i, j) - mean(i) * mean(j);
  let [correlation, loss] = [0, 0];
  for (let i = 0; i < size; i++) {
    for (let j = 0; j < size; j++) {
      loss += 0.5 * (moment(i, j) - (i === j ? 1 : 0)) ** 2 / size ** 2;
      if (j < i) correlation += Math.abs(covariance(i, j)) / Math.sqrt(covariance(i, i) * covariance(j, j)) / 10;
    }
  }
  assertAlmostEquals(found!.correlation, correlation, 1e-10);
  assertAlmostEquals(found!.loss, loss, 1e-10);
});

Deno.test("beside memAop() the products are those of the decorrelated inputs", async () => {
  const exact = memAop({ minSize: 0, exactOutput: false, k: BATCH, memory: false, center: false, policy: "topK" });
  for (const net of Object.keys(nets)) {
    const alone = await trained(net, { rule: decorrelated({ rate: 0.05 }) });
    const both = await trained(net, { rule: combine(decorrelated({ rate: 0.05 }), exact) });
    for (const [parameter, values] of alone.parameters) {
      assertClose({ name: `${net} ${parameter}`, limit: 1e-10 }, both.parameters.get(parameter)!, values);
    }
    const half = combine(decorrelated({ rate: 0.05 }), memAop({ minSize: 0, exactOutput: false, k: BATCH / 2 }));
    const one = await trained(net, { rule: half });
    assertNotEquals(one.bits, alone.bits);
    assertSameBits((await trained(net, { rule: half }, { threads: 2 })).bits, one.bits, "2 threads");
  }
});

Deno.test("defaults: R of a network with convolutions moves in every step, that of others in every fourth; κ is by kind of layer", async () => {
  const after = async (net: string, options: DecorrelatedOptions = {}) =>
    (await trained(net, { rule: decorrelated({ rate: 0.05, ...options }) })).bits;
  assertSameBits(await after("dense", { every: 4, kappa: 0.5 }), await after("dense"), "dense");
  assertSameBits(await after("conv", { every: 1 }), await after("conv"), "conv");
  // Of two convolutions and a dense layer, neither κ is that of all.
  for (const kappa of [0.1, 0.5]) assertNotEquals(await after("conv", { kappa }), await after("conv"));
  const convolutions = { layers: ["0", "3"] };
  assertSameBits(
    await after("conv", { ...convolutions, kappa: 0.1 }),
    await after("conv", convolutions),
    "convolutions",
  );
});

Deno.test("the ridge is 10 by default in dense layers that read the network's input, 0.1 in others", async () => {
  for (const options of [{ form: "cholesky" }, { first: "precompute" }] as const) {
    for (const [net, layer, ridge] of [["dense", "0", 10], ["dense", "2", 0.1], ["conv", "0", 0.1]] as const) {
      // What is precomputed is the first layer.
      if ("first" in options && layer === "2") continue;
      const after = async (more: DecorrelatedOptions = {}) =>
        (await trained(net, { rule: decorrelated({ ...options, layers: [layer], ...more }) })).bits;
      assertSameBits(await after(), await after({ ridge }), `${net} ${layer}`);
      assertNotEquals(await after({ ridge: 1 }), await after());
    }
  }
});

Deno.test("decorrelated.paper() has the published settings", () => {
  const { inputs } = decorrelated.paper().slots;
  assertEquals([inputs!.rate, inputs!.kappa, inputs!.rows, inputs!.center, inputs!.autoStep], [
    1e-4,
    0.01,
    0.1,
    false,
    null,
  ]);
  assertEquals(ruleByName("decorrelated", { decorrelated: { paper: true } }), decorrelated.paper());
  assertThrows(
    () => ruleByName("decorrelated", { decorrelated: { paper: true, rate: 1 } }),
    ConfigError,
    "unknown option",
  );
});
