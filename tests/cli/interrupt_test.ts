/** Signals, their echoes, and people who press Ctrl-C twice. */

import { assertEquals } from "@std/assert";

const wait = (ms: number) => new Promise((done) => setTimeout(done, ms));

/** A process that lives on after it was told to end. */
const STUBBORN = `
import { Interrupt } from ${JSON.stringify(new URL("../../src/cli/interrupt.ts", import.meta.url))};
const interrupt = new Interrupt();
interrupt.signal.addEventListener("abort", () => {
  // Busy for longer than an echo takes, which waits meanwhile.
  for (const start = performance.now(); performance.now() < start + 700;);
  console.log(interrupt.signal.reason.exitCode);
});
setInterval(() => {}, 1000);
console.log("ready");
`;

for (const [signal, exitCode] of [["SIGINT", 130], ["SIGTERM", 143], ["SIGHUP", 129]] as const) {
  Deno.test({
    name: `${signal} asks once, its echo is not heard, and a second one ends the process`,
    // Windows has no way to send signals to a process.
    ignore: Deno.build.os === "windows",
    fn: async () => {
      const command = new Deno.Command(Deno.execPath(), { args: ["eval", STUBBORN], stdout: "piped" });
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
    },
  });
}
