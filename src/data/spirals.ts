/**
 * `spirals`: points on arms that wind around each other, one arm per class. No straight line tells them apart.
 *
 * The same numbers on every machine: sines and cosines come from a polynomial here, because the language leaves the
 * last bits of `Math.sin` and `Math.cos` to the machine.
 *
 * @module
 */
import { knownOptions } from "../config.ts";
import { ConfigError } from "../errors.ts";
import { checkRows } from "./glyphs.ts";
import { checkSeed, createRandom } from "./random.ts";
import type { Data, Table } from "./table.ts";

/** Turns that an arm makes from the inside to the outside. */
const armTurns = 1.25;
/** Radius at which the arms start: nearer to the middle they would touch. */
const innerRadius = 0.1;
/** Test rows draw from a stream of their own, so that the number of training rows does not change them. */
const testStream = 1;

/** Options of {@linkcode spirals}. */
export interface SpiralsOptions {
  /** Training rows; default 3,000. */
  readonly rows?: number;
  /** Test rows; default 1,000. */
  readonly testRows?: number;
  /** Number of arms, 2 to 10; default 3. */
  readonly classes?: number;
  /** Deviation of each coordinate, where the outer radius is 1; default 0.02. */
  readonly noise?: number;
  /** Whole number from 0; default 1. */
  readonly seed?: number;
}

/**
 * Draws points on spiral arms. Row n lies on arm n mod `classes`.
 *
 * @param options how many, how many arms, noise, and the seed
 * @returns training and test rows of shape `[2]`, float32, about -1 to 1
 * @throws {ConfigError} where an option cannot be used
 */
export function spirals(options: SpiralsOptions = {}): Data {
  knownOptions("spirals", options, ["rows", "testRows", "classes", "noise", "seed"]);
  const { rows = 3_000, testRows = 1_000, classes = 3, noise = 0.02, seed = 1 } = options;
  checkSeed(seed);
  checkRows("rows", rows);
  checkRows("testRows", testRows);
  if (!Number.isInteger(classes) || classes < 2 || classes > 10) {
    throw new ConfigError("classes", "a whole number from 2 to 10", classes);
  }
  if (!(noise >= 0 && noise <= 1)) throw new ConfigError("noise", "a number from 0 to 1", noise);
  return {
    name: "spirals",
    train: drawArms(rows, { classes, noise, seed, stream: 0 }),
    test: drawArms(testRows, { classes, noise, seed, stream: testStream }),
  };
}

function drawArms(
  rows: number,
  source: { readonly classes: number; readonly noise: number; readonly seed: number; readonly stream: number },
): Table {
  const { classes, noise, seed, stream } = source;
  const random = createRandom(seed, stream);
  const features = new Float32Array(2 * rows);
  const values = new Uint32Array(rows);
  for (let row = 0; row < rows; row++) {
    const arm = row % classes;
    const radius = random.between(innerRadius, 1);
    const { cosine, sine } = cosineAndSine(arm / classes + armTurns * radius);
    values[row] = arm;
    features[2 * row] = radius * cosine + noise * random.bell();
    features[2 * row + 1] = radius * sine + noise * random.bell();
  }
  return { rows, shape: [2], features, targets: { kind: "labels", classes, values } };
}

/**
 * Cosine and sine from +, - and × alone, so that every machine gives the same bits.
 *
 * @param turns the angle, in full turns, from 0
 * @returns both, right to about 1e-10
 */
export function cosineAndSine(turns: number): { cosine: number; sine: number } {
  // To the nearest quarter turn; what is left is at most an eighth, where the series are short.
  const quarters = Math.floor(turns * 4 + 0.5);
  const x = (turns - quarters / 4) * 6.283185307179586;
  const square = x * x;
  const cosine = 1 - square / 2 * (1 - square / 12 * (1 - square / 30 * (1 - square / 56 * (1 - square / 90))));
  const sine = x * (1 - square / 6 * (1 - square / 20 * (1 - square / 42 * (1 - square / 72 * (1 - square / 110)))));
  switch (quarters % 4) {
    case 1:
      return { cosine: -sine, sine: cosine };
    case 2:
      return { cosine: -cosine, sine: -sine };
    case 3:
      return { cosine: sine, sine: -cosine };
    default:
      return { cosine, sine };
  }
}
