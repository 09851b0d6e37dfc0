/**
 * `glyphs`: grey 28 × 28 pictures of the digits 0 to 9, drawn by code. No file, no download, and the same bytes on every
 * machine: only +, -, ×, ÷ and square root are used, which IEEE 754 fixes to the last bit (sines and cosines it does
 * not).
 *
 * Hard enough to mean something: position, size, rotation, slant, handwriting, stroke width and ink vary, each point
 * wobbles, each pixel is noisy.
 *
 * @module
 */
import { knownOptions } from "../config.ts";
import { ConfigError } from "../errors.ts";
import { digitStrokes, type Point, type Stroke } from "./glyph_strokes.ts";
import { checkSeed, createRandom, type Random } from "./random.ts";
import type { Data, Table } from "./table.ts";

const side = 28;
const pixels = side * side;
/** Straight pieces per bend of a stroke. */
const pieces = 4;
/** Test rows draw from streams of their own, so that the number of training rows does not change them. */
const testStream = 2 ** 31;

/** How much the digits vary; lengths in pixels. */
const vary = {
  height: [12, 19],
  aspect: [0.6, 0.95],
  /** Tangent of half the angle: 0.14 is 16 degrees. */
  halfTurn: 0.14,
  slant: 0.28,
  shift: 2.5,
  halfWidth: [0.6, 1.5],
  ink: [150, 255],
  /** Deviation of each point of a stroke, in heights. */
  wobble: 0.035,
  /** Largest brightness that noise adds or takes. */
  noise: 48,
} as const;

/** Options of {@linkcode glyphs}. */
export interface GlyphsOptions {
  /** Training rows; default 12,000. */
  readonly rows?: number;
  /** Test rows; default 2,000. */
  readonly testRows?: number;
  /** Whole number from 0; default 1. */
  readonly seed?: number;
}

/**
 * Draws digits. Row n shows the digit n mod 10.
 *
 * @param options how many, and the seed
 * @returns training and test rows of shape `[28, 28, 1]`, bytes with scale 1 / 255, ten classes
 * @throws {ConfigError} where a number of rows or the seed cannot be used
 *
 * @example
 * ```ts
 * const data = glyphs({ seed: 1 });
 * ```
 */
export function glyphs(options: GlyphsOptions = {}): Data {
  knownOptions("glyphs", options, ["rows", "testRows", "seed"]);
  const { rows = 12_000, testRows = 2_000, seed = 1 } = options;
  checkSeed(seed);
  checkRows("rows", rows);
  checkRows("testRows", testRows);
  return {
    name: "glyphs",
    train: drawTable(rows, { seed, firstStream: 0 }),
    test: drawTable(testRows, { seed, firstStream: testStream }),
  };
}

/**
 * Refuses a number of rows that no generated set can have.
 *
 * @param path the option, for messages
 * @param rows the value
 * @throws {ConfigError} unless it is a whole number from 1 to ten million
 */
export function checkRows(path: string, rows: number): void {
  if (!Number.isInteger(rows) || rows < 1 || rows > 10_000_000) {
    throw new ConfigError(path, "a whole number from 1 to 10000000", rows);
  }
}

function drawTable(rows: number, source: { readonly seed: number; readonly firstStream: number }): Table {
  const features = new Uint8Array(rows * pixels);
  const values = new Uint32Array(rows);
  const ink = new Float64Array(pixels);
  for (let row = 0; row < rows; row++) {
    const digit = row % 10;
    values[row] = digit;
    const random = createRandom(source.seed, source.firstStream + row);
    ink.fill(0);
    drawDigit(ink, { digit, random });
    develop(features.subarray(row * pixels, (row + 1) * pixels), { ink, random });
  }
  const names = Array.from({ length: 10 }, (_, digit) => String(digit));
  const targets = { kind: "labels", classes: 10, values, names } as const;
  return { rows, shape: [side, side, 1], features, scale: [1 / 255], targets };
}

/** Lays the strokes of a digit onto `ink` (0 to 1 per pixel) under a random transform. */
function drawDigit(ink: Float64Array, what: { readonly digit: number; readonly random: Random }): void {
  const { random } = what;
  const place = randomPlace(random);
  const halfWidth = random.between(...vary.halfWidth);
  const handwritings = digitStrokes[what.digit]!;
  for (const stroke of handwritings[random.below(handwritings.length)]!) {
    const bent = stroke.map(([x, y], index): Point => {
      // The second of two equal points makes the corner: it has to stay on the first.
      const previous = stroke[index - 1];
      if (previous !== undefined && previous[0] === x && previous[1] === y) return [NaN, NaN];
      return place([x + vary.wobble * random.bell(), y + vary.wobble * random.bell()]);
    });
    const points = bent.map((point, index) => Number.isNaN(point[0]) ? bent[index - 1]! : point);
    drawStroke(ink, { points, halfWidth });
  }
}

