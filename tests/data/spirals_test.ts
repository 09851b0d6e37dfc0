import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import { hashTable } from "../../src/data/hash.ts";
import { cosineAndSine, spirals } from "../../src/data/spirals.ts";
import { ConfigError } from "../../src/errors.ts";

Deno.test("spirals() gives balanced arms around the middle", () => {
  const { train, test } = spirals({ rows: 300, testRows: 30, classes: 5 });
  assertEquals([train.rows, test?.rows, train.shape], [300, 30, [2]]);
  assert(train.features instanceof Float32Array);
  assert(train.features.every((value) => Math.abs(value) < 1.2));
  assertEquals(train.targets.kind === "labels" && train.targets.classes, 5);
  assertEquals([...train.targets.values].filter((arm) => arm === 4).length, 60);
});

Deno.test("spirals() without noise lies on its arms", () => {
  const { train } = spirals({ rows: 50, noise: 0, classes: 2 });
  for (let row = 0; row < 50; row++) {
    const [x, y] = [train.features[2 * row]!, train.features[2 * row + 1]!];
    const radius = Math.hypot(x, y);
    const angle = 2 * Math.PI * (train.targets.values[row]! / 2 + 1.25 * radius);
    assertAlmostEquals(x, radius * Math.cos(angle), 1e-6);
    assertAlmostEquals(y, radius * Math.sin(angle), 1e-6);
  }
});

Deno.test("spirals() gives the same numbers on every machine", async () => {
  assertEquals(
    await hashTable(spirals({ rows: 100, seed: 3 }).train),
    "cc0f6a9254673d28d4f228e710b9c125c828bab5ed1fafd94cbbabc99e6c7588",
  );
});

Deno.test("spirals() draws other points for another seed, and for testing", () => {
  const { train, test } = spirals({ rows: 50, testRows: 50 });
  assert(String(train.features) !== String(test?.features));
  assert(String(train.features) !== String(spirals({ rows: 50, seed: 2 }).train.features));
});

Deno.test("cosineAndSine() agrees with the machine's own to 1e-10", () => {
  for (let turns = 0; turns < 3; turns += 0.0137) {
    const { cosine, sine } = cosineAndSine(turns);
    assertAlmostEquals(cosine, Math.cos(2 * Math.PI * turns), 1e-10);
    assertAlmostEquals(sine, Math.sin(2 * Math.PI * turns), 1e-10);
  }
});

Deno.test("spirals() refuses options that cannot be used", () => {
  assertThrows(
    () => spirals({ classes: 1 }),
    ConfigError,
    "Cannot use classes: expected a whole number from 2 to 10 but found 1",
  );
  assertThrows(
    () => spirals({ noise: NaN }),
    ConfigError,
    "Cannot use noise: expected a number from 0 to 1 but found NaN",
  );
  assertThrows(() => spirals({ rows: -1 }), ConfigError, "Cannot use rows");
  assertThrows(() => spirals({ seed: 0.5 }), ConfigError, "Cannot use seed");
});
