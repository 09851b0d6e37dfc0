/**
 * Data sets in plain memory: what readers and generators give, and what `train`, `evaluate` and `Dataset` take.
 *
 * @module
 */

/** Features of all rows in one array, row after row. */
export type FeatureArray = Float32Array<ArrayBuffer> | Float64Array<ArrayBuffer> | Uint8Array<ArrayBuffer>;

/** Class labels: one whole number from 0 to `classes - 1` for each row. */
export interface LabelTargets {
  /** Tells the two kinds of targets apart. */
  readonly kind: "labels";
  /** Number of classes. */
  readonly classes: number;
  /** One label a row. */
  readonly values: Uint32Array<ArrayBuffer>;
  /** Names of the classes, in label order. */
  readonly names?: readonly string[];
}

/** Real-valued targets: `size` numbers for each row. */
export interface ValueTargets {
  /** Tells the two kinds of targets apart. */
  readonly kind: "values";
  /** Numbers per row. */
  readonly size: number;
  /** Row after row: rows × size. */
  readonly values: Float32Array<ArrayBuffer> | Float64Array<ArrayBuffer>;
  /** Names of the target columns. */
  readonly names?: readonly string[];
}

/** Rows of features with their targets. */
export interface Table {
  /** Number of rows (samples). */
  readonly rows: number;
  /** Shape of one sample: `[784]`, or `[28, 28, 1]` (height, width, channels) for images. */
  readonly shape: readonly number[];
  /** rows × product(shape) numbers. */
  readonly features: FeatureArray;
  /** For byte features: value = byte · scale + offset, one entry for all or one per channel (last axis). Default `[1 / 255]`. */
  readonly scale?: readonly number[];
  /** See {@linkcode Table.scale}. Default `[0]`. */
  readonly offset?: readonly number[];
  /** What the network should give. */
  readonly targets: LabelTargets | ValueTargets;
}

/** A named data set: training rows, and where there are any, held-out rows. */
export interface Data {
  /** Short name, such as `"mnist"`. */
  readonly name: string;
  /** Rows to train on. */
  readonly train: Table;
  /** Rows to watch while training. */
  readonly validation?: Table;
  /** Rows for the final figure. */
  readonly test?: Table;
}
