/**
 * Learning rules side by side: same network, data, seeds and number of epochs, each with the learning rate that suits it, and turn
 * by turn, so that a machine that slows down slows all of them.
 *
 * @module
 */

import { Dataset } from "../data/dataset.ts";
import { withValidation } from "../data/split.ts";
import { checkPlan, type CompareOptions, type ComparePlan, entryOf } from "./compare_plan.ts";
import { chanceNote, noTargetNote, optimizerNote, provisionalWords, rateNote, runNotes } from "./compare_notes.ts";
import type { ComparedRule, Comparison, StoppedComparison, StoppedRule } from "./comparison.ts";
import { type CompareRun, Contestant, type Rows } from "./contestant.ts";
import { chooseRates, takeTurns, triedRate } from "./rates.ts";
import {
  bestError,
  compareAxes,
  figuresOn,
  secondsToTarget,
  seedsWarning,
  sentenceOf,
  type Side,
  type Task,
  verdictsOf,
} from "./verdicts.ts";

/** Share of the training rows that is watched, where the data has no validation rows. */
const VALIDATION_SHARE = 0.1;

/**
 * Compares learning rules. Each tries the learning rates by successive halving (with a seed that is not among those measured: all
 * rates begin, and again and again the worse half is dropped, so that the last one left has had at most half of the epochs; where no
 * rates are given it goes on beyond the end at which its best stands), then trains with each seed. Epochs of the rules take turns, and each turn begins with another rule.
 *
 * @param options network, data, rules, seeds, learning rates, and how to train
 * @returns figures, verdicts and sentences; all sentences are made from the figures
 * @throws {ConfigError} where an option cannot be used: no rule, rate or seed, an unknown rule, or two rules for one slot
 * @throws {EngineError} where a rule refuses network, data or optimizer (before anything is trained); the message names it
 * @throws the signal's reason when it aborts; `onStop` gets what has been measured by then
 * @throws {AggregateError} where `onStop` throws too: what ended the comparison comes first in its `errors`
 *
 * @example
 * ```ts
 * import { compare, dense, flatten, glyphs, relu } from "@leanprop/leanprop";
 * const data = glyphs({ rows: 600, testRows: 100 });
 * const network = { input: [28, 28, 1], layers: [flatten(), dense(32), relu(), dense(10)] };
 * const { rules } = await compare({ network, data, rules: ["backprop", "mem-aop"], seeds: [0, 1], epochs: 2 });
 * for (const { sentence } of rules) console.log(sentence);
 * ```
 */
export async function compare(options: CompareOptions): Promise<Comparison> {
  const checked = checkPlan(options);
  const data = checked.data.validation
    ? checked.data
    : withValidation(checked.data, { fraction: VALIDATION_SHARE, seed: 0 });
  const plan = { ...checked, data };
  using owned = new DisposableStack();
  const rows: Rows = {
    train: owned.use(await Dataset.create(data.train)),
    validation: owned.use(await Dataset.create(data.validation!)),
    test: data.test && owned.use(await Dataset.create(data.test)),
  };
  const found: Measured = { tried: [], runs: plan.sides.map(() => []), underWay: [] };
  try {
    found.chosen = await chooseRates(plan, rows, found);
    await measure(plan, rows, { found, rates: found.chosen });
  } catch (fault) {
    if (plan.onStop && isAnything(found)) tellOfStop(plan.onStop, { fault, comparison: judge(plan, rows, found) });
    throw fault;
  }
  // With every seed there is a rate for each rule.
  return judge(plan, rows, found) as Comparison;
}

/** Calls `onStop`, whose own fault does not hide what ended the comparison. */
function tellOfStop(
  onStop: NonNullable<CompareOptions["onStop"]>,
  { fault, comparison }: { readonly fault: unknown; readonly comparison: StoppedComparison },
): void {
  try {
    onStop(comparison);
  } catch (second) {
    const [first, then] = [fault, second].map((error) => error instanceof Error ? error.message : String(error));
    throw new AggregateError([fault, second], `${first}; after that onStop failed: ${then}`, { cause: fault });
  }
}

/** What has been measured so far. */
interface Measured {
  /** Runs with the rates that each rule tries. */
  tried: readonly (readonly Contestant[])[];
  /** The rate that each rule trains with. */
  chosen?: readonly number[];
  /** Runs of the seeds that all rules have finished, by rule. */
  readonly runs: readonly CompareRun[][];
  /** Runs of the seed that comes next, by rule. */
  underWay: readonly Contestant[];
}

function isAnything({ tried, runs, underWay }: Measured): boolean {
  return runs[0]!.length > 0 || [...tried.flat(), ...underWay].some(({ begun }) => begun);
}

