/** Early stopping, averages, class weights, checkpoints now and then, the rate finder and exports, from the command line. */

import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { commandLine, jsonLines, run, start, temporaryFolder } from "./helpers.ts";

const small = ["--data", "spirals", "--rows", "300", "--test-rows", "90", "--hidden", "16", "--runs", "none"];

async function bytes(path: string): Promise<string> {
  return (await Deno.readFile(path)).toHex();
}

Deno.test("train --early-stopping stops, keeps the best network, and stops there again when it is resumed", async () => {
  await using folder = await temporaryFolder();
  const at = { cwd: folder.path };
  const options = [
    "--early-stopping",
    "2",
    "--learning-rate",
    "0.5",
    "--epochs",
    "60",
    "--json",
    "--average-decay",
    "0.5",
  ];
  const { code, stdout, stderr } = await run(["train", ...small, ...options, "--out", "a"], at);
  assertEquals(code, 0, stderr);
  const events = jsonLines(stdout);
  const done = events.pop()!;
  const losses = events.map(({ validationLoss }) => validationLoss as number);
  const best = losses.indexOf(Math.min(...losses)) + 1;
  assertEquals([done.event, done.bestEpoch, done.stoppedEarly], ["done", best, true]);
  assertEquals(events.length, best + 2);
  assertEquals(done.checkpoint, "a/best.safetensors");
  const again = await run(["train", "--resume", "a", "--json", "--runs", "none"], at);
  assertEquals(again.code, 0, again.stderr);
  assertEquals(jsonLines(again.stdout), [done]);
  // What predict takes by default is the best network, and a run of as many epochs tests it alike.
  const words = await run(["train", ...small, ...options.filter((word) => word !== "--json"), "--out", "b"], at);
  assertStringIncludes(words.stdout, `with backprop: ${best + 2} of 60 epochs, `);
  assertStringIncludes(words.stdout, `Stopped early: the network of epoch ${best}, the best, is kept`);
  const accuracy = (100 * (events[best - 1]!.validationAccuracy as number)).toFixed(2);
  assertMatch(
    words.stdout,
    new RegExp(`Validation accuracy {2}[▁-█]+ {2}.* → .* %, ${accuracy} % in epoch ${best}\\n`),
  );
});

Deno.test("train --early-stopping needs rows to watch; --monitor needs early stopping and classes", async () => {
  await using folder = await temporaryFolder();
  const at = { cwd: folder.path };
  const refuse = async (args: string[], message: string) => {
    const { code, stderr } = await run(["train", ...small, ...args], at);
    assertEquals([code, stderr], [2, `error: ${message}\n`]);
  };
  await refuse(
    ["--early-stopping", "2", "--validation-split", "0"],
    "Cannot use --early-stopping: expected validation rows to watch but found none",
  );
  await refuse(["--monitor", "loss"], "Cannot use --monitor: expected --early-stopping beside it but found none");
  await refuse(
    ["--early-stopping", "0"],
    "Cannot use --early-stopping: expected a whole number from 1 up but found 0".replace(
      "--early-stopping",
      "--early-stopping",
    ),
  );
  await refuse(
    ["--class-weights", "1,x,2"],
    "Cannot use --class-weights: expected balanced, or numbers with commas between, such as 1,2,0.5 but found 1,x,2",
  );
  await refuse(
    ["--checkpoint-every", "0"],
    "Cannot use --checkpoint-every: expected a whole number from 1 up but found 0",
  );
});

