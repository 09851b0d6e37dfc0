import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import fc from "fast-check";
import { bytesPerNumber, elementCount, type NumberArray, type NumberType } from "../../src/data/array.ts";
import { npyBytes, parseNpy, readNpy, writeNpy } from "../../src/data/npy.ts";
import { npyData } from "../../src/data/npy_data.ts";
import { ConfigError, DataError } from "../../src/errors.ts";
import golden from "./golden/numpy_files.json" with { type: "json" };
import { inFolder } from "./helpers.ts";

function numpy(name: keyof typeof golden): NumberArray {
  return parseNpy(Uint8Array.fromBase64(golden[name]), name);
}

const grid = [1, 2, 3, -4, 5, 60];

Deno.test("parseNpy() reads every number type that NumPy writes, in both byte orders", () => {
  for (const name of Object.keys(golden) as (keyof typeof golden)[]) {
    if (!/^[<>|][uif]\d$/.test(name)) continue;
    const array = numpy(name);
    assertEquals(array.type, name.slice(1) as NumberType);
    assertEquals(array.shape, [2, 3]);
    const expected = name[1] === "u" ? grid.map(Math.abs) : grid;
    assertEquals(Array.from(array.values as Float64Array, Number), expected, name);
  }
  assertEquals([...numpy("|b1").values], [0, 0, 1, 0, 1, 1]);
});

Deno.test("parseNpy() brings Fortran order into C order", () => {
  assertEquals([...numpy("fortran grid").values], grid);
  assertEquals(numpy("fortran cube").shape, [2, 3, 4]);
  assertEquals([...numpy("fortran cube").values], Array.from({ length: 24 }, (_, at) => at));
});

Deno.test("parseNpy() reads versions 2 and 3, vectors, single numbers and empty arrays", () => {
  assertEquals([...numpy("version 2").values], grid);
  assertEquals([...numpy("version 3").values], grid);
  assertEquals(numpy("vector"), { type: "f8", shape: [2], values: Float64Array.of(1.5, -2.5) });
  assertEquals(numpy("number"), { type: "f8", shape: [], values: Float64Array.of(7.25) });
  assertEquals(numpy("empty").shape, [0, 3]);
});

Deno.test("parseNpy() refuses by name what it cannot hold", () => {
  const types = "expected numbers of type b1, u1, i1, u2, i2, u4, i4, u8, i8, f4, f8 but found";
  assertThrows(() => numpy("half"), DataError, `Cannot read half: ${types} <f2`);
  assertThrows(() => numpy("complex"), DataError, `${types} <c8`);
  assertThrows(() => numpy("text"), DataError, `${types} <U1`);
  assertThrows(() => numpy("objects"), DataError, `${types} |O`);
  assertThrows(() => numpy("structured"), DataError, `${types} a structured array`);
});

Deno.test("parseNpy() refuses a file that is cut off at any byte, or too long", () => {
  const whole = Uint8Array.fromBase64(golden["<f8"]);
  for (let length = 0; length < whole.length; length++) {
    assertThrows(() => parseNpy(whole.slice(0, length), "cut.npy"), DataError, "Cannot read cut.npy: expected");
  }
  assertThrows(
    () => parseNpy(whole.slice(0, 150), "cut.npy"),
    DataError,
    "expected 176 bytes for shape [2, 3] but found 150 bytes (cut off)",
  );
  assertThrows(() => parseNpy(new Uint8Array([...whole, 0]), "x"), DataError, "but found 177 bytes (too long)");
});

Deno.test("parseNpy() refuses another format, version or header", () => {
  const edit = (change: (bytes: Uint8Array) => void) => {
    const bytes = Uint8Array.fromBase64(golden["<f8"]);
    change(bytes);
    return () => parseNpy(bytes, "x");
  };
  assertThrows(edit((bytes) => bytes.set([0x50])), DataError, "expected an NPY file (first bytes 93 4e");
  assertThrows(edit((bytes) => bytes.set([4], 6)), DataError, "expected NPY version 1, 2 or 3 but found 4");
  assertThrows(edit((bytes) => bytes.set([0xff, 0xff], 8)), DataError, "expected an NPY header of 65545 bytes");
  assertThrows(
    edit((bytes) => bytes.fill(0x20, 10, 128)),
    DataError,
    "an NPY header with descr, fortran_order and shape",
  );
});

