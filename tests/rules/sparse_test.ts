/** Sparse back-propagation: identities, masks and their schedules, state, composition, refusals. */

import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import {
  adam,
  backprop,
  CheckpointError,
  combine,
  ConfigError,
  Dataset,
  dense,
  EngineError,
  type Layer,
  loadCheckpoint,
  memAop,
  Network,
  relu,
  type Rule,
  sgd,
  sparse,
  type SparseOptions,
  tanh,
  train,
  Trainer,
  type TrainOptions,
} from "../../mod.ts";
import {
  sparseConv2d,
  sparseConv2dBackward,
  SparseMap,
  type SparseMapOptions,
  spmm,
  spmmBackward,
} from "../../src/kernels.ts";
import { ruleByName } from "../../src/rules/mod.ts";
import { decodeSafetensors } from "../../src/run/safetensors.ts";
import { assertSameBits, bits, inTemporaryFolder, numbers, scramble, steps, table } from "../helpers.ts";
import { assertClose, DIFFERENCE_STEP, tolerance } from "../tolerance.ts";

const LAYERS: Layer[] = [dense(30), relu(), dense(25), tanh(), dense(20), dense(4)];

/** Layers of {@linkcode LAYERS} that the rule makes sparse by default. */
const SPARSE = ["0", "2", "4"];

interface Making {
  readonly precision?: "f32" | "f64";
  readonly threads?: number;
  readonly layers?: Layer[];
}

function make({ precision = "f64", threads = 1, layers = LAYERS }: Making = {}): Network {
  const network = Network.create({ input: [12], layers, precision, threads, seed: 3 });
  scramble(network, 5);
  return network;
}

const rows = table(37, { shape: [12], classes: 4 });

/** Trains some steps: 5 make an epoch, the last of them with a single row. `seen` looks at the network after each. */
async function run(
  network: Network,
  count: number,
  options: TrainOptions,
  seen: (step: number) => void | Promise<void> = () => {},
): Promise<void> {
  using data = await Dataset.create(rows);
  using _trainer = await Trainer.create(network, data, { batchSize: 9, epochs: 20, seed: 7, ...options });
  for (let step = 1; step <= count; step++) {
    await steps(network, data, 1);
    await seen(step);
  }
}

const ones = (mask: Uint8Array) => mask.reduce((sum, bit) => sum + bit, 0);

const masksOf = (network: Network) => SPARSE.map((layer) => network.mask(layer));

/** A random mask, some of whose rows and columns are empty. */
function raggedMask(outputs: number, inputs: number, seed: number): Uint8Array<ArrayBuffer> {
  const random = numbers(outputs * inputs, seed);
  return Uint8Array.from(random, (x, i) => i % inputs === 3 || Math.floor(i / inputs) === 2 ? 0 : x > 0.4 ? 1 : 0);
}

Deno.test("sparsity 0 is back-propagation", async () => {
  for (const [name, optimizer] of Object.entries({ momentum: sgd(0.1, { momentum: 0.9 }), adam: adam(0.01) })) {
    for (const clip of [{}, { clipNorm: 0.3 }]) {
      using plain = make();
      using masked = make();
      await run(plain, 12, { optimizer, ...clip });
      await run(masked, 12, { optimizer, ...clip, rule: sparse({ sparsity: 0, layers: ["0", "2", "4", "5"] }) });
      assert((await masked.masks()).every((mask) => mask.sparse && mask.nonZeros === mask.weights));
      for (const [parameter, values] of plain.parameters()) {
        assertClose({ name: `${name} ${parameter}`, limit: 1e-11 }, masked.read(parameter), values);
      }
    }
  }
});

Deno.test("a sparse layer computes what a dense one with the same zeros does, and has gradients at its mask only", async () => {
  for (const precision of ["f64", "f32"] as const) {
    for (const count of [1, 37]) {
      using reference = make({ precision });
      using masked = make({ precision });
      for (const [i, [layer, outputs, inputs]] of ([["0", 30, 12], ["2", 25, 30], ["4", 20, 25]] as const).entries()) {
        const mask = raggedMask(outputs, inputs, i);
        masked.setMask(layer, mask);
        const weights = reference.read(`${layer}.weight`);
        reference.write(`${layer}.weight`, weights.map((weight, at) => weight * mask[at]!));
        assertEquals(masked.mask(layer), mask);
      }
      for (const [name, values] of reference.parameters()) assertEquals(masked.read(name), values, name);
      const batch = table(count, { shape: [12], classes: 4 });
      const limit = precision === "f64" ? 1e-12 : 1e-5;
      assertClose({ name: "predictions", limit }, await masked.predict(batch), await reference.predict(batch));
      const [found, expected] = [await masked.gradients(batch), await reference.gradients(batch)];
      for (const [name, gradient] of expected.gradients) {
        const layer = name.replace(".weight", "");
        const mask = name.endsWith(".weight") ? masked.mask(layer) : undefined;
        const wanted = gradient.map((value, at) => value * (mask?.[at] ?? 1));
        assertClose({ name: `${precision} ${name}`, limit }, found.gradients.get(name)!, wanted);
        if (mask) assert(found.gradients.get(name)!.every((value, at) => mask[at] === 1 || value === 0), name);
      }
    }
  }
});

Deno.test("gradients are the differences of the loss", async () => {
  using network = make({ layers: [dense(9), tanh(), dense(8), dense(4)] });
  await network.sparsify({ sparsity: 0.6, layers: ["0", "2", "3"] });
  const { gradients } = await network.gradients(rows);
  for (const [name, gradient] of gradients) {
    const values = network.read(name);
    const mask = name.endsWith(".weight") ? network.mask(name.replace(".weight", "")) : undefined;
    const differences = new Float64Array(values.length);
    for (let at = 0; at < values.length; at++) {
      if (mask?.[at] === 0) continue;
      const loss = async (shift: number) => {
        network.write(name, values.with(at, values[at]! + shift));
        return (await network.evaluate(rows)).loss;
      };
      differences[at] = (await loss(DIFFERENCE_STEP) - await loss(-DIFFERENCE_STEP)) / (2 * DIFFERENCE_STEP);
    }
    network.write(name, values);
    assertClose({ name, limit: tolerance.differences.f64 }, gradient, differences);
  }
});

