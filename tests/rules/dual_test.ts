/** The dual rule: identity with back-propagation, and the laws of its estimates. */

import { assert, assertEquals, assertRejects } from "@std/assert";
import {
  adam,
  backprop,
  binaryCrossEntropy,
  combine,
  conv2d,
  Dataset,
  decorrelated,
  type DecorrelatedOptions,
  dense,
  directionalDerivatives,
  dropout,
  dual,
  type DualOptions,
  EngineError,
  flatten,
  gelu,
  type Layer,
  meanSquaredError,
  memAop,
  Network,
  type ParameterArray,
  relu,
  type Rule,
  sgd,
  sigmoid,
  softmaxCrossEntropy,
  sparse,
  tanh,
  train,
  Trainer,
} from "../../mod.ts";
import { numbers, scramble, steps, table } from "../helpers.ts";
import { assertClose } from "../tolerance.ts";
import { after, assertSameParameters, IMAGE, imageNets, mixingNets, nets, rowsFor } from "./dual_helpers.ts";

/** Against back-propagation, relative to the largest number of a tensor. */
const IDENTITY = 1e-10;

/** The same for one layer, where only the order of multiplications differs. */
const ONE_LAYER = 1e-12;

for (const [name, layers] of Object.entries(nets)) {
  Deno.test(`exact lanes equal back-propagation over 20 steps: ${name}`, async () => {
    for (const optimizer of [sgd(0.05), adam(1e-2)]) {
      const expected = await after({ layers, optimizer });
      for (const seedAt of ["output", "preactivation"] as const) {
        for (const lanes of [3, 16]) {
          const found = await after({ layers, optimizer, rule: dual({ mode: "exact", lanes, seedAt }) });
          assertSameParameters({ name: `${optimizer.kind}, ${seedAt}, ${lanes}`, limit: IDENTITY }, found, expected);
        }
      }
    }
  });
}

for (const [name, layers] of Object.entries(imageNets)) {
  Deno.test(`exact lanes equal back-propagation over 20 steps on images: ${name}`, async () => {
    const expected = await after({ layers, input: IMAGE });
    for (const seedAt of ["output", "preactivation"] as const) {
      const found = await after({ layers, input: IMAGE, rule: dual({ mode: "exact", seedAt }) });
      assertSameParameters({ name: seedAt, limit: IDENTITY }, found, expected);
    }
  });
}

for (const [name, [input, layers]] of Object.entries(mixingNets)) {
  Deno.test(`directions of all weights give back-propagation's gradient in training: ${name}`, async () => {
    using network = Network.create({ input, layers, precision: "f64", threads: 1 });
    scramble(network, 6);
    using data = await Dataset.create(rowsFor(softmaxCrossEntropy(), 7, input));
    const expected = (await network.gradients(data, { training: true })).gradients;
    const lanes = [...expected.values()].reduce((sum, values) => sum + values.length, 0);
    const rule = dual({ mode: "weight", lanes });
    const { gradients } = await network.gradients(data, { rule, training: true });
    for (const [name, values] of expected) {
      assertClose({ name, limit: IDENTITY }, [...gradients.get(name)!, 1], [...values, 1]);
    }
  });

  Deno.test(`where the bias is allowed, feedback and activity train, and count each batch once: ${name}`, async () => {
    const statistics = async (rule: Rule, count: number) => {
      using network = Network.create({ input, layers, precision: "f64", threads: 1, seed: 2 });
      scramble(network, 6);
      using data = await Dataset.create(rowsFor(softmaxCrossEntropy(), 24, input));
      const { loss } = await network.evaluate(data);
      const run = { rule, batchSize: 8, epochs: 100, optimizer: adam(5e-3) };
      using _trainer = await Trainer.create(network, data, run);
      await steps(network, data, count);
      const buffers = network.tensors().filter(({ group }) => group === "buffer").map(({ name }) => network.read(name));
      return { fallen: loss - (await network.evaluate(data)).loss, buffers };
    };
    for (const mode of ["feedback", "activity"] as const) {
      const rule = dual({ mode, lanes: 2, allowBias: true });
      const [own, reference] = [await statistics(rule, 1), await statistics(backprop(), 1)];
      own.buffers.slice(0, 2).forEach((values, index) => {
        assertClose({ name: `${mode}, running statistics ${index}`, limit: 0 }, values, reference.buffers[index]!);
      });
      const [found, expected] = [await statistics(rule, 60), await statistics(backprop(), 60)];
      const share = found.fallen / expected.fallen;
      assert(share > 0.5, `${mode}: the loss fell by ${share} of what it falls by with back-propagation`);
    }
  });
}

