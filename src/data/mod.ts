/**
 * Data sets: readers of file formats, named public sets, sets made by code, and what to do with rows.
 *
 * @module
 */
export type { Data, FeatureArray, LabelTargets, Table, ValueTargets } from "./table.ts";
export type { StreamData, TableStream } from "./stream.ts";
export { glyphs, type GlyphsOptions } from "./glyphs.ts";
export { spirals, type SpiralsOptions } from "./spirals.ts";
export { spectra, type SpectraOptions } from "./spectra.ts";
export { type Kernel, kernelData, kernelTable } from "./kernel_table.ts";
export { mnist, type MnistOptions } from "./mnist.ts";
export { cifar10, type CifarOptions, readCifar } from "./cifar.ts";
export { energy, type EnergyOptions } from "./energy.ts";
export { shuffleStream, type ShuffleStreamOptions } from "./shuffle_stream.ts";
export { type CsvStream, csvStream, type CsvStreamOptions } from "./csv_stream.ts";
export { type CsvColumn, type CsvData, type CsvOptions, parseCsv, readCsv } from "./csv.ts";
export {
  type CsvFeatures,
  type CsvFeaturesOptions,
  type CsvTransform,
  type NumberColumn,
  type OneHotColumn,
  parseCsvFeatures,
  readCsvFeatures,
  type TargetColumn,
} from "./csv_transform.ts";
export type { NumberArray, NumberType, NumberValues } from "./array.ts";
export { idxPair, type IdxPairOptions, parseIdx, readIdx } from "./idx.ts";
export { idxData, type IdxDataOptions } from "./idx_data.ts";
export { npyBytes, parseNpy, readNpy, writeNpy } from "./npy.ts";
export { npzBytes, type NpzContents, parseNpz, readNpz, writeNpz } from "./npz.ts";
export type { ZipOptions } from "./zip.ts";
export { npyData, type NpyDataOptions, type NpyOptions, npzData } from "./npy_data.ts";
export type { ReadControl, ReadProgress } from "./files.ts";
export type { DownloadControl, DownloadProgress } from "./download.ts";
export {
  fitStandardization,
  shuffleRows,
  type SplitOptions,
  splitRows,
  type Standardization,
  standardize,
  takeRows,
  withValidation,
} from "./split.ts";
export { Gram } from "./gram.ts";
export { normalizeChannels } from "./normalize.ts";
export { checkTable } from "./check.ts";
export { hashData, hashTable } from "./hash.ts";
export { type DataOptions, type DataSource, dataSources, loadData } from "./registry.ts";