Deno.test("npyBytes() writes what NumPy writes", () => {
  for (
    const name of ["<u2", "<i2", "<i4", "<i8", "<f4", "<f8", "|u1", "|i1", "|b1", "vector", "number", "empty"] as const
  ) {
    assertEquals(npyBytes(numpy(name)).toBase64(), golden[name], name);
  }
});

Deno.test("npyBytes() and parseNpy() give back any array", () => {
  const arrays = fc.tuple(
    fc.constantFrom(...Object.keys(bytesPerNumber) as NumberType[]),
    fc.array(fc.integer({ min: 0, max: 4 }), { maxLength: 4 }),
    fc.infiniteStream(fc.integer({ min: 0, max: 255 })),
  );
  fc.assert(fc.property(arrays, ([type, shape, stream]) => {
    const bytes = Uint8Array.from({ length: elementCount(shape) * bytesPerNumber[type] }, () => stream.next().value);
    const header = npyBytes({ type: "u1", shape: [bytes.length], values: bytes });
    // Through raw bytes, so that NaN and negative zero are among the numbers.
    const array = parseNpy(retype(header, { type, shape, bytes }), "x");
    const again = parseNpy(npyBytes(array), "y");
    assertEquals([again.type, again.shape], [type, shape]);
    assertEquals(new Uint8Array(again.values.buffer), bytes);
  }));
});

Deno.test("npyBytes() refuses a shape that does not fit", () => {
  assertThrows(
    () => npyBytes({ type: "f4", shape: [2, 2], values: new Float32Array(3) }),
    DataError,
    "expected 4 numbers of 4 bytes for type f4 and shape [2, 2] but found 3 of 4 bytes",
  );
});

Deno.test("writeNpy() replaces a file in one stroke and leaves nothing beside it", async () => {
  await inFolder({ "a.npy": "old" }, async (folder) => {
    await writeNpy(`${folder}/a.npy`, numpy("vector"));
    assertEquals(await readNpy(`${folder}/a.npy`), numpy("vector"));
    assertEquals([...Deno.readDirSync(folder)].map((entry) => entry.name), ["a.npy"]);
    await assertRejects(() => writeNpy(`${folder}/none/a.npy`, numpy("vector")), Deno.errors.NotFound);
  });
});

const features: NumberArray = { type: "f4", shape: [3, 2], values: Float32Array.of(1, 2, 3, 4, 5, 6) };
const labels: NumberArray = { type: "i8", shape: [3], values: BigInt64Array.of(0n, 2n, 1n) };

Deno.test("npyData() takes whole numbers as labels and floating point as values", async () => {
  const data = await npyData({ features, targets: labels });
  assertEquals(data.train.targets, { kind: "labels", classes: 3, values: Uint32Array.of(0, 2, 1) });
  const values = await npyData({ features, targets: { type: "f8", shape: [3, 1], values: Float64Array.of(1, 2, 3) } });
  assertEquals(values.train.targets, { kind: "values", size: 1, values: Float64Array.of(1, 2, 3) });
  const forced = await npyData({ features, targets: labels, task: "regression" });
  assertEquals(forced.train.targets, { kind: "values", size: 1, values: Float64Array.of(0, 2, 1) });
});