Deno.test("exact lanes equal back-propagation for every loss, for clipped gradients and an odd last batch", async () => {
  const layers = nets["dense, relu"]!;
  const rule = dual({ mode: "exact" });
  for (const loss of [softmaxCrossEntropy({ labelSmoothing: 0.1 }), meanSquaredError(), binaryCrossEntropy()]) {
    const place = { name: loss.kind, limit: IDENTITY };
    assertSameParameters(place, await after({ layers, loss, rule }), await after({ layers, loss }));
  }
  for (const options of [{ clipNorm: 0.05 }, { batchSize: 7 }]) {
    const place = { name: JSON.stringify(options), limit: IDENTITY };
    assertSameParameters(place, await after({ layers, rule, ...options }), await after({ layers, ...options }));
  }
});

Deno.test("local duals equal back-propagation for one layer, with either seed", async () => {
  for (
    const [layers, loss] of [
      [[dense(3)], softmaxCrossEntropy()],
      [[dropout(0.3), dense(3), sigmoid()], meanSquaredError()],
      [[dense(3), gelu(), dropout(0.2), tanh()], meanSquaredError()],
    ] as const
  ) {
    const expected = await after({ layers, loss });
    const found = await after({ layers, loss, rule: dual({ mode: "local" }) });
    assertSameParameters({ name: "preactivation", limit: ONE_LAYER }, found, expected);
    // Sums of the scrambled weights are not small here; the next test is about those that are.
    const published = await after({ layers, loss, rule: dual({ mode: "local", seedAt: "input" }) });
    assertSameParameters({ name: "input", limit: IDENTITY }, published, expected);
  }
});

Deno.test("a network of one layer needs no lanes: the loss's gradient is that of back-propagation in each mode with a backward signal", async () => {
  const layers = [dense(3), tanh()];
  const expected = await after({ layers, loss: meanSquaredError() });
  for (const mode of ["feedback", "activity", "exact"] as const) {
    for (const twoPass of mode === "exact" ? [false] : [false, true]) {
      const found = await after({
        layers,
        loss: meanSquaredError(),
        rule: dual({ mode, ...(twoPass && { twoPass }) }),
      });
      assertSameParameters({ name: `${mode}, two passes ${twoPass}`, limit: ONE_LAYER }, found, expected);
    }
  }
});

Deno.test("the published seed loses digits where a sum of weights is small and fails where it is 0; the seed at the preactivation does neither", async () => {
  const inputs = 200;
  /** Largest error of the first unit's weights over some networks, relative to their largest gradient. */
  const errorOf = async (seedAt: "input" | "preactivation", sum: number) => {
    let worst = 0;
    for (let seed = 3; seed < 8; seed++) {
      using network = Network.create({
        input: [inputs],
        layers: [dense(3), tanh()],
        loss: meanSquaredError(),
        threads: 1,
      });
      // As f32 numbers, so that their sum is what it says.
      const weights = new Float32Array(numbers(3 * inputs, seed));
      weights[inputs - 1] = sum - weights.subarray(0, inputs - 1).reduce((a, b) => a + b, 0);
      network.write("0.weight", weights);
      const batch = rowsFor(meanSquaredError(), 40, [inputs]);
      const expected = (await network.gradients(batch)).gradients.get("0.weight")!.slice(0, inputs);
      const { gradients } = await network.gradients(batch, { rule: dual({ mode: "local", seedAt }) });
      const found = gradients.get("0.weight")!;
      const scale = Math.max(...expected.map(Math.abs));
      worst = Math.max(worst, ...expected.map((value, index) => Math.abs(found[index]! - value) / scale));
    }
    return worst;
  };
  assert(await errorOf("preactivation", 1e-4) < 1e-6);
  assert(await errorOf("input", 1) < 1e-5);
  const small = await errorOf("input", 1e-4);
  assert(small > 1e-4, `${small}: ten thousand times the error at a sum of 1, or about that, was expected`);
  await assertRejects(
    async () => {
      using network = Network.create({ input: [6], layers: [dense(3, { weightInit: "zeros" })] });
      await network.gradients(rowsFor(softmaxCrossEntropy(), 4), { rule: dual({ mode: "local", seedAt: "input" }) });
    },
    EngineError,
    "Cannot divide by the sum of the weights of output 0 in layer 0 (dense): it is 0; use seedAt preactivation",
  );
});

