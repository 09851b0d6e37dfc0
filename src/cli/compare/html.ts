/**
 * A comparison as a page.
 *
 * @module
 */

import { digits } from "../../digits.ts";
import type { StoppedComparison } from "../../run/comparison.ts";
import type { ComparePoint, CompareRun } from "../../run/contestant.ts";
import { median } from "../../statistics.ts";
import { drawLines, type NamedChart, type Series } from "../report/charts.ts";
import { chartGrid, escape, facts, htmlTable, page, section } from "../report/page.ts";
import { comparisonRows, comparisonTitle, sentencesHead, targetWords } from "./text.ts";

/** Curves of medians over the seeds; of runs that were stopped where no others are there. */
export async function comparisonCharts(comparison: StoppedComparison): Promise<NamedChart[]> {
  const { classes, rules } = comparison;
  // Nothing is drawn of rates that were tried, nor of runs that diverged in their first epoch.
  if (rules.every(({ runs, unfinished }) => [...runs, unfinished].every((run) => !run?.curve.length))) return [];
  const score = classes ? "validation accuracy" : "validation loss";
  const scoreOf = (point: ComparePoint) => classes ? point.validationAccuracy! : point.validationLoss;
  const charts = [
    {
      name: "score-over-epochs",
      title: `${capital(score)} over epochs`,
      x: "epoch",
      y: score,
      at: epochOf,
      value: scoreOf,
    },
    {
      name: "score-over-seconds",
      title: `${capital(score)} over time`,
      x: "seconds",
      y: score,
      at: secondsOf,
      value: scoreOf,
    },
    { name: "loss-over-epochs", title: "Training loss over epochs", x: "epoch", y: "loss", at: epochOf, value: lossOf },
    {
      name: "loss-over-seconds",
      title: "Training loss over time",
      x: "seconds",
      y: "loss",
      at: secondsOf,
      value: lossOf,
    },
  ];
  return await Promise.all(charts.map(async ({ name, title, x, y, at, value }) => {
    const series = rules.map(({ name, runs, unfinished }): Series => ({
      name,
      points: medians(runs.length === 0 && unfinished ? [unfinished] : runs, { at, value }),
    }));
    return { name, svg: await drawLines({ title, x, y, series, log: y === "loss" }) };
  }));
}

/** The page. */
export function comparisonPage(
  whole: StoppedComparison & { readonly options: object; readonly dataHash: string; readonly machine: object },
  charts: readonly NamedChart[],
): string {
  const sentences = whole.rules.filter(({ sentence }) => sentence !== "").map(({ sentence }) =>
    `<li>${escape(sentence)}</li>`
  );
  const notes = whole.notes.map((note) => `<li>${escape(note)}</li>`);
  const rates = whole.rules.flatMap(({ name, tried }) =>
    tried.map(({ learningRate, epochs, validationLoss, chosen }) => [
      name,
      digits(learningRate, 3),
      String(epochs),
      validationLoss === null ? "not finite" : validationLoss.toPrecision(4),
      !chosen ? "" : validationLoss === null ? "taken, as the smallest" : "chosen",
    ])
  );
  const title = `Learning rules on ${whole.data}`;
  const about = [whole.stopped?.words ?? "", comparisonTitle(whole), targetWords(whole)].filter((words) =>
    words !== ""
  );
  const measured = whole.seeds.length > 0;
  return page(
    title,
    [
      `<h1>${escape(title)}</h1>\n${about.map((words) => `<p>${escape(words)}</p>`).join("\n")}`,
      section(sentencesHead, list(sentences)),
      section("Medians, with ranges over seeds", measured ? htmlTable(comparisonRows(whole), 1) : ""),
      section(
        measured ? "Curves (medians over seeds)" : "Curves (of a seed that is not complete)",
        chartGrid(charts.map(({ svg }) => svg)),
      ),
      section(
        "Learning rates",
        rates.length === 0 ? "" : htmlTable([["rule", "rate", "epochs", "validation loss", ""], ...rates], 1),
      ),
      section("Notes", list(notes)),
      section("Options", facts(Object.entries(whole.options))),
      section("Data", facts([["name", whole.data], ["SHA-256", whole.dataHash]])),
      section("Machine", facts(Object.entries(whole.machine))),
    ].join("\n"),
  );
}

function list(items: readonly string[]): string {
  return items.length === 0 ? "" : `<ul class="notes">\n${items.join("\n")}\n</ul>`;
}

/** The median of the runs at each epoch that all of them have; nothing where there are no runs. */
function medians(
  runs: readonly CompareRun[],
  { at, value }: { readonly at: (point: ComparePoint) => number; readonly value: (point: ComparePoint) => number },
): [number, number][] {
  const epochs = runs.length === 0 ? 0 : Math.min(...runs.map(({ curve }) => curve.length));
  return Array.from({ length: epochs }, (_, epoch) => {
    const points = runs.map(({ curve }) => curve[epoch]!);
    return [median(points.map(at)), median(points.map(value))];
  });
}

function epochOf({ epoch }: ComparePoint): number {
  return epoch;
}

function secondsOf({ seconds }: ComparePoint): number {
  return seconds;
}

function lossOf({ trainLoss }: ComparePoint): number {
  return trainLoss;
}

function capital(text: string): string {
  return text[0]!.toUpperCase() + text.slice(1);
}
