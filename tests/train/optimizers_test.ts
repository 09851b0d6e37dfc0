/** Optimizers: their defaults, and objects written by hand. What they compute is in `golden_test.ts`. */

import { assertEquals, assertThrows } from "@std/assert";
import { adam, adamW, ConfigError, rmsProp, sgd } from "../../mod.ts";
import { checkOptimizer, optimizerKinds } from "../../src/train/optimizers.ts";

Deno.test("optimizers have PyTorch's defaults", () => {
  assertEquals(sgd(), { kind: "sgd", learningRate: 0.1, momentum: 0, nesterov: false, weightDecay: 0 });
  const moments = { learningRate: 1e-3, beta1: 0.9, beta2: 0.999, epsilon: 1e-8 };
  assertEquals(adam(), { kind: "adam", ...moments, weightDecay: 0 });
  assertEquals(adamW(), { kind: "adamW", ...moments, weightDecay: 0.01 });
  assertEquals(rmsProp(), { kind: "rmsProp", learningRate: 1e-3, alpha: 0.99, epsilon: 1e-8, weightDecay: 0 });
});

Deno.test("checkOptimizer() fills in defaults and keeps what is given", () => {
  for (const kind of optimizerKinds) {
    const whole = checkOptimizer({ kind });
    assertEquals(whole.kind, kind);
    assertEquals(checkOptimizer({ ...whole }), whole);
    assertEquals(checkOptimizer({ kind, learningRate: 0.5 }).learningRate, 0.5);
  }
});

Deno.test("checkOptimizer() refuses options of another optimizer", () => {
  assertThrows(() => checkOptimizer({ kind: "sgd", beta1: 0.9 }), ConfigError, "Cannot use optimizer.beta1");
  assertThrows(() => checkOptimizer({ kind: "adam", momentum: 0.9 }), ConfigError, "Cannot use optimizer.momentum");
  assertThrows(() => checkOptimizer({ kind: "rmsProp", momentum: 0.9 }), ConfigError, "Cannot use optimizer.momentum");
});
