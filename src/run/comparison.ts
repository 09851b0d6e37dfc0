/**
 * What a comparison of learning rules comes to.
 *
 * @module
 */

import type { Optimizer } from "../train/optimizers.ts";
import type { CompareRun } from "./contestant.ts";
import type { AxisFigures, CompareAxis, Verdict } from "./verdicts.ts";

/** A learning rate that was tried. */
export interface TriedRate {
  /** The rate. */
  readonly learningRate: number;
  /** Epochs that it was given. */
  readonly epochs: number;
  /** Validation loss after them; `null` where it was not finite. */
  readonly validationLoss: number | null;
  /** Whether it was taken; where all were not finite, that is the smallest. */
  readonly chosen: boolean;
}

/** A rule in the results of a comparison that may have been stopped. */
export interface StoppedRule {
  /** Its name. */
  readonly name: string;
  /** Its learning rate; `null` where none has been chosen yet. */
  readonly learningRate: number | null;
  /** Its optimizer, with that rate; before one is chosen, with the rate about which rates are tried. */
  readonly optimizer: Optimizer;
  /** The rates that it tried. */
  readonly tried: readonly TriedRate[];
  /** Its runs, one for each seed that all rules have finished. */
  readonly runs: readonly CompareRun[];
  /** Where the comparison was stopped: its run of the seed that was under way, which nothing else here counts. */
  readonly unfinished?: CompareRun;
  /** Median and range over the runs, where there are figures. */
  readonly figures: Readonly<Partial<Record<CompareAxis, AxisFigures>>>;
  /** Runs that reached the target. */
  readonly reached: number;
  /** How it does against the reference; none for the reference itself. */
  readonly verdicts: readonly Verdict[];
  /** The verdicts in one sentence; empty for the reference, and where there are none. */
  readonly sentence: string;
}

/** A rule in the results. */
export interface ComparedRule extends StoppedRule {
  /** Its learning rate. */
  readonly learningRate: number;
}

/** What has been measured of a comparison that may have been stopped. */
export interface StoppedComparison {
  /** Name of the data set. */
  readonly data: string;
  /** Whether there are classes: accuracies are compared then, otherwise losses. */
  readonly classes: boolean;
  /** Validation rows. */
  readonly rows: number;
  /** Seeds with which all rules have been trained. */
  readonly seeds: readonly number[];
  /** Where the comparison was stopped: the seeds that are missing, and how far it came in a sentence. */
  readonly stopped?: { readonly missingSeeds: readonly number[]; readonly words: string };
  /** Epochs of a run. */
  readonly epochs: number;
  /** Rows of a step. */
  readonly batchSize: number;
  /** What counts as learnt; `null` where that follows from the reference's runs, and one of them has no figure or there are none. */
  readonly target: number | null;
  /** Whether the target was given (`reach`), or is what the reference reaches with every seed. */
  readonly targetFrom: "options" | "reference";
  /** The rules; the first is the reference. */
  readonly rules: readonly StoppedRule[];
  /** What has to be said about the comparison as a whole, and what runs had to warn of, after the name of their rule. */
  readonly notes: readonly string[];
}

/** What {@linkcode compare} gives. */
export interface Comparison extends StoppedComparison {
  /** The rules; the first is the reference. */
  readonly rules: readonly ComparedRule[];
}
