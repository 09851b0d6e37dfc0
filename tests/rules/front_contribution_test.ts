/** Front contribution: trajectories of back-propagation, and every refusal's sentence. */

import { assert, assertEquals, assertThrows } from "@std/assert";
import {
  adam,
  backprop,
  combine,
  ConfigError,
  Dataset,
  dense,
  dropout,
  EngineError,
  flatten,
  frontContribution,
  type FrontContributionOptions,
  gelu,
  Gram,
  type Layer,
  layerNorm,
  type Loss,
  meanSquaredError,
  memAop,
  Network,
  relu,
  type Rule,
  sgd,
  sigmoid,
  type Table,
  tanh,
  Trainer,
  type TrainOptions,
} from "../../mod.ts";
import type { ParameterArray } from "../../src/network/layers.ts";
import { loadCheckpoint } from "../../src/run/checkpoint.ts";
import { assertSameBits, bits, bitsOf, inTemporaryFolder, scramble, steps, table } from "../helpers.ts";

/** A network and rows for a run. */
interface Case {
  readonly input: readonly number[];
  readonly layers: readonly Layer[];
  readonly rows: Table;
  readonly loss?: Loss;
  readonly precision?: "f32" | "f64";
}

type Run = TrainOptions & { readonly threads?: number };

/** A network in training, with single steps. */
async function start({ rows, precision = "f64", ...net }: Case, { threads, ...options }: Run) {
  const network = Network.create({ ...net, precision, seed: 3, ...(threads !== undefined && { threads }) });
  scramble(network, 50);
  // Pre-activations of about 1, whatever the width.
  for (const [name, values] of network.parameters()) {
    if (!name.endsWith("weight")) continue;
    const width = network.tensors().find((tensor) => tensor.name === name)!.shape.at(-1)!;
    network.write(name, values.map((w) => w * 1.6 / Math.sqrt(width)) as ParameterArray);
  }
  const data = await Dataset.create(rows);
  const trainer = await Trainer.create(network, data, { epochs: 1e6, seed: 4, ...options });
  return {
    network,
    trainer,
    data,
    /** Takes single steps; an epoch's end is no obstacle. */
    step: (count: number) => steps(network, data, count),
    outputs: () => predictions(network, rows),
    [Symbol.dispose]: () => {
      trainer[Symbol.dispose]();
      data[Symbol.dispose]();
      network[Symbol.dispose]();
    },
  };
}

/**
 * What the network says of each row: its outputs for values, logarithms of probabilities for classes. Probabilities themselves
 * would hide differences of logits where a class is all but certain.
 */
async function predictions(network: Network, { rows, shape, features, targets }: Table): Promise<ParameterArray> {
  const values = await network.predict({ rows, shape, features });
  return targets.kind === "labels" ? values.map(Math.log) as ParameterArray : values;
}

function difference(a: ArrayLike<number>, b: ArrayLike<number>): number {
  assertEquals(a.length, b.length);
  let worst = 0;
  for (let index = 0; index < a.length; index++) worst = Math.max(worst, Math.abs(a[index]! - b[index]!));
  return worst;
}

/** Largest difference of outputs along the trajectories of two rules, looked at every `every` steps, and of parameters at the end. */
async function compare(net: Case, options: Run, rule: Rule, { count = 200, every = 20 } = {}) {
  using plain = await start(net, { ...options, rule: backprop() });
  using front = await start(net, { ...options, rule });
  let outputs = 0;
  let moved = 0;
  const before = await plain.outputs();
  for (let step = 0; step < count; step += every) {
    await plain.step(every);
    await front.step(every);
    const [expected, found] = [await plain.outputs(), await front.outputs()];
    outputs = Math.max(outputs, difference(found, expected));
    moved = Math.max(moved, difference(before, expected));
  }
  const expected = plain.network.parameters();
  const parameters = Math.max(
    ...[...front.network.parameters()].map(([name, values]) => difference(values, expected.get(name)!)),
  );
  return { outputs, parameters, moved };
}

