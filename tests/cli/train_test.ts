import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { jsonLines, run, temporaryFolder } from "./helpers.ts";

const small = ["--data", "spirals", "--rows", "300", "--test-rows", "90", "--hidden", "16", "--epochs", "3"];

Deno.test("train prints only JSON objects with --json, and keeps the run in a folder", async () => {
  await using folder = await temporaryFolder();
  const { code, stdout, stderr } = await run(["train", ...small, "--json", "--seed", "3"], { cwd: folder.path });
  assertEquals(code, 0, stderr);
  const events = jsonLines(stdout);
  assertEquals(events.map(({ event }) => event), ["epoch", "epoch", "epoch", "done"]);
  assertEquals(events.map(({ epoch }) => epoch), [1, 2, 3, undefined]);
  for (const event of events.slice(0, 3)) {
    for (const key of ["trainLoss", "validationLoss", "validationAccuracy", "seconds"]) {
      assertEquals(typeof event[key], "number", key);
    }
  }
  const done = events[3]!;
  for (const key of ["testLoss", "testAccuracy", "seconds"]) assertEquals(typeof done[key], "number", key);
  assertMatch(done.checkpoint as string, /^runs\/\d{4}-\d\d-\d\dT[\d-]{8}-spirals-backprop\/checkpoint\.safetensors$/);
  assertEquals(stderr.split("\n").filter((line) => line.startsWith("epoch ")).length, 3);

  const place = `${folder.path}/${(done.checkpoint as string).replace("/checkpoint.safetensors", "")}`;
  assertEquals(await Deno.readTextFile(`${place}/metrics.jsonl`), stdout);
  const record = JSON.parse(await Deno.readTextFile(`${place}/config.json`));
  assertEquals(record.options.seed, 3);
  assertEquals(record.options["batch-size"], 64);
  assertEquals(record.data.rows, { train: 270, validation: 30, test: 90 });
  assertMatch(record.data.hash, /^[0-9a-f]{64}$/);
  assertEquals(record.machine.deno, Deno.version.deno);
  for (const key of ["leanprop", "system", "cpu", "instructionSet"]) assert(record.machine[key], key);
  assert(record.machine.threads >= 1);
});

Deno.test("train closes with a summary, and --quiet leaves only that", async () => {
  await using folder = await temporaryFolder();
  const { code, stdout, stderr } = await run(["train", ...small, "--quiet", "--out", "a"], { cwd: folder.path });
  assertEquals([code, stderr], [0, ""]);
  assertMatch(stdout, /Trained a network of 99 parameters on spirals with backprop: 3 epochs, 270 rows/);
  assertMatch(stdout, /Test on 90 rows: loss [\d.]+, accuracy \d+\.\d\d %/);
  assertStringIncludes(stdout, "deno task predict --checkpoint a/checkpoint.safetensors --input FILE");
  assertStringIncludes(stdout, "deno task train --config a/config.json");
});

Deno.test("train says in its summary which layers choose outer products", async () => {
  await using folder = await temporaryFolder();
  const rule = ["--rule", "mem-aop", "--mem-aop.k", "8", "--mem-aop.min-size", "5", "--hidden", "16,16"];
  const args = ["train", ...small, ...rule, "--quiet", "--out", "a"];
  const { code, stdout, stderr } = await run(args, { cwd: folder.path });
  assertEquals([code, stderr], [0, ""]);
  assertMatch(stdout, /layers from 0: all rows \(too small.*\); 2: 8 of \d+ rows \(topK with memory\); 4: all rows/);
});

Deno.test("train --config repeats a run to the bit, at another number of threads", async () => {
  await using folder = await temporaryFolder();
  const options = ["--optimizer", "sgd", "--momentum", "0.9", "--clip-norm", "1", "--schedule", "warm-up:1+cosine"];
  const first = await run(["train", ...small, ...options, "--threads", "1", "--out", "a"], { cwd: folder.path });
  assertEquals(first.code, 0, first.stderr);
  const again = ["train", "--config", "a/config.json", "--threads", "2", "--out", "b"];
  const second = await run(again, { cwd: folder.path });
  assertEquals(second.code, 0, second.stderr);
  const [a, b] = await Promise.all(
    ["a", "b"].map((run) => Deno.readFile(`${folder.path}/${run}/checkpoint.safetensors`)),
  );
  assertEquals(a, b);
});

