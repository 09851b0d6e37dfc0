/** mem-aop: the identities of the paper's rule and of its extensions, and what is refused. */

import { assert, assertEquals, assertNotEquals, assertRejects, assertThrows } from "@std/assert";
import {
  adam,
  adamW,
  combine,
  ConfigError,
  cosine,
  Dataset,
  dense,
  dropout,
  dual,
  EngineError,
  type Layer,
  layerNorm,
  loadCheckpoint,
  meanSquaredError,
  memAop,
  type MemAopOptions,
  Network,
  type Optimizer,
  relu,
  rmsProp,
  type Rule,
  sgd,
  stepDecay,
  type Table,
  tanh,
  train,
  Trainer,
  type TrainOptions,
} from "../../mod.ts";
import { approximateProduct, chooseRows, type RowPolicy } from "../../src/kernels.ts";
import { ROW_POLICIES } from "../../src/rules/mem_aop.ts";
import { ruleByName } from "../../src/rules/mod.ts";
import { assertSameBits, bits, inTemporaryFolder, numbers, steps, table } from "../helpers.ts";
import { assertClose } from "../tolerance.ts";

/** Every layer takes part, however small. */
const all = { minSize: 0, exactOutput: false } as const;

const net = {
  input: [7],
  layers: [dense(12), relu(), layerNorm(), dense(9, { bias: false }), tanh(), dense(3)] as Layer[],
};
const rows = table(40, { shape: net.input, classes: 3 });
const BATCH = 10;

const optimizers: Record<string, { optimizer: Optimizer; clipNorm?: number }> = {
  "sgd": { optimizer: sgd(0.05) },
  "sgd with weight decay": { optimizer: sgd(0.05, { weightDecay: 0.01 }) },
  "sgd, clipped": { optimizer: sgd(0.05), clipNorm: 0.3 },
  "momentum": { optimizer: sgd(0.02, { momentum: 0.9, nesterov: true }) },
  "adam": { optimizer: adam(1e-3) },
  "adamW, clipped": { optimizer: adamW(1e-3), clipNorm: 0.3 },
  "rmsProp": { optimizer: rmsProp(1e-3) },
};

async function trained(options: TrainOptions, { threads = 1, precision = "f64" as "f32" | "f64" } = {}) {
  using network = Network.create({ ...net, precision, threads, seed: 3 });
  const common = { epochs: 2, batchSize: BATCH, seed: 4, schedule: cosine({ finalFactor: 0.1 }) };
  for await (const _ of train(network, rows, { ...common, ...options }));
  return { bits: bits(network), parameters: network.parameters() };
}

for (const [name, options] of Object.entries(optimizers)) {
  Deno.test(`memAop() that keeps all rows equals back-propagation at every step: ${name}`, async () => {
    const plain = await trained(options);
    for (const policy of ["topK", "weightedK", "randK", "wta"] as const) {
      for (const memory of policy === "wta" ? [false] : [false, true]) {
        for (const center of [false, true]) {
          const rule = memAop({ ...all, k: BATCH, policy, memory, center, force: true });
          const what = JSON.stringify({ policy, memory, center });
          const found = await trained({ ...options, rule });
          for (const [parameter, values] of plain.parameters) {
            assertClose({ name: `${what} ${parameter}`, limit: 1e-12 }, found.parameters.get(parameter)!, values);
          }
          // The same products in the same order.
          if (!memory && !center) assertSameBits(found.bits, plain.bits, what);
        }
      }
      const batch = memAop({ k: BATCH, policy, scope: "batch" });
      assertSameBits((await trained({ ...options, rule: batch })).bits, plain.bits, `${policy}, scope batch`);
    }
    const half = memAop({ ...all, k: BATCH / 2 });
    assertNotEquals((await trained({ ...options, rule: half })).bits, plain.bits);
  });
}

/** One linear layer on squared error, f64, and the paper's rule beside it. */
const single = { input: [5], layers: [dense(2)], loss: meanSquaredError(), precision: "f64" as const };
const singleRows = table(24, { shape: [5], values: 2 });

/** Columns of a table's row or of a matrix. */
const rowOf = (values: ArrayLike<number>, row: number, size: number) =>
  Array.from({ length: size }, (_, at) => values[row * size + at]!);

