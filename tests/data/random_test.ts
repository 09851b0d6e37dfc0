import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { createRandom, permutation } from "../../src/data/random.ts";
import { ConfigError } from "../../src/errors.ts";

Deno.test("createRandom() gives the same numbers on every machine", () => {
  // From a second implementation, in Python.
  const random = createRandom(1, 2);
  assertEquals([random.bits(), random.bits(), random.bits()], [3908340636, 575599498, 2504239343]);
});

Deno.test("createRandom() tells seeds and streams apart", () => {
  const first = (seed: number, stream: number) => createRandom(seed, stream).bits();
  const seen = new Set<number>();
  for (let seed = 0; seed < 50; seed++) for (let stream = 0; stream < 50; stream++) seen.add(first(seed, stream));
  assertEquals(seen.size, 2500);
  assert(first(1, 0) !== first(1 + 2 ** 32, 0));
});

Deno.test("createRandom() has the mean and deviation that it says", () => {
  const random = createRandom(7);
  let [unit, bell, square] = [0, 0, 0];
  const draws = 100_000;
  for (let draw = 0; draw < draws; draw++) {
    unit += random.unit();
    const value = random.bell();
    bell += value;
    square += value * value;
  }
  assertAlmostEquals(unit / draws, 0.5, 0.005);
  assertAlmostEquals(bell / draws, 0, 0.015);
  assertAlmostEquals(square / draws, 1, 0.02);
});

Deno.test("createRandom().below() reaches every number about equally often", () => {
  const random = createRandom(3);
  const counts = new Array<number>(7).fill(0);
  for (let draw = 0; draw < 70_000; draw++) counts[random.below(7)]!++;
  for (const count of counts) assertAlmostEquals(count, 10_000, 400);
});

Deno.test("createRandom() refuses what is no seed", () => {
  for (const seed of [-1, 0.5, NaN, Infinity, 2 ** 53]) {
    assertThrows(() => createRandom(seed), ConfigError, "Cannot use seed: expected a whole number from 0");
  }
});

Deno.test("permutation() holds every number once", () => {
  fc.assert(fc.property(fc.integer({ min: 0, max: 500 }), fc.nat(), (count, seed) => {
    assertEquals([...permutation(count, seed)].sort((a, b) => a - b), Array.from({ length: count }, (_, i) => i));
  }));
});

Deno.test("permutation() differs between seeds", () => {
  assert(permutation(100, 1).join() !== permutation(100, 2).join());
});
