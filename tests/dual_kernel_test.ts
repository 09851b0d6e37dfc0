/** The kernel `dualForward` against the formulas of a dense layer on dual numbers. */

import { assert, assertEquals, assertThrows } from "@std/assert";
import { ConfigError, dualForward, EngineError, type KernelActivation, type KernelArray } from "../src/kernels.ts";
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
    const options = { rows, inputs, outputs, bias, activation, slope: 0.2 };
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

Deno.test("dualForward() refuses what does not fit", () => {
  const [x, w, tangents] = [new Float64Array(35), new Float64Array(28), new Float64Array(35)];
  const options = { rows, inputs, outputs, tangents };
  const mixed = [x, new Float32Array(28) as unknown as Float64Array<ArrayBuffer>] as const;
  assertThrows(
    () => dualForward(mixed, options),
    ConfigError,
    "Cannot use dualForward.w: expected a Float64Array like x",
  );
  const unknown = { ...options, activation: "rely" as "relu" };
  assertThrows(() => dualForward([x, w], unknown), ConfigError, "did you mean relu?");
  const lengths: [KernelArray, object][] = [
    [w.subarray(1), {}],
    [w, { tangents: tangents.subarray(1) }],
    [w, { bias: new Float64Array(3) }],
    [w, { second: new Float64Array(34) }],
    [w, { second: new Float64Array(35), tangents: new Float64Array(70) }],
  ];
  for (const [w, change] of lengths) {
    const error = assertThrows(() => dualForward([x, w as typeof x], { ...options, ...change }), EngineError);
    assertEquals(error.code, "shape-mismatch");
  }
});
