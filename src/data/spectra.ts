/**
 * `spectra`: a few long curves with peaks, made by code; a class is told by where its peaks stand. 200 rows of 5,000 columns: the
 * shape of measurements in chemistry and biology, where there are far more columns than samples.
 *
 * The same bytes on every machine: only +, -, ×, ÷ are used, which IEEE 754 fixes to the last bit.
 *
 * @module
 */
import { knownOptions } from "../config.ts";
import { ConfigError } from "../errors.ts";
import { checkRows } from "./glyphs.ts";
import { checkSeed, createRandom, type Random } from "./random.ts";
import type { Data, Table } from "./table.ts";

const columns = 5000;
/** Peaks that tell a class, and peaks that stand anywhere. */
const peaks = { own: 6, stray: 10 } as const;
/** How much spectra of one class vary: places in columns, heights as shares. */
const vary = { shift: 12, width: [8, 30], height: [0.3, 1], baseline: 0.4, noise: 0.15 } as const;
/** Classes draw their peaks, and test rows themselves, from streams of their own: numbers of rows then change neither. */
const streams = { classes: 2 ** 30, test: 2 ** 31 } as const;

/** Options of {@linkcode spectra}. */
export interface SpectraOptions {
  /** Training rows; default 200. */
  readonly rows?: number;
  /** Test rows; default 200. */
  readonly testRows?: number;
  /** Number of classes, 2 to 20; default 4. */
  readonly classes?: number;
  /** Whole number from 0; default 1. */
  readonly seed?: number;
}

/**
 * Draws spectra. Row n belongs to class n mod `classes`.
 *
 * @param options how many, how many classes, and the seed
 * @returns training and test rows of shape `[5000]`, float32, mean about 0 and deviation about 1 / 5
 * @throws {ConfigError} where an option cannot be used
 *
 * @example
 * ```ts
 * const data = spectra({ rows: 100 });
 * ```
 */
export function spectra(options: SpectraOptions = {}): Data {
  knownOptions("spectra", options, ["rows", "testRows", "classes", "seed"]);
  const { rows = 200, testRows = 200, classes = 4, seed = 1 } = options;
  checkSeed(seed);
  checkRows("rows", rows);
  checkRows("testRows", testRows);
  if (!Number.isInteger(classes) || classes < 2 || classes > 20) {
    throw new ConfigError("classes", "a whole number from 2 to 20", classes);
  }
  const places = Array.from({ length: classes }, (_, label) => {
    const random = createRandom(seed, streams.classes + label);
    return Array.from({ length: peaks.own }, () => random.between(100, columns - 100));
  });
  return {
    name: "spectra",
    train: drawSpectra(rows, { places, seed, firstStream: 0 }),
    test: drawSpectra(testRows, { places, seed, firstStream: streams.test }),
  };
}

function drawSpectra(
  rows: number,
  from: { readonly places: readonly (readonly number[])[]; readonly seed: number; readonly firstStream: number },
): Table {
  const { places, seed, firstStream } = from;
  const features = new Float32Array(rows * columns);
  const values = new Uint32Array(rows);
  for (let row = 0; row < rows; row++) {
    const label = row % places.length;
    values[row] = label;
    drawSpectrum(features.subarray(row * columns, (row + 1) * columns), {
      places: places[label]!,
      random: createRandom(seed, firstStream + row),
    });
  }
  return { rows, shape: [columns], features, targets: { kind: "labels", classes: places.length, values } };
}

/** A sloping baseline, peaks and noise. */
function drawSpectrum(
  curve: Float32Array,
  { places, random }: { readonly places: readonly number[]; readonly random: Random },
): void {
  const [start, end] = [random.between(-vary.baseline, vary.baseline), random.between(-vary.baseline, vary.baseline)];
  for (let column = 0; column < columns; column++) {
    curve[column] = start + (end - start) * (column / columns) + vary.noise * random.between(-1, 1);
  }
  // A weak peak may be missing: no class is told by one peak alone.
  for (const place of places) {
    if (random.unit() < 0.8) drawPeak(curve, place + vary.shift * random.between(-1, 1), random);
  }
  for (let peak = 0; peak < peaks.stray; peak++) drawPeak(curve, random.between(0, columns), random);
}

/** Adds a bell without exponentials: height · (1 - d²)² within the width. */
function drawPeak(curve: Float32Array, place: number, random: Random): void {
  const width = random.between(...vary.width);
  const height = random.between(...vary.height);
  const last = Math.min(columns - 1, Math.floor(place + width));
  for (let column = Math.max(0, Math.ceil(place - width)); column <= last; column++) {
    const distance = (column - place) / width;
    const bell = 1 - distance * distance;
    curve[column] = curve[column]! + height * bell * bell;
  }
}
