/**
 * Where a rule wins and loses, decided and put into words from the figures alone.
 *
 * @module
 */

import { digits } from "../digits.ts";
import type { CompareRun } from "./contestant.ts";
import {
  countsDiffer,
  type DifferenceInterval,
  differenceInterval,
  mean,
  median,
  type RatioInterval,
  ratioInterval,
} from "../statistics.ts";

/** A factor as near to 1 as this decides nothing, however sure it is. */
const MARGIN = 0.01;

/**
 * Fewest pairs that decide anything in which chance takes part. Two that agree to the last digit are no sign of certainty: accuracies
 * and epochs until a target come in coarse steps, so that by chance alone two pairs agree, and differ from 1, in up to an eighth of
 * all cases. Three do in less than a twentieth.
 */
const FEWEST_PAIRS = 3;

/** Seeds with which intervals begin to be narrow: Student's factor on the standard error is 2.8 of five, and 4.3 of three. */
const ENOUGH_SEEDS = 5;

/** What is compared; less is better on each. */
export type CompareAxis = "error" | "testError" | "secondsToTarget" | "secondsPerStep" | "bytes" | "multiplyAdds";

/** What is compared, in order. */
export const compareAxes: readonly CompareAxis[] = [
  "error",
  "testError",
  "secondsToTarget",
  "secondsPerStep",
  "bytes",
  "multiplyAdds",
];

