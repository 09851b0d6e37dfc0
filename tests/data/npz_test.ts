import { assertEquals, assertRejects } from "@std/assert";
import fc from "fast-check";
import type { NumberArray } from "../../src/data/array.ts";
import { npzData } from "../../src/data/npy_data.ts";
import { npzBytes, parseNpz, readNpz, writeNpz } from "../../src/data/npz.ts";
import { readZip, zipBytes } from "../../src/data/zip.ts";
import { DataError } from "../../src/errors.ts";
import golden from "./golden/numpy_files.json" with { type: "json" };
import { inFolder } from "./helpers.ts";

const stored = Uint8Array.fromBase64(golden["npz stored"]);
const deflated = Uint8Array.fromBase64(golden["npz deflated"]);

Deno.test("parseNpz() reads what NumPy writes, stored and deflated", async () => {
  for (const bytes of [stored, deflated]) {
    const arrays = await parseNpz(bytes, "x");
    assertEquals([...arrays.keys()], ["features", "targets"]);
    assertEquals(arrays.get("features")!.values, Float32Array.from({ length: 12 }, (_, at) => at));
    assertEquals(arrays.get("targets")!.values, BigInt64Array.of(0n, 2n, 1n, 2n));
  }
});

Deno.test("npzBytes() and parseNpz() give back any arrays, stored and deflated", async () => {
  const arrays = fc.dictionary(fc.stringMatching(/^[a-zé_]{1,8}$/), fc.float64Array({ maxLength: 50 }), { maxKeys: 4 });
  await fc.assert(
    fc.asyncProperty(arrays, fc.boolean(), async (values, compress) => {
      const named: Record<string, NumberArray> = Object.fromEntries(
        Object.entries(values).map((
          [name, numbers],
        ) => [name, { type: "f8", shape: [numbers.length], values: numbers }]),
      );
      const again = await parseNpz(await npzBytes(named, { compress }), "x");
      assertEquals(Object.fromEntries(again), named);
    }),
    { numRuns: 50 },
  );
});

Deno.test("npzBytes() gives the same bytes for the same arrays", async () => {
  const array: NumberArray = { type: "f8", shape: [1], values: Float64Array.of(1) };
  assertEquals(await npzBytes({ array }), await npzBytes({ array }));
});

Deno.test("parseNpz() refuses an archive that is cut off at any byte", async () => {
  for (let length = 0; length < stored.length; length += 7) {
    await assertRejects(() => parseNpz(stored.slice(0, length), "cut.npz"), DataError, "Cannot read cut.npz");
  }
});

Deno.test("parseNpz() never takes a damaged archive for a good one", async () => {
  const whole = await parseNpz(deflated, "x");
  for (let at = 0; at < deflated.length; at++) {
    const bytes = deflated.slice();
    bytes[at]! ^= 0xff;
    try {
      const arrays = await parseNpz(bytes, "x");
      // Dates, versions and the like mean nothing here; numbers must be right.
      assertEquals([...arrays.values()], [...whole.values()]);
    } catch (error) {
      if (!(error instanceof DataError)) throw error;
    }
  }
});

Deno.test("readZip() names what is wrong", async () => {
  const archive = await zipBytes([{ name: "a.npy", bytes: new TextEncoder().encode("hello hello hello") }]);
  const edit = (at: number, value: number) => {
    const bytes = archive.slice();
    bytes[at] = value;
    return () => readZip(bytes, "x.npz");
  };
  const central = archive.length - 22 - 46 - 5;
  await assertRejects(
    edit(36, 0),
    DataError,
    "x.npz, entry a.npy: expected content that fits its checksum but found damaged content",
  );
  await assertRejects(
    edit(central + 10, 12),
    DataError,
    "entry a.npy: expected an entry stored or deflated but found method 12",
  );
  await assertRejects(edit(central + 8, 1), DataError, "expected no encryption but found an encrypted entry");
  await assertRejects(
    edit(central, 0),
    DataError,
    "expected 1 entries in the ZIP directory but found damage at entry 1",
  );
  await assertRejects(
    () => readZip(new TextEncoder().encode("not a zip"), "x"),
    DataError,
    "a whole ZIP archive but found one without its directory",
  );
});

Deno.test("readZip() stops unpacking an entry that is larger than it says", async () => {
  const bytes = await zipBytes([{ name: "a", bytes: new Uint8Array(1_000_000) }], { compress: true });
  new DataView(bytes.buffer).setUint32(bytes.length - 22 - 47 + 24, 10, true);
  await assertRejects(() => readZip(bytes, "x"), DataError, "x, entry a: expected 10 bytes but found more");
});

Deno.test("parseNpz() refuses entries of another kind", async () => {
  const archive = await zipBytes([{ name: "readme.txt", bytes: new Uint8Array(3) }]);
  await assertRejects(
    () => parseNpz(archive, "x.npz"),
    DataError,
    "x.npz: expected entries that end in .npy but found readme.txt",
  );
});

Deno.test("npzData() finds features and targets under their usual names", async () => {
  await inFolder({ "golden.npz": deflated }, async (folder) => {
    const data = await npzData(`${folder}/golden.npz`);
    assertEquals([data.train.rows, data.train.shape, data.test], [4, [3], undefined]);
    const arrays = Object.fromEntries(await readNpz(`${folder}/golden.npz`));
    const { features, targets } = arrays as { features: NumberArray; targets: NumberArray };
    await writeNpz(`${folder}/keras.npz`, {
      arrays: { x_train: features, y_train: targets, x_test: features, y_test: targets },
      compress: true,
    });
    assertEquals((await npzData(`${folder}/keras.npz`)).test, data.train);
    await writeNpz(`${folder}/slip.npz`, { arrays: { featuers: features, targets } });
    await assertRejects(
      () => npzData(`${folder}/slip.npz`),
      DataError,
      "an array named features or x_train or x (did you mean features?) but found featuers, targets",
    );
    await writeNpz(`${folder}/half.npz`, { arrays: { features, targets, x_test: features } });
    await assertRejects(() => npzData(`${folder}/half.npz`), DataError, "test features and test targets together");
    const bad: NumberArray = { type: "f4", shape: [4], values: Float32Array.of(1, 2, NaN, 3) };
    await writeNpz(`${folder}/bad.npz`, { arrays: { features: bad, targets } });
    await assertRejects(
      () => npzData(`${folder}/bad.npz`),
      DataError,
      "bad.npz, training features, row 2, column 0 (counted from 0): expected a finite number but found NaN",
    );
  });
});

Deno.test("zipBytes() makes an archive of nothing", async () => {
  assertEquals(await readZip(await zipBytes([]), "x"), []);
});