Deno.test("gradients under a rule leave the network as it was", async () => {
  using network = make();
  const before = bits(network);
  const { gradients } = await network.gradients(rows, { rule: sparse({ sparsity: 0.8 }) });
  assert(gradients.get("2.weight")!.filter((value) => value === 0).length >= 0.8 * 750);
  assertSameBits(bits(network), before, "parameters");
  assert((await network.masks()).every((mask) => !mask.sparse));
});

Deno.test("static masks have the asked counts and stay", async () => {
  using network = make({ precision: "f32" });
  let first: Uint8Array[] | undefined;
  await run(network, 7, { rule: sparse({ sparsity: 0.9 }) }, () => {
    first ??= masksOf(network);
    assertEquals(masksOf(network), first);
  });
  assertEquals(first!.map(ones), [36, 75, 50]);
  const [, , , last] = await network.masks();
  assertEquals([last!.sparse, last!.nonZeros], [false, 80]);
  for (const layer of SPARSE) {
    const [mask, weights] = [network.mask(layer), network.read(`${layer}.weight`)];
    assert(weights.every((weight, at) => mask[at] === 1 || weight === 0));
  }
});

Deno.test("a random mask scales what it leaves", async () => {
  using network = make();
  const before = network.read("0.weight");
  await run(network, 1, { rule: sparse({ sparsity: 0.75, layers: ["0"] }), optimizer: sgd(1e-12) });
  const mask = network.mask("0");
  const expected = before.map((weight, at) => weight * 2 * mask[at]!);
  assertClose({ name: "weights", limit: 1e-9 }, network.read("0.weight"), expected);
});

Deno.test("erk gives small layers more, with the same total", async () => {
  using network = make();
  await run(network, 1, { rule: sparse({ sparsity: 0.8, distribution: "erk" }) });
  const masks = (await network.masks()).filter((mask) => mask.sparse);
  const total = masks.reduce((sum, mask) => sum + mask.nonZeros, 0);
  assert(Math.abs(total - 0.2 * 1610) <= 2, String(total));
  assert(masks[0]!.sparsity < masks[1]!.sparsity);
});

Deno.test("gradual pruning ends at the asked sparsity and never grows", async () => {
  using network = make();
  const counts: number[] = [];
  const rule = sparse({ sparsity: 0.9, schedule: "gmp", initialSparsity: 0.2, begin: 0.1, end: 0.5, every: 4 });
  let before = network.mask("2");
  await run(network, 60, { rule }, () => {
    const now = network.mask("2");
    assert(now.every((bit, at) => bit <= before[at]!), "nothing grows");
    before = now;
    counts.push(ones(now));
  });
  assertEquals([counts[0], counts[9], counts.at(-1)], [600, 600, 75]);
  const at = (step: number) => Math.round((1 - (0.9 + (0.2 - 0.9) * (1 - (step - 10) / 40) ** 3)) * 750);
  assertEquals([counts[14], counts[18], counts[30]], [at(14), at(18), at(30)]);
});

Deno.test("rigl and set exchange as many weights as they drop: the smallest", async () => {
  for (const schedule of ["rigl", "set"] as const) {
    using network = make();
    const rule = sparse({ sparsity: 0.8, schedule, every: 6, end: 1, dropFraction: 0.4 });
    let before = { mask: new Uint8Array(), weights: network.read("2.weight"), momentum: new Float64Array() };
    await run(network, 14, { rule, optimizer: sgd(0.05, { momentum: 0.9 }) }, (step) => {
      const now = {
        mask: network.mask("2"),
        weights: network.read("2.weight"),
        momentum: network.read("optimizer.first.2.weight") as Float64Array<ArrayBuffer>,
      };
      assertEquals(ones(now.mask), 150, `${schedule} step ${step}`);
      // The change is made in the step after 6 and 12 steps.
      if (step === 7 || step === 13) {
        const grown = [...now.mask.keys()].filter((at) => now.mask[at] === 1 && before.mask[at] === 0);
        const dropped = [...now.mask.keys()].filter((at) => now.mask[at] === 0 && before.mask[at] === 1);
        const share = 0.2 * (1 + Math.cos(Math.PI * (step - 1) / 99));
        assertEquals([grown.length, dropped.length], [Math.round(share * 150), Math.round(share * 150)], schedule);
        const most = Math.max(...dropped.map((at) => Math.abs(before.weights[at]!)));
        const kept = [...now.mask.keys()].filter((at) => now.mask[at] === 1 && before.mask[at] === 1);
        assert(kept.every((at) => Math.abs(before.weights[at]!) >= most), `${schedule}: the smallest go`);
        if (schedule === "rigl") {
          assert(grown.every((at) => now.weights[at] === 0 && now.momentum[at] === 0), "grown weights start at 0");
          assert(kept.every((at) => now.weights[at] === before.weights[at]), "no step in the weights");
        }
      } else if (step > 1) {
        assertEquals(now.mask, before.mask);
      }
      before = now;
    });
  }
});

Deno.test("set grows weights of 0 without momentum", async () => {
  const batch = table(9, { shape: [12], classes: 4 });
  using network = make();
  using reference = make();
  using data = await Dataset.create(batch);
  const rule = sparse({ sparsity: 0.8, schedule: "set", every: 3, end: 1 });
  const optimizer = sgd(0.05, { momentum: 0.9 });
  using _trainer = await Trainer.create(network, data, { batchSize: 9, epochs: 30, rule, optimizer });
  await steps(network, data, 3);
  for (const [name, values] of network.parameters()) reference.write(name, values);
  const before = masksOf(network);
  await steps(network, data, 1);
  const after = masksOf(network);
  // A mask that adds a weight to a dense layer's zeros adds one of 0.
  for (const [i, layer] of SPARSE.entries()) reference.setMask(layer, after[i]!);
  const { gradients } = await reference.gradients(batch);
  for (const [i, layer] of SPARSE.entries()) {
    const grown = [...after[i]!.keys()].filter((at) => after[i]![at] === 1 && before[i]![at] === 0);
    assert(grown.length > 0);
    const [weights, momentum] = [network.read(`${layer}.weight`), network.read(`optimizer.first.${layer}.weight`)];
    const gradient = grown.map((at) => gradients.get(`${layer}.weight`)![at]!);
    assertClose({ name: `momentum of ${layer}`, limit: 1e-11 }, grown.map((at) => momentum[at]!), gradient);
    const step = gradient.map((value) => -0.05 * value);
    assertClose({ name: `weights of ${layer}`, limit: 1e-11 }, grown.map((at) => weights[at]!), step);
  }
});

