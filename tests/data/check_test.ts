import { assertEquals, assertThrows } from "@std/assert";
import { checkAlike, checkTable } from "../../src/data/check.ts";
import type { Table } from "../../src/data/table.ts";
import { DataError } from "../../src/errors.ts";

const good: Table = {
  rows: 2,
  shape: [1, 1, 3],
  features: Float32Array.of(1, 2, 3, 4, 5, 6),
  targets: { kind: "labels", classes: 2, values: Uint32Array.of(0, 1) },
};

function refused(change: Partial<Table>, message: string): void {
  assertThrows(() => checkTable({ ...good, ...change }, "data"), DataError, message);
}

Deno.test("checkTable() gives back a good table", () => {
  assertEquals(checkTable(good, "data"), good);
});

Deno.test("checkTable() refuses empty and ill-shaped tables", () => {
  refused({ rows: 0 }, "Cannot use data: expected at least one row but found 0 rows");
  refused({ shape: [] }, "expected a shape of whole numbers from 1 but found []");
  refused({ shape: [3, 0] }, "expected a shape of whole numbers from 1 but found [3, 0]");
  refused({ shape: [4] }, "Cannot use data, features: expected 8 numbers (2 rows × 4) but found 6");
});

Deno.test("checkTable() names the row and column of NaN and infinity", () => {
  refused(
    { features: Float64Array.of(1, 2, 3, 4, NaN, 6) },
    "Cannot use data, row 1, column 1 (counted from 0): expected a finite number but found NaN",
  );
  refused(
    { features: Float32Array.of(1, 2, -Infinity, 4, 5, 6) },
    "data, row 0, column 2 (counted from 0): expected a finite number but found -Infinity",
  );
  refused(
    { targets: { kind: "values", size: 2, values: Float32Array.of(1, 2, 3, Infinity) } },
    "data, targets, row 1, column 1 (counted from 0)",
  );
});

Deno.test("checkTable() refuses targets that do not fit", () => {
  refused(
    { targets: { kind: "labels", classes: 2, values: Uint32Array.of(0, 2) } },
    "data, row 1 (counted from 0): expected a class label, a whole number from 0 to 1 but found 2",
  );
  refused(
    { targets: { kind: "labels", classes: 1, values: Uint32Array.of(0, 0) } },
    "data, classes: expected a whole number from 2 but found 1",
  );
  refused(
    { targets: { kind: "labels", classes: 2, values: Uint32Array.of(0) } },
    "data, labels: expected 2 numbers (2 rows × 1) but found 1",
  );
  refused(
    { targets: { kind: "values", size: 0, values: new Float32Array(0) } },
    "a size that is a whole number from 1 but found 0",
  );
  refused(
    { targets: { kind: "values", size: 2, values: new Float32Array(3) } },
    "expected 4 numbers (2 rows × 2) but found 3",
  );
});

Deno.test("checkTable() refuses scales that fit no channel", () => {
  const features = new Uint8Array(6);
  assertEquals(checkTable({ ...good, features, scale: [1, 2, 3], offset: [0] }, "data").rows, 2);
  refused({ features, scale: [1, 2] }, "data, scale: expected 1 or 3 entries but found 2");
  refused({ features, offset: [NaN] }, "data, offset: expected finite numbers but found NaN");
});

Deno.test("checkAlike() refuses tables of two different sets", () => {
  checkAlike(good, good, "test");
  assertThrows(
    () => checkAlike(good, { ...good, shape: [3] }, "test"),
    DataError,
    "Cannot use test: expected samples of shape [1, 1, 3] as in training but found [3]",
  );
  const values: Table = { ...good, targets: { kind: "values", size: 1, values: Float32Array.of(1, 2) } };
  assertThrows(
    () => checkAlike(good, values, "test"),
    DataError,
    "expected labels of 2 classes as in training but found 1 target values per row",
  );
});
