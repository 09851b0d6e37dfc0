import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { DatabaseSync } from "node:sqlite";
import { commandLine, jsonLines, run, temporaryFolder, text } from "../helpers.ts";

const small = ["--data", "spirals", "--rows", "120", "--test-rows", "30", "--hidden", "8", "--epochs", "2", "--quiet"];

Deno.test("runs lists, shows, compares, exports and deletes what train has entered", async (t) => {
  await using folder = await temporaryFolder();
  const cwd = folder.path;
  const good = async (...args: string[]) => {
    const { code, stdout, stderr } = await run(args, { cwd });
    assertEquals([code, stderr], [0, ""], args.join(" "));
    return stdout;
  };
  assertEquals(await good("runs"), "No runs\n");
  const empty = await run(["runs", "export"], { cwd });
  assertEquals(
    [empty.code, empty.stderr],
    [2, "error: Cannot use export: expected a table with runs but found none in it\n"],
  );
  assertEquals([...Deno.readDirSync(cwd)], [], "what only reads makes no file");
  await good("train", ...small, "--out", "a", "--seed", "1");
  await good("train", ...small, "--out", "b", "--seed", "2", "--rule", "mem-aop", "--mem-aop.min-size", "0");
  await good("train", ...small, "--out", "c", "--runs", "none");

  await t.step("list", async () => {
    const text = await good("runs");
    assertEquals(text.trimEnd().split("\n").length, 3, "a head and two runs");
    assertStringIncludes(text, "  train loss  validation loss  accuracy  ");
    assertMatch(text, /finished .* spirals +mlp 8 +backprop .* 2\/2 .* a\n/);
    const sorted = jsonLines(await good("runs", "list", "--json", "--sort", "-seed"));
    assertEquals(sorted.map(({ seed, status }) => [seed, status]), [[2, "finished"], [1, "finished"]]);
    assertEquals(jsonLines(await good("runs", "--json", "--where", "rule=mem-aop")).map(({ seed }) => seed), [2]);
    assertEquals(jsonLines(await good("runs", "--json", "--limit", "1")).map(({ seed }) => seed), [2]);
  });

  await t.step("show and compare", async () => {
    const [whole] = jsonLines(await good("runs", "show", "a", "--json"));
    const lines = jsonLines(await Deno.readTextFile(`${cwd}/a/metrics.jsonl`));
    const losses = (whole!.metrics as { name: string; value: number }[]).filter(({ name }) => name === "trainLoss");
    assertEquals(losses.map(({ value }) => value), lines.slice(0, 2).map(({ trainLoss }) => trainLoss as number));
    assertEquals(whole!.testAccuracy, lines[2]!.testAccuracy);
    assertMatch(await good("runs", "show", "a"), /trainLoss +█▁ {2}[\d.]+ → [\d.]+/);
    const text = await good("runs", "compare", "a", "b");
    assertMatch(text, /rule +backprop +mem-aop/);
    assert(!/hidden/.test(text), "what is the same is left out");
  });

  await t.step("export", async () => {
    assertEquals(await good("runs", "export", "a", "--to", "a.csv"), "Wrote 1 run to a.csv\n");
    assertStringIncludes(await Deno.readTextFile(`${cwd}/a.csv`), ",trainLoss,");
    assertEquals(
      await good("runs", "export", "a", "--to", "a.csv"),
      "Wrote 1 run to a.csv, over the file that was there\n",
    );
    assertEquals(await good("runs", "export", "--format", "jsonl"), "Wrote 2 runs to runs.jsonl\n");
    await good("runs", "export", "--format", "tensorboard", "--to", "events");
    assertEquals([...Deno.readDirSync(`${cwd}/events`)].length, 2);
    const none = await run(["runs", "export", "--where", "rule=dual,seed=1", "--to", "a.csv"], { cwd });
    assertEquals([none.code, none.stdout, none.stderr], [
      2,
      "",
      "error: Cannot use --where rule=dual,seed=1: expected conditions that some run meets but found none that does\n",
    ]);
    assertStringIncludes(await Deno.readTextFile(`${cwd}/a.csv`), ",trainLoss,", "nothing is written over");
  });

  await t.step("delete and add", async () => {
    assertEquals(await good("runs", "delete", "a"), "Deleted 1 run\n");
    assertEquals(jsonLines(await good("runs", "--json")).length, 1);
    await good("runs", "add", "a", "c");
    assertEquals(jsonLines(await good("runs", "--json")).length, 3, "c was trained without an entry");
    await good("runs", "delete", "a", "--files");
    assertEquals([...Deno.readDirSync(cwd)].some(({ name }) => name === "a"), false);
  });

  await t.step("delete leaves what is not of the run", async () => {
    await good("train", ...small, "--out", "d", "--svg", "--probe");
    await Deno.writeTextFile(`${cwd}/d/thesis.txt`, "years of work");
    await Deno.writeTextFile(`${cwd}/d/best.safetensors.0123abcd.tmp`, "half");
    const place = `${await Deno.realPath(cwd)}/d`;
    const mine = await run(["runs", "delete", "d", "--files"], { cwd });
    assertEquals(mine, { code: 0, stdout: "Deleted 1 run\n", stderr: `Kept ${place}: thesis.txt is not of the run\n` });
    assertEquals([...Deno.readDirSync(`${cwd}/d`)].map(({ name }) => name), ["thesis.txt"]);
    await Deno.remove(`${cwd}/d`, { recursive: true });
    await good("train", ...small, "--out", "d");
    const [old] = jsonLines(await good("runs", "show", "d", "--json"));
    await Deno.remove(`${cwd}/d`, { recursive: true });
    await good("train", ...small, "--out", "d");
    const other = await run(["runs", "delete", old!.id as string, "--files"], { cwd });
    assertEquals([other.code, other.stderr], [0, `Kept ${place}: it holds another run\n`]);
    await good("runs", "delete", "d", "--files");
    assertEquals([...Deno.readDirSync(cwd)].some(({ name }) => name === "d"), false);
  });

  await t.step("refusals", async () => {
    for (
      const [args, message] of [
        [["lst"], "Cannot use the word lst: expected one of list, show"],
        [["show"], "Cannot use show: expected one run but found none"],
        [["show", "b", "c"], "Cannot use show: expected one run but found b c"],
        [["list", "b"], "Cannot use list: expected no run by name, since --where chooses but found b"],
        [
          ["delete", "b", "--where", "seed=2"],
          "Cannot use --where with delete: expected its options (--runs, --files)",
        ],
        [["show", "b", "--where", "seed=2"], "Cannot use --where with show: expected its options (--runs, --json)"],
        [
          ["export", "b", "--where", "seed=2"],
          "Cannot use --where: expected either --where or runs by name but found both",
        ],
        [["report", "b", "--where", "seed=2"], "Cannot use --where with report: expected its options (--runs, --svg"],
        [
          ["list", "--files"],
          "Cannot use --files with list: expected its options (--runs, --where, --sort, --limit, --json)",
        ],
        [["--svg"], "Cannot use --svg with list"],
        [["--limit", "0"], "Cannot use --limit: expected a whole number from 1 up but found 0"],
        [["--limit", "-3"], "Cannot use --limit: expected a whole number from 1 up but found -3"],
        [["--limit", "1.5"], "Cannot use --limit: expected a whole number from 1 up but found 1.5"],
        [["--where", "accuracy>abc"], "Cannot use --where accuracy>abc: expected a number after > but found abc"],
        [["--where", "seed="], "Cannot use --where seed=: expected a number after = but found nothing"],
        [["--where", "rows>many"], "Cannot use --where rows>many: expected a number after > but found many"],
        [
          ["--runs", "new/x.db"],
          "Cannot use the table of runs new/x.db: expected a file that train or runs add has made but found nothing there",
        ],
        [["compare", "b"], "Cannot use compare: expected two or more runs but found only b"],
        [["show", "nothing"], "Cannot use the run nothing: expected an identity or a folder"],
        [["export", "--format", "xml"], "Cannot use --format: expected one of csv, jsonl, tensorboard but found xml"],
        [["push"], "Cannot use push: expected --mlflow URL, or LEANPROP_MLFLOW but found no server"],
        [["push", "--mlflow", "nowhere"], "Cannot use --mlflow: expected the URL of an MLflow server"],
        [["add", "nowhere"], "/nowhere/config.json: expected a JSON file but found nothing there"],
      ] as const
    ) {
      const { code, stderr } = await run(["runs", ...args], { cwd });
      assert(code !== 0, args.join(" "));
      assertStringIncludes(stderr, message);
      assertEquals(stderr.trimEnd().split("\n").length, 1, stderr);
    }
    assertEquals(jsonLines(await good("runs", "--json")).length, 2, "what is refused changes nothing");
    assert(![...Deno.readDirSync(cwd)].some(({ name }) => name === "new"), "what only reads makes no file");
  });

  await t.step("only add makes a table", async () => {
    await good("runs", "add", "c", "--runs", "new/x.db");
    assertEquals(jsonLines(await good("runs", "--runs", "new/x.db", "--json")).length, 1);
  });
});