Deno.test("rigl grows the weights with the largest gradients", async () => {
  for (const clip of [{}, { clipNorm: 10 }]) {
    using network = make();
    using dense = make();
    using data = await Dataset.create(table(9, { shape: [12], classes: 4 }));
    const rule = sparse({ sparsity: 0.8, schedule: "rigl", every: 3, end: 1 });
    using _trainer = await Trainer.create(network, data, {
      batchSize: 9,
      epochs: 30,
      rule,
      optimizer: adam(0.01),
      ...clip,
    });
    await steps(network, data, 3);
    for (const [name, values] of network.parameters()) dense.write(name, values);
    const before = masksOf(network);
    const { gradients } = await dense.gradients(table(9, { shape: [12], classes: 4 }));
    await steps(network, data, 1);
    for (const [i, layer] of SPARSE.entries()) {
      const [old, now] = [before[i]!, network.mask(layer)];
      const steepness = gradients.get(`${layer}.weight`)!.map(Math.abs);
      const places = [...old.keys()].filter((at) => old[at] === 0).sort((a, b) => steepness[b]! - steepness[a]!);
      const grown = places.filter((at) => now[at] === 1);
      assert(grown.length > 0);
      assertEquals(new Set(grown), new Set(places.slice(0, grown.length)), `layer ${layer}`);
      assert(grown.every((at) => network.read(`${layer}.weight`)[at] === 0));
    }
  }
});

Deno.test("acdc takes turns and ends sparse", async () => {
  using network = make();
  const counts: number[] = [];
  const rule = sparse({ sparsity: 0.9, schedule: "acdc", begin: 0.1, end: 0.7, every: 20 });
  await run(network, 100, { rule, optimizer: adam(0.01) }, () => void counts.push(ones(network.mask("2"))));
  const runs = counts.flatMap((count, step) => count === counts[step - 1] ? [] : [[step, count]]);
  assertEquals(runs, [[0, 750], [10, 75], [30, 750], [50, 75]]);
});

Deno.test("one, two and three threads give the same bits, under every schedule", async () => {
  // Large enough for a step to be shared.
  const layers = [dense(900), relu(), dense(600), relu(), dense(4)];
  for (const schedule of ["static", "gmp", "rigl", "set", "acdc"] as const) {
    const timing = schedule === "static" ? {} : { every: 3, begin: 0, end: 1 };
    const found: string[] = [];
    for (const threads of [1, 2, 3]) {
      using network = make({ precision: "f32", threads, layers });
      await run(network, 8, { rule: sparse({ sparsity: 0.7, schedule, ...timing }), optimizer: adam(0.01) });
      found.push(bits(network));
    }
    assertSameBits(found[1]!, found[0]!, `${schedule}, 2 threads`);
    assertSameBits(found[2]!, found[0]!, `${schedule}, 3 threads`);
  }
});

Deno.test("a run saved and resumed goes on with the same bits across changes of masks", async () => {
  for (const schedule of ["static", "gmp", "rigl", "set", "acdc"] as const) {
    await inTemporaryFolder(async (folder) => {
      const timing = schedule === "static" ? {} : { every: 3, begin: 0, end: 1 };
      const rule = sparse({ sparsity: 0.8, schedule, ...timing, auto: schedule === "acdc" });
      const options: TrainOptions = { rule, optimizer: adam(0.01), batchSize: 9, epochs: 5, seed: 2 };
      using data = await Dataset.create(rows);
      for (const at of [4, 7, 9]) {
        using network = make({ precision: "f32" });
        using trainer = await Trainer.create(network, data, options);
        await steps(network, data, at);
        await trainer.save(`${folder}/run.safetensors`);
        await steps(network, data, 10);
        const checkpoint = await loadCheckpoint(`${folder}/run.safetensors`);
        using again = checkpoint.network;
        using _resumed = await Trainer.resume(checkpoint, data);
        await steps(again, data, 10);
        assertSameBits(bits(again), bits(network), `${schedule} from step ${at}`);
        assertEquals(masksOf(again), masksOf(network));
      }
    });
  }
});

Deno.test("sparsify keeps the largest weights, the zeros, or random ones; densify takes masks away", async () => {
  using network = make();
  const weights = network.read("2.weight");
  const table = await network.sparsify({ sparsity: 0.9, layers: ["2"] });
  assertEquals(table.map((mask) => mask.nonZeros), [360, 75, 500, 80]);
  const mask = network.mask("2");
  const smallest = Math.min(...weights.filter((_, at) => mask[at] === 1).map(Math.abs));
  assert(weights.every((weight, at) => mask[at] === 1 || Math.abs(weight) <= smallest));
  await network.sparsify({ sparsity: 0.95, layers: ["2"] });
  assert(network.mask("2").every((bit, at) => bit <= mask[at]!), "a second time takes from what is left");
  const left = network.read("2.weight");
  assert((await network.densify()).every((mask) => !mask.sparse));
  assertEquals(network.read("2.weight"), left);
  assertEquals((await network.sparsify({ by: "zeros", minSparsity: 0.5 })).map((mask) => mask.sparse), [
    false,
    true,
    false,
    false,
  ]);
  assertEquals(network.read("2.weight"), left);
  await network.sparsify({ by: "random", sparsity: 0.5, seed: 4 });
  assertEquals((await network.masks()).map((mask) => mask.nonZeros), [180, 375, 250, 80]);
});

Deno.test("a network with masks trains at its masks under back-propagation", async () => {
  using network = make();
  await network.sparsify({ sparsity: 0.8 });
  const masks = masksOf(network);
  const before = network.read("2.weight");
  await run(network, 6, { optimizer: adam(0.01) });
  assertEquals(masksOf(network), masks);
  const after = network.read("2.weight");
  assert(after.every((weight, at) => masks[1]![at] === 1 || weight === 0));
  assert(after.some((weight, at) => weight !== before[at]));
});

