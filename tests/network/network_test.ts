/** Networks: what they are made of, how parameters start, reading and writing. */

import { assert, assertEquals } from "@std/assert";
import {
  dense,
  flatten,
  gelu,
  type Init,
  layerNorm,
  mlp,
  Network,
  relu,
  sgd,
  sigmoid,
  tanh,
  Trainer,
} from "../../mod.ts";
import { checkLayer } from "../../src/network/layers.ts";
import { checkLoss } from "../../src/network/losses.ts";
import { numbers, table } from "../helpers.ts";
import { assertClose, tolerance } from "../tolerance.ts";

const example = { input: [2, 3, 1], layers: [flatten(), dense(5), layerNorm(), relu(), dense(4, { bias: false })] };

Deno.test("describe() has shapes, parameters and multiply-adds of each layer", () => {
  using network = Network.create({ ...example, threads: 2, precision: "f64" });
  const { layers, instructionSet, ...rest } = network.describe();
  assert(instructionSet.length > 0);
  assertEquals(rest, { input: [2, 3, 1], precision: "f64", threads: 2, parameters: 65 });
  assertEquals(layers.map((layer) => [layer.name, layer.kind, layer.shape, layer.parameters, layer.multiplyAdds]), [
    ["0", "flatten", [6], 0, 0],
    ["1", "dense", [5], 35, 30],
    ["2", "layerNorm", [5], 10, 0],
    ["3", "relu", [5], 0, 0],
    ["4", "dense", [4], 20, 20],
  ]);
});

Deno.test("summary() is that as a table", () => {
  using network = Network.create(example);
  assertEquals(
    network.summary().split("\n").map((line) => line.trim().split(/\s{2,}/)),
    [
      ["layer", "output", "parameters", "multiply-adds"],
      ["input", "2×3×1"],
      ["0", "flatten", "6", "0", "0"],
      ["1", "dense", "5", "35", "30"],
      ["2", "layerNorm", "5", "10", "0"],
      ["3", "relu", "5", "0", "0"],
      ["4", "dense", "4", "20", "20"],
      ["total", "65", "50"],
    ],
  );
});

Deno.test("mlp() puts ReLU between dense layers, and flattens images", () => {
  const kinds = (options: Parameters<typeof mlp>[0]) => mlp(options).layers.map((layer) => layer.kind);
  assertEquals(kinds({ input: [4], hidden: [8, 6], outputs: 2 }), ["dense", "relu", "dense", "relu", "dense"]);
  assertEquals(kinds({ input: [2, 2, 1], hidden: [], outputs: 2 }), ["flatten", "dense"]);
  using network = Network.create(mlp({ input: [784], outputs: 10 }));
  assertEquals(network.describe().parameters, 784 * 256 + 256 + 256 * 128 + 128 + 128 * 10 + 10);
});

Deno.test("parameters are written and read as outputs × inputs: y = x · Wᵀ + b", async () => {
  using network = Network.create({
    input: [3],
    layers: [
      dense(2, { weightInit: new Float32Array([1, 2, 3, 10, 20, 30]), biasInit: new Float64Array([0.5, -0.5]) }),
    ],
    loss: { kind: "meanSquaredError" },
  });
  assertEquals(
    await network.predict(new Float32Array([1, 0, 0, 0, 1, 0, 0, 0, 1])),
    new Float32Array([1.5, 9.5, 2.5, 19.5, 3.5, 29.5]),
  );
  const weight = network.read("0.weight");
  assertEquals(weight, new Float32Array([1, 2, 3, 10, 20, 30]));
  // A copy: changing it changes nothing.
  weight.fill(0);
  assertEquals(network.read("0.weight")[5], 30);
  network.write("0.weight", new Float64Array([0, 0, 0, 0, 0, 1]));
  assertEquals(await network.predict(new Float32Array([1, 2, 3])), new Float32Array([0.5, 2.5]));
});

Deno.test("write() and read() keep every parameter, whatever its padding", () => {
  for (const precision of ["f32", "f64"] as const) {
    using network = Network.create({ input: [7], layers: [dense(13), layerNorm(), dense(5), dense(1)], precision });
    const given = [...network.parameters()].map(([name, { length }], index) => {
      const values = numbers(length, index);
      return [name, precision === "f32" ? Float32Array.from(values) : values] as const;
    });
    for (const [name, values] of given) network.write(name, values);
    assertEquals([...network.parameters()], given);
  }
});

