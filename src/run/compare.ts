/**
 * Learning rules side by side: same network, data, seeds and number of epochs, each with the learning rate that suits it, and turn
 * by turn, so that a machine that slows down slows all of them.
 *
 * @module
 */

import { callback, knownOptions, number, objectOfOptions, seedNumber } from "../config.ts";
import { Dataset } from "../data/dataset.ts";
import { withValidation } from "../data/split.ts";
import { isStream } from "../data/stream.ts";
import type { Data } from "../data/table.ts";
import { ConfigError } from "../errors.ts";
import type { NetworkOptions } from "../network/network.ts";
import { isRule, type Rule, ruleByName } from "../rules/mod.ts";
import { adam, checkOptimizer, type Optimizer } from "../train/optimizers.ts";
import type { TrainOptions } from "../train/trainer.ts";
import { type CompareRun, Contestant, type Entry, type Rows } from "./contestant.ts";
import {
  type AxisFigures,
  bestError,
  compareAxes,
  type CompareAxis,
  figuresOn,
  secondsToTarget,
  seedsWarning,
  sentenceOf,
  type Side,
  type Task,
  type Verdict,
  verdictsOf,
} from "./verdicts.ts";

/** Factors on the optimizer's rate that are tried where no rates are given. */
const FACTORS = [1 / 3, 1, 3];

/** Share of the training rows that is watched, where the data has no validation rows. */
const VALIDATION_SHARE = 0.1;

/** A rule that takes part, with its own optimizer where the others' does not suit it. */
export interface CompareEntry {
  /** The rule. */
  readonly rule: Rule;
  /** Name in the results. Default: that of the rule. */
  readonly name?: string;
  /** Its optimizer. Default: that of the comparison. */
  readonly optimizer?: Optimizer;
  /** Learning rates to try. Default: those of the comparison; where there are none, about its optimizer's rate. */
  readonly learningRates?: readonly number[];
}

/** What {@linkcode compare} takes. */
export interface CompareOptions extends Omit<TrainOptions, "rule" | "seed" | "onProgress" | "probe"> {
  /** The network; its seed comes from `seeds`. */
  readonly network: Omit<NetworkOptions, "seed">;
  /** The data. Without validation rows a tenth of the training rows is watched. */
  readonly data: Data;
  /**
   * The rules: names as on the command line (`"sparse"`, `"sparse+mem-aop"`), rules, or entries with a name and an optimizer. The
   * first is the reference that the others are compared with.
   */
  readonly rules: readonly (string | Rule | CompareEntry)[];
  /** Seeds of the measured runs. Default `[0, 1, 2, 3, 4]`. */
  readonly seeds?: readonly number[];
  /** Learning rates that each rule tries. Default: a third of the optimizer's, its own, and three times as much. */
  readonly learningRates?: readonly number[];
  /**
   * What counts as learnt: an accuracy from 0 to 1, or for values as targets a loss. Default: what the reference reaches with every
   * seed.
   */
  readonly reach?: number;
  /** Called before each epoch. */
  readonly onProgress?: (progress: CompareProgress) => void;
  /**
   * Called with what has been measured, where the comparison ends before its time, by its signal or by a fault, and anything has
   * been; what ended it is thrown afterwards, together with what this throws.
   */
  readonly onStop?: (comparison: StoppedComparison) => void;
}

/** What a comparison is doing. */
export interface CompareProgress {
  /** Whether learning rates are tried, or the chosen ones measured. */
  readonly phase: "rates" | "measure";
  /** The rule whose turn it is. */
  readonly name: string;
  /** Its learning rate. */
  readonly learningRate: number;
  /** Its seed. */
  readonly seed: number;
  /** Its epoch, from 1. */
  readonly epoch: number;
  /** Epochs of a run. */
  readonly epochs: number;
}

/** A learning rate that was tried. */
export interface TriedRate {
  /** The rate. */
  readonly learningRate: number;
  /** Epochs that it was given. */
  readonly epochs: number;
  /** Validation loss after them; `null` where it was not finite. */
  readonly validationLoss: number | null;
  /** Whether it was taken. */
  readonly chosen: boolean;
}

