/**
 * What `train` says at the end.
 *
 * @module
 */

import type { Data } from "../data/table.ts";
import type { SlotDescription } from "../network/network.ts";
import { stepsOver } from "../train/rows.ts";
import type { Trainer } from "../train/trainer.ts";
import { figure, percent } from "./progress.ts";
import type { DoneEvent, EpochEvent, RunEvent, RunRecord } from "./run_folder.ts";
import { sparkline } from "./sparkline.ts";

/** What a summary is made of. */
export interface RunOutcome {
  /** Folder of the run. */
  readonly folder: string;
  /** The run. */
  readonly trainer: Trainer;
  /** Its record. */
  readonly record: RunRecord;
  /** Its data. */
  readonly data: Data;
  /** All its events. */
  readonly events: readonly RunEvent[];
  /** Its last event. */
  readonly done: DoneEvent;
  /** Path of its report, where it has one. */
  readonly report: string | undefined;
}

/** Says what was trained, how good it is, where it is and what to do next. */
export async function summarizeRun(
  { folder, trainer, record, data, events, done, report }: RunOutcome,
): Promise<string> {
  const { parameters, threads, instructionSet } = trainer.network.describe();
  const { ruleName } = trainer.config;
  const threadWords = `${threads} ${threads === 1 ? "thread" : "threads"}`;
  const lines = [
    "",
    `Trained a network of ${parameters.toLocaleString("en")} parameters on ${data.name} with ${ruleName}: ` +
    `${epochWords(trainer.config.epochs, { done, events })}, ${record.data.rows.train.toLocaleString("en")} rows, ${
      done.seconds.toFixed(1)
    } s, ` +
    `${threadWords}, ${instructionSet}`,
    ...stoppingWords(done, trainer.config.epochs),
    testWords(data, done),
    ...productWords(await trainer.network.describeRule(), shareOfLastBatch(trainer, { record, done })),
    ...curves(events, done),
    "",
    `Run folder  ${folder}`,
    ...(report === undefined ? [] : [`Report      ${report}`]),
    `Predict     deno task predict --checkpoint ${done.checkpoint} --input FILE`,
    `Repeat      deno task train --config ${folder}/config.json`,
  ];
  return `${lines.join("\n")}\n`;
}

/** How many epochs there were, which early stopping makes fewer than were asked for. */
function epochWords(epochs: number, { done, events }: Pick<RunOutcome, "done" | "events">): string {
  const words = `${epochs} ${epochs === 1 ? "epoch" : "epochs"}`;
  const last = events.findLast((event) => event.event === "epoch");
  return done.stoppedEarly && last ? `${last.epoch} of ${words}` : words;
}

function stoppingWords({ bestEpoch, stoppedEarly }: DoneEvent, epochs: number): string[] {
  if (bestEpoch === undefined) return [];
  return [
    `${
      stoppedEarly ? "Stopped early" : `Ran all ${epochs} epochs`
    }: the network of epoch ${bestEpoch}, the best, is kept`,
  ];
}

/** Loss and accuracy in a line each, where there is more than one epoch; where they were watched, on those rows. */
function curves(events: readonly RunEvent[], { bestEpoch }: DoneEvent): string[] {
  const epochs = events.filter((event) => event.event === "epoch");
  if (epochs.length < 2) return [];
  const watched = epochs.some(({ validationLoss }) => validationLoss !== null);
  const line = (name: string, read: (event: EpochEvent) => number | null, show: (value: number) => string) => {
    const values = epochs.flatMap((event) => read(event) ?? []);
    const [first, last] = [values[0], values.at(-1)];
    if (first === undefined || last === undefined) return [];
    const best = epochs.find(({ epoch }) => epoch === bestEpoch);
    const kept = best && read(best);
    const words = kept == null ? "" : `, ${show(kept)} in epoch ${bestEpoch}`;
    return [`${name.padEnd(21)}${sparkline(values)}  ${show(first)} → ${show(last)}${words}`];
  };
  const accuracy = (share: number) => percent(share, 2);
  return [
    ...line("Training loss", ({ trainLoss }) => trainLoss, figure),
    ...line("Validation loss", ({ validationLoss }) => validationLoss, figure),
    ...watched
      ? line("Validation accuracy", ({ validationAccuracy }) => validationAccuracy, accuracy)
      : line("Training accuracy", ({ trainAccuracy }) => trainAccuracy, accuracy),
  ];
}

function testWords(data: Data, done: DoneEvent): string {
  if (done.testLoss === null) return "No test rows in this data set: nothing was tested";
  const words = [
    `loss ${figure(done.testLoss)}`,
    done.testAccuracy === null ? "" : `accuracy ${percent(done.testAccuracy, 2)}`,
    done.testMeanAbsoluteError === null ? "" : `mean absolute error ${figure(done.testMeanAbsoluteError)}`,
  ].filter((word) => word !== "");
  return `Test on ${data.test?.rows.toLocaleString("en")} rows: ${words.join(", ")}`;
}

/** How much of a batch the last step had: the one that ends an epoch may have fewer rows than the others. */
function shareOfLastBatch(
  { config: { batchSize, stepsPerEpoch, dropLast } }: Trainer,
  { record, done }: Pick<RunOutcome, "record" | "done">,
): number {
  const rows = record.data.rows.train;
  const short = dropLast ? 0 : rows % batchSize;
  const ended = done.step % (stepsPerEpoch ?? stepsOver(rows, { batchSize, dropLast })) === 0;
  return ended && short > 0 ? short / batchSize : 1;
}

/** Which outer products make the weight gradients of which layers, where a rule chooses among them; of a whole batch. */
function productWords(layers: readonly SlotDescription[], share: number): string[] {
  const words = layers.map(({ layer, slots: { products } }) => {
    const { kind, keeps, why, k, of, policy, memory } = products;
    if (kind !== "memAop") return undefined;
    if (why !== undefined) return `${layer}: all rows (${why})`;
    const rows = of === undefined ? `${k}` : `${k} of ${Math.round((of as number) / share)}`;
    return `${layer}: ${rows} ${keeps} (${policy}${memory ? " with memory" : ""})`;
  }).filter((text) => text !== undefined);
  return words.length === 0 ? [] : [`Weight gradients of layers from ${words.join("; ")}`];
}
