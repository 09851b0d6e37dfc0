/**
 * What the command `runs` prints.
 *
 * @module
 */

import { basename } from "node:path";
import { epochOf, figure, percent } from "../progress.ts";
import { changes } from "../rounding.ts";
import { sparkline } from "../sparkline.ts";
import { textTable } from "../text_table.ts";
import type { WholeRun } from "./export.ts";
import type { MetricRow, RunRow } from "./table.ts";

/** Letters of an identity that are shown. */
const SHORT = 8;

/** Headings of the table of runs, with the column of the table behind each. */
const headings: Readonly<Record<string, keyof RunRow>> = {
  "run": "id",
  "status": "status",
  "begun": "created",
  "data": "data",
  "model": "model",
  "rule": "rule",
  "rate": "learningRate",
  "seed": "seed",
  "epochs": "epochs",
  "train loss": "trainLoss",
  "validation loss": "validationLoss",
  "accuracy": "accuracy",
  "test": "testAccuracy",
  "folder": "folder",
};

/** Columns by the headings that they are shown under, as one word each: `train-loss`. */
export const shownColumns: ReadonlyMap<string, keyof RunRow> = new Map(
  Object.entries(headings).map(([heading, column]) => [heading.replaceAll(" ", "-"), column]),
);

/** Runs as a table. */
export function listText(runs: readonly RunRow[]): string {
  if (runs.length === 0) return "No runs\n";
  const rows = runs.map((run) => [
    run.id.slice(0, SHORT),
    run.status,
    run.created.slice(0, 16).replace("T", " "),
    run.data,
    run.model,
    run.rule,
    figure(run.learningRate),
    String(run.seed),
    epochOf(run.epoch, run.epochs, 0),
    shown(run.trainLoss),
    shown(run.validationLoss),
    share(run.accuracy),
    run.testAccuracy === null ? shown(run.testMeanAbsoluteError) : share(run.testAccuracy),
    basename(run.folder),
  ]);
  const all = [Object.keys(headings), ...rows];
  // An identity may be all digits, or 5e347887.
  return textTable(all, ["run", "data", "model", "folder"]);
}

/** Everything about a run. */
export function showText({ row, metrics }: WholeRun): string {
  const { options, machine, ...own } = row;
  const facts = Object.entries(own).filter(([, value]) => value !== null);
  const asked = Object.entries(JSON.parse(options) as Record<string, unknown>);
  const places = Object.entries(JSON.parse(machine) as Record<string, unknown>);
  const lines = (entries: readonly (readonly [string, unknown])[]) => {
    const width = Math.max(...entries.map(([name]) => name.length));
    const text = (value: unknown) => typeof value === "string" ? value : JSON.stringify(value);
    return entries.map(([name, value]) => `  ${name.padEnd(width)}  ${text(value)}\n`).join("");
  };
  const curves = [...Map.groupBy(metrics, ({ name }) => name)].map(([name, curve]) => [name, drawn(curve)] as const);
  return [
    `Run\n${lines(facts)}`,
    `Options\n${lines(asked)}`,
    `Machine\n${lines(places)}`,
    curves.length === 0 ? "" : `Figures\n${lines(curves)}`,
  ].filter((part) => part !== "").join("\n");
}

/** What differs between runs, and how they went. */
export function compareText(runs: readonly RunRow[]): string {
  const asked = runs.map(({ options }) => JSON.parse(options) as Record<string, unknown>);
  const names = [...new Set(asked.flatMap((options) => Object.keys(options)))];
  const text = (value: unknown) => value === undefined ? "" : typeof value === "string" ? value : JSON.stringify(value);
  const rows = names.map((name) => [name, ...asked.map((options) => text(options[name]))])
    .filter(([, ...cells]) => new Set(cells).size > 1);
  const results = [
    ["status", ...runs.map(({ status }) => status)],
    ["epochs", ...runs.map(({ epoch, epochs }) => epochOf(epoch, epochs, 0))],
    ["seconds", ...runs.map(({ seconds }) => seconds.toFixed(1))],
    ["train loss", ...runs.map(({ trainLoss }) => shown(trainLoss))],
    ["validation loss", ...runs.map(({ validationLoss }) => shown(validationLoss))],
    ["best accuracy", ...runs.map(({ bestAccuracy }) => share(bestAccuracy))],
    ["test loss", ...runs.map(({ testLoss }) => shown(testLoss))],
    ["test accuracy", ...runs.map(({ testAccuracy }) => share(testAccuracy))],
  ].filter(([, ...cells]) => cells.some((cell) => cell !== ""));
  const head = ["", ...runs.map(({ id }) => id.slice(0, SHORT))];
  const differences = rows.length === 0 ? "The options are the same\n" : textTable([head, ...rows]);
  return `${differences}\n${textTable([head, ...results])}`;
}

function drawn(curve: readonly MetricRow[]): string {
  const values = curve.map(({ value }) => value);
  const last = figure(values.at(-1)!);
  const flat = curve[0]!.name.startsWith("probe.") && !changes(values);
  return values.length === 1 || flat ? last : `${sparkline(values)}  ${figure(values[0]!)} → ${last}`;
}

function shown(value: number | null): string {
  return value === null ? "" : figure(value);
}

function share(value: number | null): string {
  return value === null ? "" : percent(value, 2);
}
