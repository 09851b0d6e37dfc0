/**
 * How good a network is on rows with targets.
 *
 * @module
 */

import { abortSignal, boolean, knownOptions, number } from "../config.ts";
import { Dataset } from "../data/dataset.ts";
import type { Table } from "../data/table.ts";
import { native } from "../ffi/native.ts";
import { check, newStatus } from "../ffi/status.ts";
import type { Network } from "../network/network.ts";

/** Milliseconds of one native call: between calls the event loop and an abort signal have their turn. */
const CHUNK_MS = 80;

/** Options of an evaluation. */
export interface EvaluateOptions {
  /** For class labels: how many of the highest scores may hold the right class in `topAccuracy`. Default 5. */
  readonly topK?: number;
  /** For class labels: whether to count a confusion matrix. Default `false`. */
  readonly confusion?: boolean;
  /** Ends the evaluation early with its reason. */
  readonly signal?: AbortSignal;
}

/** Metrics over rows. */
export interface Metrics {
  /** Rows evaluated. */
  readonly rows: number;
  /** Mean loss. */
  readonly loss: number;
  /** Share of rows whose class was right (labels only). */
  readonly accuracy?: number;
  /** Share of rows whose class was among the `topK` highest scores (labels only). */
  readonly topAccuracy?: number;
  /** Mean absolute difference between predictions and targets (values only). */
  readonly meanAbsoluteError?: number;
  /** Counts of true class (row) and predicted class (column), where asked for. */
  readonly confusion?: readonly (readonly number[])[];
}

/** Evaluates a network; see `Network.evaluate`. */
export async function evaluate(network: Network, data: Table | Dataset, options: EvaluateOptions): Promise<Metrics> {
  knownOptions("evaluate", options, ["topK", "confusion", "signal"]);
  abortSignal("evaluate.signal", options.signal);
  const top = number("evaluate.topK", options.topK ?? 5, { min: 1, whole: true });
  using own = data instanceof Dataset ? undefined : await Dataset.create(data);
  const set = own ?? data as Dataset;
  const classes = set.targets.kind === "labels" ? set.targets.classes : 0;
  const counted = boolean("evaluate.confusion", options.confusion ?? false) ? classes : 0;
  const confusion = new Uint32Array(counted * counted);
  const total = new Float64Array(5);
  for (let first = 0; first < set.rows;) {
    options.signal?.throwIfAborted();
    const sums = new Float64Array(5);
    const status = newStatus();
    const code = await native().network_evaluate(
      network.handle,
      set.handle,
      first,
      top,
      CHUNK_MS,
      sums,
      sums.length,
      confusion,
      confusion.length,
      status,
    );
    check(code, status);
    sums.forEach((value, index) => total[index]! += value);
    first += sums[0]!;
  }
  const [rows = 0, loss = 0, correct = 0, correctTop = 0, absolute = 0] = total;
  return {
    rows,
    loss: loss / rows,
    ...(classes > 0
      ? { accuracy: correct / rows, topAccuracy: correctTop / rows }
      : { meanAbsoluteError: absolute / rows }),
    ...(counted > 0 && {
      confusion: Array.from(
        { length: counted },
        (_, row) => [...confusion.subarray(row * counted, (row + 1) * counted)],
      ),
    }),
  };
}
