/** First layers in the feature space of a kernel, and the kernels as functions. */

import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import {
  ConfigError,
  dense,
  EngineError,
  frontContribution,
  type Kernel,
  kernelData,
  kernelTable,
  Network,
  sgd,
  type Table,
  tanh,
  Trainer,
} from "../../mod.ts";
import { gram, pairStep, panelStep } from "../../src/kernels.ts";
import { numbers, table } from "../helpers.ts";
import { assertClose, tolerance } from "../tolerance.ts";

function wideTable(rows: number, columns: number, seed: number): Table {
  return { ...table(rows, { shape: [columns], classes: 3, seed }), features: numbers(rows * columns, seed) };
}

/** The ten features whose products are (x·y + 1)² for x of three columns. */
function explicit({ features, ...rest }: Table): Table {
  const out: number[] = [];
  for (let row = 0; row < rest.rows; row++) {
    const x = [...features.subarray(3 * row, 3 * row + 3)];
    const root = Math.SQRT2;
    out.push(
      1,
      ...x.map((v) => root * v),
      ...x.map((v) => v * v),
      root * x[0]! * x[1]!,
      root * x[0]! * x[2]!,
      root * x[1]! * x[2]!,
    );
  }
  return { ...rest, shape: [10], features: Float64Array.from(out) };
}

Deno.test("a polynomial kernel trains as its explicit features do, on rows and on new rows", async () => {
  const [rows, others] = [wideTable(25, 3, 1), wideTable(9, 3, 2)];
  const kernel: Kernel = { kind: "polynomial", degree: 2, scale: 1, offset: 1 };
  const data = await kernelData({ name: "rows", train: rows, test: others }, kernel);
  assertEquals([data.train.shape, data.test?.rows, data.test?.shape], [[25], 9, [25]]);
  const layers = [dense(8), tanh(), dense(3)];
  const training = {
    optimizer: sgd(0.02, { momentum: 0.5, weightDecay: 0.01 }),
    batchSize: 10,
    epochs: 40,
    seed: 3,
    clipNorm: 1,
  };
  using front = Network.create({ input: [25], layers, precision: "f64", seed: 1 });
  using plain = Network.create({ input: [10], layers, precision: "f64", seed: 2 });
  // The same function at the start: weights of rows are weights of their features' sums.
  const [dual, phi] = [front.read("0.weight"), explicit(rows).features];
  plain.write(
    "0.weight",
    Float64Array.from({ length: 80 }, (_, at) => {
      let sum = 0;
      for (let n = 0; n < 25; n++) sum += dual[Math.floor(at / 10) * 25 + n]! * phi[n * 10 + at % 10]!;
      return sum;
    }),
  );
  for (const name of ["0.bias", "2.weight", "2.bias"]) plain.write(name, front.read(name));
  const before = await front.predict(data.test!);
  using one = await Trainer.create(front, data.train, { ...training, rule: frontContribution({ kernel: true }) });
  using two = await Trainer.create(plain, explicit(rows), training);
  for (let epoch = 0; epoch < 40; epoch++) {
    await one.epoch();
    await two.epoch();
    for (const [a, b] of [[data.train, rows], [data.test!, others]] as const) {
      const [found, expected] = [await front.predict(a), await plain.predict(explicit(b))];
      assertClose({ name: `outputs after epoch ${epoch}`, limit: 1e-10 }, found, expected);
    }
  }
  one[Symbol.dispose]();
  const after = await front.predict(data.test!);
  assertClose({ name: "outputs after the run", limit: 1e-10 }, after, await plain.predict(explicit(others)));
  assert(before.some((value, index) => Math.abs(value - after[index]!) > 0.05));
});

Deno.test("a kernel needs no predicted gain: back-propagation on its columns is another training", async () => {
  const data = await kernelData({ name: "rows", train: wideTable(12, 3, 1) }, { kind: "rbf" });
  const options = { rule: frontContribution({ kernel: true }), optimizer: sgd(0.1), epochs: 3 };
  using network = Network.create({ input: data.train.shape, layers: [dense(4), tanh(), dense(3)], seed: 1 });
  const plan = await network.plan(data.train, options);
  assertEquals([plan.chosen, plan.reason], ["gram", "gram trains in the kernel's feature space, at any gain"]);
  assert(plan.candidates[0]!.gain! < 1, JSON.stringify(plan));
  using trainer = await Trainer.create(network, data.train, options);
  while (!(await trainer.epoch()).done);
});

