import { assert, assertEquals } from "@std/assert";
import { asCsv, asJsonLines, type WholeRun, writeTensorBoard } from "../../../src/cli/run_table/export.ts";
import { RunTable } from "../../../src/cli/run_table/table.ts";
import { eventFile } from "../../../src/cli/run_table/tensorboard.ts";
import { pythonWith, runPython } from "../../python.ts";
import { temporaryFolder } from "../helpers.ts";
import { done, epoch, record } from "./fixtures.ts";

async function twoRuns(): Promise<WholeRun[]> {
  await using folder = await temporaryFolder();
  using table = new RunTable(`${folder.path}/runs.db`);
  const events = [epoch(1, 2, 0.5), epoch(2, 0.1, 0.75), done(0.7)];
  table.enter({ folder: '/runs/a "b", c', record: record("a"), events, status: "finished" });
  table.enter({ folder: "/runs/d", record: record("d", { seed: 1 }), events: events.slice(0, 1), status: "running" });
  return table.runs().map((row) => ({ row, metrics: table.metrics(row.id) }));
}

Deno.test("asJsonLines() gives one object a run, with everything", async () => {
  const [first, second, ...rest] = asJsonLines(await twoRuns()).trimEnd().split("\n").map((line) => JSON.parse(line));
  assertEquals(rest, []);
  assertEquals([first.id, first.options.seed, first.machine.threads, first.testAccuracy], ["a", 0, 1, 0.7]);
  const losses = first.metrics.filter(({ name }: { name: string }) => name === "trainLoss");
  assertEquals(losses.map(({ value, epoch }: { value: number; epoch: number }) => [epoch, value]), [[1, 2], [2, 0.1]]);
  assertEquals([second.id, second.status], ["d", "running"]);
});

Deno.test("asCsv() gives one line a figure, quoted where need be", async () => {
  const runs = await twoRuns();
  const [head, ...lines] = asCsv(runs).trimEnd().split("\n");
  assertEquals(head!.split(",").slice(0, 7), ["at_step", "at_epoch", "at_seconds", "metric", "value", "id", "folder"]);
  assertEquals(lines.length, runs.reduce((sum, { metrics }) => sum + metrics.length, 0));
  const line = lines.find((line) => line.startsWith("18,2,0.5,trainLoss,0.1,"))!;
  assert(line.startsWith('18,2,0.5,trainLoss,0.1,a,"/runs/a ""b"", c",'), line);
});

Deno.test("eventFile() begins with the version record that readers expect", () => {
  // Length 24 and its checksum, as in every file that TensorFlow itself writes for this version.
  const file = eventFile([], 0);
  assertEquals([...file.subarray(0, 12)], [24, 0, 0, 0, 0, 0, 0, 0, 0xa3, 0x7f, 0x4b, 0x22]);
  assertEquals(new TextDecoder().decode(file.subarray(23, 36)), "brain.Event:2");
});

const python = pythonWith("tensorboard");

Deno.test({
  name: "TensorBoard reads the event files back",
  ignore: python === undefined,
  fn: async () => {
    await using folder = await temporaryFolder();
    const runs = await twoRuns();
    await writeTensorBoard(runs, folder.path);
    const script = `
import json, os, sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
found = {}
for name in sorted(os.listdir(sys.argv[1])):
    events = EventAccumulator(os.path.join(sys.argv[1], name))
    events.Reload()
    found[name] = {t: [[e.step, e.value, e.wall_time] for e in events.Scalars(t)] for t in events.Tags()["scalars"]}
print(json.dumps(found))`;
    const found = JSON.parse(await runPython(python!, script, [folder.path]));
    for (const { row, metrics } of runs) {
      const name = Object.keys(found).find((name) => name.endsWith(`-${row.id}`))!;
      const expected = Object.groupBy(metrics, ({ name }) => name);
      const begun = Date.parse(row.created) / 1000;
      assertEquals(Object.keys(found[name]).sort(), Object.keys(expected).sort());
      for (const [tag, curve] of Object.entries(expected)) {
        const scalars = curve!.map(({ step, value, seconds }) => [step, Math.fround(value), begun + seconds]);
        assertEquals(found[name][tag], scalars, tag);
      }
    }
  },
});