Deno.test("train builds the network that a JSON file describes, and its record holds it in full", async () => {
  await using folder = await temporaryFolder();
  const model = {
    layers: [{ kind: "dense", units: 8 }, { kind: "tanh" }, { kind: "dense", units: 3 }],
    loss: { kind: "softmaxCrossEntropy", labelSmoothing: 0.1 },
  };
  await Deno.writeTextFile(`${folder.path}/model.json`, JSON.stringify(model));
  const data = ["--data", "spirals", "--rows", "60", "--epochs", "1"];
  const args = ["train", ...data, "--model", "model.json", "--out", "a", "--quiet"];
  const { code, stderr } = await run(args, { cwd: folder.path });
  assertEquals(code, 0, stderr);
  const record = JSON.parse(await Deno.readTextFile(`${folder.path}/a/config.json`));
  assertEquals(record.options.model, model);
  assertEquals(record.network.layers.map(({ kind }: { kind: string }) => kind), ["dense", "tanh", "dense"]);
  assertEquals(record.network.loss, model.loss);
  await Deno.remove(`${folder.path}/model.json`);
  const repeat = await run(["train", "--config", "a/config.json", "--out", "b", "--quiet"], { cwd: folder.path });
  assertEquals(repeat.code, 0, repeat.stderr);
});

Deno.test("train --model takes the models for images, with --width, --crop and --flip", async () => {
  await using folder = await temporaryFolder();
  const data = ["--data", "glyphs", "--rows", "40", "--test-rows", "10", "--epochs", "1", "--batch-size", "10"];
  for (const [model, ...more] of [["cnn"], ["convnet", "--crop", "2"], ["resnet18", "--width", "0.05", "--flip"]]) {
    const args = ["train", ...data, "--model", model!, ...more, "--out", model!, "--quiet"];
    const { code, stderr } = await run(args, { cwd: folder.path });
    assertEquals(code, 0, stderr);
    const record = JSON.parse(await Deno.readTextFile(`${folder.path}/${model}/config.json`));
    const first = record.network.layers[0];
    assertEquals([first.kind, first.filters], ["conv2d", model === "resnet18" ? 3 : 32]);
  }
});

Deno.test("train learns spirals with the loss that follows the labels", async () => {
  await using folder = await temporaryFolder();
  const args = ["--data", "spirals", "--hidden", "64,64", "--epochs", "40", "--learning-rate", "0.01", "--json"];
  const { code, stdout, stderr } = await run(["train", ...args], { cwd: folder.path });
  assertEquals(code, 0, stderr);
  const done = jsonLines(stdout).at(-1)!;
  assert(done.testAccuracy as number > 0.97, `accuracy ${done.testAccuracy}`);
});

Deno.test("train --help shows every option, data set and rule", async () => {
  await using folder = await temporaryFolder();
  const { code, stdout } = await run(["train", "--help"], { cwd: folder.path });
  assertEquals(code, 0);
  for (const word of ["--data NAME", "--resume DIR", "mnist", "csv:PATH", "backprop", "warm-up:EPOCHS[+SCHEDULE]"]) {
    assertStringIncludes(stdout, word);
  }
});

