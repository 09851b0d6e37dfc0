/**
 * Tables in text.
 *
 * @module
 */

/**
 * Lines with columns that stand under each other; columns of numbers stand at the right.
 *
 * @param rows cells; the first row names the columns
 * @param words names of columns that are none of numbers, whatever they look like
 * @returns the lines, each with its end
 */
export function textTable(rows: readonly (readonly string[])[], words: readonly string[] = []): string {
  const [head = [], ...body] = rows;
  const widths = head.map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  const isNumber = head.map((name, column) =>
    body.length > 0 && !words.includes(name) &&
    body.every((row) => /^(-|[-+]?[\d.,]+(e[-+]?\d+)?( ?[%×a-zA-Z]+)?)?$/.test(row[column] ?? ""))
  );
  const line = (row: readonly string[]) =>
    row.map((cell, column) => isNumber[column] ? cell.padStart(widths[column]!) : cell.padEnd(widths[column]!))
      .join("  ").trimEnd();
  return rows.map((row) => `${line(row)}\n`).join("");
}