Deno.test("a sparse network survives its file, dense with zeros and compact", async () => {
  await inTemporaryFolder(async (folder) => {
    using network = Network.create({ input: [64], layers: [dense(200), relu(), dense(200), relu(), dense(4)] });
    await network.sparsify({ sparsity: 0.95 });
    // A weight that is 0 under the mask is still there afterwards.
    const [mask, weights] = [network.mask("2"), network.read("2.weight")];
    network.write("2.weight", weights.with(mask.indexOf(1), 0));
    const sizes = [];
    for (const compact of [false, true]) {
      const file = `${folder}/${compact}.safetensors`;
      await network.save(file, { compact });
      using again = await Network.load(file);
      assertSameBits(bits(again), bits(network), `compact ${compact}`);
      assertEquals(["0", "2"].map((layer) => again.mask(layer)), ["0", "2"].map((layer) => network.mask(layer)));
      sizes.push((await Deno.stat(file)).size);
    }
    assert(sizes[1]! < 0.15 * sizes[0]!, String(sizes));
    const { tensors } = decodeSafetensors(Deno.readFileSync(`${folder}/false.safetensors`), "a file");
    assertEquals(tensors.get("2.weight")!.shape, [200, 200]);
    // A file that lies.
    const bytes = Deno.readFileSync(`${folder}/true.safetensors`);
    const name = new TextEncoder().encode("2.weight.bits");
    const place = bytes.findIndex((_, at) => name.every((byte, i) => bytes[at + i] === byte));
    Deno.writeFileSync(`${folder}/lie.safetensors`, bytes.with(place, "9".charCodeAt(0)));
    await assertRejects(() => Network.load(`${folder}/lie.safetensors`), CheckpointError, "no mask 9.weight.bits");
  });
});

Deno.test("parameters and optimizer state at 95 % take at most a quarter of dense ones", async () => {
  using network = Network.create({ input: [512], layers: [dense(512), relu(), dense(512), relu(), dense(4)] });
  const masks = await network.sparsify({ sparsity: 0.95 });
  for (const mask of masks.filter((mask) => mask.sparse)) {
    // Weight, and two numbers of Adam for each: 12 bytes.
    assert(mask.bytes + 8 * mask.nonZeros <= 0.25 * 12 * mask.weights, JSON.stringify(mask));
  }
});

Deno.test("auto decides by measuring, says so, and keeps to it", async () => {
  using network = Network.create({
    input: [512],
    layers: [dense(512), relu(), dense(2), relu(), dense(4)],
    threads: 1,
  });
  const data = table(64, { shape: [512], classes: 4 });
  using trainer = await Trainer.create(network, data, { rule: sparse({ sparsity: 0.97, auto: true }), batchSize: 64 });
  const [first, second] = await trainer.network.describeRule();
  const measured = first!.slots.weights.measured as Record<string, number | boolean>;
  assert(measured.sparse === true && measured.sparseMs! < measured.denseMs!, JSON.stringify(measured));
  assertEquals(first!.slots.weights.nonZeros, Math.round(0.03 * 512 * 512));
  assert("measured" in second!.slots.weights);
  assertEquals((await network.masks())[1]!.sparse, (second!.slots.weights.measured as { sparse: boolean }).sparse);
});

Deno.test("auto leaves a layer its mask, whatever is faster", async () => {
  using network = Network.create({ input: [8], layers: [dense(4), relu(), dense(4), dense(4)], threads: 1 });
  await network.sparsify({ sparsity: 0.5, layers: ["0"] });
  const data = table(16, { shape: [8], classes: 4 });
  using trainer = await Trainer.create(network, data, { rule: sparse({ sparsity: 0.3, auto: true }), batchSize: 16 });
  const [first] = await trainer.network.describeRule();
  assertEquals((first!.slots.weights.measured as { sparse: boolean }).sparse, true);
  assertEquals((await network.masks())[0]!.sparse, true);
});

Deno.test("a layer that keeps all of its weights gets no mask", async () => {
  using network = Network.create({ input: [20], layers: [dense(200), relu(), dense(2), relu(), dense(4)], threads: 1 });
  const data = table(16, { shape: [20], classes: 4 });
  const rule = sparse({ sparsity: 0.1, distribution: "erk" });
  (await Trainer.create(network, data, { rule, batchSize: 16 }))[Symbol.dispose]();
  assertEquals((await network.masks()).map(({ sparse }) => sparse), [true, false, false]);
  await network.densify();
  network.write("0.weight", network.read("0.weight").fill(1));
  network.write("2.weight", network.read("2.weight").fill(0, 0, 3));
  await network.sparsify({ by: "zeros" });
  assertEquals((await network.masks()).map(({ sparse }) => sparse), [false, true, false]);
});

Deno.test("mem-aop chooses rows, which are multiplied at the mask", async () => {
  for (const memory of [true, false]) {
    using alone = make();
    using both = make();
    const options = { optimizer: sgd(0.1), dropLast: true } as const;
    await run(alone, 8, { ...options, rule: sparse({ sparsity: 0.7 }) });
    await run(both, 8, { ...options, rule: combine(sparse({ sparsity: 0.7 }), memAop({ k: 9, memory, minSize: 0 })) });
    assertEquals(masksOf(both), masksOf(alone));
    for (const [name, values] of alone.parameters()) assertClose({ name, limit: 1e-11 }, both.read(name), values);
    await run(both, 8, { ...options, rule: combine(sparse({ sparsity: 0.7 }), memAop({ k: 3, memory, minSize: 0 })) });
    assertEquals(masksOf(both), masksOf(alone));
    for (const [i, layer] of SPARSE.entries()) {
      assert(both.read(`${layer}.weight`).every((weight, at) => masksOf(alone)[i]![at] === 1 || weight === 0));
    }
  }
});

Deno.test("mem-aop that keeps all rows of a layer leaves sparse steps as they are, bit for bit", async () => {
  using alone = make();
  using both = make();
  await run(alone, 8, { optimizer: sgd(0.1), rule: sparse({ sparsity: 0.7 }) });
  await run(both, 8, { optimizer: sgd(0.1), rule: combine(sparse({ sparsity: 0.7 }), memAop({ minSize: 1e9 })) });
  assertSameBits(bits(both), bits(alone), "the network");
});