/** What the paper's algorithm does to one linear layer, in its own words; `pick` is its policy. */
class Paper {
  readonly memory: { x: number[][]; g: number[][] };
  constructor(readonly w: number[][], readonly b: number[], readonly batch: number) {
    this.memory = {
      x: Array.from({ length: batch }, () => Array(5).fill(0)),
      g: Array.from({ length: batch }, () => [0, 0]),
    };
  }

  step(data: Table, { first, rate, k, carry = Math.sqrt(rate), alpha = 1 }: {
    first: number;
    rate: number;
    k: number;
    carry?: number;
    alpha?: number;
  }) {
    const scores: number[] = [];
    const bias = [0, 0];
    for (let slot = 0; slot < this.batch; slot++) {
      const x = rowOf(data.features, first + slot, 5);
      const targets = data.targets.kind === "values" ? rowOf(data.targets.values, first + slot, 2) : [];
      // The loss is the mean over rows and outputs.
      const g = this.w.map((w, output) => {
        const y = w.reduce((sum, weight, at) => sum + weight * x[at]!, this.b[output]!);
        return (y - targets[output]!) * 2 / 2 / this.batch;
      });
      g.forEach((g, output) => bias[output]! += g);
      this.memory.x[slot] = this.memory.x[slot]!.map((m, at) => m + carry * x[at]!);
      this.memory.g[slot] = this.memory.g[slot]!.map((m, at) => m + carry * g[at]!);
      const norm = (v: number[]) => Math.hypot(...v);
      scores.push(norm(this.memory.x[slot]!) * norm(this.memory.g[slot]!));
    }
    const chosen = scores.map((_, slot) => slot).sort((a, b) => scores[b]! - scores[a]! || a - b).slice(0, k);
    for (const slot of chosen) {
      const [x, g] = [this.memory.x[slot]!, this.memory.g[slot]!];
      const scale = carry === 1 ? rate : 1;
      this.w.forEach((w, output) => w.forEach((_, at) => w[at]! -= scale * x[at]! * g[output]!));
      this.memory.x[slot] = x.map(() => 0);
      this.memory.g[slot] = g.map(() => 0);
    }
    this.b.forEach((_, output) => this.b[output]! -= rate * bias[output]!);
    for (const part of [this.memory.x, this.memory.g]) {
      part.forEach((row) => row.forEach((_, at) => row[at]! *= Math.sqrt(alpha)));
    }
    return chosen;
  }
}

Deno.test("memAop.paper() is the published algorithm, with a schedule of rates", async () => {
  using network = Network.create({ ...single, seed: 1 });
  const start = [rowOf(network.read("0.weight"), 0, 5), rowOf(network.read("0.weight"), 1, 5)];
  const paper = new Paper(start, [...network.read("0.bias")], 8);
  const options = { rule: memAop.paper({ k: 3 }), optimizer: sgd(0.3), schedule: stepDecay(2, 0.5), shuffle: false };
  using data = await Dataset.create(singleRows);
  using _trainer = await Trainer.create(network, data, { ...options, epochs: 6, batchSize: 8 });
  for (let step = 0; step < 18; step++) {
    await steps(network, data, 1);
    paper.step(singleRows, { first: step % 3 * 8, rate: 0.3 * 0.5 ** Math.floor(step / 6), k: 3 });
    const place = { limit: 1e-12 };
    assertClose({ ...place, name: `weights after ${step}` }, network.read("0.weight"), paper.w.flat());
    assertClose({ ...place, name: `bias after ${step}` }, network.read("0.bias"), paper.b);
    assertClose(
      { ...place, name: `inputs after ${step}` },
      network.read("rule.0.memory.inputs"),
      paper.memory.x.flat(),
    );
    assertClose(
      { ...place, name: `gradients after ${step}` },
      network.read("rule.0.memory.gradients"),
      paper.memory.g.flat(),
    );
  }
});

