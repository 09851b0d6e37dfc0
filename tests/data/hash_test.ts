import { assert, assertEquals } from "@std/assert";
import { hashData, hashTable } from "../../src/data/hash.ts";
import type { Table } from "../../src/data/table.ts";

const table: Table = {
  rows: 2,
  shape: [2],
  features: Uint8Array.of(1, 2, 3, 4),
  targets: { kind: "labels", classes: 2, values: Uint32Array.of(0, 1) },
};

Deno.test("hashTable() changes with everything that training sees", async () => {
  const others: Table[] = [
    { ...table, shape: [2, 1] },
    { ...table, features: Uint8Array.of(1, 2, 3, 5) },
    { ...table, features: Float32Array.of(1, 2, 3, 4) },
    { ...table, scale: [1] },
    { ...table, offset: [1] },
    { ...table, targets: { kind: "labels", classes: 3, values: Uint32Array.of(0, 1) } },
    { ...table, targets: { kind: "labels", classes: 2, values: Uint32Array.of(1, 1) } },
    { ...table, targets: { kind: "values", size: 1, values: Float32Array.of(0, 1) } },
  ];
  const hashes = await Promise.all([table, ...others].map(hashTable));
  assertEquals(new Set(hashes).size, others.length + 1);
  assert(hashes.every((hash) => /^[0-9a-f]{64}$/.test(hash)));
});

Deno.test("hashTable() takes a default for what it stands for", async () => {
  assertEquals(await hashTable({ ...table, scale: [1 / 255], offset: [0] }), await hashTable(table));
});

Deno.test("hashData() tells the parts apart, and ignores names", async () => {
  const whole = await hashData({ name: "a", train: table, test: table });
  assertEquals(await hashData({ name: "b", train: table, test: table }), whole);
  const others = [{ train: table }, { train: table, validation: table }, {
    train: table,
    validation: table,
    test: table,
  }];
  const hashes = await Promise.all(others.map((parts) => hashData({ name: "a", ...parts })));
  assertEquals(new Set([whole, ...hashes]).size, 4);
});
