/**
 * From options to a data set with validation rows.
 *
 * @module
 */

import { number, seedNumber } from "../config.ts";
import type { CsvTransform } from "../data/csv_transform.ts";
import type { DownloadControl } from "../data/download.ts";
import type { ReadControl } from "../data/files.ts";
import { type DataOptions, loadFrom as loadNamed } from "../data/registry.ts";
import { withValidation } from "../data/split.ts";
import type { Data } from "../data/table.ts";
import { ConfigError } from "../errors.ts";
import { UsageError } from "./errors.ts";
import { sources } from "./sources.ts";
import { dataOptionNames, type TrainValues } from "./train_options.ts";

/** Share of the training rows that is split off where nothing is said. */
const VALIDATION_SPLIT = 0.1;

/**
 * Loads the data set that the options name.
 *
 * @param values options of `train`
 * @param control progress, and abort of a download
 * @returns the data set as it was read, and the name that it has on the command line
 * @throws {UsageError} where an option is given that this data set does not know
 */
export async function loadFrom(values: TrainValues, control: DownloadControl & ReadControl): Promise<Data> {
  const name = values.data ?? "glyphs";
  const source = sources.find((known) => known.name === (name.includes(":") ? `${name.split(":")[0]}:` : name));
  const known: readonly string[] = source?.options ?? [];
  // An unknown data set is refused below, with the nearest name.
  const options = { ...control, ...(source && dataOptions(values, { name, known })) };
  // These say how and where, and have a meaning of their own beside the data set: sets that do not know them need none.
  const validation = known.includes("validationFraction") ? splitWanted(values) ?? VALIDATION_SPLIT : 0;
  if (validation > 0) Object.assign(options, { validationFraction: validation, validationSeed: splitSeed(values) });
  try {
    return await loadNamed(sources, { name, options: options as DataOptions });
  } catch (fault) {
    const path = fault instanceof ConfigError ? fault.path.split(".").at(-1)! : "";
    const option = path === "validationFraction" ? "validation-split" : dataOptionNames[path];
    throw option === undefined ? fault : UsageError.of(fault as ConfigError, `--${option}`);
  }
}

/**
 * Options of a data set as the API has them.
 *
 * @param values options of `train`
 * @param set the data set as it was named, and the options that it knows
 * @returns options by the API's names
 * @throws {UsageError} where an option is given that this data set does not know
 */
export function dataOptions(
  values: TrainValues,
  set: { readonly name: string; readonly known: readonly string[] },
): Record<string, unknown> {
  const options: Record<string, unknown> = {};
  for (const [key, option] of Object.entries(dataOptionNames)) {
    const value = values[option];
    if (value === undefined) continue;
    if (!set.known.includes(key)) throw notForThis(option, set);
    options[key] = key === "standardize"
      ? truthOrNames(value as readonly string[])
      : key === "colour"
      ? value ? "grey" : "rgb"
      : value;
  }
  if (values.download && !set.known.includes("download")) {
    throw new UsageError(`--download with ${set.name}`, "a data set that can be downloaded", "one that cannot");
  }
  const { precision, download, "data-dir": dataDir, "fit-rows": fitRows } = values;
  for (const [key, value] of Object.entries({ precision, download, dataDir, fitRows })) {
    if (value !== undefined && set.known.includes(key)) options[key] = value;
  }
  return options;
}

/**
 * Splits validation rows off, where the data set has none. What is fitted on training rows, such as the columns of a CSV file, has
 * them split off where it is read.
 *
 * @param data the data set
 * @param values options of `train`
 * @returns the data set, and the share that was split off
 * @throws {UsageError} where a seed is given and nothing is split off
 */
export function splitValidation(data: Data, values: TrainValues): { data: Data; fraction: number } {
  const given = splitWanted(values);
  if (transformOf(data) && data.validation) return { data, fraction: given ?? VALIDATION_SPLIT };
  const fraction = given ?? (data.validation !== undefined || data.train.rows < 2 ? 0 : VALIDATION_SPLIT);
  if (fraction > 0) return { data: withValidation(data, { fraction, seed: splitSeed(values) }), fraction };
  if (values["validation-seed"] === undefined) return { data, fraction };
  throw new UsageError("--validation-seed", "rows to split off beside it", "none");
}

function splitSeed({ seed = 0, "validation-seed": own = seed }: TrainValues): number {
  return seedNumber("validationSeed", own);
}

function splitWanted(values: TrainValues): number | undefined {
  const asked = values["validation-split"];
  return asked === undefined ? undefined : number("validationSplit", asked, { min: 0, below: 1 });
}

/** What the columns of a CSV file became, where the data came from one. */
export function transformOf(data: Data): CsvTransform | undefined {
  return "transform" in data ? data.transform as CsvTransform : undefined;
}

function notForThis(option: string, set: { readonly name: string; readonly known: readonly string[] }): UsageError {
  const names = set.known.flatMap((key) => {
    const name = dataOptionNames[key];
    return name === undefined ? [] : [`--${name}`];
  });
  const expected = names.length === 0 ? "no options of its own" : `its options (${names.join(", ")})`;
  return new UsageError(`--${option} with ${set.name}`, expected, "one of another data set");
}

function truthOrNames(words: readonly string[]): boolean | readonly string[] {
  const [word] = words;
  return words.length === 1 && (word === "true" || word === "false") ? word === "true" : words;
}
