/** Image folders, Parquet files and CSV files in streams: what is read, and what is said about faults. */

import { assert, assertEquals, assertRejects } from "@std/assert";
import { encodeJpeg, encodePng, Image } from "image-js";
import { parquetMetadata } from "hyparquet";
import { parquetWriteBuffer } from "hyparquet-writer";
import { csvStream, DataError, dense, flatten, mlp, Network, parseCsv, readCsv, type Table, train } from "../../mod.ts";
import { imageFolder, imageStream } from "../../src/formats/image_folder.ts";
import { parquetStream, readParquet } from "../../src/formats/parquet.ts";
import { assertSameBits, bits, inTemporaryFolder } from "../helpers.ts";

/** An image whose pixels follow from a number. */
function picture(height: number, width: number, value: number): Image {
  const data = Uint8Array.from({ length: height * width * 3 }, (_, index) => (value * 40 + index * 3) % 256);
  return new Image(width, height, { colorModel: "RGB", data });
}

async function writeImages(folder: string, classes: Record<string, number[]>, size = [4, 6]): Promise<void> {
  for (const [name, values] of Object.entries(classes)) {
    await Deno.mkdir(`${folder}/${name}`, { recursive: true });
    for (const value of values) {
      await Deno.writeFile(`${folder}/${name}/${value}.png`, encodePng(picture(size[0]!, size[1]!, value)));
    }
  }
}

Deno.test("imageFolder() reads PNG exactly and JPEG nearly, with labels by folder, and train and test apart", async () => {
  await inTemporaryFolder(async (folder) => {
    await writeImages(`${folder}/train`, { cat: [1, 2], dog: [3] });
    await writeImages(`${folder}/test`, { cat: [5], dog: [6] });
    await Deno.writeTextFile(`${folder}/train/cat/notes.txt`, "not an image");
    const smooth = new Image(6, 4, { colorModel: "RGB", data: new Uint8Array(72).fill(90) });
    await Deno.writeFile(`${folder}/train/dog/9.jpg`, encodeJpeg(smooth));
    const { train, test } = await imageFolder(folder);
    assertEquals([train.rows, train.shape, [...train.targets.values]], [4, [4, 6, 3], [0, 0, 1, 1]]);
    assertEquals(train.targets.names, ["cat", "dog"]);
    assertEquals([...train.features.subarray(72, 144)], [...picture(4, 6, 2).getRawImage().data]);
    train.features.subarray(216).forEach((byte) => assert(Math.abs(byte - 90) <= 2, `${byte} in a JPEG of 90`));
    assertEquals([test!.rows, [...test!.targets.values]], [2, [0, 1]]);
    const grey = await imageFolder(folder, { colour: "grey", size: [2, 2] });
    assertEquals(grey.train.shape, [2, 2, 1]);
    await writeImages(`${folder}/test`, { dog: [7] }, [5, 5]);
    await assertRejects(
      () => imageFolder(folder),
      DataError,
      "test/dog/7.png: expected an image of 4×6 like the first",
    );
  });
});

Deno.test("a broken image is named, and left out on request only; images of other sizes are named", async () => {
  await inTemporaryFolder(async (folder) => {
    await writeImages(folder, { cat: [1, 2], dog: [3] });
    await Deno.writeFile(`${folder}/cat/3.png`, encodePng(picture(4, 6, 1)).subarray(0, 60));
    const fault = await assertRejects(() => imageFolder(folder), DataError);
    assert(
      fault.message.startsWith(`Cannot read ${folder}/cat/3.png: expected a PNG or JPEG image but found`),
      fault.message,
    );
    const skipped: string[] = [];
    const { train } = await imageFolder(folder, { skipBroken: true, onSkip: (file) => skipped.push(file) });
    assertEquals([train.rows, skipped], [3, [`${folder}/cat/3.png`]]);
    await Deno.remove(`${folder}/cat/3.png`);
    await writeImages(folder, { dog: [7] }, [5, 5]);
    await assertRejects(
      () => imageFolder(folder),
      DataError,
      `Cannot read ${folder}/dog/7.png: expected an image of 4×6 like the first one, or size as an option but found 5×5`,
    );
    await Deno.remove(`${folder}/dog`, { recursive: true });
    await assertRejects(() => imageFolder(folder), DataError, "expected at least two folders with PNG or JPEG files");
    await assertRejects(() => imageFolder(`${folder}/none`), DataError, "expected a folder but found nothing there");
    const controller = new AbortController();
    controller.abort(new Error("enough"));
    await writeImages(folder, { dog: [3] });
    await assertRejects(() => imageFolder(folder, { signal: controller.signal }), Error, "enough");
  });
});

