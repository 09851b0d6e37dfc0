/**
 * CIFAR-10 (Krizhevsky 2009) in its binary form: records of one label byte and three planes (red, green, blue) of
 * 32 × 32 bytes. Plain or gzip.
 *
 * @module
 */
import { knownOptions } from "../config.ts";
import { ConfigError, DataError } from "../errors.ts";
import { checkTable } from "./check.ts";
import { type DownloadControl, downloadFile } from "./download.ts";
import { readPlain, writeWhole } from "./files.ts";
import { normalizeChannels } from "./normalize.ts";
import { cacheFolder, locate, missingData, searchFolders } from "./places.ts";
import type { Data, Table } from "./table.ts";
import { readTar } from "./tar.ts";

const pixels = 32 * 32;
const record = 1 + 3 * pixels;
const classNames = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];

const trainFiles = [1, 2, 3, 4, 5].map((part) => `data_batch_${part}.bin`);
const testFile = "test_batch.bin";
/** A smaller selection in the same format, 2,400 and 400 images per class. */
const partFiles = ["train-24000.bin", "test-4000.bin"];

const archive = {
  name: "cifar-10-binary.tar.gz",
  urls: ["https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"],
  sha256: "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
};

/** Options of {@linkcode cifar10}. */
export interface CifarOptions extends DownloadControl {
  /** Folder that holds the files, or holds a folder `cifar10` or `cifar-10-batches-bin` with them. */
  readonly dataDir?: string;
  /** Fetch the files (170 MB) into the cache where they are in none of the folders; default false. */
  readonly download?: boolean;
  /**
   * Whether `scale` and `offset` bring each colour to mean 0 and deviation 1 over the training images; otherwise 0 to 255 become
   * 0 to 1. Default `true`.
   */
  readonly normalize?: boolean;
}

/**
 * CIFAR-10, from `dataDir`, the folder that `LEANPROP_DATA` names, or the cache: the six files of the original
 * (`data_batch_1.bin` to `data_batch_5.bin`, `test_batch.bin`), or a part in two files (`train-24000.bin`,
 * `test-4000.bin`).
 *
 * @param options where to look, whether to download, whether to normalise
 * @returns training and test rows of shape `[32, 32, 3]`, bytes with scale and offset, ten classes with their names
 * @throws {DataError} where the files are missing (the message says where they may lie) or damaged
 */
export async function cifar10(options: CifarOptions = {}): Promise<Data> {
  knownOptions("cifar10", options, ["dataDir", "download", "normalize", "onProgress", "signal"]);
  const folders = [
    ...searchFolders("cifar10", options.dataDir),
    ...searchFolders("cifar-10-batches-bin", options.dataDir),
  ];
  const all = [...trainFiles, testFile];
  let paths = await locate({ folders, files: all }) ?? await locate({ folders, files: partFiles });
  if (paths === undefined) {
    if (!options.download) {
      throw missingData("cifar10", `the files ${all.join(", ")} (or the part ${partFiles.join(", ")}; plain or .gz)`, {
        folders: [...new Set(folders)],
        help: "put them there, or have them fetched with --download, in code download: true",
      });
    }
    paths = await downloadAll(options);
  }
  const data = {
    name: "cifar10",
    train: await readCifar(paths.slice(0, -1)),
    test: await readCifar(paths.slice(-1)),
  };
  return options.normalize ?? true ? normalizeChannels(data) : data;
}

/**
 * Reads files of CIFAR-10 records.
 *
 * @param paths the files, plain or gzip
 * @returns their records one after the other: shape `[32, 32, 3]` (height, width, channels), bytes with scale 1 / 255
 * @throws {ConfigError} where what is given is no list
 * @throws {DataError} where a file is missing, holds no whole number of records, or has a label above 9
 */
export async function readCifar(paths: readonly string[]): Promise<Table> {
  if (!Array.isArray(paths)) throw new ConfigError("paths", "a list of files", paths);
  const files: Uint8Array<ArrayBuffer>[] = [];
  for (const path of paths) {
    const bytes = await readPlain(path);
    if (bytes.length === 0 || bytes.length % record !== 0) {
      const found = bytes.length === 0
        ? "an empty file"
        : `${bytes.length} bytes (record ${Math.floor(bytes.length / record) + 1} is cut off)`;
      throw new DataError(path, `whole records of ${record} bytes`, found);
    }
    files.push(bytes);
  }
  const rows = files.reduce((sum, bytes) => sum + bytes.length / record, 0);
  const features = new Uint8Array(rows * 3 * pixels);
  const values = new Uint32Array(rows);
  let row = 0;
  files.forEach((bytes, file) => {
    for (let start = 0; start < bytes.length; start += record, row++) {
      const label = bytes[start]!;
      if (label > 9) {
        throw new DataError(`${paths[file]}, record ${start / record + 1}`, "a label from 0 to 9", label);
      }
      values[row] = label;
      // Planes to pixels: the engine wants the channels of a pixel side by side.
      for (let pixel = 0, to = row * 3 * pixels; pixel < pixels; pixel++, to += 3) {
        const from = start + 1 + pixel;
        features[to] = bytes[from]!;
        features[to + 1] = bytes[from + pixels]!;
        features[to + 2] = bytes[from + 2 * pixels]!;
      }
    }
  });
  const targets = { kind: "labels", classes: 10, values, names: classNames } as const;
  return checkTable({ rows, shape: [32, 32, 3], features, scale: [1 / 255], targets }, paths.join(", "));
}

async function downloadAll(control: DownloadControl): Promise<string[]> {
  const folder = cacheFolder("cifar10");
  const packed = `${folder}/${archive.name}`;
  await downloadFile(packed, { ...control, urls: archive.urls, sha256: archive.sha256 });
  const contents = readTar(await readPlain(packed), packed);
  const paths: string[] = [];
  for (const name of [...trainFiles, testFile]) {
    const bytes = contents.get(name);
    if (bytes === undefined) throw new DataError(packed, `a file ${name}`, [...contents.keys()].join(", "));
    await writeWhole(`${folder}/${name}`, bytes);
    paths.push(`${folder}/${name}`);
  }
  // It is of no use any more; where it stays it takes space, and nothing else.
  await Deno.remove(packed).catch(() => {});
  return paths;
}