Deno.test("memAop() with decay shrinks the memory by its root; with momentum the factors carry no rate", async () => {
  for (
    const [optimizer, carry, alpha] of [[sgd(0.3), undefined, 0.49], [sgd(0.3, { momentum: 1e-300 }), 1, 1]] as const
  ) {
    using network = Network.create({ ...single, seed: 1 });
    const start = [rowOf(network.read("0.weight"), 0, 5), rowOf(network.read("0.weight"), 1, 5)];
    const paper = new Paper(start, [...network.read("0.bias")], 8);
    const rule = memAop({ ...all, k: 3, center: false, decay: alpha });
    using data = await Dataset.create(singleRows);
    using _trainer = await Trainer.create(network, data, { rule, optimizer, shuffle: false, epochs: 4, batchSize: 8 });
    for (let step = 0; step < 12; step++) {
      await steps(network, data, 1);
      paper.step(singleRows, { first: step % 3 * 8, rate: 0.3, k: 3, alpha, ...(carry && { carry }) });
    }
    assertClose({ name: JSON.stringify(optimizer), limit: 1e-12 }, network.read("0.weight"), paper.w.flat());
  }
});

Deno.test("a step applies all pairs of what waited, k rows leave the memory, and factors are conserved", async () => {
  const [batch, k, rate] = [8, 3, 0.2];
  using network = Network.create({ ...single, seed: 1 });
  const start = network.read("0.weight");
  const expected = Float64Array.from(start);
  using data = await Dataset.create(singleRows);
  const rule = memAop.paper({ k, policy: "weightedK" });
  using _trainer = await Trainer.create(network, data, {
    rule,
    optimizer: sgd(rate),
    shuffle: false,
    epochs: 7,
    batchSize: batch,
  });
  // Since it was last used: the factors that each place of the batch has seen.
  const waiting: { x: number[]; g: number[] }[][] = Array.from({ length: batch }, () => []);
  for (let step = 0; step < 20; step++) {
    const [w, b] = [network.read("0.weight"), network.read("0.bias")];
    for (let slot = 0; slot < batch; slot++) {
      const at = step % 3 * batch + slot;
      const x = rowOf(singleRows.features, at, 5);
      const targets = singleRows.targets.kind === "values" ? rowOf(singleRows.targets.values, at, 2) : [];
      const g = [0, 1].map((o) => {
        const y = x.reduce((sum, x, i) => sum + x * w[o * 5 + i]!, b[o]!);
        return (y - targets[o]!) / batch;
      });
      waiting[slot]!.push({ x, g });
    }
    await steps(network, data, 1);
    const memory = network.read("rule.0.memory.inputs");
    const used = waiting.map((_, slot) => slot).filter((slot) => rowOf(memory, slot, 5).every((value) => value === 0));
    assertEquals(used.length, k, `rows that left the memory in step ${step}`);
    for (const slot of used) {
      for (const s of waiting[slot]!) {
        for (const t of waiting[slot]!) {
          for (let o = 0; o < 2; o++) for (let i = 0; i < 5; i++) expected[o * 5 + i]! -= rate * s.x[i]! * t.g[o]!;
        }
      }
      waiting[slot] = [];
    }
    const left = waiting.flatMap((list) => {
      return Array.from({ length: 5 }, (_, i) => Math.sqrt(rate) * list.reduce((sum, { x }) => sum + x[i]!, 0));
    });
    assertClose({ name: `memory after ${step}`, limit: 1e-12 }, memory, left);
  }
  assertClose({ name: "weights", limit: 1e-12 }, network.read("0.weight"), expected);
});

Deno.test("at rate 0 nothing changes, the memory included", async () => {
  using network = Network.create({ ...single, seed: 1 });
  const before = bits(network);
  using data = await Dataset.create(singleRows);
  using _trainer = await Trainer.create(network, data, {
    rule: memAop({ ...all, k: 3 }),
    optimizer: sgd(0),
    batchSize: 8,
  });
  await steps(network, data, 5);
  assertSameBits(bits(network), before, "parameters");
  assert(network.read("rule.0.memory.inputs").every((value) => value === 0));
});

/** xᵀ · g by plain loops. */
function product(
  x: Float64Array,
  g: Float64Array,
  rows: number,
  weight: (row: number) => number = () => 1,
): Float64Array {
  const [inputs, outputs] = [x.length / rows, g.length / rows];
  const sum = new Float64Array(inputs * outputs);
  for (let row = 0; row < rows; row++) {
    for (let i = 0; i < inputs; i++) {
      for (let o = 0; o < outputs; o++) {
        sum[i * outputs + o]! += weight(row) * x[row * inputs + i]! * g[row * outputs + o]!;
      }
    }
  }
  return sum;
}

