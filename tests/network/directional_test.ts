/** Directional derivatives by dual numbers: against differences, against gradients, and what they refuse. */

import { assert, assertRejects } from "@std/assert";
import {
  binaryCrossEntropy,
  ConfigError,
  Dataset,
  dense,
  directionalDerivatives,
  jvp,
  meanSquaredError,
  Network,
  type ParameterArray,
  softmaxCrossEntropy,
} from "../../mod.ts";
import { numbers, scramble } from "../helpers.ts";
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

Deno.test("jvp() refuses directions that do not fit", async () => {
  using network = Network.create({ input: [6], layers: [dense(3)] });
  const batch = rowsFor(softmaxCrossEntropy(), 2);
  const unknown = "Cannot use direction.0.weigth: expected one of 0.weight, 0.bias but found an unknown name";
  await assertRejects(() => jvp(network, batch, { "0.weigth": [1] }), ConfigError, unknown);
  const length = "Cannot use direction.0.bias: expected 3 numbers but found 1";
  await assertRejects(() => jvp(network, batch, { "0.bias": [1] }), ConfigError, length);
});