const activations: Record<string, () => Layer> = { relu, tanh, sigmoid, gelu };
const kinds: Record<string, Run> = {
  "plain": { optimizer: sgd(0.05) },
  "momentum": { optimizer: sgd(0.01, { momentum: 0.9 }) },
  "Nesterov": { optimizer: sgd(0.01, { momentum: 0.9, nesterov: true }) },
  "decay": { optimizer: sgd(0.05, { weightDecay: 0.01 }) },
  "momentum and decay": { optimizer: sgd(0.01, { momentum: 0.9, weightDecay: 0.01 }) },
  "Nesterov and decay": { optimizer: sgd(0.01, { momentum: 0.9, nesterov: true, weightDecay: 0.01 }) },
  "clipping": { optimizer: sgd(0.1), clipNorm: 0.4 },
  "clipping, momentum and decay": { optimizer: sgd(0.02, { momentum: 0.8, weightDecay: 0.01 }), clipNorm: 0.4 },
};
/** For rows as small as in these tests no gain is predicted. */
const gram = (options: FrontContributionOptions = {}) =>
  frontContribution({ collapse: "gram", force: true, ...options });

for (const [activation, layer] of Object.entries(activations)) {
  for (const depth of [1, 2, 3]) {
    Deno.test(`gram: ${activation}, ${depth} hidden layers: outputs along 200 steps and weights are those of back-propagation`, async () => {
      const hidden = [17, 12, 9].slice(0, depth).flatMap((units) => [dense(units), layer()]);
      const net = { input: [40], layers: [...hidden, dense(4)], rows: table(45, { shape: [40], classes: 4 }) };
      for (const [kind, options] of Object.entries(kinds)) {
        for (const batchSize of [45, 10]) {
          const found = await compare(net, { ...options, batchSize }, gram());
          const what = `${kind}, batch ${batchSize}: ${JSON.stringify(found)}`;
          assert(found.outputs <= 1e-10 && found.parameters <= 1e-10 && found.moved > 1e-3, what);
        }
      }
    });
  }
}

Deno.test("gram: values as targets, layers without bias, dropout and normalisation above, images, f32", async () => {
  const rows = { ...table(30, { shape: [4, 5, 2], values: 3 }) };
  const layers = [flatten(), dense(16, { bias: false }), layerNorm(), tanh(), dropout(0.2), dense(3)];
  const net = { input: [4, 5, 2], layers, rows, loss: meanSquaredError() };
  const options = { optimizer: sgd(0.05, { momentum: 0.5 }), batchSize: 7, dropLast: true };
  const found = await compare(net, options, gram());
  assert(found.outputs <= 1e-10 && found.parameters <= 1e-10 && found.moved > 1e-3, JSON.stringify(found));
  const single = await compare({ ...net, precision: "f32" }, options, gram());
  assert(single.outputs <= 1e-4 && single.parameters <= 1e-4 && single.moved > 1e-3, JSON.stringify(single));
});

/** The four rows of XOR. */
const xor: Table = {
  rows: 4,
  shape: [2],
  features: new Float64Array([0, 0, 0, 1, 1, 0, 1, 1]),
  targets: { kind: "values", size: 1, values: new Float64Array([0, 1, 1, 0]) },
};

for (const [name, layer] of Object.entries({ relu, tanh, sigmoid })) {
  Deno.test(`gram: XOR with ${name} stays within 1e-12 of back-propagation over 5,000 steps`, async () => {
    for (const hidden of [2, 4]) {
      const net = { input: [2], layers: [dense(hidden), layer(), dense(1)], rows: xor, loss: meanSquaredError() };
      const options = { optimizer: sgd(0.2), batchSize: 4 };
      const found = await compare(net, options, gram(), { count: 5000, every: 250 });
      assert(found.outputs <= 1e-12 && found.moved > 0.05, JSON.stringify(found));
    }
  });
}

const pairs = (options: FrontContributionOptions = {}) =>
  frontContribution({ collapse: "linearPair", force: true, ...options });

