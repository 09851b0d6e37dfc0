import { assertEquals } from "@std/assert";
import { RunLock } from "../../src/cli/run_lock.ts";
import { temporaryFolder } from "./helpers.ts";

Deno.test("RunLock.take() removes checkpoints that a killed process had half written, and nothing else", async () => {
  await using folder = await temporaryFolder();
  const kept = ["checkpoint.safetensors", "mine.tmp", "report.html.0123abcd.tmp"];
  for (const name of [...kept, "best.safetensors.89abcdef.tmp", "checkpoint.safetensors.0123abcd.tmp"]) {
    await Deno.writeTextFile(`${folder.path}/${name}`, "");
  }
  {
    using _lock = await RunLock.take(folder.path);
    const names = [...Deno.readDirSync(folder.path)].map(({ name }) => name).sort();
    assertEquals(names, [...kept, "run.lock"].sort());
  }
});
