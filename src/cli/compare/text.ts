/**
 * A comparison as a table in text, as sentences, and as CSV.
 *
 * @module
 */

import { digits } from "../../digits.ts";
import type { StoppedComparison, StoppedRule } from "../../run/comparison.ts";
import { axisName, compareAxes, showOn } from "../../run/verdicts.ts";
import { textTable } from "../text_table.ts";

/** A table of medians and ranges: one row a rule, the first row names the columns. */
export function comparisonRows(comparison: StoppedComparison): string[][] {
  const { rules, seeds } = comparison;
  const axes = compareAxes.filter((axis) => rules.some(({ figures }) => figures[axis]));
  const cell = ({ figures, reached }: StoppedRule, axis: typeof axes[number]) => {
    const found = figures[axis];
    if (found === undefined) return axis === "secondsToTarget" ? "not reached" : "";
    // An error's smallest value is an accuracy's largest.
    const ends = [found.low, found.high].map((end) => showOn(axis, end, comparison));
    const [from, to] = (axis === "error" || axis === "testError") && comparison.classes ? ends.toReversed() : ends;
    const range = from === to ? "" : ` (${from} to ${to})`;
    const share = axis === "secondsToTarget" && reached < seeds.length ? `, ${reached} of ${seeds.length} seeds` : "";
    return `${showOn(axis, found.median, comparison)}${range}${share}`;
  };
  return [
    ["rule", "rate", ...axes.map((axis) => axisName(axis, comparison))],
    ...rules.map((rule) => [
      rule.name,
      rule.learningRate === null ? "" : digits(rule.learningRate, 3),
      ...axes.map((axis) => cell(rule, axis)),
    ]),
  ];
}

/** What was compared, in one line. */
export function comparisonTitle(
  { data, epochs, seeds, stopped, batchSize, rows }: StoppedComparison,
): string {
  const all = seeds.length + (stopped?.missingSeeds.length ?? 0);
  const count = `${stopped ? `${seeds.length} of ` : ""}${all} ${all === 1 ? "seed" : "seeds"}`;
  return `${data}: ${epochs} ${
    epochs === 1 ? "epoch" : "epochs"
  } in batches of ${batchSize}, ${count}, ${rows} validation rows`;
}

/** What counts as learnt, in words; nothing where that is not known yet. */
export function targetWords({ classes, target, targetFrom, rules, seeds }: StoppedComparison): string {
  if (target === null) return seeds.length === 0 ? "" : "Target: none, see the notes";
  const figure = classes ? `accuracy ${(100 * target).toFixed(2)} %` : `loss ${digits(target, 4)}`;
  const from = targetFrom === "options" ? "as asked" : `what ${rules[0]!.name} reached with every seed`;
  return `Target: ${figure} on the validation rows (${from})`;
}

/** What the figures in sentences are. */
export const sentencesHead = "Where each rule wins and loses, by geometric means with 95 % intervals";

/** The whole comparison for a terminal. */
export function comparisonText(comparison: StoppedComparison): string {
  const sentences = comparison.rules.flatMap(({ sentence }) => sentence === "" ? [] : [`${sentence}\n`]);
  return [
    `${comparisonTitle(comparison)}\n${targetWords(comparison)}\nMedians, with ranges over seeds\n`,
    textTable(comparisonRows(comparison)),
    sentences.length === 0 ? "" : `${sentencesHead}\n${sentences.join("")}`,
    comparison.notes.map((note) => `Note: ${note}\n`).join(""),
  ].filter((part) => part !== "").join("\n");
}

/** One line for each epoch of each run, of a run that was stopped too. */
export function comparisonCsv({ rules }: StoppedComparison): string {
  const head =
    "rule,seed,learning_rate,epoch,step,seconds,seconds_per_step,train_loss,validation_loss,validation_accuracy," +
    "bytes,multiply_adds,test_loss,test_accuracy,diverged,complete";
  const lines = rules.flatMap(({ name, runs, unfinished }) =>
    [...runs, ...(unfinished ? [unfinished] : [])].flatMap((
      { seed, learningRate, curve, bytes, multiplyAdds, testLoss, testAccuracy, diverged },
    ) =>
      curve.map(({ epoch, step, seconds, secondsPerStep, trainLoss, validationLoss, validationAccuracy }) =>
        [
          name,
          seed,
          learningRate,
          epoch,
          step,
          seconds,
          secondsPerStep,
          trainLoss,
          validationLoss,
          validationAccuracy ?? "",
          bytes,
          multiplyAdds ?? "",
          testLoss ?? "",
          testAccuracy ?? "",
          diverged,
          seed !== unfinished?.seed,
        ].join(",")
      )
    )
  );
  return [head, ...lines].map((line) => `${line}\n`).join("");
}
