import { assert, assertEquals, assertThrows } from "@std/assert";
import { hashTable } from "../../src/data/hash.ts";
import { spectra } from "../../src/data/spectra.ts";
import { ConfigError } from "../../src/errors.ts";

Deno.test("spectra() gives 200 rows of 5,000 columns in balanced classes", () => {
  const { train, test } = spectra();
  assertEquals([train.rows, test?.rows, train.shape, train.features.length], [200, 200, [5000], 1_000_000]);
  assertEquals(train.targets.kind === "labels" && train.targets.classes, 4);
  assertEquals([...train.targets.values].filter((label) => label === 3).length, 50);
  let [sum, squares] = [0, 0];
  for (const value of train.features) [sum, squares] = [sum + value, squares + value * value];
  const mean = sum / train.features.length;
  assert(Math.abs(mean) < 0.1, `${mean}`);
  const deviation = Math.sqrt(squares / train.features.length - mean * mean);
  assert(deviation > 0.15 && deviation < 0.35, `${deviation}`);
});

Deno.test("spectra() has its classes' peaks: rows are nearer to the mean of their own class", () => {
  const { train, test } = spectra({ seed: 4 });
  const means = Array.from({ length: 4 }, () => new Float64Array(5000));
  for (let row = 0; row < train.rows; row++) {
    const mean = means[row % 4]!;
    for (let i = 0; i < 5000; i++) mean[i] = mean[i]! + train.features[row * 5000 + i]! / 50;
  }
  let right = 0;
  for (let row = 0; row < test!.rows; row++) {
    const distances = means.map((mean) =>
      mean.reduce((sum, value, i) => sum + (value - test!.features[row * 5000 + i]!) ** 2, 0)
    );
    if (distances.indexOf(Math.min(...distances)) === row % 4) right++;
  }
  // Chance is a quarter; peaks that are nobody's, and slopes, keep this plain rule from being always right.
  assert(right > 100, `${right} of 200`);
});

Deno.test("spectra() gives the same numbers on every machine", async () => {
  assertEquals(
    await hashTable(spectra({ rows: 10, seed: 3 }).train),
    "b642687846c9476530c9916cae77770c377ca6a7ff85869e349464de73fb8ebc",
  );
});

Deno.test("spectra() draws other rows for another seed, and the same for other numbers of rows", () => {
  const [few, many] = [spectra({ rows: 3, testRows: 2 }), spectra({ rows: 5, testRows: 4 })];
  assertEquals(few.train.features, many.train.features.slice(0, 15_000));
  assertEquals(few.test?.features, many.test?.features.slice(0, 10_000));
  assert(few.train.features[7] !== spectra({ rows: 3, seed: 2 }).train.features[7]);
});

Deno.test("spectra() refuses options that cannot be used", () => {
  assertThrows(
    () => spectra({ classes: 1 }),
    ConfigError,
    "Cannot use classes: expected a whole number from 2 to 20 but found 1",
  );
  assertThrows(() => spectra({ rows: 0 }), ConfigError, "Cannot use rows");
  assertThrows(() => spectra({ seed: -1 }), ConfigError, "Cannot use seed");
});
