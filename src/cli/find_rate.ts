/**
 * The command `find-rate`: short runs that look for a learning rate, their losses as a picture, and the rate that they suggest.
 *
 * @module
 */

import { digits } from "../digits.ts";
import type { Table } from "../data/table.ts";
import { native } from "../ffi/native.ts";
import { Network } from "../network/network.ts";
import { writeWhole } from "../run/files.ts";
import { findLearningRate, type RateSearch, SEARCH } from "../train/find_rate.ts";
import { loadFrom, splitValidation } from "./data.ts";
import { UsageError } from "./errors.ts";
import { type CommandSpec, helpText, type OptionSpec, parseOptions } from "./options.ts";
import { makePlan } from "./plan.ts";
import { figure, ProgressView } from "./progress.ts";
import { readRequest, type Request } from "./request.ts";
import { checkStreamOptions, someRows } from "./stream.ts";
import { note, print } from "./terminal.ts";
import { trainCommand, trainOptions } from "./train_options.ts";

const group = "Search";

const own = [
  {
    name: "lowest",
    type: "number",
    value: "X",
    help: `first learning rate (${SEARCH.lowest})`,
    group,
    effect: "display",
  },
  {
    name: "highest",
    type: "number",
    value: "X",
    help: `last learning rate (${SEARCH.highest})`,
    group,
    effect: "display",
  },
  {
    name: "steps",
    type: "number",
    value: "N",
    help: `steps of each short run (${SEARCH.steps})`,
    group,
    effect: "display",
  },
  { name: "picture", type: "text", value: "FILE", help: "an SVG of the losses", group, effect: "display" },
  { name: "json", type: "flag", help: "the whole search as JSON on standard output", group, effect: "display" },
] as const satisfies readonly OptionSpec[];

/** Options of `train` that mean nothing in a search, or something else. */
const WITHOUT: readonly string[] = [
  "epochs",
  "schedule",
  "learning-rate",
  "average-decay",
  "early-stopping",
  "monitor",
  "checkpoint-every",
  "out",
  "resume",
  "explain",
  "probe",
  "report",
  "svg",
  "json",
  "runs",
  "mlflow",
  "quiet",
  "validation-data",
  "test-data",
];

/** The command: options of `train` for data, network and run, and those of the search. */
export const findRateCommand: CommandSpec = {
  ...trainCommand,
  name: "find-rate",
  description: "Looks for a learning rate. Defaults in brackets.",
  // A search has a schedule of its own.
  sections: trainCommand.sections!.filter(({ title }) => title !== "Schedules"),
  options: [...own, ...trainOptions.filter(({ name }) => !WITHOUT.includes(name))],
};

/**
 * Runs the command.
 *
 * @param args its arguments
 */
export async function findRate(args: readonly string[]): Promise<void> {
  const parsed = parseOptions(findRateCommand, args);
  if (parsed.help) return print(helpText(findRateCommand));
  const { picture, lowest = SEARCH.lowest, highest = SEARCH.highest, steps = SEARCH.steps, ...values } = parsed
    .values as Record<string, number & string>;
  if (picture !== undefined && !/\.svg$/i.test(picture)) {
    throw new UsageError("--picture", "a name that ends in .svg", picture);
  }
  const request = await readRequest({ ...parsed, values });
  native();
  const view = new ProgressView(request.values.json ?? false);
  const { train, rows } = await loadRows(request, { steps, view });
  view.clear();
  const { network: wanted, training } = makePlan({ ...request, rows }, train);
  const { epochs: _, schedule: __, ...rest } = training;
  using network = Network.create(wanted);
  const search = await findLearningRate(network, train, {
    ...rest,
    lowest,
    highest,
    steps,
  });
  print(
    request.values.json
      ? `${JSON.stringify(search)}\n`
      : `${told(search, { lowest, highest, steps })}\nTry      deno task train ${
        [...trainingArguments(args), "--learning-rate", short(search.suggested)].join(" ")
      }\n`,
  );
  // What was found is not lost with a picture that cannot be written.
  if (picture !== undefined) {
    await writeWhole(picture, [new TextEncoder().encode(await draw(search))]);
    note(`Drew the losses of ${search.points.length} steps to ${picture}\n`);
  }
}