Deno.test("imageStream() trains while it decodes, every image once a pass", async () => {
  await inTemporaryFolder(async (folder) => {
    await writeImages(folder, { cat: [1, 2, 3, 4], dog: [5, 6, 7] });
    const stream = await imageStream(folder, { partRows: 3, seed: 1 });
    assertEquals([stream.rows, stream.classes], [7, ["cat", "dog"]]);
    const parts: Table[] = [];
    for await (const part of stream.train()) parts.push(part);
    assertEquals(parts.map(({ rows }) => rows), [3, 3, 1]);
    const labels = parts.flatMap(({ targets }) => [...targets.values]);
    assertEquals(labels.filter((label) => label === 1).length, 3);
    using network = Network.create({ input: [4, 6, 3], layers: [flatten(), dense(2)] });
    for await (const p of train(network, stream, { stepsPerEpoch: 4, batchSize: 2, epochs: 2 })) {
      assertEquals(p.rows, 7);
    }
  });
});

Deno.test("imageStream() streams the train folder of two, and reads the test folder when it is asked to", async () => {
  await inTemporaryFolder(async (folder) => {
    await writeImages(`${folder}/train`, { cat: [1, 2, 3], dog: [5, 6, 7] });
    await writeImages(`${folder}/test`, { cat: [8], dog: [9, 10] });
    const told: number[] = [];
    const stream = await imageStream(`${folder}/`, { onProgress: (done, total) => told.push(done / total) });
    assertEquals([stream.rows, stream.testFolder], [6, `${folder}//test`]);
    const whole = await imageFolder(folder);
    assertEquals([stream.name, stream.classes], [whole.name, whole.train.targets.names]);
    for await (const part of stream.train()) assertEquals(part.rows, 6);
    assertEquals(told, [], "parts of a pass are the run's progress");
    assertEquals(await stream.read(stream.testFolder!), whole.test);
    assertEquals(told.at(-1), 1);
    await writeImages(`${folder}/test`, { dog: [11] }, [5, 5]);
    await assertRejects(() => stream.read(`${folder}/test`), DataError, "expected an image of 4×6 like the first one");
    await writeImages(`${folder}/test`, { fish: [11] });
    await assertRejects(
      () => stream.read(`${folder}/test`),
      DataError,
      `Cannot read ${folder}/test: expected the classes of ${folder}//train (cat, dog) but found cat, dog, fish`,
    );
  });
});

Deno.test("imageStream() holds all parts to the first one's size, and tells of a broken file once", async () => {
  await inTemporaryFolder(async (folder) => {
    await writeImages(folder, { cat: [1, 2, 3, 4], dog: [5, 6, 7] });
    const skipped: string[] = [];
    const options = { partRows: 1, skipBroken: true, onSkip: (file: string) => skipped.push(file) };
    const { train, files, rows } = await imageStream(folder, options);
    // The first file is broken, too: nothing says yet how large images are.
    for (const at of [0, 3]) await Deno.writeFile(files[at]!, encodePng(picture(4, 6, 1)).subarray(0, 60));
    await Deno.writeFile(files[5]!, encodePng(picture(5, 5, 1)));
    for (let pass = 0; pass < 2; pass++) {
      const parts: Table[] = [];
      for await (const part of train()) parts.push(part);
      assertEquals(parts.map(({ rows, shape }) => [rows, ...shape]), Array(4).fill([1, 4, 6, 3]));
      assertEquals(skipped, [files[0], files[3], files[5]]);
    }
    assertEquals(rows, 7, "broken ones count");
  });
});