const factors = { rows: 24, x: numbers(24 * 6, 1).map((x, at) => x + 0.7 + at % 3), g: numbers(24 * 4, 2) };

/** Draws of something that should be `exact` on average: fails where their mean is off by more than chance allows. */
class Mean {
  readonly #sum: Float64Array;
  #square = 0;
  #draws = 0;
  constructor(readonly name: string, readonly exact: ArrayLike<number>) {
    this.#sum = new Float64Array(exact.length);
  }

  add(draw: ArrayLike<number>, factor = 1): void {
    for (let at = 0; at < draw.length; at++) {
      const value = factor * draw[at]!;
      this.#sum[at]! += value;
      this.#square += (value - this.exact[at]!) ** 2;
    }
    this.#draws++;
  }

  check(): void {
    const error = this.#sum.reduce((sum, value, at) => sum + (value / this.#draws - this.exact[at]!) ** 2, 0);
    // The mean of n draws is off by a variance of 1 / n, spread over many elements: 4 times that would be very rare.
    const expected = this.#square / this.#draws ** 2;
    assert(error < 4 * expected, `${this.name}: off by ${Math.sqrt(error)} where ${Math.sqrt(expected)} is expected`);
    const scale = Math.hypot(...Array.from(this.exact));
    assert(Math.sqrt(expected) < 0.2 * scale, `${this.name}: too few draws to say anything`);
  }
}

Deno.test("approximateProduct() is right on average with crs and wta, and with randK times m / k", () => {
  const exact = product(factors.x, factors.g, factors.rows);
  for (const policy of ["crs", "wta", "randK"] as const) {
    for (const center of [false, true]) {
      // Centred, only what is approximated is scaled.
      if (policy === "randK" && center) continue;
      const mean = new Mean(`${policy}, centred: ${center}`, exact);
      for (let step = 0; step < 20_000; step++) {
        const options = { rows: factors.rows, k: 6, policy, center, step };
        mean.add(approximateProduct([factors.x, factors.g], options), policy === "randK" ? 4 : 1);
      }
      mean.check();
    }
  }
});

Deno.test("approximateProduct() with crs has the variance that theory gives", () => {
  const { rows, x, g } = factors;
  const exact = product(x, g, rows);
  const scores = Array.from(
    { length: rows },
    (_, row) => Math.hypot(...rowOf(x, row, 6)) * Math.hypot(...rowOf(g, row, 4)),
  );
  const total = scores.reduce((sum, score) => sum + score, 0);
  const square = (v: Float64Array) => v.reduce((sum, value) => sum + value * value, 0);
  const theory = (total ** 2 - square(exact)) / 6;
  let found = 0;
  const draws = 20_000;
  for (let step = 0; step < draws; step++) {
    const one = approximateProduct([x, g], { rows, k: 6, policy: "crs", step });
    found += square(one.map((value, at) => value - exact[at]!)) / draws;
  }
  assert(Math.abs(found / theory - 1) < 0.03, `${found} against ${theory}`);
});

Deno.test("approximateProduct() with topK leaves out at most the norms of the other rows, and has rank k", () => {
  const { rows, x, g } = factors;
  const exact = product(x, g, rows);
  const scores = Float64Array.from(
    { length: rows },
    (_, row) => Math.hypot(...rowOf(x, row, 6)) * Math.hypot(...rowOf(g, row, 4)),
  );
  for (const k of [1, 5, 12, 23, 24]) {
    const found = approximateProduct([x, g], { rows, k });
    const chosen = chooseRows(scores, { policy: "topK", k }).rows;
    assertClose({ name: `k ${k}`, limit: 1e-13 }, found, product(x, g, rows, (row) => chosen.includes(row) ? 1 : 0));
    const residual = Math.hypot(...found.map((value, at) => value - exact[at]!));
    const bound = scores.reduce((sum, score, row) => sum + (chosen.includes(row) ? 0 : score), 0);
    assert(residual <= bound + 1e-12, `k ${k}: ${residual} above ${bound}`);
  }
  // Rank 1: every 2 × 2 minor is 0.
  const one = approximateProduct([x, g], { rows, k: 1 });
  for (let i = 1; i < 6; i++) {
    for (let o = 1; o < 4; o++) assert(Math.abs(one[0]! * one[i * 4 + o]! - one[o]! * one[i * 4]!) < 1e-12);
  }
});