Deno.test("train refuses a table of runs that it cannot use before it makes anything", async () => {
  await using folder = await temporaryFolder();
  {
    using database = new DatabaseSync(`${folder.path}/new.db`);
    database.exec("PRAGMA user_version = 2");
  }
  const { code, stderr } = await run(["train", ...small, "--runs", "new.db"], { cwd: folder.path });
  assertEquals(code, 1);
  assertEquals(
    stderr,
    "error: Cannot use the table of runs new.db: expected version 1 (--runs FILE names another) but found 2, made by a newer leanprop\n",
  );
  assertEquals([...Deno.readDirSync(folder.path)].map(({ name }) => name), ["new.db"]);
});

Deno.test("a table of runs that cannot be made is refused in one sentence that says what to try", async () => {
  await using folder = await temporaryFolder();
  const cwd = folder.path;
  await Deno.writeTextFile(`${cwd}/file`, "notes");
  await Deno.mkdir(`${cwd}/folder`);
  const long = "a".repeat(300);
  const made = "expected a file that can be opened or made (--runs FILE names another) but found";
  for (
    const [path, words] of [
      ["file/deep/x.db", "expected a file in a folder (--runs FILE names another) but found a file where its folder"],
      ["folder", `${made} one that cannot, such as a folder`],
      [`${long}/x.db`, `${made} a refusal: `],
    ] as const
  ) {
    const { code, stderr } = await run(["train", ...small, "--runs", path, "--out", "a"], { cwd });
    assertEquals(code, 1);
    assertStringIncludes(stderr, `error: Cannot use the table of runs ${path}: ${words}`);
    assertEquals(stderr.trimEnd().split("\n").length, 1, stderr);
  }
  assertEquals([...Deno.readDirSync(cwd)].map(({ name }) => name).sort(), ["file", "folder"]);
});

