/** The kernel `dualForward` against the formulas of a dense layer on dual numbers. */

import { assert, assertEquals, assertThrows } from "@std/assert";
import { ConfigError, dualForward, type KernelActivation, type KernelArray } from "../src/kernels.ts";
import { numbers } from "./helpers.ts";
import { assertClose, DIFFERENCE_STEP, tolerance } from "./tolerance.ts";

const [rows, inputs, outputs] = [5, 7, 4];

const activations: readonly KernelActivation[] = ["identity", "relu", "leakyRelu", "tanh", "sigmoid", "gelu"];

/** Plain loops: rows × outputs. */
function product(x: ArrayLike<number>, w: ArrayLike<number>, bias?: ArrayLike<number>): Float64Array {
  return Float64Array.from({ length: rows * outputs }, (_, index) => {
    const [row, output] = [Math.floor(index / outputs), index % outputs];
    let sum = bias?.[output] ?? 0;
    for (let i = 0; i < inputs; i++) sum += x[row * inputs + i]! * w[i * outputs + output]!;
    return sum;
  });
}

/** x + h ẋ + ½ h² ẍ. */
const moved = (x: Float64Array<ArrayBuffer>, first: Float64Array, second: Float64Array, h: number) =>
  x.map((value, index) => value + h * first[index]! + 0.5 * h * h * second[index]!);

for (const activation of activations) {
  Deno.test(`dualForward() agrees with finite differences of first and second order: ${activation}`, () => {
    const [x, w, bias] = [numbers(rows * inputs, 1), numbers(inputs * outputs, 2), numbers(outputs, 3)];
    const [first, second] = [numbers(rows * inputs, 4), numbers(rows * inputs, 5)];
    const options = { rows, inputs, outputs, bias, activation, ...(activation === "leakyRelu" && { slope: 0.2 }) };
    const { values, tangents, second: bent } = dualForward([x, w], { ...options, tangents: first, second });
    const at = (h: number) =>
      dualForward([moved(x, first, second, h), w], { ...options, tangents: new Float64Array(0) }).values;
    const [near, far] = [DIFFERENCE_STEP, 1e-4];
    const [up, down, above, below] = [at(near), at(-near), at(far), at(-far)];
    const limit = tolerance.differences.f64;
    assertClose({ name: "first", limit }, tangents, up.map((value, i) => (value - down[i]!) / (2 * near)));
    const bends = above.map((value, i) => (value - 2 * values[i]! + below[i]!) / far ** 2);
    assertClose({ name: "second", limit: 1e-6 }, bent, bends);
  });
}

for (const [precision, ArrayType] of [["f32", Float32Array], ["f64", Float64Array]] as const) {
  Deno.test(`dualForward() carries any number of lanes as plain loops do: ${precision}`, () => {
    const of = (count: number, seed: number): KernelArray => ArrayType.from(numbers(count, seed));
    const [x, w, bias] = [of(rows * inputs, 1), of(inputs * outputs, 2), of(outputs, 3)];
    const limit = 20 * tolerance.formula[precision];
    for (const lanes of [0, 1, 3]) {
      const tangents = of(lanes * rows * inputs, 4);
      const found = dualForward([x, w], { rows, inputs, outputs, bias, tangents, activation: "tanh" });
      const values = product(x, w, bias).map(Math.tanh);
      assertClose({ name: "values", limit }, found.values, values);
      assertEquals([found.tangents.length, found.second.length], [lanes * rows * outputs, 0]);
      for (let lane = 0; lane < lanes; lane++) {
        const own = product(tangents.subarray(lane * rows * inputs, (lane + 1) * rows * inputs), w);
        const expected = own.map((value, index) => value * (1 - values[index]! ** 2));
        const lanesOwn = found.tangents.subarray(lane * rows * outputs, (lane + 1) * rows * outputs);
        assertClose({ name: `lane ${lane}`, limit }, lanesOwn, expected);
      }
      assert(found.values instanceof ArrayType && found.tangents instanceof ArrayType);
    }
  });
}

Deno.test("dualForward() refuses what does not fit, by the names of its documentation", () => {
  const [x, w, tangents] = [new Float64Array(35), new Float64Array(28), new Float64Array(35)];
  const options = { rows, inputs, outputs, tangents };
  const cases: [operands: unknown, change: object, message: string][] = [
    [null, {}, "operands: expected [x, w] but found null"],
    [x, {}, "operands: expected [x, w] but found a Float64Array"],
    [[null, w], {}, "x: expected a Float32Array or Float64Array but found null"],
    [[x, null], {}, "w: expected a Float64Array like x but found null"],
    [[x], {}, "w: expected a Float64Array like x but found undefined"],
    [[x, new Float32Array(28)], {}, "w: expected a Float64Array like x but found a Float32Array"],
    [[x, w], { tangents: null }, "tangents: expected a Float64Array like x but found null"],
    [[x, w], { tangents: [1, 2] }, "tangents: expected a Float64Array like x but found an Array"],
    [[x, w], { bias: null }, "bias: expected a Float64Array like x but found null"],
    [[x, w], { second: null }, "second: expected a Float64Array like x but found null"],
    [[x.subarray(1), w], {}, "x: expected 35 numbers (rows × inputs) but found 34"],
    [[x, w.subarray(1)], {}, "w: expected 28 numbers (inputs × outputs) but found 27"],
    [[x, w], { bias: new Float64Array(3) }, "bias: expected 4 numbers (outputs) but found 3"],
    [
      [x, w],
      { tangents: tangents.subarray(1) },
      "tangents: expected a multiple of 35 numbers (lanes × rows × inputs) but found 34",
    ],
    [[x, w], { second: new Float64Array(34) }, "second: expected 35 numbers (rows × inputs) but found 34"],
    [
      [x, w],
      { second: new Float64Array(35), tangents: new Float64Array(70) },
      "second: expected tangents of one lane beside it but found 2 lanes",
    ],
    [
      [x, w],
      { second: new Float64Array(35), tangents: new Float64Array(0) },
      "second: expected tangents of one lane beside it but found 0 lanes",
    ],
    [[x, w], { activation: "rely" }, "activation: expected one of identity, relu, leakyRelu, tanh, sigmoid, gelu (did"],
    [[x, w], { activation: null }, "activation: expected one of identity, relu, leakyRelu, tanh, sigmoid, gelu but"],
    [[x, w], { slope: 0.2 }, "slope: expected activation leakyRelu beside it but found activation identity"],
    [[x, w], { activation: "tanh", slope: 0.2 }, "slope: expected activation leakyRelu beside it but found activation"],
    [[x, w], { activation: "leakyRelu", slope: null }, "slope: expected a number above 0 but found null"],
    [[x, w], { activation: "leakyRelu", slope: 0 }, "slope: expected a number above 0 but found 0"],
    [[x, w], { rows: null }, "rows: expected a whole number from 1 to 16777216 but found null"],
  ];
  for (const [operands, change, message] of cases) {
    const call = () => dualForward(operands as [typeof x, typeof w], { ...options, ...change });
    assertThrows(call, ConfigError, `Cannot use dualForward.${message}`);
  }
  const undefinedBeside = { ...options, activation: undefined, slope: undefined, bias: undefined, second: undefined };
  const found = dualForward([x, w], undefinedBeside as unknown as typeof options);
  assertEquals(found, dualForward([x, w], options));
});
