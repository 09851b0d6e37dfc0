/** Rows of a stream in a random order: every row once, another order for each pass and seed, as far as the window reaches. */

import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { ConfigError, DataError, shuffleStream, type Table, type TableStream } from "../../mod.ts";

const ROWS = 500;

/** Rows whose features say their number, in parts of many sizes. */
async function* numbered(): AsyncGenerator<Table> {
  for (let from = 0, size = 1; from < ROWS; from += size, size = (size * 3) % 41) {
    await Promise.resolve();
    const rows = Math.min(size, ROWS - from);
    const features = Float32Array.from({ length: 2 * rows }, (_, index) => from + (index >> 1) + (index % 2) / 2);
    const values = Float32Array.from(
      { length: 3 * rows },
      (_, index) => 10 * (from + Math.floor(index / 3)) + index % 3,
    );
    yield { rows, shape: [2], features, targets: { kind: "values", size: 3, values } };
  }
}

/** The numbers of the rows in their order; fails where a row's parts have come apart. */
async function order(stream: TableStream, pass = 0): Promise<number[]> {
  const found: number[] = [];
  for await (const { rows, features, targets } of typeof stream === "function" ? stream(pass) : stream) {
    assertEquals([features.length, targets.values.length], [2 * rows, 3 * rows]);
    for (let row = 0; row < rows; row++) {
      const number = features[2 * row]!;
      assertEquals(features[2 * row + 1], number + 0.5);
      assertEquals([...targets.values.subarray(3 * row, 3 * row + 3)], [0, 1, 2].map((at) => 10 * number + at));
      found.push(number);
    }
  }
  return found;
}

const inOrder = Array.from({ length: ROWS }, (_, row) => row);

Deno.test("shuffleStream() gives every row once, in an order that follows from seed and pass", async () => {
  for (const window of [1, 7, 64, ROWS, 10_000]) {
    const found = await order(shuffleStream(numbered, { window, seed: 3 }));
    assertEquals(found.toSorted((a, b) => a - b), inOrder, `window ${window}`);
    assertEquals(await order(shuffleStream(numbered, { window, seed: 3 })), found);
    if (window === 1) assertEquals(found, inOrder, "one row has no other place");
    else assert(String(found) !== String(inOrder));
    assert(found.every((row, at) => row - at <= window), "no row comes earlier than the window reaches");
  }
  const shuffled = shuffleStream(numbered, { window: 64, seed: 3 });
  const passes = [await order(shuffled, 0), await order(shuffled, 1), await order(shuffled, 0)];
  assert(String(passes[0]) !== String(passes[1]), "another order in each pass");
  assertEquals(passes[0], passes[2]);
  assert(String(await order(shuffleStream(numbered, { window: 64, seed: 4 }))) !== String(passes[0]));
});

Deno.test("shuffleStream() mixes a whole window: neighbours part, and places of rows are far from their own", async () => {
  const found = await order(shuffleStream(numbered, { window: ROWS }));
  const moved = found.reduce((sum, row, at) => sum + Math.abs(row - at), 0) / ROWS;
  // A third of the rows for an order at random.
  assert(moved > 0.28 * ROWS && moved < 0.39 * ROWS, `${moved} places`);
  assert(found.filter((row, at) => found[at + 1] === row + 1).length < 8, "neighbours");
});

Deno.test("shuffleStream() passes streams on that can be read once, and refuses what cannot be mixed", async () => {
  assertEquals((await order(shuffleStream(numbered(), { window: 10 }))).length, ROWS);
  assertThrows(
    () => shuffleStream(numbered, { window: 0 }),
    ConfigError,
    "shuffleStream.window: expected a whole number from 1",
  );
  assertThrows(() => shuffleStream(numbered, { widow: 3 } as never), ConfigError, "did you mean window?");
  for (const [given, found] of [[null, "null"], [3, "3"], [{}, "an Object"], [[], "an Array"]] as const) {
    assertThrows(
      () => shuffleStream(given as never),
      ConfigError,
      `Cannot use shuffleStream: expected an async iterable of tables, or a function that gives one but found ${found}`,
    );
  }
  await assertRejects(
    () => order(shuffleStream(() => undefined as never)),
    DataError,
    "Cannot use the stream: expected a function that gives an async iterable of tables but found undefined",
  );
  async function* changing(): AsyncGenerator<Table> {
    const [first] = await Array.fromAsync(numbered());
    yield first!;
    yield { ...first!, shape: [1], features: Float32Array.of(1) };
  }
  await assertRejects(
    () => order(shuffleStream(changing)),
    DataError,
    "Cannot use part 2 of the stream: expected samples",
  );
});
