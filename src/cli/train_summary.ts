/**
 * What `train` says at the end.
 *
 * @module
 */

import type { Data } from "../data/table.ts";
import type { SlotDescription } from "../network/network.ts";
import type { Trainer } from "../train/trainer.ts";
import { figure, percent } from "./progress.ts";
import type { DoneEvent } from "./run_folder.ts";

/** What a summary is made of. */
export interface RunOutcome {
  /** Folder of the run. */
  readonly folder: string;
  /** The run. */
  readonly trainer: Trainer;
  /** Its data. */
  readonly data: Data;
  /** Its last event. */
  readonly done: DoneEvent;
}

/** Says what was trained, how good it is, where it is and what to do next. */
export async function summarizeRun({ folder, trainer, data, done }: RunOutcome): Promise<string> {
  const { parameters, threads, instructionSet } = trainer.network.describe();
  const { epochs, ruleName } = trainer.config;
  const threadWords = `${threads} ${threads === 1 ? "thread" : "threads"}`;
  const lines = [
    "",
    `Trained a network of ${parameters.toLocaleString("en")} parameters on ${data.name} with ${ruleName}: ` +
    `${epochs} ${epochs === 1 ? "epoch" : "epochs"}, ${data.train.rows.toLocaleString("en")} rows, ${
      done.seconds.toFixed(1)
    } s, ` +
    `${threadWords}, ${instructionSet}`,
    testWords(data, done),
    ...productWords(await trainer.network.describeRule()),
    "",
    `Run folder  ${folder}`,
    `Predict     deno task predict --checkpoint ${done.checkpoint} --input FILE`,
    `Repeat      deno task train --config ${folder}/config.json`,
  ];
  return `${lines.join("\n")}\n`;
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

/** Which outer products make the weight gradients of which layers, where a rule chooses among them. */
function productWords(layers: readonly SlotDescription[]): string[] {
  const words = layers.map(({ layer, slots: { products } }) => {
    const { kind, keeps, why, k, of, policy, memory } = products;
    if (kind !== "memAop") return undefined;
    if (why !== undefined) return `${layer}: all rows (${why})`;
    const rows = of === undefined ? `${k}` : `${k} of ${of}`;
    return `${layer}: ${rows} ${keeps} (${policy}${memory ? " with memory" : ""})`;
  }).filter((text) => text !== undefined);
  return words.length === 0 ? [] : [`Weight gradients of layers from ${words.join("; ")}`];
}
