import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { Network } from "../../../mod.ts";
import { readEvents } from "../../../src/cli/run_folder.ts";
import { RunTable } from "../../../src/cli/run_table/table.ts";
import { native } from "../../../src/ffi/native.ts";
import { jsonLines, run, start, temporaryFolder } from "../helpers.ts";

const small = ["--data", "spirals", "--rows", "300", "--test-rows", "30", "--hidden", "8", "--quiet"];

// Opened before the first test: what is opened within a test has to be closed there.
native();

/** Kills to try; another number of them where the environment says so. */
const kills = Number(Deno.env.get("LEANPROP_KILLS") ?? 50);

/** Resolves when the file is there. */
async function appears(path: string): Promise<void> {
  while (!await Deno.stat(path).then(() => true, () => false)) await new Promise((go) => setTimeout(go, 2));
}

Deno.test("a killed run is marked interrupted, its checkpoint loads, and it goes on", async () => {
  await using folder = await temporaryFolder();
  const cwd = folder.path;
  for (let kill = 0; kill < kills; kill++) {
    const name = `run${kill}`;
    const child = start(["train", ...small, "--epochs", "100000", "--out", name], { cwd });
    await appears(`${cwd}/${name}/config.json`);
    // A moment that differs from kill to kill, between two lines, within a checkpoint, within a transaction.
    await new Promise((go) => setTimeout(go, (kill * 37) % 211));
    child.kill("SIGKILL");
    await child.output();

    const { code, stdout, stderr } = await run(["runs", "--json"], { cwd });
    assertEquals(code, 0, stderr);
    const row = jsonLines(stdout).find(({ folder }) => (folder as string).endsWith(name));
    const steps = (await readEvents(`${cwd}/${name}`)).filter(({ event }) => event === "epoch").map(({ step }) => step);
    using table = new RunTable(`${cwd}/runs/runs.db`);
    if (row === undefined) {
      assertEquals(steps.length <= 1, true, "only a run that had hardly begun has no row");
    } else {
      assertEquals(row.status, "interrupted");
      const entered = table.metrics(row.id as string).filter(({ name }) => name === "trainLoss").map(({ step }) =>
        step
      );
      assertEquals(entered, steps.slice(0, entered.length));
      assert(steps.length - entered.length <= 1, `${entered.length} of ${steps.length} epochs are entered`);
    }
    using network = await Network.load(`${cwd}/${name}/checkpoint.safetensors`);
    assertEquals(network.describe().parameters, 51);
  }

  const child = start(["train", "--resume", "run0"], { cwd });
  await appears(`${cwd}/run0/run.lock`);
  // Until the first epoch it is not certain that the run is entered anew.
  const before = (await readEvents(`${cwd}/run0`)).length;
  while ((await readEvents(`${cwd}/run0`)).length <= before) await new Promise((go) => setTimeout(go, 5));
  const second = await run(["train", "--resume", "run0"], { cwd });
  assertEquals(second.code, 1);
  assertStringIncludes(second.stderr, "Cannot train the run in run0: another process is training it");
  const status = async () => {
    const rows = jsonLines((await run(["runs", "--json", "--where", "folder~run0"], { cwd })).stdout);
    return rows.map(({ status }) => status);
  };
  assertEquals(await status(), ["running"]);
  child.kill("SIGINT");
  assertEquals((await child.output()).code, 130);
  assertEquals(await status(), ["interrupted"]);
});