/** The products that a pair is reduced to, from two layers' parameters, and from the run's state. */
function products(network: Network, [first, second]: readonly [number, number], bias: boolean) {
  const read = (name: string) => network.read(name);
  const [w1, w2] = [read(`${first}.weight`), read(`${second}.weight`)];
  const b1 = bias ? read(`${first}.bias`) : undefined;
  const hidden = network.tensors().find((tensor) => tensor.name === `${first}.weight`)!.shape[0]!;
  const [inputs, outputs] = [w1.length / hidden, w2.length / hidden];
  const size = inputs + (bias ? 1 : 0);
  const one = (unit: number, input: number) => input < inputs ? w1[unit * inputs + input]! : b1![unit]!;
  const two = (output: number, unit: number) => w2[output * hidden + unit]!;
  const sum = (value: (unit: number) => number) => {
    let total = 0;
    for (let unit = 0; unit < hidden; unit++) total += value(unit);
    return total;
  };
  const matrix = (rows: number, columns: number, value: (row: number, column: number) => number) =>
    Float64Array.from({ length: rows * columns }, (_, at) => value(Math.floor(at / columns), at % columns));
  return {
    product: matrix(size, outputs, (i, o) => sum((unit) => one(unit, i) * two(o, unit))),
    left: matrix(size, size, (i, j) => sum((unit) => one(unit, i) * one(unit, j))),
    right: matrix(outputs, outputs, (o, p) => sum((unit) => two(o, unit) * two(p, unit))),
  };
}

/** Where linear pairs stand: alone, with biases, inside, above and below other layers, wide and narrow. */
const pairCases: Record<
  string,
  { readonly layers: readonly Layer[]; readonly at: [number, number]; readonly bias: boolean }
> = {
  "alone": { layers: [dense(60, { bias: false }), dense(4)], at: [0, 1], bias: false },
  "with biases": { layers: [dense(60), dense(4)], at: [0, 1], bias: true },
  "narrow": { layers: [dense(3), dense(4)], at: [0, 1], bias: true },
  "inside": { layers: [dense(9), tanh(), dense(50), dense(8), sigmoid(), dense(4)], at: [2, 3], bias: true },
  "below": { layers: [dense(50, { bias: false }), dense(8), gelu(), dense(4)], at: [0, 1], bias: false },
  "above": { layers: [dense(11), tanh(), layerNorm(), dense(50), dense(4)], at: [3, 4], bias: true },
};

for (const [name, { layers, at, bias }] of Object.entries(pairCases)) {
  Deno.test(`linearPair, ${name}: outputs and products are those of two layers`, async () => {
    const net = { input: [12], layers, rows: table(40, { shape: [12], classes: 4 }) };
    // Two linear layers are steeper than one: at rates near the edge of stability roundings grow.
    const stable: Record<string, Run> = {
      plain: { optimizer: sgd(0.03) },
      decay: { optimizer: sgd(0.03, { weightDecay: 0.01 }) },
      clipping: { optimizer: sgd(0.03), clipNorm: 0.4 },
    };
    for (const [kind, descent] of Object.entries(stable)) {
      for (const batchSize of [40, 9]) {
        const options = { ...descent, batchSize };
        const what = `${kind}, batch ${batchSize}`;
        const found = await compare(net, options, pairs());
        assert(found.outputs <= 1e-10 && found.moved > 1e-3, `${what}: ${JSON.stringify(found)}`);
        using plain = await start(net, { ...options, rule: backprop() });
        using front = await start(net, { ...options, rule: pairs() });
        await plain.step(200);
        await front.step(200);
        const expected = products(plain.network, at, bias);
        // Weights that are read during the run have the same products.
        const exported = products(front.network, at, bias);
        for (const key of ["product", "left", "right"] as const) {
          const state = front.network.read(`rule.${at[0]}.front.${key}`);
          assert(difference(state, expected[key]) <= 1e-10, `${what}: ${key}`);
          assert(difference(exported[key], expected[key]) <= 1e-10, `${what}: exported ${key}`);
        }
        const { left } = exported;
        const size = Math.sqrt(left.length);
        const own = front.network.read(`rule.${at[0]}.front.left`);
        for (let i = 0; i < size; i++) for (let j = 0; j < i; j++) assertEquals(own[i * size + j], own[j * size + i]);
        // Training goes on from the exported layers as it would have with the original ones.
        const outputs = [plain, front].map(async (run) => {
          run.trainer[Symbol.dispose]();
          using again = await Trainer.create(run.network, run.data, { ...options, epochs: 1e6, seed: 9 });
          await steps(again.network, run.data, 50);
          return await run.outputs();
        });
        const later = difference(await outputs[0]!, await outputs[1]!);
        assert(later <= 1e-9, `${what}, trained on: ${later}`);
      }
    }
  });
}

