import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { inflateSync } from "node:zlib";
import { drawLines, standAlone } from "../../src/cli/report/charts.ts";
import { encodePng } from "../../src/cli/report/png.ts";
import { sparkline } from "../../src/cli/sparkline.ts";
import { jsonLines, run, start, temporaryFolder } from "./helpers.ts";

const small = ["--data", "spirals", "--rows", "120", "--test-rows", "60", "--hidden", "8", "--quiet"];

/** What no page that works offline may have. */
const ELSEWHERE = /<script|<link|https?:\/\/(?!www\.w3\.org)|@import|url\(/;

Deno.test("train writes a report of one file: curves, confusions, predictions, configuration, machine", async () => {
  await using folder = await temporaryFolder();
  const args = ["train", "--data", "glyphs", "--rows", "300", "--test-rows", "100", "--hidden", "16", "--epochs", "3"];
  const { code, stdout, stderr } = await run([...args, "--quiet", "--probe", "--out", "a"], { cwd: folder.path });
  assertEquals([code, stderr], [0, ""]);
  assertStringIncludes(stdout, "Report      a/report.html\n");
  assertMatch(
    stdout,
    /\nTraining loss {8}█[▁-█]▁ {2}[\d.]+ → [\d.]+\nValidation loss {6}[▁-█]{3} {2}[\d.]+ → [\d.]+\n/,
  );
  assertMatch(stdout, /\nValidation accuracy {2}[▁-█]{3} {2}[\d.]+ % → [\d.]+ %\n/);
  const page = await Deno.readTextFile(`${folder.path}/a/report.html`);
  for (
    const title of ["Loss over epochs", "Loss over time", "Accuracy over epochs", "Accuracy over time", "Learning rate"]
  ) {
    assertStringIncludes(page, `>${title}</text>`);
  }
  assertStringIncludes(page, ">Throughput</text>");
  for (
    const heading of [
      "Confusions on the test rows",
      "Predictions on the test rows",
      "Network",
      "Configuration",
      "Machine",
    ]
  ) {
    assertStringIncludes(page, `<h2>${heading}</h2>`);
  }
  assertEquals(page.split("<img ").length - 1 >= 10, true);
  assert(!ELSEWHERE.test(page), "nothing from elsewhere");
  assertStringIncludes(page, "prefers-color-scheme: dark");
});

Deno.test("a report of 100 epochs with probes is below 1 MB", async () => {
  await using folder = await temporaryFolder();
  const args = ["train", "--data", "glyphs", "--rows", "200", "--test-rows", "300", "--epochs", "100", "--probe"];
  const more = ["--rule", "mem-aop", "--mem-aop.min-size", "0", "--hidden", "16,16", "--quiet", "--out", "a"];
  const { code, stderr } = await run([...args, ...more], { cwd: folder.path });
  assertEquals([code, stderr], [0, ""]);
  const page = await Deno.readTextFile(`${folder.path}/a/report.html`);
  assert(page.length < 1e6, `${page.length} characters`);
  for (const title of ["cosine", "normRatio", "squaredError", "products.keptShare"]) {
    assertStringIncludes(page, `>Probe: ${title}</text>`);
  }
});

Deno.test("--svg writes the charts too, and --no-report writes nothing", async () => {
  await using folder = await temporaryFolder();
  const names = (out: string) => [...Deno.readDirSync(`${folder.path}/${out}`)].map(({ name }) => name).sort();
  // Epochs that take a millisecond at least: without time there is no throughput.
  const long = ["train", ...small, "--rows", "8000", "--hidden", "256,128", "--epochs", "2", "--out", "a", "--svg"];
  assertEquals((await run(long, { cwd: folder.path })).code, 0);
  const svgs = names("a").filter((name) => name.endsWith(".svg"));
  assertEquals(svgs, [
    "accuracy-over-epoch.svg",
    "accuracy-over-seconds.svg",
    "confusion.svg",
    "learning-rate.svg",
    "loss-over-epoch.svg",
    "loss-over-seconds.svg",
    "throughput.svg",
  ]);
  for (const name of svgs) {
    assert(!(await Deno.readTextFile(`${folder.path}/a/${name}`)).includes("var("), "variables are for pages");
  }
  const { code, stdout } = await run(["train", ...small, "--epochs", "2", "--out", "b", "--no-report"], {
    cwd: folder.path,
  });
  assertEquals(code, 0);
  assert(!stdout.includes("Report"));
  assertEquals(names("b"), ["checkpoint.safetensors", "config.json", "metrics.jsonl"]);
  const refused = await run(["train", ...small, "--no-report", "--svg", "--out", "c"], { cwd: folder.path });
  assertEquals([refused.code, refused.stderr.includes("Cannot use --svg: expected a report beside it")], [2, true]);
  assert(![...Deno.readDirSync(folder.path)].some(({ name }) => name === "c"), "refused before anything is made");
});

Deno.test("a report that cannot be written is complained of below the summary of the run", async () => {
  await using folder = await temporaryFolder();
  const at = { cwd: folder.path };
  const { code, stdout } = await run(["train", ...small, "--epochs", "2", "--out", "a"], at);
  assertEquals(code, 0);
  await Deno.remove(`${folder.path}/a/report.html`);
  await Deno.mkdir(`${folder.path}/a/report.html`);
  const again = await run(["train", "--resume", "a", "--quiet"], at);
  assertEquals([again.code, again.stdout], [1, stdout.replace("Report      a/report.html\n", "")]);
  assertMatch(again.stderr, /^error: Cannot write a\/report\.html: .*\n$/);
  const [row] = jsonLines((await run(["runs", "--json"], at)).stdout);
  assertEquals(row!.status, "finished");
});

Deno.test("a report of values has a table of predictions, and names from the data are text", async () => {
  await using folder = await temporaryFolder();
  const lines = Array.from({ length: 60 }, (_, row) => `${row / 60},${(row % 7) / 7},${row / 30}`);
  await Deno.writeTextFile(`${folder.path}/x.csv`, ["a,b,<b>price & co</b>", ...lines].join("\n"));
  const args = ["train", "--data", "csv:x.csv", "--task", "regression", "--test-fraction", "0.2", "--hidden", "8"];
  const { code, stderr } = await run([...args, "--epochs", "1", "--quiet", "--out", "a"], { cwd: folder.path });
  assertEquals([code, stderr], [0, ""]);
  const page = await Deno.readTextFile(`${folder.path}/a/report.html`);
  assertStringIncludes(page, "&lt;b&gt;price &amp; co&lt;/b&gt;");
  assert(!page.includes("<b>price"));
  assertStringIncludes(page, "<h2>Predictions on the test rows</h2>");
  assert(!page.includes("Confusions"));
});

Deno.test("encodePng() writes what it was given", () => {
  const bytes = Uint8Array.from({ length: 2 * 3 * 3 }, (_, index) => index * 14);
  const file = encodePng({ height: 2, width: 3, channels: 3, bytes });
  const view = new DataView(file.buffer);
  assertEquals([...file.subarray(0, 8)], [137, 80, 78, 71, 13, 10, 26, 10]);
  assertEquals([view.getUint32(16), view.getUint32(20), file[24], file[25]], [3, 2, 8, 2]);
  const size = view.getUint32(33);
  const lines = new Uint8Array(inflateSync(file.subarray(41, 41 + size)));
  assertEquals([...lines.subarray(1, 10), ...lines.subarray(11)], [...bytes]);
  assertEquals([lines.length, lines[0], lines[10]], [20, 0, 0]);
  // The last chunk is the same in every PNG.
  assertEquals([...file.subarray(-12)], [0, 0, 0, 0, 73, 69, 78, 68, 174, 66, 96, 130]);
});

Deno.test("drawLines() has every name whole in the legend, in as many columns as the chart is wide", async () => {
  const draw = async (names: readonly string[]) =>
    await drawLines({
      title: "t",
      x: "epoch",
      y: "y",
      series: names.map((name, at) => ({ name, points: [[1, at + 1]] })),
    });
  const width = (svg: string) => Number(/ width="(\d+)"/.exec(svg)![1]);
  const long = ["backprop", "mem-aop", "sparse", "decorrelated+sparse+mem-aop"];
  const svg = await draw(long);
  for (const name of long) assertStringIncludes(svg, `>${name}</text>`);
  assertEquals(width(svg), width(await draw(["a", "b", "c", "d"])));
});

Deno.test("drawLines() thins long curves and leaves out what is not finite", async () => {
  const points = Array.from({ length: 20_000 }, (_, x) => [x, x === 7 ? NaN : x ** 2] as const);
  const svg = await drawLines({ title: "t", x: "epoch", y: "y", series: [{ name: "a", points }] });
  assert(svg.length < 40_000, `${svg.length} characters`);
  assert(!svg.includes("NaN"));
  assertMatch(standAlone(svg), /stroke="#0072b2"/);
});

Deno.test("sparkline() goes from the smallest to the largest value", () => {
  assertEquals(sparkline([0, 1, 2, 3, 4, 5, 6, 7]), "▁▂▃▄▅▆▇█");
  assertEquals(sparkline([5, 5, 5]), "▁▁▁");
  assertEquals(sparkline([1, NaN, 0]), "█ ▁");
  assertEquals(sparkline(Array.from({ length: 1000 }, (_, index) => index)).length, 40);
  assertEquals(sparkline([]), "");
});

Deno.test("probes of front-contribution say how far it is from back-propagation", async () => {
  await using folder = await temporaryFolder();
  const args = [
    "train",
    "--rule",
    "front-contribution",
    "--rows",
    "40",
    "--epochs",
    "3",
    "--probe",
    "--quiet",
    "--out",
    "a",
  ];
  const { code, stderr } = await run([...args, "--front-contribution.force"], { cwd: folder.path });
  assertEquals([code, stderr], [0, ""]);
  const lines = (await Deno.readTextFile(`${folder.path}/a/metrics.jsonl`)).trimEnd().split("\n").slice(0, 3);
  for (const line of lines) {
    const { probes } = JSON.parse(line);
    const difference = probes["probe.largestDifference"];
    assert(difference > 0 && difference < 1e-3, String(difference));
  }
});

Deno.test("runs report writes the report of a run that was killed, from its folder and with its data where they are", async () => {
  await using folder = await temporaryFolder();
  const cwd = folder.path;
  const rows = Array.from({ length: 200 }, (_, row) => `${row % 7},${row % 3},${row % 2 === 0 ? "even" : "odd"}`);
  await Deno.writeTextFile(`${cwd}/rows.csv`, `a,b,kind\n${rows.join("\n")}\n`);
  const args = ["--data", "csv:rows.csv", "--task", "classification", "--hidden", "8", "--epochs", "1000000", "--json"];
  const child = start(["train", ...args, "--out", "a"], { cwd });
  const reader = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
  for (let text = ""; text.split("\n").length < 4;) text += (await reader.read()).value;
  child.kill("SIGKILL");
  await Promise.all([reader.cancel(), child.stderr.cancel(), child.status]);
  assertEquals([...Deno.readDirSync(`${cwd}/a`)].some(({ name }) => name === "report.html"), false);

  const whole = await run(["runs", "report", "a"], { cwd, env: { LEANPROP_RUNS: "none" } });
  assertEquals([whole.code, whole.stdout, whole.stderr], [0, "Wrote a/report.html\n", ""]);
  const page = await Deno.readTextFile(`${cwd}/a/report.html`);
  assertMatch(
    page,
    /\d+ of 1000000 epochs in [\d.]+ s of training, training loss [\d.]+, not finished: \d+ steps so far/,
  );
  for (
    const part of ["Loss over epochs</text>", "Confusions on the validation rows", "Predictions on the validation"]
  ) {
    assertStringIncludes(page, part);
  }
  assert(!ELSEWHERE.test(page), "nothing from elsewhere");

  // By the beginning of its identity, and without the data.
  await Deno.writeTextFile(`${cwd}/rows.csv`, "a,b,kind\n1,2,even\n3,4,odd\n");
  const { id } = JSON.parse(await Deno.readTextFile(`${cwd}/a/config.json`));
  const left = await run(["runs", "report", id.slice(0, 8)], { cwd });
  assertEquals([left.code, left.stdout.startsWith("Kept ")], [0, true], left.stdout);
  assertStringIncludes(left.stderr, "(--force writes it): the data of the run is not what it was");
  assertEquals(await Deno.readTextFile(`${cwd}/a/report.html`), page, "a fuller report stays");
  const bare = await run(["runs", "report", id.slice(0, 8), "--svg", "--force"], { cwd });
  assertEquals(bare.code, 0, bare.stderr);
  assertStringIncludes(bare.stderr, "It has no confusions and predictions: the data of the run is not what it was");
  const text = await Deno.readTextFile(`${cwd}/a/report.html`);
  assertStringIncludes(text, "Loss over epochs</text>");
  assert(!text.includes("Confusions on the"));
  assert([...Deno.readDirSync(`${cwd}/a`)].some(({ name }) => name.endsWith(".svg")));

  for (
    const [words, message] of [
      [[], "Cannot use report: expected one or more runs, or their folders but found none"],
      [
        ["nowhere"],
        "Cannot use the run nowhere: expected an identity or a folder of deno task runs but found none like it",
      ],
    ] as const
  ) {
    const refused = await run(["runs", "report", ...words], { cwd });
    assertEquals([refused.code, refused.stderr], [2, `error: ${message}\n`]);
  }
});
