import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { commandLine, jsonLines, type Outcome, run, start, temporaryFolder, text } from "./helpers.ts";

/** Epochs of several chunks of 0.1 s, so that a signal after an epoch's line stops the run in the middle of the next. */
const long = ["--data", "spirals", "--rows", "60000", "--hidden", "192,192", "--batch-size", "32", "--epochs", "4"];
const stepsPerEpoch = Math.ceil(54_000 / 32);

/** Starts a command and sends a signal once it has printed so many lines; `seconds` until it says something (with --quiet). */
async function stopAfter(
  args: readonly string[],
  { cwd, lines, signal }: { cwd: string; lines: number; signal: Deno.Signal },
): Promise<Outcome & { seconds: number }> {
  const child = start(args, { cwd });
  const reader = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
  let sent = NaN;
  let heard = NaN;
  const stderr = (async () => {
    let all = "";
    for await (const part of child.stderr.pipeThrough(new TextDecoderStream())) {
      if (Number.isNaN(heard)) heard = performance.now();
      all += part;
    }
    return all;
  })();
  let stdout = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    stdout += value;
    if (Number.isNaN(sent) && stdout.split("\n").length > lines) {
      child.kill(signal);
      sent = performance.now();
      // `deno task` hands on what the terminal has sent already.
      await new Promise((done) => setTimeout(done, 1));
      child.kill(signal);
    }
  }
  const { code } = await child.status;
  return { code, stdout, stderr: await stderr, seconds: (heard - sent) / 1000 };
}

async function checkpointOf(folder: string): Promise<Uint8Array> {
  return await Deno.readFile(`${folder}/checkpoint.safetensors`);
}

async function eventsOf(folder: string): Promise<Record<string, unknown>[]> {
  return jsonLines(await Deno.readTextFile(`${folder}/metrics.jsonl`));
}

Deno.test({
  name: "train that is interrupted and resumed gives the same bits as without",
  // Windows has no way to send Ctrl-C to a process.
  ignore: Deno.build.os === "windows",
  fn: async (t) => {
    await using folder = await temporaryFolder();
    const cwd = folder.path;
    const whole = await run(["train", ...long, "--out", "whole", "--json", "--threads", "2"], { cwd });
    assertEquals(whole.code, 0, whole.stderr);

    await t.step(
      "Ctrl-C ends it with 130, and says within a second that the state is saved and how to go on",
      async () => {
        const args = ["train", ...long, "--out", "parts", "--json", "--quiet"];
        const stopped = await stopAfter(args, { cwd, lines: 1, signal: "SIGINT" });
        assertEquals(stopped.code, 130, stopped.stderr);
        assert(stopped.seconds < 1, `${stopped.seconds} s`);
        assertMatch(stopped.stderr, /Interrupted after \d+ steps; the state is saved\n/);
        assertStringIncludes(
          stopped.stderr,
          "Resume with: deno task train --resume parts\nReport       parts/report.html\n",
        );
        const page = await Deno.readTextFile(`${cwd}/parts/report.html`);
        assertMatch(page, /not finished: \d+ steps so far/);
        assertStringIncludes(page, "<code>deno task runs report parts</code>");
        assert(jsonLines(stopped.stdout).every(({ event }) => event === "epoch"));
        const last = (await eventsOf(`${cwd}/parts`)).at(-1)!;
        assertEquals(last.event, "interrupted");
        assert(last.step as number % stepsPerEpoch !== 0, `stopped in the middle of an epoch, at step ${last.step}`);
      },
    );

    await t.step("SIGTERM stops it again, at another number of threads", async () => {
      const args = ["train", "--resume", "parts", "--json", "--threads", "1"];
      const stopped = await stopAfter(args, { cwd, lines: 1, signal: "SIGTERM" });
      assertEquals(stopped.code, 143, stopped.stderr);
      assertEquals((await eventsOf(`${cwd}/parts`)).at(-1)!.event, "interrupted");
    });

    await t.step("SIGKILL leaves the checkpoint of an epoch's end", async () => {
      await stopAfter(["train", "--resume", "parts", "--json"], { cwd, lines: 1, signal: "SIGKILL" });
    });

    await t.step("the finished weights and the metrics are those of the run in one piece", async () => {
      const finished = await run(["train", "--resume", "parts", "--json"], { cwd });
      assertEquals(finished.code, 0, finished.stderr);
      assertEquals(await checkpointOf(`${cwd}/parts`), await checkpointOf(`${cwd}/whole`));
      const figures = async (run: string) =>
        (await eventsOf(`${cwd}/${run}`)).filter(({ event }) => event !== "interrupted")
          .map(({ seconds: _, checkpoint: __, ...event }) => event);
      assertEquals(await figures("parts"), await figures("whole"));
      const seconds = (await eventsOf(`${cwd}/parts`)).map(({ seconds }) => seconds as number);
      assertEquals(seconds, seconds.toSorted((a, b) => a - b), "seconds go on where they stopped");
    });

    await t.step("a finished run only says again how good it is", async () => {
      const again = await run(["train", "--resume", "parts", "--json"], { cwd });
      assertEquals(jsonLines(again.stdout).map(({ event }) => event), ["done"]);
      assertEquals(jsonLines(again.stdout)[0]!.testLoss, jsonLines(whole.stdout).at(-1)!.testLoss);
      assertEquals((await eventsOf(`${cwd}/parts`)).filter(({ event }) => event === "done").length, 1);
      assertEquals(await checkpointOf(`${cwd}/parts`), await checkpointOf(`${cwd}/whole`));
    });
  },
});