Deno.test("approximateProduct() with memory: one place that waits n steps counts n² times", () => {
  // Row 0 is always smaller than the others until it has waited.
  const x = Float64Array.from([1, 2, 30, 10]);
  const g = Float64Array.from([0.5, -1, 8, 8]);
  const memory = [new Float64Array(4), new Float64Array(4)] as const;
  for (let step = 0; step < 4; step++) approximateProduct([x, g], { rows: 2, k: 1, memory });
  assertEquals([...memory[0]], [4, 8, 0, 0]);
  const rest = Float64Array.from([1, 2, 0, 0]);
  const found = approximateProduct([rest, Float64Array.from([0.5, -1, 0, 0])], { rows: 2, k: 1, memory });
  assertEquals([...found], [0.5, -1, 1, -2].map((value) => 25 * value));
  assertEquals([...memory[0], ...memory[1]], Array(8).fill(0));
});

Deno.test("kernels of the rule refuse what they cannot use", () => {
  const [x, g] = [new Float64Array(6), new Float64Array(4)];
  assertThrows(
    () => approximateProduct([x, g], { rows: 4, k: 1 }),
    EngineError,
    "Cannot use x: expected a multiple of 4",
  );
  assertThrows(() => approximateProduct([x, g], { rows: 2, k: 0 }), ConfigError, "approximateProduct.k");
  const out = new Float64Array(5);
  assertThrows(() => approximateProduct([x, g], { rows: 2, k: 1, out }), EngineError, "Cannot use out: expected 6");
  const memory = [x, x] as const;
  assertThrows(() => approximateProduct([x, g], { rows: 2, k: 1, memory }), EngineError, "the memory of g");
  const narrow = new Float32Array(4) as unknown as Float64Array<ArrayBuffer>;
  assertThrows(() => approximateProduct([x, narrow], { rows: 2, k: 1 }), ConfigError, "approximateProduct.g");
  assertThrows(() => chooseRows(new Float64Array([1, -1]), { policy: "topK", k: 1 }), ConfigError, "scores[1]");
  assertThrows(() => chooseRows(new Float64Array(2), { policy: "top" as RowPolicy, k: 1 }), ConfigError, "topK?");
  assertEquals(chooseRows(new Float64Array(0), { policy: "wta", k: 3 }).rows.length, 0);
  assertEquals([...chooseRows(new Float64Array(3), { policy: "topK", k: 9 }).rows], [0, 1, 2]);
});

Deno.test("gradients() with scope batch and wta are right on average", async () => {
  using network = Network.create({ ...net, precision: "f64", threads: 1, seed: 3 });
  using data = await Dataset.create(rows);
  const exact = await network.gradients(data);
  const means = [...exact.gradients].map(([name, values]) => new Mean(name, values));
  for (let seed = 0; seed < 1500; seed++) {
    const { gradients } = await network.gradients(data, { rule: memAop({ k: 16, scope: "batch" }), seed });
    [...gradients.values()].forEach((values, at) => means[at]!.add(values));
  }
  for (const mean of means) mean.check();
});

/** Wide enough that products, memory passes and copies share their work. */
const wide = {
  input: [600],
  layers: [dense(811), relu(), dense(517), tanh(), dropout(0.1), dense(10)] as Layer[],
  rows: table(2 * 512 + 100, { shape: [600], classes: 10 }),
};

const variants: Record<string, MemAopOptions> = {
  "topK with memory, centred": { fraction: 0.25 },
  "weightedK with memory": { fraction: 0.25, policy: "weightedK", center: false, decay: 0.5 },
  "randK": { fraction: 0.25, policy: "randK", memory: false },
  "crs": { fraction: 0.25, policy: "crs" },
  "wta": { fraction: 0.25, policy: "wta" },
  "batch": { fraction: 0.25, scope: "batch" },
};

