/**
 * Kernel matrices as features: rows of k(x, xₙ) against chosen rows xₙ.
 *
 * @module
 */

import { knownOptions, number, objectGiven, oneOf } from "../config.ts";
import { ConfigError } from "../errors.ts";
import { type KernelArray, matmul } from "../kernels.ts";
import { dataGiven } from "./check.ts";
import type { Data, Table } from "./table.ts";

/** A kernel: a product of two rows in a space of features that may be huge or infinite. */
export type Kernel =
  | {
    /** (scale · x·y + offset) to a whole power: all products of up to `degree` columns. */
    readonly kind: "polynomial";
    /** The power, from 1. */
    readonly degree: number;
    /** Default 1 / columns. */
    readonly scale?: number;
    /** From 0; default 1. */
    readonly offset?: number;
  }
  | {
    /** exp(-gamma · |x - y|²): infinitely many features. */
    readonly kind: "rbf";
    /** Above 0; default 1 / columns. */
    readonly gamma?: number;
  };

/** Rows that are handled between two turns of the event loop. */
const BLOCK = 64;

/**
 * The kernel's values of some rows against others, as features: row i, column n holds k(rowᵢ, againstₙ).
 *
 * @param tables `[rows, against]`; targets are taken over from `rows`
 * @param kernel polynomial or RBF
 * @returns a table with one column for each row of `against`, f64
 * @throws {ConfigError} where there are not two tables, they have different columns, or an option cannot be used
 */
export async function kernelTable(tables: readonly [Table, Table], kernel: Kernel): Promise<Table> {
  if (!Array.isArray(tables) || tables.length !== 2 || !tables.every((table) => Array.isArray(table?.shape))) {
    throw new ConfigError("tables", "two tables, [rows, against]", Array.isArray(tables) ? "another list" : "no list");
  }
  const [rows, against] = tables;
  const size = rows.shape.reduce((product, axis) => product * axis, 1);
  const other = against.shape.reduce((product, axis) => product * axis, 1);
  if (size !== other) throw new ConfigError("against", `rows of ${size} columns`, other);
  const apply = valueOf(kernel, size);
  const [left, right] = [wide(rows), wide(against)];
  const norms = [left, right].map((values) => squaredNorms(values, size)) as [Float64Array, Float64Array];
  const features = new Float64Array(rows.rows * against.rows);
  for (let first = 0; first < rows.rows; first += BLOCK) {
    const count = Math.min(BLOCK, rows.rows - first);
    const block = left.subarray(first * size, (first + count) * size) as KernelArray;
    const out = features.subarray(first * against.rows, (first + count) * against.rows);
    matmul([block, right], { m: count, n: against.rows, k: size, transposeB: true, out });
    for (let at = 0; at < out.length; at++) {
      const [row, column] = [first + Math.floor(at / against.rows), at % against.rows];
      out[at] = apply(out[at]!, norms[0][row]! + norms[1][column]!);
    }
    // A long table must not keep the event loop waiting.
    await new Promise((resolve) => setTimeout(resolve, 0));
  }
  return { rows: rows.rows, shape: [against.rows], features, targets: rows.targets };
}

/**
 * {@linkcode kernelTable} for training, validation and test rows, all against the training rows. Train on the result with
 * `frontContribution({ kernel: true })`: a dense first layer then lives in the kernel's feature space, and `predict` takes rows
 * that were put through `kernelTable([rows, data.train], kernel)`.
 *
 * @param data a data set
 * @param kernel polynomial or RBF
 * @returns the data set with kernel values as features
 * @throws {ConfigError} as {@linkcode kernelTable}
 */
export async function kernelData(data: Data, kernel: Kernel): Promise<Data> {
  dataGiven("data", data);
  objectGiven("kernel", kernel, 'a kernel such as { kind: "rbf", gamma: 0.1 }');
  const of = (table: Table) => kernelTable([table, data.train], kernel);
  return {
    name: `${data.name}-${kernel.kind}`,
    train: await of(data.train),
    ...(data.validation && { validation: await of(data.validation) }),
    ...(data.test && { test: await of(data.test) }),
  };
}

/** The kernel as a function of x·y and |x|² + |y|². */
function valueOf(kernel: Kernel, columns: number): (product: number, norms: number) => number {
  switch (oneOf("kernel.kind", kernel?.kind, ["polynomial", "rbf"])) {
    case "polynomial": {
      const { degree, scale = 1 / columns, offset = 1 } = kernel as Kernel & { kind: "polynomial" };
      knownOptions("kernel", kernel, ["kind", "degree", "scale", "offset"]);
      number("kernel.degree", degree, { min: 1, whole: true });
      number("kernel.scale", scale, { above: 0 });
      number("kernel.offset", offset, { min: 0 });
      return (product) => (scale * product + offset) ** degree;
    }
    case "rbf": {
      const { gamma = 1 / columns } = kernel as Kernel & { kind: "rbf" };
      knownOptions("kernel", kernel, ["kind", "gamma"]);
      number("kernel.gamma", gamma, { above: 0 });
      // Rounding may make a distance of a row to itself negative.
      return (product, norms) => Math.exp(-gamma * Math.max(0, norms - 2 * product));
    }
  }
}

/** Features as numbers: bytes are scaled as the engine scales them. */
function wide({ features, scale = [1 / 255], offset = [0], shape }: Table): Float64Array<ArrayBuffer> {
  if (features instanceof Float64Array) return features;
  if (features instanceof Float32Array) return Float64Array.from(features);
  const channels = shape.at(-1) ?? 1;
  const pick = (list: readonly number[], index: number) => list[list.length === 1 ? 0 : index % channels]!;
  return Float64Array.from(features, (byte, index) => byte * pick(scale, index) + pick(offset, index));
}

function squaredNorms(values: Float64Array, size: number): Float64Array {
  return Float64Array.from({ length: values.length / size }, (_, row) => {
    let sum = 0;
    for (let at = row * size; at < (row + 1) * size; at++) sum += values[at]! * values[at]!;
    return sum;
  });
}