Deno.test("activity with a lane for every unit and lanes of its own for each layer is back-propagation, row by row", async () => {
  const layers = [dense(8), tanh(), dense(8), tanh(), dense(3)];
  const expected = await after({ layers });
  for (const twoPass of [false, true]) {
    const rule = dual({ mode: "activity", lanes: 8, seedAt: "preactivation", twoPass });
    assertSameParameters({ name: `two passes ${twoPass}`, limit: IDENTITY }, await after({ layers, rule }), expected);
  }
});

/** Gradients of one row for many seeds: their squared distance from back-propagation's, and that of their mean. */
async function law(options: DualOptions, layers: readonly Layer[], draws: number) {
  using network = Network.create({ input: [4], layers, precision: "f64", threads: 1 });
  scramble(network, 3);
  using data = await Dataset.create(rowsFor(softmaxCrossEntropy(), 1, [4]));
  // The last layer's gradient is exact in activity mode: only the first is a matter of chance.
  const flat = (gradients: ReadonlyMap<string, ParameterArray>) =>
    [...gradients].filter(([name]) => options.mode === "weight" || name.startsWith("0.")).flatMap(([, v]) => [...v]);
  const exact = flat((await network.gradients(data)).gradients);
  const mean = new Float64Array(exact.length);
  let squared = 0;
  for (let seed = 0; seed < draws; seed++) {
    const found = flat((await network.gradients(data, { rule: dual(options), seed })).gradients);
    found.forEach((value, index) => {
      mean[index]! += value / draws;
      squared += (value - exact[index]!) ** 2 / draws;
    });
  }
  const norm = exact.reduce((sum, value) => sum + value * value, 0);
  const bias = exact.reduce((sum, value, index) => sum + (mean[index]! - value) ** 2, 0);
  const along = exact.reduce((sum, value, index) => sum + value * mean[index]!, 0) / norm;
  return { squared: squared / norm, bias: bias / norm, along, count: exact.length };
}

Deno.test("activity: the mean over seeds is the gradient, the squared error is units / lanes − 1", async () => {
  const [units, draws] = [12, 2000];
  const layers = [dense(units), tanh(), dense(3)];
  for (const lanes of [1, 3, 12]) {
    const found = await law({ mode: "activity", lanes, seedAt: "preactivation" }, layers, draws);
    const expected = units / lanes - 1;
    const close = Math.abs(found.squared - expected) < 0.12 * expected + 1e-12;
    assert(close, `${lanes} lanes: ${found.squared}, not ${expected}`);
    // The mean of n draws has 1 / n of the squared error; five times that is out of reach by chance.
    assert(found.bias < 5 * (expected + 1e-12) / draws, `${lanes} lanes: bias ${found.bias}`);
  }
});