/** A rule in the results of a comparison that may have been stopped. */
export interface StoppedRule {
  /** Its name. */
  readonly name: string;
  /** Its learning rate; `null` where none has been chosen yet. */
  readonly learningRate: number | null;
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

const ENTRY = ["rule", "name", "optimizer", "learningRates"] as const satisfies readonly (keyof CompareEntry)[];

/** What `TrainOptions` has and a comparison decides itself. */
const DECIDED = ["rule", "seed", "probe"] as const;

/**
 * Compares learning rules. Each tries the learning rates by successive halving (with a seed that is not among those measured: all
 * rates begin, and again and again the worse half is dropped, so that the last one left has had at most half of the epochs), then
 * trains with each seed. Epochs of the rules take turns, and each turn begins with another rule.
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
  const plan = checkPlan(options);
  const data = plan.data.validation ? plan.data : withValidation(plan.data, { fraction: VALIDATION_SHARE, seed: 0 });
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
  const rules = sides.map((side, index): StoppedRule => {
    const verdicts = index === 0 || !task ? [] : verdictsOf(side, reference!, task);
    const learningRate = chosen?.[index] ?? null;
    return {
      ...side,
      ...(underWay[index]?.begun && { unfinished: underWay[index].state() }),
      learningRate,
      tried: (found.tried[index] ?? []).filter(({ begun }) => begun).map((run) => triedRate(run, learningRate)),
      ...(task ? figuresOf(side, task) : { figures: {}, reached: 0 }),
      verdicts,
      sentence: verdicts.length === 0 ? "" : sentenceOf(side, reference!, verdicts),
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
      ...plan.sides.flatMap((side, index) => edgeNote(side, rules[index]!.learningRate)),
      ...rules.flatMap((rule, index) => runNotes(rule, found.tried[index] ?? [])),
      ...(task && target === null ? [noTargetNote(reference!)] : []),
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

function triedRate(contestant: Contestant, chosen: number | null): TriedRate {
  const { learningRate } = contestant.entry.training.optimizer;
  const loss = lossOf(contestant);
  return {
    learningRate,
    epochs: contestant.curve.length,
    validationLoss: Number.isFinite(loss) ? loss : null,
    chosen: learningRate === chosen,
  };
}

/** A rule with its optimizer and the rates that it tries. */
interface PlannedSide {
  readonly name: string;
  readonly rule: Rule;
  readonly optimizer: Optimizer;
  readonly learningRates: readonly number[];
}

/** Options that have been checked. */
interface ComparePlan extends Pick<CompareOptions, "network" | "data" | "reach" | "onProgress" | "onStop"> {
  readonly sides: readonly PlannedSide[];
  readonly seeds: readonly number[];
  readonly shared: Omit<TrainOptions, "rule" | "seed" | "optimizer" | "onProgress"> & { readonly epochs: number };
}

function checkPlan(options: CompareOptions): ComparePlan {
  objectOfOptions("compare", options, "network");
  for (const name of DECIDED) {
    if (Object.hasOwn(options, name)) {
      throw new ConfigError(`compare.${name}`, "no such option: use rules and seeds", "one");
    }
  }
  const {
    network,
    data,
    rules,
    seeds = [0, 1, 2, 3, 4],
    learningRates: _,
    reach,
    onProgress,
    onStop,
    optimizer = adam(),
    epochs = 10,
    ...shared
  } = options;
  objectOfOptions("compare.network", network, "layers");
  if (Object.hasOwn(network, "seed")) {
    throw new ConfigError("compare.network.seed", "no such option: use seeds", "one");
  }
  callback("compare.onProgress", onProgress);
  callback("compare.onStop", onStop);
  if (isStream(data) || isStream(data?.train)) {
    throw new ConfigError("compare.data", "rows that are all in memory, as every run reads them", "a stream");
  }
  if (typeof data?.train !== "object" || data.train === null) {
    throw new ConfigError("compare.data", "a data set with training rows", data);
  }
  const sides = list("compare.rules", rules, "two or more rules", 2).map((given) =>
    planSide(given, { options, optimizer })
  );
  const names = new Map<string, number>();
  for (const { name } of sides) names.set(name, (names.get(name) ?? 0) + 1);
  for (const [name, count] of names) {
    if (count > 1) throw new ConfigError("compare.rules", "rules with different names", `${name} ${count} times`);
  }
  if (reach !== undefined) {
    const classes = data.train.targets.kind === "labels";
    number("compare.reach", reach, classes ? { min: 0, max: 1 } : {});
  }
  const checked = list("compare.seeds", seeds, "one or more seeds", 1).map((seed) => seedNumber("compare.seeds", seed));
  const double = checked.find((seed, index) => checked.indexOf(seed) !== index);
  if (double !== undefined) throw new ConfigError("compare.seeds", "different seeds", `${double} twice`);
  return {
    network,
    data,
    sides,
    seeds: checked,
    shared: { ...shared, epochs: number("compare.epochs", epochs, { above: 0 }) },
    ...(reach !== undefined && { reach }),
    ...(onProgress && { onProgress }),
    ...(onStop && { onStop }),
  };
}

function planSide(
  given: string | Rule | CompareEntry,
  { options, optimizer }: { readonly options: CompareOptions; readonly optimizer: Optimizer },
): PlannedSide {
  const entry = entryGiven(given);
  const own = checkOptimizer({ ...entry.optimizer ?? optimizer });
  const rates = entry.learningRates ?? options.learningRates ?? FACTORS.map((factor) => factor * own.learningRate);
  const learningRates = list("compare.learningRates", rates, "one or more learning rates", 1).map((rate) =>
    number("compare.learningRates", rate, { above: 0 })
  );
  const double = learningRates.find((rate, index) => learningRates.indexOf(rate) !== index);
  if (double !== undefined) {
    throw new ConfigError("compare.learningRates", "different learning rates", `${double} twice`);
  }
  return { name: entry.name ?? entry.rule.name, rule: entry.rule, optimizer: own, learningRates };
}

/** A rule in whichever way it was named. */
function entryGiven(given: string | Rule | CompareEntry): CompareEntry {
  if (typeof given === "string") return { rule: ruleByName(given) };
  const refused = new ConfigError("compare.rules", "names of rules, rules, or entries with a rule", given);
  if (typeof given !== "object" || given === null) throw refused;
  if (!("slots" in given)) knownOptions("compare.rules", given, ENTRY);
  const entry: CompareEntry = "slots" in given ? { rule: given } : given;
  if (!isRule(entry.rule)) throw refused;
  if (entry.name !== undefined && (typeof entry.name !== "string" || entry.name === "")) {
    throw new ConfigError("compare.rules.name", "a name", entry.name);
  }
  return entry;
}

function list<T>(path: string, values: readonly T[], expected: string, least: number): readonly T[] {
  if (Array.isArray(values) && values.length >= least) return values;
  throw new ConfigError(path, expected, Array.isArray(values) ? (values.length === 0 ? "none" : "one") : values);
}

/** Rules with different optimizers differ in more than the rule. */
function optimizerNote({ name, optimizer }: PlannedSide, reference: PlannedSide): string[] {
  if (optimizer.kind === reference.optimizer.kind) return [];
  return [`${name} trains with ${optimizer.kind}, ${reference.name} with ${reference.optimizer.kind}`];
}

/** A best rate at the end of the grid says that better ones may lie outside. */
function edgeNote({ name, learningRates }: PlannedSide, chosen: number | null): string[] {
  if (learningRates.length < 2 || chosen === null) return [];
  const [least, most] = [Math.min(...learningRates), Math.max(...learningRates)];
  if (chosen !== least && chosen !== most) return [];
  const end = chosen === least ? "smallest" : "largest";
  return [
    `${name} did best with the ${end} learning rate that it tried (${
      Number(chosen.toPrecision(3))
    }); others may suit it better`,
  ];
}

/** What the runs of a rule had to warn of, each thing once; those that tried rates count where there are no others. */
function runNotes({ name, runs, unfinished }: StoppedRule, tried: readonly Contestant[]): string[] {
  const measured = unfinished ? [...runs, unfinished] : runs;
  const counted = measured.length > 0 ? measured : tried.map((contestant) => contestant.state());
  return [...new Set(counted.flatMap(({ warnings }) => warnings))].map((warning) => `${name}: ${warning}`);
}

/** What a contestant is made of. */
function entryOf(plan: ComparePlan, side: PlannedSide, learningRate: number, seed: number): Entry {
  const { rule, optimizer, name } = side;
  return {
    name,
    network: { ...plan.network, seed },
    training: { ...plan.shared, rule, seed, optimizer: { ...optimizer, learningRate } },
  };
}

/** Lets contestants train until each has had `epochs`, one epoch at a time; each turn begins with another of them. */
async function takeTurns(
  contestants: readonly Contestant[],
  { plan, phase, epochs }: {
    readonly plan: ComparePlan;
    readonly phase: CompareProgress["phase"];
    readonly epochs: number;
  },
): Promise<void> {
  const least = () => Math.min(...contestants.filter(({ finished }) => !finished).map(({ curve }) => curve.length));
  for (let done = least(); done < epochs; done = least()) {
    for (let turn = 0; turn < contestants.length; turn++) {
      const contestant = contestants[(turn + done) % contestants.length]!;
      const { finished, curve, entry: { name, training } } = contestant;
      if (finished || curve.length > done) continue;
      plan.onProgress?.({
        phase,
        name,
        learningRate: training.optimizer.learningRate,
        seed: training.seed,
        epoch: curve.length + 1,
        epochs: Math.ceil(plan.shared.epochs),
      });
      await contestant.epoch();
    }
  }
}

/** Successive halving over the rates of each rule, all rules at once (Jamieson and Talwalkar 2016). */
async function chooseRates(plan: ComparePlan, rows: Rows, found: Measured): Promise<number[]> {
  const most = Math.max(...plan.sides.map(({ learningRates }) => learningRates.length));
  if (most === 1) return plan.sides.map(({ learningRates: [only] }) => only!);
  using owned = new DisposableStack();
  // Not one of the seeds that are measured: a rate that was lucky with one of them would profit twice.
  const seed = Math.max(...plan.seeds) + 1;
  const all: Contestant[][] = [];
  for (const side of plan.sides) {
    const own: Contestant[] = [];
    for (const rate of side.learningRates) {
      own.push(owned.use(await Contestant.create(entryOf(plan, side, rate, seed), rows)));
    }
    all.push(own);
  }
  found.tried = all;
  const rounds = Math.ceil(Math.log2(most));
  let left = all;
  for (let round = 0; round < rounds; round++) {
    const epochs = Math.max(1, Math.ceil(plan.shared.epochs / 2 ** (rounds - round)));
    await takeTurns(left.filter((own) => own.length > 1).flat(), { plan, phase: "rates", epochs });
    left = left.map((own) => own.toSorted((a, b) => lossOf(a) - lossOf(b)).slice(0, Math.ceil(own.length / 2)));
  }
  return left.map(([best]) => best!.entry.training.optimizer.learningRate);
}

/** What rates are judged by; a run that diverged comes last. */
function lossOf({ curve, diverged }: Contestant): number {
  const loss = diverged ? Infinity : curve.at(-1)?.validationLoss ?? Infinity;
  return Number.isNaN(loss) ? Infinity : loss;
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
  }
}

/** A reference that diverges says nothing about what can be learnt. */
function noTargetNote({ name, runs }: Side): string {
  const without = runs.filter(({ curve }) => curve.length === 0).length;
  const seeds = `${without} of ${runs.length} ${runs.length === 1 ? "seed" : "seeds"}`;
  return `There is no target: ${name} diverged with ${seeds} before the end of an epoch; one can be given (reach)`;
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