/** Figures, verdicts and sentences of what has been measured. */
function judge(plan: ComparePlan, { train, validation }: Rows, found: Measured): StoppedComparison {
  const { chosen, runs, underWay } = found;
  const classes = train.targets.kind === "labels";
  const sides: Side[] = plan.sides.map(({ name }, index) => ({ name, runs: runs[index]! }));
  const [reference] = sides;
  const seeds = plan.seeds.slice(0, reference!.runs.length);
  const missingSeeds = plan.seeds.slice(seeds.length);
  const target = plan.reach ?? (seeds.length === 0 ? null : reachedByAll(reference!, classes));
  const task = seeds.length === 0 ? undefined : { classes, rows: validation.rows, target };
  const tried = sides.map((_, index) =>
    (found.tried[index] ?? []).filter(({ begun }) => begun).map((run) => triedRate(run, chosen?.[index] ?? null))
  );
  const rules = sides.map((side, index): StoppedRule => {
    const verdicts = index === 0 || !task ? [] : verdictsOf(side, reference!, task);
    const { optimizer } = plan.sides[index]!;
    const learningRate = chosen?.[index] ?? null;
    const [own, other] = [index, 0].map((at) => ({ name: sides[at]!.name, tried: tried[at]! }));
    return {
      ...side,
      ...(underWay[index]?.begun && { unfinished: underWay[index].state() }),
      learningRate,
      optimizer: learningRate === null ? optimizer : { ...optimizer, learningRate },
      tried: tried[index]!,
      ...(task ? figuresOf(side, task) : { figures: {}, reached: 0 }),
      verdicts,
      sentence: verdicts.length === 0
        ? ""
        : `${sentenceOf(side, reference!, verdicts)}${provisionalWords(own!, other!)}`,
    };
  });
  const warning = task && seedsWarning(seeds.length);
  const words = missingSeeds.length > 0
    ? stoppedWords(found, { done: seeds.length, of: plan.seeds.length })
    : undefined;
  return {
    data: plan.data.name,
    classes,
    rows: validation.rows,
    seeds,
    ...(words !== undefined && { stopped: { missingSeeds, words } }),
    epochs: plan.shared.epochs,
    batchSize: plan.shared.batchSize ?? Math.min(128, train.rows),
    target,
    targetFrom: plan.reach === undefined ? "reference" : "options",
    rules,
    notes: [
      ...(warning === undefined ? [] : [warning]),
      ...plan.sides.flatMap((side) => optimizerNote(side, plan.sides[0]!)),
      ...rules.flatMap(rateNote),
      ...rules.flatMap((rule, index) => runNotes(rule, found.tried[index] ?? [])),
      ...(task && target === null ? [noTargetNote(reference!)] : []),
      ...(target === null ? [] : chanceNote(target, plan.data.validation!)),
      ...(target !== null && task && rules.every(({ reached }) => reached === 0) ? ["No rule reached the target"] : []),
    ],
  };
}

/** How far a comparison came that was stopped. */
function stoppedWords({ chosen }: Measured, { done, of }: { readonly done: number; readonly of: number }): string {
  if (chosen === undefined) return "Stopped while learning rates were tried: none is chosen, and no seed is measured";
  const complete = `Stopped with ${done} of ${of} ${of === 1 ? "seed" : "seeds"} complete`;
  return `${complete}: ${done === 0 ? "there are no verdicts" : "figures and verdicts are of what is complete"}`;
}

/** Trains every rule with every seed. */
async function measure(
  plan: ComparePlan,
  rows: Rows,
  { found, rates }: { readonly found: Measured; readonly rates: readonly number[] },
): Promise<void> {
  for (const seed of plan.seeds) {
    using owned = new DisposableStack();
    const contestants: Contestant[] = [];
    for (const [index, side] of plan.sides.entries()) {
      contestants.push(owned.use(await Contestant.create(entryOf(plan, side, rates[index]!, seed), rows)));
    }
    found.underWay = contestants;
    await takeTurns(contestants, { plan, phase: "measure", epochs: Math.ceil(plan.shared.epochs) });
    const results: CompareRun[] = [];
    for (const contestant of contestants) results.push(await contestant.result());
    for (const [index, result] of results.entries()) found.runs[index]!.push(result);
    found.underWay = [];
    await plan.onSeed?.(judge(plan, rows, found));
  }
}

/** What a rule reaches with every seed: the accuracy (or loss) of its worst run; `null` where a run has no figure. */
function reachedByAll({ runs }: Side, classes: boolean): number | null {
  if (runs.some(({ curve }) => curve.length === 0)) return null;
  const worst = Math.max(...runs.map((run) => bestError(run, { classes })));
  // The complement of a complement may differ in the last digit from the accuracy that it came from.
  return classes
    ? Math.min(...runs.map(({ curve }) => Math.max(...curve.map((point) => point.validationAccuracy!))))
    : worst;
}

function figuresOf(side: Side, task: Task): Pick<ComparedRule, "figures" | "reached"> {
  const found = compareAxes.flatMap((axis) => {
    const figures = figuresOn(axis, side, task);
    return figures ? [[axis, figures] as const] : [];
  });
  const reached = side.runs.filter((run) => secondsToTarget(run, task) !== undefined).length;
  return { figures: Object.fromEntries(found), reached };
}
