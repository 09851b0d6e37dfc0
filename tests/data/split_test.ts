import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import {
  fitStandardization,
  shuffleRows,
  splitRows,
  standardize,
  takeRows,
  withValidation,
} from "../../src/data/split.ts";
import type { Table } from "../../src/data/table.ts";
import { ConfigError, DataError } from "../../src/errors.ts";

function table(rows: number): Table {
  return {
    rows,
    shape: [2],
    features: Float32Array.from({ length: 2 * rows }, (_, at) => at),
    targets: { kind: "labels", classes: 10, values: Uint32Array.from({ length: rows }, (_, row) => row % 10) },
  };
}

/** Row numbers of a table made by `table`. */
function rowsOf(part: Table): number[] {
  return Array.from({ length: part.rows }, (_, row) => part.features[2 * row]! / 2);
}

Deno.test("takeRows() copies features and targets together", () => {
  const taken = takeRows(table(5), [4, 0, 4]);
  assertEquals(taken.features, Float32Array.of(8, 9, 0, 1, 8, 9));
  assertEquals(taken.targets.values, Uint32Array.of(4, 0, 4));
  const values: Table = {
    ...table(3),
    targets: { kind: "values", size: 2, values: Float64Array.of(1, 2, 3, 4, 5, 6) },
  };
  assertEquals(takeRows(values, [2]).targets, { kind: "values", size: 2, values: Float64Array.of(5, 6) });
});

Deno.test("takeRows() refuses rows that are not there", () => {
  assertThrows(
    () => takeRows(table(5), [5]),
    DataError,
    "Cannot use the rows to take: expected rows from 0 to 4 but found 5",
  );
  assertThrows(() => takeRows(table(5), [0.5]), DataError, "but found 0.5");
  assertThrows(() => takeRows(table(5), []), DataError, "expected at least one row but found none");
});

Deno.test("shuffleRows() keeps every row whole", () => {
  const shuffled = shuffleRows(table(30), 3);
  assertEquals(rowsOf(shuffled).sort((a, b) => a - b), rowsOf(table(30)));
  assertEquals(rowsOf(shuffled).map((row) => row % 10), [...shuffled.targets.values]);
  assert(rowsOf(shuffled).join() !== rowsOf(table(30)).join());
  assertEquals(shuffleRows(table(30), 3), shuffled);
});

Deno.test("splitRows() puts every row in one part, in order", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 2, max: 60 }),
      fc.double({ min: 0.001, max: 0.999, noNaN: true }),
      fc.option(fc.nat(), { nil: undefined }),
      (rows, fraction, seed) => {
        const { kept, split } = splitRows(table(rows), { fraction, ...(seed !== undefined && { seed }) });
        const [left, right] = [rowsOf(kept), rowsOf(split)];
        assertEquals([...left, ...right].sort((a, b) => a - b), rowsOf(table(rows)));
        assertEquals(left, left.toSorted((a, b) => a - b));
        assertEquals(right, right.toSorted((a, b) => a - b));
        assertEquals(split.rows, Math.min(rows - 1, Math.max(1, Math.round(rows * fraction))));
      },
    ),
  );
  assertEquals(rowsOf(splitRows(table(4), { fraction: 0.25 }).split), [3]);
});

Deno.test("splitRows() refuses fractions that leave a part empty", () => {
  for (const fraction of [0, 1, -0.1, NaN]) {
    assertThrows(
      () => splitRows(table(4), { fraction }),
      ConfigError,
      "Cannot use fraction: expected a number between 0 and 1",
    );
  }
  assertThrows(() => splitRows(table(1), { fraction: 0.5 }), DataError, "expected at least two rows but found 1 rows");
});

Deno.test("withValidation() splits training rows and leaves the test rows alone", () => {
  const data = { name: "x", train: table(10), test: table(3) };
  const split = withValidation(data, { fraction: 0.2, seed: 1 });
  assertEquals([split.train.rows, split.validation?.rows], [8, 2]);
  assertEquals(split.test, data.test);
  assertThrows(
    () => withValidation(split, { fraction: 0.2 }),
    ConfigError,
    "a data set without validation rows but found x, which has them",
  );
});

Deno.test("standardize() gives the fitted rows mean 0 and deviation 1", () => {
  const numbers = fc.array(fc.float({ min: -1000, max: 1000, noNaN: true }), { minLength: 4, maxLength: 40 });
  fc.assert(fc.property(numbers, (values) => {
    const rows = values.length >> 1;
    const some: Table = { ...table(rows), features: Float64Array.from(values.slice(0, 2 * rows)) };
    const { features } = standardize(some, fitStandardization(some));
    for (const column of [0, 1]) {
      const numbers = Array.from({ length: rows }, (_, row) => features[2 * row + column]!);
      const mean = numbers.reduce((sum, value) => sum + value, 0) / rows;
      const square = numbers.reduce((sum, value) => sum + value * value, 0) / rows;
      assertAlmostEquals(mean, 0, 1e-9);
      assert(Math.abs(square - 1) < 1e-9 || numbers.every((value) => Math.abs(value) < 1e-9), `${numbers}`);
    }
  }));
});

Deno.test("standardize() makes a constant feature 0, also for other rows the same shift", () => {
  const train: Table = { ...table(3), features: Float64Array.of(0.1, 1, 0.1, 2, 0.1, 3) };
  const fit = fitStandardization(train);
  assertEquals(fit.deviations[0], 1);
  const other = standardize({ ...table(1), features: Float64Array.of(1.1, 2) }, fit);
  assertAlmostEquals(other.features[0]!, 1, 1e-12);
});

Deno.test("standardize() reads bytes with their scale and offset", () => {
  const bytes: Table = { ...table(2), features: Uint8Array.of(0, 10, 2, 30), scale: [0.5, 1], offset: [1] };
  const fit = fitStandardization(bytes);
  assertEquals(fit, { means: [1.5, 21], deviations: [0.5, 10] });
  const done = standardize(bytes, fit);
  assertEquals(done.features, Float32Array.of(-1, -1, 1, 1));
  assertEquals("scale" in done, false);
});

Deno.test("standardize() refuses a fit for other features", () => {
  assertThrows(
    () => standardize(table(2), { means: [0], deviations: [1] }),
    DataError,
    "one mean and deviation for each of 2 features but found 1",
  );
});
