/**
 * MNIST (LeCun, Cortes, Burges): 60,000 + 10,000 handwritten digits, 28 × 28 grey.
 *
 * @module
 */
import { knownOptions } from "../config.ts";
import { checkAlike } from "./check.ts";
import { type DownloadControl, downloadFile } from "./download.ts";
import { idxPair } from "./idx.ts";
import { cacheFolder, locate, missingData, searchFolders } from "./places.ts";
import type { Data } from "./table.ts";

/** The four files, with the SHA-256 of their content (gzip undone). */
const files = {
  "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
  "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
  "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
  "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
} as const;

const mirrors = [
  "https://storage.googleapis.com/cvdf-datasets/mnist",
  "https://ossci-datasets.s3.amazonaws.com/mnist",
];

/** Options of {@linkcode mnist}. */
export interface MnistOptions extends DownloadControl {
  /** Folder that holds the four files, or holds a folder `mnist` with them. */
  readonly dataDir?: string;
  /** Fetch the files into the cache where they are in none of the folders; default false. */
  readonly download?: boolean;
}

/**
 * MNIST, from `dataDir`, the folder that `LEANPROP_DATA` names, or the cache; plain files or gzip.
 *
 * @param options where to look, and whether to download
 * @returns 60,000 training rows and 10,000 test rows of shape `[28, 28, 1]`, bytes with scale 1 / 255, ten classes
 * @throws {DataError} where the files are missing (the message says where they may lie) or damaged
 *
 * @example
 * ```ts
 * const data = await mnist({ download: true });
 * ```
 */
export async function mnist(options: MnistOptions = {}): Promise<Data> {
  knownOptions("mnist", options, ["dataDir", "download", "onProgress", "signal"]);
  const names = Object.keys(files);
  const folders = searchFolders("mnist", options.dataDir);
  let paths = await locate({ folders, files: names });
  if (paths === undefined) {
    if (!options.download) {
      throw missingData("mnist", `the files ${names.join(", ")} (plain, or with .gz after the name)`, {
        folders,
        help: "put them there, or have them fetched with --download, in code download: true",
      });
    }
    paths = await downloadAll(options);
  }
  const [trainImages, trainLabels, testImages, testLabels] = paths as [string, string, string, string];
  const train = await idxPair(trainImages, { labels: trainLabels, classes: 10 });
  const test = await idxPair(testImages, { labels: testLabels, classes: 10 });
  checkAlike(train, test, testImages);
  return { name: "mnist", train, test };
}

async function downloadAll(control: DownloadControl): Promise<string[]> {
  const folder = cacheFolder("mnist");
  const paths: string[] = [];
  for (const [name, sha256] of Object.entries(files)) {
    const path = `${folder}/${name}.gz`;
    const urls = mirrors.map((mirror) => `${mirror}/${name}.gz`);
    await downloadFile(path, { ...control, urls, sha256, hashOf: "content" });
    paths.push(path);
  }
  return paths;
}