const csv = (rows: number) =>
  `town,size,"the ""price"""\n${
    Array.from({ length: rows }, (_, i) => `"${["a", "b\nc"][i % 2]}",${i % 9},${i * 1.5}`).join("\n")
  }\n`;

Deno.test("readParquet() reads what readCsv() reads, compressed or not", async () => {
  await inTemporaryFolder(async (folder) => {
    const rows = Array.from({ length: 50 }, (_, i) => i);
    for (const codec of ["UNCOMPRESSED", "SNAPPY"] as const) {
      const columnData = [
        { name: "town", data: rows.map((i) => ["a", "b"][i % 2]!), type: "STRING" as const },
        { name: "size", data: rows.map((i) => i / 3), type: "DOUBLE" as const },
        { name: "big", data: rows.map((i) => BigInt(i)), type: "INT64" as const },
        { name: "price", data: rows.map((i) => i * 0.1), type: "DOUBLE" as const },
      ];
      await Deno.writeFile(`${folder}/x.parquet`, new Uint8Array(parquetWriteBuffer({ columnData, codec })));
      const options = { task: "regression", oneHot: ["town"], testFraction: 0.2, precision: "f64" } as const;
      const found = await readParquet(`${folder}/x.parquet`, options);
      const text = `town,size,big,price\n${
        rows.map((i) => `${["a", "b"][i % 2]},${i / 3},${i},${i * 0.1}`).join("\n")
      }`;
      const expected = parseCsv(text, options);
      assertEquals(found.train, expected.train);
      assertEquals(found.test, expected.test);
    }
    await Deno.writeTextFile(`${folder}/x.parquet`, "no parquet at all");
    await assertRejects(() => readParquet(`${folder}/x.parquet`), DataError, "expected a Parquet file but found");
    await assertRejects(() => readParquet(`${folder}/y.parquet`), DataError, "expected a file but found nothing there");
  });
});

Deno.test("csvStream() gives the rows of readCsv(), also gzipped, over line ends in quotes, however it is cut", async () => {
  await inTemporaryFolder(async (folder) => {
    const path = `${folder}/x.csv`;
    const text = csv(103);
    const gzip = new Blob([text]).stream().pipeThrough(new CompressionStream("gzip"));
    const options = { task: "regression", oneHot: ["town"], precision: "f64" } as const;
    for (const bytes of [new TextEncoder().encode(text), await new Response(gzip).bytes()]) {
      await Deno.writeFile(path, bytes);
      const whole = await readCsv(path, options);
      for (const partRows of [1, 7, 1000]) {
        const stream = await csvStream(path, { ...options, partRows });
        assertEquals([stream.rows, stream.shape, stream.transform], [103, whole.train.shape, whole.transform]);
        const features: number[] = [];
        const targets: number[] = [];
        for await (const part of stream.train()) {
          features.push(...part.features);
          targets.push(...part.targets.values);
        }
        assertEquals(features, [...whole.train.features]);
        assertEquals(targets, [...whole.train.targets.values]);
      }
    }
    const classes = text.replaceAll(/,(\d+)(?:\.\d+)?\n/g, (_, n) => `,class ${n % 5}\n`);
    await Deno.writeTextFile(path, classes);
    const stream = await csvStream(path, { oneHot: ["town"], partRows: 10 });
    const model = { ...mlp({ input: [3], outputs: 5, hidden: [5] }), precision: "f64" } as const;
    using streamed = Network.create(model);
    for await (const _ of train(streamed, stream, { stepsPerEpoch: 13, batchSize: 8, epochs: 2 }));
    using stored = Network.create(model);
    const { train: rows } = await readCsv(path, { oneHot: ["town"] });
    for await (const _ of train(stored, rows, { batchSize: 8, epochs: 2, shuffle: false }));
    assertSameBits(bits(streamed), bits(stored), "a CSV stream");
  });
});