/** How a rule does on one axis, against the reference. */
export interface Verdict {
  /** The axis. */
  readonly axis: CompareAxis;
  /** `"tie"` where the interval holds 1, or the factor is within 1 % of it; `"open"` where there is too little to decide by. */
  readonly outcome: "wins" | "loses" | "tie" | "open";
  /**
   * Ratio of the geometric means to the reference's with its 95 % interval (Student's, over the logarithms of the pairs' ratios);
   * below 1 is better. Missing where there are no pairs, where a run has no figure, and where a figure is 0, which has no ratio.
   */
  readonly interval?: RatioInterval;
  /**
   * Where a figure is 0: mean of the pairs' differences to the reference with its 95 % interval (Student's); below 0 is better. Of
   * accuracies it is that of the error, a share: 0.01 are one point of percent.
   */
  readonly difference?: DifferenceInterval;
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

/** The error on the test rows at the end of a run; `undefined` without such rows, and after divergence. */
function testError({ testAccuracy, testLoss }: CompareRun, { classes }: Pick<Task, "classes">): number | undefined {
  if (testLoss === null) return undefined;
  return classes ? 1 - testAccuracy! : testLoss;
}

/** Seconds until the run had reached the target; `undefined` where it never did, or there is none. */
export function secondsToTarget(run: CompareRun, { classes, target }: Task): number | undefined {
  if (target === null) return undefined;
  return run.curve.find(({ validationAccuracy, validationLoss }) =>
    classes ? validationAccuracy! >= target : validationLoss <= target
  )?.seconds;
}

/**
 * Figures of a rule on an axis; `undefined` where it has none. Seconds per step have the median over all epochs of all runs, and the
 * range of the runs' medians.
 */
export function figuresOn(axis: CompareAxis, side: Side, task: Task): AxisFigures | undefined {
  const values = side.runs.map((run) => valueOn(axis, run, task)).filter((value) => value !== undefined);
  if (values.length === 0) return undefined;
  const epochs = side.runs.flatMap(({ curve }) => curve.map(({ secondsPerStep }) => secondsPerStep));
  return {
    median: median(axis === "secondsPerStep" ? epochs : values),
    low: Math.min(...values),
    high: Math.max(...values),
  };
}

/** How a rule does on all axes; on test rows where there are any. */
export function verdictsOf(side: Side, reference: Side, task: Task): Verdict[] {
  const tested = [...side.runs, ...reference.runs].some((run) => testError(run, task) !== undefined);
  return compareAxes.filter((axis) => axis !== "testError" || tested)
    .map((axis) => onAxis(axis, { side, reference, task }));
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
  const have = seeds === 1 ? "One seed says nothing about chance" : `${seeds} seeds say little about chance`;
  return seeds < FEWEST_PAIRS
    ? `${have}: what is decided by seeds, such as the best error, stays open below ${FEWEST_PAIRS} of them`
    : `${have}: intervals over fewer than ${ENOUGH_SEEDS} are wide`;
}

/** A figure on an axis in words. */
export function showOn(axis: CompareAxis, value: number, { classes }: Pick<Task, "classes">): string {
  switch (axis) {
    case "error":
    case "testError":
      return classes ? `${(100 * (1 - value)).toFixed(2)} %` : digits(value, 3);
    case "secondsToTarget":
      return `${digits(value, 3)} s`;
    case "secondsPerStep":
      return `${digits(1000 * value, 3)} ms`;
    case "bytes":
      return `${digits(value / 2 ** 20, 3)} MiB`;
    case "multiplyAdds":
      return `${digits(value / 1e6, 3)} M`;
  }
}

/** The name of an axis in words. */
export function axisName(axis: CompareAxis, { classes }: Pick<Task, "classes">): string {
  return {
    error: classes ? "best accuracy" : "best loss",
    testError: classes ? "test accuracy" : "test loss",
    secondsToTarget: "time to target",
    secondsPerStep: "seconds per step",
    bytes: "memory",
    multiplyAdds: "multiply-adds per step",
  }[axis];
}

/** The value of a run on an axis; `undefined` where it has none. */
function valueOn(axis: CompareAxis, run: CompareRun, task: Task): number | undefined {
  switch (axis) {
    case "error":
      return run.curve.length === 0 ? undefined : bestError(run, task);
    case "testError":
      return testError(run, task);
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
  const open = (why: string): Verdict => ({ axis, outcome: "open", words: `${name} (${why})` });
  if (axis === "secondsToTarget" && task.target === null) return open("there is no target");
  const pairs = pairsOn(axis, side, reference, task);
  const count = ({ runs }: Side) => runs.filter((run) => valueOn(axis, run, task) !== undefined).length;
  const [own, other] = [count(side), count(reference)];
  const seeds = side.runs.length;
  if (axis === "secondsToTarget" || axis === "error" || axis === "testError") {
    const target = axis === "secondsToTarget" ? showTarget(task) : "";
    if (own === 0 && other === 0 && target !== "") return open(`neither reached ${target}`);
    // Who has no figure does worse than all who have one: pairs of those that have would hide it.
    if (own + other > 0 && own + other < 2 * seeds) {
      const outcome = !countsDiffer(own, other, seeds) ? "open" : own > other ? "wins" : "loses";
      const what = target === "" ? "measured" : `${target} reached`;
      return { axis, outcome, words: `${name} (${what} with ${own} of ${seeds} seeds against ${other})` };
    }
  }
  if (pairs.length === 0) {
    const missing = [own === 0 ? side.name : "", other === 0 ? reference.name : ""].filter((name) => name !== "");
    const whose = missing.join(" and ") || "both at once";
    return open(`${axis === "multiplyAdds" ? "not counted" : "nothing measured"} for ${whose}`);
  }
  return onPairs(axis, pairs, task);
}

/** What was measured side by side decides. */
function onPairs(axis: CompareAxis, pairs: readonly (readonly [number, number])[], task: Task): Verdict {
  const name = axisName(axis, task);
  // Nothing is a multiple of 0: differences decide then, and there is no factor.
  const ratios = pairs.flat().every((value) => value > 0);
  const interval = ratios ? ratioInterval(pairs) : undefined;
  const difference = ratios ? undefined : differenceInterval(pairs);
  const middle = (values: readonly number[]) => ratios ? Math.exp(mean(values.map(Math.log))) : mean(values);
  const figures = ([0, 1] as const).map((at) => showOn(axis, middle(pairs.map((pair) => pair[at])), task))
    .join(" against ");
  // Bytes and multiply-adds follow from shapes.
  const exact = axis === "bytes" || axis === "multiplyAdds";
  const outcome = pairs.length < FEWEST_PAIRS && !exact ? "open" : interval ? outcomeOf(interval) : signOf(difference!);
  const share = (axis === "error" || axis === "testError") && task.classes;
  const of = share ? " of the error" : "";
  const points = share ? " points of percent" : "";
  const by = interval
    ? `${outcome === "tie" ? "ratio" : "factor"}${of} ${withRange(factor(outcome, interval))}`
    : `no factor since 0 has none, difference${of} ${
      withRange(apart(outcome, difference!, { axis, task, share }))
    }${points}`;
  const more = outcome === "open" ? "" : `, ${by}`;
  const words = `${name} (${figures}${more})`;
  return { axis, outcome, ...(interval && { interval }), ...(difference && { difference }), words };
}

function outcomeOf({ ratio, low, high }: RatioInterval): Verdict["outcome"] {
  if (low <= 1 && high >= 1 || Math.abs(ratio - 1) <= MARGIN) return "tie";
  return ratio < 1 ? "wins" : "loses";
}

/** The outcome of differences, of which those below 0 are better. */
function signOf({ difference, low, high }: DifferenceInterval): Verdict["outcome"] {
  return low <= 0 && high >= 0 ? "tie" : difference < 0 ? "wins" : "loses";
}

function showTarget({ classes, target }: Task): string {
  return classes ? `${(100 * target!).toFixed(2)} %` : `a loss of ${digits(target!, 3)}`;
}

/** A factor above 1 says how much better or worse; that of a tie is the plain ratio. */
function factor(outcome: Verdict["outcome"], { ratio, low, high }: RatioInterval): string[] {
  return outcome === "wins"
    ? decimals([1 / ratio, 1 / high, 1 / low], 1)
    : decimals([ratio, low, high], outcome === "tie" ? undefined : 1);
}

/** A difference above 0 says how much better or worse; that of a tie is the plain difference. */
function apart(
  outcome: Verdict["outcome"],
  { difference, low, high }: DifferenceInterval,
  { axis, task, share }: { readonly axis: CompareAxis; readonly task: Task; readonly share: boolean },
): string[] {
  const values = outcome === "wins" ? [-difference, -high, -low] : [difference, low, high];
  if (!share) return values.map((value) => showOn(axis, value, task));
  return decimals(values.map((value) => 100 * value), outcome === "tie" ? undefined : 0);
}

function withRange([middle, from, to]: readonly string[]): string {
  return from === to ? middle! : `${middle}, ${from} to ${to}`;
}

/** Two decimals, or as many more as it takes to show on which side of a border, where there is one, the numbers lie. */
function decimals(values: readonly number[], border?: number): string[] {
  let count = 2;
  while (values.some((value) => value !== border && Number(value.toFixed(count)) === border)) count++;
  return values.map((value) => value.toFixed(count).replace(/^-(0\.0+)$/, "$1"));
}
