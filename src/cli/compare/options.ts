/**
 * The options of `compare`: those of `train` that describe data, network and training, and its own.
 *
 * @module
 */

import { rules } from "../../rules/mod.ts";
import type { CommandSpec, OptionSpec, Values } from "../options.ts";
import { streamOptionNames, trainCommand, trainOptions, type TrainValues } from "../train_options.ts";

/** Options of `train` that a comparison decides itself: every rule has the same number of epochs, and nothing is saved. */
const DECIDED: readonly string[] = ["rule", "seed", "learning-rate", "early-stopping", "monitor", "checkpoint-every"];

/** What a comparison cannot have: all rules train on the same rows, which are all there. */
const WITHOUT: readonly string[] = [...DECIDED, ...streamOptionNames];

/** Groups of options of `train` that a comparison has too. */
const GROUPS: readonly string[] = ["Data", "Network", "Training"];

const group = "Comparison";

const own = [
  {
    name: "rules",
    type: "words",
    value: "LIST",
    help: "rules with commas between, the reference first; + combines (all that suit any data)",
    group,
    effect: "result",
  },
  {
    name: "seeds",
    type: "numbers",
    value: "LIST",
    help: "seeds of the measured runs (0,1,2,3,4)",
    group,
    effect: "result",
  },
  {
    name: "learning-rates",
    type: "numbers",
    value: "LIST",
    help:
      "tried by each rule, by successive halving (the optimizer's rate, a third of it, three times it, and more at an end)",
    group,
    effect: "result",
  },
  {
    name: "reach",
    type: "number",
    value: "X",
    help: "accuracy from 0 to 1, or loss, that counts as learnt (what the reference reaches with every seed)",
    group,
    effect: "result",
  },
  {
    name: "out",
    type: "text",
    value: "DIR",
    help: "folder of the results, made first (runs/TIME-DATA-compare)",
    group,
    effect: "display",
  },
  {
    name: "config",
    type: "text",
    value: "FILE",
    help: "options from a JSON file or a comparison's compare.json; the command line wins",
    group,
    effect: "display",
  },
  { name: "svg", type: "flag", help: "write the charts as SVG files too", group, effect: "display" },
  { name: "json", type: "flag", help: "the whole result as JSON on standard output", group, effect: "display" },
  { name: "quiet", type: "flag", help: "no progress", group, effect: "display" },
  { name: "help", type: "flag", help: "this text", group, effect: "display" },
] as const satisfies readonly OptionSpec[];

/** Values of the options. */
export type CompareValues = TrainValues & Values<typeof own>;

/** The command. */
export const compareCommand: CommandSpec = {
  ...trainCommand,
  name: "compare",
  description:
    "Compares learning rules: same network, data, seeds and epochs, each with the learning rate that suits it.",
  options: [
    ...own,
    ...trainOptions.filter(({ name, group }) => GROUPS.includes(group) && !WITHOUT.includes(name)),
  ],
};

/** The rules that take part where nothing is said: those that need no data of a special kind. */
export const defaultRules: readonly string[] = rules.filter(({ defaults }) => defaults?.data === undefined)
  .map(({ name }) => name);
