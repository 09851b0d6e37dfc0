/**
 * The command `predict`: a checkpoint and rows in; classes with probabilities, or values, out.
 *
 * @module
 */

import { dirname } from "node:path";
import { elementCount } from "../data/array.ts";
import { writeWhole } from "../run/files.ts";
import { UsageError } from "./errors.ts";
import { type CommandSpec, helpText, type OptionSpec, parseOptions } from "./options.ts";
import { readInput } from "./predict_input.ts";
import { csv, jsonLines, npy, type Predictions, table } from "./predict_output.ts";
import { placeInWords } from "./replaced.ts";
import { readRecord, type RunRecord } from "./run_folder.ts";
import { note, print } from "./terminal.ts";
import { loadTrained, networkFile } from "./trained_network.ts";

const options = [
  {
    name: "checkpoint",
    type: "text",
    value: "FILE",
    help: "a safetensors file that train or Network.save wrote, or the folder of a run",
    group: "Options",
    effect: "display",
  },
  {
    name: "input",
    type: "text",
    value: "FILE",
    help: "rows: NPY, IDX, or CSV where the run was trained on CSV; plain or gzip",
    group: "Options",
    effect: "display",
  },
  {
    name: "out",
    type: "text",
    value: "FILE",
    help: ".npy (all numbers), .csv or .jsonl; default lines on standard output",
    group: "Options",
    effect: "display",
  },
  { name: "json", type: "flag", help: "JSON lines on standard output", group: "Options", effect: "display" },
  {
    name: "threads",
    type: "number",
    value: "N",
    help: "results do not depend on it (one a core)",
    group: "Options",
    effect: "display",
  },
  { name: "help", type: "flag", help: "this text", group: "Options", effect: "display" },
] as const satisfies readonly OptionSpec[];

/** The command. */
export const predictCommand: CommandSpec<typeof options> = {
  name: "predict",
  description: "Predicts with a trained network.",
  options,
  sections: [{
    title: "What numbers mean",
    lines: [
      ["bytes", "are scaled as in training where the file lies in the folder of its run, else as byte / 255"],
      ["floating point", "is taken as it is: bring it to the scale that the network was trained on"],
      ["images", "are rows × height × width × channels, or flat in that order"],
    ],
  }],
};

/** How predictions are written, by the end of the file's name. */
const writers: Readonly<Record<string, (predictions: Predictions) => Uint8Array<ArrayBuffer> | string>> = {
  npy,
  csv,
  jsonl: jsonLines,
};

/**
 * Runs the command.
 *
 * @param args its arguments
 */
export async function predict(args: readonly string[]): Promise<void> {
  const { values, help } = parseOptions(predictCommand, args);
  if (help) return print(helpText(predictCommand));
  const { checkpoint, input, out, json, threads } = values;
  if (checkpoint === undefined) throw new UsageError("predict", "--checkpoint FILE after it", "none");
  if (input === undefined) throw new UsageError("predict", "--input FILE after it", "none");
  const write = out === undefined ? undefined : writers[out.slice(out.lastIndexOf(".") + 1).toLowerCase()];
  if (out !== undefined && write === undefined) {
    throw new UsageError(
      "--out",
      `a name that ends in ${Object.keys(writers).map((end) => `.${end}`).join(", ")}`,
      out,
    );
  }
  if (out !== undefined && json) throw new UsageError("--json", "either --json or --out", "both");

  const file = await networkFile(checkpoint);
  const data = await dataOf(file);
  using network = await loadTrained(file, threads === undefined ? {} : { threads });
  const features = await readInput(input, { network, data });
  const predictions: Predictions = {
    rows: features.rows,
    outputs: elementCount(network.describe().layers.at(-1)?.shape ?? network.config.input),
    values: await network.predict(features),
    loss: network.config.loss.kind,
    names: data?.targets.kind === "none" ? undefined : data?.targets.names,
  };
  if (out === undefined || write === undefined) return print(json ? jsonLines(predictions) : table(predictions));
  const contents = write(predictions);
  const where = await placeInWords(out);
  await writeWhole(out, [typeof contents === "string" ? new TextEncoder().encode(contents) : contents]);
  note(`Wrote predictions of ${predictions.rows.toLocaleString("en")} rows to ${where}\n`);
}

/** What the training data was, where the checkpoint lies in the folder of a run. */
async function dataOf(checkpoint: string): Promise<RunRecord["data"] | undefined> {
  const folder = dirname(checkpoint);
  if (!await exists(`${folder}/config.json`)) return undefined;
  return (await readRecord(folder)).data;
}

async function exists(path: string): Promise<boolean> {
  return await Deno.stat(path).then(() => true, () => false);
}