Deno.test("activity: lanes that layers share add units / lanes times the square of the other layers' gradients", async () => {
  const [units, lanes, draws] = [12, 4, 2000];
  const layers = [dense(units), tanh(), dense(units), tanh(), dense(3)];
  using network = Network.create({ input: [4], layers, precision: "f64", threads: 1 });
  scramble(network, 3);
  using data = await Dataset.create(rowsFor(softmaxCrossEntropy(), 1, [4]));
  // With one row the gradient of a bias is that of its layer's pre-activations, where these lanes begin.
  const { gradients } = await network.gradients(data);
  const squareOf = (layer: number) =>
    [...gradients.get(`${layer}.bias`)!].reduce((sum, value) => sum + value * value, 0);
  const share = squareOf(2) / squareOf(0);
  for (const shareLanes of [false, true]) {
    const options = { mode: "activity", lanes, seedAt: "preactivation", shareLanes } as const;
    const found = await law(options, layers, draws);
    const expected = units / lanes - 1 + (shareLanes ? units / lanes * share : 0);
    assert(Math.abs(found.squared / expected - 1) < 0.12, `shared ${shareLanes}: ${found.squared}, not ${expected}`);
    assert(found.bias < 5 * expected / draws, `shared ${shareLanes}: bias ${found.bias}`);
  }
});

Deno.test("weight: the projection's squared error is 1 − lanes / parameters, the mean's (parameters − 1) / lanes", async () => {
  const [layers, draws] = [[dense(4), tanh(), dense(3)], 1500];
  for (const lanes of [1, 5, 35]) {
    const projection = await law({ mode: "weight", lanes }, layers, draws);
    assertEquals(projection.count, 35);
    const share = lanes / 35;
    assert(Math.abs(projection.squared - (1 - share)) < 0.05 * (1 - share) + 1e-12, `${lanes}: ${projection.squared}`);
    assert(Math.abs(projection.along - share) < 0.15 * share + 1e-12, `${lanes}: ${projection.along} of the gradient`);
    const mean = await law({ mode: "weight", lanes, estimate: "mean" }, layers, draws);
    const expected = 34 / lanes;
    assert(Math.abs(mean.squared - expected) < 0.15 * expected, `${lanes}: ${mean.squared}, not ${expected}`);
    assert(mean.bias < 5 * expected / draws, `${lanes}: bias ${mean.bias}`);
  }
});

Deno.test("feedback matrices learn from signed rows by their formula, after they were used", async () => {
  const [units, rows, lanes] = [2, 12, 3];
  const count = rows * lanes;
  for (
    const [options, factor] of [
      [{ feedback: "nlms", feedbackRate: 0.5 }, 0.5 / Math.max(count, 2 * units)],
      [{ feedback: "ema", feedbackRate: 0.25 }, 0.25 / count],
    ] as const
  ) {
    // Without activation the Jacobian from the hidden layer to the outputs is the last layer's weights: square here.
    using network = Network.create({ input: [3], layers: [dense(units), dense(units)], precision: "f64", threads: 1 });
    scramble(network, 5);
    const [before, [a, b, c, d]] = [network.read("0.weight"), network.read("1.weight") as unknown as number[]];
    using data = await Dataset.create(table(rows, { shape: [3], classes: units }));
    const rule = dual({ lanes, ...options });
    using trainer = await Trainer.create(network, data, { rule, batchSize: rows, epochs: 9, optimizer: sgd(0.1) });
    await trainer.step();
    assertEquals(network.read("0.weight"), before);
    const name = network.tensors().find(({ name }) => name.endsWith("feedback"))!.name;
    const [p, q, r, s] = network.read(name) as unknown as number[];
    // B = factor · J · Σ ξ ξᵀ with signs ξ: on the diagonal of the sum is their number, beside it twice the same whole number.
    const scale = factor * (a! * d! - b! * c!);
    const sum = [d! * p! - b! * r!, d! * q! - b! * s!, a! * r! - c! * p!, a! * s! - c! * q!].map((value) =>
      value / scale
    );
    const [first, beside, other, second] = sum;
    assertClose({ name: "diagonal", limit: 1e-9 }, [first!, second!], [count, count]);
    assertClose({ name: "symmetry", limit: 1e-9 }, [beside! + count], [other! + count]);
    assert(Math.abs(beside! - Math.round(beside!)) < 1e-6 && Math.abs(beside!) < count, `${beside}`);
  }
});

