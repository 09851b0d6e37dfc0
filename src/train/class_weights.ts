/**
 * Weights of classes from how often they come.
 *
 * @module
 */

import { objectGiven } from "../config.ts";
import { ConfigError } from "../errors.ts";
import type { Table } from "../data/table.ts";

/**
 * Weights for `classWeights` under which every class counts as much as every other: rows / (classes · rows of the class), and 0
 * for a class without rows.
 *
 * @param table training rows with class labels
 * @returns one number for each class
 * @throws {ConfigError} where the targets are values
 *
 * @example
 * ```ts
 * import { balancedClassWeights, spirals } from "@leanprop/leanprop";
 * console.log(balancedClassWeights(spirals().train));
 * ```
 */
export function balancedClassWeights(table: Pick<Table, "rows" | "targets">): number[] {
  objectGiven("table", table, "a table with class labels");
  const { rows, targets } = table;
  if (targets?.kind !== "labels") throw new ConfigError("classWeights", "data with class labels beside them", "values");
  const counts = new Array<number>(targets.classes).fill(0);
  for (const label of targets.values) counts[label]!++;
  return counts.map((count) => count === 0 ? 0 : rows / (targets.classes * count));
}
