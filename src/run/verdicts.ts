/**
 * Where a rule wins and loses, decided and put into words from the figures alone.
 *
 * @module
 */

import type { CompareRun } from "./contestant.ts";
import { median, type RatioInterval, ratioInterval } from "./statistics.ts";

/** A factor as near to 1 as this decides nothing, however sure it is. */
const MARGIN = 0.01;

/** Fewest seeds with which an interval over them is worth its 95 %. */
const ENOUGH_SEEDS = 5;

/** What is compared; less is better on each. */
export type CompareAxis = "error" | "secondsToTarget" | "secondsPerStep" | "bytes" | "multiplyAdds";

/** What is compared, in order. */
export const compareAxes: readonly CompareAxis[] = [
  "error",
  "secondsToTarget",
  "secondsPerStep",
  "bytes",
  "multiplyAdds",
];

/** How a rule does on one axis, against the reference. */
export interface Verdict {
  /** The axis. */
  readonly axis: CompareAxis;
  /** `"tie"` where the interval holds 1, or the factor is within 1 % of it; `"open"` where the figures decide nothing. */
  readonly outcome: "wins" | "loses" | "tie" | "open";
  /** Ratio to the reference with its 95 % bootstrap interval; below 1 is better. Missing where there are no pairs. */
  readonly interval?: RatioInterval;
  /** The verdict in words. */
  readonly words: string;
}

/** Figures of one rule on one axis. */
export interface AxisFigures {
  /** Middle of the runs. */
  readonly median: number;
  /** Smallest. */
  readonly low: number;
  /** Largest. */
  readonly high: number;
}

/** What verdicts need to know about the comparison. */
export interface Task {
  /** Whether there are classes: the error is then the share of wrong rows, otherwise the loss. */
  readonly classes: boolean;
  /** Validation rows. */
  readonly rows: number;
  /** Target: accuracy with classes, otherwise loss; `null` where there is none. */
  readonly target: number | null;
}

/** A rule with its runs. */
export interface Side {
  /** Its name. */
  readonly name: string;
  /** Its runs, one for each seed, in the order of the seeds. */
  readonly runs: readonly CompareRun[];
}

/** The best error of a run: share of wrong validation rows, or validation loss; infinite after nothing but divergence. */
export function bestError(run: CompareRun, { classes }: Pick<Task, "classes">): number {
  return Math.min(
    ...run.curve.map((point) => classes ? 1 - point.validationAccuracy! : point.validationLoss),
    Infinity,
  );
}

/** Seconds until the run had reached the target; `undefined` where it never did, or there is none. */
export function secondsToTarget(run: CompareRun, { classes, target }: Task): number | undefined {
  if (target === null) return undefined;
  return run.curve.find(({ validationAccuracy, validationLoss }) =>
    classes ? validationAccuracy! >= target : validationLoss <= target
  )?.seconds;
}

/**
 * Figures of a rule on an axis; `undefined` where it has none. Seconds per step have the median over all epochs of all runs, as the
 * factors have, and the range of the runs' medians.
 */
export function figuresOn(axis: CompareAxis, side: Side, task: Task): AxisFigures | undefined {
  const values = side.runs.map((run) => valueOn(axis, run, task)).filter((value) => value !== undefined)
    .filter(Number.isFinite);
  if (values.length === 0) return undefined;
  const epochs = side.runs.flatMap(({ curve }) => curve.map(({ secondsPerStep }) => secondsPerStep));
  return {
    median: median(axis === "secondsPerStep" ? epochs : values),
    low: Math.min(...values),
    high: Math.max(...values),
  };
}

/** How a rule does on all axes. */
export function verdictsOf(side: Side, reference: Side, task: Task): Verdict[] {
  return compareAxes.map((axis) =>
    axis === "secondsToTarget" ? onTarget(side, reference, task) : onAxis(axis, { side, reference, task })
  );
}

/** One plain sentence about a rule, from its verdicts. */
export function sentenceOf(side: Side, reference: Side, verdicts: readonly Verdict[]): string {
  const diverged = side.runs.filter(({ diverged }) => diverged).length;
  const groups = [["wins", "wins on "], ["loses", "loses on "], ["tie", "ties on "], ["open", "open: "]] as const;
  const parts = groups.flatMap(([outcome, start]) => {
    const found = verdicts.filter((verdict) => verdict.outcome === outcome);
    return found.length === 0 ? [] : [start + found.map(({ words }) => words).join(", ")];
  });
  if (diverged > 0) parts.push(`diverged with ${diverged} of ${side.runs.length} seeds`);
  return `${side.name} against ${reference.name}: ${parts.join("; ")}`;
}

/** What has to be said about the number of seeds. */
export function seedsWarning(seeds: number): string | undefined {
  if (seeds >= ENOUGH_SEEDS) return undefined;
  const have = seeds === 1 ? "One seed says nothing" : `${seeds} seeds say little`;
  return `${have} about chance: an interval is worth its 95 % from ${ENOUGH_SEEDS} seeds on`;
}

/** A figure on an axis in words. */
export function showOn(axis: CompareAxis, value: number, { classes }: Pick<Task, "classes">): string {
  switch (axis) {
    case "error":
      return classes ? `${(100 * (1 - value)).toFixed(2)} %` : digits(value);
    case "secondsToTarget":
      return `${digits(value)} s`;
    case "secondsPerStep":
      return `${digits(1000 * value)} ms`;
    case "bytes":
      return `${digits(value / 2 ** 20)} MiB`;
    case "multiplyAdds":
      return `${digits(value / 1e6)} M`;
  }
}