for (
  const [args, code, message] of [
    [
      ["tran"],
      2,
      "Cannot use the command tran: expected one of train, find-rate, compare, predict, export, runs, info (did you mean train?)",
    ],
    [["train", "--epoch", "3"], 2, "Cannot use --epoch: expected an option of train (did you mean --epochs?)"],
    [["train", "--data", "spiral"], 2, "Cannot use --data: expected one of glyphs, spirals,"],
    [["train", "--data", "mnist", "--noise", "1"], 2, "Cannot use --noise with mnist"],
    [["train", ...small, "--batch-size", "301"], 2, "Cannot use --batch-size: expected a whole number from 1 to 270"],
    [["train", ...small, "--rule", "bakprop"], 2, "Cannot use --rule: expected one of"],
    [["train", ...small, "--backprop.k", "1"], 2, "Cannot use --backprop.k: expected no option"],
    [
      ["train", ...small, "--rule", "mem-aop", "--mem-aop.k", "65"],
      2,
      "Cannot use --mem-aop.k: expected a whole number",
    ],
    [
      ["train", ...small, "--rule", "mem-aop", "--mem-aop.k", "x"],
      2,
      "Cannot use --mem-aop.k: expected a whole number",
    ],
    [
      ["train", ...small, "--rule", "decorrelated", "--decorrelated.layers", "7"],
      2,
      "Cannot use --decorrelated.layers: expected names of dense and conv2d layers but found 7",
    ],
    [
      ["train", ...small, "--rule", "decorrelated", "--decorrelated.rows", "-1"],
      2,
      "Cannot use --decorrelated.rows: expected a number above 0 but found -1",
    ],
    [["train", ...small, "--rule", "sparse", "--mem-aop.k", "3"], 2, "Cannot use --mem-aop.k: expected mem-aop among"],
    [["train", ...small, "--data-seed", "-1"], 2, "Cannot use --data-seed: expected a whole number from 0"],
    [["train", ...small, "--momentum", "0.5"], 2, "Cannot use --momentum: expected --optimizer sgd beside it"],
    [["train", ...small, "--validation-split", "1"], 2, "Cannot use --validation-split: expected a number from 0"],
    [["train", ...small, "--loss", "mean-squared-error"], 1, "expected values as targets but found class labels"],
    [["train", "--resume", "nowhere"], 1, "Cannot read nowhere/config.json: expected a JSON file"],
    [["train", "--config", "nowhere.json"], 1, "Cannot read nowhere.json: expected a JSON file"],
  ] as const
) {
  Deno.test(`the command line refuses ${args.slice(-2).join(" ")}`, async () => {
    await using folder = await temporaryFolder();
    const outcome = await run(args, { cwd: folder.path });
    assertEquals(outcome.code, code, outcome.stderr);
    assertEquals(outcome.stdout, "");
    assertEquals(outcome.stderr.trimEnd().split("\n").length, 1, outcome.stderr);
    assertStringIncludes(outcome.stderr, "error: ");
    assertStringIncludes(outcome.stderr, message);
    assertEquals([...Deno.readDirSync(folder.path)].map((entry) => entry.name), [], "no run folder is left");
  });
}

Deno.test("train refuses a folder that has something in it, and takes an empty one", async () => {
  await using folder = await temporaryFolder();
  await Deno.mkdir(`${folder.path}/empty`);
  await Deno.mkdir(`${folder.path}/full`);
  await Deno.writeTextFile(`${folder.path}/full/notes.txt`, "mine");
  const refused = await run(["train", ...small, "--out", "full"], { cwd: folder.path });
  assertEquals(refused.code, 2);
  assertStringIncludes(refused.stderr, "Cannot use --out: expected a folder that is new or empty");
  assertEquals((await run(["train", ...small, "--out", "empty"], { cwd: folder.path })).code, 0);
});

Deno.test("train names the layer when the loss stops being a number, and keeps the last state", async () => {
  await using folder = await temporaryFolder();
  const args = ["train", ...small, "--optimizer", "sgd", "--learning-rate", "1e30", "--out", "a"];
  const { code, stderr } = await run(args, { cwd: folder.path });
  assertEquals(code, 1);
  assertMatch(
    stderr,
    /^Report {7}a\/report\.html\nerror: The loss is not finite at step \d+ \(epoch 1\): layer \d+ \(dense\)/,
  );
  assertStringIncludes(stderr, "a/checkpoint.safetensors still holds the state after 0 steps");
});

