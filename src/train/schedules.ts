/**
 * Schedules: a factor on the learning rate over the run. All times are in epochs, fractions included.
 *
 * @module
 */

import { knownOptions, number, objectOfOptions, oneOf } from "../config.ts";
import { ConfigError } from "../errors.ts";

/** A schedule. */
export type Schedule =
  | {
    /** Always 1. */
    readonly kind: "constant";
  }
  | {
    /** Changes by a factor at fixed distances. */
    readonly kind: "step";
    /** Epochs between changes. */
    readonly every: number;
    /** What the rate is multiplied by. */
    readonly factor: number;
  }
  | {
    /** Half a cosine downwards over the run. */
    readonly kind: "cosine";
    /** Factor at the end. */
    readonly finalFactor: number;
  }
  | {
    /** A straight rise, then another schedule. */
    readonly kind: "warmUp";
    /** Length of the rise. */
    readonly epochs: number;
    /** What follows. */
    readonly then: Schedule;
  }
  | {
    /** Up and down in one cycle. */
    readonly kind: "oneCycle";
    /** Share of the run in which the rate rises. */
    readonly rise: number;
    /** The first rate is the optimizer's rate divided by this. */
    readonly startDivisor: number;
    /** The last rate is the first divided by this. */
    readonly finalDivisor: number;
  };

/** The optimizer's rate as it is. */
export function constant(): Schedule {
  return { kind: "constant" };
}

/**
 * The rate times `factor` after every `every` epochs.
 *
 * @param every epochs between changes, above 0
 * @param factor above 0; default 0.1
 * @returns the schedule
 */
export function stepDecay(every: number, factor = 0.1): Schedule {
  return {
    kind: "step",
    every: number("schedule.every", every, { above: 0 }),
    factor: number("schedule.factor", factor, { above: 0 }),
  };
}

/**
 * Half a cosine from the optimizer's rate down to `finalFactor` times it (Loshchilov and Hutter 2017).
 *
 * @param options `finalFactor` from 0 (default) to 1
 * @returns the schedule
 */
export function cosine(options: { readonly finalFactor?: number } = {}): Schedule {
  knownOptions("schedule", options, ["finalFactor"]);
  return { kind: "cosine", finalFactor: number("schedule.finalFactor", options.finalFactor ?? 0, { min: 0, max: 1 }) };
}

/**
 * A straight rise from 0 over the first `epochs`, then another schedule over what remains of the run.
 *
 * @param epochs length of the rise, above 0 and below the run's epochs
 * @param then what follows; default constant
 * @returns the schedule
 * @throws {ConfigError} where the length or what follows cannot be used
 */
export function warmUp(epochs: number, then: Schedule = constant()): Schedule {
  objectOfOptions("schedule.then", then, "kind");
  return { kind: "warmUp", epochs: number("schedule.epochs", epochs, { above: 0 }), then };
}

/** Options of {@linkcode oneCycle}. */
export interface OneCycleOptions {
  /** Share of the run in which the rate rises. Default 0.3. */
  readonly rise?: number;
  /** The first rate is the optimizer's rate divided by this. Default 25. */
  readonly startDivisor?: number;
  /** The last rate is the first divided by this. Default 1e4. */
  readonly finalDivisor?: number;
}

/**
 * One cycle (Smith and Topin 2018): up to the optimizer's rate and down again, both by half cosines.
 *
 * @param options the share that rises and the two divisors
 * @returns the schedule
 */
export function oneCycle(options: OneCycleOptions = {}): Schedule {
  knownOptions("schedule", options, ["rise", "startDivisor", "finalDivisor"]);
  return {
    kind: "oneCycle",
    rise: number("schedule.rise", options.rise ?? 0.3, { above: 0, below: 1 }),
    startDivisor: number("schedule.startDivisor", options.startDivisor ?? 25, { min: 1 }),
    finalDivisor: number("schedule.finalDivisor", options.finalDivisor ?? 1e4, { min: 1 }),
  };
}

/** Names of the schedules. */
export const scheduleKinds = ["constant", "step", "cosine", "warmUp", "oneCycle"] as const;

/**
 * Checks a schedule that was written by hand and fills in its defaults.
 *
 * @param schedule the object
 * @returns the schedule
 * @throws {ConfigError} where it is none
 */
export function checkSchedule(schedule: { readonly kind: string } & Record<string, unknown>): Schedule {
  objectOfOptions("schedule", schedule, "kind");
  const { kind: given, ...options } = schedule;
  const kind = oneOf("schedule.kind", given, scheduleKinds);
  switch (kind) {
    case "constant":
      knownOptions("schedule", options, []);
      return constant();
    case "step":
      knownOptions("schedule", options, ["every", "factor"]);
      return stepDecay(options.every as number, options.factor as number | undefined);
    case "cosine":
      return cosine(options);
    case "warmUp": {
      knownOptions("schedule", options, ["epochs", "then"]);
      const { epochs, then } = options;
      if (then === undefined) return warmUp(epochs as number);
      if (typeof then !== "object" || then === null) throw new ConfigError("schedule.then", "a schedule", then);
      return warmUp(epochs as number, checkSchedule(then as { kind: string }));
    }
    case "oneCycle":
      return oneCycle(options);
  }
}
