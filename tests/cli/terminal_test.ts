/** Readers that go away, terminals that close, and disks that are full: the work ends in good order. */

import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { commandLine, jsonLines, run, start, temporaryFolder } from "./helpers.ts";

const small = ["--data", "spirals", "--rows", "240", "--test-rows", "30", "--hidden", "16", "--threads", "1"];
const comparison = ["compare", ...small, "--rules", "backprop,mem-aop", "--learning-rates", "0.01", "--epochs", "2"];

/** What a folder holds. */
const names = (folder: string) => [...Deno.readDirSync(folder)].map(({ name }) => name).sort();

/** Waits until a file is there; gives its text. */
async function appears(path: string): Promise<string> {
  for (;;) {
    const text = await Deno.readTextFile(path).catch(() => "");
    if (text !== "") return text;
    await new Promise((done) => setTimeout(done, 20));
  }
}

Deno.test("train and compare go on to their end, with all files, where nobody reads what they say", async () => {
  await using folder = await temporaryFolder();
  const cwd = folder.path;
  for (
    const args of [["train", ...small, "--epochs", "3", "--json", "--out", "a"], [...comparison, "--out", "b"]]
  ) {
    const child = start(args, { cwd });
    await Promise.all([child.stdout.cancel(), child.stderr.cancel()]);
    assertEquals((await child.status).code, 0, args[0]);
  }
  const events = jsonLines(await Deno.readTextFile(`${cwd}/a/metrics.jsonl`)).map(({ event }) => event);
  assertEquals(events, ["epoch", "epoch", "epoch", "done"]);
  assertEquals(names(`${cwd}/a`), ["checkpoint.safetensors", "config.json", "metrics.jsonl", "report.html"]);
  assertEquals(names(`${cwd}/b`), ["compare.csv", "compare.html", "compare.json"]);
  assertEquals(jsonLines((await run(["runs", "--json"], { cwd })).stdout).map(({ status }) => status), ["finished"]);
});

Deno.test({
  name: "a standard output that is full is told of at the end, and costs no file",
  ignore: Deno.build.os !== "linux",
  fn: async () => {
    await using folder = await temporaryFolder();
    const { code, stderr } = await new Deno.Command("bash", {
      args: ["-c", 'exec "$@" > /dev/full', "bash", ...commandLine([...comparison, "--quiet", "--out", "b"])],
      cwd: folder.path,
      env: { NO_COLOR: "1" },
      stdin: "null",
    }).output();
    assertEquals(
      [code, new TextDecoder().decode(stderr)],
      [1, "error: Cannot write to standard output: the disk is full\n"],
    );
    assertEquals(names(`${folder.path}/b`), ["compare.csv", "compare.html", "compare.json"]);
  },
});

/** Whether there are programs that give others a terminal, and that take it from them. */
const terminals = Deno.build.os === "linux" &&
  await Promise.all(["script", "setsid"].map((program) => new Deno.Command(program, { args: ["--version"] }).output()))
    .then((found) => found.every(({ success }) => success), () => false);

/** Starts a command on a terminal, which closes when `opened` is there; gives the command's exit code. */
async function closeTerminal(
  args: readonly string[],
  { cwd, opened, prefix = "" }: { readonly cwd: string; readonly opened: string; readonly prefix?: string },
): Promise<number> {
  // The outer shell dies with its terminal, which is what sends the signal on; the inner one catches it and tells how it ended.
  const words = commandLine(args).map((word) => `'${word}'`).join(" ");
  const script = `(trap : HUP; ${prefix} ${words}; echo $? > ended); true`;
  await using terminal = new Deno.Command("script", {
    args: ["--quiet", "--command", script, "/dev/null"],
    cwd,
    env: { TERM: "xterm", NO_COLOR: "1", SHELL: "/bin/bash" },
    stdin: "null",
    stdout: "null",
  }).spawn();
  await appears(`${cwd}/${opened}`);
  terminal.kill("SIGKILL");
  return Number(await appears(`${cwd}/ended`));
}

Deno.test({
  name: "a closed terminal ends train and compare as Ctrl-C does, with all files (needs script and setsid)",
  ignore: !terminals,
  fn: async () => {
    await using folder = await temporaryFolder();
    const cwd = folder.path;
    const endless = ["train", ...small, "--epochs", "100000", "--out", "a"];
    assertEquals(await closeTerminal(endless, { cwd, opened: "a/metrics.jsonl" }), 129);
    assertEquals(names(`${cwd}/a`), ["checkpoint.safetensors", "config.json", "metrics.jsonl", "report.html"]);
    const last = jsonLines(await Deno.readTextFile(`${cwd}/a/metrics.jsonl`)).at(-1)!;
    assertEquals(last.event, "interrupted");
    const [row] = jsonLines((await run(["runs", "--json"], { cwd })).stdout);
    assertEquals([row!.status, row!.step], ["interrupted", last.step]);
    await Deno.remove(`${cwd}/ended`);

    const seeds = Array.from({ length: 5000 }, (_, seed) => seed);
    const many = [...comparison, "--seeds", String(seeds), "--out", "b"];
    // The folder is all that a comparison makes before it ends: its first seeds take longer than a moment to come.
    const child = closeTerminal(many, { cwd, opened: "b/ready" });
    while (!await Deno.stat(`${cwd}/b`).catch(() => undefined)) await new Promise((done) => setTimeout(done, 20));
    await new Promise((done) => setTimeout(done, 1000));
    await Deno.writeTextFile(`${cwd}/b/ready`, "yes");
    assertEquals(await child, 129);
    assertEquals(names(`${cwd}/b`), ["compare.csv", "compare.html", "compare.json", "ready"]);
    const { seeds: done } = JSON.parse(await Deno.readTextFile(`${cwd}/b/compare.json`));
    assert(done.length > 0 && done.length < 5000);
  },
});

for (const prefix of ["setsid --wait", "nohup"]) {
  Deno.test({
    name: `a run behind ${prefix} goes on without its terminal (needs script and setsid)`,
    ignore: !terminals,
    fn: async () => {
      await using folder = await temporaryFolder();
      const cwd = folder.path;
      const args = ["train", ...small, "--epochs", "2000", "--out", "a"];
      assertEquals(await closeTerminal(args, { cwd, opened: "a/metrics.jsonl", prefix }), 0);
      const events = await Deno.readTextFile(`${cwd}/a/metrics.jsonl`);
      assertStringIncludes(events, '"event":"done"');
      assertEquals(names(`${cwd}/a`), ["checkpoint.safetensors", "config.json", "metrics.jsonl", "report.html"]);
    },
  });
}
