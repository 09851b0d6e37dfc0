/**
 * The command `runs`: what the table of runs holds, and what can be done with it.
 *
 * @module
 */

import { resolve } from "node:path";
import { environment } from "../../data/places.ts";
import { CheckpointError } from "../../errors.ts";
import { didYouMean } from "../../nearest.ts";
import { reason, writeWhole } from "../../run/files.ts";
import { UsageError } from "../errors.ts";
import { type CommandSpec, helpText, type OptionSpec, parseOptions, type Values } from "../options.ts";
import { rewriteReport } from "../report/rewrite.ts";
import { readEvents, readRecord, type RunEvent } from "../run_folder.ts";
import { isTraining } from "../run_lock.ts";
import { note, print } from "../terminal.ts";
import { filterRuns, findRun, sortRuns } from "./choose.ts";
import { tablePlace } from "./database.ts";
import { asCsv, asJsonLines, formats, type WholeRun, writeTensorBoard } from "./export.ts";
import { pushRun, serverAddress, ServerError } from "./mlflow.ts";
import { compareText, listText, showText } from "./show.ts";
import { type RunRow, type RunStatus, RunTable } from "./table.ts";

const group = "Options";

const options = [
  {
    name: "runs",
    type: "text",
    value: "FILE",
    help: "the table (LEANPROP_RUNS, or runs/runs.db)",
    group,
    effect: "place",
  },
  {
    name: "where",
    type: "words",
    value: "LIST",
    help: "only runs that meet conditions: rule=sparse,accuracy>0.9,folder~mnist (=, !=, <, <=, >, >=, ~)",
    group,
    effect: "display",
  },
  {
    name: "sort",
    type: "text",
    value: "NAME",
    help: "by a column or an option of train; -NAME: the largest first (created)",
    group,
    effect: "display",
  },
  { name: "limit", type: "number", value: "N", help: "list only the last N", group, effect: "display" },
  { name: "json", type: "flag", help: "one JSON object per run on standard output", group, effect: "display" },
  {
    name: "format",
    type: "text",
    value: "FORMAT",
    help: `of export: ${formats.join(", ")} (csv)`,
    group,
    effect: "display",
  },
  {
    name: "to",
    type: "text",
    value: "PATH",
    help: "of export: a file, for tensorboard a folder (runs.csv, runs.jsonl, tensorboard)",
    group,
    effect: "display",
  },
  { name: "svg", type: "flag", help: "report writes the charts as SVG files too", group, effect: "display" },
  { name: "files", type: "flag", help: "delete removes the folders of the runs too", group, effect: "display" },
  {
    name: "mlflow",
    type: "text",
    value: "URL",
    help: "of push: the server (LEANPROP_MLFLOW)",
    group,
    effect: "display",
  },
  { name: "help", type: "flag", help: "this text", group, effect: "display" },
] as const satisfies readonly OptionSpec[];

/** The command. */
export const runsCommand: CommandSpec<typeof options> = {
  name: "runs",
  description: "Works on the table of runs. A run is named by the first letters of its identity, or by its folder.",
  words: "[WHAT [RUN …]]",
  options,
  sections: [{
    title: "What",
    lines: [
      ["list", "the runs; this is what happens where nothing is said"],
      ["show RUN", "everything about a run"],
      ["compare RUN RUN …", "what differs between runs, and how they went"],
      ["export [RUN …]", "writes runs for other tools; all that --where leaves, if none is named"],
      ["report RUN …", "writes report.html of runs anew, also of those that were stopped or killed, or of folders"],
      ["push [RUN …]", "uploads what an MLflow server does not have yet"],
      ["add FOLDER …", "enters runs from their folders"],
      ["delete RUN …", "takes runs out of the table"],
    ],
  }],
};

/** What an action works with. */
interface Work {
  readonly table: RunTable;
  readonly values: Values<typeof options>;
  /** Names of runs. */
  readonly words: readonly string[];
}