Deno.test("csvStream() names file, line and column of a fault in the middle", async () => {
  await inTemporaryFolder(async (folder) => {
    const path = `${folder}/x.csv`;
    const lines = ["a,b,c", ...Array.from({ length: 30 }, (_, i) => `${i},${i * 2},${i % 2 ? "yes" : "no"}`)];
    const faultOf = async (line: number, text: string) => {
      await Deno.writeTextFile(path, lines.with(line - 1, text).join("\n"));
      const stream = await csvStream(path, { fitRows: 10, partRows: 4 });
      const fault = await assertRejects(async () => {
        for await (const _ of stream.train());
      }, DataError);
      return fault.message.replace(folder, "");
    };
    assertEquals(
      await faultOf(25, "1,x,yes"),
      "Cannot read /x.csv, line 25, column 2 (b): expected a finite number but found x",
    );
    assertEquals(
      await faultOf(25, "1,2,perhaps"),
      "Cannot read /x.csv, line 25, column 3 (c): expected a class of the first rows (more of them with fitRows) but found perhaps",
    );
    await assertRejects(() => csvStream(`${folder}/none.csv`), DataError, "expected a file but found nothing there");
    await Deno.writeTextFile(path, "");
    await assertRejects(() => csvStream(path), DataError, "expected at least one record but found an empty file");
  });
});

/** Five row groups of 20 rows, and what is in them. */
function grouped(codec: "UNCOMPRESSED" | "SNAPPY" = "SNAPPY", rows = 100): Uint8Array<ArrayBuffer> {
  const numbers = Array.from({ length: rows }, (_, i) => i);
  const columnData = [
    { name: "town", data: numbers.map((i) => ["a", "b"][i % 2]!), type: "STRING" as const },
    { name: "size", data: numbers.map((i) => Math.sin(i)), type: "DOUBLE" as const },
    { name: "kind", data: numbers.map((i) => ["x", "y", "z"][i % 3]!), type: "STRING" as const },
  ];
  return new Uint8Array(parquetWriteBuffer({ columnData, codec, rowGroupSize: 20 }));
}

/** Bytes of each row group in a file. */
function rangesOf(bytes: Uint8Array<ArrayBuffer>): [number, number][] {
  return parquetMetadata(bytes.buffer).row_groups.map(({ columns }) => {
    const parts = columns.map(({ meta_data: m }) => {
      const start = Number(m!.dictionary_page_offset ?? m!.data_page_offset);
      return [start, start + Number(m!.total_compressed_size)] as const;
    });
    return [Math.min(...parts.map(([start]) => start)), Math.max(...parts.map(([, end]) => end))];
  });
}

Deno.test("parquetStream() gives the rows of readParquet(), and reads one row group at a time", async () => {
  await inTemporaryFolder(async (folder) => {
    const path = `${folder}/x.parquet`;
    const options = { oneHot: ["town"] } as const;
    for (const codec of ["UNCOMPRESSED", "SNAPPY"] as const) {
      const bytes = grouped(codec);
      await Deno.writeFile(path, bytes);
      const groups = rangesOf(bytes);
      assertEquals(groups.length, 5);
      const whole = await readParquet(path, options);
      const stream = await parquetStream(path, options);
      assertEquals([stream.rows, stream.shape, stream.transform], [100, whole.train.shape, whole.transform]);
      // Where the file is read, between one part and the next.
      const seek = Deno.FsFile.prototype.seek;
      const places: number[] = [];
      Deno.FsFile.prototype.seek = function (offset, whence) {
        places.push(Number(offset));
        return seek.call(this, offset, whence);
      };
      const features: number[] = [];
      const labels: number[] = [];
      try {
        let part = 0;
        for await (const { rows, features: own, targets } of stream.train()) {
          const [start, end] = groups[part++]!;
          assertEquals(rows, 20);
          assert(places.length > 0);
          for (const place of places.splice(0)) assert(place >= start && place < end, `${place} in part ${part}`);
          features.push(...own);
          labels.push(...targets.values);
        }
      } finally {
        Deno.FsFile.prototype.seek = seek;
      }
      assertEquals(features, [...whole.train.features]);
      assertEquals(labels, [...whole.train.targets.values]);
    }
    const stream = await parquetStream(path, options);
    const model = mlp({ input: [3], outputs: 3, hidden: [5] });
    using streamed = Network.create(model);
    for await (const _ of train(streamed, stream, { stepsPerEpoch: 13, batchSize: 8, epochs: 2 }));
    using stored = Network.create(model);
    const { train: rows } = await readParquet(path, options);
    for await (const _ of train(stored, rows, { batchSize: 8, epochs: 2, shuffle: false }));
    assertSameBits(bits(streamed), bits(stored), "a Parquet stream");
  });
});

