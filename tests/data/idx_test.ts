import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import fc from "fast-check";
import { idxPair, parseIdx, readIdx } from "../../src/data/idx.ts";
import { idxData } from "../../src/data/idx_data.ts";
import { DataError } from "../../src/errors.ts";
import { gzip, idxBytes, inFolder } from "./helpers.ts";

const images = idxBytes(0x08, [2, 2, 3], Uint8Array.from({ length: 12 }, (_, at) => at * 20));
const labels = idxBytes(0x08, [2], Uint8Array.of(3, 0));

Deno.test("parseIdx() reads every number type", () => {
  fc.assert(
    fc.property(
      fc.constantFrom(0x08, 0x09, 0x0b, 0x0c, 0x0d, 0x0e),
      fc.array(fc.integer({ min: 0, max: 127 })),
      (type, numbers) => {
        const array = parseIdx(idxBytes(type, [numbers.length, 1], numbers), "x");
        assertEquals(array.shape, [numbers.length, 1]);
        assertEquals(Array.from(array.values as Float64Array, Number), numbers);
      },
    ),
  );
});

Deno.test("parseIdx() reads signs and fractions high byte first", () => {
  assertEquals([...parseIdx(idxBytes(0x0b, [2], [-300, 5]), "x").values], [-300, 5]);
  assertEquals([...parseIdx(idxBytes(0x0e, [1], [-1.25e-3]), "x").values], [-1.25e-3]);
});

Deno.test("readIdx() tells gzip by its bytes, not its name", async () => {
  await inFolder({ "plain.gz": images, "packed": await gzip(images) }, async (folder) => {
    assertEquals((await readIdx(`${folder}/plain.gz`)).shape, [2, 2, 3]);
    assertEquals((await readIdx(`${folder}/packed`)).values, parseIdx(images, "x").values);
  });
});

Deno.test("readIdx() names a missing file and a folder", async () => {
  await inFolder({}, async (folder) => {
    await assertRejects(() => readIdx(`${folder}/none`), DataError, "none: expected a file but found nothing there");
    await assertRejects(() => readIdx(folder), DataError, "expected a file but found a folder");
  });
});

Deno.test("readIdx() refuses a gzip file that is cut off or damaged", async () => {
  const packed = await gzip(idxBytes(0x08, [5000], Uint8Array.from({ length: 5000 }, (_, at) => (at * 7919) >> 3)));
  const damaged = packed.slice();
  damaged[packed.length - 6]! ^= 0xff; // within the checksum
  await inFolder({ cut: packed.slice(0, packed.length >> 1), damaged, head: packed.slice(0, 5) }, async (folder) => {
    for (const name of ["cut", "damaged", "head"]) {
      await assertRejects(
        () => readIdx(`${folder}/${name}`),
        DataError,
        `${name}: expected a whole gzip file but found one that is cut off`,
      );
    }
  });
});

Deno.test("parseIdx() refuses a file that is cut off at any byte", () => {
  for (let length = 0; length < images.length; length++) {
    assertThrows(() => parseIdx(images.slice(0, length), "cut.idx"), DataError, "Cannot read cut.idx: expected");
  }
  assertThrows(
    () => parseIdx(images.slice(0, 20), "cut.idx"),
    DataError,
    "expected 28 bytes for shape [2, 2, 3] but found 20 bytes (cut off)",
  );
});

Deno.test("parseIdx() refuses bytes after the numbers", () => {
  const longer = new Uint8Array([...images, 0]);
  assertThrows(
    () => parseIdx(longer, "long.idx"),
    DataError,
    "expected 28 bytes for shape [2, 2, 3] but found 29 bytes (too long)",
  );
});

Deno.test("parseIdx() refuses another format and lengths that lie", () => {
  assertThrows(
    () => parseIdx(new TextEncoder().encode("a,b,c\n1,2,3"), "x"),
    DataError,
    "an IDX file (first bytes 00 00 and a type 08 to 0e) but found 612c622c",
  );
  const lying = images.slice();
  lying.fill(0xff, 4, 16);
  assertThrows(
    () => parseIdx(lying, "x"),
    DataError,
    "for shape [4294967295, 4294967295, 4294967295] but found 28 bytes (cut off)",
  );
});