Deno.test("npyData() reads files, keeps bytes, and makes images of rank 3", async () => {
  await inFolder({}, async (folder) => {
    await writeNpy(`${folder}/x.npy`, {
      type: "u1",
      shape: [3, 1, 2],
      values: Uint8Array.of(0, 51, 102, 153, 204, 255),
    });
    await writeNpy(`${folder}/y.npy`, labels);
    const { train } = await npyData({ features: `${folder}/x.npy`, targets: `${folder}/y.npy` });
    assertEquals([train.shape, train.scale, train.features], [
      [1, 2, 1],
      [1 / 255],
      Uint8Array.of(0, 51, 102, 153, 204, 255),
    ]);
  });
});

Deno.test("npyData() refuses NaN by row and column, labels out of range, and rows that do not match", async () => {
  const bad = { ...features, values: Float32Array.of(1, 2, 3, 4, 5, Infinity) };
  await assertRejects(
    () => npyData({ features: bad, targets: labels }),
    DataError,
    "Cannot use training features, row 2, column 1 (counted from 0): expected a finite number but found Infinity",
  );
  await assertRejects(
    () => npyData({ features, targets: { ...labels, values: BigInt64Array.of(0n, -2n, 1n) } }),
    DataError,
    "training targets, row 1 (counted from 0): expected a class label, a whole number from 0 to 999999 but found -2",
  );
  await assertRejects(
    () => npyData({ features, targets: labels, classes: 2 }),
    DataError,
    "a whole number from 0 to 1 but found 2",
  );
  await assertRejects(
    () => npyData({ features, targets: { ...labels, shape: [2], values: BigInt64Array.of(0n, 1n) } }),
    DataError,
    "training targets: expected 3 rows, as many as training features has but found 2 rows",
  );
  await assertRejects(
    () => npyData({ features: { type: "f4", shape: [0, 2], values: new Float32Array(0) }, targets: labels }),
    DataError,
    "at least one row",
  );
  const values: NumberArray = { type: "f4", shape: [3], values: Float32Array.of(1, NaN, 2) };
  await assertRejects(
    () => npyData({ features, targets: values }),
    DataError,
    "targets, row 1, column 0 (counted from 0): expected a finite number but found NaN",
  );
});

Deno.test("npyData() refuses options that cannot be used", async () => {
  await assertRejects(
    () => npyData({ features, targets: labels, classes: 1 }),
    ConfigError,
    "Cannot use classes: expected a whole number from 2",
  );
  await assertRejects(
    () => npyData({ features, targets: labels, testFeatures: features }),
    ConfigError,
    "testFeatures and testTargets together",
  );
  await assertRejects(
    () => npyData({ features, targets: labels, scale: [0.5] }),
    ConfigError,
    "no scale or offset for features that are not bytes",
  );
  await assertRejects(
    () => npyData({ features, targets: labels, task: "regression", classes: 3 }),
    ConfigError,
    "Cannot use classes",
  );
});

Deno.test("npyData() holds the test rows to the classes of training", async () => {
  const fine = await npyData({ features, targets: labels, testFeatures: features, testTargets: labels });
  assertEquals(fine.test?.rows, 3);
  const more: NumberArray = { ...labels, values: BigInt64Array.of(0n, 3n, 1n) };
  await assertRejects(
    () => npyData({ features, targets: labels, testFeatures: features, testTargets: more }),
    DataError,
    "test targets, row 1 (counted from 0): expected a class label, a whole number from 0 to 2 but found 3",
  );
});

/** Puts other numbers behind a header made for bytes. */
function retype(
  file: Uint8Array<ArrayBuffer>,
  to: { type: NumberType; shape: number[]; bytes: Uint8Array },
): Uint8Array<ArrayBuffer> {
  const length = 10 + new DataView(file.buffer).getUint16(8, true);
  const shape = to.shape.length === 1 ? `(${to.shape[0]},)` : `(${to.shape.join(", ")})`;
  const text = `{'descr': '<${to.type}', 'fortran_order': False, 'shape': ${shape}, }`;
  const changed = file.slice();
  changed.fill(0x20, 10, length);
  changed.set(new TextEncoder().encode(text), 10);
  changed.set(to.bytes, length);
  return changed;
}
