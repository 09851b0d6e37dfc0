/** `train --stream`: rows that are read while the network trains. */

import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { encodePng, Image } from "image-js";
import { parquetWriteBuffer } from "hyparquet-writer";
import { jsonLines, run, start, temporaryFolder } from "./helpers.ts";

const kinds = ["x", "y", "z"];

/** Rows of three kinds that lie apart. */
function rows(count: number, from = 0): { a: number; b: number; kind: string }[] {
  return Array.from({ length: count }, (_, index) => {
    const row = from + index;
    return { a: Math.sin(row) + 3 * (row % 3), b: Math.cos(row * 1.7), kind: kinds[row % 3]! };
  });
}

function csv(count: number, from = 0): string {
  return `a,b,kind\n${rows(count, from).map(({ a, b, kind }) => `${a},${b},${kind}\n`).join("")}`;
}

const common = ["train", "--hidden", "8", "--batch-size", "50", "--learning-rate", "0.02", "--quiet", "--runs", "none"];

Deno.test("train --stream reads CSV and Parquet files part by part, mixed, and watches rows of another file", async () => {
  await using folder = await temporaryFolder();
  const cwd = folder.path;
  await Deno.writeTextFile(`${cwd}/x.csv`, csv(3000));
  await Deno.writeTextFile(`${cwd}/watch.csv`, csv(90, 5000));
  const columns = (count: number, from = 0) => [
    { name: "a", data: rows(count, from).map(({ a }) => a), type: "DOUBLE" as const },
    { name: "b", data: rows(count, from).map(({ b }) => b), type: "DOUBLE" as const },
    { name: "kind", data: rows(count, from).map(({ kind }) => kind), type: "STRING" as const },
  ];
  const write = async (name: string, count: number, from = 0) => {
    const bytes = parquetWriteBuffer({ columnData: columns(count, from), rowGroupSize: 500 });
    await Deno.writeFile(`${cwd}/${name}`, new Uint8Array(bytes));
  };
  await write("x.parquet", 3000);
  await write("watch.parquet", 90, 5000);
  const figures = [];
  for (const kind of ["csv", "parquet"]) {
    // In the order of the file, so that both have the same rows in the same steps whatever their parts.
    const data = ["--data", `${kind}:x.${kind}`, "--stream", "--validation-data", `watch.${kind}`];
    const args = [...common, ...data, "--shuffle-window", "0", "--epochs", "2", "--json", "--out", kind];
    const { code, stdout, stderr } = await run(args, { cwd });
    assertEquals([code, stderr], [0, ""]);
    const events = jsonLines(stdout);
    assertEquals(events.map(({ event, step }) => [event, step]), [["epoch", 60], ["epoch", 120], ["done", 120]]);
    assert(events[1]!.validationAccuracy as number > 0.6, JSON.stringify(events[1]));
    figures.push(events.map(({ seconds: _, checkpoint: __, ...event }) => event));
    const record = JSON.parse(await Deno.readTextFile(`${cwd}/${kind}/config.json`));
    assertEquals(record.data.rows, { train: 3000, validation: 90, test: 0 });
    assertStringIncludes(await Deno.readTextFile(`${cwd}/${kind}/report.html`), "Confusions on the validation rows");
  }
  assertEquals(figures[0], figures[1]);
  const mixed = ["--data", "csv:x.csv", "--stream", "--epochs", "1", "--json"];
  const losses = [];
  for (const more of [[], ["--seed", "0"], ["--shuffle-window", "0"], ["--shuffle-window", "100"]]) {
    const { stdout } = await run([...common, ...mixed, ...more], { cwd });
    losses.push(jsonLines(stdout)[0]!.trainLoss);
  }
  assertEquals(losses[0], losses[1]);
  assertEquals(new Set(losses).size, 3, "another order for each window");
});

Deno.test("train --stream takes the batch size after all rows, not after those of the first part", async () => {
  await using folder = await temporaryFolder();
  const cwd = folder.path;
  const found = rows(300);
  const columnData = [
    { name: "a", data: found.map(({ a }) => a), type: "DOUBLE" as const },
    { name: "kind", data: found.map(({ kind }) => kind), type: "STRING" as const },
  ];
  await Deno.writeFile(`${cwd}/x.parquet`, new Uint8Array(parquetWriteBuffer({ columnData, rowGroupSize: 5 })));
  const args = ["train", "--data", "parquet:x.parquet", "--stream", "--hidden", "4", "--epochs", "1", "--quiet"];
  const { code, stderr } = await run([...args, "--runs", "none", "--out", "a"], { cwd });
  assertEquals([code, stderr], [0, ""]);
  const { training } = JSON.parse(await Deno.readTextFile(`${cwd}/a/config.json`));
  assertEquals([training.batchSize, training.stepsPerEpoch], [64, 5]);
});

