/** Directional derivatives by dual numbers: against differences, against gradients, and what they refuse. */

import { assert, assertEquals, assertRejects } from "@std/assert";
import {
  binaryCrossEntropy,
  ConfigError,
  Dataset,
  decorrelated,
  dense,
  type Direction,
  directionalDerivatives,
  EngineError,
  frontContribution,
  jvp,
  meanSquaredError,
  Network,
  type ParameterArray,
  relu,
  sgd,
  softmaxCrossEntropy,
  sparse,
  type Table,
  tanh,
  Trainer,
} from "../../mod.ts";
import { numbers, scramble, steps } from "../helpers.ts";
import { everyNet, nets, rowsFor } from "../rules/dual_helpers.ts";
import { assertClose, DIFFERENCE_STEP } from "../tolerance.ts";

const directionFor = (network: Network, seed: number) =>
  new Map([...network.parameters()].map(([name, values]) => [name, numbers(values.length, seed++)]));

/** Moves all parameters: start + h · direction. */
function move(
  network: Network,
  start: Map<string, ParameterArray>,
  direction: Map<string, ParameterArray>,
  h: number,
): void {
  for (const [name, values] of start) {
    network.write(name, values.map((value, index) => value + h * direction.get(name)![index]!) as ParameterArray);
  }
}

const losses = [
  softmaxCrossEntropy(),
  softmaxCrossEntropy({ labelSmoothing: 0.2 }),
  meanSquaredError(),
  binaryCrossEntropy({ labelSmoothing: 0.1 }),
];

for (const [name, input, layers] of everyNet) {
  Deno.test(`first and second derivatives agree with finite differences for every loss: ${name}`, async () => {
    for (const loss of losses) {
      using network = Network.create({ input, layers, loss, precision: "f64", threads: 1 });
      // With these weights no largest value under a window changes its place within a difference.
      scramble(network, 13);
      using data = await Dataset.create(rowsFor(loss, 5, input));
      const [start, direction] = [network.parameters(), directionFor(network, 30)];
      const { first, second, loss: middle } = await directionalDerivatives(network, data, direction);
      const lossAt = async (h: number) => {
        move(network, start, direction, h);
        return (await network.gradients(data)).loss;
      };
      const [near, far] = [DIFFERENCE_STEP, 1e-4];
      const slope = (await lossAt(near) - await lossAt(-near)) / (2 * near);
      const bend = (await lossAt(far) - 2 * middle + await lossAt(-far)) / far ** 2;
      assert(Math.abs(first - slope) < 1e-7 * Math.max(1, Math.abs(slope)), `${loss.kind}: ${first}, not ${slope}`);
      // Second differences lose 1e-16 / 1e-8, and the fourth derivative times 1e-9.
      assert(Math.abs(second - bend) < 1e-5 * Math.max(1, Math.abs(bend)), `${loss.kind}: ${second}, not ${bend}`);
    }
  });
}

Deno.test("jvp() is the gradient's product with the direction, and moves the outputs as differences do", async () => {
  const options = { input: [6], layers: nets["dense, relu"]!, loss: meanSquaredError(), precision: "f64" } as const;
  using network = Network.create(options);
  scramble(network, 2);
  const batch = rowsFor(meanSquaredError(), 4);
  const direction = directionFor(network, 9);
  const { loss, derivative, tangents } = await jvp(network, batch, direction);
  const found = await network.gradients(batch);
  let product = 0;
  for (const [name, gradient] of found.gradients) {
    gradient.forEach((value, index) => product += value * direction.get(name)![index]!);
  }
  assert(Math.abs(derivative - product) < 1e-13 * Math.max(1, Math.abs(product)), `${derivative}, not ${product}`);
  assert(Math.abs(loss - found.loss) < 1e-14);
  const start = network.parameters();
  const outputsAt = async (h: number) => {
    move(network, start, direction, h);
    return await network.predict(batch.features);
  };
  const [up, down] = [await outputsAt(DIFFERENCE_STEP), await outputsAt(-DIFFERENCE_STEP)];
  const differences = up.map((value, index) => (value - down[index]!) / (2 * DIFFERENCE_STEP));
  assertClose({ name: "tangents", limit: 1e-8 }, tangents, differences);
});

Deno.test("parameters that a direction leaves out stand still", async () => {
  using network = Network.create({ input: [6], layers: [dense(3)], precision: "f64" });
  const { tangents } = await jvp(network, rowsFor(softmaxCrossEntropy(), 2), { "0.bias": [1, -2, 0.5] });
  assertClose({ name: "tangents", limit: 0 }, tangents, [1, -2, 0.5, 1, -2, 0.5]);
});

const labelled = () => rowsFor(softmaxCrossEntropy(), 2);

Deno.test("directions are numbers by name: objects without a prototype, Maps, lists and typed arrays of any kind", async () => {
  using network = Network.create({ input: [6], layers: [dense(3)] });
  const bare = Object.assign(Object.create(null), { "0.bias": Float64Array.of(1, -2, 0.5) });
  const directions = [
    bare,
    new Map<string, ArrayLike<number>>([["0.bias", { length: 3, 0: 1, 1: -2, 2: 0.5 }]]),
    { "0.weight": undefined, "0.bias": Float32Array.of(1, -2, 0.5) },
  ];
  for (const direction of directions) {
    const { tangents } = await jvp(network, labelled(), direction);
    assertClose({ name: "tangents", limit: 0 }, tangents, [1, -2, 0.5, 1, -2, 0.5]);
  }
});

