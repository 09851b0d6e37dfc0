/**
 * What `runs` does: each action with the options and the words that it takes.
 *
 * @module
 */

import { resolve } from "node:path";
import { number } from "../../config.ts";
import { environment } from "../../data/places.ts";
import { CheckpointError } from "../../errors.ts";
import { didYouMean } from "../../nearest.ts";
import { writeWhole } from "../../run/files.ts";
import { UsageError } from "../errors.ts";
import type { Values } from "../options.ts";
import { placeInWords } from "../replaced.ts";
import { rewriteReport } from "../report/rewrite.ts";
import { readEvents, readRecord, type RunEvent } from "../run_folder.ts";
import { isTraining } from "../run_lock.ts";
import { note, print } from "../terminal.ts";
import { filterRuns, findRun, sortRuns } from "./choose.ts";
import { asCsv, asJsonLines, formats, type WholeRun, writeTensorBoard } from "./export.ts";
import { pushRun, serverAddress, ServerError } from "./mlflow.ts";
import type { options } from "./options.ts";
import { removeRunFiles } from "./remove.ts";
import { compareText, listText, showText } from "./show.ts";
import type { RunRow, RunStatus, RunTable } from "./table.ts";

/** Values of the command's options. */
export type RunsValues = Values<typeof options>;

/** What an action works with. */
export interface Work {
  /** The table; it is opened when it is first asked for. */
  readonly table: RunTable;
  /** Options. */
  readonly values: RunsValues;
  /** Names of runs. */
  readonly words: readonly string[];
}

/** An action. */
export interface Action {
  /** What stands after it, for help. */
  readonly usage: string;
  /** What it does, for help. */
  readonly help: string;
  /** Options that it takes, beside those of all actions. */
  readonly options: readonly (typeof options[number]["name"])[];
  /** Fewest and most words. */
  readonly count: readonly [number, number];
  /** What the words are. */
  readonly expects: string;
  /** Whether it makes a table where there is none. */
  readonly creates?: boolean;
  /** Does it. */
  readonly act: (work: Work) => void | Promise<void>;
}

/** All actions by name. */
export const actions: Readonly<Record<string, Action>> = {
  list: {
    usage: "",
    help: "the runs; this is what happens where nothing is said",
    options: ["where", "sort", "limit", "json"],
    count: [0, 0],
    expects: "no run by name, since --where chooses",
    act: ({ table, values }) => {
      const { sort, limit } = values;
      if (limit !== undefined) number("limit", limit, { min: 1, whole: true });
      const found = filterRuns(table.runs(), values.where ?? []);
      const sorted = sort === undefined ? found : sortRuns(found, sort);
      const shown = limit === undefined ? sorted : sort === undefined ? sorted.slice(-limit) : sorted.slice(0, limit);
      print(values.json ? shown.map(jsonLine).join("") : listText(shown));
    },
  },
  show: {
    usage: "RUN",
    help: "everything about a run",
    options: ["json"],
    count: [1, 1],
    expects: "one run",
    act: ({ table, values, words }) => {
      const row = findRun(table.runs(), words[0]!);
      const metrics = table.metrics(row.id);
      print(values.json ? asJsonLines([{ row, metrics }]) : showText({ row, metrics }));
    },
  },
  compare: {
    usage: "RUN RUN …",
    help: "what differs between runs, and how they went",
    options: ["json"],
    count: [2, Infinity],
    expects: "two or more runs",
    act: ({ table, values, words }) => {
      const runs = words.map((word) => findRun(table.runs(), word));
      print(values.json ? runs.map(jsonLine).join("") : compareText(runs));
    },
  },
  export: {
    usage: "[RUN …]",
    help: "writes runs for other tools; all that --where leaves, if none is named",
    options: ["where", "format", "to"],
    count: [0, Infinity],
    expects: "runs",
    act: async (work) => {
      const { format = "csv", to } = work.values;
      if (!formats.some((known) => known === format)) {
        throw new UsageError("--format", `one of ${formats.join(", ")}${didYouMean(format, formats)}`, format);
      }
      const rows = chosen(work);
      // An empty file in the place of an earlier one is never what was meant.
      if (rows.length === 0) {
        const where = work.values.where;
        throw where === undefined
          ? new UsageError("export", "a table with runs", "none in it")
          : new UsageError(`--where ${where.join(",")}`, "conditions that some run meets", "none that does");
      }
      const runs = rows.map((row): WholeRun => ({ row, metrics: work.table.metrics(row.id) }));
      const place = to ?? (format === "tensorboard" ? "tensorboard" : `runs.${format}`);
      const where = await placeInWords(place);
      if (format === "tensorboard") await writeTensorBoard(runs, place);
      else await writeWhole(place, [new TextEncoder().encode(format === "csv" ? asCsv(runs) : asJsonLines(runs))]);
      print(`Wrote ${count(runs.length)} to ${where}\n`);
    },
  },
  report: {
    usage: "RUN …",
    help: "writes report.html of runs anew, also of those that were stopped or killed, or of folders",
    options: ["svg", "force"],
    count: [1, Infinity],
    expects: "one or more runs, or their folders",
    act: async (work) => {
      const { svg = false, force = false } = work.values;
      for (const word of work.words) {
        const { path, missing, kept } = await rewriteReport(await folderOf(word, work), { svg, force });
        print(`${kept ? "Kept" : "Wrote"} ${path}\n`);
        if (missing === undefined) continue;
        const words = kept
          ? "It has confusions and predictions, which a new one would lack (--force writes it)"
          : "It has no confusions and predictions";
        note(`${words}: ${missing}\n`);
      }
    },
  },
  push: {
    usage: "[RUN …]",
    help: "uploads what an MLflow server does not have yet; all that --where leaves, if none is named",
    options: ["where", "mlflow"],
    count: [0, Infinity],
    expects: "runs",
    act: async (work) => {
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
  },
  add: {
    usage: "FOLDER …",
    help: "enters runs from their folders",
    options: [],
    count: [1, Infinity],
    expects: "one or more folders of runs",
    creates: true,
    act: async ({ table, words }) => {
      for (const word of words) await enterFolder(table, word);
      print(`Entered ${count(words.length)}\n`);
    },
  },
  delete: {
    usage: "RUN …",
    help: "takes runs out of the table",
    options: ["files"],
    count: [1, Infinity],
    expects: "one or more runs",
    act: async ({ table, values, words }) => {
      const runs = words.map((word) => findRun(table.runs(), word));
      for (const { id, folder, status } of runs) {
        if (status === "running") {
          throw new UsageError(`the run ${id.slice(0, 8)}`, "a run that has ended", "one in training");
        }
        const kept = values.files ? await removeRunFiles({ id, folder }) : undefined;
        if (kept !== undefined) note(`Kept ${folder}: ${kept}\n`);
        table.remove(id);
      }
      print(`Deleted ${count(runs.length)}\n`);
    },
  },
};

async function folderOf(word: string, work: Work): Promise<string> {
  if (await Deno.stat(`${word}/config.json`).then(() => true, () => false)) return word;
  return findRun(work.table.runs(), word).folder;
}

/** The runs that are named; without names those that meet the conditions. */
function chosen({ table, values, words }: Work): RunRow[] {
  if (words.length > 0 && values.where) throw new UsageError("--where", "either --where or runs by name", "both");
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

function jsonLine({ options, machine, ...row }: RunRow): string {
  return `${JSON.stringify({ ...row, options: JSON.parse(options), machine: JSON.parse(machine) })}\n`;
}

function count(runs: number): string {
  return `${runs} ${runs === 1 ? "run" : "runs"}`;
}