Deno.test({
  name: "train --stream goes on to the same bits after Ctrl-C, and refuses a file that has changed",
  ignore: Deno.build.os === "windows",
  fn: async () => {
    await using folder = await temporaryFolder();
    const cwd = folder.path;
    await Deno.writeTextFile(`${cwd}/x.csv`, csv(20_000));
    const args = [...common, "--data", "csv:x.csv", "--stream", "--epochs", "8", "--threads", "1", "--json"];
    assertEquals((await run([...args, "--out", "whole"], { cwd })).code, 0);
    const child = start([...args, "--out", "parts"], { cwd });
    const reader = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
    await reader.read();
    child.kill("SIGINT");
    while (!(await reader.read()).done);
    await child.stderr.cancel();
    assertEquals((await child.status).code, 130);
    const resumed = await run(["train", "--resume", "parts", "--quiet"], { cwd });
    assertEquals(resumed.code, 0, resumed.stderr);
    const checkpoint = (name: string) => Deno.readFile(`${cwd}/${name}/checkpoint.safetensors`);
    assertEquals(await checkpoint("parts"), await checkpoint("whole"));
    await Deno.writeTextFile(`${cwd}/x.csv`, csv(20_001));
    const changed = await run(["train", "--resume", "parts", "--quiet"], { cwd });
    assertEquals(changed.code, 1);
    assertStringIncludes(changed.stderr, "Cannot use the data of parts: expected the rows of SHA-256");
  },
});

Deno.test("train --stream decodes images while the network trains", async () => {
  await using folder = await temporaryFolder();
  const cwd = folder.path;
  for (const part of ["all", "watch"]) {
    for (const [index, name] of ["dark", "light"].entries()) {
      await Deno.mkdir(`${cwd}/${part}/${name}`, { recursive: true });
      for (let number = 0; number < 12; number++) {
        const data = Uint8Array.from({ length: 75 }, (_, at) => 150 * index + 20 + (at * 7 + number * 13) % 60);
        await Deno.writeFile(
          `${cwd}/${part}/${name}/${number}.png`,
          encodePng(new Image(5, 5, { colorModel: "RGB", data })),
        );
      }
    }
  }
  const args = [
    "--data",
    "images:all",
    "--stream",
    "--validation-data",
    "watch",
    "--batch-size",
    "8",
    "--epochs",
    "10",
  ];
  const { code, stdout, stderr } = await run([...common, ...args, "--json"], { cwd });
  assertEquals([code, stderr], [0, ""]);
  assertEquals(jsonLines(stdout).at(-2)!.validationAccuracy, 1);
  await Deno.rename(`${cwd}/watch/light`, `${cwd}/watch/white`);
  const other = await run([...common, ...args], { cwd });
  assertEquals(
    [other.code, other.stderr],
    [1, "error: Cannot read watch: expected the classes of all (dark, light) but found dark, white\n"],
  );
});

const stream = ["--data", "csv:x.csv", "--stream"];

for (
  const [args, code, message] of [
    [
      [...stream, "--validation-split", "0.2"],
      2,
      "Cannot use --validation-split with --stream: expected --validation-",
    ],
    [[...stream, "--test-fraction", "0.2"], 2, "Cannot use --test-fraction with --stream: expected no such option"],
    [[...stream, "--shuffle-seed", "1"], 2, "Cannot use --shuffle-seed with --stream: expected no such option"],
    [
      [...stream, "--class-weights", "balanced"],
      2,
      "Cannot use --class-weights with --stream: expected a weight for each",
    ],
    [[...stream, "--rule", "decorrelated"], 2, "Cannot use --data: expected all rows before the first step"],
    [[...stream, "--explain"], 2, "Cannot use --explain with --stream: expected no such option"],
    [[...stream, "--early-stopping", "2"], 2, "Cannot use --early-stopping: expected validation rows to watch"],
    [[...stream, "--image-size", "4,4"], 2, "Cannot use --image-size with csv:x.csv: expected its options"],
    [
      [...stream, "--fit-rows", "2"],
      1,
      "Cannot read x.csv, line 4, column 3 (kind): expected a class of the first rows (more of them with --fit-rows)",
    ],
    [[...stream, "--fit-rows", "0"], 2, "Cannot use --fit-rows: expected a whole number from 1 up but found 0"],
    [[...stream, "--shuffle-window", "-1"], 2, "Cannot use --shuffle-window: expected a whole number from 0"],
    [["--data", "csv:nowhere.csv", "--stream"], 1, "Cannot read nowhere.csv: expected a file but found nothing there"],
    [
      ["--stream"],
      2,
      "Cannot use --stream: expected one of csv:PATH, parquet:PATH, images:PATH as --data but found glyphs",
    ],
    [["--validation-data", "x.csv"], 2, "Cannot use --validation-data: expected --stream beside it but found none"],
  ] as const
) {
  Deno.test(`train refuses ${args.join(" ")}`, async () => {
    await using folder = await temporaryFolder();
    await Deno.writeTextFile(`${folder.path}/x.csv`, csv(60));
    const refused = await run([...common, ...args], { cwd: folder.path });
    assertStringIncludes(refused.stderr, message);
    assertEquals([refused.code, refused.stdout], [code, ""]);
    assertEquals(refused.stderr.trimEnd().split("\n").length, 1, refused.stderr);
    assertEquals([...Deno.readDirSync(folder.path)].map(({ name }) => name), ["x.csv"], "no run folder is left");
  });
}
