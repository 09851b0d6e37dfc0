import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { jsonLines, type Outcome, run, start, temporaryFolder, text } from "./helpers.ts";

const small = [
  "compare",
  "--data",
  "spirals",
  "--rows",
  "240",
  "--test-rows",
  "30",
  "--hidden",
  "16",
  "--epochs",
  "2",
  "--threads",
  "1",
];

Deno.test("compare prints a table and sentences, and writes JSON, CSV and a page", async () => {
  await using folder = await temporaryFolder();
  const args = ["--rules", "backprop,mem-aop,sparse+mem-aop", "--mem-aop.k", "8", "--mem-aop.min-size", "0"];
  const more = ["--seeds", "0,1", "--learning-rates", "0.01,0.001", "--out", "c", "--svg"];
  const { code, stdout, stderr } = await run([...small, ...args, ...more], { cwd: folder.path });
  assertEquals(code, 0);
  const told = stderr.trimEnd().split("\n");
  assertEquals(told.filter((line) => !line.includes(" of ")), [
    "trying learning rates  epoch 1/2",
    "seed 0  epoch 1/2",
    "seed 0  epoch 2/2",
    "seed 1  epoch 1/2",
    "seed 1  epoch 2/2",
  ]);
  const score = String.raw`[\d.]+ %`;
  const best = `backprop ${score}, mem-aop ${score}, sparse\\+mem-aop ${score}`;
  for (const [at, seed] of [[3, 0], [6, 1]] as const) {
    assertMatch(told[at]!, new RegExp(`^seed ${seed} \\(${seed + 1} of 2\\)  ${best}  [\\d.]+ s$`));
  }
  assertMatch(stdout, /^spirals: 2 epochs in batches of 64, 2 seeds, 24 validation rows\nTarget: accuracy [\d.]+ %/);
  assertMatch(stdout, /\nrule +rate +best accuracy .*multiply-adds per step\nbackprop +0\.01 /);
  assertMatch(stdout, /\nsparse\+mem-aop against backprop: wins on /);

  const whole = JSON.parse(await Deno.readTextFile(`${folder.path}/c/compare.json`));
  assertEquals([whole.complete, whole.rules.length], [true, 3]);
  assertEquals(whole.options.rules, ["backprop", "mem-aop", "sparse+mem-aop"]);
  for (const { sentence } of whole.rules) assertStringIncludes(stdout, sentence);
  const [head, ...lines] = (await Deno.readTextFile(`${folder.path}/c/compare.csv`)).trimEnd().split("\n");
  assertEquals(lines.length, 3 * 2 * 2, "rules, seeds, epochs");
  assertEquals(new Set([head, ...lines].map((line) => line!.split(",").length)).size, 1);
  const page = await Deno.readTextFile(`${folder.path}/c/compare.html`);
  for (const { sentence } of whole.rules) assertStringIncludes(page, sentence);
  assertEquals(page.split("<svg").length - 1, 4);
  const column = head!.split(",").indexOf("test_accuracy");
  assertEquals(
    new Set(lines.map((line) => line.split(",")[column])),
    new Set(
      whole.rules.flatMap(({ runs }: { runs: { testAccuracy: number }[] }) =>
        runs.map(({ testAccuracy }) => String(testAccuracy))
      ),
    ),
  );
  for (const place of [stdout, page]) assertMatch(place, /test accuracy/);
  assert(!/<script|https?:\/\/(?!www\.w3\.org)|@import|url\(/.test(page), "nothing from elsewhere");
  assert(page.length < 1e6);
  const names = [...Deno.readDirSync(`${folder.path}/c`)].map(({ name }) => name).filter((name) =>
    name.endsWith(".svg")
  );
  assertEquals(names.length, 4);
  const svg = await Deno.readTextFile(`${folder.path}/c/${names[0]}`);
  assert(!svg.includes("var(") && svg.includes("#0072b2"), "colours that every program knows");
});

Deno.test("a comparison can be repeated from its JSON, and each of its runs with train", async () => {
  await using folder = await temporaryFolder();
  const { path: cwd } = folder;
  const rules = [
    "--rules",
    "backprop,sparse",
    "--sparse.sparsity",
    "0.5",
    "--seeds",
    "1,4",
    "--learning-rates",
    "0.02",
  ];
  const first = await run([...small, ...rules, "--out", "c"], { cwd });
  assertStringIncludes(first.stdout, "\nRepeat   deno task compare --config c/compare.json\n");
  const read = async (file: string) => JSON.parse(await Deno.readTextFile(`${cwd}/${file}`));
  const found = await read("c/compare.json");
  assertEquals((await run(["compare", "--config", "c/compare.json", "--out", "d"], { cwd })).code, 0);
  const again = await read("d/compare.json");
  type Told = {
    rules: { runs: { seed: number; testLoss: number; curve: { trainLoss: number; validationLoss: number }[] }[] }[];
  };
  const curves = ({ rules }: Told) =>
    rules.map(({ runs }) =>
      runs.map(({ seed, testLoss, curve }) => [seed, testLoss, curve.map((at) => [at.trainLoss, at.validationLoss])])
    );
  assertEquals(curves(again), curves(found));
  const { options, dataHash, machine } = found;
  assertEquals([again.options, again.dataHash], [options, dataHash]);
  const defaults = { schedule: "cosine", "batch-size": 64, "validation-split": 0.1, precision: "f32" };
  assertEquals({ ...options, ...defaults }, options);
  assertEquals([options.optimizer, found.rules[0].optimizer.kind], [undefined, "adam"]);
  const other = await run(["compare", "--config", "c/compare.json", "--rules", "backprop,dual", "--out", "e"], { cwd });
  assertStringIncludes(other.stderr, "Cannot use --sparse.sparsity: expected sparse among the rules");

  const args = ["--rule", "sparse", "--sparse.sparsity", "0.5", "--learning-rate", "0.02", "--seed", "4"];
  const train = ["train", ...small.slice(1), ...args, "--validation-seed", "0", "--no-report", "--json", "--out", "t"];
  const epochs = jsonLines((await run(train, { cwd })).stdout).filter(({ event }) => event === "epoch");
  const { curve } = found.rules[1].runs[1];
  assertEquals(
    epochs.map(({ trainLoss, validationLoss }) => [trainLoss, validationLoss]),
    curve.map(({ trainLoss, validationLoss }: Record<string, number>) => [trainLoss, validationLoss]),
  );
  const record = await read("t/config.json");
  assertEquals([record.data.hash, record.machine], [dataHash, machine]);
  const none = [...train.slice(0, -1), "u", "--validation-split", "0"];
  const { code, stderr } = await run(none, { cwd });
  assertEquals([code, stderr], [
    2,
    "error: Cannot use --validation-seed: expected rows to split off beside it but found none\n",
  ]);
});

Deno.test("compare says on the terminal, in the JSON and on the page that a rule took no effect", async () => {
  await using folder = await temporaryFolder();
  const args = ["--rules", "backprop,mem-aop", "--mem-aop.k", "64", "--mem-aop.min-size", "0", "--seeds", "0"];
  const { code, stdout } = await run([...small, ...args, "--learning-rates", "0.01", "--out", "c"], {
    cwd: folder.path,
  });
  assertEquals(code, 0);
  const note =
    "mem-aop: mem-aop takes effect in no layer of this run: k takes all rows of a batch (layer 0); output layer (layer 2)";
  assertStringIncludes(stdout, `Note: ${note}\n`);
  assertStringIncludes(await Deno.readTextFile(`${folder.path}/c/compare.html`), `<li>${note}</li>`);
  const whole = JSON.parse(await Deno.readTextFile(`${folder.path}/c/compare.json`));
  assert(whole.notes.includes(note), whole.notes.join("\n"));
});

Deno.test("compare takes rules that suit any data where none are named, and prints one JSON object with --json", async () => {
  await using folder = await temporaryFolder();
  const { code, stdout, stderr } = await run([
    ...small,
    "--seeds",
    "0",
    "--learning-rates",
    "0.01",
    "--json",
    "--quiet",
  ], {
    cwd: folder.path,
  });
  assertEquals([code, stderr], [0, ""]);
  const names = JSON.parse(stdout).rules.map(({ name }: { name: string }) => name);
  for (const name of ["backprop", "dual", "mem-aop", "sparse"]) assert(names.includes(name), name);
  assert(!names.includes("front-contribution"), "made for other data");
});

Deno.test("compare has as many epochs as its help says where nothing is said, and one epoch is one", async () => {
  await using folder = await temporaryFolder();
  const fast = [...small.filter((word, at) => word !== "--epochs" && small[at - 1] !== "--epochs"), "--seeds", "0"];
  const args = [...fast, "--rules", "backprop,mem-aop", "--learning-rates", "0.01"];
  const [, epochs] = /passes over the data \((\d+)\)/.exec(
    (await run(["compare", "--help"], { cwd: folder.path })).stdout,
  )!;
  const without = await run(args, { cwd: folder.path });
  assertStringIncludes(without.stdout, `spirals: ${epochs} epochs in batches of 64, 1 seed,`);
  const one = await run([...args, "--epochs", "1"], { cwd: folder.path });
  assertStringIncludes(one.stdout, "spirals: 1 epoch in batches of 64, 1 seed,");
});

Deno.test("compare of rules that all diverge fails, and says so on the terminal and in all files", async () => {
  await using folder = await temporaryFolder();
  const rules = [
    "--rules",
    "backprop,mem-aop",
    "--optimizer",
    "sgd",
    "--learning-rates",
    "3e30,1e30",
    "--seeds",
    "0",
    "--quiet",
  ];
  const { code, stdout, stderr } = await run([...small, ...rules, "--out", "c"], { cwd: folder.path });
  assertEquals([code, stderr], [
    1,
    "error: Cannot compare: every rule diverged with the one seed; try smaller learning rates\n",
  ]);
  const notes = [
    "backprop diverged with all learning rates that it tried (1e+30, 3e+30), and trains with the smallest",
    "There is no target: backprop diverged with 1 of 1 seed before the end of an epoch; one can be given (reach)",
  ];
  assertStringIncludes(stdout, "\nTarget: none, see the notes\n");
  const whole = JSON.parse(await Deno.readTextFile(`${folder.path}/c/compare.json`));
  assertEquals([whole.target, whole.rules[0].learningRate], [null, 1e30]);
  const page = await Deno.readTextFile(`${folder.path}/c/compare.html`);
  assertStringIncludes(page, "<p>Target: none, see the notes</p>");
  assertEquals([page.includes("<svg"), page.includes("<h2>Curves")], [false, false]);
  assertStringIncludes(page, "taken, as the smallest");
  for (const note of notes) {
    assertStringIncludes(stdout, `\nNote: ${note}\n`);
    assertStringIncludes(page, note);
    assert(whole.notes.includes(note));
  }
  assert(!stdout.includes("did best"), stdout);
});

/** Starts a comparison that would take for ever, and presses Ctrl-C once its folder has been there for some time. */
async function interrupt(cwd: string, more: readonly string[], after: number): Promise<Outcome> {
  const endless = ["--rules", "backprop,mem-aop", "--learning-rates", "0.01,0.02", "--quiet", ...more];
  const child = start([...small, ...endless, "--out", "c"], { cwd });
  const output = child.output();
  while (!await Deno.stat(`${cwd}/c`).catch(() => undefined)) await new Promise((done) => setTimeout(done, 20));
  await new Promise((done) => setTimeout(done, after));
  child.kill("SIGINT");
  // `deno task` hands on what the terminal has sent already.
  await new Promise((done) => setTimeout(done, 1));
  child.kill("SIGINT");
  return text(await output);
}

Deno.test({
  name: "compare keeps what has been measured on Ctrl-C, and judges by seeds that are complete alone",
  ignore: Deno.build.os === "windows",
  fn: async () => {
    await using folder = await temporaryFolder();
    const seeds = Array.from({ length: 5000 }, (_, seed) => seed);
    const { code, stdout, stderr } = await interrupt(folder.path, ["--seeds", String(seeds), "--svg"], 2000);
    assertEquals(code, 130);
    const whole = JSON.parse(await Deno.readTextFile(`${folder.path}/c/compare.json`));
    const done = whole.seeds.length;
    assert(done > 0 && done < 5000);
    assertEquals(whole.complete, false);
    assertEquals([...whole.seeds, ...whole.stopped.missingSeeds], seeds);
    const words = `Stopped with ${done} of 5000 seeds complete: figures and verdicts are of what is complete`;
    assertEquals(
      stderr,
      `Interrupted\n${words}\nResults  c/compare.html, compare.json, compare.csv\n` +
        "Repeat   deno task compare --config c/compare.json\n",
    );
    for (const part of [`${done} of 5000 seeds`, whole.rules[1].sentence]) assertStringIncludes(stdout, part);
    for (const { runs } of whole.rules) assertEquals(runs.map(({ seed }: { seed: number }) => seed), whole.seeds);
    const [head, ...lines] = (await Deno.readTextFile(`${folder.path}/c/compare.csv`)).trimEnd().split("\n");
    assert(head!.endsWith(",complete"));
    assertEquals(lines.filter((line) => line.endsWith(",true")).length, 2 * 2 * done);
    const page = await Deno.readTextFile(`${folder.path}/c/compare.html`);
    for (const part of [words, `${done} of 5000 seeds, 24 validation rows`, whole.rules[1].sentence]) {
      assertStringIncludes(page, part);
    }
    const names = [...Deno.readDirSync(`${folder.path}/c`)].map(({ name }) => name);
    assertEquals(names.filter((name) => !name.endsWith(".svg")).sort(), [
      "compare.csv",
      "compare.html",
      "compare.json",
    ]);
    assertEquals(names.length, 7);
  },
});

Deno.test("compare that is killed leaves what seeds have measured that were complete", async () => {
  await using folder = await temporaryFolder();
  const seeds = Array.from({ length: 5000 }, (_, seed) => seed);
  const args = ["--rules", "backprop,mem-aop", "--learning-rates", "0.01", "--seeds", String(seeds), "--out", "c"];
  const child = start([...small, ...args, "--quiet"], { cwd: folder.path });
  const output = child.output();
  const file = `${folder.path}/c/compare.json`;
  while (!await Deno.stat(file).catch(() => undefined)) await new Promise((done) => setTimeout(done, 20));
  child.kill("SIGKILL");
  await output;
  const whole = JSON.parse(await Deno.readTextFile(file));
  const done = whole.seeds.length;
  assert(done > 0 && done < 5000);
  assertEquals([whole.complete, whole.stopped.missingSeeds.length], [false, 5000 - done]);
  for (const { runs } of whole.rules) assertEquals(runs.map(({ seed }: { seed: number }) => seed), whole.seeds);
  assertEquals(
    [...Deno.readDirSync(`${folder.path}/c`)].map(({ name }) => name).filter((name) => !name.endsWith(".tmp")),
    [
      "compare.json",
    ],
  );
});

Deno.test({
  name: "compare keeps the rates that were tried, and curves of a first seed, on Ctrl-C",
  ignore: Deno.build.os === "windows",
  fn: async () => {
    for (const [rates, words] of [["0.01", "Stopped with 0 of 2 seeds"], ["0.01,0.02", "Stopped while learning"]]) {
      await using folder = await temporaryFolder();
      const more = ["--epochs", "100000", "--seeds", "0,1", "--learning-rates", rates!];
      const { code, stderr } = await interrupt(folder.path, more, 2000);
      assertEquals(code, 130);
      assertStringIncludes(stderr, `Interrupted\n${words}`);
      const page = await Deno.readTextFile(`${folder.path}/c/compare.html`);
      assertStringIncludes(page, words!);
      assertEquals(page.split("<svg").length - 1, rates === "0.01" ? 4 : 0);
      assertEquals(page.includes("<h2>Medians"), false);
      assertEquals(page.includes("<h2>Learning rates"), rates !== "0.01");
    }
  },
});

Deno.test("compare refuses a folder that it cannot have before it trains", async () => {
  await using folder = await temporaryFolder();
  await Deno.writeTextFile(`${folder.path}/taken`, "");
  const rules = ["--rules", "backprop,mem-aop", "--epochs", "1000000"];
  const { code, stdout, stderr } = await run([...small, ...rules, "--out", "taken"], { cwd: folder.path });
  assertEquals([code === 0, stdout], [false, ""]);
  assertStringIncludes(stderr, "Cannot make the run folder taken: a file of that name is in the way");
});

Deno.test("compare says of a folder that is used what is in it, and what to do", async () => {
  await using folder = await temporaryFolder();
  for (
    const [file, words] of [
      ["config.json", " (name another one; deno task train --resume c goes on with its run) but found a run in c"],
      ["compare.json", " (name another one) but found a comparison in c"],
      ["notes.txt", " (name another one) but found a.txt and 1 more in c"],
    ] as const
  ) {
    await Deno.mkdir(`${folder.path}/c`);
    for (const name of [file, "a.txt"]) await Deno.writeTextFile(`${folder.path}/c/${name}`, "mine");
    const args = [...small, "--rules", "backprop,mem-aop", "--epochs", "1000000", "--out", "c"];
    const { code, stderr } = await run(args, { cwd: folder.path });
    assertEquals(
      [code, stderr],
      [2, `error: Cannot use --out: expected a folder that is new or empty${words}\n`],
    );
    await Deno.remove(`${folder.path}/c`, { recursive: true });
  }
});

Deno.test("compare leaves a folder that was there, and none that it made, when it is refused", async () => {
  await using folder = await temporaryFolder();
  await Deno.mkdir(`${folder.path}/mine`);
  for (const out of ["mine", "mine/new/deep"]) {
    const { code } = await run([...small, "--rules", "backprop,sparse", "--hidden", "none", "--out", out], {
      cwd: folder.path,
    });
    assert(code !== 0);
    assertEquals([...Deno.readDirSync(folder.path)].map(({ name }) => name), ["mine"]);
    assertEquals([...Deno.readDirSync(`${folder.path}/mine`)], []);
  }
});

for (
  const [args, message] of [
    [["--rules", "backprop"], "Cannot use --rules: expected two or more rules but found one"],
    [["--rules", "backprop,sprse"], "Cannot use --rules: expected one of backprop,"],
    [
      ["--rules", "backprop,dual+front-contribution"],
      "expected rules that fill different slots but found dual and front-contribution",
    ],
    [["--learning-rates", "none"], "Cannot use --learning-rates: expected one or more learning rates but found none"],
    [
      ["--rules", "backprop,mem-aop", "--sparse.sparsity", "0.5"],
      "Cannot use --sparse.sparsity: expected sparse among the rules",
    ],
    [
      ["--rules", "backprop,mem-aop", "--mem-aop.k", "65"],
      "Cannot compare mem-aop: Cannot use --mem-aop.k: expected a whole number from 1 to 64",
    ],
    [["--rules", "backprop,sparse", "--hidden", "none"], "Cannot compare sparse: "],
    [["--seed", "3"], "Cannot use --seed: expected an option of compare (did you mean --seeds?)"],
    [
      ["--validation-split", "0"],
      "Cannot use --validation-split: expected a number above 0, since validation rows are what rules are judged by but found 0",
    ],
    [["--reach", "2"], "Cannot use --reach: expected a number from 0 to 1 but found 2"],
  ] as const
) {
  Deno.test(`compare refuses ${args.join(" ")}`, async () => {
    await using folder = await temporaryFolder();
    const { code, stdout, stderr } = await run([...small, ...args], { cwd: folder.path });
    assert(code !== 0);
    assertEquals(stdout, "");
    assertEquals(stderr.trimEnd().split("\n").length, 1, stderr);
    assertStringIncludes(stderr, message);
    assertEquals([...Deno.readDirSync(folder.path)], [], "nothing is left");
  });
}
