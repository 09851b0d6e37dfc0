/**
 * Some rows with what the network makes of them, for a page.
 *
 * @module
 */

import { takeRows } from "../../data/split.ts";
import type { FeatureArray, Table } from "../../data/table.ts";
import type { Network } from "../../network/network.ts";
import { figure, percent } from "../progress.ts";
import { escape, htmlTable } from "./page.ts";
import { pictureUrl } from "./png.ts";

/** Rows among which samples are looked for. */
const CANDIDATES = 512;

/** Rows that are shown: so many from the front, and as many that came out wrong. */
const SHOWN = 10;

/** Features and outputs of a row that are shown as numbers. */
const NUMBERS = 8;

/** A row's class, and the class that the network gives it. */
interface Judged {
  readonly row: number;
  readonly truth: number;
  readonly found: number;
  readonly probability: number;
}

/**
 * Rows with what the network makes of them.
 *
 * @param network the network
 * @param table rows with targets
 * @returns HTML: pictures for images, otherwise a table; empty without rows
 */
export async function sampleHtml(network: Network, table: Table): Promise<string> {
  if (table.rows === 0) return "";
  const rows = takeRows(table, Array.from({ length: Math.min(CANDIDATES, table.rows) }, (_, row) => row));
  const outputs = await network.predict(rows);
  const size = outputs.length / rows.rows;
  const { targets } = rows;
  if (targets.kind === "values") {
    const shown = Array.from({ length: Math.min(SHOWN, rows.rows) }, (_, row) => row);
    const numbers = (values: ArrayLike<number>, row: number, width: number) =>
      Array.from({ length: Math.min(NUMBERS, width) }, (_, place) => figure(values[row * width + place]!));
    const names = Array.from(
      { length: Math.min(NUMBERS, size) },
      (_, place) => targets.names?.[place] ?? `output ${place}`,
    );
    const head = ["row", ...names.flatMap((name) => [name, "predicted"])];
    const lines = shown.map((row) => {
      const [truths, found] = [numbers(targets.values, row, size), numbers(outputs, row, size)];
      return [String(row), ...truths.flatMap((truth, place) => [truth, found[place]!])];
    });
    return htmlTable([head, ...lines], 0);
  }
  const judged = Array.from(
    { length: rows.rows },
    (_, row) => judge(outputs, { row, size, truth: targets.values[row]! }),
  );
  const front = judged.slice(0, SHOWN);
  const wrong = judged.slice(SHOWN).filter(({ truth, found }) => truth !== found).slice(0, SHOWN);
  const nameOf = (label: number) => targets.names?.[label] ?? String(label);
  const pictures = picturesOf(rows);
  if (pictures) {
    const figures = [...front, ...wrong].map((one) => {
      const right = one.truth === one.found;
      const words = `${escape(`${nameOf(one.truth)} → ${nameOf(one.found)}`)}<br>${percent(one.probability, 1)}`;
      return `<figure><img alt="row ${one.row}" src="${pictures(one.row)}">` +
        `<figcaption${right ? "" : ' class="wrong"'}>${words}</figcaption></figure>`;
    });
    return `<p>True → predicted, with the probability of the prediction: the first rows, then others that came out wrong.</p>\n` +
      `<div class="samples">\n${figures.join("\n")}\n</div>`;
  }
  const width = rows.features.length / rows.rows;
  const features = Array.from({ length: Math.min(NUMBERS, width) }, (_, place) => `feature ${place}`);
  const lines = [...front, ...wrong].map(({ row, truth, found, probability }) => [
    nameOf(truth),
    nameOf(found),
    percent(probability, 1),
    ...features.map((_, place) => figure(Number(rows.features[row * width + place]))),
  ]);
  return htmlTable([["true", "predicted", "probability", ...features], ...lines], 2);
}

function judge(outputs: ArrayLike<number>, { row, size, truth }: { row: number; size: number; truth: number }): Judged {
  let found = 0;
  for (let label = 1; label < size; label++) {
    if (outputs[row * size + label]! > outputs[row * size + found]!) found = label;
  }
  return { row, truth, found, probability: outputs[row * size + found]! };
}

/** The addresses of pictures by row, where rows are images: height × width × 1 or 3. */
function picturesOf({ shape, features }: Table): ((row: number) => string) | undefined {
  const [height, width, channels] = shape;
  if (shape.length !== 3 || (channels !== 1 && channels !== 3)) return undefined;
  const size = height! * width! * channels;
  const toByte = byteScale(features);
  return (row) => {
    const bytes = Uint8Array.from(features.subarray(row * size, (row + 1) * size), toByte);
    return pictureUrl({ height: height!, width: width!, channels, bytes });
  };
}

/** How a feature becomes a byte: bytes stay, other numbers are stretched from the smallest to the largest. */
function byteScale(features: FeatureArray): (value: number) => number {
  if (features instanceof Uint8Array) return (value) => value;
  let [low, high] = [Infinity, -Infinity];
  for (const value of features) [low, high] = [Math.min(low, value), Math.max(high, value)];
  return (value) => Math.round(255 * (value - low) / (high - low || 1));
}