Deno.test("linearPair: f32 stays within 1e-4", async () => {
  for (const { layers } of [pairCases["with biases"]!, pairCases.inside!]) {
    const net = { input: [12], layers, rows: table(40, { shape: [12], classes: 4 }), precision: "f32" } as const;
    for (const batchSize of [40, 9]) {
      const found = await compare(net, { optimizer: sgd(0.03, { weightDecay: 0.01 }), batchSize }, pairs());
      assert(found.outputs <= 1e-4 && found.moved > 1e-3, JSON.stringify(found));
    }
  }
});

Deno.test("memAop beside front contribution chooses products of the layers that are left", async () => {
  const layers = [dense(17), relu(), dense(12), tanh(), dense(4)];
  const net = { input: [40], layers, rows: table(45, { shape: [40], classes: 4 }) };
  const options = { optimizer: sgd(0.05), batchSize: 45 };
  using alone = await start(net, { ...options, rule: gram() });
  using all = await start(net, { ...options, rule: combine(gram(), memAop({ fraction: 1, minSize: 0 })) });
  using few = await start(net, { ...options, rule: combine(gram(), memAop({ fraction: 0.2, minSize: 0 })) });
  for (let step = 0; step < 200; step += 20) {
    for (const run of [alone, all, few]) await run.step(20);
    const expected = await alone.outputs();
    assert(difference(await all.outputs(), expected) <= 1e-10, `after ${step + 20} steps`);
    assert(difference(await few.outputs(), expected) > 1e-6, `after ${step + 20} steps`);
  }
  for (const [name, values] of alone.network.parameters()) {
    assert(difference(all.network.read(name), values) <= 1e-10, name);
  }
});

Deno.test("linearPair keeps 525 numbers for 20-4096-5, and two pairs of one network", async () => {
  const net = {
    input: [20],
    layers: [dense(4096, { bias: false }), dense(5)],
    rows: table(30, { shape: [20], classes: 5 }),
  };
  const found = await compare(net, { optimizer: sgd(0.02), batchSize: 30 }, pairs({ force: false }), { count: 60 });
  assert(found.outputs <= 1e-10 && found.moved > 1e-3, JSON.stringify(found));
  using run = await start(net, { rule: pairs({ force: false }), optimizer: sgd(0.02) });
  const state = run.network.tensors().filter((tensor) => tensor.group === "rule");
  assertEquals(state.map(({ shape }) => shape[0]! * shape[1]!).reduce((sum, count) => sum + count), 525);
  const layers = [dense(30), dense(8), tanh(), dense(30), dense(4)];
  const two = await compare({ input: [12], layers, rows: table(20, { shape: [12], classes: 4 }) }, {
    optimizer: sgd(0.02),
  }, pairs());
  assert(two.outputs <= 1e-10 && two.moved > 1e-3, JSON.stringify(two));
});