for (const [name, options] of Object.entries(variants)) {
  Deno.test(`memAop() gives the same bits on 1, 2 and 3 threads: ${name}`, async () => {
    const run = async (threads: number) => {
      using network = Network.create({ input: wide.input, layers: wide.layers, threads, seed: 5 });
      const rule = memAop({ ...options, ...(name !== "batch" && { minSize: 0 }) });
      for await (
        const _ of train(network, wide.rows, { rule, optimizer: sgd(0.01), epochs: 2, batchSize: 512, seed: 2 })
      );
      return bits(network);
    };
    const one = await run(1);
    for (const threads of [2, 3]) assertSameBits(await run(threads), one, `${threads} threads`);
  });

  Deno.test(`Trainer.resume() goes on with the same bits: ${name}`, async () => {
    await inTemporaryFolder(async (folder) => {
      const path = `${folder}/run.safetensors`;
      const rule = memAop({ ...options, ...(name !== "batch" && all) });
      const training = { rule, optimizer: sgd(0.05), epochs: 3, batchSize: 9, seed: 8 };
      using whole = Network.create({ ...net, seed: 2 });
      for await (const _ of train(whole, rows, training));
      {
        using network = Network.create({ ...net, seed: 2 });
        using data = await Dataset.create(rows);
        using trainer = await Trainer.create(network, data, training);
        await steps(network, data, 7);
        const kept = network.tensors().filter(({ group }) => group === "rule");
        assertEquals(kept.length > 0, name.includes("memory"), kept.map(({ name }) => name).join(", "));
        await trainer.save(path);
      }
      const checkpoint = await loadCheckpoint(path);
      using resumed = checkpoint.network;
      using trainer = await Trainer.resume(checkpoint, rows);
      while (!(await trainer.epoch()).done);
      assertSameBits(bits(resumed), bits(whole), "resumed");
    });
  });
}

Deno.test("describeRule() says what each layer does, and how well", async () => {
  using network = Network.create({ input: wide.input, layers: wide.layers, threads: 1 });
  using data = await Dataset.create(wide.rows);
  using _trainer = await Trainer.create(network, data, { rule: memAop({ k: 64, cosine: true }), batchSize: 512 });
  await steps(network, data, 2);
  const [first, second, last] = (await network.describeRule()).map(({ slots }) => slots.products);
  for (const one of [first!, second!]) {
    assertEquals([one.kind, one.keeps, one.k, one.of, one.policy], ["memAop", "rows", 64, 512, "topK"]);
    const share = one.keptShare as number;
    assert(share > 64 / 512 && share < 1, `${share}`);
    assert((one.memoryNorms as number[]).every((norm) => norm > 0));
    assert(one.cosine as number > 0.2 && one.cosine as number <= 1 + 1e-6, `${one.cosine}`);
  }
  assertEquals([last!.keeps, last!.why], ["all", "output layer"]);
  using small = Network.create({ ...net });
  using _other = await Trainer.create(small, rows, { rule: memAop() });
  assertEquals((await small.describeRule())[0]!.slots.products.why, "too small to save time");
  using batch = Network.create({ ...net });
  using trainer = await Trainer.create(batch, rows, {
    rule: memAop({ k: 4, scope: "batch" }),
    batchSize: BATCH,
    epochs: 1,
  });
  await trainer.epoch();
  assertEquals((await batch.describeRule())[0]!.slots.products.of, BATCH);
});

Deno.test("the cosine to the exact product is 1 where all rows are kept", async () => {
  using network = Network.create({ ...net, precision: "f64" });
  using data = await Dataset.create(rows);
  const rule = memAop({ ...all, k: BATCH, cosine: true });
  using _trainer = await Trainer.create(network, data, { rule, batchSize: BATCH });
  await steps(network, data, 3);
  for (const { slots } of await network.describeRule()) {
    assert(Math.abs(slots.products.cosine as number - 1) < 1e-12);
  }
});

Deno.test("memAop.paper() leaves out a batch that is not full", async () => {
  using network = Network.create({ ...net });
  using trainer = await Trainer.create(network, rows, {
    rule: memAop.paper({ k: 4 }),
    batchSize: 12,
    optimizer: sgd(0.01),
    epochs: 1,
  });
  assertEquals((await trainer.epoch()).rows, 36);
});