Deno.test({
  name: "a disk that has no room for the table of runs is told of in one sentence",
  ignore: Deno.build.os === "windows",
  fn: async () => {
    await using folder = await temporaryFolder();
    // A limit on the size of files stands for a full disk: SQLite's words for both are "disk I/O error".
    const args = ["-c", "trap '' XFSZ; ulimit -f 8; exec \"$@\"", "bash", ...commandLine(["train", ...small])];
    const limited = await new Deno.Command("bash", { args, cwd: folder.path, stdin: "null" }).output();
    assertEquals(text(limited), {
      code: 1,
      stdout: "",
      stderr: "error: Cannot use the table of runs runs/runs.db: expected a disk that takes what is written " +
        "(--runs FILE names another) but found a full one, or one that fails\n",
    });
  },
});

Deno.test("none, in --runs or LEANPROP_RUNS, enters nothing and makes no file", async () => {
  await using folder = await temporaryFolder();
  const cwd = folder.path;
  const environment = { cwd, env: { LEANPROP_RUNS: "none" } };
  assertEquals((await run(["train", ...small, "--out", "a", "--runs", "none"], { cwd })).code, 0);
  assertEquals((await run(["train", ...small, "--out", "b"], environment)).code, 0);
  const upload = await run(["train", ...small, "--out", "c", "--mlflow", "http://127.0.0.1:9"], environment);
  assertEquals(
    [upload.code, upload.stderr],
    [2, "error: Cannot use --mlflow: expected a table of runs beside it but found LEANPROP_RUNS=none\n"],
  );
  const listed = await run(["runs"], environment);
  assertEquals(
    [listed.code, listed.stderr],
    [2, "error: Cannot use --runs: expected the file of a table of runs but found none\n"],
  );
  assertEquals([...Deno.readDirSync(cwd)].map(({ name }) => name).sort(), ["a", "b"]);
});

