/**
 * The report that `train` leaves: at the end of a run, or when it is stopped.
 *
 * @module
 */

import type { Data } from "../../data/table.ts";
import { isDivergence } from "../../errors.ts";
import { Network } from "../../network/network.ts";
import type { Trainer } from "../../train/trainer.ts";
import { explain, Interruption } from "../errors.ts";
import type { ProgressView } from "../progress.ts";
import { type DoneEvent, readEvents, type RunRecord } from "../run_folder.ts";
import { note } from "../terminal.ts";
import type { TrainValues } from "../train_options.ts";
import { rowsToJudge } from "./rewrite.ts";
import { writeReport } from "./run_report.ts";

/** A run that is reported on. */
export interface Reported {
  /** Its folder. */
  readonly folder: string;
  /** Its record. */
  readonly record: RunRecord;
  /** The run in the engine. */
  readonly trainer: Trainer;
}

/** Writes the report, unless the options say none; gives its path. */
export async function reportAtEnd(
  { folder, record, trainer }: Reported,
  { data, done, values, view }: {
    readonly data: Data;
    readonly done: DoneEvent;
    readonly values: TrainValues;
    readonly view: ProgressView;
  },
): Promise<string | undefined> {
  const { report = true, svg = false } = values;
  if (!report) return undefined;
  try {
    view.status("writing the report");
    const rows = rowsToJudge(data);
    const events = await readEvents(folder);
    // The network that the run leaves, which need not be that of its last step.
    using network = await Network.load(done.checkpoint, { threads: trainer.network.describe().threads });
    return await writeReport({ folder, record, events, network, rows, svg });
  } finally {
    view.clear();
  }
}

/**
 * Writes the report of a run that ends before its time, by Ctrl-C or since its loss is not finite: without a pass over the test
 * rows, since who stops a run does not want to wait.
 *
 * @returns what to leave with; a report that cannot be written does not stand in the place of what ended the run
 */
export async function reportOnStop(
  { folder, record, trainer }: Reported,
  { fault, values: { report = true, svg = false }, view }: {
    readonly fault: unknown;
    readonly values: TrainValues;
    readonly view: ProgressView;
  },
): Promise<unknown> {
  const ended = fault instanceof Interruption || isDivergence(fault);
  if (!report || !ended) return fault;
  // The state is saved: who stops a run hears so at once, and may stop this too.
  const told = fault instanceof Interruption ? new Interruption(fault.exitCode, "") : fault;
  if (fault instanceof Interruption) note(`${fault.message}\n`);
  try {
    view.status("writing the report");
    const { network } = trainer;
    const events = await readEvents(folder);
    const path = await writeReport({ folder, record, events, network, rows: undefined, svg });
    view.clear();
    note(`Report       ${path}\n`);
  } catch (cause) {
    note(`${explain(cause).message}\n`);
  } finally {
    view.clear();
  }
  return told;
}