/** A search in words. */
function told(
  { points, smallest, trials, suggested }: RateSearch,
  { lowest, highest, steps }: { readonly lowest: number; readonly highest: number; readonly steps: number },
): string {
  const last = trials.at(-1)!.rate;
  return [
    `Sweep    ${points.length} steps from ${short(lowest)} to ${short(points.at(-1)!.rate)}, smallest loss at ${
      short(smallest)
    }`,
    `Trials   ${steps} steps each, mean loss of the last quarter`,
    ...trials.map(({ rate, loss }) =>
      `         ${short(rate).padEnd(9)} ${Number.isFinite(loss) ? `loss ${figure(loss)}` : "diverged"}`
    ),
    `Best     ${short(suggested)}`,
    // A best rate at the end of the range may say no more than where the range ends.
    ...(suggested * Math.sqrt(10) > highest && suggested === trials[0]!.rate
      ? ["The best is the highest rate tried: look further with --highest."]
      : []),
    ...(trials.length > 1 && suggested === last && last / Math.sqrt(10) < lowest
      ? ["The best is the lowest rate tried: look further with --lowest."]
      : []),
  ].join("\n");
}

/** A rate in two digits: more would promise what a short search cannot know. */
function short(rate: number): string {
  return digits(rate, 2);
}

/** Rows to train on, and how many there are in all: of a stream as many as the search has steps for. */
async function loadRows(
  request: Request,
  { steps, view }: { readonly steps: number; readonly view: ProgressView },
): Promise<{ train: Table; rows: number }> {
  const { values } = request;
  checkStreamOptions(values);
  if (values.stream) {
    const wanted = (first: Table, rows: number) => steps * makePlan({ ...request, rows }, first).training.batchSize!;
    const { table, rows } = await someRows(values, wanted, view.loading);
    return { train: table, rows };
  }
  const { data: { train } } = splitValidation(await loadFrom(values, view.loading), values);
  return { train, rows: train.rows };
}

/** What `train` has to be given for the run that was searched for: the arguments without those of the search itself. */
function trainingArguments(args: readonly string[]): string[] {
  const flags: readonly string[] = own.map(({ name }) => `--${name}`);
  return args.filter((argument, index) => !flags.includes(argument.split("=")[0]!) && !flags.includes(args[index - 1]!))
    .map((argument) => /^[\w@%+=:,.\/-]+$/.test(argument) ? argument : `'${argument.replaceAll("'", `'\\''`)}'`);
}

/** The losses over the rates, the ends of the trials, and the suggested rate. The plotting library is loaded here. */
async function draw({ points, smallest, trials, suggested }: RateSearch): Promise<string> {
  const [vega, lite] = await Promise.all([import("vega"), import("vega-lite")]);
  const x = { field: "rate", type: "quantitative", scale: { type: "log" }, title: "learning rate" };
  // Losses that run away would press all others into a line.
  const top = 1.25 * Math.max(...points.filter(({ rate }) => rate <= smallest).map(({ loss }) => loss));
  const bottom = Math.min(...points.map(({ loss }) => loss), ...trials.map(({ loss }) => loss));
  const y = { type: "quantitative", title: "loss", scale: { domain: [bottom - 0.03 * (top - bottom), top] } };
  const spec = {
    background: "white",
    width: 480,
    height: 300,
    layer: [
      {
        data: { values: points },
        mark: { type: "point", size: 12, opacity: 0.4, clip: true },
        encoding: { x, y: { ...y, field: "loss" } },
      },
      {
        data: { values: points },
        mark: { type: "line", clip: true },
        encoding: { x, y: { ...y, field: "smoothed" } },
      },
      {
        data: { values: trials.filter(({ loss }) => Number.isFinite(loss)) },
        mark: { type: "point", shape: "diamond", size: 60, filled: true, color: "firebrick", clip: true },
        encoding: { x, y: { ...y, field: "loss" } },
      },
      {
        data: { values: [{ rate: suggested }] },
        mark: { type: "rule", strokeDash: [4, 4], color: "firebrick" },
        encoding: { x },
      },
    ],
  };
  const view = new vega.View(vega.parse(lite.compile(spec as Parameters<typeof lite.compile>[0]).spec), {
    renderer: "none",
  });
  try {
    return await view.toSVG();
  } finally {
    view.finalize();
  }
}