const small = { input: [20], layers: [dense(32), relu(), dense(16), relu(), dense(3)] as Layer[] };

for (
  const options of [
    {},
    { lanes: 2 },
    { shareLanes: false },
    { feedback: "ema", lanes: 4 },
    { seedAt: "preactivation" },
  ] as DualOptions[]
) {
  Deno.test(`feedback points along the gradient after a warm-up: ${JSON.stringify(options)}`, async () => {
    using network = Network.create({ ...small, precision: "f64", threads: 1, seed: 1 });
    using data = await Dataset.create(table(600, { shape: small.input, classes: 3 }));
    const run = { optimizer: sgd(0.01), batchSize: 60, epochs: 60, seed: 3 };
    using _trainer = await Trainer.create(network, data, { rule: dual(options), ...run });
    await steps(network, data, 500);
    const { all, parameters } = await network.gradientCosines();
    const cosine = (name: string) => parameters.find((parameter) => parameter.name === name)!.cosine;
    assert(cosine("4.weight") > 1 - 1e-9, "the last layer has the gradient itself");
    // A seed at the output lets the matrix become the next layer's own; the noise of an average, and above all a mean over the
    // activation's derivatives, keep others apart from it.
    const limit = options.seedAt ? 0.5 : options.feedback === "ema" ? 0.8 : 0.95;
    assert(cosine("2.weight") >= limit, `last hidden layer: ${cosine("2.weight")}`);
    assert(cosine("0.weight") >= (options.seedAt ? 0.3 : 0.5), `first layer: ${cosine("0.weight")}`);
    assert(all.cosine > 0.5 && all.ratio > 0.5 && all.ratio < 2, JSON.stringify(all));
  });
}

Deno.test("feedback and activity learn what back-propagation learns", async () => {
  const rows = table(400, { shape: small.input, classes: 3 });
  const loss = async (rule?: Rule) => {
    using network = Network.create({ ...small, seed: 1 });
    let last = 0;
    const run = { epochs: 40, batchSize: 50, optimizer: adam(3e-3) };
    for await (const { trainLoss } of train(network, rows, { ...run, ...(rule && { rule }) })) last = trainLoss;
    return last;
  };
  const [backprop, feedback, activity] = [await loss(), await loss(dual()), await loss(dual({ mode: "activity" }))];
  // Labels are random: the loss begins at ln 3 = 1.1 and falls by memorising.
  assert(backprop < 0.6, `back-propagation ${backprop}`);
  assert(feedback < 0.7, `feedback ${feedback}`);
  assert(activity < 0.9, `activity ${activity}`);
});

Deno.test("a hyperdual step goes to the minimum of the parabola along the gradient", async () => {
  using network = Network.create({ input: [6], layers: nets["dense, relu"]!, precision: "f64", threads: 1 });
  scramble(network, 4);
  using data = await Dataset.create(rowsFor(softmaxCrossEntropy(), 16));
  const before = network.parameters();
  const { gradients } = await network.gradients(data, { rule: dual({ mode: "exact" }) });
  const { first, second } = await directionalDerivatives(network, data, gradients);
  const rule = dual({ mode: "exact", step: "hyperdual" });
  using _trainer = await Trainer.create(network, data, { rule, optimizer: sgd(0.5), batchSize: 16, shuffle: false });
  await steps(network, data, 1);
  const length = 0.5 * first / Math.abs(second);
  for (const [name, values] of network.parameters()) {
    const expected = before.get(name)!.map((value, index) => value - length * gradients.get(name)![index]!);
    assertClose({ name, limit: ONE_LAYER }, values, expected);
  }
});

Deno.test("hyperdual steps learn without a learning rate", async () => {
  using network = Network.create({ ...small, seed: 1 });
  const losses: number[] = [];
  const rows = table(400, { shape: small.input, classes: 3 });
  const run = { rule: dual({ step: "hyperdual" }), epochs: 30, batchSize: 50, optimizer: sgd(1) };
  for await (const { trainLoss } of train(network, rows, run)) losses.push(trainLoss);
  assert(losses.at(-1)! < 0.8 * losses[0]!, losses.join(" "));
});

