/**
 * CSV text into records: quoting as in RFC 4180, any line ending, blank lines left out.
 *
 * @module
 */
import { ConfigError, DataError } from "../errors.ts";
import type { ReadControl } from "./files.ts";

/** One record of a CSV file. */
export interface CsvRecord {
  /** Line of the file on which it starts, counted from 1. */
  readonly line: number;
  /** Its fields, quotes removed. */
  readonly fields: readonly string[];
}

/** The records of a CSV file, all of one width. */
export interface CsvSheet {
  /** The file, for messages. */
  readonly where: string;
  /** Whether the first record named the columns. */
  readonly headed: boolean;
  /** A name per column: from the header, or `column 1`, `column 2` and so on. */
  readonly names: readonly string[];
  /** The records below the header; each has a field per column. */
  readonly records: readonly CsvRecord[];
}

/** Records between two calls of `onRead`. */
const TELL = 10_000;

/** Options of {@linkcode parseSheet}. */
export interface SheetOptions extends ReadControl {
  /** The file, for messages. */
  readonly where: string;
  /** Whether the first record names the columns; default: found out, see {@linkcode parseSheet}. */
  readonly header?: boolean;
  /** One character between fields; default `","`. */
  readonly delimiter?: string;
}

/**
 * Reads CSV text. Columns at the right that are empty in every record are dropped, and so are blank records.
 *
 * Without `header`, the first record is taken as one where a word in it stands over a column of numbers, or, in a file
 * without a column of numbers, where none of its fields comes again below it; words without any record below are one.
 *
 * @param text the whole file
 * @param options file name, header, delimiter
 * @returns the records, each as wide as the first
 * @throws {DataError} where there is no record, a quote is not closed, or a record is wider or narrower than the first
 */
export function parseSheet(text: string, options: SheetOptions): CsvSheet {
  const { where } = options;
  const records = parseRecords(text, options);
  const first = records[0];
  if (first === undefined) throw new DataError(where, "at least one record", "an empty file");
  let width = first.fields.length;
  while (width > 0 && records.every(({ fields }) => isBlank(fields[width - 1]))) width--;
  for (const { fields, line } of records) {
    const extra = fields.findIndex((field, column) => column >= width && !isBlank(field));
    if (fields.length < width || extra >= 0) {
      throw new DataError(
        `${where}, line ${line}`,
        `${width} fields as in line ${first.line}`,
        `${fields.length} fields`,
      );
    }
  }
  const headed = options.header ?? looksLikeHeader(records, width);
  const names = columnNames(headed ? first : undefined, width);
  const body = headed ? records.slice(1) : records;
  if (body.length === 0) throw new DataError(where, "at least one record below the header", "only the header");
  return { where, headed, names, records: body };
}

/**
 * Names of columns.
 *
 * @param header the record that has them, where there is one
 * @param width how many columns
 * @returns a name for each; `column 1` and so on where the header has none
 */
export function columnNames(header: CsvRecord | undefined, width: number): string[] {
  return Array.from({ length: width }, (_, column) => header?.fields[column]?.trim() || `column ${column + 1}`);
}

/**
 * Reads a decimal number.
 *
 * @param text such as `-1.5e3`; spaces around it do not count
 * @returns the number; `undefined` where the text is none (hexadecimal, NaN and infinity are none either)
 */
export function parseNumber(text: string): number | undefined {
  const trimmed = text.trim();
  if (!/^[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?$/.test(trimmed)) return undefined;
  const number = Number(trimmed);
  return Number.isFinite(number) ? number : undefined;
}

/** Splits text into records without looking at what they mean; blank records are left out. */
function parseRecords(text: string, options: SheetOptions): CsvRecord[] {
  const { where, delimiter = ",", onRead } = options;
  if (delimiter.length !== 1 || /["\r\n]/.test(delimiter)) {
    throw new ConfigError("delimiter", "one character other than a quote or a line end", JSON.stringify(delimiter));
  }
  const records: CsvRecord[] = [];
  const end = text.length;
  let at = text.startsWith("\ufeff") ? 1 : 0;
  let line = 1;
  while (at < end) {
    const fields: string[] = [];
    const startLine = line;
    for (;;) {
      if (text[at] === '"') {
        const quoted = readQuoted(text, at);
        const place = `${where}, line ${line}, column ${fields.length + 1}`;
        if (quoted === undefined) throw new DataError(place, "a closing quote", "the end of the file");
        fields.push(quoted.field);
        line += quoted.lineEnds;
        at = quoted.end;
        if (at < end && text[at] !== delimiter && text[at] !== "\n" && text[at] !== "\r") {
          throw new DataError(place, `"${delimiter}" or a line end after the closing quote`, JSON.stringify(text[at]));
        }
      } else {
        const from = at;
        while (at < end && text[at] !== delimiter && text[at] !== "\n" && text[at] !== "\r") at++;
        fields.push(text.slice(from, at));
      }
      if (text[at] !== delimiter || at >= end) break;
      at++;
    }
    // A file that went through text mode twice ends its lines in CR CR LF; counted as one, so that line numbers fit.
    at += text.startsWith("\r\r\n", at) ? 3 : text.startsWith("\r\n", at) ? 2 : 1;
    line++;
    if (!fields.every(isBlank)) records.push({ line: startLine, fields });
    if (onRead && (records.length % TELL === 0 || at >= end)) {
      onRead({ file: where, what: "parsing", share: Math.min(1, at / end) });
    }
  }
  return records;
}

/** Reads a quoted field whose opening quote is at `start`; doubled quotes stand for one. */
function readQuoted(text: string, start: number): { field: string; end: number; lineEnds: number } | undefined {
  let at = start + 1;
  for (;;) {
    at = text.indexOf('"', at);
    if (at < 0) return undefined;
    if (text[at + 1] !== '"') break;
    at += 2;
  }
  const raw = text.slice(start + 1, at);
  return { field: raw.replaceAll('""', '"'), end: at + 1, lineEnds: raw.match(/\r\n|\r|\n/g)?.length ?? 0 };
}

function looksLikeHeader(records: readonly CsvRecord[], width: number): boolean {
  const [first, ...below] = records;
  if (first === undefined) return false;
  const isWord = (field: string) => !isMissing(field) && parseNumber(field) === undefined;
  // Of one row nothing can be learnt: words alone are names without rows.
  if (below.length === 0) return first.fields.slice(0, width).every(isWord);
  let numberColumns = 0;
  for (let column = 0; column < width; column++) {
    const numeric = below.every(({ fields }) =>
      isMissing(fields[column]!) || parseNumber(fields[column]!) !== undefined
    );
    if (!numeric) continue;
    numberColumns++;
    if (isWord(first.fields[column]!)) return true;
  }
  if (numberColumns > 0) return false;
  return first.fields.slice(0, width).every((top, column) =>
    !isBlank(top) && below.every(({ fields }) => fields[column] !== top)
  );
}

/** What files write for "no value": such a field over numbers is a gap in the first row, not a header. */
function isMissing(field: string): boolean {
  return /^\s*(?:|\?|-|na|n\/a|nan|null|none|[+-]?inf(?:inity)?)\s*$/i.test(field);
}

/** Whether a field says nothing. */
export function isBlank(field: string | undefined): boolean {
  return field === undefined || field.trim() === "";
}
