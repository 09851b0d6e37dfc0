/**
 * Learning rules: the only list of them on this side.
 *
 * A training step has four slots. A rule fills some of them; rules that fill different slots can be combined.
 *
 * | slot | question it answers | plain choice |
 * | --- | --- | --- |
 * | `propagation` | how does the loss reach each weight? | back-propagation |
 * | `inputs` | what does a linear map see? | the layer below as it is |
 * | `weights` | how are weights stored and multiplied? | densely |
 * | `products` | which outer products make the weight gradient? | all |
 *
 * @module
 */

import { knownOptions } from "../config.ts";
import { ConfigError } from "../errors.ts";
import { frontContribution, frontContributionOptions } from "./front_contribution.ts";
import { decorrelatedFromOptions, decorrelatedOptions } from "./decorrelated.ts";
import { didYouMean } from "../nearest.ts";
import { dual, DUAL_OPTIONS } from "./dual.ts";
import { memAopFromOptions, memAopOptions } from "./mem_aop.ts";
import { sparseFromOptions, sparseOptions } from "./sparse.ts";

/** What fills a slot: a kind and its options, as the engine reads them. */
export interface SlotChoice {
  /** The kind of choice. */
  readonly kind: string;
  /** Its options. */
  readonly [option: string]: unknown;
}

/** The slots of a training step. */
export type Slot = "propagation" | "inputs" | "weights" | "products";

/** A learning rule: a name and the slots that it fills; the others stay plain. */
export interface Rule {
  /** Name for reports, such as `"backprop"`; a combination joins names with `+`. */
  readonly name: string;
  /** The filled slots. */
  readonly slots: Partial<Record<Slot, SlotChoice>>;
}

/** All slots filled, as the engine reads them. */
export type FilledSlots = Record<Slot, SlotChoice>;

/** What stands in a slot that no rule fills. */
const PLAIN: FilledSlots = {
  propagation: { kind: "backprop" },
  inputs: { kind: "raw" },
  weights: { kind: "dense" },
  products: { kind: "all" },
};

/** A rule as the command line knows it. */
export interface RuleEntry {
  /** Name on the command line. */
  readonly name: string;
  /** One line for help texts. */
  readonly description: string;
  /** Where the rule was published. */
  readonly paper: string;
  /** Names of its options. */
  readonly options: readonly string[];
  /** What the command line takes where nothing is said, and where the rule has a reason for something else. */
  readonly defaults?: { readonly data?: string; readonly optimizer?: string };
  /** Makes the rule from options. */
  readonly create: (options: Record<string, unknown>) => Rule;
}

/** Plain back-propagation with every outer product: the reference that the others are compared with. */
export function backprop(): Rule {
  return { name: "backprop", slots: {} };
}

/** All rules by name. */
export const rules: readonly RuleEntry[] = [
  {
    name: "backprop",
    description: "plain back-propagation",
    paper: "Rumelhart, Hinton, Williams 1986",
    options: [],
    create: (options) => {
      knownOptions("backprop", options, []);
      return backprop();
    },
  },
  {
    name: "dual",
    description: "dual numbers: tangents of the forward pass instead of a backward pass",
    paper: "Jang 2023, arXiv 2308.09728",
    options: DUAL_OPTIONS,
    create: (options) => dual(options),
  },
  {
    name: "mem-aop",
    description: "weight gradients from the largest outer products, with a memory of the others",
    paper: "Hernandez, Rini, Duman 2021",
    options: [...memAopOptions, "paper"],
    create: memAopFromOptions,
  },
  {
    name: "sparse",
    description: "back-propagation through the weights that a mask leaves, with masks that may change",
    paper: "Nikdan, Pegolotti, Iofinova, Kurtic, Alistarh 2023",
    options: sparseOptions,
    create: sparseFromOptions,
  },
  {
    name: "decorrelated",
    description: "layers see inputs whose correlations a matrix of their own takes away",
    paper: "Dalm, Offergeld, Ahmad, van Gerven 2024, arXiv 2405.02385",
    options: [...decorrelatedOptions, "paper"],
    create: decorrelatedFromOptions,
  },
  {
    name: "front-contribution",
    description: "layers collapsed before training, outputs of back-propagation; for few rows and many columns",
    paper: "after Mishra, Arunkumar 2021",
    options: frontContributionOptions,
    // Few rows and many columns are what it is for, and steps that are linear in the weights are what it needs.
    defaults: { data: "spectra", optimizer: "sgd" },
    create: (options) => frontContribution(options),
  },
];

/** Whether something can be a learning rule: what callers of ours may get wrong. */
export function isRule(value: unknown): value is Rule {
  const slots = (value as Partial<Rule> | null | undefined)?.slots;
  return typeof slots === "object" && slots !== null;
}

/**
 * One rule from several that fill different slots.
 *
 * @param parts the rules
 * @returns their combination; its name joins theirs with `+`
 * @throws {ConfigError} where two rules fill the same slot
 */
export function combine(...parts: readonly Rule[]): Rule {
  const slots: Partial<Record<Slot, SlotChoice>> = {};
  const filledBy = new Map<Slot, Rule>();
  for (const part of parts) {
    if (!isRule(part)) throw new ConfigError("rule", "learning rules such as backprop()", part);
    for (const [slot, choice] of Object.entries(part.slots) as [Slot, SlotChoice][]) {
      const other = filledBy.get(slot);
      if (other) {
        const found = `${other.name} and ${part.name}, which both choose the ${slot}`;
        throw new ConfigError("rule", "rules that fill different slots", found);
      }
      filledBy.set(slot, part);
      slots[slot] = choice;
    }
  }
  const names = parts.filter((part) => Object.keys(part.slots).length > 0).map((part) => part.name);
  return { name: names.join("+") || "backprop", slots };
}

/** The rule with its open slots filled by the plain choices. */
export function fillSlots(rule: Rule): FilledSlots {
  return { ...PLAIN, ...rule.slots };
}

/**
 * A rule by name; names joined with `+` are combined.
 *
 * @param name such as `"backprop"`
 * @param options options of each rule by its name
 * @returns the rule
 * @throws {ConfigError} where a name is unknown (the message gives the nearest), or options cannot be used
 */
export function ruleByName(name: string, options: Readonly<Record<string, Record<string, unknown>>> = {}): Rule {
  const names = rules.map((rule) => rule.name);
  const parts = name.split("+").map((part) => {
    const entry = rules.find((rule) => rule.name === part);
    if (entry) return entry;
    throw new ConfigError("rule", `one of ${names.join(", ")}${didYouMean(part, names)}`, part);
  });
  for (const given of Object.keys(options)) {
    if (parts.some((part) => part.name === given)) continue;
    throw new ConfigError(`${given} options`, `options of ${name}`, `options of another rule`);
  }
  return combine(...parts.map((entry) => entry.create(options[entry.name] ?? {})));
}