/** A random map from the unit box of a digit to pixels. */
function randomPlace(random: Random): (point: Point) => Point {
  const height = random.between(...vary.height);
  const width = height * random.between(...vary.aspect);
  const half = random.between(-vary.halfTurn, vary.halfTurn);
  const slant = random.between(-vary.slant, vary.slant);
  const centerX = side / 2 + random.between(-vary.shift, vary.shift);
  const centerY = side / 2 + random.between(-vary.shift, vary.shift);
  // Cosine and sine from the tangent of half the angle need divisions only.
  const cosine = (1 - half * half) / (1 + half * half);
  const sine = (2 * half) / (1 + half * half);
  return ([x, y]) => {
    const down = (y - 0.5) * height;
    const right = (x - 0.5) * width - slant * down;
    return [centerX + cosine * right - sine * down, centerY + sine * right + cosine * down];
  };
}

/** Draws a stroke as short straight pieces. */
function drawStroke(ink: Float64Array, what: { readonly points: Stroke; readonly halfWidth: number }): void {
  const { points, halfWidth } = what;
  const last = points.length - 1;
  let from = points[0]!;
  if (last === 1) drawLine(ink, { from, to: points[1]!, halfWidth });
  for (let index = 1; index < last; index++) {
    const pull = points[index]!;
    const next = points[index + 1]!;
    const end: Point = index === last - 1 ? next : [(pull[0] + next[0]) / 2, (pull[1] + next[1]) / 2];
    const start = from;
    for (let piece = 1; piece <= pieces; piece++) {
      const t = piece / pieces;
      const rest = 1 - t;
      const to: Point = [
        rest * rest * start[0] + 2 * rest * t * pull[0] + t * t * end[0],
        rest * rest * start[1] + 2 * rest * t * pull[1] + t * t * end[1],
      ];
      drawLine(ink, { from, to, halfWidth });
      from = to;
    }
  }
}

/** Inks the pixels near a straight piece: fully within `halfWidth`, fading over one pixel at the edge. */
function drawLine(
  ink: Float64Array,
  line: { readonly from: Point; readonly to: Point; readonly halfWidth: number },
): void {
  const [fromX, fromY] = line.from;
  const [toX, toY] = line.to;
  const reach = line.halfWidth + 0.5;
  const alongX = toX - fromX;
  const alongY = toY - fromY;
  const lengthSquared = alongX * alongX + alongY * alongY;
  const left = Math.max(0, Math.floor(Math.min(fromX, toX) - reach));
  const right = Math.min(side - 1, Math.ceil(Math.max(fromX, toX) + reach));
  const top = Math.max(0, Math.floor(Math.min(fromY, toY) - reach));
  const bottom = Math.min(side - 1, Math.ceil(Math.max(fromY, toY) + reach));
  for (let y = top; y <= bottom; y++) {
    for (let x = left; x <= right; x++) {
      const offX = x - fromX;
      const offY = y - fromY;
      const share = lengthSquared > 0 ? (offX * alongX + offY * alongY) / lengthSquared : 0;
      const near = share < 0 ? 0 : share > 1 ? 1 : share;
      const gapX = offX - near * alongX;
      const gapY = offY - near * alongY;
      const gapSquared = gapX * gapX + gapY * gapY;
      if (gapSquared >= reach * reach) continue;
      const cover = Math.min(1, reach - Math.sqrt(gapSquared));
      const at = y * side + x;
      if (cover > ink[at]!) ink[at] = cover;
    }
  }
}

/** Turns ink into bytes: some ink strength, and noise that is the difference of two random bytes. */
function develop(image: Uint8Array, what: { readonly ink: Float64Array; readonly random: Random }): void {
  const { ink, random } = what;
  const strength = random.between(...vary.ink);
  for (let at = 0; at < pixels; at += 2) {
    // One draw of 32 bits serves two pixels.
    const bits = random.bits();
    const first = ((bits & 255) - ((bits >>> 8) & 255)) * (vary.noise / 255);
    const second = (((bits >>> 16) & 255) - (bits >>> 24)) * (vary.noise / 255);
    image[at] = toByte(ink[at]! * strength + first);
    image[at + 1] = toByte(ink[at + 1]! * strength + second);
  }
}

function toByte(value: number): number {
  return value <= 0 ? 0 : value >= 255 ? 255 : Math.floor(value + 0.5);
}
