import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import { countsDiffer, meanInterval, median, ratioInterval } from "../src/statistics.ts";
import { createRandom } from "../src/data/random.ts";

Deno.test("median() is the middle, or the mean of the two in the middle", () => {
  assertEquals([median([3, 1, 2]), median([4, 1, 2, 3]), median([5])], [2, 2.5, 5]);
  assert(Number.isNaN(median([])));
});

Deno.test("meanInterval() has the width of Student's distribution", () => {
  // 97.5 % quantiles as tables have them.
  for (
    const [freedom, quantile] of [[1, 12.706], [2, 4.303], [3, 3.182], [4, 2.776], [9, 2.262], [99, 1.984]] as const
  ) {
    const values = Array.from({ length: freedom + 1 }, (_, index) => 3 + (index % 2));
    const { mean, low, high } = meanInterval(values);
    const variance = values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / freedom;
    const error = Math.sqrt(variance / values.length);
    assertAlmostEquals((high - mean) / error / quantile, 1, 0.01, String(freedom));
    assertAlmostEquals(high - mean, mean - low, 1e-12);
  }
  assertEquals(meanInterval([7]), { mean: 7, low: 7, high: 7 });
});

Deno.test("ratioInterval() holds the ratio, and has no width without spread", () => {
  const found = ratioInterval([[2, 1], [8, 1], [1, 1], [16, 1]]);
  assertAlmostEquals(found.ratio, 4, 1e-12);
  assert(found.low < found.ratio && found.ratio < found.high);
  assertEquals(ratioInterval([[3, 2], [3, 2]]), { ratio: 1.5, low: 1.5, high: 1.5, pairs: 2 });
});

Deno.test("ratioInterval() excludes the true ratio in a twentieth of all cases, however few pairs there are", () => {
  const random = createRandom(1);
  const trials = 4000;
  for (const count of [2, 3, 4, 5, 6, 20]) {
    let missed = 0;
    for (let trial = 0; trial < trials; trial++) {
      const { low, high } = ratioInterval(Array.from({ length: count }, () => {
        // What a pair has in common, such as a seed that is hard, and what each of them has of its own.
        const common = random.bell();
        return [Math.exp(common + 0.2 * random.bell()), Math.exp(common + 0.2 * random.bell())] as const;
      }));
      if (low > 1 || high < 1) missed++;
    }
    // Three deviations of a count of 200.
    assertAlmostEquals(missed / trials, 0.05, 3 * Math.sqrt(0.05 * 0.95 / trials), `${count} pairs: ${missed}`);
  }
});

Deno.test("countsDiffer() is Fisher's exact test", () => {
  // Two-sided p: 2/70, 2/20, 12/252 (of 5 + 1 over 10 over 6), 2·10/120, and of 5000 against 4995.
  assertEquals(
    ([[0, 4, 4], [3, 0, 3], [1, 5, 5], [5, 2, 5], [5000, 4995, 5000], [5000, 4990, 5000], [0, 0, 5], [
      2,
      2,
      4,
    ]] as const)
      .map(([a, b, of]) => countsDiffer(a, b, of)),
    [true, false, true, false, false, true, false, false],
  );
});