Deno.test("a run that fails is entered as failed, with the sentence", async () => {
  await using folder = await temporaryFolder();
  const args = ["train", ...small, "--optimizer", "sgd", "--learning-rate", "1e30", "--out", "a"];
  assertEquals((await run(args, { cwd: folder.path })).code, 1);
  const [row] = jsonLines((await run(["runs", "--json"], { cwd: folder.path })).stdout);
  assertEquals(row!.status, "failed");
  assertMatch(row!.message as string, /^The loss is not finite at step \d+/);
});

Deno.test("a run goes on when its table breaks, says so once, and is entered later", async () => {
  await using folder = await temporaryFolder();
  const place = { cwd: folder.path };
  assertEquals((await run(["train", ...small, "--out", "a"], place)).code, 0);
  {
    // The rows cannot be changed, as on a disk that has just become full.
    using database = new DatabaseSync(`${folder.path}/runs/runs.db`);
    database.exec("CREATE TRIGGER t BEFORE INSERT ON metrics BEGIN SELECT RAISE(ABORT, 'no more'); END");
  }
  const { code, stderr } = await run(["train", ...small, "--out", "b"], place);
  assertEquals(code, 0);
  assertEquals(
    stderr,
    "Cannot use the table of runs runs/runs.db: expected statements to be carried out but found no more; the run goes on, and deno task runs add FOLDER enters it later\n",
  );
  {
    using database = new DatabaseSync(`${folder.path}/runs/runs.db`);
    database.exec("DROP TRIGGER t");
  }
  assertEquals((await run(["runs", "add", "b"], place)).code, 0);
  const rows = jsonLines((await run(["runs", "--json"], place)).stdout);
  assertEquals(rows.map(({ status, epoch }) => [status, epoch]), [["finished", 2], ["finished", 2]]);
});

Deno.test("train --probe adds figures to the lines of epochs and to the table", async () => {
  await using folder = await temporaryFolder();
  const place = { cwd: folder.path };
  const { code, stderr } = await run(["train", ...small, "--probe", "--rule", "mem-aop", "--out", "a"], place);
  assertEquals(code, 0, stderr);
  const [epoch] = jsonLines(await Deno.readTextFile(`${folder.path}/a/metrics.jsonl`));
  const probes = epoch!.probes as Record<string, number>;
  assert(probes["probe.cosine"]! > 0.9, String(probes["probe.cosine"]));
  const [whole] = jsonLines((await run(["runs", "show", "a", "--json"], place)).stdout);
  const kept = (whole!.metrics as { name: string; value: number }[]).filter(({ name }) => name === "probe.cosine");
  assertEquals(kept.length, 2);
  assertEquals(kept[0]!.value, probes["probe.cosine"]);
});