Deno.test("tensors() lists gradients once they were asked for, and state while a run is attached", async () => {
  using network = Network.create({ input: [3], layers: [dense(2)] });
  const names = () => network.tensors().map((tensor) => `${tensor.group} ${tensor.name}`).sort();
  const parameters = ["parameter 0.bias", "parameter 0.weight"];
  assertEquals(names(), parameters);
  const rows = table(4, { shape: [3], classes: 2 });
  {
    using _trainer = await Trainer.create(network, rows, { optimizer: sgd(0.1, { momentum: 0.5 }) });
    const state = [
      "optimizer optimizer.first.0.bias",
      "optimizer optimizer.first.0.weight",
      "training training.counters",
    ];
    assertEquals(names(), [...state.slice(0, 2), ...parameters, state[2]!]);
  }
  assertEquals(names(), parameters);
  const { gradients } = await network.gradients(rows);
  assertEquals(names(), ["gradient gradient.0.bias", "gradient gradient.0.weight", ...parameters]);
  assertEquals(network.read("gradient.0.bias"), gradients.get("0.bias"));
});

/** Variance of the weights with 200 inputs and 300 outputs, and the bound of the uniform ones. */
const inits: Record<Exclude<Init, "zeros" | "ones">, [number, number?]> = {
  heNormal: [2 / 200],
  heUniform: [2 / 200, Math.sqrt(6 / 200)],
  glorotNormal: [2 / 500],
  glorotUniform: [2 / 500, Math.sqrt(6 / 500)],
  lecunNormal: [1 / 200],
  lecunUniform: [1 / 200, Math.sqrt(3 / 200)],
  fanInUniform: [1 / 600, 1 / Math.sqrt(200)],
};

for (const [init, [variance, bound]] of Object.entries(inits) as [Init, [number, number?]][]) {
  Deno.test(`initial weights have the mean, the variance and the tails of ${init}`, () => {
    using network = Network.create({
      input: [200],
      layers: [dense(300, { weightInit: init, biasInit: "ones" })],
      seed: 3,
    });
    const values = [...network.read("0.weight")];
    const mean = values.reduce((sum, x) => sum + x, 0) / values.length;
    const square = values.reduce((sum, x) => sum + x * x, 0) / values.length;
    // Of 60,000 numbers the mean is off by deviation / 245, the variance by at most √2 / 245 of itself; four times that.
    assert(Math.abs(mean) < 4 * Math.sqrt(variance) / 245, `mean ${mean}`);
    assert(Math.abs(square / variance - 1) < 4 * Math.SQRT2 / 245, `variance ${square}, expected ${variance}`);
    const most = Math.max(...values.map(Math.abs));
    if (bound) assert(most <= bound && most > 0.999 * bound, `largest ${most}, bound ${bound}`);
    else assert(most > 3.5 * Math.sqrt(variance) && most < 6 * Math.sqrt(variance), `largest ${most}`);
    assertEquals([...network.read("0.bias")], Array(300).fill(1));
  });
}

Deno.test("no two initial numbers of a network are alike: tensors draw from streams of their own", () => {
  using network = Network.create({ input: [50], layers: [dense(50), dense(50)], precision: "f64" });
  const all = [...network.read("0.weight"), ...network.read("1.weight")];
  assertEquals(new Set(all).size, 5000);
});

Deno.test("activations are their formulas, as fused and as single layers", async () => {
  const x = Float64Array.from({ length: 41 }, (_, index) => (index - 20) / 4);
  const erf = (z: number) => {
    // The series converges for all z; 60 terms suffice below 5 / √2.
    let [sum, term] = [0, z];
    for (let n = 0; n < 60; n++) {
      sum += term / (2 * n + 1);
      term *= -z * z / (n + 1);
    }
    return 2 / Math.sqrt(Math.PI) * sum;
  };
  const formulas: [ReturnType<typeof relu>, (z: number) => number][] = [
    [relu(), (z) => Math.max(z, 0)],
    [tanh(), Math.tanh],
    [sigmoid(), (z) => 1 / (1 + Math.exp(-z))],
    [gelu(), (z) => z * (1 + erf(z / Math.SQRT2)) / 2],
  ];
  const identity = dense(1, { weightInit: new Float64Array([1]) });
  for (const precision of ["f32", "f64"] as const) {
    for (const [activation, formula] of formulas) {
      for (const layers of [[identity, activation], [activation], [activation, identity]]) {
        using network = Network.create({ input: [1], layers, precision, loss: { kind: "meanSquaredError" } });
        const limit = activation.kind === "gelu" && precision === "f64" ? 1e-10 : tolerance.formula[precision];
        assertClose({ name: `${activation.kind} ${precision}`, limit }, await network.predict(x), x.map(formula));
      }
    }
  }
});

Deno.test("checkLayer() and checkLoss() keep what the functions make, and fill in defaults", () => {
  for (const layer of example.layers) assertEquals(checkLayer({ ...layer }, "layers[0]"), layer);
  assertEquals(checkLayer({ kind: "dense", units: 3 }, "layers[0]"), dense(3));
  assertEquals(checkLoss({ kind: "softmaxCrossEntropy" }), { kind: "softmaxCrossEntropy", labelSmoothing: 0 });
});
