import { assert, assertEquals, assertMatch, assertStringIncludes, assertThrows } from "@std/assert";
import { DatabaseSync } from "node:sqlite";
import { RunTableError, UsageError } from "../../../src/cli/errors.ts";
import { filterRuns, findRun, sortRuns } from "../../../src/cli/run_table/choose.ts";
import { inWords, openDatabase } from "../../../src/cli/run_table/database.ts";
import { listText, showText } from "../../../src/cli/run_table/show.ts";
import { type MetricRow, type RunRow, RunTable } from "../../../src/cli/run_table/table.ts";
import { temporaryFolder } from "../helpers.ts";
import { done, epoch, record } from "./fixtures.ts";

Deno.test("RunTable keeps rows and figures, the best accuracy, and the end", async () => {
  await using folder = await temporaryFolder();
  const path = `${folder.path}/deep/er/runs.db`;
  {
    using table = new RunTable(path);
    table.enter({ folder: "/runs/a", record: record("a"), events: [], status: "running" });
    table.add("a", epoch(1, 2, 0.5));
    table.add("a", epoch(2, 1, 0.9));
    table.add("a", epoch(3, 1.5, 0.8));
    table.add("a", done(0.75));
  }
  using table = new RunTable(path);
  const [run, ...others] = table.runs();
  assertEquals(others, []);
  const { status, model, rule, epoch: last, step, trainLoss, accuracy, bestAccuracy, testAccuracy } = run!;
  assertEquals({ status, model, rule, last, step, trainLoss, accuracy, bestAccuracy, testAccuracy }, {
    status: "finished",
    model: "mlp 16,8",
    rule: "backprop",
    last: 3,
    step: 27,
    trainLoss: 1.5,
    accuracy: 0.8,
    bestAccuracy: 0.9,
    testAccuracy: 0.75,
  });
  const losses = table.metrics("a").filter(({ name }) => name === "trainLoss");
  assertEquals(losses.map(({ step, value }) => [step, value]), [[9, 2], [18, 1], [27, 1.5]]);
  table.remove("a");
  assertEquals([table.runs(), table.metrics("a")], [[], []]);
});

Deno.test("RunTable has the figures of the network that early stopping keeps, not of the last one", async () => {
  await using folder = await temporaryFolder();
  using table = new RunTable(`${folder.path}/runs.db`);
  const events = [epoch(1, 2, 0.5), epoch(2, 1, 0.9), epoch(3, 1.5, 0.8), done(0.75, 2)];
  table.enter({ folder: "/runs/b", record: record("b"), events, status: "finished" });
  table.enter({ folder: "/runs/a", record: record("a", { seed: 1 }), events: [], status: "running" });
  for (const event of events) table.add("a", event);
  for (const { epoch, trainLoss, validationLoss, accuracy } of table.runs()) {
    assertEquals([epoch, trainLoss, validationLoss, accuracy], [3, 1, 0.5, 0.9]);
  }
  assertEquals(filterRuns(table.runs(), ["accuracy>0.85"]).length, 2);
});

Deno.test("RunTable forgets figures after the checkpoint when a run goes on", async () => {
  await using folder = await temporaryFolder();
  using table = new RunTable(`${folder.path}/runs.db`);
  table.enter({ folder: "/runs/a", record: record("a"), events: [], status: "running" });
  for (const number of [1, 2, 3]) table.add("a", epoch(number, 1 / number, 1 - 1 / number));
  table.mark("a", "interrupted");
  table.enter({ folder: "/runs/a", record: record("a"), events: [epoch(1, 1, 0)], status: "running" });
  const [run] = table.runs();
  assertEquals([run!.status, run!.epoch, run!.bestAccuracy], ["running", 1, 0]);
  assertEquals([...new Set(table.metrics("a").map(({ step }) => step))], [9]);
});

Deno.test("a run that has ended is not marked again", async () => {
  await using folder = await temporaryFolder();
  using table = new RunTable(`${folder.path}/runs.db`);
  table.enter({ folder: "/runs/a", record: record("a"), events: [done(1)], status: "finished" });
  table.mark("a", "interrupted");
  assertEquals(table.runs()[0]!.status, "finished");
});