/** The name of an axis in words. */
export function axisName(axis: CompareAxis, { classes }: Pick<Task, "classes">): string {
  return {
    error: classes ? "best accuracy" : "best loss",
    secondsToTarget: "time to target",
    secondsPerStep: "seconds per step",
    bytes: "memory",
    multiplyAdds: "multiply-adds per step",
  }[axis];
}

function valueOn(axis: CompareAxis, run: CompareRun, task: Task): number | undefined {
  switch (axis) {
    case "error":
      return bestError(run, task);
    case "secondsToTarget":
      return secondsToTarget(run, task);
    case "secondsPerStep":
      return run.curve.length === 0 ? undefined : median(run.curve.map(({ secondsPerStep }) => secondsPerStep));
    case "bytes":
      return run.bytes;
    case "multiplyAdds":
      return run.multiplyAdds ?? undefined;
  }
}

/** Pairs of a rule's values and the reference's, measured side by side. */
function pairsOn(axis: CompareAxis, side: Side, reference: Side, task: Task): (readonly [number, number])[] {
  // Epochs take turns, so that each of them is a pair of its own.
  if (axis === "secondsPerStep") {
    return side.runs.flatMap(({ curve }, seed) =>
      curve.flatMap(({ secondsPerStep }, epoch) => {
        const other = reference.runs[seed]?.curve[epoch];
        return other ? [[secondsPerStep, other.secondsPerStep] as const] : [];
      })
    );
  }
  return side.runs.flatMap((run, seed) => {
    const other = reference.runs[seed];
    const [value, against] = [valueOn(axis, run, task), other && valueOn(axis, other, task)];
    if (value === undefined || against === undefined) return [];
    return [[value, against] as const];
  });
}

function onAxis(
  axis: CompareAxis,
  { side, reference, task }: { readonly side: Side; readonly reference: Side; readonly task: Task },
): Verdict {
  const name = axisName(axis, task);
  const pairs = pairsOn(axis, side, reference, task);
  const [own, other] = [figuresOn(axis, side, task), figuresOn(axis, reference, task)];
  if (own === undefined || other === undefined || pairs.length === 0) {
    const missing = [own === undefined ? side.name : "", other === undefined ? reference.name : ""]
      .filter((name) => name !== "").join(" and ");
    const why = axis === "multiplyAdds" ? "not counted" : "nothing measured";
    return { axis, outcome: "open", words: missing === "" ? name : `${name} (${why} for ${missing})` };
  }
  // What is shown comes from the pairs too, so that the factor is that of the two figures beside it.
  const figures = ([0, 1] as const).map((at) => median(pairs.map((pair) => pair[at])))
    .map((value) => Number.isFinite(value) ? showOn(axis, value, task) : "none").join(" against ");
  // No run is known to be better than half a wrong row; with it a ratio exists also where nothing was wrong.
  const least = axis === "error" && task.classes ? 0.5 / task.rows : 0;
  const interval = ratioInterval(
    pairs.map(([value, against]) => [Math.max(value, least), Math.max(against, least)] as const),
  );
  // Bytes and multiply-adds follow from shapes; everything else needs more than one pair.
  const exact = axis === "bytes" || axis === "multiplyAdds";
  const outcome = pairs.length < 2 && !exact ? "open" : outcomeOf(interval);
  const of = axis === "error" && task.classes ? " of the error" : "";
  return { axis, outcome, interval, words: `${name} (${figures}${factor(outcome, interval, of)})` };
}

/** The target may not be reached at all, which is a result too. */
function onTarget(side: Side, reference: Side, task: Task): Verdict {
  const axis = "secondsToTarget";
  const name = axisName(axis, task);
  if (task.target === null) return { axis, outcome: "open", words: `${name} (there is no target)` };
  const reached = (runs: readonly CompareRun[]) =>
    runs.filter((run) => secondsToTarget(run, task) !== undefined).length;
  const [own, other] = [reached(side.runs), reached(reference.runs)];
  const seeds = side.runs.length;
  const target = task.classes ? `${(100 * task.target).toFixed(2)} %` : `a loss of ${digits(task.target)}`;
  if (own === seeds && other === seeds) return onAxis(axis, { side, reference, task });
  if (own === 0 && other === 0) return { axis, outcome: "open", words: `${name} (neither reached ${target})` };
  const outcome = seeds < 2 || own === other ? "open" : own > other ? "wins" : "loses";
  return { axis, outcome, words: `${name} (${target} reached with ${own} of ${seeds} seeds against ${other})` };
}

function outcomeOf({ ratio, low, high }: RatioInterval): Verdict["outcome"] {
  if (!Number.isFinite(ratio)) return ratio === Infinity ? "loses" : "open";
  if (low <= 1 && high >= 1 || Math.abs(ratio - 1) <= MARGIN) return "tie";
  return ratio < 1 ? "wins" : "loses";
}

/** A factor above 1 says how much better or worse; that of a tie is the plain ratio. */
function factor(outcome: Verdict["outcome"], { ratio, low, high }: RatioInterval, of: string): string {
  if (!Number.isFinite(ratio) || outcome === "open") return "";
  const [middle, from, to] = outcome === "wins" ? [1 / ratio, 1 / high, 1 / low] : [ratio, low, high];
  const range = from === to ? "" : `, ${from.toFixed(2)} to ${to.toFixed(2)}`;
  const words = outcome === "tie" ? "ratio" : "factor";
  return `, ${words}${of} ${middle.toFixed(2)}${range}`;
}

function digits(value: number): string {
  return String(Number(value.toPrecision(3)));
}
