/**
 * Data sets from IDX files by path.
 *
 * @module
 */
import { knownOptions, textGiven } from "../config.ts";
import { ConfigError, DataError } from "../errors.ts";
import { checkAlike } from "./check.ts";
import type { ReadControl } from "./files.ts";
import { idxPair } from "./idx.ts";
import { locate } from "./places.ts";
import type { Data } from "./table.ts";

const trainFiles = ["train-images-idx3-ubyte", "train-labels-idx1-ubyte"];
const testFiles = ["t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"];

/** Options of {@linkcode idxData}. */
export interface IdxDataOptions extends ReadControl {
  /** Number of classes; default the largest training label plus one. */
  readonly classes?: number;
  /** Name of the data set; default `"idx"`. */
  readonly name?: string;
}

/**
 * Reads a data set in the format of MNIST.
 *
 * @param source a folder with the four files of MNIST's names (those for testing may be missing), or two or four paths
 *   with commas between: training images, training labels, test images, test labels
 * @param options number of classes
 * @returns training rows, and test rows where there are any
 * @throws {ConfigError} where the source is neither
 * @throws {DataError} where a file is missing or damaged, or training and test rows do not fit together
 */
export async function idxData(source: string, options: IdxDataOptions = {}): Promise<Data> {
  knownOptions("idxData", options, ["classes", "name", "onRead"]);
  textGiven("source", source, "a folder, or 2 or 4 paths with commas between");
  const { name = "idx", classes, onRead } = options;
  const told = onRead && { onRead };
  const paths = source.includes(",") ? source.split(",").map((path) => path.trim()) : await filesIn(source);
  if ((paths.length !== 2 && paths.length !== 4) || paths.includes("")) {
    throw new ConfigError("data", "a folder, or 2 or 4 paths with commas between, after idx:", source);
  }
  const [trainImages, trainLabels, testImages, testLabels] = paths;
  const given = classes === undefined ? {} : { classes };
  const train = await idxPair(trainImages!, { labels: trainLabels!, ...given, ...told });
  if (testImages === undefined || testLabels === undefined) return { name, train };
  // A test label that the training rows lack is out of range.
  const trainClasses = train.targets.kind === "labels" ? { classes: train.targets.classes } : {};
  const test = await idxPair(testImages, { labels: testLabels, ...trainClasses, ...told });
  checkAlike(train, test, testImages);
  return { name, train, test };
}

async function filesIn(folder: string): Promise<string[]> {
  const train = await locate({ folders: [folder], files: trainFiles });
  if (train === undefined) {
    throw new DataError(folder, `a folder with ${trainFiles.join(" and ")} (plain, or with .gz)`, "no such files");
  }
  return [...train, ...await locate({ folders: [folder], files: testFiles }) ?? []];
}