Deno.test("processes that write at once lose nothing", async () => {
  await using folder = await temporaryFolder();
  const script = `
    import { RunTable } from ${JSON.stringify(new URL("../../../src/cli/run_table/table.ts", import.meta.url).href)};
    import { epoch, record } from ${JSON.stringify(new URL("./fixtures.ts", import.meta.url).href)};
    using table = new RunTable("runs.db");
    for (let run = 0; run < 12; run++) {
      const id = Deno.args[0] + run;
      table.enter({ folder: id, record: record(id), events: [], status: "running" });
      for (let n = 1; n <= 10; n++) table.add(id, epoch(n, n, 0.5));
    }`;
  await Deno.writeTextFile(`${folder.path}/write.ts`, script);
  const config = new URL("../../../deno.json", import.meta.url).pathname;
  const args = ["run", "--quiet", "--config", config, "--allow-read", "--allow-write", "--allow-env", "write.ts"];
  const writers = await Promise.all(
    ["a", "b", "c"].map((name) =>
      new Deno.Command(Deno.execPath(), { args: [...args, name], cwd: folder.path, stdin: "null" }).output()
    ),
  );
  for (const { success, stderr } of writers) assert(success, new TextDecoder().decode(stderr));
  using table = new RunTable(`${folder.path}/runs.db`);
  const runs = table.runs();
  assertEquals(runs.length, 36);
  for (const { id } of runs) {
    assertEquals(table.metrics(id).filter(({ name }) => name === "trainLoss").length, 10, id);
  }
});

Deno.test("a table that cannot be used is refused in one sentence", async (t) => {
  await using folder = await temporaryFolder();
  const path = `${folder.path}/runs.db`;
  const sentence = (why: string) => `Cannot use the table of runs ${path}: ${why}`;

  await t.step("made by a newer version", () => {
    new RunTable(path)[Symbol.dispose]();
    using database = new DatabaseSync(path);
    database.exec("PRAGMA user_version = 7");
    const fault = assertThrows(() => new RunTable(path), RunTableError);
    assertEquals(
      fault.message,
      sentence("expected version 1 (--runs FILE names another) but found 7, made by a newer leanprop"),
    );
    database.exec("PRAGMA user_version = 1");
  });

  await t.step("locked by another process", () => {
    using other = new DatabaseSync(path);
    other.exec("BEGIN EXCLUSIVE");
    using database = openDatabase(path, 50);
    const fault = assertThrows(() => inWords(path, () => database.exec("BEGIN IMMEDIATE")), RunTableError);
    assertEquals(
      fault.message,
      sentence("expected a turn to write (try again later) but found it locked by another process"),
    );
  });

  await t.step("on a full disk", () => {
    using database = openDatabase(path);
    database.exec("PRAGMA max_page_count = 10");
    const fault = assertThrows(() =>
      inWords(path, () => {
        database.exec("CREATE TABLE big (x)");
        database.prepare("INSERT INTO big VALUES (zeroblob(1000000))").run();
      }), RunTableError);
    assertEquals(fault.message, sentence("expected room on its disk (--runs FILE names another) but found none left"));
  });

  await t.step("no SQLite file, or no place for one", async () => {
    await Deno.writeTextFile(
      `${folder.path}/notes`,
      "these are notes, and long enough to be taken for pages".repeat(50),
    );
    const notes = assertThrows(() => new RunTable(`${folder.path}/notes`), RunTableError);
    assertStringIncludes(notes.message, "expected an SQLite file (--runs FILE names another) but found another file");
    const inside = assertThrows(() => new RunTable(`${folder.path}/notes/runs.db`), RunTableError);
    assertStringIncludes(inside.message, "but found a file where its folder should be");
  });
});

