/**
 * Options of the command `runs`; which of them an action takes stands beside the action.
 *
 * @module
 */

import type { OptionSpec } from "../options.ts";
import { formats } from "./export.ts";

const group = "Options";

/** The options. */
export const options = [
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
    help:
      "of list, export, push: only runs that meet conditions: rule=sparse,accuracy>0.9,folder~mnist (=, !=, <, <=, >, >=, ~)",
    group,
    effect: "display",
  },
  {
    name: "sort",
    type: "text",
    value: "NAME",
    help:
      "of list: by a column, as it is headed or in --json, or an option of train; -NAME: the largest first (created)",
    group,
    effect: "display",
  },
  {
    name: "limit",
    type: "number",
    value: "N",
    help: "of list: only the last N; with --sort the first N",
    group,
    effect: "display",
  },
  {
    name: "json",
    type: "flag",
    help: "of list, show, compare: one JSON object per run on standard output",
    group,
    effect: "display",
  },
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
  { name: "svg", type: "flag", help: "of report: writes the charts as SVG files too", group, effect: "display" },
  {
    name: "force",
    type: "flag",
    help: "of report: writes over a report that has predictions, also where the data for new ones is gone",
    group,
    effect: "display",
  },
  { name: "files", type: "flag", help: "of delete: removes the files of the runs too", group, effect: "display" },
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