const cannot: Record<string, [SparseOptions, string]> = {
  "sparsity 1": [{ sparsity: 1 }, "Cannot use sparse.sparsity: expected a number from 0 up and below 1 but found 1"],
  "no number": [{ sparsity: "much" as unknown as number }, "Cannot use sparse.sparsity"],
  "negative": [{ sparsity: -0.1 }, "Cannot use sparse.sparsity"],
  "an end before the beginning": [
    { sparsity: 0.5, schedule: "gmp", begin: 0.5, end: 0.4 },
    "Cannot use sparse.end: expected a number from 0.5 to 1 but found 0.4",
  ],
  "a beginning after the end that is the default": [
    { sparsity: 0.5, schedule: "rigl", begin: 0.8 },
    "Cannot use sparse.end: expected a number from 0.8 (where the schedule begins) to 1 but found none, which is 0.75",
  ],
  "a layer without a name": [{ sparsity: 0.5, layers: [""] }, "Cannot use sparse.layers: expected a list of names"],
  "an option of another schedule": [
    { sparsity: 0.5, every: 10 },
    "Cannot use sparse.every: expected the schedule gmp or rigl or set or acdc beside it but found static",
  ],
  "growth in pruning": [{ sparsity: 0.5, schedule: "gmp", initialSparsity: 0.6 }, "Cannot use sparse.initialSparsity"],
  "an unknown schedule": [{ sparsity: 0.5, schedule: "rig" as "rigl" }, "did you mean rigl"],
};

for (const [what, [options, message]] of Object.entries(cannot)) {
  Deno.test(`options are refused: ${what}`, () => void assertThrows(() => sparse(options), ConfigError, message));
}

Deno.test("what a network cannot do is refused by name, and changes nothing", async () => {
  using network = make();
  const before = bits(network);
  const refused = async (options: SparseOptions, message: string) => {
    await assertRejects(() => run(network, 1, { rule: sparse(options) }), EngineError, message);
  };
  await refused({ sparsity: 0.5, layers: ["1"] }, "found layer 1 (relu), which has no weights to be sparse");
  await refused({ sparsity: 0.5, layers: ["9"] }, "found 9, which the network does not have");
  await refused(
    { sparsity: 0.5, minSparsity: 0.6 },
    "Cannot use rule.minSparsity: expected a number that leaves a layer sparse (up to 0.5) but found 0.6",
  );
  await refused(
    { sparsity: 0.9999 },
    "a sparsity that leaves layer 0 (dense) a weight (allowEmpty: true overrides this)",
  );
  const batch = combine(sparse({ sparsity: 0.5 }), memAop({ scope: "batch" }));
  await assertRejects(() => run(network, 1, { rule: batch }), EngineError, "layer as the scope of mem-aop");
  assertThrows(() => network.setMask("0", new Uint8Array(5)), EngineError, "360 bytes but found 5");
  assertThrows(() => network.setMask("1", new Uint8Array(5)), EngineError, "1.weight.mask");
  const list = [1, 2] as unknown as Uint8Array<ArrayBuffer>;
  assertThrows(
    () => network.setMask("0", list),
    ConfigError,
    "Cannot use mask: expected a Uint8Array but found an Array",
  );
  await assertRejects(() => network.sparsify({} as never), ConfigError, "Cannot use sparsify.sparsity");
  await assertRejects(() => network.sparsify({ by: "zeros", sparsity: 0.5 }), ConfigError, "by: zeros");
  for (
    const [options, message] of [
      [{ sparsity: 0.5, layers: ["9"] }, "Cannot use sparsify.layers: expected names of dense and conv2d layers"],
      [{ sparsity: 0.5, minSparsity: 0.6 }, "Cannot use sparsify.minSparsity: expected a number that leaves"],
      [{ sparsity: 0.9999 }, "Cannot use sparsify.sparsity: expected a sparsity that leaves layer 0 (dense) a weight"],
    ] as const
  ) await assertRejects(() => network.sparsify(options), EngineError, message);
  assertSameBits(bits(network), before, "parameters");
  assert((await network.masks()).every((mask) => !mask.sparse));

  await network.sparsify({ sparsity: 0.5 });
  const weights = network.read("2.weight");
  const outside = weights.with(network.mask("2").indexOf(0), 1);
  assertThrows(() => network.write("2.weight", outside), EngineError, "expected zeros where its mask has no weights");
  assertEquals(network.read("2.weight"), weights);
  using data = await Dataset.create(rows);
  using _trainer = await Trainer.create(network, data, { batchSize: 9 });
  assertThrows(() => network.setMask("0", network.mask("0")), EngineError, "a run is training this network");
  await assertRejects(() => network.sparsify({ sparsity: 0.9 }), EngineError, "Cannot sparsify");
});

/** What a run of 20 steps warns of, epoch by epoch. */
async function warnings(network: Network, rule: Rule): Promise<(readonly string[])[]> {
  const found = [];
  for await (const { warnings = [] } of train(network, rows, { rule, epochs: 4, batchSize: 9 })) found.push(warnings);
  return found;
}

Deno.test("a run warns once of layers without weights, whether masks or the rule take them", async () => {
  using given = make();
  given.setMask("2", new Uint8Array(750));
  const text = (layer: string) => `layer ${layer} (dense) is left without weights`;
  assertEquals(await warnings(given, backprop()), [[text("2")], [], [], []]);
  assertEquals(await warnings(given, sparse({ sparsity: 0.5 })), [[text("2")], [], [], []]);
  for (const schedule of ["static", "gmp"] as const) {
    using network = make();
    const rule = sparse({ sparsity: 0.9999, schedule, layers: ["0", "4"], allowEmpty: true });
    assertEquals(await warnings(network, rule), [[text("0"), text("4")], [], [], []], schedule);
  }
  using full = make();
  assertEquals(await warnings(full, sparse({ sparsity: 0.9 })), [[], [], [], []]);
});