Deno.test("an RBF kernel has its formula's values, of bytes too", async () => {
  const [rows, others] = [wideTable(70, 4, 1), wideTable(5, 4, 2)];
  const { features } = await kernelTable([rows, others], { kind: "rbf", gamma: 0.3 });
  const expected = Float64Array.from({ length: 350 }, (_, at) => {
    let distance = 0;
    for (let i = 0; i < 4; i++) {
      distance += (rows.features[Math.floor(at / 5) * 4 + i]! - others.features[at % 5 * 4 + i]!) ** 2;
    }
    return Math.exp(-0.3 * distance);
  });
  assertClose({ name: "rbf", limit: tolerance.formula.f64 }, features, expected);
  const bytes: Table = {
    ...rows,
    rows: 2,
    shape: [2],
    features: new Uint8Array([0, 255, 51, 102]),
    scale: [1 / 255],
    offset: [1],
  };
  const { features: found } = await kernelTable([bytes, bytes], { kind: "polynomial", degree: 1, scale: 1, offset: 0 });
  assertClose({ name: "bytes", limit: 1e-14 }, found, [1 + 4, 1.2 + 2.8, 1.2 + 2.8, 1.44 + 1.96]);
});

Deno.test("kernels and matrices that are none are refused", async () => {
  const [rows, narrow] = [wideTable(4, 3, 1), wideTable(4, 2, 1)];
  const refused = (kernel: unknown, message: string) =>
    assertRejects(() => kernelTable([rows, rows], kernel as Kernel), ConfigError, message);
  await refused(
    { kind: "rfb" },
    "Cannot use kernel.kind: expected one of polynomial, rbf (did you mean rbf?) but found rfb",
  );
  await refused({ kind: "rbf", gamma: 0 }, "Cannot use kernel.gamma: expected a number above 0 but found 0");
  await refused(
    { kind: "polynomial", degree: 1.5 },
    "Cannot use kernel.degree: expected a whole number from 1 up but found 1.5",
  );
  await refused({ kind: "rbf", degree: 2 }, "Cannot use kernel.degree: expected one of kind, gamma");
  for (const [tables, found] of [[rows, "no list"], [[rows], "another list"], [[rows, null], "another list"]]) {
    await assertRejects(
      () => kernelTable(tables as [Table, Table], { kind: "rbf" }),
      ConfigError,
      `Cannot use tables: expected two tables, [rows, against] but found ${found}`,
    );
  }
  await assertRejects(
    () => kernelTable([rows, narrow], { kind: "rbf" }),
    ConfigError,
    "Cannot use against: expected rows of 3 columns but found 2",
  );
  const attempt = async (features: number[], columns = 3) => {
    using network = Network.create({ input: [columns], layers: [dense(2), tanh(), dense(3)], precision: "f64" });
    const data = { ...table(3, { shape: [columns], classes: 3 }), features: Float64Array.from(features) };
    const fault = await assertRejects(
      () => Trainer.create(network, data, { rule: frontContribution({ kernel: true }), optimizer: sgd(0.1) }),
      EngineError,
    );
    return fault.message;
  };
  const place = "Cannot use the features as a kernel matrix: expected";
  assertEquals(await attempt([1, 0, 0, 0, -1, 0, 0, 0, 1]), `${place} a diagonal from 0 up but found -1 in row 1`);
  assertEquals(
    await attempt([1, 0.5, 0, 0.4, 1, 0, 0, 0, 1]),
    `${place} a symmetric matrix but found 0.5 and 0.4 for rows 0 and 1`,
  );
  assertEquals(
    await attempt([1, 2, 0, 2, 1, 0, 0, 0, 1]),
    `${place} a positive semi-definite matrix, with |k(x, y)|² at most k(x, x) · k(y, y) but found 2 for rows 0 and 1`,
  );
  assertEquals(
    await attempt([1, 0, 0, 1, 0, 0], 2),
    "Cannot use the data set: expected 3 features, one for each training row, with kernel: true but found 2",
  );
});

Deno.test("gram() is the products of rows", () => {
  for (const x of [numbers(21, 1), Float32Array.from(numbers(21, 1))] as const) {
    const k = gram<Float32Array<ArrayBuffer> | Float64Array<ArrayBuffer>>(x, { rows: 3, columns: 7 });
    assertEquals(k.constructor, x.constructor);
    const expected = Float64Array.from({ length: 9 }, (_, at) => {
      let sum = 0;
      for (let i = 0; i < 7; i++) sum += x[Math.floor(at / 3) * 7 + i]! * x[at % 3 * 7 + i]!;
      return sum;
    });
    assertClose({ name: "gram", limit: x instanceof Float64Array ? 1e-13 : 2e-6 }, k, expected);
  }
  assertThrows(
    () => gram(new Float32Array(5), { rows: 2, columns: 3 }),
    EngineError,
    "Cannot use x: expected 6 elements but found 5",
  );
  assertThrows(
    () => gram([1] as never, { rows: 1, columns: 1 }),
    ConfigError,
    "Cannot use gram.x: expected a Float32Array or",
  );
  assertThrows(() => gram(new Float32Array(1), { rows: 0, columns: 1 }), ConfigError, "Cannot use gram.rows");
});