Deno.test("memAop() refuses options that cannot be used", () => {
  const cases: [MemAopOptions, string][] = [
    [{ k: 0 }, "Cannot use memAop.k: expected a whole number from 1 up but found 0"],
    [{ k: 2.5 }, "memAop.k"],
    [{ fraction: 0 }, "memAop.fraction"],
    [{ fraction: 1.5 }, "memAop.fraction"],
    [{ k: 3, fraction: 0.5 }, "expected k or fraction, not both"],
    [{ policy: "topk" as RowPolicy }, "(did you mean topK?)"],
    [{ policy: "crs", memory: true }, "expected false with the policy crs"],
    [{ scope: "batch", memory: true }, "Cannot use memAop.memory: expected false with scope batch"],
    [{ scope: "batch", center: true }, "Cannot use memAop.center: expected false with scope batch"],
    [{ memory: false, decay: 0.5 }, "Cannot use memAop.decay: expected memory: true beside it but found 0.5"],
    [{ policy: "wta", decay: 0.5 }, "Cannot use memAop.decay: expected no value with the policy wta"],
    [{ scope: "batch", cosine: true }, "Cannot use memAop.cosine: expected no value with scope batch"],
    [{ scope: "batch", minSize: 0 }, "Cannot use memAop.minSize: expected no value with scope batch"],
    [{ fraction: 1.01 }, "Cannot use memAop.fraction: expected a number above 0 and up to 1 but found 1.01"],
    [{ decay: 2 }, "memAop.decay"],
    [{ minSize: -1 }, "memAop.minSize"],
    [{ center: 1 as unknown as boolean }, "memAop.center"],
    [{ convolution: "rows" as "patches" }, "memAop.convolution"],
    [{ kk: 3 } as MemAopOptions, "memAop.kk"],
  ];
  for (const [options, part] of cases) assertThrows(() => memAop(options), ConfigError, part);
  const memory = [new Float64Array(2), new Float64Array(2)] as const;
  assertThrows(
    () => approximateProduct([memory[0], memory[1]], { rows: 1, k: 1, policy: "crs", memory }),
    ConfigError,
    "Cannot use approximateProduct.memory: expected none with the policy crs",
  );
  assertThrows(() => memAop.paper({ policy: "wta" as "topK" }), ConfigError, "memAop.paper.policy");
  assertThrows(
    () => ruleByName("mem-aop", { "mem-aop": { paper: true, center: true } }),
    ConfigError,
    "memAop.paper.center",
  );
  assertEquals(ruleByName("mem-aop", { "mem-aop": { k: 16 } }), memAop({ k: 16 }));
  assertEquals(ruleByName("mem-aop", { "mem-aop": { paper: true, k: 16 } }), memAop.paper({ k: 16 }));
});

Deno.test("a run refuses more rows than a batch has, and randK with memory under Adam unless forced", async () => {
  const start = async (rule: Rule, optimizer: Optimizer = sgd(0.1)) => {
    using network = Network.create({ ...net });
    using _trainer = await Trainer.create(network, rows, { rule, optimizer, batchSize: BATCH });
  };
  const fault = await assertRejects(() => start(memAop({ k: 11 })), EngineError);
  assertEquals(
    fault.message,
    "Cannot use rule.k: expected a whole number from 1 to 10 (the rows of a batch) but found 11",
  );
  const broken = { policy: "randK", memory: true } as const;
  for (const optimizer of [adam(), adamW(), rmsProp(), sgd(0.1, { momentum: 0.9 })]) {
    await assertRejects(() => start(memAop(broken), optimizer), EngineError, "Cannot use rule.policy");
    await start(memAop({ ...broken, force: true }), optimizer);
  }
  await start(memAop(broken));
});

Deno.test("scope batch is refused beside a rule without a backward pass", async () => {
  using network = Network.create({ ...net });
  const rule = combine(dual(), memAop({ k: 4, scope: "batch" }));
  await assertRejects(
    () => Trainer.create(network, rows, { rule, batchSize: BATCH }),
    EngineError,
    "Cannot use rule.scope",
  );
});

Deno.test("every policy trains, and the default learns", async () => {
  for (const policy of ROW_POLICIES) {
    using network = Network.create({ ...net, seed: 1 });
    let last = Infinity;
    const rule = memAop({ ...all, k: 4, policy });
    for await (const p of train(network, rows, { rule, optimizer: sgd(0.1), epochs: 150, batchSize: BATCH })) {
      last = p.trainLoss;
    }
    assert(last < 0.7, `${policy}: ${last}`);
  }
});