Deno.test("final: the last layer is trained as by back-propagation with a rate of 0 elsewhere, and nothing else moves", async () => {
  const layers = [dense(16), relu(), layerNorm(), dense(10), tanh(), dense(3)];
  const net = { input: [8], layers, rows: table(50, { shape: [8], classes: 3 }) };
  for (
    const options of [{ optimizer: adam(0.01) }, {
      optimizer: sgd(0.1, { momentum: 0.9, weightDecay: 0.1 }),
      clipNorm: 0.2,
    }]
  ) {
    using front = await start(net, {
      ...options,
      batchSize: 12,
      rule: frontContribution({ collapse: "final", force: true }),
    });
    const before = front.network.parameters();
    // The last layer alone, on features that the layers below gave.
    using below = await start({ ...net, layers: layers.slice(0, -1).concat(dense(3)) }, {});
    const features = hiddenFeatures(below.network, net.rows);
    using alone = await start({ input: [10], layers: [dense(3)], rows: { ...net.rows, shape: [10], features } }, {
      ...options,
      batchSize: 12,
    });
    for (const name of ["weight", "bias"]) alone.network.write(`0.${name}`, before.get(`5.${name}`)!);
    await front.step(100);
    await alone.step(100);
    for (const [name, values] of front.network.parameters()) {
      if (!name.startsWith("5.")) assertEquals(values, before.get(name)!, name);
    }
    for (const name of ["weight", "bias"]) {
      const [found, expected] = [front.network.read(`5.${name}`), alone.network.read(`0.${name}`)];
      assert(difference(found, expected) <= 1e-10 && difference(found, before.get(`5.${name}`)!) > 1e-3, name);
    }
  }
});

/** Outputs of the layers below the last one, computed here. */
function hiddenFeatures(network: Network, rows: Table): Float64Array<ArrayBuffer> {
  const p = network.parameters();
  const linear = (x: Float64Array, layer: number) => {
    const [w, b] = [p.get(`${layer}.weight`)!, p.get(`${layer}.bias`)!];
    return Float64Array.from(
      b,
      (bias, unit) => x.reduce((sum, value, i) => sum + value * w[unit * x.length + i]!, bias),
    );
  };
  const out: number[] = [];
  for (let row = 0; row < rows.rows; row++) {
    const x = Float64Array.from(rows.features.subarray(row * 8, row * 8 + 8));
    const h = linear(x, 0).map((z) => Math.max(0, z));
    const mean = h.reduce((sum, z) => sum + z) / h.length;
    const deviation = Math.sqrt(h.reduce((sum, z) => sum + (z - mean) ** 2, 0) / h.length + 1e-5);
    const [gamma, beta] = [p.get("2.weight")!, p.get("2.bias")!];
    const normal = h.map((z, i) => (z - mean) / deviation * gamma[i]! + beta[i]!);
    out.push(...linear(normal, 3).map(Math.tanh));
  }
  return Float64Array.from(out);
}

Deno.test("each sample's update of the first layer is what the last layer's update contributes to it", async () => {
  // One hidden layer, one sample a step, no momentum, no decay: dW_ji = x_i f'(z_j) / f(z_j) sum_k v_kj dv_kj. This is
  // back-propagation in other words: it saves nothing, but says what "front contribution" means.
  const net = { input: [6], layers: [dense(5), sigmoid(), dense(3)], rows: table(30, { shape: [6], classes: 3 }) };
  using run = await start(net, { optimizer: sgd(0.1), batchSize: 1, shuffle: false });
  let worst = 0;
  let largest = 0;
  for (let step = 0; step < 300; step++) {
    const before = run.network.parameters();
    const x = net.rows.features.subarray((step % 30) * 6, (step % 30) * 6 + 6);
    await run.step(1);
    const after = run.network.parameters();
    const [w, b, v, next] = [
      before.get("0.weight")!,
      before.get("0.bias")!,
      before.get("2.weight")!,
      after.get("2.weight")!,
    ];
    for (let unit = 0; unit < 5; unit++) {
      let z = b[unit]!;
      for (let i = 0; i < 6; i++) z += x[i]! * w[unit * 6 + i]!;
      const f = 1 / (1 + Math.exp(-z));
      let sum = 0;
      for (let k = 0; k < 3; k++) sum += v[k * 5 + unit]! * (next[k * 5 + unit]! - v[k * 5 + unit]!);
      for (let i = 0; i < 6; i++) {
        const moved = after.get("0.weight")![unit * 6 + i]! - w[unit * 6 + i]!;
        worst = Math.max(worst, Math.abs(moved - x[i]! * (f * (1 - f) / f) * sum));
        largest = Math.max(largest, Math.abs(moved));
      }
    }
  }
  assert(worst <= 1e-12 && largest > 1e-3, `${worst} of ${largest}`);
});