const csv = Array.from({ length: 40 }, (_, row) => `${row},${(row * 7) % 5},${2 * row - (row * 7) % 5}`);
const regression = ["--task", "regression", "--test-fraction", "0.2", "--hidden", "8", "--epochs", "2"];

Deno.test("train --resume refuses changed options, changed data and a foreign checkpoint", async (t) => {
  await using folder = await temporaryFolder();
  const cwd = folder.path;
  await Deno.writeTextFile(`${cwd}/a.csv`, `x,y,z\n${csv.join("\n")}\n`);
  for (const [out, seed] of [["a", "1"], ["b", "2"]] as const) {
    const args = ["train", "--data", "csv:a.csv", ...regression, "--seed", seed, "--out", out, "--quiet"];
    const { code, stderr } = await run(args, { cwd });
    assertEquals(code, 0, stderr);
  }
  const refuse = async (args: string[], code: number, message: string) => {
    const outcome = await run(["train", "--resume", "a", ...args], { cwd });
    assertEquals([outcome.code, outcome.stdout], [code, ""]);
    assertStringIncludes(outcome.stderr, message);
  };
  await t.step("option", () => refuse(["--epochs", "3"], 2, "Cannot use --epochs: expected 2 as when the run began"));
  await t.step("rule option", () => refuse(["--backprop.k", "3"], 2, "Cannot use --backprop.k: expected nothing as"));
  await t.step("out", () => refuse(["--out", "c"], 2, "expected either --out or --resume but found both"));
  await t.step("same option is no change", async () => {
    assertEquals((await run(["train", "--resume", "a", "--epochs", "2"], { cwd })).code, 0);
  });
  await t.step("checkpoint", async () => {
    await Deno.copyFile(`${cwd}/a/checkpoint.safetensors`, `${cwd}/kept`);
    await Deno.copyFile(`${cwd}/b/checkpoint.safetensors`, `${cwd}/a/checkpoint.safetensors`);
    await refuse([], 1, "Cannot resume a: expected a checkpoint of this run but found that of another");
    await Deno.rename(`${cwd}/kept`, `${cwd}/a/checkpoint.safetensors`);
  });
  await t.step("data", async () => {
    await Deno.writeTextFile(`${cwd}/a.csv`, `x,y,z\n${csv.with(3, "3,1,6").join("\n")}\n`);
    await refuse([], 1, "Cannot use the data of a: expected the rows of SHA-256");
  });
  await t.step("record that was cut off", async () => {
    const record = await Deno.readTextFile(`${cwd}/a/config.json`);
    await Deno.writeTextFile(`${cwd}/a/config.json`, record.slice(0, 200));
    await refuse([], 1, "Cannot read a/config.json: expected JSON but found other text");
  });
});

Deno.test({
  name: "train keeps the old checkpoint when it cannot write a new one, and says so",
  ignore: Deno.build.os === "windows",
  fn: async () => {
    await using folder = await temporaryFolder();
    const cwd = folder.path;
    const stopped = await stopAfter(["train", ...long, "--out", "a", "--json"], { cwd, lines: 1, signal: "SIGINT" });
    assertEquals(stopped.code, 130, stopped.stderr);
    const before = await checkpointOf(`${cwd}/a`);
    // A limit on the size of files fails the write as a full disk does, for every user and without a disk of its own.
    const script = `trap "" XFSZ; ulimit -f 20; exec "$@"`;
    const args = ["-c", script, "bash", ...commandLine(["train", "--resume", "a", "--runs", "none"])];
    const limited = text(await new Deno.Command("bash", { args, cwd, stdin: "null" }).output());
    assertEquals(limited.code, 1, limited.stderr);
    assertMatch(
      limited.stderr,
      /error: Cannot write a\/checkpoint\.safetensors: .*; a\/checkpoint\.safetensors still holds the state after \d+ steps\n$/,
    );
    assertEquals(await checkpointOf(`${cwd}/a`), before);
    const files = [...Deno.readDirSync(`${cwd}/a`)].map(({ name }) => name).sort();
    assertEquals(files, ["checkpoint.safetensors", "config.json", "metrics.jsonl", "report.html"]);
    const finished = await run(["train", "--resume", "a", "--quiet"], { cwd });
    assertEquals(finished.code, 0, finished.stderr);
    const epochs = (await eventsOf(`${cwd}/a`)).filter(({ event }) => event === "epoch").map(({ epoch }) => epoch);
    assertEquals(epochs, [1, 2, 3, 4], "no epoch is missing or there twice");
  },
});
