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

Deno.test("train --stream reads CSV and Parquet files part by part, mixed, watches rows of another file and tests on those of a third", async () => {
  await using folder = await temporaryFolder();
  const cwd = folder.path;
  await Deno.writeTextFile(`${cwd}/x.csv`, csv(3000));
  await Deno.writeTextFile(`${cwd}/watch.csv`, csv(90, 5000));
  await Deno.writeTextFile(`${cwd}/test.csv`, csv(60, 7000));
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
  await write("test.parquet", 60, 7000);
  const figures = [];
  for (const kind of ["csv", "parquet"]) {
    // In the order of the file, so that both have the same rows in the same steps whatever their parts.
    const data = [
      "--data",
      `${kind}:x.${kind}`,
      "--stream",
      "--validation-data",
      `watch.${kind}`,
      "--test-data",
      `test.${kind}`,
    ];
    const args = [...common, ...data, "--shuffle-window", "0", "--epochs", "2", "--json", "--out", kind];
    const { code, stdout, stderr } = await run(args, { cwd });
    assertEquals([code, stderr], [0, ""]);
    const events = jsonLines(stdout);
    assertEquals(events.map(({ event, step }) => [event, step]), [["epoch", 60], ["epoch", 120], ["done", 120]]);
    assert(events[1]!.validationAccuracy as number > 0.6, JSON.stringify(events[1]));
    assert(events[2]!.testAccuracy as number > 0.6 && events[2]!.testLoss !== null, JSON.stringify(events[2]));
    figures.push(events.map(({ seconds: _, checkpoint: __, ...event }) => event));
    const record = JSON.parse(await Deno.readTextFile(`${cwd}/${kind}/config.json`));
    assertEquals(record.data.rows, { train: 3000, validation: 90, test: 60 });
    assertStringIncludes(await Deno.readTextFile(`${cwd}/${kind}/report.html`), "Confusions on the test rows");
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

Deno.test("train --stream keeps all steps before a row that cannot be read, and says so", async () => {
  await using folder = await temporaryFolder();
  const cwd = folder.path;
  // Of the first part of 4096 rows 81 batches of 50; the fault is in the second.
  await Deno.writeTextFile(`${cwd}/x.csv`, `${csv(5000)}1,none,x\n`);
  await Deno.writeTextFile(`${cwd}/new.csv`, "a,b\n0,1\n");
  const data = ["--data", "csv:x.csv", "--stream", "--fit-rows", "1000", "--shuffle-window", "0"];
  const failed = await run([...common, ...data, "--runs", "runs.db", "--out", "a"], { cwd });
  const words = "error: Cannot read x.csv, line 5002, column 2 (b): expected a finite number but found none; " +
    "a/checkpoint.safetensors still holds the state after 81 steps: " +
    "predict and export read it, --resume needs the same rows\n";
  assertEquals([failed.code, failed.stderr], [1, words]);
  const [row] = jsonLines((await run(["runs", "--json", "--runs", "runs.db"], { cwd })).stdout);
  assertEquals([row!.status, row!.message], ["failed", words.slice("error: ".length).trimEnd()]);
  const predicted = await run(["predict", "--checkpoint", "a", "--input", "new.csv"], { cwd });
  assertEquals([predicted.code, predicted.stderr], [0, ""]);
  const resumed = await run(["train", "--resume", "a", "--quiet"], { cwd });
  assertEquals([resumed.code, resumed.stderr], [1, words], "no step is taken twice");
  const events = jsonLines(await Deno.readTextFile(`${cwd}/a/metrics.jsonl`));
  assertEquals(events.map(({ event, step }) => [event, step]), [["interrupted", 81], ["interrupted", 81]]);
  await Deno.writeTextFile(`${cwd}/x.csv`, `${csv(5000)}1,2,x\n`);
  const mended = await run(["train", "--resume", "a", "--quiet"], { cwd });
  assertStringIncludes(mended.stderr, "Cannot use the data of a: expected the rows of SHA-256");
});

/** Dark and light images in a folder for each. */
async function writeImages(folder: string): Promise<void> {
  for (const [index, name] of ["dark", "light"].entries()) {
    await Deno.mkdir(`${folder}/${name}`, { recursive: true });
    for (let number = 0; number < 12; number++) {
      const data = Uint8Array.from({ length: 75 }, (_, at) => 150 * index + 20 + (at * 7 + number * 13) % 60);
      const image = new Image(5, 5, { colorModel: "RGB", data });
      await Deno.writeFile(`${folder}/${name}/${number}.png`, encodePng(image));
    }
  }
}

Deno.test("train --stream decodes images while the network trains", async () => {
  await using folder = await temporaryFolder();
  const cwd = folder.path;
  for (const part of ["all", "watch"]) await writeImages(`${cwd}/${part}`);
  const data = ["--data", "images:all", "--stream", "--validation-data", "watch"];
  const args = [...common, ...data, "--batch-size", "8", "--epochs", "10"];
  const { code, stdout, stderr } = await run([...args, "--json"], { cwd });
  assertEquals([code, stderr], [0, ""]);
  assertEquals(jsonLines(stdout).at(-2)!.validationAccuracy, 1);
  assertEquals(jsonLines(stdout).at(-1)!.testAccuracy, null);
  await Deno.rename(`${cwd}/watch/light`, `${cwd}/watch/white`);
  const other = await run(args, { cwd });
  assertEquals(
    [other.code, other.stderr],
    [1, "error: Cannot read watch: expected the classes of all (dark, light) but found dark, white\n"],
  );
});

Deno.test("train --stream trains on the train folder of images and tests on the test folder, under the name of both", async () => {
  await using folder = await temporaryFolder();
  const cwd = folder.path;
  for (const part of ["shades/train", "shades/test", "other"]) await writeImages(`${cwd}/${part}`);
  await Deno.remove(`${cwd}/other/dark/3.png`);
  const args = [...common, "--data", "images:shades", "--batch-size", "8", "--epochs", "40"];
  const outcomes = [];
  for (const how of [["--stream"], ["--validation-split", "0"]]) {
    const out = how[0]!.slice(2);
    const { code, stdout, stderr } = await run([...args, ...how, "--out", out], { cwd });
    assertEquals([code, stderr], [0, ""]);
    assertStringIncludes(stdout, "on shades with backprop: 40 epochs, 24 rows, ");
    assertStringIncludes(stdout, "Test on 24 rows: loss ");
    assertStringIncludes(stdout, "accuracy 100.00 %");
    const { data } = JSON.parse(await Deno.readTextFile(`${cwd}/${out}/config.json`));
    outcomes.push({ ...data, hash: undefined });
    assertStringIncludes(await Deno.readTextFile(`${cwd}/${out}/report.html`), "Predictions on the test rows");
  }
  assertEquals(outcomes[0], outcomes[1]);
  const own = await run([...args, "--stream", "--test-data", "other"], { cwd });
  assertStringIncludes(own.stdout, "Test on 23 rows: loss ");
  const [name] = [...Deno.readDirSync(`${cwd}/runs`)].map((entry) => entry.name);
  assertStringIncludes(name!, "-shades-backprop");
});

Deno.test("find-rate --stream reads as many rows as it has steps for", async () => {
  await using folder = await temporaryFolder();
  const cwd = folder.path;
  // Who reads on finds a number that is none.
  await Deno.writeTextFile(`${cwd}/x.csv`, `${csv(20_000)}1,none,x\n`);
  const rows = ["--data", "csv:x.csv", "--stream", "--fit-rows", "1000", "--shuffle-window", "500"];
  const args = [...rows, "--hidden", "8", "--batch-size", "50"];
  const { code, stdout, stderr } = await run(["find-rate", ...args, "--highest", "1", "--steps", "30", "--json"], {
    cwd,
  });
  assertEquals([code, stderr], [0, ""]);
  assertEquals(JSON.parse(stdout).points.length, 30);
  const more = await run(["find-rate", ...args, "--steps", "500", "--json"], { cwd });
  assertEquals([more.code, more.stdout], [1, ""]);
  assertStringIncludes(more.stderr, "Cannot read x.csv, line 20002, column 2 (b)");
  const words = await run(["find-rate", ...args, "--highest", "1", "--steps", "30"], { cwd });
  assertStringIncludes(words.stdout, `Try      deno task train ${args.join(" ")} --learning-rate `);
  const refused = await run(["find-rate", "--data", "csv:x.csv", "--fit-rows", "9"], { cwd });
  assertEquals(
    [refused.code, refused.stderr],
    [2, "error: Cannot use --fit-rows: expected --stream beside it but found none\n"],
  );
});

const stream = ["--data", "csv:x.csv", "--stream"];

for (
  const [args, code, message] of [
    [
      [...stream, "--validation-seed", "1"],
      2,
      "Cannot use --validation-seed with --stream: expected --validation-data PATH instead",
    ],
    [
      [...stream, "--validation-split", "0.2"],
      2,
      "Cannot use --validation-split with --stream: expected --validation-",
    ],
    [[...stream, "--test-fraction", "0.2"], 2, "Cannot use --test-fraction with --stream: expected --test-data PATH"],
    [[...stream, "--test-data", "no.csv"], 1, "Cannot read no.csv: expected a file but found nothing there"],
    [
      ["--data", "csv:renamed.csv", "--stream", "--test-data", "x.csv"],
      1,
      "Cannot read x.csv: expected a column weight but found none of that name",
    ],
    [[...stream, "--shuffle-seed", "1"], 2, "Cannot use --shuffle-seed with --stream: expected no such option"],
    [
      [...stream, "--class-weights", "balanced"],
      2,
      "Cannot use --class-weights with --stream: expected a weight for each",
    ],
    [
      [...stream, "--rule", "decorrelated", "--decorrelated.first", "axes"],
      2,
      "expected learn as `first` of decorrelated() beside a stream, whose rows are not there before the first step but found axes",
    ],
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
    [["--test-data", "x.csv"], 2, "Cannot use --test-data: expected --stream beside it but found none"],
    [["--validation-data", "x.csv"], 2, "Cannot use --validation-data: expected --stream beside it but found none"],
  ] as const
) {
  Deno.test(`train refuses ${args.join(" ")}`, async () => {
    await using folder = await temporaryFolder();
    await Deno.writeTextFile(`${folder.path}/x.csv`, csv(60));
    await Deno.writeTextFile(`${folder.path}/renamed.csv`, csv(60).replace("a,b,kind", "a,weight,kind"));
    const refused = await run([...common, ...args], { cwd: folder.path });
    assertStringIncludes(refused.stderr, message);
    assertEquals([refused.code, refused.stdout], [code, ""]);
    assertEquals(refused.stderr.trimEnd().split("\n").length, 1, refused.stderr);
    assertEquals(
      [...Deno.readDirSync(folder.path)].map(({ name }) => name).sort(),
      ["renamed.csv", "x.csv"],
      "no run folder is left",
    );
  });
}
