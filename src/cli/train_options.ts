/**
 * The options of `train`: the one list from which parsing, help text, JSON files and run folders follow.
 *
 * @module
 */

import { rules } from "../rules/mod.ts";
import { kebab } from "./flags.ts";
import type { CommandSpec, OptionSpec, Values } from "./options.ts";
import { scheduleHelp } from "./schedule_text.ts";
import { sources } from "./sources.ts";

/** Options that a data set may know, by the name that `loadData` has for them. */
const dataOptions = [
  { name: "data-seed", type: "number", value: "N", help: "seed of a generated data set (1)", of: "seed" },
  { name: "rows", type: "number", value: "N", help: "training rows of a generated data set", of: "rows" },
  { name: "test-rows", type: "number", value: "N", help: "test rows of a generated data set", of: "testRows" },
  { name: "classes", type: "number", value: "N", help: "number of classes", of: "classes" },
  { name: "noise", type: "number", value: "X", help: "noise of spirals (0.02)", of: "noise" },
  { name: "target", type: "words", value: "NAMES", help: "CSV columns to predict (the last one)", of: "target" },
  { name: "task", type: "text", value: "TASK", help: "classification or regression", of: "task" },
  { name: "one-hot", type: "words", value: "NAMES", help: "CSV columns of categories", of: "oneHot" },
  { name: "ignore", type: "words", value: "NAMES", help: "CSV columns to leave out", of: "ignore" },
  {
    name: "standardize",
    type: "words",
    value: "NAMES",
    help: "CSV columns to bring to mean 0, deviation 1; true (all) or false",
    of: "standardize",
  },
  {
    name: "train-rows",
    type: "number",
    value: "N",
    help: "CSV: the first N rows train, the rest test",
    of: "trainRows",
  },
  { name: "test-fraction", type: "number", value: "X", help: "CSV: share of the rows for testing", of: "testFraction" },
  {
    name: "shuffle-seed",
    type: "number",
    value: "N",
    help: "CSV: random order before rows are split",
    of: "shuffleSeed",
  },
  { name: "header", type: "flag", help: "CSV: whether the first line names the columns (found out)", of: "header" },
  { name: "delimiter", type: "text", value: "C", help: "CSV: character between fields (,)", of: "delimiter" },
  {
    name: "image-size",
    type: "numbers",
    value: "H,W",
    help: "images: height and width that they are brought to (as they are)",
    of: "size",
  },
  { name: "grey", type: "flag", help: "images: one channel instead of three", of: "colour" },
  { name: "skip-broken", type: "flag", help: "images: leave out what cannot be read, and say so", of: "skipBroken" },
  {
    name: "normalize",
    type: "flag",
    help: "cifar10: each colour to mean 0 and deviation 1 (yes)",
    of: "normalize",
  },
] as const;

/** Command line name of each data option by the name that `loadData` has for it. */
export const dataOptionNames: Readonly<Record<string, (typeof dataOptions)[number]["name"]>> = Object.fromEntries(
  dataOptions.map(({ of, name }) => [of, name]),
);

const network = "Network";
const training = "Training";
const data = "Data";
const run = "Run";

/** Options of `train` for rows that come part by part. */
export const streamOptionNames: readonly string[] = [
  "stream",
  "shuffle-window",
  "validation-data",
  "test-data",
  "fit-rows",
];