Deno.test("train with all habits and a checkpoint now and then goes on to the same bits after Ctrl-C and after a kill", async () => {
  await using folder = await temporaryFolder();
  const at = { cwd: folder.path };
  const options = [
    ...["--epochs", "150", "--accumulate", "4", "--class-weights", "balanced", "--average-decay", "0.9"],
    ...["--checkpoint-every", "7", "--early-stopping", "140", "--json"],
  ];
  const whole = await run(["train", ...small, ...options, "--out", "a"], at);
  assertEquals(whole.code, 0, whole.stderr);
  assertEquals(jsonLines(whole.stdout).pop()!.checkpoint, "a/best.safetensors");

  let args = ["train", ...small, ...options, "--out", "b"];
  for (const signal of ["SIGINT", "SIGKILL", "SIGKILL"] as const) {
    const process = start(args, at);
    const reader = process.stdout.getReader();
    for (let lines = 0; lines < 10;) {
      const { value, done } = await reader.read();
      if (done) break;
      lines += new TextDecoder().decode(value).split("\n").length - 1;
    }
    process.kill(signal);
    await reader.cancel();
    await process.stderr.cancel();
    await process.status;
    args = ["train", "--resume", "b", "--json", "--runs", "none"];
  }
  const rest = await run(args, at);
  assertEquals(rest.code, 0, rest.stderr);
  for (const file of ["best", "checkpoint"]) {
    const [a, b] = await Promise.all(["a", "b"].map((name) => bytes(`${folder.path}/${name}/${file}.safetensors`)));
    assertEquals(a === b, true, file);
  }
  const plain = ({ seconds: _, checkpoint: __, ...event }: Record<string, unknown>) => event;
  const [a, b] = await Promise.all(
    ["a", "b"].map(async (name) =>
      jsonLines(await Deno.readTextFile(`${folder.path}/${name}/metrics.jsonl`)).map(plain)
    ),
  );
  assertEquals(b!.filter(({ event }) => event !== "interrupted"), a!);
});

Deno.test("export writes ONNX, npz and a state_dict; find-rate draws and suggests", async () => {
  await using folder = await temporaryFolder();
  const at = { cwd: folder.path };
  const trained = await run(["train", ...small, "--epochs", "1", "--quiet", "--out", "a"], at);
  assertEquals(trained.code, 0, trained.stderr);
  for (
    const [name, start, what] of [
      ["net.onnx", "080a", "an ONNX file"],
      ["net.npz", "504b", "a zip archive, as NPZ files and those of torch.save are"],
      [
        "net.safetensors",
        "",
        "weights without their network, as export and PyTorch write them (loadPyTorch reads those)",
      ],
    ] as const
  ) {
    const { code, stderr } = await run(["export", "--checkpoint", "a", "--out", name], at);
    assertEquals([code, stderr], [0, `Wrote the network of a to ${name}\n`]);
    assert((await bytes(`${folder.path}/${name}`)).startsWith(start), name);
    const again = await run(["export", "--checkpoint", "a", "--out", name], at);
    assertEquals(again.stderr, `Wrote the network of a to ${name}, over the file that was there\n`);
    const back = await run(["predict", "--checkpoint", name, "--input", "rows.npy"], at);
    const wanted =
      `error: Cannot read ${name}: expected a safetensors file that train or Network.save wrote but found `;
    assertEquals([back.code, back.stderr], [1, `${wanted}${what}\n`]);
  }
  const refused = await run(["export", "--checkpoint", "a", "--out", "net.pb"], at);
  assertEquals(
    [refused.code, refused.stderr],
    [2, "error: Cannot use --out: expected a name that ends in .onnx, .npz, .safetensors but found net.pb\n"],
  );
  const search = ["find-rate", ...small.slice(0, -2), "--steps", "60", "--picture", "rates.svg"];
  const found = await run(search, at);
  assertEquals(found.code, 0, found.stderr);
  assertMatch(
    found.stdout,
    /^Sweep {4}\d+ steps from 0.000001 to [\d.e-]+, smallest loss at [\d.e-]+\nTrials {3}60 steps each, mean loss of the last quarter\n/,
  );
  const [, best, rate] = /\nBest {5}([\d.e-]+)\nTry .* --learning-rate ([\d.e-]+)\n$/.exec(found.stdout)!;
  assertEquals(rate, best);
  assertMatch(found.stdout, new RegExp(`\n {9}${best} +loss `), "the best is one of those tried");
  const short = await run([...small.slice(0, -2), "--highest", "1e-3"].toSpliced(0, 0, "find-rate"), at);
  assertStringIncludes(short.stdout, "\nThe best is the highest rate tried: look further with --highest.\nTry ");
  const advice = /\nTry {6}deno task train (.*) --learning-rate [\d.e-]+\n$/.exec(found.stdout);
  assertEquals(advice?.[1], small.slice(0, -2).join(" "), "what was searched for, without the search");
  const svg = await Deno.readTextFile(`${folder.path}/rates.svg`);
  assertStringIncludes(svg, "learning rate");
  const { stdout: help } = await run(["find-rate", "--help"], at);
  assertStringIncludes(help, "the whole search as JSON");
  for (const option of ["--epochs", "--schedule", "--report", "--svg", "--out", "--quiet", "--test-data"]) {
    const unknown = await run(["find-rate", option], at);
    const start = `error: Cannot use ${option}: expected an option of find-rate`;
    assertEquals([unknown.code, unknown.stderr.startsWith(start)], [2, true], unknown.stderr);
    assert(!new RegExp(`^  ${option} `, "m").test(help), `${option} in the help`);
  }
  assert(!help.includes("warm-up"), "schedules, which nothing would read");
});