Deno.test("parquetStream() fits on the first rows, and names the row group or the line of a fault in the middle", async () => {
  await inTemporaryFolder(async (folder) => {
    const path = `${folder}/x.parquet`;
    const bytes = grouped();
    const third = rangesOf(bytes)[2]!;
    await Deno.writeFile(path, bytes.fill(0xff, third[0], third[1]));
    const stream = await parquetStream(path, { oneHot: ["town"], fitRows: 30 });
    const { train: first } = parseCsv(
      `town,size,kind\n${
        Array.from({ length: 30 }, (_, i) => `${["a", "b"][i % 2]},${Math.sin(i)},${["x", "y", "z"][i % 3]}`).join("\n")
      }`,
      { oneHot: ["town"] },
    );
    const parts: Table[] = [];
    const fault = await assertRejects(async () => {
      for await (const part of stream.train()) parts.push(part);
    }, DataError);
    assert(
      fault.message.startsWith(`Cannot read ${path}, row group 3: expected a Parquet file but found`),
      fault.message,
    );
    assertEquals(parts.map(({ rows }) => rows), [20, 20], "what stands before it has come");
    assertEquals([...parts[0]!.features], [...first.features.subarray(0, 60)], "means and deviations of 30 rows");

    // The header of a page that says 16 values where the group has 20: zigzag of both, in one byte.
    const short = grouped();
    const start = rangesOf(short)[2]![0];
    const count = short.indexOf(40, start + 8);
    short[count] = 32;
    await Deno.writeFile(path, short);
    await assertRejects(
      () => readParquet(path),
      DataError,
      ": expected a Parquet file but found other or damaged bytes (a page with fewer values than the row group has rows)",
    );

    await Deno.writeFile(path, grouped("SNAPPY", 100));
    const few = await parquetStream(path, { oneHot: ["town"], fitRows: 2 });
    await assertRejects(
      async () => {
        for await (const _ of few.train());
      },
      DataError,
      `Cannot read ${path}, line 4, column 3 (kind): expected a class of the first rows (more of them with fitRows) but found z`,
    );
    await assertRejects(() => parquetStream(path, { fitRow: 2 } as never), Error, "did you mean fitRows?");
    await assertRejects(() => parquetStream(`${folder}/none`), DataError, "expected a file but found nothing there");
    await assertRejects(() => parquetStream(folder), DataError, "expected a file but found a folder");
    const other = { columnData: [{ name: "town", data: ["a"], type: "STRING" as const }] };
    await Deno.writeFile(`${folder}/y.parquet`, new Uint8Array(parquetWriteBuffer(other)));
    await assertRejects(
      () => few.read(`${folder}/y.parquet`),
      DataError,
      "expected a column size but found none of that name",
    );
  });
});

Deno.test("streams read rows to watch from another file as they read their own", async () => {
  await inTemporaryFolder(async (folder) => {
    const lines = Array.from({ length: 60 }, (_, i) => `${["a", "b"][i % 2]},${i % 9},${["x", "y", "z"][i % 3]}`);
    await Deno.writeTextFile(`${folder}/x.csv`, `town,size,kind\n${lines.join("\n")}\n`);
    await Deno.writeTextFile(`${folder}/y.csv`, `town,size,kind\n${lines.slice(10, 25).join("\n")}\n`);
    const stream = await csvStream(`${folder}/x.csv`, { oneHot: ["town"], partRows: 4 });
    const { train: all } = await readCsv(`${folder}/x.csv`, { oneHot: ["town"] });
    const watched = await stream.read(`${folder}/y.csv`);
    assertEquals([watched.rows, watched.shape], [15, [3]]);
    assertEquals([...watched.features], [...all.features.subarray(30, 75)]);
    assertEquals([...watched.targets.values], [...all.targets.values.subarray(10, 25)]);
    await Deno.writeFile(`${folder}/x.parquet`, grouped());
    const parquet = await parquetStream(`${folder}/x.parquet`, { oneHot: ["town"] });
    assertEquals((await parquet.read(`${folder}/x.parquet`)).rows, 100);
    await Deno.writeTextFile(`${folder}/z.csv`, "town,size,kind\n");
    await assertRejects(
      () => stream.read(`${folder}/z.csv`),
      DataError,
      `Cannot read ${folder}/z.csv: expected at least`,
    );
  });
});