/** All options of `train`. */
export const trainOptions = [
  {
    name: "data",
    type: "text",
    value: "NAME",
    help: "data set, see below (glyphs)",
    group: data,
    effect: "result",
  },
  {
    name: "data-dir",
    type: "text",
    value: "DIR",
    help: "where named data sets are looked for first, before LEANPROP_DATA",
    group: data,
    effect: "place",
  },
  {
    name: "download",
    type: "flag",
    help: "fetch a public data set that is missing",
    group: data,
    effect: "display",
  },
  {
    name: "validation-split",
    type: "number",
    value: "X",
    help: "share of the training rows to watch (0.1; 0 for none)",
    group: data,
    effect: "result",
  },
  {
    name: "validation-seed",
    type: "number",
    value: "N",
    help: "seed of that split (that of --seed; compare: 0)",
    group: data,
    effect: "result",
  },
  {
    name: "stream",
    type: "flag",
    help: "csv, parquet, images: read the rows part by part while training, for more of them than fit into memory",
    group: data,
    effect: "result",
  },
  {
    name: "shuffle-window",
    type: "number",
    value: "N",
    help: "with --stream: rows that are mixed in memory (what 256 MiB hold, 65536 at most; 0: the order of the file)",
    group: data,
    effect: "result",
  },
  {
    name: "validation-data",
    type: "text",
    value: "PATH",
    help: "with --stream: a file, or folder of images, of rows to watch; held in memory (none)",
    group: data,
    effect: "result",
  },
  {
    name: "test-data",
    type: "text",
    value: "PATH",
    help: "with --stream: such rows for the final figures (none; of images:FOLDER those in FOLDER/test)",
    group: data,
    effect: "result",
  },
  {
    name: "fit-rows",
    type: "number",
    value: "N",
    help: "with --stream: rows at the beginning that columns are fitted on (100000)",
    group: data,
    effect: "result",
  },
  ...dataOptions.map(({ of: _, ...option }) => ({ ...option, group: data, effect: "result" as const })),
  {
    name: "model",
    type: "text",
    value: "MODEL",
    help: "mlp, cnn, convnet, resnet18, or a JSON file { input?, layers, loss? } (mlp)",
    group: network,
    effect: "result",
  },
  {
    name: "hidden",
    type: "numbers",
    value: "256,128",
    help: "widths of the hidden layers of mlp, or none (256,128)",
    group: network,
    effect: "result",
  },
  {
    name: "width",
    type: "number",
    value: "X",
    help: "factor on the channels 64, 128, 256, 512 of resnet18 (1)",
    group: network,
    effect: "result",
  },
  {
    name: "loss",
    type: "text",
    value: "LOSS",
    help: "softmax-cross-entropy (labels), mean-squared-error (values), binary-cross-entropy",
    group: network,
    effect: "result",
  },
  {
    name: "label-smoothing",
    type: "number",
    value: "X",
    help: "share of the target spread over all classes (0)",
    group: network,
    effect: "result",
  },
  {
    name: "precision",
    type: "text",
    value: "TYPE",
    help: "f32 or f64 (f32)",
    group: network,
    effect: "result",
  },
  {
    name: "rule",
    type: "text",
    value: "RULE",
    help: "learning rule, see below; names joined with + are combined (backprop)",
    group: training,
    effect: "result",
  },
  { name: "epochs", type: "number", value: "N", help: "passes over the data (10)", group: training, effect: "result" },
  { name: "batch-size", type: "number", value: "N", help: "rows of a step (64)", group: training, effect: "result" },
  {
    name: "optimizer",
    type: "text",
    value: "NAME",
    help: "sgd, adam, adamw or rmsprop (adam)",
    group: training,
    effect: "result",
  },
  {
    name: "learning-rate",
    type: "number",
    value: "X",
    help: "step size (adam and adamw 0.002, rmsprop 0.001, sgd 0.1)",
    group: training,
    effect: "result",
  },
  { name: "momentum", type: "number", value: "X", help: "of sgd (0)", group: training, effect: "result" },
  { name: "nesterov", type: "flag", help: "sgd looks ahead", group: training, effect: "result" },
  {
    name: "weight-decay",
    type: "number",
    value: "X",
    help: "added to the gradient; adamw takes it off the weights (0, adamw 0.01)",
    group: training,
    effect: "result",
  },
  {
    name: "schedule",
    type: "text",
    value: "SCHEDULE",
    help: "of the learning rate, see below (cosine)",
    group: training,
    effect: "result",
  },
  {
    name: "clip-norm",
    type: "number",
    value: "X",
    help: "largest norm of the whole gradient (no limit)",
    group: training,
    effect: "result",
  },
  {
    name: "accumulate",
    type: "number",
    value: "N",
    help: "a batch's gradient in N parts added up, for the memory of one (1)",
    group: training,
    effect: "result",
  },
  {
    name: "class-weights",
    type: "text",
    value: "WEIGHTS",
    help: "balanced, or how much each class counts, such as 1,2,0.5 (all the same)",
    group: training,
    effect: "result",
  },
  {
    name: "average-decay",
    type: "number",
    value: "X",
    help: "keeps running averages of the parameters, for validation and in the end (none)",
    group: training,
    effect: "result",
  },
  {
    name: "early-stopping",
    type: "number",
    value: "N",
    help: "stops after N epochs without a better validation figure, and keeps the best (never)",
    group: training,
    effect: "result",
  },
  {
    name: "monitor",
    type: "text",
    value: "FIGURE",
    help: "what early stopping watches: loss or accuracy (loss)",
    group: training,
    effect: "result",
  },
  {
    name: "crop",
    type: "number",
    value: "N",
    help: "images move by up to N pixels, at random in each epoch (0)",
    group: training,
    effect: "result",
  },
  {
    name: "flip",
    type: "flag",
    help: "half of the images are mirrored, at random in each epoch",
    group: training,
    effect: "result",
  },
  {
    name: "seed",
    type: "number",
    value: "N",
    help: "of weights, order, dropout, augmentation and the validation split (0)",
    group: training,
    effect: "result",
  },
  {
    name: "threads",
    type: "number",
    value: "N",
    help: "results do not depend on it (one a core)",
    group: training,
    effect: "place",
  },
  {
    name: "out",
    type: "text",
    value: "DIR",
    help: "run folder (runs/TIME-DATA-RULE)",
    group: run,
    effect: "display",
  },
  {
    name: "checkpoint-every",
    type: "number",
    value: "N",
    help:
      "epochs between two checkpoints (each that ends a second after the last); the last epoch and Ctrl-C always write one",
    group: run,
    effect: "place",
  },
  {
    name: "resume",
    type: "text",
    value: "DIR",
    help: "go on with the run in this folder",
    group: run,
    effect: "display",
  },
  {
    name: "config",
    type: "text",
    value: "FILE",
    help: "options from a JSON file or a run's config.json; the command line wins",
    group: run,
    effect: "display",
  },
  {
    name: "probe",
    type: "flag",
    help: "after each epoch: how near the gradient is to back-propagation's, and figures of the rule",
    group: run,
    effect: "place",
  },
  {
    name: "report",
    type: "flag",
    help: "write report.html into the run folder at the end (yes; --no-report for none)",
    group: run,
    effect: "display",
  },
  { name: "svg", type: "flag", help: "write the charts of the report as SVG files too", group: run, effect: "display" },
  {
    name: "runs",
    type: "text",
    value: "FILE",
    help: "table of runs that this one is entered in (LEANPROP_RUNS, or runs/runs.db); none for no entry",
    group: run,
    effect: "display",
  },
  {
    name: "mlflow",
    type: "text",
    value: "URL",
    help: "MLflow server that is told too (LEANPROP_MLFLOW)",
    group: run,
    effect: "display",
  },
  {
    name: "explain",
    type: "flag",
    help: "what front-contribution would do and cost, without training",
    group: run,
    effect: "display",
  },
  { name: "json", type: "flag", help: "one JSON object per epoch on standard output", group: run, effect: "display" },
  { name: "quiet", type: "flag", help: "no progress, only the closing summary", group: run, effect: "display" },
  { name: "help", type: "flag", help: "this text", group: run, effect: "display" },
] as const satisfies readonly OptionSpec[];

/** Values of the options of `train`. */
export type TrainValues = Values<typeof trainOptions>;

/** The command. */
export const trainCommand: CommandSpec<typeof trainOptions> = {
  name: "train",
  description: "Trains a network and keeps the run in a folder. Defaults in brackets.",
  options: trainOptions,
  dotted: rules.map((rule) => rule.name),
  sections: [
    { title: "Data sets", lines: sources.map(({ name, description }) => [shownName(name), description] as const) },
    {
      title: "Learning rules",
      lines: rules.flatMap(({ name, description, paper, options }) => [
        [name, `${description} (${paper})`] as const,
        ...(options.length === 0
          ? []
          : [["", options.map((option) => `--${name}.${kebab(option)}`).join(" ")] as const]),
      ]),
    },
    { title: "Schedules", lines: scheduleHelp },
  ],
};

function shownName(name: string): string {
  return name.endsWith(":") ? `${name}PATH` : name;
}