Deno.test("filterRuns, sortRuns and findRun know columns and options", async (t) => {
  await using folder = await temporaryFolder();
  using table = new RunTable(`${folder.path}/runs.db`);
  const all = [
    { id: "aa11", rule: "backprop", seed: 1, rate: 0.1, best: 0.9 },
    { id: "aa22", rule: "sparse", seed: 2, rate: 0.2, best: 0.95 },
    { id: "bb33", rule: "sparse+mem-aop", seed: 3, rate: 0.3 },
  ];
  for (const { id, best, ...changes } of all) {
    const events = best === undefined ? [] : [epoch(1, 1, best)];
    table.enter({ folder: `/runs/${id}-folder`, record: record(id, changes), events, status: "running" });
  }
  const runs = table.runs();
  const ids = (rows: readonly { id: string }[]) => rows.map(({ id }) => id);

  await t.step("conditions", () => {
    assertEquals(ids(filterRuns(runs, ["rule=sparse"])), ["aa22"]);
    assertEquals(ids(filterRuns(runs, ["rule~sparse"])), ["aa22", "bb33"]);
    assertEquals(ids(filterRuns(runs, ["learning-rate>=0.2", "seed<3"])), ["aa22"]);
    assertEquals(ids(filterRuns(runs, ["accuracy!=0.9"])), ["aa22", "bb33"]);
    assertEquals(ids(filterRuns(runs, ["accuracy>0.9"])), ["aa22"]);
    assertEquals(ids(filterRuns(runs, ["hidden=16", "8", "seed=2"])), ["aa22"], "--where hidden=16,8,seed=2");
    assertEquals(ids(filterRuns(runs, ["hidden=[16", "8]"])).length, 3);
    assertEquals(ids(filterRuns(runs, ["hidden!=16", "8"])), []);
    assertEquals(ids(filterRuns(runs, ["created>2026", "created<2027"])).length, 3);
  });

  await t.step("order", () => {
    assertEquals(ids(sortRuns(runs, "-learning-rate")), ["bb33", "aa22", "aa11"]);
    assertEquals(ids(sortRuns(runs, "accuracy")), ["aa11", "aa22", "bb33"], "the run without accuracy comes last");
    assertEquals(ids(sortRuns(runs, "-accuracy")), ["aa22", "aa11", "bb33"]);
  });

  await t.step("headings of the list stand for their columns", () => {
    const heads = listText(runs).split("\n")[0]!.split(/ {2,}/).map((head) => head.replace(" ", "-"));
    assertEquals(heads.length, 14);
    for (const head of heads) assertEquals(sortRuns(runs, head).length, 3, head);
    assertEquals(ids(sortRuns(runs, "-rate")), ["bb33", "aa22", "aa11"]);
    assertEquals(ids(filterRuns(runs, ["rate>0.15", "begun>2026", "train-loss<100"])), ["aa22"]);
  });

  await t.step("the document lists all names of columns", async () => {
    const { message } = assertThrows(() => sortRuns(runs, "?"), UsageError);
    const names = /one of (.*), or an option/.exec(message)![1]!.split(", ");
    const text = await Deno.readTextFile(new URL("../../../docs/runs.md", import.meta.url));
    assertEquals(names.filter((name) => !text.includes(`\`${name}\``)), []);
  });

  await t.step("names", () => {
    assertEquals(findRun(runs, "b").id, "bb33");
    assertEquals(findRun(runs, "/runs/aa22-folder").id, "aa22");
    assertEquals(findRun(runs, "aa11-folder").id, "aa11");
  });

  await t.step("refusals", () => {
    for (
      const [work, message] of [
        [() => filterRuns(runs, ["rule"]), "Cannot use --where: expected conditions such as rule=sparse or"],
        [() => filterRuns(runs, ["rul=sparse"]), ", or an option of train (did you mean rule?) but found rul"],
        [
          () => filterRuns(runs, ["rule=sparse", "8"]),
          "Cannot use --where: expected conditions such as rule=sparse or",
        ],
        [
          () => filterRuns(runs, ["rule=sparse accuracy>0.5"]),
          "Cannot use --where rule=sparse accuracy>0.5: expected commas between conditions but found a blank before accuracy",
        ],
        [
          () => filterRuns(runs, ["rule>3"]),
          "Cannot use --where rule>3: expected =, != or ~ after rule, which is no number but found >",
        ],
        [() => filterRuns(runs, ["hidden>8"]), "expected =, != or ~ after hidden, which is no number but found >"],
        [() => sortRuns(runs, "-loss"), "Cannot use --sort: expected one of id, folder, created, "],
        [() => sortRuns(runs, "loss"), ", run, begun, rate, train-loss, validation-loss, test, or an option of train"],
        [() => findRun(runs, "cc"), "Cannot use the run cc: expected an identity or a folder of deno task runs"],
        [() => findRun(runs, "aa"), "expected letters that stand for one run but found aa11, aa22"],
      ] as const
    ) assertStringIncludes(assertThrows(work, UsageError).message, message);
  });
});

Deno.test("listText() has identities at the left, also those that look like numbers", async () => {
  await using folder = await temporaryFolder();
  using table = new RunTable(`${folder.path}/runs.db`);
  table.enter({ folder: "/runs/7", record: record("5e34"), events: [done(1)], status: "finished" });
  assertMatch(listText(table.runs()), /^run {3,}status .*\n5e34 {2}finished /);
  table.enter({ folder: "/runs/7", record: record("12345678901"), events: [done(1)], status: "finished" });
  assertMatch(listText(table.runs()), /\n12345678 {2}finished .*\n5e34 {6}finished /);
});

Deno.test("showText() draws no curve of what changes by rounding only", () => {
  const row = { options: "{}", machine: "{}" } as RunRow;
  const curve = (name: string, values: readonly number[]) =>
    values.map((value, index): MetricRow => ({
      run: "a",
      step: index,
      name,
      value,
      epoch: index,
      seconds: 0,
      sent: 0,
    }));
  const metrics = [
    ...curve("probe.cosine", [1, 1 - 2e-16, 1 + 2e-16]),
    ...curve("probe.normRatio", [0.5, 1]),
    ...curve("trainLoss", [2e-7, 1e-7]),
  ];
  const text = showText({ row, metrics });
  assertMatch(text, /probe\.cosine {5}1\n/);
  assertMatch(text, /probe\.normRatio {2}▁█ {2}0\.5 → 1\n/);
  assertMatch(text, /trainLoss {8}█▁ {2}2\.00e-7 → 1\.00e-7\n/);
});
