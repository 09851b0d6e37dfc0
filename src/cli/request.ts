/**
 * What a run is asked to do: options from the command line, from a file, and from the record of a run that is resumed.
 *
 * @module
 */

import { DataError } from "../errors.ts";
import { rules } from "../rules/mod.ts";
import { UsageError } from "./errors.ts";
import { readJsonFile } from "./json_file.ts";
import { type CommandSpec, optionsFromJson, type OptionValue, type Parsed } from "./options.ts";
import { checkModel, type ModelChoice, namedModel, type Plan, type PlanSource, readModel } from "./plan.ts";
import type { RunRecord } from "./run_folder.ts";
import { trainCommand, trainOptions, type TrainValues } from "./train_options.ts";

/** Options and model of a run. */
export type Request = Required<Pick<PlanSource, "values" | "dotted">> & Pick<PlanSource, "model">;

/**
 * Joins the command line with the file that `--config` names; the command line wins.
 *
 * @param parsed the command line
 * @param command whose options the file may have
 * @returns options and model
 * @throws {UsageError} where the file has an unknown or wrong option
 */
export async function readRequest(
  parsed: Pick<Parsed<typeof trainOptions>, "values" | "dotted">,
  command: CommandSpec = trainCommand,
): Promise<Request> {
  const { config, model } = parsed.values;
  const file = config === undefined ? undefined : fromJson(await optionsIn(config), config, command);
  const asked = { ...file?.values, ...parsed.values };
  return {
    values: { ...defaultsOf(asked.rule), ...asked },
    dotted: { ...file?.dotted, ...parsed.dotted },
    model: model === undefined && file?.model ? file.model : await readModel(model ?? file?.values.model),
  };
}

/**
 * The request that a run was begun with, with places and display as they are asked for now.
 *
 * @param record the run
 * @param now what is asked for now
 * @param folder the run's folder, for messages
 * @returns options and model
 * @throws {UsageError} where an option that decides the result is another one now
 */
export function resumeRequest(record: RunRecord, now: Request, folder: string): Request {
  const before = fromJson(record.options, `${folder}/config.json`);
  const values: Record<string, OptionValue | undefined> = { ...before.values };
  for (const { name, effect } of trainOptions) {
    const value: OptionValue | undefined = now.values[name];
    if (value === undefined || name === "model") continue;
    if (effect === "result") refuseChange(`--${name}`, before.values[name], value);
    else values[name] = value;
  }
  for (const [name, value] of Object.entries(now.dotted)) refuseChange(`--${name}`, before.dotted[name], value);
  if (now.values.model !== undefined) refuseChange("--model", before.model ?? "mlp", now.model ?? "mlp");
  return { values: values as TrainValues, dotted: before.dotted, model: before.model };
}

/**
 * The options as a record keeps them: those that a run needs, with the defaults that were filled in.
 *
 * @param request options and model
 * @param plan what they became
 * @param validationSplit the share that was split off
 * @returns options by name
 */
export function recordedOptions(
  request: Request,
  { plan, validationSplit }: { readonly plan: Plan; readonly validationSplit: number },
): Record<string, unknown> {
  const { values, dotted, model } = request;
  const { optimizer, batchSize, epochs, seed, rule } = plan.training;
  const defaults: TrainValues = {
    data: "glyphs",
    rule: rule!.name,
    epochs: epochs!,
    "batch-size": batchSize!,
    optimizer: optimizer!.kind,
    "learning-rate": optimizer!.learningRate,
    "weight-decay": optimizer!.weightDecay,
    schedule: "cosine",
    seed: seed!,
    precision: "f32",
    "validation-split": validationSplit,
    ...(model === undefined && { hidden: [256, 128] }),
    ...(model === "resnet18" && { width: 1 }),
  };
  const kept = trainOptions.filter(({ effect }) => effect !== "display").flatMap(({ name }) => {
    const value = values[name] ?? defaults[name];
    return value === undefined || name === "model" ? [] : [[name, value] as const];
  });
  return { ...Object.fromEntries(kept), ...dotted, ...(model && { model }) };
}

/** What the rules of a run take where nothing is said. */
function defaultsOf(rule = ""): TrainValues {
  const names = rule.split("+");
  return Object.assign({}, ...rules.filter(({ name }) => names.includes(name)).map(({ defaults }) => defaults));
}

/** The options in a file: the whole object, or what a run's record holds under `options`. */
async function optionsIn(path: string): Promise<Record<string, unknown>> {
  const json = await readJsonFile(path);
  if (!("options" in json)) return json;
  if (typeof json.options === "object" && json.options !== null) return json.options as Record<string, unknown>;
  throw new DataError(path, "an object under options", json.options);
}

/** Options from JSON, in which a model may stand in full. */
function fromJson(
  json: Readonly<Record<string, unknown>>,
  where: string,
  command: CommandSpec = trainCommand,
): Request {
  const { model, ...options } = json;
  const inline = typeof model === "object" && model !== null;
  const read = optionsFromJson(command, inline || model === undefined ? options : json, where);
  return {
    ...read,
    model: inline
      ? checkModel(model as Record<string, unknown>, `model in ${where}`)
      : namedModel(read.values.model as string | undefined),
  };
}

function refuseChange(
  option: string,
  before: OptionValue | ModelChoice,
  now: OptionValue | ModelChoice,
): void {
  if (JSON.stringify(before) === JSON.stringify(now)) return;
  const show = (value: typeof before) => value === undefined ? "nothing" : shorten(JSON.stringify(value));
  throw new UsageError(option, `${show(before)} as when the run began`, show(now));
}

function shorten(text: string): string {
  return text.length > 80 ? `${text.slice(0, 77)}...` : text;
}