Deno.test("a run warns once of a schedule that it has no step for, exactly where masks never change", async () => {
  const never = (kind: string, first: number, end: number) =>
    `the schedule ${kind} never changes a mask: its first change would come after ${first} steps, but of the run's 20 it ends ` +
    `after ${end}; try a smaller every, an earlier begin, a later end, or a longer run`;
  const cases: [SparseOptions, string[]][] = [
    [{ schedule: "rigl", every: 1000 }, [never("rigl", 1000, 15)]],
    [{ schedule: "rigl", begin: 0.5, end: 0.5 }, [never("rigl", 10, 10)]],
    [{ schedule: "set", every: 19, end: 1 }, [never("set", 19, 19)]],
    [{ schedule: "set", end: 0.1 }, [never("set", 2, 2)]],
    [{ schedule: "set", every: 18, end: 1 }, []],
    [{ schedule: "rigl", begin: 0.5, end: 0.55, every: 1000 }, []],
    [{ schedule: "rigl" }, []],
    [{ schedule: "gmp", begin: 0.5, end: 0.5, every: 1000 }, []],
    [{ schedule: "acdc", begin: 1, end: 1, every: 1000 }, []],
    [{ schedule: "acdc", begin: 0, end: 0 }, []],
  ];
  for (const [options, expected] of cases) {
    const [name, rule] = [JSON.stringify(options), sparse({ sparsity: 0.8, ...options })];
    using warned = make();
    assertEquals(await warnings(warned, rule), [expected, [], [], []], name);
    using network = make();
    using data = await Dataset.create(rows);
    using trainer = await Trainer.create(network, data, { rule, epochs: 4, batchSize: 9 });
    while (!(await trainer.epoch()).done);
    const [first] = await network.describeRule();
    assertEquals(first!.slots.weights.changes === 0, expected.length > 0, name);
  }
});

Deno.test("layers may be left empty on request", async () => {
  using network = make();
  await run(network, 3, { rule: sparse({ sparsity: 0.9999, allowEmpty: true }) });
  assertEquals(masksOf(network).map(ones), [0, 0, 0]);
  assert((await network.predict(rows)).every(Number.isFinite));
});

Deno.test("the command line makes the same rule", () => {
  const options = { sparsity: 0.9, schedule: "rigl", layers: "0,2", every: 50 };
  const expected = sparse({ ...options, schedule: "rigl", layers: ["0", "2"] });
  assertEquals(ruleByName("sparse", { sparse: options }), expected);
});

/** The definition of a convolution, and of a linear map as one of a single pixel: visits (x, weight, y). */
function eachProduct(
  { batch, inputs, outputs, height, width, kernel, stride, padding }: Shape,
  visit: (x: number, weight: number, y: number) => void,
): void {
  const [rows, columns] = kernel;
  const size = (padded: number, taps: number) => Math.floor((padded - taps) / stride) + 1;
  const [h, w] = [size(height + 2 * padding[0], rows), size(width + 2 * padding[1], columns)];
  for (let n = 0; n < batch * h * w * rows * columns; n++) {
    const [j, i] = [n % columns, Math.floor(n / columns) % rows];
    const pixel = Math.floor(n / columns / rows);
    const [left, top, image] = [pixel % w, Math.floor(pixel / w) % h, Math.floor(pixel / w / h)];
    const [y, x] = [top * stride + i - padding[0], left * stride + j - padding[1]];
    if (y < 0 || x < 0 || y >= height || x >= width) continue;
    for (let output = 0; output < outputs; output++) {
      for (let input = 0; input < inputs; input++) {
        const weight = ((output * inputs + input) * rows + i) * columns + j;
        visit(((image * height + y) * width + x) * inputs + input, weight, pixel * outputs + output);
      }
    }
  }
}

interface Shape {
  readonly batch: number;
  readonly inputs: number;
  readonly outputs: number;
  readonly height: number;
  readonly width: number;
  readonly kernel: readonly [number, number];
  readonly stride: number;
  readonly padding: readonly [number, number];
}

Deno.test("exported kernels agree with their definition", () => {
  const linear: Shape = {
    batch: 5,
    inputs: 7,
    outputs: 6,
    height: 1,
    width: 1,
    kernel: [1, 1],
    stride: 1,
    padding: [0, 0],
  };
  const image: Shape = { ...linear, batch: 3, inputs: 4, height: 7, width: 6 };
  const shapes: Shape[] = [linear, image];
  for (const taps of [1, 3, 5]) {
    for (const stride of [1, 2]) {
      for (const zeros of [0, 1, 2]) shapes.push({ ...image, kernel: [taps, taps], stride, padding: [zeros, zeros] });
    }
  }
  for (const shape of shapes) {
    for (const share of [0, 0.3, 1]) {
      const all = shape.inputs * shape.outputs * shape.kernel[0] * shape.kernel[1];
      const chance = numbers(all, 4);
      const positions = Uint32Array.from([...chance.keys()].filter((at) => (chance[at]! + 1) / 2 < share));
      const values = numbers(positions.length, 5);
      const dense = new Float64Array(all);
      positions.forEach((position, i) => dense[position] = values[i]!);
      const x = numbers(shape.batch * shape.height * shape.width * shape.inputs, 6);
      const bias = numbers(shape.outputs, 7);
      const { inputs, outputs, height, width, kernel, stride, padding } = shape;
      const sizes = { inputs, outputs };
      const images = { ...sizes, height, width, kernel, stride, padding };
      const found = shape === linear
        ? spmm({ positions, values }, x, { ...sizes, bias })
        : sparseConv2d({ positions, values }, x, { ...images, bias });
      const y = found.map((_, at) => bias[at % outputs]!);
      eachProduct(shape, (from, weight, to) => y[to]! += x[from]! * dense[weight]!);
      const name = JSON.stringify({ ...shape, share });
      assertClose({ name, limit: 1e-13 }, found, y);
      const g = numbers(y.length, 8);
      const gradients = shape === linear
        ? spmmBackward({ positions, values }, [x, g], sizes)
        : sparseConv2dBackward({ positions, values }, [x, g], images);
      const [dx, dw] = [new Float64Array(x.length), new Float64Array(all)];
      eachProduct(shape, (from, weight, to) => {
        dx[from]! += g[to]! * dense[weight]!;
        dw[weight]! += g[to]! * x[from]!;
      });
      assertClose({ name: `${name} inputs`, limit: 1e-13 }, gradients.inputs, dx);
      assertClose(
        { name: `${name} weights`, limit: 1e-13 },
        gradients.values,
        dw.filter((_, at) => positions.includes(at)),
      );
    }
  }
  const float = { positions: Uint32Array.of(1), values: Float32Array.of(1) };
  assertThrows(() => spmm(float as never, new Float64Array(2), { inputs: 2, outputs: 2 }), ConfigError, "Float32Array");
});