Deno.test("train warns of a decorrelation matrix that had to begin anew, once for each layer, even when quiet", async () => {
  await using folder = await temporaryFolder();
  const rule = ["--rule", "decorrelated", "--decorrelated.rate", "1e39", "--decorrelated.auto-step", "false"];
  const { code, stderr } = await run(["train", ...small, ...rule, "--quiet"], { cwd: folder.path });
  assertEquals(code, 0, stderr);
  const lines = stderr.split("\n").filter((line) => line.includes("warning"));
  assertEquals(lines.length, 2, stderr);
  for (const [index, line] of lines.entries()) {
    assertMatch(
      line,
      new RegExp(
        `^warning: layer ${2 * index} \\(dense\\): the decorrelation matrix was not finite .* try a smaller rate`,
      ),
    );
  }
});

Deno.test("the summary says how many rows of a whole batch make weight gradients, whatever the last batch is", async () => {
  await using folder = await temporaryFolder();
  const cwd = folder.path;
  const args = [
    "train",
    "--data",
    "spirals",
    "--validation-split",
    "0",
    "--hidden",
    "16,16",
    "--rule",
    "mem-aop",
    "--quiet",
  ];
  const rule = ["--mem-aop.k", "16", "--mem-aop.min-size", "0", "--batch-size", "64", "--runs", "none", "--no-report"];
  for (const [rows, epochs] of [["200", "2"], ["192", "2"], ["200", "1.5"]] as const) {
    const { stdout, stderr } = await run([...args, ...rule, "--rows", rows, "--epochs", epochs], { cwd });
    assertStringIncludes(stdout, "Weight gradients of layers from 0: 16 of 64 rows (topK with memory); ", stderr);
  }
});

Deno.test("train refuses in the words of the command line, and names the file that a fault is in", async () => {
  await using folder = await temporaryFolder();
  const cwd = folder.path;
  const files = {
    "head.csv": "a,b\n",
    "one.csv": "a,b\n1,2\n",
    "words.csv": "a,b\nx,1\ny,2\n",
    "key.json": '{"layers":[{"kind":"dense","units":4},{"kind":"dense","unit":10}]}',
    "value.json": '{"layers":[{"kind":"dense","units":-4}]}',
    "loss.json": '{"layers":[{"kind":"dense","units":10}],"loss":{"kind":"mse"}}',
  };
  for (const [name, text] of Object.entries(files)) await Deno.writeTextFile(`${cwd}/${name}`, text);
  for (
    const [args, code, message] of [
      [["--download"], 2, "Cannot use --download with glyphs: expected a data set that can be downloaded"],
      [["--data", "spirals", "--flip"], 2, "Cannot use --crop or --flip: expected data with images of shape"],
      [["--data", "csv:head.csv", "--task", "regression"], 1, "record below the header but found only the header"],
      [
        ["--data", "csv:one.csv", "--task", "regression"],
        2,
        "Cannot use --validation-split: expected at least two training rows but found 1 row",
      ],
      [["--data", "csv:words.csv", "--task", "regression"], 1, "(words need the column under --one-hot or --ignore)"],
      [["--model", "key.json"], 1, "Cannot use key.json, layers[1].unit: expected one of kind, units"],
      [["--model", "value.json"], 1, "Cannot use value.json, layers[0]"],
      [["--model", "loss.json"], 1, "Cannot use loss.json, loss.kind: expected"],
    ] as const
  ) {
    const outcome = await run(["train", ...args, "--runs", "none"], { cwd });
    assertEquals([outcome.code, outcome.stdout], [code, ""], outcome.stderr);
    assertStringIncludes(outcome.stderr, message);
  }
});

Deno.test("half an epoch counts as half", async () => {
  await using folder = await temporaryFolder();
  const args = ["train", "--data", "spirals", "--rows", "200", "--hidden", "4", "--epochs", "1.5", "--out", "a"];
  const { stderr, stdout } = await run(args, { cwd: folder.path });
  assertMatch(stderr, /^epoch {3}1\/1\.5 {2}loss .*\nepoch 1\.5\/1\.5 {2}loss /);
  assertStringIncludes(stdout, "with backprop: 1.5 epochs, ");
  assertStringIncludes((await run(["runs"], { cwd: folder.path })).stdout, "  1.5/1.5  ");
  assertStringIncludes(await Deno.readTextFile(`${folder.path}/a/report.html`), ", 1.5 of 1.5 epochs in ");
});
