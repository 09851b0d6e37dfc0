/**
 * Schedules as one word on the command line: `NAME`, `NAME:NUMBERS`, and `warm-up:EPOCHS+` before another one.
 *
 * @module
 */

import { didYouMean } from "../nearest.ts";
import { constant, cosine, oneCycle, type Schedule, stepDecay, warmUp } from "../train/schedules.ts";
import { UsageError } from "./errors.ts";

interface Form {
  /** How it is written. */
  readonly form: string;
  /** One line for help texts. */
  readonly help: string;
  /** Fewest and most numbers after the colon. */
  readonly numbers: readonly [number, number];
  /** Makes it. */
  readonly create: (numbers: readonly number[], then: Schedule | undefined) => Schedule;
}

const forms: Readonly<Record<string, Form>> = {
  constant: { form: "constant", help: "the rate as it is", numbers: [0, 0], create: () => constant() },
  step: {
    form: "step:EVERY[,FACTOR]",
    help: "times FACTOR (0.1) after every EVERY epochs",
    numbers: [1, 2],
    create: ([every, factor]) => stepDecay(every!, factor),
  },
  cosine: {
    form: "cosine[:FINAL]",
    help: "half a cosine down to FINAL (0) times the rate",
    numbers: [0, 1],
    create: ([finalFactor]) => cosine(finalFactor === undefined ? {} : { finalFactor }),
  },
  "one-cycle": {
    form: "one-cycle[:RISE]",
    help: "up over the first RISE (0.3) of the run, then down",
    numbers: [0, 1],
    create: ([rise]) => oneCycle(rise === undefined ? {} : { rise }),
  },
  "warm-up": {
    form: "warm-up:EPOCHS[+SCHEDULE]",
    help: "a straight rise over EPOCHS, then SCHEDULE (constant)",
    numbers: [1, 1],
    create: ([epochs], then) => warmUp(epochs!, then),
  },
};

/** The forms and what they do, for help texts. */
export const scheduleHelp: readonly (readonly [string, string])[] = Object.values(forms)
  .map(({ form, help }) => [form, help]);

/**
 * Reads a schedule.
 *
 * @param text such as `cosine`, `step:5,0.5` or `warm-up:1+cosine`
 * @returns the schedule
 * @throws {UsageError} where the text is none
 * @throws {ConfigError} where a number is out of range
 */
export function parseSchedule(text: string): Schedule {
  const plus = text.indexOf("+");
  const head = plus < 0 ? text : text.slice(0, plus);
  const colon = head.indexOf(":");
  const name = colon < 0 ? head : head.slice(0, colon);
  const found = forms[name];
  if (found === undefined) {
    const names = Object.keys(forms);
    throw new UsageError("--schedule", `one of ${names.join(", ")}${didYouMean(name, names)}`, name || "nothing");
  }
  const numbers = colon < 0 ? [] : head.slice(colon + 1).split(",").map((word) => word === "" ? NaN : Number(word));
  const [least, most] = found.numbers;
  if (numbers.some(Number.isNaN) || numbers.length < least || numbers.length > most) {
    throw new UsageError("--schedule", found.form, head);
  }
  if (plus < 0) return found.create(numbers, undefined);
  if (name !== "warm-up") throw new UsageError("--schedule", "a schedule after + only with warm-up", text);
  return found.create(numbers, parseSchedule(text.slice(plus + 1)));
}