const actions: Readonly<Record<string, (work: Work) => void | Promise<void>>> = {
  list: ({ table, values }) => {
    const { sort, limit } = values;
    const found = filterRuns(table.runs(), values.where ?? []);
    const sorted = sort === undefined ? found : sortRuns(found, sort);
    const shown = limit === undefined ? sorted : sort === undefined ? sorted.slice(-limit) : sorted.slice(0, limit);
    print(values.json ? shown.map(jsonLine).join("") : listText(shown));
  },
  show: ({ table, values, words }) => {
    const [word, another] = words;
    if (word === undefined || another !== undefined) throw new UsageError("show", "one run", words.join(" ") || "none");
    const row = findRun(table.runs(), word);
    const metrics = table.metrics(row.id);
    print(values.json ? asJsonLines([{ row, metrics }]) : showText({ row, metrics }));
  },
  compare: ({ table, values, words }) => {
    if (words.length < 2) throw new UsageError("compare", "two or more runs", words.join(" ") || "none");
    const runs = words.map((word) => findRun(table.runs(), word));
    print(values.json ? runs.map(jsonLine).join("") : compareText(runs));
  },
  export: async (work) => {
    const { format = "csv", to } = work.values;
    if (!formats.some((known) => known === format)) {
      throw new UsageError("--format", `one of ${formats.join(", ")}${didYouMean(format, formats)}`, format);
    }
    const runs = chosen(work).map((row): WholeRun => ({ row, metrics: work.table.metrics(row.id) }));
    const place = to ?? (format === "tensorboard" ? "tensorboard" : `runs.${format}`);
    if (format === "tensorboard") await writeTensorBoard(runs, place);
    else await writeWhole(place, [new TextEncoder().encode(format === "csv" ? asCsv(runs) : asJsonLines(runs))]);
    print(`Wrote ${count(runs.length)} to ${place}\n`);
  },
  push: async (work) => {
    const asked = work.values.mlflow ?? environment("LEANPROP_MLFLOW");
    if (asked === undefined) throw new UsageError("push", "--mlflow URL, or LEANPROP_MLFLOW", "no server");
    const server = serverAddress(asked);
    const runs = chosen(work);
    try {
      for (const { id } of runs) await pushRun(work.table, id, server);
    } catch (fault) {
      if (fault instanceof ServerError) throw new CheckpointError(fault.message, { cause: fault });
      throw fault;
    }
    print(`${server} has ${count(runs.length)}\n`);
  },
  add: async ({ table, words }) => {
    if (words.length === 0) throw new UsageError("add", "one or more folders of runs", "none");
    for (const word of words) await enterFolder(table, word);
    print(`Entered ${count(words.length)}\n`);
  },
  delete: async ({ table, values, words }) => {
    if (words.length === 0) throw new UsageError("delete", "one or more runs", "none");
    const runs = words.map((word) => findRun(table.runs(), word));
    for (const { id, folder, status } of runs) {
      if (status === "running") {
        throw new UsageError(`the run ${id.slice(0, 8)}`, "a run that has ended", "one in training");
      }
      if (values.files) await removeFolder(folder);
      table.remove(id);
    }
    print(`Deleted ${count(runs.length)}\n`);
  },
};

/**
 * Runs the command.
 *
 * @param args its arguments
 */
export async function runs(args: readonly string[]): Promise<void> {
  const { values, words: [what = "list", ...words], help } = parseOptions(runsCommand, args);
  if (help) return print(helpText(runsCommand));
  if (what === "report") return await report(words, values);
  const action = Object.hasOwn(actions, what) ? actions[what] : undefined;
  if (action === undefined) {
    const names = [...Object.keys(actions), "report"];
    throw new UsageError(`the word ${what}`, `one of ${names.join(", ")}${didYouMean(what, names)}`, "another one");
  }
  using table = openTable(values);
  await action({ table, values, words });
}

function openTable(values: Work["values"]): RunTable {
  const place = tablePlace(values.runs);
  if (place === undefined) throw new UsageError("--runs", "the file of a table of runs", "none");
  const table = new RunTable(place);
  findDead(table);
  return table;
}

/** Writes reports anew: of folders, which need no table, and of runs in the table. */
async function report(words: readonly string[], values: Work["values"]): Promise<void> {
  if (words.length === 0) throw new UsageError("report", "one or more runs, or their folders", "none");
  for (const word of words) {
    const { path, missing } = await rewriteReport(await folderOf(word, values), { svg: values.svg ?? false });
    print(`Wrote ${path}\n`);
    if (missing !== undefined) note(`It has no confusions and predictions: ${missing}\n`);
  }
}

async function folderOf(word: string, values: Work["values"]): Promise<string> {
  if (await Deno.stat(`${word}/config.json`).then(() => true, () => false)) return word;
  using table = openTable(values);
  return findRun(table.runs(), word).folder;
}

/** Marks runs that are entered as running but that no process trains: killed, or the machine went down. */
function findDead(table: RunTable): void {
  for (const { id, folder, status } of table.runs()) {
    if (status === "running" && !isTraining(folder)) table.mark(id, "interrupted");
  }
}

/** The runs that are named; without names those that meet the conditions. */
function chosen({ table, values, words }: Work): RunRow[] {
  const runs = table.runs();
  return words.length > 0 ? words.map((word) => findRun(runs, word)) : filterRuns(runs, values.where ?? []);
}

async function enterFolder(table: RunTable, word: string): Promise<void> {
  const folder = resolve(word);
  const record = await readRecord(folder);
  const events = await readEvents(folder);
  const status: RunStatus = isTraining(folder) ? "running" : endOf(events.at(-1));
  table.enter({ folder, record, events, status });
}

function endOf(last: RunEvent | undefined): RunStatus {
  return last?.event === "done" ? "finished" : "interrupted";
}

async function removeFolder(folder: string): Promise<void> {
  await Deno.remove(folder, { recursive: true }).catch((cause) => {
    if (cause instanceof Deno.errors.NotFound) return;
    throw new CheckpointError(`Cannot delete ${folder}: ${reason(cause)}`, { cause });
  });
}

function jsonLine({ options, machine, ...row }: RunRow): string {
  return `${JSON.stringify({ ...row, options: JSON.parse(options), machine: JSON.parse(machine) })}\n`;
}

function count(runs: number): string {
  return `${runs} ${runs === 1 ? "run" : "runs"}`;
}
