/**
 * What a comparison is asked for, and the checks of it.
 *
 * @module
 */

import { callback, knownOptions, number, objectOfOptions, seedNumber } from "../config.ts";
import { isStream } from "../data/stream.ts";
import type { Data } from "../data/table.ts";
import { ConfigError } from "../errors.ts";
import type { NetworkOptions } from "../network/network.ts";
import { isRule, type Rule, ruleByName } from "../rules/mod.ts";
import { adam, checkOptimizer, type Optimizer } from "../train/optimizers.ts";
import { trainOptionNames, type TrainOptions } from "../train/trainer.ts";
import type { StoppedComparison } from "./comparison.ts";
import type { Entry } from "./contestant.ts";

/** Factors on the optimizer's rate that are tried where no rates are given, each three times the one before. */
export const FACTORS = [1 / 3, 1, 3] as const;

/** Seeds of the measured runs where none are given. */
export const defaultSeeds: readonly number[] = [0, 1, 2, 3, 4];

const ENTRY = ["rule", "name", "optimizer", "learningRates"] as const satisfies readonly (keyof CompareEntry)[];

/** What `TrainOptions` has for streams, whose rows come by once: every run reads its rows anew. */
const OF_STREAMS = ["stepsPerEpoch", "prefetch"] as const;

/** What `TrainOptions` has and a comparison decides itself. */
const DECIDED = ["rule", "seed", "probe"] as const;

const OPTIONS: readonly string[] = [
  ...[
    "network",
    "data",
    "rules",
    "seeds",
    "learningRates",
    "reach",
    "onSeed",
    "onStop",
  ] satisfies (keyof CompareOptions)[],
  ...trainOptionNames.filter((name) => ![...DECIDED, ...OF_STREAMS].some((other) => other === name)),
];

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
export interface CompareOptions
  extends Omit<TrainOptions, "rule" | "seed" | "probe" | "stepsPerEpoch" | "prefetch" | "onProgress"> {
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
  /**
   * Learning rates that each rule tries. Default: a third of the optimizer's, its own, and three times as much; and, for each rule as
   * long as its best stands at an end of those that it tried, up to four more beyond that end.
   */
  readonly learningRates?: readonly number[];
  /**
   * What counts as learnt: an accuracy from 0 to 1, or for values as targets a loss. Default: what the reference reaches with every
   * seed.
   */
  readonly reach?: number;
  /** Called before each epoch. */
  readonly onProgress?: (progress: CompareProgress) => void;
  /**
   * Called after each seed that all rules have finished, with what has been measured by then, `stopped` as if it ended there; waited
   * for. What it throws ends the comparison.
   */
  readonly onSeed?: (comparison: StoppedComparison) => void | Promise<void>;
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

/** A rule with its optimizer and the rates that it tries. */
export interface PlannedSide {
  readonly name: string;
  readonly rule: Rule;
  readonly optimizer: Optimizer;
  readonly learningRates: readonly number[];
  /** Whether nobody gave the rates, so that there may be more where the best stands at an end. */
  readonly extend: boolean;
}

/** Options that have been checked. */
export interface ComparePlan
  extends Pick<CompareOptions, "network" | "data" | "reach" | "onProgress" | "onSeed" | "onStop"> {
  readonly sides: readonly PlannedSide[];
  readonly seeds: readonly number[];
  readonly shared: Omit<TrainOptions, "rule" | "seed" | "optimizer" | "onProgress"> & { readonly epochs: number };
}

export function checkPlan(options: CompareOptions): ComparePlan {
  objectOfOptions("compare", options, "network");
  for (const name of DECIDED) {
    if (Object.hasOwn(options, name)) {
      throw new ConfigError(`compare.${name}`, "no such option: use rules and seeds", "one");
    }
  }
  knownOptions("compare", options, OPTIONS);
  const {
    network,
    data,
    rules,
    seeds = defaultSeeds,
    learningRates: _,
    reach,
    onProgress,
    onSeed,
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
  callback("compare.onSeed", onSeed);
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
    ...(onSeed && { onSeed }),
    ...(onStop && { onStop }),
  };
}

/** What a contestant is made of. */
export function entryOf(plan: ComparePlan, side: PlannedSide, learningRate: number, seed: number): Entry {
  const { rule, optimizer, name } = side;
  return {
    name,
    network: { ...plan.network, seed },
    training: { ...plan.shared, rule, seed, optimizer: { ...optimizer, learningRate } },
  };
}

function planSide(
  given: string | Rule | CompareEntry,
  { options, optimizer }: { readonly options: CompareOptions; readonly optimizer: Optimizer },
): PlannedSide {
  const entry = entryGiven(given);
  const own = checkOptimizer({ ...entry.optimizer ?? optimizer });
  const asked = entry.learningRates ?? options.learningRates;
  const rates = asked ?? FACTORS.map((factor) => factor * own.learningRate);
  const learningRates = list("compare.learningRates", rates, "one or more learning rates", 1).map((rate) =>
    number("compare.learningRates", rate, { above: 0 })
  );
  const double = learningRates.find((rate, index) => learningRates.indexOf(rate) !== index);
  if (double !== undefined) {
    throw new ConfigError("compare.learningRates", "different learning rates", `${double} twice`);
  }
  return {
    name: entry.name ?? entry.rule.name,
    rule: entry.rule,
    optimizer: own,
    learningRates,
    extend: asked === undefined,
  };
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
