/**
 * What has to be said about a comparison beside its verdicts.
 *
 * @module
 */

import type { Table } from "../data/table.ts";
import { digits } from "../digits.ts";
import { lateRise } from "../train/late_rise.ts";
import type { PlannedSide } from "./compare_plan.ts";
import type { StoppedRule } from "./comparison.ts";
import type { Contestant } from "./contestant.ts";
import { endOfGrid } from "./rates.ts";
import type { Side } from "./verdicts.ts";

/** Rules with different optimizers differ in more than the rule. */
export function optimizerNote({ name, optimizer }: PlannedSide, reference: PlannedSide): string[] {
  if (optimizer.kind === reference.optimizer.kind) return [];
  return [`${name} trains with ${optimizer.kind}, ${reference.name} with ${reference.optimizer.kind}`];
}

/** What a rate leaves to doubt: a best one at the end of the grid says that better ones may lie outside. */
export function rateNote(rule: StoppedRule): string[] {
  const { name, tried } = rule;
  const chosen = tried.find(({ chosen }) => chosen);
  if (chosen?.validationLoss === null) {
    const rates = tried.map(({ learningRate }) => learningRate).sort((a, b) => a - b).map((rate) => digits(rate, 3))
      .join(", ");
    return [`${name} diverged with all learning rates that it tried (${rates}), and trains with the smallest`];
  }
  const end = endOfGrid(rule);
  if (end === undefined) return [];
  const rate = digits(chosen!.learningRate, 3);
  return [`${name} did best with the ${end} learning rate that it tried (${rate}); others may suit it better`];
}

/** The end of a sentence about two rules that may not have the rates that suit them; empty where both have. */
export function provisionalWords(rule: GridOf, reference: GridOf): string {
  const [own, other] = [endOfGrid(rule), endOfGrid(reference)];
  const has = (name: string, end: string) => `${name} has the ${end} learning rate that it tried`;
  const words = own !== undefined && own === other
    ? [`both have the ${own} learning rate that they tried`]
    : [...(own ? [has(rule.name, own)] : []), ...(other ? [has(reference.name, other)] : [])];
  return words.length === 0 ? "" : `; provisional, since ${words.join(" and ")}`;
}

/** A rule with the rates that it tried. */
type GridOf = Pick<StoppedRule, "name" | "tried">;

/** A target that needs no learning: always naming the class that most of the rows have would reach it. */
export function chanceNote(target: number, { targets }: Table): string[] {
  if (targets.kind !== "labels") return [];
  const counts = new Map<number, number>();
  for (const label of targets.values) counts.set(label, (counts.get(label) ?? 0) + 1);
  const share = Math.max(...counts.values()) / targets.values.length;
  if (target > share) return [];
  const [asked, chance] = [target, share].map((value) => `${(100 * value).toFixed(2)} %`);
  return [
    `The target (accuracy ${asked}) is no more than always naming the most frequent class reaches (${chance}): ` +
    "time to it says nothing about learning",
  ];
}

/** What the runs of a rule had to warn of, each thing once; those that tried rates count where there are no others. */
export function runNotes({ name, runs, unfinished }: StoppedRule, tried: readonly Contestant[]): string[] {
  const measured = unfinished ? [...runs, unfinished] : runs;
  const counted = measured.length > 0 ? measured : tried.map((contestant) => contestant.state());
  const rises = counted.flatMap(({ curve }) => lateRise(curve.map(({ trainLoss }) => trainLoss)) ?? []);
  const rose = rises.length === 0 ? [] : [`${rises[0]} (${rises.length} of ${counted.length} runs rose so)`];
  return [...new Set(counted.flatMap(({ warnings }) => warnings)), ...rose].map((warning) => `${name}: ${warning}`);
}

/** A reference that diverges says nothing about what can be learnt. */
export function noTargetNote({ name, runs }: Side): string {
  const without = runs.filter(({ curve }) => curve.length === 0).length;
  const seeds = `${without} of ${runs.length} ${runs.length === 1 ? "seed" : "seeds"}`;
  return `There is no target: ${name} diverged with ${seeds} before the end of an epoch; one can be given (reach)`;
}