Deno.test("the hidden weights are no function of the last layer's weight: two paths to the same v end with different w", () => {
  // One linear unit with two inputs, f(x) = v (w · x), squared error, from one start: the limit of what can be collapsed.
  type Sample = readonly [number, number, number];
  const descend = (rate: number, samples: readonly Sample[]) => {
    let [v, w1, w2] = [0.8, 0.6, 0.4];
    for (const [x1, x2, target] of samples) {
      const h = w1 * x1 + w2 * x2;
      const slope = v * h - target;
      [v, w1, w2] = [v - rate * slope * h, w1 - rate * slope * v * x1, w2 - rate * slope * v * x2];
    }
    return { v, w: [w1, w2] };
  };
  const one = descend(0.1, [[1, 0.5, 1.5], [0.5, -1, 0.3]]);
  // Path B: one sample; its rate is found so that the same v is reached.
  let [low, high] = [0, 1];
  for (let i = 0; i < 200; i++) {
    const middle = (low + high) / 2;
    if (descend(middle, [[1, 1, 2]]).v < one.v) low = middle;
    else high = middle;
  }
  const two = descend(high, [[1, 1, 2]]);
  assert(Math.abs(one.v - two.v) <= 1e-15, `${one.v} and ${two.v}`);
  assert(difference(one.w, two.w) > 1e-3, JSON.stringify([one, two]));
});

/** One case of each collapse, with batches that do not divide the rows. */
const runs: Record<string, { readonly net: Case; readonly options: Run }> = {
  gram: {
    net: {
      input: [40],
      layers: [dense(17), relu(), dense(4)],
      rows: table(45, { shape: [40], classes: 4 }),
      precision: "f32",
    },
    options: { rule: gram(), batchSize: 10, ...kinds["Nesterov and decay"]! },
  },
  "gram, all rows": {
    net: {
      input: [40],
      layers: [dense(17), relu(), dense(4)],
      rows: table(45, { shape: [40], classes: 4 }),
      precision: "f32",
    },
    options: { rule: gram(), batchSize: 45, ...kinds["clipping, momentum and decay"]! },
  },
  linearPair: {
    net: {
      input: [12],
      layers: [dense(9), tanh(), dense(50), dense(4)],
      rows: table(40, { shape: [12], classes: 4 }),
      precision: "f32",
    },
    options: { rule: pairs(), batchSize: 9, ...kinds["decay"]! },
  },
  final: {
    net: {
      input: [12],
      layers: [dense(9), tanh(), dense(4)],
      rows: table(40, { shape: [12], classes: 4 }),
      precision: "f32",
    },
    options: { rule: frontContribution({ collapse: "final", force: true }), batchSize: 9, optimizer: adam() },
  },
};

for (const [name, { net, options }] of Object.entries(runs)) {
  Deno.test(`${name}: reading, saving and resuming change no bit of the run`, async () => {
    const whole = await (async () => {
      using run = await start(net, { ...options, epochs: 8 });
      for (let epoch = 0; epoch < 8; epoch++) await run.trainer.epoch();
      run.trainer[Symbol.dispose]();
      return { parameters: bits(run.network), outputs: await run.outputs() };
    })();
    await inTemporaryFolder(async (folder) => {
      const file = `${folder}/run.safetensors`;
      {
        using run = await start(net, { ...options, epochs: 8 });
        for (let epoch = 0; epoch < 3; epoch++) {
          await run.trainer.epoch();
          run.network.parameters();
          await run.network.evaluate(net.rows);
        }
        await run.step(1);
        await run.trainer.save(file);
      }
      const checkpoint = await loadCheckpoint(file);
      using network = checkpoint.network;
      using trainer = await Trainer.resume(checkpoint, net.rows);
      let done = false;
      while (!done) ({ done } = await trainer.epoch());
      const within = bitsOf([await predictions(network, net.rows)]);
      assertSameBits(within, bitsOf([whole.outputs]), "outputs during the run");
      trainer[Symbol.dispose]();
      assertSameBits(bits(network), whole.parameters, "parameters after it");
    });
  });
}