Deno.test("panelStep() moves pre-activations as a step moves weights", () => {
  const [rows, columns, outputs] = [6, 4, 3];
  const x = numbers(rows * columns, 1);
  const k = gram(x, { rows, columns });
  const product = (w: Float64Array) =>
    Float64Array.from({ length: rows * outputs }, (_, at) => {
      let sum = 0;
      for (let i = 0; i < columns; i++) {
        sum += x[Math.floor(at / outputs) * columns + i]! * w[i * outputs + at % outputs]!;
      }
      return sum;
    });
  for (const [momentum, nesterov] of [[0, false], [0.9, false], [0.9, true]] as const) {
    const [w, v] = [numbers(columns * outputs, 2), new Float64Array(columns * outputs)];
    const [z, velocity] = [product(w), new Float64Array(momentum === 0 ? 0 : rows * outputs)];
    for (let step = 0; step < 5; step++) {
      const batch = [step % rows, (step + 2) % rows];
      const d = numbers(2 * outputs, 10 + step);
      for (let at = 0; at < w.length; at++) {
        const [i, j] = [Math.floor(at / outputs), at % outputs];
        const g = batch.reduce((sum, row, b) => sum + x[row * columns + i]! * d[b * outputs + j]!, 0.1 * w[at]!);
        v[at] = momentum * v[at]! + g;
        w[at] = w[at]! - 0.05 * (nesterov ? g + momentum * v[at]! : v[at]!);
      }
      const panel = Float64Array.from(batch.flatMap((row) => [...k.subarray(row * rows, (row + 1) * rows)]));
      panelStep({ z, k: panel, d, ...(momentum > 0 && { velocity }) }, {
        outputs,
        rate: 0.05,
        decay: 0.1,
        momentum,
        nesterov,
      });
    }
    assertClose({ name: `momentum ${momentum}, Nesterov ${nesterov}`, limit: 1e-12 }, z, product(w));
  }
  const arrays = { z: new Float64Array(6), k: new Float64Array(3), d: new Float64Array(2) };
  assertThrows(
    () => panelStep(arrays, { outputs: 2, rate: 1, momentum: 0.5 }),
    EngineError,
    "Cannot use velocity: expected 6",
  );
  assertThrows(
    () => panelStep(arrays, { outputs: 4, rate: 1 }),
    ConfigError,
    "Cannot use panelStep.z: expected a multiple of 4",
  );
  assertThrows(
    () => panelStep({ ...arrays, d: new Float32Array(2) as never }, { outputs: 2, rate: 1 }),
    ConfigError,
    "Cannot use panelStep.d: expected a Float64Array like z but found a Float32Array",
  );
});

Deno.test("pairStep() moves products as steps move two layers", () => {
  const [inputs, hidden, outputs, rate, decay] = [4, 9, 3, 0.05, 0.1];
  const [w1, w2] = [numbers(inputs * hidden, 1), numbers(hidden * outputs, 2)];
  const times = (
    a: (i: number, k: number) => number,
    b: (k: number, j: number) => number,
    [m, k, n]: [number, number, number],
  ) =>
    Float64Array.from({ length: m * n }, (_, at) => {
      let sum = 0;
      for (let p = 0; p < k; p++) sum += a(Math.floor(at / n), p) * b(p, at % n);
      return sum;
    });
  const one = (i: number, h: number) => w1[i * hidden + h]!;
  const two = (h: number, o: number) => w2[h * outputs + o]!;
  const products = () => ({
    product: times(one, two, [inputs, hidden, outputs]),
    left: times(one, (h, i) => one(i, h), [inputs, hidden, inputs]),
    right: times((o, h) => two(h, o), two, [outputs, hidden, outputs]),
  });
  const state = products();
  for (let step = 0; step < 20; step++) {
    const gradient = numbers(inputs * outputs, 10 + step);
    const d1 = times((i, o) => gradient[i * outputs + o]!, (o, h) => two(h, o), [inputs, outputs, hidden]);
    const d2 = times((h, i) => one(i, h), (i, o) => gradient[i * outputs + o]!, [hidden, inputs, outputs]);
    w1.forEach((w, at) => w1[at] = w - rate * (d1[at]! + decay * w));
    w2.forEach((w, at) => w2[at] = w - rate * (d2[at]! + decay * w));
    pairStep({ ...state, gradient }, { inputs, outputs, rate, decay });
  }
  const expected = products();
  for (const key of ["product", "left", "right"] as const) {
    assertClose({ name: key, limit: 1e-12 }, state[key], expected[key]);
  }
  const short = { ...state, gradient: new Float64Array(3) };
  assertThrows(
    () => pairStep(short, { inputs, outputs, rate }),
    EngineError,
    "Cannot use g: expected 12 elements but found 3",
  );
});
