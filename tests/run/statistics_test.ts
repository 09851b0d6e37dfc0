import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import { median, ratioInterval } from "../../src/run/statistics.ts";

Deno.test("median() is the middle, or the mean of the two in the middle", () => {
  assertEquals([median([3, 1, 2]), median([4, 1, 2, 3]), median([5])], [2, 2.5, 5]);
  assert(Number.isNaN(median([])));
});

Deno.test("ratioInterval() holds the ratio, is the same each time, and has no width without spread", () => {
  const pairs = [[2, 1], [2.2, 1], [1.9, 1.1], [2.1, 1]] as const;
  const found = ratioInterval(pairs);
  assertAlmostEquals(found.ratio, 2.05, 1e-12);
  assert(found.low < found.ratio && found.ratio < found.high);
  assertEquals(ratioInterval(pairs), found);
  assertEquals(ratioInterval([[3, 2], [3, 2]]), { ratio: 1.5, low: 1.5, high: 1.5, pairs: 2 });
});

Deno.test("ratioInterval() holds the true ratio about as often as it says", () => {
  // Pairs of the same kind on both sides: the true ratio is 1. 20 pairs; a percentile interval of few is a little too narrow.
  let state = 1;
  const uniform = () => (state = state * 48271 % 2147483647) / 2147483647;
  const trials = 60;
  let held = 0;
  for (let trial = 0; trial < trials; trial++) {
    const pairs = Array.from({ length: 20 }, () => [1 + uniform(), 1 + uniform()] as const);
    const { low, high } = ratioInterval(pairs);
    if (low <= 1 && high >= 1) held++;
  }
  assert(held >= 0.85 * trials, `${held} of ${trials}`);
  assert(held < trials, "an interval that always holds the truth says nothing");
});
