/** Files tell how far they are read: in order, up to the end, and without another result. */

import { assert, assertEquals } from "@std/assert";
import { encodePng, Image } from "image-js";
import { parquetWriteBuffer } from "hyparquet-writer";
import { csvStream, idxData, readCsv, type ReadProgress } from "../../mod.ts";
import { parquetStream, readParquet } from "../../src/formats/parquet.ts";
import { sources } from "../../src/cli/sources.ts";
import { inTemporaryFolder } from "../helpers.ts";

/** What a reader told, phase by phase; fails where a share falls within a phase or is none. */
async function told<T>(read: (onRead: (progress: ReadProgress) => void) => Promise<T>): Promise<[T, string[]]> {
  const phases: { name: string; share: number; calls: number }[] = [];
  const result = await read(({ file, what, share }) => {
    assert(share >= 0 && share <= 1, `${share}`);
    const name = `${what} ${file.split("/").at(-1)}`;
    const last = phases.at(-1);
    if (last?.name === name && share >= last.share) {
      [last.share, last.calls] = [share, last.calls + 1];
    } else {
      phases.push({ name, share, calls: 1 });
    }
  });
  for (const { name, share } of phases) if (!name.startsWith("fitting")) assertEquals(share, 1, name);
  return [result, phases.map(({ name }) => name)];
}

const csv = (rows: number) =>
  `a,b,kind\n${Array.from({ length: rows }, (_, i) => `${i},${i % 7},${"xyz"[i % 3]}\n`).join("")}`;

async function gzip(text: string | Uint8Array<ArrayBuffer>): Promise<Uint8Array<ArrayBuffer>> {
  return await new Response(new Blob([text]).stream().pipeThrough(new CompressionStream("gzip"))).bytes();
}

Deno.test("readCsv() and csvStream() tell how far they are", async () => {
  await inTemporaryFolder(async (folder) => {
    await Deno.writeTextFile(`${folder}/x.csv`, csv(25_000));
    await Deno.writeFile(`${folder}/x.csv.gz`, await gzip(csv(25_000)));
    const [plain, phases] = await told((onRead) => readCsv(`${folder}/x.csv`, { onRead }));
    assertEquals(phases, ["reading x.csv", "parsing x.csv", "fitting x.csv"]);
    assertEquals(plain, await readCsv(`${folder}/x.csv`));
    const [zipped, more] = await told((onRead) => readCsv(`${folder}/x.csv.gz`, { onRead }));
    assertEquals(more, ["reading x.csv.gz", "unpacking x.csv.gz", "parsing x.csv.gz", "fitting x.csv.gz"]);
    assertEquals(zipped.train, plain.train);
    let calls = 0;
    await readCsv(`${folder}/x.csv`, { onRead: ({ what }) => calls += what === "parsing" ? 1 : 0 });
    assertEquals(calls, 3, "every 10,000 records and at the end");
    for (const name of ["x.csv", "x.csv.gz"]) {
      const [stream, counted] = await told((onRead) => csvStream(`${folder}/${name}`, { onRead }));
      assertEquals([stream.rows, counted], [25_000, [`reading ${name}`]]);
    }
  });
});

Deno.test("IDX files, image folders and Parquet files tell how far they are", async () => {
  await inTemporaryFolder(async (folder) => {
    const images = new Uint8Array(16 + 4 * 6).fill(7);
    images.set([0, 0, 8, 3, 0, 0, 0, 4, 0, 0, 0, 2, 0, 0, 0, 3]);
    const labels = Uint8Array.of(0, 0, 8, 1, 0, 0, 0, 4, 0, 1, 0, 1);
    await Deno.writeFile(`${folder}/images.gz`, await gzip(images));
    await Deno.writeFile(`${folder}/labels`, labels);
    const [idx, phases] = await told((onRead) => idxData(`${folder}/images.gz,${folder}/labels`, { onRead }));
    assertEquals([idx.train.rows, phases], [4, ["reading images.gz", "unpacking images.gz"]]);

    for (const name of ["cat", "dog"]) {
      await Deno.mkdir(`${folder}/pets/${name}`, { recursive: true });
      for (const number of [1, 2, 3]) {
        const data = new Uint8Array(27).fill(number);
        await Deno.writeFile(
          `${folder}/pets/${name}/${number}.png`,
          encodePng(new Image(3, 3, { colorModel: "RGB", data })),
        );
      }
    }
    const source = sources.find(({ name }) => name === "images:")!;
    const [pets, found] = await told((onRead) => source.load({ onRead }, `${folder}/pets`));
    assertEquals([pets.train.rows, found], [6, ["reading pets"]]);

    const columnData = [
      { name: "a", data: Array.from({ length: 90 }, (_, i) => i), type: "DOUBLE" as const },
      { name: "kind", data: Array.from({ length: 90 }, (_, i) => "xyz"[i % 3]!), type: "STRING" as const },
    ];
    const bytes = parquetWriteBuffer({ columnData, rowGroupSize: 20 });
    await Deno.writeFile(`${folder}/x.parquet`, new Uint8Array(bytes));
    const [, groups] = await told((onRead) => readParquet(`${folder}/x.parquet`, { onRead }));
    assertEquals(groups, ["reading x.parquet", "fitting x.parquet"]);
    const [stream] = await told((onRead) => parquetStream(`${folder}/x.parquet`, { onRead, fitRows: 30 }));
    assertEquals(stream.rows, 90);
  });
});