Deno.test("streams find the columns of another file by name, and refuse one that lacks them", async () => {
  await inTemporaryFolder(async (folder) => {
    const lines = Array.from(
      { length: 30 },
      (_, i) => [`${["a", "b"][i % 2]}`, `${i % 9}`, `${["x", "y", "z"][i % 3]}`],
    );
    const write = async (name: string, head: readonly string[], rows: readonly (readonly string[])[]) => {
      const path = `${folder}/${name}`;
      await Deno.writeTextFile(path, [head, ...rows].map((row) => `${row.join(",")}\n`).join(""));
      return path;
    };
    const named = ["town", "size", "kind"];
    const path = await write("x.csv", named, lines);
    const other = await write("y.csv", ["kind", "note", "size", "town"], lines.map(([t, s, k]) => [k!, "", s!, t!]));
    const renamed = await write("z.csv", ["town", "seize", "kind"], lines);
    for (const partRows of [1, 7, 1000]) {
      const stream = await csvStream(path, { oneHot: ["town"], partRows });
      assertEquals(await stream.read(other), await stream.read(path));
      await assertRejects(
        () => stream.read(renamed),
        DataError,
        `Cannot read ${renamed}: expected a column size (did you mean seize?) but found none of that name`,
      );
      const [head = [], ...rows] = lines;
      const bare = await write("bare.csv", head, rows);
      await assertRejects(() => stream.read(bare), DataError, "expected a column town but found none of that name");
    }
    const twice = await write(
      "twice.csv",
      ["town", "size", "size", "kind"],
      lines.map(([t, s, k]) => [t!, s!, s!, k!]),
    );
    const stream = await csvStream(path, { oneHot: ["town"] });
    await assertRejects(() => stream.read(twice), DataError, "expected one column size but found 2 of that name");

    const bare = await csvStream(await write("w.csv", ["1", "2", "x"], lines.map(([, s, k]) => [s!, "7", k!])));
    const narrow = await write("narrow.csv", ["1", "x"], lines.map(([, s, k]) => [s!, k!]));
    const wide = await write("wide.csv", ["1", "2", "3", "x"], lines.map(([, s, k]) => [s!, "7", "7", k!]));
    await assertRejects(() => bare.read(narrow), DataError, `${narrow}, line 1: expected 3 fields but found 2 fields`);
    await assertRejects(() => bare.read(wide), DataError, `${wide}, line 1: expected 3 fields but found 4 fields`);

    await Deno.writeFile(`${folder}/x.parquet`, grouped());
    const parquet = await parquetStream(`${folder}/x.parquet`, { oneHot: ["town"] });
    const turned = [2, 0, 1].map((at) => ({
      name: named[at]!,
      data: lines.map((line) => at === 1 ? Number(line[1]) : line[at]!),
      type: at === 1 ? "DOUBLE" as const : "STRING" as const,
    }));
    await Deno.writeFile(`${folder}/y.parquet`, new Uint8Array(parquetWriteBuffer({ columnData: turned })));
    const straight = [1, 2, 0].map((at) => turned[at]!);
    await Deno.writeFile(`${folder}/z.parquet`, new Uint8Array(parquetWriteBuffer({ columnData: straight })));
    assertEquals(await parquet.read(`${folder}/y.parquet`), await parquet.read(`${folder}/z.parquet`));
  });
});
