/**
 * Which runs are meant: conditions, order, and names that stand for one run.
 *
 * @module
 */

import { basename, resolve } from "node:path";
import { didYouMean } from "../../nearest.ts";
import { UsageError } from "../errors.ts";
import { columns, type RunRow, textColumns } from "./table.ts";

/** Conditions: `rule=sparse`, `accuracy>0.9`, `folder~mnist`. */
const CONDITION = /^([\w.-]+)(!=|<=|>=|=|<|>|~)(.*)$/;

type Cell = string | number | null;

/**
 * Runs that meet all conditions.
 *
 * @param runs the runs
 * @param conditions columns or options of `train`, compared with =, !=, <, <=, >, >= or ~ (contains)
 * @returns those that meet them
 * @throws {UsageError} for text that is no condition, a column that is none, or numbers compared with text
 */
export function filterRuns(runs: readonly RunRow[], conditions: readonly string[]): RunRow[] {
  const tests = conditions.map((text) => {
    const [, name, sign, wanted] = CONDITION.exec(text) ?? [];
    if (name === undefined || sign === undefined || wanted === undefined) {
      throw new UsageError("--where", "conditions such as rule=sparse or accuracy>0.9", text);
    }
    const read = reader(name, { runs, option: "--where" });
    if (sign !== "~" && holdsNumbers(name, runs.map(read)) && !isNumber(wanted)) {
      throw new UsageError(`--where ${text}`, `a number after ${sign}`, wanted || "nothing");
    }
    return (row: RunRow) => meets(read(row), sign, wanted);
  });
  return runs.filter((row) => tests.every((test) => test(row)));
}

/**
 * Runs in an order.
 *
 * @param runs the runs
 * @param by a column or an option of `train`; with a minus before it, the largest first
 * @returns them in that order; runs that have no such value come last
 * @throws {UsageError} where it is none
 */
export function sortRuns(runs: readonly RunRow[], by: string): RunRow[] {
  const name = by.replace(/^-/, "");
  const read = reader(name, { runs, option: "--sort" });
  const sign = by.startsWith("-") ? -1 : 1;
  return runs.toSorted((a, b) => {
    const [left, right] = [read(a), read(b)];
    if (left === null || right === null) return Number(left === null) - Number(right === null);
    return left < right ? -sign : left > right ? sign : 0;
  });
}

/**
 * The run that a word stands for.
 *
 * @param runs the runs
 * @param word the beginning of an identity, a folder, or the name of a folder
 * @returns the run
 * @throws {UsageError} where it stands for none, or for several
 */
export function findRun(runs: readonly RunRow[], word: string): RunRow {
  const path = resolve(word);
  const found = runs.filter(({ id, folder }) => id === word || folder === path);
  if (found.length === 0) {
    found.push(...runs.filter(({ id, folder }) => id.startsWith(word) || basename(folder) === word));
  }
  const [run, ...others] = found;
  const what = `the run ${word}`;
  if (run === undefined) throw new UsageError(what, "an identity or a folder of deno task runs", "none like it");
  if (others.length === 0) return run;
  throw new UsageError(what, "letters that stand for one run", found.map(({ id }) => id.slice(0, 12)).join(", "));
}

/** How a column, or an option of `train`, is read. */
function reader(
  name: string,
  { runs, option }: { readonly runs: readonly RunRow[]; readonly option: string },
): (row: RunRow) => Cell {
  const column = columns.find((column) => column === name);
  if (column !== undefined) return (row) => row[column];
  const optionsOf = (row: RunRow) => JSON.parse(row.options) as Record<string, unknown>;
  const known = [...new Set(runs.flatMap((row) => Object.keys(optionsOf(row))))];
  if (!known.includes(name) && runs.length > 0) {
    const names = [...columns, ...known];
    throw new UsageError(option, `a column or an option of train${didYouMean(name, names)}`, name);
  }
  return (row) => {
    const value = optionsOf(row)[name] ?? null;
    return typeof value === "number" || typeof value === "string" || value === null ? value : JSON.stringify(value);
  };
}

/** Whether a column, or an option of `train`, has only numbers. */
function holdsNumbers(name: string, cells: readonly Cell[]): boolean {
  const column = columns.find((column) => column === name);
  if (column !== undefined) return !textColumns.includes(column);
  const given = cells.filter((cell) => cell !== null);
  return given.length > 0 && given.every((cell) => typeof cell === "number");
}

function isNumber(text: string): boolean {
  return text.trim() !== "" && Number.isFinite(Number(text));
}

function meets(value: Cell, sign: string, wanted: string): boolean {
  if (value === null) return sign === "!=";
  if (sign === "~") return String(value).includes(wanted);
  const [left, right] = typeof value === "number" ? [value, Number(wanted)] : [value, wanted];
  switch (sign) {
    case "=":
      return left === right;
    case "!=":
      return left !== right;
    case "<":
      return left < right;
    case "<=":
      return left <= right;
    case ">":
      return left > right;
    default:
      return left >= right;
  }
}
