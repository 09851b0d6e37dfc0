/**
 * Which runs are meant: conditions, order, and names that stand for one run.
 *
 * @module
 */

import { basename, resolve } from "node:path";
import { didYouMean } from "../../nearest.ts";
import { UsageError } from "../errors.ts";
import { shownColumns } from "./show.ts";
import { columns, type RunRow, textColumns } from "./table.ts";

/** Conditions: `rule=sparse`, `accuracy>0.9`, `folder~mnist`. */
const CONDITION = /^([\w.-]+)(!=|<=|>=|=|<|>|~)(.*)$/;

/** Columns of text whose order is that of time. */
const TIMES: readonly string[] = ["created", "updated"] satisfies (keyof RunRow)[];

/** All names of columns: their own, and those of headings. */
const namedColumns: readonly string[] = [...new Set<string>([...columns, ...shownColumns.keys()])];

type Cell = string | number | null;

/**
 * Runs that meet all conditions.
 *
 * @param runs the runs
 * @param conditions columns, headings or options of `train`, compared with =, !=, <, <=, >, >= or ~ (contains); a list in several words
 * @returns those that meet them
 * @throws {UsageError} for text that is no condition, a column that is none, numbers compared with text, or an order of words
 */
export function filterRuns(runs: readonly RunRow[], conditions: readonly string[]): RunRow[] {
  const tests = joinLists(runs, conditions).map((text) => {
    const [, written, sign, given] = CONDITION.exec(text) ?? [];
    if (written === undefined || sign === undefined || given === undefined) {
      throw new UsageError("--where", "conditions such as rule=sparse or accuracy>0.9", text);
    }
    const name = columnName(written);
    const read = reader(name, { runs, option: "--where" });
    const wanted = holdsLists(runs, name) ? given.replace(/^\[(.*)\]$/, "$1") : given;
    const [, next] = /\s([\w.-]+)(?:!=|<=|>=|=|<|>|~)/.exec(wanted) ?? [];
    if (next !== undefined && namesOf(runs).includes(next)) {
      throw new UsageError(`--where ${text}`, "commas between conditions", `a blank before ${next}`);
    }
    const numbers = holdsNumbers(name, runs.map(read));
    if (sign !== "~" && numbers && !isNumber(wanted)) {
      throw new UsageError(`--where ${text}`, `a number after ${sign}`, wanted || "nothing");
    }
    if (/[<>]/.test(sign) && !numbers && !TIMES.includes(name) && runs.some((row) => read(row) !== null)) {
      throw new UsageError(`--where ${text}`, `=, != or ~ after ${written}, which is no number`, sign);
    }
    return (row: RunRow) => meets(read(row), sign, wanted);
  });
  return runs.filter((row) => tests.every((test) => test(row)));
}

/** `hidden=256,128` in one piece: commas stand between conditions, and in lists. */
function joinLists(runs: readonly RunRow[], words: readonly string[]): string[] {
  const conditions: string[] = [];
  for (const word of words) {
    const before = conditions.at(-1);
    const name = before === undefined ? undefined : CONDITION.exec(before)?.[1];
    const goesOn = name !== undefined && !CONDITION.test(word) && holdsLists(runs, name);
    if (goesOn) conditions.push(`${conditions.pop()},${word}`);
    else conditions.push(word);
  }
  return conditions;
}

/**
 * Runs in an order.
 *
 * @param runs the runs
 * @param by a column, a heading or an option of `train`; with a minus before it, the largest first
 * @returns them in that order; runs that have no such value come last
 * @throws {UsageError} where it is none
 */
export function sortRuns(runs: readonly RunRow[], by: string): RunRow[] {
  const name = columnName(by.replace(/^-/, ""));
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

/** How a column, or an option of `train`, is read; lists as they are written on the command line. */
function reader(
  name: string,
  { runs, option }: { readonly runs: readonly RunRow[]; readonly option: string },
): (row: RunRow) => Cell {
  const column = columns.find((column) => column === name);
  if (column !== undefined) return (row) => row[column];
  const names = namesOf(runs);
  if (!names.includes(name) && runs.length > 0) {
    const known = namedColumns.join(", ");
    throw new UsageError(option, `one of ${known}, or an option of train${didYouMean(name, names)}`, name);
  }
  return (row) => {
    const value = optionsOf(row)[name] ?? null;
    if (Array.isArray(value)) return value.join(",") || "none";
    return typeof value === "number" || typeof value === "string" || value === null ? value : JSON.stringify(value);
  };
}

function optionsOf(row: RunRow): Record<string, unknown> {
  return JSON.parse(row.options);
}

/** The column that a heading stands for; any other name as it is. */
function columnName(name: string): string {
  return shownColumns.get(name) ?? name;
}

/** Columns and headings, and options that some run was given. */
function namesOf(runs: readonly RunRow[]): string[] {
  return [...namedColumns, ...new Set(runs.flatMap((row) => Object.keys(optionsOf(row))))];
}

/** Whether an option of `train` has lists. */
function holdsLists(runs: readonly RunRow[], name: string): boolean {
  return runs.some((row) => Array.isArray(optionsOf(row)[name]));
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