Deno.test("a sparse map is used again and again, in rows and in tiles, with the same bits at any number of threads", () => {
  // Large enough for threads to share each call.
  const shapes = [
    { batch: 165, inputs: 400, outputs: 300 },
    { batch: 39, inputs: 25, outputs: 36, height: 12, width: 11, kernel: [3, 3], stride: 2, padding: [1, 1] },
  ] as const;
  for (const shape of shapes) {
    const { inputs, outputs } = shape;
    const all = inputs * outputs * ("kernel" in shape ? 9 : 1);
    const positions = Uint32Array.from(numbers(all, 1).keys()).filter((at) => at * 7919 % 10 < 3);
    const found = [1, 2, 3].map((threads) => {
      using rows = SparseMap.create(positions, { ...shape, threads });
      using tiles = SparseMap.create(positions, { ...shape, threads, layout: "tiles" });
      assertEquals(rows.positions, tiles.positions);
      assertEquals(rows.order.map((place) => positions[place]!), rows.positions);
      const values = Float32Array.from(numbers(positions.length, 2));
      const bias = Float32Array.from(numbers(outputs, 3));
      const results = [4, 5].map((seed) => {
        const x = Float32Array.from(numbers(rows.elements("inputs"), seed));
        const g = Float32Array.from(numbers(rows.elements("outputs"), seed + 2));
        const y = rows.forward(values, x, { bias });
        const { inputs: dx, values: dw } = rows.backward(values, [x, g]);
        const [packed, of] = [tiles.toTiles("inputs", x), tiles.toTiles("outputs", g)];
        assertEquals(packed.length, tiles.elements("inputs"));
        for (const made of [packed, tiles.forward(values, packed), tiles.backward(values, [packed, of]).inputs]) {
          assertEquals(Deno.UnsafePointer.value(Deno.UnsafePointer.of(made)) % 64n, 0n, "tiles begin at a cache line");
        }
        assertEquals(tiles.toRows("inputs", packed), x);
        const out = new Float32Array(tiles.elements("outputs"));
        assertEquals(tiles.forward(values, packed, { bias, out }), out);
        assertEquals(tiles.toRows("outputs", out), y);
        const gradients = tiles.backward(values, [packed, of]);
        assertEquals(tiles.toRows("inputs", gradients.inputs), dx);
        assertEquals(gradients.values, dw);
        return [y, dx, dw];
      });
      const again = { positions: positions, values: new Float32Array(values.length) };
      rows.order.forEach((place, slot) => again.values[place] = values[slot]!);
      const x = Float32Array.from(numbers(rows.elements("inputs"), 4));
      const { batch: _, ...sizes } = shape;
      const once = "kernel" in sizes ? sparseConv2d(again, x, { ...sizes, bias }) : spmm(again, x, { ...sizes, bias });
      assertEquals(once, results[0]![0]);
      return results;
    });
    assertEquals(found[1], found[0]);
    assertEquals(found[2], found[0]);
  }
});

Deno.test("what a sparse map cannot do is refused", () => {
  const sizes = { batch: 2, inputs: 2, outputs: 2 };
  const positions = Uint32Array.of(1, 2);
  const refused = (options: SparseMapOptions, message: string) =>
    void assertThrows(() => SparseMap.create(positions, options), ConfigError, message);
  refused({ ...sizes, batch: 0 }, "Cannot use sparseMap.batch: expected a whole number from 1");
  refused({ ...sizes, stride: 2 }, "Cannot use sparseMap.stride: expected height, width and kernel beside it");
  refused({ ...sizes, height: 3, width: 3 }, "Cannot use sparseMap.kernel");
  refused({ ...sizes, height: 3, width: 3, kernel: [1, 1], stride: 3 }, "Cannot use sparseMap.stride");
  refused({ ...sizes, layout: "tile" as "tiles" }, "did you mean tiles");
  const huge = 2 ** 24;
  refused(
    { ...sizes, batch: huge, inputs: 256 },
    "expected sizes with fewer than 2³² elements of inputs but found 42949",
  );
  refused({ batch: huge, inputs: 2, outputs: 256 }, "fewer than 2³² elements of outputs");
  refused(
    { batch: 1, inputs: huge, outputs: huge },
    "Cannot use sparseMap: expected sizes with fewer than 2³² dense weights",
  );
  const image = { ...sizes, height: 4, width: 4, kernel: [3, 3] } as const;
  refused({ ...image, batch: 1, height: huge, width: 128 }, "fewer than 2³² elements of inputs");
  refused(
    { ...image, kernel: 3 as never },
    "Cannot use sparseMap.kernel: expected two numbers [height, width] but found 3",
  );
  refused({ ...image, kernel: [3, 3, 3] as never }, "two numbers [height, width] but found [3,3,3]");
  refused(
    { ...image, padding: 1 as never },
    "sparseMap.padding: expected two numbers [rows, columns] of zeros but found 1",
  );
  for (
    const [places, message] of [
      [[4], "Cannot use positions[0]: expected a position below 4 but found 4"],
      [
        [0, 2, 1],
        "Cannot use positions[2]: expected a position below 4 and above 2, which comes before it, but found 1",
      ],
      [[1, 1], "Cannot use positions[1]: expected a position below 4 and above 1, which comes before it, but found 1"],
    ] as const
  ) assertThrows(() => SparseMap.create(Uint32Array.from(places), sizes), ConfigError, message);
  const map = SparseMap.create(positions, sizes);
  const values = new Float32Array(2);
  assertThrows(() => map.forward(values, new Float32Array(3)), EngineError, "x: expected 4 elements but found 3");
  assertThrows(() => map.forward(new Float32Array(3), new Float32Array(4)), EngineError, "values");
  assertThrows(() => map.forward(values, new Float64Array(4) as never), ConfigError, "Float32Array like the weights");
  const x = new Float32Array(4);
  const empty = { bias: new Float32Array(0) };
  assertThrows(
    () => map.forward(values, x, empty),
    ConfigError,
    "sparseMap.bias: expected 2 elements, one for each output",
  );
  const pairs: unknown[] = [undefined, x, [x], [x, x, x]];
  for (const arrays of pairs) {
    assertThrows(
      () => map.backward(values, arrays as [typeof x, typeof x]),
      ConfigError,
      "sparseMap.arrays: expected [x, g]",
    );
  }
  assertThrows(() => map.elements("foo" as "inputs"), ConfigError, "sparseMap.side: expected one of inputs, outputs");
  assertThrows(() => map.elements("inputs", "tile" as "tiles"), ConfigError, "did you mean tiles");
  map.order.fill(9);
  map.positions.fill(9);
  assertEquals([[...map.order].sort(), [...map.positions].sort()], [[0, 1], [1, 2]], "users have copies");
  map[Symbol.dispose]();
  assertThrows(() => map.forward(values, new Float32Array(4)), EngineError, "it is disposed");
});

