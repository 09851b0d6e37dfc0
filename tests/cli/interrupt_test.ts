/** Signals, their echoes, and people who press Ctrl-C twice. */

import { assertEquals, assertStringIncludes } from "@std/assert";
import { commandLine, temporaryFolder, text } from "./helpers.ts";

const wait = (ms: number) => new Promise((done) => setTimeout(done, ms));

/** A process that lives on after it was told to end, in the middle of a file. */
const STUBBORN = `
import { Interrupt } from ${JSON.stringify(new URL("../../src/cli/interrupt.ts", import.meta.url))};
import { replaceFile } from ${JSON.stringify(new URL("../../src/half_written.ts", import.meta.url))};
await Deno.writeTextFile("whole", "old");
replaceFile("whole", async (beside) => {
  await Deno.writeTextFile(beside, "new");
  console.log("ready");
  await new Promise(() => {});
});
const interrupt = new Interrupt();
interrupt.signal.addEventListener("abort", () => {
  // Busy for longer than an echo takes, which waits meanwhile.
  for (const start = performance.now(); performance.now() < start + 700;);
  console.log(interrupt.signal.reason.exitCode);
});
interrupt.atOnce = () => "the old file is kept";
setInterval(() => {}, 1000);
`;

for (const [signal, exitCode] of [["SIGINT", 130], ["SIGTERM", 143]] as const) {
  Deno.test({
    name: `${signal} asks once, its echo is not heard, and a second one ends the process, which says so and tidies up`,
    // Windows has no way to send signals to a process.
    ignore: Deno.build.os === "windows",
    fn: async () => {
      await using folder = await temporaryFolder();
      const command = new Deno.Command(Deno.execPath(), {
        args: ["eval", STUBBORN],
        cwd: folder.path,
        stdout: "piped",
        stderr: "piped",
      });
      await using child = command.spawn();
      const reader = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
      assertEquals((await reader.read()).value, "ready\n");
      child.kill(signal);
      await wait(1);
      child.kill(signal);
      assertEquals((await reader.read()).value, `${exitCode}\n`);
      await wait(800);
      child.kill(signal);
      assertEquals((await child.status).code, exitCode);
      assertEquals((await reader.read()).done, true);
      assertEquals(await child.stderr.text(), "Stopped at once; the old file is kept\n");
      assertEquals([...Deno.readDirSync(folder.path)].map(({ name }) => name), ["whole"]);
      assertEquals(await Deno.readTextFile(`${folder.path}/whole`), "old");
    },
  });
}

Deno.test({
  name: "train that is stopped at once says what is kept",
  ignore: Deno.build.os === "windows",
  fn: async () => {
    await using folder = await temporaryFolder();
    // A server that does not answer is what the end of a run waits for.
    const asked = Promise.withResolvers<void>();
    const answer = Promise.withResolvers<Response>();
    await using server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, () => {
      asked.resolve();
      return answer.promise;
    });
    const mlflow = `http://127.0.0.1:${server.addr.port}`;
    const small = ["--data", "spirals", "--rows", "300", "--hidden", "8", "--epochs", "100000", "--quiet"];
    const [program, verb, ...rest] = commandLine(["train", ...small, "--no-report", "--out", "a", "--mlflow", mlflow]);
    await using child = new Deno.Command(program!, {
      args: [verb!, "--allow-net", ...rest],
      cwd: folder.path,
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    const output = child.output();
    await asked.promise;
    child.kill("SIGINT");
    await wait(1500);
    child.kill("SIGINT");
    const { code, stderr } = text(await output);
    answer.resolve(new Response());
    assertEquals(code, 130);
    const words = "Stopped at once; the last checkpoint is kept\nResume with: deno task train --resume a\n";
    assertEquals(stderr, words);
    assertStringIncludes(await Deno.readTextFile(`${folder.path}/a/metrics.jsonl`), '"event":"interrupted"');
  },
});