Deno.test("every collapse gives the same bits on 1, 2 and 3 threads", async () => {
  // Large enough that products are shared between threads.
  const rows = table(520, { shape: [700], classes: 5 });
  const cases: [string, Case, Run][] = [
    ["gram", { input: [700], layers: [dense(80), relu(), dense(5)], rows, precision: "f32" }, {
      rule: gram(),
      clipNorm: 1,
    }],
    ["linearPair", { input: [700], layers: [dense(40), dense(30), relu(), dense(5)], rows, precision: "f32" }, {
      rule: pairs(),
    }],
    ["final", { input: [700], layers: [dense(400), relu(), dense(5)], rows, precision: "f32" }, {
      rule: frontContribution({ collapse: "final", force: true }),
    }],
  ];
  for (const [name, net, options] of cases) {
    const outcome = async (threads: number) => {
      using run = await start(net, { ...options, threads, batchSize: 200, optimizer: sgd(0.01) });
      await run.step(5);
      const during = bits(run.network);
      run.trainer[Symbol.dispose]();
      return `${during} ${bits(run.network)} ${bitsOf([await run.outputs()])}`;
    };
    const one = await outcome(1);
    for (const threads of [2, 3]) assertSameBits(await outcome(threads), one, `${name} on ${threads} threads`);
  }
});

Deno.test("gram: the velocity that is read is back-propagation's", async () => {
  const { net } = runs.gram!;
  const options = { ...kinds["momentum and decay"]!, batchSize: 10 };
  using plain = await start({ ...net, precision: "f64" }, options);
  using front = await start({ ...net, precision: "f64" }, { ...options, rule: gram() });
  await plain.step(50);
  await front.step(50);
  for (const name of ["optimizer.first.0.weight", "optimizer.first.0.bias", "optimizer.first.2.weight"]) {
    const expected = plain.network.read(name);
    assert(difference(front.network.read(name), expected) <= 1e-10 && Math.max(...expected) > 1e-3, name);
  }
});

Deno.test("gradients() during a run are those of back-propagation, and leave the run alone", async () => {
  for (const name of ["gram", "linearPair"]) {
    const { net, options } = runs[name]!;
    using front = await start({ ...net, precision: "f64" }, options);
    using plain = await start({ ...net, precision: "f64" }, { ...options, rule: backprop() });
    await front.step(20);
    await plain.step(20);
    const [found, expected] = [await front.network.gradients(net.rows), await plain.network.gradients(net.rows)];
    assert(Math.abs(found.loss - expected.loss) <= 1e-10, name);
    const last = [...expected.gradients.keys()].at(-1)!;
    assert(difference(found.gradients.get(last)!, expected.gradients.get(last)!) <= 1e-10, name);
    await front.step(20);
    await plain.step(20);
    assert(difference(await front.outputs(), await plain.outputs()) <= 1e-10, name);
  }
});

