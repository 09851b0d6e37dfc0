/**
 * A table in the engine: checked and copied once, then used by any number of runs.
 *
 * @module
 */

import { listGiven, number, objectGiven, oneOf, typeName } from "../config.ts";
import { ConfigError } from "../errors.ts";
import { Handle } from "../ffi/handle.ts";
import { native } from "../ffi/native.ts";
import { check, encode, newStatus } from "../ffi/status.ts";
import type { FeatureArray, LabelTargets, Table, ValueTargets } from "./table.ts";

/** Most bytes of features that one call can carry. */
const MOST_BYTES = 2 ** 32 - 1;

/** Features without targets, for prediction. */
export type Features = Pick<Table, "rows" | "shape" | "features" | "scale" | "offset">;

/** What a {@linkcode Dataset} knows about its targets. */
export type TargetInfo =
  | {
    /** Class labels. */
    readonly kind: "labels";
    /** Number of classes. */
    readonly classes: number;
    /** Names of the classes. */
    readonly names?: readonly string[];
  }
  | {
    /** Real numbers. */
    readonly kind: "values";
    /** Numbers per row. */
    readonly size: number;
    /** Names of the columns. */
    readonly names?: readonly string[];
  }
  | {
    /** No targets. */
    readonly kind: "none";
  };

/** Rows in the engine. Free it with `using` or `dispose`; runs that use it keep it alive until they end. */
export class Dataset implements Disposable {
  readonly #handle: Handle;
  /** Number of rows. */
  readonly rows: number;
  /** Rows in the engine: those that this is a selection of. */
  readonly storedRows: number;
  /** Shape of one sample. */
  readonly shape: readonly number[];
  /** What the targets are. */
  readonly targets: TargetInfo;

  private constructor(
    number: number,
    table: Pick<Features, "rows" | "shape"> & { readonly storedRows?: number },
    targets: TargetInfo,
  ) {
    this.#handle = new Handle(this, number, "data set", native().dataset_destroy);
    this.rows = table.rows;
    this.storedRows = table.storedRows ?? table.rows;
    this.shape = table.shape;
    this.targets = targets;
  }

  /**
   * Checks a table and copies it into the engine.
   *
   * @param table rows with or without targets
   * @returns the data set
   * @throws {ConfigError} where what is given is no table, a size is not a whole number, a scale or offset not finite, or an array of another type
   * @throws {EngineError} where lengths do not fit, a number is not finite (named by row and column), or a label is out of range
   */
  static async create(table: Table | Features): Promise<Dataset> {
    objectGiven("data", table, "a table such as { rows, shape, features, targets }");
    const { rows, shape, features, scale = [1 / 255], offset = [0] } = table;
    const targets = "targets" in table ? table.targets : undefined;
    number("rows", rows, { min: 0, whole: true });
    if (!Array.isArray(shape)) throw new ConfigError("shape", "a shape such as [784]", shape);
    shape.forEach((axis, index) => number(`shape[${index}]`, axis, { min: 0, whole: true }));
    finiteNumbers("scale", scale);
    finiteNumbers("offset", offset);
    const type = elementType(features);
    if (features.byteLength > MOST_BYTES) {
      throw new ConfigError("features", "at most 4 GiB", `${(features.byteLength / 2 ** 30).toFixed(1)} GiB`);
    }
    const info = describeTargets(targets);
    const config = encode(
      JSON.stringify({ rows, shape, features: type, scale, offset, targets: bare(info) }),
    );
    const labels = targets?.kind === "labels" ? targets.values : new Uint32Array(0);
    const values = targets?.kind === "values" ? wide(targets.values) : new Float64Array(0);
    const handle = new Uint32Array(1);
    const status = newStatus();
    const code = await native().dataset_create(
      config,
      config.length,
      features,
      features.byteLength,
      labels,
      labels.length,
      values,
      values.length,
      handle,
      status,
    );
    check(code, status);
    return new Dataset(handle[0] ?? 0, table, info);
  }

  /**
   * Some of the rows as a data set of its own; they stay where they are in the engine.
   *
   * @param rows numbers of rows, in the wanted order
   * @returns the selection; it lives on where this data set is disposed of
   * @throws {ConfigError} where what is given is no list
   * @throws {EngineError} `shape-mismatch` where a row does not exist, or none is given
   */
  select(rows: ArrayLike<number>): Dataset {
    listGiven("rows", rows, "a list of row numbers");
    const list = Uint32Array.from(
      rows,
      (row, index) => number(`rows[${index}]`, row, { min: 0, max: 2 ** 32 - 1, whole: true }),
    );
    const handle = new Uint32Array(1);
    const status = newStatus();
    check(native().dataset_select(this.handle, list, list.length, handle, status), status);
    return new Dataset(
      handle[0] ?? 0,
      { rows: list.length, shape: this.shape, storedRows: this.storedRows },
      this.targets,
    );
  }

  /** The engine's number for it. @throws {EngineError} after disposal */
  get handle(): number {
    return this.#handle.number;
  }

  /** Frees the rows. */
  [Symbol.dispose](): void {
    this.#handle.close();
  }
}

function finiteNumbers(path: string, values: unknown): void {
  if (!Array.isArray(values)) throw new ConfigError(path, "a list of numbers", typeName(values));
  // JSON, which carries them to the engine, has no NaN.
  values.forEach((value, index) => number(`${path}[${index}]`, value));
}

function elementType(features: FeatureArray): "u8" | "f32" | "f64" {
  if (features instanceof Uint8Array) return "u8";
  if (features instanceof Float32Array) return "f32";
  if (features instanceof Float64Array) return "f64";
  throw new ConfigError("features", "a Uint8Array, Float32Array or Float64Array", typeName(features));
}

function describeTargets(targets: Table["targets"] | undefined): TargetInfo {
  if (targets === undefined) return { kind: "none" };
  objectGiven("targets", targets, 'targets such as { kind: "labels", values, classes }');
  const names = targets.names && { names: targets.names };
  const count = (name: string, value: number) => number(`targets.${name}`, value, { min: 1, whole: true });
  switch (oneOf("targets.kind", targets.kind, ["labels", "values"])) {
    case "labels": {
      const { classes, values } = targets as LabelTargets;
      // The engine would read past the end of an array with smaller elements.
      if (values instanceof Uint32Array) return { kind: "labels", classes: count("classes", classes), ...names };
      throw new ConfigError("targets.values", "a Uint32Array of labels", typeName(values));
    }
    case "values":
      return { kind: "values", size: count("size", (targets as ValueTargets).size), ...names };
  }
}

/** Targets without what only users need. */
function bare(info: TargetInfo): Record<string, unknown> {
  if (info.kind === "labels") return { kind: info.kind, classes: info.classes };
  return info.kind === "values" ? { kind: info.kind, size: info.size } : { kind: info.kind };
}

function wide(values: Float32Array<ArrayBuffer> | Float64Array<ArrayBuffer>): Float64Array<ArrayBuffer> {
  return values instanceof Float64Array ? values : Float64Array.from(values);
}