const LINEAR = { inputs: 2, outputs: 2 };

const IMAGE = { inputs: 1, outputs: 2, height: 3, width: 3, kernel: [1, 1] };

const WEIGHTS = { positions: Uint32Array.of(0, 1), values: Float32Array.of(1, 2) };

/** Calls with what TypeScript would not let through, and what they say. */
const misused: Record<string, [(...args: never[]) => unknown, unknown[], string]> = {
  "a kernel of one number": [
    sparseConv2d,
    [WEIGHTS, new Float32Array(9), { ...IMAGE, kernel: 3 }],
    "Cannot use sparseConv2d.kernel: expected two numbers [height, width] but found 3",
  ],
  "a kernel of three": [
    sparseConv2d,
    [WEIGHTS, new Float32Array(9), { ...IMAGE, kernel: [1, 1, 1] }],
    "Cannot use sparseConv2d.kernel: expected two numbers [height, width] but found [1,1,1]",
  ],
  "a padding of one number": [
    sparseConv2dBackward,
    [WEIGHTS, [new Float32Array(9), new Float32Array(18)], { ...IMAGE, padding: 1 }],
    "Cannot use sparseConv2dBackward.padding: expected two numbers [rows, columns] of zeros but found 1",
  ],
  "a convolution without an image": [
    sparseConv2d,
    [WEIGHTS, new Float32Array(9), LINEAR],
    "Cannot use sparseConv2d.height: expected height, width and kernel of a convolution but found undefined",
  ],
  "weights without values": [
    spmm,
    [{ positions: WEIGHTS.positions }, new Float32Array(2), LINEAR],
    "Cannot use weights.values: expected a Float32Array or Float64Array but found undefined",
  ],
  "no weights": [
    spmm,
    [undefined, new Float32Array(2), LINEAR],
    "Cannot use weights: expected an object { positions, values } but found undefined",
  ],
  "weights without positions": [
    spmm,
    [{ values: WEIGHTS.values }, new Float32Array(2), LINEAR],
    "Cannot use weights.positions: expected a Uint32Array but found undefined",
  ],
  "positions that do not ascend": [
    spmm,
    [{ ...WEIGHTS, positions: Uint32Array.of(2, 1) }, new Float32Array(2), LINEAR],
    "Cannot use positions[1]: expected a position below 4 and above 2",
  ],
  "no inputs": [
    spmm,
    [WEIGHTS, new Float32Array(2), { outputs: 2 }],
    "Cannot use spmm.inputs: expected a whole number from 1 to 16777216 but found undefined",
  ],
  "inputs of 0": [
    spmm,
    [WEIGHTS, new Float32Array(2), { ...LINEAR, inputs: 0 }],
    "Cannot use spmm.inputs: expected a whole number from 1 to 16777216 but found 0",
  ],
  "no x": [spmm, [WEIGHTS, undefined, LINEAR], "Cannot use spmm.x: expected a Float32Array like the weights"],
  "part of a row": [
    spmm,
    [WEIGHTS, new Float32Array(3), LINEAR],
    "Cannot use spmm.x: expected whole rows of 2 elements each, from 1 to 16777216 of them but found 3 elements",
  ],
  "no row": [spmm, [WEIGHTS, new Float32Array(0), LINEAR], "Cannot use spmm.x: expected whole rows of 2 elements each"],
  "a bias that gradients do not read": [
    spmmBackward,
    [WEIGHTS, [new Float32Array(2), new Float32Array(2)], { ...LINEAR, bias: "junk" }],
    "Cannot use spmmBackward.bias: expected one of inputs, outputs but found an unknown option",
  ],
  "such a bias of a convolution": [
    sparseConv2dBackward,
    [WEIGHTS, [new Float32Array(9), new Float32Array(18)], { ...IMAGE, bias: new Float32Array(2) }],
    "Cannot use sparseConv2dBackward.bias: expected one of inputs, outputs, height",
  ],
  "an empty bias": [
    spmm,
    [WEIGHTS, new Float32Array(2), { ...LINEAR, bias: new Float32Array(0) }],
    "Cannot use spmm.bias: expected 2 elements, one for each output but found 0",
  ],
  "a bias of another type": [
    spmm,
    [WEIGHTS, new Float32Array(2), { ...LINEAR, bias: [1, 2] }],
    "Cannot use spmm.bias: expected a Float32Array like the weights but found an Array",
  ],
  "inputs without gradients": [
    spmmBackward,
    [WEIGHTS, new Float32Array(2), LINEAR],
    "Cannot use spmmBackward.arrays: expected [x, g], inputs and gradients of the outputs but found a Float32Array",
  ],
  "gradients of another type": [
    spmmBackward,
    [WEIGHTS, [new Float32Array(2), new Float64Array(2)], LINEAR],
    "Cannot use spmmBackward.g: expected a Float32Array like the weights but found a Float64Array",
  ],
  "more than can be addressed": [
    spmm,
    [WEIGHTS, new Float32Array(2), { inputs: 2 ** 24, outputs: 2 ** 24 }],
    "Cannot use spmm: expected sizes with fewer than 2³² dense weights but found 281474976710656",
  ],
};

for (const [what, [call, args, message]] of Object.entries(misused)) {
  Deno.test(`sparse kernels refuse ${what}`, () =>
    void assertThrows(() => call(...args as never[]), ConfigError, message));
}