Deno.test("gram: an optimizer of its own beside adam for the layers above", async () => {
  // The same run by hand: gradients from back-propagation, descent on the first layer's weights, adam elsewhere.
  const rows = table(30, { shape: [10], classes: 3 });
  const net = { input: [10], layers: [dense(8, { bias: false }), tanh(), dense(3)], rows };
  const own = sgd(0.05, { momentum: 0.5, weightDecay: 0.02 });
  using front = await start(net, { rule: gram({ optimizer: own }), optimizer: adam(0.01), batchSize: 30 });
  using plain = await start(net, { optimizer: sgd(0) });
  const moments = new Map<string, { m: Float64Array; v: Float64Array }>();
  for (let step = 1; step <= 60; step++) {
    await front.step(1);
    const { gradients } = await plain.network.gradients(rows);
    for (const [name, w] of plain.network.parameters()) {
      const g = gradients.get(name)!;
      const { m, v } = moments.get(name) ?? { m: new Float64Array(w.length), v: new Float64Array(w.length) };
      moments.set(name, { m, v });
      for (let i = 0; i < w.length; i++) {
        if (name === "0.weight") {
          m[i] = 0.5 * m[i]! + g[i]! + 0.02 * w[i]!;
          w[i] = w[i]! - 0.05 * m[i]!;
        } else {
          m[i] = 0.9 * m[i]! + 0.1 * g[i]!;
          v[i] = 0.999 * v[i]! + 0.001 * g[i]! ** 2;
          w[i] = w[i]! - 0.01 * (m[i]! / (1 - 0.9 ** step)) / (Math.sqrt(v[i]! / (1 - 0.999 ** step)) + 1e-8);
        }
      }
      plain.network.write(name, w);
    }
  }
  for (const [name, expected] of plain.network.parameters()) {
    assert(difference(front.network.read(name), expected) <= 1e-9, name);
  }
});

Deno.test("gram: a shared Gram serves whole data sets and selections, with the same bits as without", async () => {
  const rows = table(60, { shape: [300], classes: 3 });
  const layers = [dense(12), relu(), dense(3)];
  using data = await Dataset.create(rows);
  const fold = Array.from({ length: 48 }, (_, row) => (row * 7) % 60);
  for (const selection of [Array.from({ length: 60 }, (_, row) => row), fold]) {
    const outcome = async (shared?: Gram) => {
      using network = Network.create({ input: [300], layers, seed: 2 });
      using part = data.select(selection);
      assertEquals([part.rows, part.storedRows], [selection.length, 60]);
      const rule = frontContribution({ collapse: "gram", ...(shared && { gram: shared }) });
      using trainer = await Trainer.create(network, part, {
        rule,
        optimizer: sgd(0.05),
        batchSize: 16,
        epochs: 5,
        seed: 1,
      });
      while (!(await trainer.epoch()).done);
      trainer[Symbol.dispose]();
      return bits(network);
    };
    const alone = await outcome();
    using shared = await Gram.create(data);
    assertEquals([shared.rows, shared.bytes, shared.precision], [60, 14_400, "f32"]);
    assertSameBits(await outcome(shared), alone, `${selection.length} rows`);
  }
});

Deno.test("Dataset.select() trains and evaluates as a table of those rows", async () => {
  const rows = table(30, { shape: [5], classes: 3 });
  const chosen = [4, 29, 0, 17, 17];
  const features = Float32Array.from(chosen.flatMap((row) => [...rows.features.subarray(row * 5, row * 5 + 5)]));
  const values = Uint32Array.from(chosen, (row) => (rows.targets.values as Uint32Array)[row]!);
  using data = await Dataset.create(rows);
  using part = data.select(chosen);
  using nested = part.select([3, 1]);
  using network = Network.create({ input: [5], layers: [dense(3)], seed: 1 });
  const expected = await network.evaluate({
    ...rows,
    rows: 5,
    features,
    targets: { kind: "labels", classes: 3, values },
  });
  assertEquals(await network.evaluate(part), expected);
  assertEquals((await network.evaluate(nested)).rows, 2);
  assertThrows(
    () => data.select([]),
    EngineError,
    "Cannot use the selection: expected at least one row but found none",
  );
  assertThrows(
    () => data.select([30]),
    EngineError,
    "Cannot use the selection: expected rows from 0 to 29 but found 30",
  );
  assertThrows(() => data.select([1.5]), ConfigError, "Cannot use rows[0]: expected a whole number");
});
