/**
 * The command `compare`: rules side by side; a table and sentences on the terminal, files in a folder.
 *
 * @module
 */

import { hashData } from "../../data/hash.ts";
import { EngineError } from "../../errors.ts";
import { native } from "../../ffi/native.ts";
import { Network } from "../../network/network.ts";
import { ruleByName, rules } from "../../rules/mod.ts";
import { compare } from "../../run/compare.ts";
import { type CompareEntry, defaultSeeds } from "../../run/compare_plan.ts";
import type { StoppedComparison } from "../../run/comparison.ts";
import { loadFrom, splitValidation } from "../data.ts";
import { explain, UsageError } from "../errors.ts";
import { Interrupt } from "../interrupt.ts";
import { describeMachine, type Machine } from "../machine.ts";
import { helpText, type Parsed, parseOptions } from "../options.ts";
import { chooseOptimizer, makePlan, type Plan, ruleOptions } from "../plan.ts";
import { ProgressView } from "../progress.ts";
import { readRequest, recordedOptions, type Request } from "../request.ts";
import { print } from "../terminal.ts";
import type { trainOptions } from "../train_options.ts";
import { ComparisonLog } from "./log.ts";
import { compareCommand, type CompareValues, defaultRules } from "./options.ts";
import { Results } from "./results.ts";

/**
 * Runs the command.
 *
 * @param args its arguments
 */
export async function compareRules(args: readonly string[]): Promise<void> {
  const parsed = parseOptions(compareCommand, args);
  if (parsed.help) return print(helpText(compareCommand));
  const request = await readRequest(parsed as Pick<Parsed<typeof trainOptions>, "values" | "dotted">, compareCommand);
  const values: CompareValues = request.values;
  if (values["validation-split"] === 0) {
    throw new UsageError(
      "--validation-split",
      "a number above 0, since validation rows are what rules are judged by",
      "0",
    );
  }
  // A library that cannot be used is reported before data is loaded for it.
  native();
  const view = new ProgressView(values.quiet ?? false);
  const names = values.rules ?? defaultRules;
  const options = ruleOptions(request.dotted, names);
  const entries = names.map((name) => entryOf(name, { values, options }));
  view.status(`loading ${values.data ?? "glyphs"}`);
  using interrupt = new Interrupt();
  const { signal } = interrupt;
  const whole = await loadFrom(values, { signal, ...(values.json ? {} : view.loading) });
  view.status("hashing the rows");
  const dataHash = await hashData(whole);
  const { data, fraction } = splitValidation(whole, values);
  const plan = makePlan({ ...request, dotted: {} }, data.train);
  const { seed: _, ...network } = plan.network;
  const { rule: _rule, seed: _seed, ...training } = plan.training;
  const about = {
    options: recordedComparison(request, { plan, validationSplit: fraction }),
    dataHash,
    machine: machineOf(plan),
  };
  // A folder that cannot be had is told of before hours of work, not after them.
  const results = await Results.create({ data: data.name, values, about });
  interrupt.atOnce = () => {
    const words = results.words();
    results.remove();
    return words;
  };
  const log = new ComparisonLog(view);
  const kept: { comparison?: StoppedComparison } = {};
  try {
    const comparison = await compare({
      ...training,
      network,
      data,
      rules: entries,
      signal,
      ...(values.seeds && { seeds: values.seeds }),
      ...(values["learning-rates"] && { learningRates: values["learning-rates"] }),
      ...(values.reach !== undefined && { reach: values.reach }),
      onProgress: (progress) => log.epoch(progress),
      onSeed: async (comparison) => {
        log.seed(comparison);
        if (comparison.stopped) await results.keep(comparison).catch((fault) => view.warn(explain(fault).message));
      },
      onStop: (comparison) => kept.comparison = comparison,
    });
    view.clear();
    const files = await results.tell(comparison);
    if (!values.json) print(`\n${files}`);
    if (comparison.rules.every(({ runs }) => runs.every(({ diverged }) => diverged))) throw nothingLearnt(comparison);
  } catch (fault) {
    view.clear();
    const ending = kept.comparison && await results.tellStopped(kept.comparison, fault);
    results.remove();
    throw ending ?? fault;
  } finally {
    view.clear();
  }
}

/** What all runs of the comparison run on. */
function machineOf(plan: Plan): Machine {
  using network = Network.create(plan.network);
  return describeMachine(network);
}

/** The options as the files keep them: with defaults, but for those that depend on the rule. */
function recordedComparison(request: Request, from: Parameters<typeof recordedOptions>[1]): Record<string, unknown> {
  const { rules = defaultRules, seeds = defaultSeeds, ...own }: CompareValues = request.values;
  const ofRules = ["optimizer", "weight-decay"].filter((name) => request.values[name as "optimizer"] === undefined);
  const known = compareCommand.options.map(({ name }) => name).filter((name) => !ofRules.includes(name));
  const shared = Object.entries(recordedOptions(request, from))
    .filter(([name]) => known.includes(name) || name === "model" || name.includes("."));
  const { "learning-rates": learningRates, reach } = own;
  return {
    rules,
    seeds,
    ...(learningRates && { "learning-rates": learningRates }),
    ...(reach !== undefined && { reach }),
    ...Object.fromEntries(shared),
  };
}

/** What a script has to hear of a comparison without anything to compare. */
function nothingLearnt({ seeds }: StoppedComparison): EngineError {
  const counted = seeds.length === 1 ? "the one seed" : `all ${seeds.length} seeds`;
  return new EngineError(
    "not-finite",
    `Cannot compare: every rule diverged with ${counted}; try smaller learning rates`,
  );
}

/** A rule by name, with the options that are meant for it, and with its own optimizer where nothing is said. */
function entryOf(
  name: string,
  { values, options }: { readonly values: CompareValues; readonly options: ReturnType<typeof ruleOptions> },
): CompareEntry {
  const parts = name.split("+");
  const own = Object.entries(options).filter(([rule]) => parts.includes(rule));
  const rule = ruleByName(name, Object.fromEntries(own));
  const preferred = rules.find((entry) => parts.includes(entry.name) && entry.defaults?.optimizer)?.defaults?.optimizer;
  const optimizer = values.optimizer ?? preferred;
  return { name, rule, optimizer: chooseOptimizer({ ...values, ...(optimizer !== undefined && { optimizer }) }) };
}
