/**
 * Data sets from NumPy arrays: `.npy` files, an `.npz` archive, or arrays in memory.
 *
 * @module
 */
import { knownOptions } from "../config.ts";
import { ConfigError, DataError } from "../errors.ts";
import { didYouMean } from "../nearest.ts";
import { featuresFrom, labelsFrom, type NumberArray, numberArrayGiven, valuesFrom } from "./array.ts";
import { checkAlike, checkTable } from "./check.ts";
import { readNpy } from "./npy.ts";
import { readNpz } from "./npz.ts";
import type { Data, Table } from "./table.ts";

/** What every NumPy data set can be told. */
export interface NpyOptions {
  /**
   * `"classification"` takes targets as labels, `"regression"` as values. Default: whole-number types are labels,
   * floating point is values.
   */
  readonly task?: "classification" | "regression";
  /** Number of classes; default the largest training label plus one. */
  readonly classes?: number;
  /** For byte features: value = byte · scale + offset; one entry, or one per channel. Default `[1 / 255]`. */
  readonly scale?: readonly number[];
  /** See `scale`. Default `[0]`. */
  readonly offset?: readonly number[];
  /** Name of the data set; default `"npy"`. */
  readonly name?: string;
}

const OPTIONS = ["task", "classes", "scale", "offset", "name"] as const satisfies readonly (keyof NpyOptions)[];

/** Options of {@linkcode npyData}: each array is the path of a `.npy` file, or an array in memory. */
export interface NpyDataOptions extends NpyOptions {
  /** Training features: rows × anything. */
  readonly features: string | NumberArray;
  /** Training targets: one label a row, or rows × size values. */
  readonly targets: string | NumberArray;
  /** Test features. */
  readonly testFeatures?: string | NumberArray;
  /** Test targets. */
  readonly testTargets?: string | NumberArray;
}

/**
 * Makes a data set of NumPy arrays. Byte features stay bytes; rank 3 is taken as images with one channel.
 *
 * @param options the arrays and how to take them
 * @returns the data set
 * @throws {DataError} where a file cannot be read or the arrays do not fit together
 * @throws {ConfigError} where an option cannot be used
 *
 * @example
 * ```ts
 * const data = await npyData({ features: "x.npy", targets: "y.npy" });
 * ```
 */
export async function npyData(options: NpyDataOptions): Promise<Data> {
  knownOptions("npyData", options, ["features", "targets", "testFeatures", "testTargets", ...OPTIONS]);
  const { testFeatures, testTargets } = options;
  if ((testFeatures === undefined) !== (testTargets === undefined)) {
    throw new ConfigError("testTargets", "testFeatures and testTargets together", "one of them alone");
  }
  const pair = async (parts: { features: string | NumberArray; targets: string | NumberArray }, kind: string) => ({
    features: await named(parts.features, `${kind} features`),
    targets: await named(parts.targets, `${kind} targets`),
  });
  const train = await pair(options, "training");
  if (testFeatures === undefined || testTargets === undefined) return dataFrom({ train }, options);
  return dataFrom({ train, test: await pair({ features: testFeatures, targets: testTargets }, "test") }, options);
}

const npzNames = {
  features: ["features", "x_train", "x"],
  targets: ["targets", "y_train", "y"],
  testFeatures: ["testFeatures", "test_features", "x_test"],
  testTargets: ["testTargets", "test_targets", "y_test"],
} as const;

/**
 * Makes a data set of an `.npz` archive with the arrays `features` and `targets`, and where there are any
 * `test_features` and `test_targets`. The names `x_train`, `y_train`, `x_test`, `y_test` and `x`, `y` do as well.
 *
 * @param path the archive
 * @param options how to take the arrays
 * @returns the data set
 * @throws {DataError} where the archive cannot be read, lacks an array, or the arrays do not fit together
 */
export async function npzData(path: string, options: NpyOptions = {}): Promise<Data> {
  knownOptions("npzData", options, OPTIONS);
  const arrays = await readNpz(path);
  const pick = (names: readonly string[]) => arrays.get(names.find((name) => arrays.has(name)) ?? "");
  const features = pick(npzNames.features);
  const targets = pick(npzNames.targets);
  if (features === undefined || targets === undefined) {
    const names = features === undefined ? npzNames.features : npzNames.targets;
    const hint = [...arrays.keys()].map((name) => didYouMean(name, names)).find((text) => text !== "") ?? "";
    throw new DataError(
      path,
      `an array named ${names.join(" or ")}${hint}`,
      arrays.size === 0 ? "none at all" : [...arrays.keys()].join(", "),
    );
  }
  const testFeatures = pick(npzNames.testFeatures);
  const testTargets = pick(npzNames.testTargets);
  if ((testFeatures === undefined) !== (testTargets === undefined)) {
    throw new DataError(path, "test features and test targets together", "one of them alone");
  }
  const place = (array: NumberArray, kind: string): NamedArray => ({ array, where: `${path}, ${kind}` });
  const train = { features: place(features, "training features"), targets: place(targets, "training targets") };
  if (testFeatures === undefined || testTargets === undefined) return dataFrom({ train }, options);
  const test = { features: place(testFeatures, "test features"), targets: place(testTargets, "test targets") };
  return dataFrom({ train, test }, options);
}

interface NamedArray {
  readonly array: NumberArray;
  /** The file or argument, for messages. */
  readonly where: string;
}

interface ArrayPair {
  readonly features: NamedArray;
  readonly targets: NamedArray;
}

async function named(source: string | NumberArray, argument: string): Promise<NamedArray> {
  if (typeof source === "string") return { array: await readNpy(source), where: source };
  numberArrayGiven(`the ${argument}`, source);
  return { array: source, where: argument };
}

function dataFrom(pairs: { readonly train: ArrayPair; readonly test?: ArrayPair }, options: NpyOptions): Data {
  const name = options.name ?? "npy";
  const train = tableFrom(pairs.train, options);
  if (pairs.test === undefined) return { name, train };
  // The training rows settle the task and the classes: a test label that they lack is out of range.
  const { targets } = train;
  const settled: NpyOptions = targets.kind === "labels"
    ? { ...options, task: "classification", classes: targets.classes }
    : { ...options, task: "regression" };
  const test = tableFrom(pairs.test, settled);
  checkAlike(train, test, pairs.test.features.where);
  return { name, train, test };
}

function tableFrom(pair: ArrayPair, options: NpyOptions): Table {
  const { features: from, targets: to } = pair;
  const part = featuresFrom(from.array, from.where);
  const task = options.task ?? (to.array.type.startsWith("f") ? "regression" : "classification");
  if (task !== "classification" && task !== "regression") {
    throw new ConfigError("task", '"classification" or "regression"', task);
  }
  if (task === "regression" && options.classes !== undefined) {
    throw new ConfigError("classes", "nothing for regression", options.classes);
  }
  const scaling = { ...(options.scale && { scale: options.scale }), ...(options.offset && { offset: options.offset }) };
  if (!(part.features instanceof Uint8Array) && Object.keys(scaling).length > 0) {
    throw new ConfigError("scale", "no scale or offset for features that are not bytes", from.array.type);
  }
  const targets = task === "classification"
    ? labelsFrom(to.array, to.where, options.classes)
    : valuesFrom(to.array, to.where);
  const rows = to.array.shape[0];
  if (rows !== part.rows) {
    throw new DataError(to.where, `${part.rows} rows, as many as ${from.where} has`, `${rows} rows`);
  }
  return checkTable({ ...part, ...scaling, targets }, from.where);
}