Deno.test("idxPair() keeps bytes and adds the channel", async () => {
  await inFolder({ images, labels }, async (folder) => {
    const table = await idxPair(`${folder}/images`, { labels: `${folder}/labels` });
    assertEquals(table.rows, 2);
    assertEquals(table.shape, [2, 3, 1]);
    assertEquals(table.scale, [1 / 255]);
    assertEquals(table.features, Uint8Array.from({ length: 12 }, (_, at) => at * 20));
    assertEquals(table.targets, { kind: "labels", classes: 4, values: Uint32Array.of(3, 0) });
  });
});

Deno.test("idxPair() refuses labels that do not fit", async () => {
  const three = idxBytes(0x08, [3], [0, 1, 2]);
  const negative = idxBytes(0x09, [2], [0, -1]);
  await inFolder({ images, labels, three, negative }, async (folder) => {
    const pair = (name: string, classes?: number) =>
      idxPair(`${folder}/images`, { labels: `${folder}/${name}`, ...(classes && { classes }) });
    await assertRejects(() => pair("three"), DataError, "three: expected 2 labels, one for each row of");
    await assertRejects(
      () => pair("labels", 3),
      DataError,
      "labels, row 0 (counted from 0): expected a class label, a whole number from 0 to 2 but found 3",
    );
    await assertRejects(() => pair("negative"), DataError, "negative, row 1 (counted from 0): expected a class label");
    await assertRejects(
      () => pair("images"),
      DataError,
      "images: expected one label per row but found shape [2, 2, 3]",
    );
  });
});

Deno.test("idxPair() refuses NaN by row and column, and empty sets", async () => {
  const bad = idxBytes(0x0d, [2, 3], [1, 2, 3, 4, NaN, 6]);
  const empty = idxBytes(0x08, [0, 2, 2], []);
  const none = idxBytes(0x08, [0], []);
  await inFolder({ bad, empty, none, labels }, async (folder) => {
    await assertRejects(
      () => idxPair(`${folder}/bad`, { labels: `${folder}/labels` }),
      DataError,
      "bad, row 1, column 1 (counted from 0): expected a finite number but found NaN",
    );
    await assertRejects(
      () => idxPair(`${folder}/empty`, { labels: `${folder}/none` }),
      DataError,
      "empty: expected at least one row with at least one feature but found shape [0, 2, 2]",
    );
  });
});

Deno.test("idxData() reads a folder and lists of paths", async () => {
  const names = {
    "train-images-idx3-ubyte": images,
    "train-labels-idx1-ubyte": labels,
    "t10k-images-idx3-ubyte.gz": await gzip(images),
    "t10k-labels-idx1-ubyte": labels,
  };
  await inFolder(names, async (folder) => {
    const data = await idxData(folder);
    assertEquals(data.test?.features, data.train.features);
    const pair = await idxData(`${folder}/train-images-idx3-ubyte, ${folder}/train-labels-idx1-ubyte`, { classes: 10 });
    assertEquals([pair.test, pair.train.targets.kind === "labels" && pair.train.targets.classes], [undefined, 10]);
  });
});

Deno.test("idxData() refuses a test set of another shape or with new labels", async () => {
  const wide = idxBytes(0x08, [2, 2, 4], new Uint8Array(16));
  const more = idxBytes(0x08, [2], [0, 4]);
  await inFolder({ images, labels, wide, more }, async (folder) => {
    const source = (test: string, testLabels: string) =>
      ["images", "labels", test, testLabels].map((name) => `${folder}/${name}`).join(",");
    await assertRejects(
      () => idxData(source("wide", "labels")),
      DataError,
      "expected samples of shape [2, 3, 1] as in training but found [2, 4, 1]",
    );
    await assertRejects(() => idxData(source("images", "more")), DataError, "a whole number from 0 to 3 but found 4");
    await assertRejects(
      () => idxData(folder),
      DataError,
      "a folder with train-images-idx3-ubyte and train-labels-idx1-ubyte",
    );
  });
});