for (
  const [name, input, layers] of [
    ["dense", [6], [dense(12), tanh(), dense(9), relu(), dense(3)]],
    ["convolutions", IMAGE, [
      conv2d(6, { padding: 1 }),
      relu(),
      conv2d(8, { padding: 1 }),
      relu(),
      flatten(),
      dense(3),
    ]],
  ] as readonly (readonly [string, readonly number[], readonly Layer[]])[]
) {
  Deno.test(`combined with sparse weights, exact lanes equal back-propagation beside them: ${name}`, async () => {
    const timing = { sparsity: 0.6, every: 4, end: 1 } as const;
    for (
      const weights of [
        sparse({ sparsity: 0.6 }),
        sparse({ ...timing, schedule: "rigl" }),
        sparse({ ...timing, schedule: "gmp", initialSparsity: 0.2 }),
        combine(sparse({ sparsity: 0.6 }), memAop({ k: 3, minSize: 0, convolution: "images" })),
      ]
    ) {
      // Schedules count in shares of a run: this one ends with the last step.
      const expected = await after({ layers, input, epochs: 20 / 3, rule: weights });
      const rule = combine(dual({ mode: "exact" }), weights);
      const found = await after({ layers, input, epochs: 20 / 3, rule });
      assertSameParameters({ name: JSON.stringify(weights.slots), limit: IDENTITY }, found, expected);
      const zeros = [...found.values()].flatMap((values) => [...values]).filter((value) => value === 0).length;
      assert(zeros > 20, `${zeros} zeros`);
    }
  });
}

Deno.test("feedback learns beside sparse weights", async () => {
  using network = Network.create({ input: [20], layers: [dense(64), relu(), dense(48), relu(), dense(3)], seed: 1 });
  const losses: number[] = [];
  const rule = combine(dual(), sparse({ sparsity: 0.5, schedule: "rigl" }));
  const run = { rule, epochs: 40, batchSize: 50, optimizer: adam(3e-3) };
  for await (const { trainLoss } of train(network, table(400, { shape: [20], classes: 3 }), run)) {
    losses.push(trainLoss);
  }
  assert(losses.at(-1)! < 0.8, losses.join(" "));
});

for (
  const [name, layers, input] of [["dense", nets["dense, relu"]!, [6]], [
    "images",
    imageNets["group norm, residual sum"]!,
    IMAGE,
  ], [
    "convolutions",
    imageNets["convolutions and pooling"]!,
    IMAGE,
  ]] as const
) {
  Deno.test(`combined with decorrelated, exact lanes equal back-propagation beside it: ${name}`, async () => {
    for (
      const options of [
        { rate: 0.02, kappa: 0.5 },
        { rate: 0.02, kappa: 0.5, center: false, every: 1 },
        { rate: 0.02, form: "driftFree" },
        // Of these images a normalisation reads the network's input.
        { form: "cholesky", ...(name !== "images" && { first: "center" }) },
      ] as DecorrelatedOptions[]
    ) {
      const beside = decorrelated(options);
      const expected = await after({ layers, input, rule: beside });
      const found = await after({ layers, input, rule: combine(dual({ mode: "exact" }), beside) });
      assertSameParameters({ name: JSON.stringify(options), limit: 1e-8 }, found, expected);
    }
  });
}

Deno.test("combined with memAop, exact lanes choose and learn as back-propagation does", async () => {
  const layers = nets["dense, relu"]!;
  for (const k of [8, 3]) {
    const products = memAop({ k, minSize: 0, exactOutput: false });
    const expected = await after({ layers, rule: combine(backprop(), products) });
    const found = await after({ layers, rule: combine(dual({ mode: "exact" }), products) });
    assertSameParameters({ name: `k = ${k}`, limit: IDENTITY }, found, expected);
  }
});
