/**
 * Records as a table, once it is known what columns become: for rows that come part by part.
 *
 * @module
 */

import { DataError } from "../errors.ts";
import type { CsvSheet } from "./csv_records.ts";
import { applyColumns, categoryFinder, type CsvTransform, numberField, place } from "./csv_transform.ts";
import type { LabelTargets, Table, ValueTargets } from "./table.ts";

/** What has been fitted. */
export interface Fitted {
  /** What the columns become. */
  readonly transform: CsvTransform;
  /** Type of the numbers. */
  readonly precision: "f32" | "f64";
}

/**
 * Turns records into a table.
 *
 * @param sheet the records, with the columns of those that were fitted on
 * @param fitted what the columns become
 * @returns features and targets
 * @throws {DataError} with the place, where a field is no number, an unknown category or an unknown class
 */
export function fittedTable(sheet: CsvSheet, fitted: Fitted): Table {
  const { transform: { columns }, precision } = fitted;
  return { ...applyColumns(sheet, { columns, precision }), targets: targetsOf(sheet, fitted) };
}

function targetsOf(sheet: CsvSheet, { transform, precision }: Fitted): LabelTargets | ValueTargets {
  const { targets, classNames } = transform;
  const { records } = sheet;
  if (classNames) {
    const find = categoryFinder(classNames);
    const column = targets[0]!.index;
    const values = Uint32Array.from(records, (record) => {
      const label = find(record.fields[column]!);
      if (label !== undefined) return label;
      const expected = "a class of the first rows (more of them with fitRows)";
      throw new DataError(place(sheet, { record, column }), expected, record.fields[column]!.trim());
    });
    return { kind: "labels", classes: classNames.length, values, names: classNames };
  }
  const size = targets.length;
  const values = precision === "f64"
    ? new Float64Array(records.length * size)
    : new Float32Array(records.length * size);
  records.forEach((record, row) =>
    targets.forEach(({ index }, position) =>
      values[row * size + position] = numberField(sheet, { record, column: index })
    )
  );
  return { kind: "values", size, values, names: targets.map(({ name }) => name) };
}
