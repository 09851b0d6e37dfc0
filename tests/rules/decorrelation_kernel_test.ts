/** decorrelationUpdate: the local rule over typed arrays. */

import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import { ConfigError, EngineError } from "../../mod.ts";
import { decorrelationUpdate } from "../../src/kernels.ts";
// Loads the library before the test that uses it.
import "../helpers.ts";
import { assertClose } from "../tolerance.ts";

Deno.test("decorrelationUpdate() takes the step of the rule", () => {
  const x = Float64Array.of(1, 2, -1, 0.5, 0.3, 1);
  const r = Float64Array.of(1, 0, 0, 1);
  const c = (i: number, j: number) => [0, 1, 2].reduce((sum, row) => sum + x[row * 2 + i]! * x[row * 2 + j]!, 0) / 3;
  const { loss, rate, reset } = decorrelationUpdate([x, r], { rows: 3, rate: 0.1, kappa: 0.25 });
  assertEquals([rate, reset], [0.1, false]);
  assertAlmostEquals(loss, (0.75 * 2 * c(0, 1) ** 2 + 0.25 * ((c(0, 0) - 1) ** 2 + (c(1, 1) - 1) ** 2)) / 4, 1e-12);
  const expected = [1 - 0.025 * (c(0, 0) - 1), -0.075 * c(0, 1), -0.075 * c(0, 1), 1 - 0.025 * (c(1, 1) - 1)];
  assertClose({ name: "r", limit: 1e-12 }, r, Float64Array.from(expected));
  const [single, own] = [Float32Array.from(x), Float32Array.of(1, 0, 0, 1)];
  assertAlmostEquals(decorrelationUpdate([single, own], { rows: 3, rate: 0.1, kappa: 0.25 }).loss, loss, 1e-6);
  assertClose({ name: "r in f32", limit: 1e-6 }, Float64Array.from(own), r);
  // A limit shortens a long step until it does not raise the loss.
  const long = { rows: 3, rate: 1e3, kappa: 0.25 };
  const shortened = decorrelationUpdate([x, r], { ...long, autoStep: 1.4 });
  assert(
    shortened.rate < 10 && decorrelationUpdate([x, r], { ...long, rate: 0 }).loss <= shortened.loss,
    "a shorter step",
  );
  const huge = Float64Array.from(x, (value) => value * 1e160);
  assertEquals(decorrelationUpdate([huge, r], { rows: 3, rate: 0.1 }).reset, true);
  assertEquals(r, Float64Array.of(1, 0, 0, 1));
  assertThrows(() => decorrelationUpdate([x, new Float64Array(3)], { rows: 3, rate: 0.1 }), EngineError, "r");
  const narrow = new Float32Array(4) as unknown as Float64Array<ArrayBuffer>;
  assertThrows(() => decorrelationUpdate([x, narrow], { rows: 3, rate: 0.1 }), ConfigError, "r");
});
