/**
 * The one list of data sets that have a name on the command line.
 *
 * @module
 */
import { objectOfOptions } from "../config.ts";
import { ConfigError } from "../errors.ts";
import { didYouMean } from "../nearest.ts";
import { cifar10 } from "./cifar.ts";
import { CSV_OPTIONS, type CsvOptions, readCsv } from "./csv.ts";
import type { DownloadControl } from "./download.ts";
import { energy } from "./energy.ts";
import { glyphs } from "./glyphs.ts";
import { idxData } from "./idx_data.ts";
import { mnist } from "./mnist.ts";
import { npyData, npzData } from "./npy_data.ts";
import { spectra } from "./spectra.ts";
import { spirals } from "./spirals.ts";
import type { Data } from "./table.ts";

/** Everything that some data set can be told; each set refuses what it does not know. */
export interface DataOptions extends DownloadControl, Omit<CsvOptions, "name"> {
  /** Folder in which named data sets are looked for first. */
  readonly dataDir?: string;
  /** Fetch a public data set that is missing. */
  readonly download?: boolean;
  /** Seed of a generated data set. */
  readonly seed?: number;
  /** Training rows of a generated data set. */
  readonly rows?: number;
  /** Test rows of a generated data set. */
  readonly testRows?: number;
  /** Number of classes. */
  readonly classes?: number;
  /** Noise of `spirals`. */
  readonly noise?: number;
  /** Whether each colour of `cifar10` is brought to mean 0 and deviation 1. */
  readonly normalize?: boolean;
}

/** A data set that can be loaded by name. */
export interface DataSource {
  /** The name; one that ends in `:` is followed by a path. */
  readonly name: string;
  /** One line for help texts. */
  readonly description: string;
  /** The options that it knows. */
  readonly options: readonly string[];
  /** Loads it; `path` is what follows the name's colon. */
  readonly load: (options: DataOptions, path: string) => Promise<Data>;
}

/** The options of `csv:`; its name and its progress are not for the user to choose. */
export const csvOptions = CSV_OPTIONS.filter((name) => name !== "name" && name !== "onRead");

/** Options that only steer how a set is loaded; sets without a download or files have no use for them, and no harm from them. */
const control: readonly string[] = ["onProgress", "onRead", "signal"];

/** Options of a set that is drawn by code, or whose files are small. */
const plain = ({ onProgress: _, onRead: __, signal: ___, ...options }: DataOptions) => options;

/** Options of a set in files. */
const filed = ({ onProgress: _, signal: __, ...options }: DataOptions) => options;

/** Options of a set that can be downloaded. */
const fetched = ({ onRead: _, ...options }: DataOptions) => options;

/** All data sets by name. */
export const dataSources: readonly DataSource[] = [
  {
    name: "glyphs",
    description: "28×28 grey digits drawn by code, 10 classes; nothing to download",
    options: ["rows", "testRows", "seed"],
    load: (options) => Promise.resolve().then(() => glyphs(plain(options))),
  },
  {
    name: "spirals",
    description: "points on spiral arms, 2 inputs, one class per arm; nothing to download",
    options: ["rows", "testRows", "classes", "noise", "seed"],
    load: (options) => Promise.resolve().then(() => spirals(plain(options))),
  },
  {
    name: "spectra",
    description: "200 curves of 5,000 columns, one class for each set of peaks; nothing to download",
    options: ["rows", "testRows", "classes", "seed"],
    load: (options) => Promise.resolve().then(() => spectra(plain(options))),
  },
  {
    name: "mnist",
    description: "60,000 + 10,000 handwritten digits, 28×28 grey, 10 classes",
    options: ["dataDir", "download"],
    load: (options) => mnist(fetched(options)),
  },
  {
    name: "cifar10",
    description: "50,000 + 10,000 photographs, 32×32 colour, 10 classes",
    options: ["dataDir", "download", "normalize"],
    load: (options) => cifar10(fetched(options)),
  },
  {
    name: "energy",
    description: "768 buildings, 16 inputs, heating load to predict (UCI energy efficiency)",
    options: ["dataDir", "precision", "validationFraction", "validationSeed"],
    load: (options) => energy(plain(options)),
  },
  {
    name: "csv:",
    description: "csv:FILE, a table of numbers and words with a target column",
    options: csvOptions,
    load: (options, path) => readCsv(path, filed(options)),
  },
  {
    name: "idx:",
    description: "idx:FOLDER or idx:IMAGES,LABELS[,TEST_IMAGES,TEST_LABELS], the format of MNIST",
    options: ["classes"],
    load: (options, path) => idxData(path, filed(options)),
  },
  {
    name: "npy:",
    description: "npy:FILE.npz or npy:FEATURES.npy,TARGETS.npy[,TEST_FEATURES.npy,TEST_TARGETS.npy]",
    options: ["task", "classes"],
    load: loadNpy,
  },
];

/**
 * Loads a data set by name.
 *
 * @param name one of {@linkcode dataSources}, with a path after `csv:`, `idx:` or `npy:`
 * @param options those that the data set knows
 * @returns the data set
 * @throws {ConfigError} where the name is unknown (the message gives the nearest one) or an option is not for this set
 * @throws {DataError} where the data cannot be read
 */
export async function loadData(name: string, options: DataOptions = {}): Promise<Data> {
  return await loadFrom(dataSources, { name, options });
}

/**
 * Like {@linkcode loadData}, with a list of data sets of one's own.
 *
 * @param sources the data sets
 * @param wanted name and options
 * @returns the data set
 * @throws as {@linkcode loadData}
 */
export async function loadFrom(
  sources: readonly DataSource[],
  { name, options }: { readonly name: string; readonly options: DataOptions },
): Promise<Data> {
  if (typeof name !== "string") throw new ConfigError("data", "the name of a data set", name);
  objectOfOptions("data options", options);
  const { source, path } = findSource(sources, name);
  const given = options as Readonly<Record<string, unknown>>;
  const unknown = Object.keys(given).find((option) =>
    given[option] !== undefined && !control.includes(option) && !source.options.includes(option)
  );
  if (unknown !== undefined) {
    const known = source.options.join(", ");
    throw new ConfigError(unknown, `options that ${source.name} knows (${known})`, given[unknown]);
  }
  return await source.load(options, path);
}

function findSource(sources: readonly DataSource[], name: string): { source: DataSource; path: string } {
  const colon = name.indexOf(":");
  const start = colon < 0 ? name : name.slice(0, colon + 1);
  const source = sources.find((known) => known.name === start);
  const path = colon < 0 ? "" : name.slice(colon + 1);
  if (source === undefined) {
    const names = sources.map((known) => known.name);
    const shown = names.map((known) => known.endsWith(":") ? `${known}PATH` : known);
    throw new ConfigError("data", `one of ${shown.join(", ")}${didYouMean(start, names)}`, name);
  }
  if (colon >= 0 && path === "") throw new ConfigError("data", `a path after ${source.name}`, "nothing");
  return { source, path };
}

async function loadNpy(options: DataOptions, path: string): Promise<Data> {
  if (path.endsWith(".npz")) return await npzData(path, plain(options));
  const [features, targets, testFeatures, testTargets, ...more] = path.split(",").map((part) => part.trim());
  if (!features || !targets || more.length > 0 || (testFeatures === undefined) !== (testTargets === undefined)) {
    throw new ConfigError("data", "npy:FILE.npz, or 2 or 4 paths with commas between, after npy:", path);
  }
  return await npyData({
    ...plain(options),
    features,
    targets,
    ...(testFeatures !== undefined && { testFeatures }),
    ...(testTargets !== undefined && { testTargets }),
  });
}
