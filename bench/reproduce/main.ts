/**
 * The command `reproduce`: runs the experiments of a published paper and puts the results beside the published ones.
 *
 * @module
 */

import { explain, UsageError } from "../../src/cli/errors.ts";
import { type CommandSpec, helpText, parseOptions } from "../../src/cli/options.ts";
import { note, print } from "../../src/cli/terminal.ts";
import { didYouMean } from "../../src/nearest.ts";
import type { Outcome, ResultTable } from "./experiment.ts";
import { experiments } from "./mod.ts";
import { toSvg } from "./plot.ts";

const command = {
  name: "reproduce",
  description: "Repeats published experiments: deno task reproduce NAME [options]",
  options: [
    {
      name: "runs",
      type: "number",
      value: "N",
      help: "runs of each setting; default as published",
      group: "Options",
      effect: "result",
    },
    {
      name: "only",
      type: "text",
      value: "TEXT",
      help: "only settings whose name contains this",
      group: "Options",
      effect: "result",
    },
    {
      name: "share",
      type: "number",
      value: "X",
      help: "share of the training rows, for a quick look; default 1 (decorrelated)",
      group: "Options",
      effect: "result",
    },
    {
      name: "data-dir",
      type: "text",
      value: "FOLDER",
      help: "where the data sets are",
      group: "Options",
      effect: "place",
    },
    { name: "download", type: "flag", help: "fetch data sets that are missing", group: "Options", effect: "place" },
    {
      name: "reference",
      type: "text",
      value: "FILE",
      help: "published curves to compare with",
      group: "Options",
      effect: "place",
    },
    {
      name: "out",
      type: "text",
      value: "FOLDER",
      help: "where results go; default runs/reproduce/NAME",
      group: "Options",
      effect: "place",
    },
    {
      name: "plots",
      type: "flag",
      help: "draw curves as SVG; default yes, --no-plots for none",
      group: "Options",
      effect: "display",
    },
  ],
  sections: [{
    title: "Experiments",
    lines: experiments.map(({ name, description, paper }) => [name, `${description} (${paper})`] as const),
  }],
} as const satisfies CommandSpec;

async function main(args: readonly string[]): Promise<void> {
  const [first, ...rest] = args;
  const name = first?.startsWith("-") ? undefined : first;
  const { values, help } = parseOptions(command, name === undefined ? args : rest);
  if (help || first === undefined) return print(helpText(command));
  const experiment = experiments.find((experiment) => experiment.name === name);
  if (!experiment) {
    const names = experiments.map(({ name }) => name);
    const hint = name === undefined ? "" : didYouMean(name, names);
    throw new UsageError("the experiment", `one of ${names.join(", ")}${hint}`, name ?? "none");
  }
  const runs = values.runs ?? experiment.runs;
  if (!Number.isInteger(runs) || runs < 1) throw new UsageError("--runs", "a whole number from 1 up", String(runs));
  const share = values.share ?? 1;
  if (!(share > 0 && share <= 1)) throw new UsageError("--share", "a number above 0 and up to 1", String(share));
  const start = performance.now();
  const outcome = await experiment.run({
    runs,
    download: values.download ?? false,
    only: values.only ?? "",
    share,
    ...(values["data-dir"] !== undefined && { dataDir: values["data-dir"] }),
    ...(values.reference !== undefined && { reference: values.reference }),
    report: (line) => note(`${line}\n`),
  });
  const seconds = (performance.now() - start) / 1000;
  const folder = values.out ?? `runs/reproduce/${experiment.name}`;
  await write(folder, { outcome, plots: values.plots ?? true });
  for (const table of outcome.tables) print(`${table.title}\n\n${textTable(table)}\n\n`);
  for (const deviation of outcome.deviations) print(`Differs: ${deviation}\n`);
  print(`${experiment.paper}: ${runs} runs of each setting in ${seconds.toFixed(1)} s; results in ${folder}\n`);
}

async function write(folder: string, { outcome, plots }: { outcome: Outcome; plots: boolean }): Promise<void> {
  await Deno.mkdir(folder, { recursive: true });
  await Deno.writeTextFile(`${folder}/results.json`, JSON.stringify(outcome.figures));
  const text = outcome.tables.map((table) => `## ${table.title}\n\n${markdown(table)}\n`).join("\n");
  await Deno.writeTextFile(`${folder}/results.md`, text);
  if (!plots) return;
  for (const chart of outcome.charts) await Deno.writeTextFile(`${folder}/${chart.name}.svg`, await toSvg(chart));
}

function textTable({ head, rows }: ResultTable): string {
  const all = [head, ...rows];
  const widths = head.map((_, column) => Math.max(...all.map((row) => row[column]!.length)));
  return all.map((row) => row.map((cell, column) => cell.padEnd(widths[column]!)).join("  ").trimEnd()).join("\n");
}

function markdown({ head, rows }: ResultTable): string {
  const line = (cells: readonly string[]) => `| ${cells.join(" | ")} |`;
  return [line(head), line(head.map(() => "---")), ...rows.map(line)].join("\n");
}

if (import.meta.main) {
  try {
    await main(Deno.args);
  } catch (fault) {
    const { message, code } = explain(fault, { options: command.options.map(({ name }) => name) });
    if (message !== "") note(`${message}\n`);
    Deno.exit(code);
  }
}