Deno.test("a run whose first checkpoint cannot be written leaves no folder behind", async () => {
  await using folder = await temporaryFolder();
  await Deno.mkdir(`${folder.path}/runs`);
  // A folder that nobody may write to stands for a full disk: root may, so the file system is asked to refuse by a quota of 0.
  const script = 'ulimit -f 0; exec "$@"';
  const [program, ...args] = commandLine(["train", ...small, "--epochs", "1"]);
  const { code, stderr } = await new Deno.Command("bash", {
    args: ["-c", `trap '' XFSZ; ${script}`, "bash", program!, ...args],
    cwd: folder.path,
    env: { NO_COLOR: "1" },
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).output();
  assertEquals(code, 1, new TextDecoder().decode(stderr));
  assertEquals([...Deno.readDirSync(`${folder.path}/runs`)], []);
});

Deno.test("CSV columns are standardised by the training rows alone: validation rows leave no trace", async () => {
  await using folder = await temporaryFolder();
  const at = { cwd: folder.path };
  const rows = Array.from({ length: 40 }, (_, i) => `${i % 7},${(i * 13) % 11},${i % 2 ? "a" : "b"}`);
  const record = async (out: string, lines: string[]) => {
    await Deno.writeTextFile(`${folder.path}/x.csv`, `p,q,class\n${lines.join("\n")}\n`);
    const args = [
      "train",
      "--data",
      "csv:x.csv",
      "--epochs",
      "1",
      "--hidden",
      "4",
      "--quiet",
      "--runs",
      "none",
      "--out",
      out,
    ];
    const { code, stderr } = await run(args, at);
    assertEquals(code, 0, stderr);
    return JSON.parse(await Deno.readTextFile(`${folder.path}/${out}/config.json`));
  };
  const first = await record("a", rows);
  assertEquals(first.data.rows, { train: 36, validation: 4, test: 0 });
  // Every row alone made huge: the fit changes for rows in training only, so for exactly 36 of them.
  const { splitOrder } = await import("../../src/data/split.ts");
  const { split } = splitOrder(40, { fraction: 0.1, seed: 0 });
  const huge = rows.map((row, index) => split.includes(index) ? row.replace(/^\d+/, "1000") : row);
  const second = await record("b", huge);
  assertEquals(second.data.transform, first.data.transform);
  const repeated = await run(["train", "--config", "b/config.json", "--out", "c", "--quiet", "--runs", "none"], at);
  assertEquals(repeated.code, 0, repeated.stderr);
  assertEquals(
    await bytes(`${folder.path}/b/checkpoint.safetensors`),
    await bytes(`${folder.path}/c/checkpoint.safetensors`),
  );
});

Deno.test("train --data images: and parquet: read folders and files; what is broken is named or left out", async () => {
  const { encodePng, Image } = await import("image-js");
  const { parquetWriteBuffer } = await import("hyparquet-writer");
  await using folder = await temporaryFolder();
  const at = { cwd: folder.path };
  for (const [label, name] of ["cat", "dog"].entries()) {
    await Deno.mkdir(`${folder.path}/pets/${name}`, { recursive: true });
    for (let index = 0; index < 12; index++) {
      const data = new Uint8Array(6 * 5 * 3).fill(label * 200 + index);
      const image = new Image(6, 5, { colorModel: "RGB", data });
      await Deno.writeFile(`${folder.path}/pets/${name}/${index}.png`, encodePng(image));
    }
  }
  const train = async (...args: string[]) =>
    await run(["train", ...args, "--epochs", "2", "--quiet", "--runs", "none"], at);
  const good = await train("--data", "images:pets", "--image-size", "4,4", "--grey", "--out", "a");
  assertEquals(good.code, 0, good.stderr);
  const record = JSON.parse(await Deno.readTextFile(`${folder.path}/a/config.json`));
  assertEquals([record.data.shape, record.data.targets.names], [[4, 4, 1], ["cat", "dog"]]);
  await Deno.writeTextFile(`${folder.path}/pets/dog/13.jpg`, "no image");
  const broken = await train("--data", "images:pets");
  assertEquals(broken.code, 1);
  assertMatch(broken.stderr, /^error: Cannot read pets\/dog\/13\.jpg: expected a PNG or JPEG image but found .*\n$/);
  const skipped = await train("--data", "images:pets", "--skip-broken");
  assertEquals(skipped.code, 0, skipped.stderr);
  assertMatch(skipped.stderr, /^Left out: Cannot read pets\/dog\/13\.jpg: /);

  const numbers = Array.from({ length: 40 }, (_, index) => index);
  const columnData = [
    { name: "x", data: numbers.map((index) => index / 7), type: "DOUBLE" as const },
    { name: "y", data: numbers.map((index) => index * 3), type: "DOUBLE" as const },
  ];
  await Deno.writeFile(`${folder.path}/x.parquet`, new Uint8Array(parquetWriteBuffer({ columnData })));
  const table = await train("--data", "parquet:x.parquet", "--task", "regression", "--out", "b");
  assertEquals(table.code, 0, table.stderr);
  const other = await train("--data", "parquet:x.parquet", "--grey");
  assertEquals(other.code, 2);
  assertMatch(other.stderr, /^error: Cannot use --grey with parquet:x\.parquet: expected its options \(--target,/);
});

Deno.test("without a terminal progress is one line per epoch, without colours, whatever NO_COLOR says", async () => {
  await using folder = await temporaryFolder();
  for (const NO_COLOR of ["", "1"]) {
    const out = `a${NO_COLOR}`;
    const place = { cwd: folder.path, env: { NO_COLOR } };
    const { code, stderr } = await run(["train", ...small, "--epochs", "3", "--out", out], place);
    assertEquals(code, 0, stderr);
    assertEquals(stderr.split("\n").map((line) => line.slice(0, 9)), ["epoch 1/3", "epoch 2/3", "epoch 3/3", ""]);
    assert(!stderr.includes("\x1b"), "no escape sequences");
  }
});

/** Whether there is a program that gives others a terminal. */
const terminal = Deno.build.os === "linux" &&
  await new Deno.Command("script", { args: ["--version"] }).output().then(({ success }) => success, () => false);

Deno.test({
  name: "on a terminal a long load says how far it is; with --quiet or --json it does not (needs script)",
  ignore: !terminal,
  fn: async () => {
    await using folder = await temporaryFolder();
    const rows = Array.from({ length: 300_000 }, (_, i) => `${i % 97},${i % 89},${i % 2 ? "odd" : "even"}`);
    await Deno.writeTextFile(`${folder.path}/x.csv`, `a,b,kind\n${rows.join("\n")}\n`);
    const data = [
      "train",
      "--data",
      "csv:x.csv",
      "--hidden",
      "none",
      "--epochs",
      "0.001",
      "--no-report",
      "--runs",
      "none",
    ];
    for (const [more, shown] of [[[], true], [["--quiet"], false], [["--json"], false]] as const) {
      const words = commandLine([...data, "--out", `run${more.join("")}`, ...more]).map((word) => `'${word}'`).join(
        " ",
      );
      const { success, stdout } = await new Deno.Command("script", {
        args: ["--quiet", "--return", "--command", words, "/dev/null"],
        cwd: folder.path,
        env: { TERM: "xterm", NO_COLOR: "1" },
        stdin: "null",
      }).output();
      const text = new TextDecoder().decode(stdout);
      assert(success, text);
      assertEquals(/(reading|parsing|fitting) x\.csv {2}\d+ %/.test(text), shown, text);
    }
  },
});