Deno.test("jvp() refuses directions that do not fit", async () => {
  using network = Network.create({ input: [6], layers: [dense(3)] });
  using wide = Network.create({ input: [6], layers: [dense(3)], precision: "f64" });
  const named = "expected an object or a Map with numbers for parameters by name but found";
  const cases: [unknown, string][] = [
    [null, `direction: ${named} null`],
    [undefined, `direction: ${named} undefined`],
    [5, `direction: ${named} 5`],
    [[], `direction: ${named} an Array`],
    [new Float32Array(3), `direction: ${named} a Float32Array`],
    [new Set(["0.bias"]), `direction: ${named} a Set`],
    [Promise.resolve({ "0.bias": [1, 2, 3] }), `direction: ${named} a Promise`],
    [
      { "0.weigth": [1] },
      "direction.0.weigth: expected one of 0.weight, 0.bias (did you mean 0.weight?) but found an unknown name",
    ],
    [new Map([[0, [1]]]), "direction.0: expected one of 0.weight, 0.bias but found an unknown name"],
    [{ "0.bias": [1] }, "direction.0.bias: expected 3 numbers but found 1"],
    [{ "0.bias": null }, "direction.0.bias: expected 3 numbers but found null"],
    [{ "0.bias": 5 }, "direction.0.bias: expected 3 numbers but found 5"],
    [{ "0.bias": "abc" }, 'direction.0.bias: expected 3 numbers but found "abc"'],
    [{ "0.bias": new Set([1, 2, 3]) }, "direction.0.bias: expected 3 numbers but found {}"],
    [{ "0.bias": [0, NaN, 0] }, "direction.0.bias[1]: expected a number but found NaN"],
    [{ "0.bias": Float64Array.of(0, 0, -Infinity) }, "direction.0.bias[2]: expected a number but found -Infinity"],
    [{ "0.bias": [null, "x", {}] }, "direction.0.bias[0]: expected a number but found null"],
    [{ "0.bias": [1, "2", 3] }, 'direction.0.bias[1]: expected a number but found "2"'],
    [{ "0.bias": [1, 2, 3n] }, "direction.0.bias[2]: expected a number but found 3n"],
    [{ "0.bias": [1, , 3] }, "direction.0.bias[1]: expected a number but found undefined"],
  ];
  for (const [direction, message] of cases) {
    for (const derivatives of [jvp, directionalDerivatives]) {
      const call = () => derivatives(network, labelled(), direction as Direction);
      await assertRejects(call, ConfigError, `Cannot use ${message}`);
    }
  }
  const large = { "0.bias": [0, 1e300, 0] };
  const narrow = "Cannot use direction.0.bias[1]: expected a number that f32 can hold but found 1e+300";
  await assertRejects(() => jvp(network, labelled(), large), ConfigError, narrow);
  assertClose({ name: "f64", limit: 0 }, (await jvp(wide, labelled(), large)).tangents.subarray(0, 3), [0, 1e300, 0]);
});

Deno.test("jvp() refuses batches that are none or do not fit", async () => {
  using network = Network.create({ input: [6], layers: [dense(3)] });
  for (const [batch, found] of [[null, "null"], [undefined, "undefined"], [7, "7"], [() => 0, "the function "]]) {
    const message = `Cannot use batch: expected a table or a Dataset but found ${found}`;
    await assertRejects(() => jvp(network, batch as unknown as Table, {}), ConfigError, message);
  }
  const [narrow, other] = [rowsFor(softmaxCrossEntropy(), 2, [5]), rowsFor(meanSquaredError(), 2)];
  const shape = await assertRejects(() => jvp(network, narrow, {}), EngineError);
  const targets = await assertRejects(() => jvp(network, other, {}), EngineError);
  assertEquals([shape.code, targets.code], ["shape-mismatch", "invalid-config"], targets.message);
});

Deno.test("jvp() refuses masks and runs with inputs or weights of their own, and says what to do", async () => {
  using network = Network.create({ input: [6], layers: [dense(8), relu(), dense(3)] });
  using data = await Dataset.create(labelled());
  for (const rule of [decorrelated(), sparse({ sparsity: 0.5 })]) {
    {
      using _trainer = await Trainer.create(network, data, { rule, batchSize: 2 });
      const error = await assertRejects(() => jvp(network, data, {}), EngineError);
      const masked = rule.name === "sparse";
      assertEquals(error.code, masked ? "invalid-config" : "busy");
      assertEquals(
        error.message,
        "Cannot take directional derivatives: " +
          (masked
            ? "layer 0 (dense) has a mask; take masks away first (densify), during a run those of a copy (fold)"
            : "a run with inputs or weights of its own is training this network; end it first, or ask a copy (fold)"),
      );
    }
    using folded = network.fold();
    await folded.densify();
    assert(Number.isFinite((await jvp(folded, data, {})).loss));
    await network.densify();
    assert(Number.isFinite((await jvp(network, data, {})).loss));
  }
});

Deno.test("during a run with collapsed layers the derivatives are those of the parameters that the network has", async () => {
  const layers = [dense(8), tanh(), dense(3)];
  using network = Network.create({ input: [6], layers, precision: "f64", threads: 1, seed: 4 });
  using data = await Dataset.create(rowsFor(softmaxCrossEntropy(), 12));
  // Reading parameters brings them up to date: nothing may read them between the steps and the derivatives.
  const direction = directionFor(network, 3);
  const options = {
    rule: frontContribution({ force: true }),
    batchSize: 4,
    epochs: 50,
    optimizer: sgd(0.1),
    dropLast: true,
  };
  using _trainer = await Trainer.create(network, data, options);
  await steps(network, data, 5);
  const during = await jvp(network, data, direction);
  using copy = network.fold();
  const expected = await jvp(copy, data, direction);
  assertEquals([during.loss, during.derivative], [expected.loss, expected.derivative]);
});
