/**
 * Energy efficiency of buildings (Tsanas and Xifara 2012, UCI Machine Learning Repository number 242): 768 rows.
 *
 * @module
 */
import { knownOptions } from "../config.ts";
import { type CsvData, readCsv } from "./csv.ts";
import { locate, missingData, searchFolders } from "./places.ts";

const file = "ENB2012_data.csv";

/** Options of {@linkcode energy}. */
export interface EnergyOptions {
  /** Folder that holds `ENB2012_data.csv`, or holds a folder `energy-efficiency` with it. */
  readonly dataDir?: string;
  /** Type of features and targets; default `"f32"`. */
  readonly precision?: "f32" | "f64";
  /** As for `readCsv`. */
  readonly validationFraction?: number;
  /** As for `readCsv`. */
  readonly validationSeed?: number;
}

/**
 * The energy data as in the experiment of Mem-AOP-GD (Hernandez, Rini, Duman 2021): the first 75 % of the rows train
 * (576, the others test), X1 to X5 and X7 standardised over the training rows, X6 and X8 one-hot, target Y1 (heating
 * load).
 *
 * @param options where to look
 * @returns rows of shape `[16]` with one target value
 * @throws {DataError} where the file is missing (the message says where it may lie) or damaged
 */
export async function energy(options: EnergyOptions = {}): Promise<CsvData> {
  knownOptions("energy", options, ["dataDir", "precision", "validationFraction", "validationSeed"]);
  const folders = searchFolders("energy-efficiency", options.dataDir);
  const paths = await locate({ folders, files: [file] });
  if (paths === undefined) {
    throw missingData("energy", `the file ${file} (columns X1 to X8, Y1, Y2)`, {
      folders,
      // The repository offers a spreadsheet only, so there is no file to fetch and check.
      help: "save the spreadsheet of UCI data set 242, Energy efficiency, as CSV and put it there",
    });
  }
  return await readCsv(paths[0]!, {
    name: "energy",
    header: true,
    target: "Y1",
    task: "regression",
    ignore: ["Y2"],
    oneHot: ["X6", "X8"],
    testFraction: 0.25,
    ...(options.precision && { precision: options.precision }),
    ...(options.validationFraction !== undefined && { validationFraction: options.validationFraction }),
    ...(options.validationSeed !== undefined && { validationSeed: options.validationSeed }),
  });
}
