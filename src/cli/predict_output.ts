/**
 * Predictions as lines, CSV, JSON lines or NPY.
 *
 * @module
 */

import { digits } from "../digits.ts";
import { npyBytes } from "../data/npy.ts";
import type { ParameterArray } from "../network/layers.ts";
import type { Loss } from "../network/losses.ts";

/** Predictions of some rows. */
export interface Predictions {
  /** Number of rows. */
  readonly rows: number;
  /** Numbers per row. */
  readonly outputs: number;
  /** Row after row: probabilities or values. */
  readonly values: ParameterArray;
  /** What they mean follows from the loss. */
  readonly loss: Loss["kind"];
  /** Names of the classes or of the target columns. */
  readonly names: readonly string[] | undefined;
}

/** A row's numbers and, for classes, the likeliest. */
interface Row {
  readonly row: number;
  readonly numbers: number[];
  readonly label: number;
}

/** One object a row: `label`, `class`, `probability` and `probabilities` for classes; `probabilities` or `values` otherwise. */
export function jsonLines(predictions: Predictions): string {
  return lines(predictions, ({ row, numbers, label }) => {
    if (predictions.loss !== "softmaxCrossEntropy") return JSON.stringify({ row, [numbersName(predictions)]: numbers });
    const [word, probability] = [className(predictions, label), numbers[label]];
    return JSON.stringify({ row, label, class: word, probability, probabilities: numbers });
  });
}

/** A header and one line a row: class and probability before all probabilities, or the values. */
export function csv(predictions: Predictions): string {
  const { names, outputs } = predictions;
  const classes = predictions.loss === "softmaxCrossEntropy";
  const columns = Array.from({ length: outputs }, (_, index) => names?.[index] ?? String(index));
  const header = classes
    ? ["row", "class", "probability", ...columns.map((name) => `p(${name})`)]
    : ["row", ...columns];
  const body = lines(predictions, ({ row, numbers, label }) => {
    const best = classes ? [quote(className(predictions, label)), numbers[label]] : [];
    return [row, ...best, ...numbers].join(",");
  });
  return `${header.map(quote).join(",")}\n${body}`;
}

/** One line a row for people: class and probability, or the values. */
export function table(predictions: Predictions): string {
  const width = String(predictions.rows - 1).length;
  return lines(predictions, ({ row, numbers, label }) => {
    const start = String(row).padStart(width);
    return predictions.loss === "softmaxCrossEntropy"
      ? `${start}  ${className(predictions, label)}  ${numbers[label]!.toFixed(4)}`
      : `${start}  ${numbers.map((number) => digits(number, 6)).join("  ")}`;
  });
}

/** All numbers, rows × outputs. */
export function npy({ rows, outputs, values }: Predictions): Uint8Array<ArrayBuffer> {
  return npyBytes({ type: values instanceof Float32Array ? "f4" : "f8", shape: [rows, outputs], values });
}

function lines(predictions: Predictions, line: (row: Row) => string): string {
  const { rows, outputs, values } = predictions;
  const all: string[] = [];
  for (let row = 0; row < rows; row++) {
    const numbers = [...values.subarray(row * outputs, (row + 1) * outputs)];
    const label = numbers.reduce((best, number, index) => number > numbers[best]! ? index : best, 0);
    all.push(line({ row, numbers, label }), "\n");
  }
  return all.join("");
}

function numbersName({ loss }: Predictions): string {
  return loss === "binaryCrossEntropy" ? "probabilities" : "values";
}

function className({ names }: Predictions, label: number): string {
  return names?.[label] ?? String(label);
}

function quote(word: string): string {
  return /[",\r\n]/.test(word) ? `"${word.replaceAll('"', '""')}"` : word;
}
