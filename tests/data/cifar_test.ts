import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { cifar10, readCifar } from "../../src/data/cifar.ts";
import { readTar } from "../../src/data/tar.ts";
import { DataError } from "../../src/errors.ts";
import { gzip, inFolder, nowhere, realDataMissing, withEnvironment } from "./helpers.ts";

/** Records whose pixel p of record r has red r, green p mod 256, blue 255 - p mod 256. */
function records(labels: number[]): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(labels.length * 3073);
  labels.forEach((label, row) => {
    bytes[row * 3073] = label;
    for (let pixel = 0; pixel < 1024; pixel++) {
      bytes[row * 3073 + 1 + pixel] = row;
      bytes[row * 3073 + 1025 + pixel] = pixel % 256;
      bytes[row * 3073 + 2049 + pixel] = 255 - pixel % 256;
    }
  });
  return bytes;
}

Deno.test("readCifar() puts the channels of a pixel side by side, over all files", async () => {
  await inFolder({ a: records([3, 9]), b: await gzip(records([0])) }, async (folder) => {
    const table = await readCifar([`${folder}/a`, `${folder}/b`]);
    assertEquals([table.rows, table.shape, table.scale], [3, [32, 32, 3], [1 / 255]]);
    assert(table.targets.kind === "labels");
    assertEquals([...table.targets.values], [3, 9, 0]);
    assertEquals(table.targets.names?.[3], "cat");
    for (const [row, pixel, red] of [[0, 0, 0], [1, 1023, 1], [2, 300, 0]] as const) {
      const start = row * 3072 + pixel * 3;
      assertEquals([...table.features.subarray(start, start + 3)], [red, pixel % 256, 255 - pixel % 256]);
    }
  });
});

Deno.test("readCifar() refuses records that are cut off, empty files and labels above 9", async () => {
  const files = { cut: records([1, 2]).slice(0, 4000), empty: new Uint8Array(0), label: records([1, 10]) };
  await inFolder(files, async (folder) => {
    await assertRejects(
      () => readCifar([`${folder}/cut`]),
      DataError,
      "cut: expected whole records of 3073 bytes but found 4000 bytes (record 2 is cut off)",
    );
    await assertRejects(
      () => readCifar([`${folder}/empty`]),
      DataError,
      "empty: expected whole records of 3073 bytes but found an empty file",
    );
    await assertRejects(
      () => readCifar([`${folder}/label`]),
      DataError,
      "label, record 2: expected a label from 0 to 9 but found 10",
    );
  });
});

Deno.test("cifar10() reads the six files of the original, or a part in two", async () => {
  await withEnvironment(nowhere, async () => {
    const original = Object.fromEntries(
      [1, 2, 3, 4, 5].map((part) => [`a/cifar-10-batches-bin/data_batch_${part}.bin`, records([part])]),
    );
    const files = {
      ...original,
      "a/cifar-10-batches-bin/test_batch.bin": records([0, 0]),
      "b/train-24000.bin.gz": await gzip(records([7])),
      "b/test-4000.bin": records([8]),
    };
    await inFolder(files, async (base) => {
      const data = await cifar10({ dataDir: `${base}/a` });
      assertEquals([[...data.train.targets.values], data.test?.rows], [[1, 2, 3, 4, 5], 2]);
      const part = await cifar10({ dataDir: `${base}/b` });
      assertEquals([...part.train.targets.values, ...part.test!.targets.values], [7, 8]);
      // Red is 0 in all training pixels; green and blue take 0 to 255 equally often.
      const deviation = Math.sqrt((256 ** 2 - 1) / 12);
      for (const { scale, offset } of [part.train, part.test!]) {
        assertEquals(
          scale!.map((x) => x.toFixed(12)),
          [1 / 255, 1 / deviation, 1 / deviation].map((x) => x.toFixed(12)),
        );
        assertEquals(
          offset!.map((x) => x.toFixed(9)),
          [0, -127.5 / deviation, -127.5 / deviation].map((x) => x.toFixed(9)),
        );
      }
      assertEquals((await cifar10({ dataDir: `${base}/b`, normalize: false })).train.scale, [1 / 255]);
    });
  });
});

Deno.test("cifar10() says where to put missing files", async () => {
  await inFolder({}, (own) =>
    withEnvironment(nowhere, async () => {
      await assertRejects(
        () => cifar10({ dataDir: own }),
        DataError,
        "Cannot find cifar10: expected the files data_batch_1.bin, data_batch_2.bin, data_batch_3.bin, data_batch_4.bin, " +
          "data_batch_5.bin, test_batch.bin (or the part train-24000.bin, test-4000.bin; plain or .gz) in one of the folders " +
          `${own}, ${own}/cifar10, /nowhere/cache/cifar10, ${own}/cifar-10-batches-bin, ` +
          "/nowhere/cache/cifar-10-batches-bin (put them there, or have them fetched with --download, in code download: true) " +
          "but found no such files",
      );
    }));
});

/** A TAR archive by POSIX's table of fields. */
function tar(files: Record<string, Uint8Array>): Uint8Array<ArrayBuffer> {
  const blocks: Uint8Array[] = [];
  for (const [name, bytes] of Object.entries(files)) {
    const head = new Uint8Array(512);
    const put = (at: number, text: string) => head.set(new TextEncoder().encode(text), at);
    put(0, name);
    put(124, bytes.length.toString(8).padStart(11, "0"));
    put(156, name.endsWith("/") ? "5" : "0");
    put(257, "ustar\0");
    const body = new Uint8Array(Math.ceil(bytes.length / 512) * 512);
    body.set(bytes);
    blocks.push(head, body);
  }
  return new Uint8Array([...blocks, new Uint8Array(1024)].flatMap((part) => [...part]));
}

Deno.test("readTar() lists plain files by their last name", () => {
  const files = readTar(tar({ "d/": new Uint8Array(0), "d/a": Uint8Array.of(1, 2), "d/b": new Uint8Array(600) }), "x");
  assertEquals([...files.keys()], ["a", "b"]);
  assertEquals(files.get("a"), Uint8Array.of(1, 2));
  assertEquals(files.get("b")?.length, 600);
});

Deno.test("readTar() refuses an archive that is cut off or something else", () => {
  const archive = tar({ a: new Uint8Array(600) });
  assertThrows(
    () => readTar(archive.slice(0, 700), "x.tar"),
    DataError,
    "Cannot read x.tar: expected a whole TAR archive but found damage at byte 0",
  );
  assertThrows(() => readTar(new Uint8Array(600).fill(65), "x.tar"), DataError, "a whole TAR archive");
});

Deno.test({
  name: "cifar10() reads the real part",
  ignore: realDataMissing(),
  fn: async () => {
    const { train, test } = await cifar10();
    assertEquals([train.rows, test?.rows], [24_000, 4_000]);
    for (let label = 0; label < 10; label++) {
      assertEquals([...train.targets.values].filter((value) => value === label).length, 2_400);
    }
  },
});
