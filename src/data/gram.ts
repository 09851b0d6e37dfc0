/**
 * Products of rows that several runs share.
 *
 * @module
 */

import { knownOptions, oneOf, typeName } from "../config.ts";
import { ConfigError } from "../errors.ts";
import { Handle } from "../ffi/handle.ts";
import { native } from "../ffi/native.ts";
import { check, newStatus } from "../ffi/status.ts";
import { Dataset } from "./dataset.ts";

/**
 * The products of all rows of a data set with each other, K = X · Xᵀ, for several runs with `frontContribution({ gram })`: folds of
 * a cross-validation (`data.select(rows)`), seeds, learning rates. Each run takes the part that belongs to its rows. Free it with
 * `using`; runs that use it keep it until they end.
 *
 * @example
 * ```ts
 * import { Dataset, Gram, spectra } from "@leanprop/leanprop";
 * using data = await Dataset.create(spectra().train);
 * using gram = await Gram.create(data);
 * console.log(gram.bytes);
 * ```
 */
export class Gram implements Disposable {
  readonly #handle: Handle;
  /** Number of rows. */
  readonly rows: number;
  /** Element type. */
  readonly precision: "f32" | "f64";
  /** Seconds that it took to compute. */
  readonly seconds: number;

  private constructor(number: number, facts: Pick<Gram, "rows" | "precision" | "seconds">) {
    this.#handle = new Handle(this, number, "set of products", native().gram_destroy);
    this.rows = facts.rows;
    this.precision = facts.precision;
    this.seconds = facts.seconds;
  }

  /**
   * Computes the products of the rows of a data set.
   *
   * @param data rows in the engine; the rows that it was selected from count too
   * @param options `precision` of the networks that will use it; default `"f32"`
   * @returns the products
   * @throws {ConfigError} where the rows are no `Dataset` or an option cannot be used
   * @throws {EngineError} `out-of-memory` where they do not fit
   */
  static async create(data: Dataset, options: { readonly precision?: "f32" | "f64" } = {}): Promise<Gram> {
    if (!(data instanceof Dataset)) {
      throw new ConfigError("data", "a Dataset such as await Dataset.create(table)", typeName(data));
    }
    knownOptions("gram", options, ["precision"]);
    const precision = oneOf("gram.precision", options.precision ?? "f32", ["f32", "f64"]);
    const start = performance.now();
    const handle = new Uint32Array(1);
    const status = newStatus();
    check(await native().gram_create(data.handle, precision === "f64" ? 1 : 0, 0, handle, status), status);
    return new Gram(handle[0] ?? 0, { rows: data.storedRows, precision, seconds: (performance.now() - start) / 1000 });
  }

  /** Bytes that it takes. */
  get bytes(): number {
    return this.rows * this.rows * (this.precision === "f32" ? 4 : 8);
  }

  /** Whether it can still be used. */
  get live(): boolean {
    return !this.#handle.closed;
  }

  /** Frees the products. */
  [Symbol.dispose](): void {
    this.#handle.close();
  }
}
