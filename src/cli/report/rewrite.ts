/**
 * The report of a run from what its folder holds: for runs that were stopped or killed, and for those that are still in training.
 *
 * @module
 */

import { hashData } from "../../data/hash.ts";
import type { Data } from "../../data/table.ts";
import { ConfigError, DataError } from "../../errors.ts";
import { loadFrom, splitValidation } from "../data.ts";
import { UsageError } from "../errors.ts";
import { resumeRequest } from "../request.ts";
import { openStream } from "../stream.ts";
import { readEvents, readRecord, type RunRecord } from "../run_folder.ts";
import { loadTrained, networkFile } from "../trained_network.ts";
import { hasPredictions, reportFile, type ReportSource, writeReport } from "./run_report.ts";

const CHANGED = "the data of the run is not what it was";

/** A report that was written anew. */
export interface Rewritten {
  /** Its path. */
  readonly path: string;
  /** Why it has no confusions and predictions, where the data of the run is not there any more. */
  readonly missing?: string;
  /** Whether the report that was there is left, since it has them. */
  readonly kept?: boolean;
}

/**
 * Writes the report of a run anew. Confusions and predictions need its data, which is read as the run read it; where it is gone, a
 * report that has them is left as it is.
 *
 * @param folder the folder of a run
 * @param options whether charts are written as SVG files too, and whether a report that has more is written over
 * @returns the report
 * @throws {DataError} where the folder holds no run
 * @throws {CheckpointError} where its network cannot be read, or the folder cannot be written to
 */
export async function rewriteReport(
  folder: string,
  { svg, force }: { readonly svg: boolean; readonly force: boolean },
): Promise<Rewritten> {
  const record = await readRecord(folder);
  const events = await readEvents(folder);
  using network = await loadTrained(await networkFile(folder));
  const data = await dataOf(record, folder);
  if (typeof data === "string" && !force && await hasPredictions(folder)) {
    return { path: reportFile(folder), missing: data, kept: true };
  }
  const rows = typeof data === "string" ? undefined : rowsToJudge(data);
  const path = await writeReport({ folder, record, events, network, rows, svg });
  return typeof data === "string" ? { path, missing: data } : { path };
}

/** The rows that a report judges the network by: test rows, or else those that were watched. */
export function rowsToJudge({ test, validation }: Data): ReportSource["rows"] {
  const [name, table] = test ? ["test", test] : ["validation", validation];
  return table && { name, table };
}

/** The data of the run, or why it is not there. */
async function dataOf(record: RunRecord, folder: string): Promise<Data | string> {
  const { values } = resumeRequest(record, { values: {}, dotted: {}, model: undefined }, folder);
  try {
    if (values.stream) {
      const { data, hash } = await openStream(values);
      return hash === record.data.hash ? data : CHANGED;
    }
    const whole = await loadFrom(values, {});
    if (await hashData(whole) === record.data.hash) return splitValidation(whole, values).data;
    return CHANGED;
  } catch (fault) {
    // The options were those of a run once: what is refused now has changed since, as a file has that is gone.
    if ([DataError, ConfigError, UsageError].some((kind) => fault instanceof kind)) return (fault as Error).message;
    throw fault;
  }
}
