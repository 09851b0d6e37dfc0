/**
 * From options and data to a network and a training run.
 *
 * @module
 */

import { knownOptions } from "../config.ts";
import type { Data, Table } from "../data/table.ts";
import { ConfigError } from "../errors.ts";
import { didYouMean, nearest } from "../nearest.ts";
import { checkLayer } from "../network/layers.ts";
import { binaryCrossEntropy, checkLoss, type Loss, meanSquaredError, softmaxCrossEntropy } from "../network/losses.ts";
import { cnn, convnet, mlp, type Model, resnet18 } from "../network/models.ts";
import type { NetworkOptions } from "../network/network.ts";
import { ruleByName, rules } from "../rules/mod.ts";
import { balancedClassWeights } from "../train/class_weights.ts";
import { EarlyStopping } from "../train/early_stopping.ts";
import { checkOptimizer, type Optimizer, optimizerKinds } from "../train/optimizers.ts";
import type { TrainOptions } from "../train/trainer.ts";
import { UsageError } from "./errors.ts";
import { kebab } from "./flags.ts";
import { readJsonFile } from "./json_file.ts";
import type { OptionValue } from "./options.ts";
import { parseSchedule } from "./schedule_text.ts";
import type { TrainValues } from "./train_options.ts";

/** Rows of a step where nothing is said, and where there are as many. */
const BATCH_SIZE = 64;

/** Adam's step size where nothing is said: the cosine that follows by default stands twice the usual rate. */
const ADAM_RATE = 2e-3;

/** A network that came from a JSON file. */
export interface ModelFile {
  /** Shape of one sample; default that of the data. */
  readonly input?: readonly number[];
  /** The layers. */
  readonly layers: NetworkOptions["layers"];
  /** What training makes small; default after the targets. */
  readonly loss?: Partial<Loss>;
}

/** Models of images that have a name on the command line, beside `mlp`. */
const imageModels = ["cnn", "convnet", "resnet18"] as const;

/** A network from a file, or a named one; nothing for `mlp`. */
export type ModelChoice = ModelFile | typeof imageModels[number] | undefined;

/** What a run needs besides its data. */
export interface Plan {
  /** For `Network.create`. */
  readonly network: NetworkOptions;
  /** For `Trainer.create`. */
  readonly training: TrainOptions;
}

/** Where a plan comes from. */
export interface PlanSource {
  /** Options of `train`. */
  readonly values: TrainValues;
  /** Options of learning rules by full name, such as `mem-aop.k`. */
  readonly dotted: Readonly<Record<string, OptionValue>>;
  /** The network, where it is not `mlp`. */
  readonly model?: ModelChoice;
  /** Training rows of an epoch, where they are more than those that are there. */
  readonly rows?: number;
}

/**
 * Makes the plan of a run.
 *
 * @param source options and model
 * @param train the training rows; of a stream its first part
 * @returns options for network and trainer
 * @throws {ConfigError} where an option cannot be used
 */
export function makePlan({ values, dotted, model, rows }: PlanSource, train: Table): Plan {
  const { seed = 0, precision, threads, rule = "backprop", epochs = 10, schedule = "cosine" } = values;
  const clipNorm = values["clip-norm"];
  const { crop, flip, accumulate } = values;
  const averageDecay = values["average-decay"];
  const classWeights = weightsOf(values, train);
  return {
    network: {
      ...buildModel(values, { model, train }),
      loss: chooseLoss(values, { model, train }),
      seed,
      ...(precision !== undefined && { precision: precision as "f32" | "f64" }),
      ...(threads !== undefined && { threads }),
    },
    training: {
      rule: ruleByName(rule, ruleOptions(dotted, [rule])),
      optimizer: chooseOptimizer(values),
      schedule: parseSchedule(schedule),
      epochs,
      batchSize: values["batch-size"] ?? Math.min(BATCH_SIZE, rows ?? train.rows),
      seed,
      ...(clipNorm !== undefined && { clipNorm }),
      ...(accumulate !== undefined && { accumulate }),
      ...(classWeights && { classWeights }),
      ...(averageDecay !== undefined && { averageDecay }),
      ...((crop !== undefined || flip !== undefined) && {
        augment: { ...(crop !== undefined && { crop }), ...(flip !== undefined && { flip }) },
      }),
    },
  };
}

/** How much each class counts. */
function weightsOf({ "class-weights": text }: TrainValues, train: Table): number[] | undefined {
  if (text === undefined) return undefined;
  if (text === "balanced") return balancedClassWeights(train);
  const weights = text.split(",").map((word) => word.trim() === "" ? NaN : Number(word));
  if (weights.every(Number.isFinite)) return weights;
  throw new UsageError("--class-weights", "balanced, or numbers with commas between, such as 1,2,0.5", text);
}

/**
 * When a run stops early.
 *
 * @param values options of `train`
 * @param data the data, with validation rows
 * @returns what watches the run; nothing where it never stops early
 * @throws {UsageError} where there is nothing to watch
 */
export function chooseStopping(values: TrainValues, data: Data): EarlyStopping | undefined {
  const { "early-stopping": patience, monitor } = values;
  if (patience === undefined) {
    if (monitor !== undefined) throw new UsageError("--monitor", "--early-stopping beside it", "none");
    return undefined;
  }
  const stopping = new EarlyStopping({ patience, ...(monitor !== undefined && { monitor: monitor as "loss" }) });
  if (!data.validation) throw new UsageError("--early-stopping", "validation rows to watch", "none");
  if (stopping.options.monitor === "accuracy" && data.validation.targets.kind !== "labels") {
    throw new UsageError("--monitor", "loss, since there are no classes", "accuracy");
  }
  return stopping;
}

/**
 * Reads the network that `--model` names.
 *
 * @param model `mlp`, a model of images, or a path
 * @returns the contents of the file, or the name; nothing for `mlp`
 * @throws {DataError} where the file cannot be read or is no network
 */
export async function readModel(model: string | undefined): Promise<ModelChoice> {
  if (model === undefined || model === "mlp") return undefined;
  const named = namedModel(model);
  if (named !== undefined) return named;
  if (/\.json$/i.test(model)) return checkModel(await readJsonFile(model), model);
  const names = ["mlp", ...imageModels];
  const expected = `${names.join(", ")}, or a file whose name ends in .json${didYouMean(model, names)}`;
  throw new UsageError("--model", expected, model);
}

/** The model of images that has this name. */
export function namedModel(name: string | undefined): Exclude<ModelChoice, ModelFile> {
  return imageModels.find((known) => known === name);
}

/** Input and layers of the network. */
function buildModel(
  values: TrainValues,
  { model, train }: { readonly model: ModelChoice; readonly train: Table },
): Model {
  const { hidden, width } = values;
  const name = model === undefined ? "mlp" : typeof model === "string" ? model : "a model from a file";
  if (hidden && name !== "mlp") throw new UsageError("--hidden", "--model mlp beside it", name);
  if (width !== undefined && name !== "resnet18") throw new UsageError("--width", "--model resnet18 beside it", name);
  const { shape: input, targets } = train;
  const sizes = { input, outputs: targets.kind === "labels" ? targets.classes : targets.size };
  switch (model) {
    case undefined:
      return mlp({ ...sizes, ...(hidden && { hidden }) });
    case "cnn":
      return cnn(sizes);
    case "convnet":
      return convnet(sizes);
    case "resnet18":
      return resnet18({ ...sizes, ...(width !== undefined && { width }) });
    default:
      return { input: model.input ?? input, layers: [...model.layers] };
  }
}

/** Checks what a JSON file says about a network, as far as that goes without data. */
export function checkModel(json: Record<string, unknown>, where: string): ModelFile {
  knownOptions(where, json, ["input", "layers", "loss"]);
  if (!Array.isArray(json.layers)) throw new ConfigError(`${where}, layers`, "a list of layers", json.layers);
  json.layers.forEach((layer, index) => inFile(`${where}, layers[${index}]`, (path) => checkLayer(layer, path)));
  if (json.loss !== undefined) inFile(where, () => checkLoss(json.loss as Partial<Loss>));
  return json as unknown as ModelFile;
}

/** Checks a part of a file, whose name then stands in what is refused. */
function inFile(part: string, check: (path: string) => unknown): void {
  try {
    check(part);
  } catch (fault) {
    if (!(fault instanceof ConfigError)) throw fault;
    const named = fault.path.startsWith(part);
    if (!named) fault.message = fault.message.replace("Cannot use ", `Cannot use ${part}, `);
    throw fault;
  }
}

/** Options of rules as `ruleByName` takes them: by rule, in camel case; `named` are the rules that take part, with + or without. */
export function ruleOptions(
  dotted: PlanSource["dotted"],
  named: readonly string[],
): Record<string, Record<string, unknown>> {
  const options: Record<string, Record<string, unknown>> = {};
  const parts = named.flatMap((name) => name.split("+"));
  // A misspelt rule is refused as such, not for its options.
  const allKnown = parts.every((part) => rules.some(({ name }) => name === part));
  for (const [name, value] of Object.entries(dotted)) {
    const dot = name.indexOf(".");
    const rule = name.slice(0, dot);
    const option = name.slice(dot + 1).replace(/-([a-z])/g, (_, letter: string) => letter.toUpperCase());
    const known = rules.find((entry) => entry.name === rule)?.options ?? [];
    if (!known.includes(option)) {
      const names = known.map((own) => `--${rule}.${kebab(own)}`);
      const expected = names.length === 0
        ? `no option, since ${rule} has none`
        : `one of ${names.join(", ")}${didYouMean(`--${name}`, names)}`;
      throw new UsageError(`--${name}`, expected, "an unknown option");
    }
    if (allKnown && !parts.includes(rule)) {
      throw new UsageError(`--${name}`, `${rule} among the rules`, named.join(", "));
    }
    (options[rule] ??= {})[option] = value;
  }
  return options;
}

/** The optimizer that the options describe. */
export function chooseOptimizer(values: TrainValues): Optimizer {
  const { momentum, nesterov, "weight-decay": weightDecay } = values;
  const kind = exactWord(values.optimizer ?? "adam", optimizerKinds);
  const learningRate = values["learning-rate"] ?? (/^adam/.test(kind) ? ADAM_RATE : undefined);
  for (const name of ["momentum", "nesterov"] as const) {
    if (values[name] !== undefined && kind !== "sgd") {
      throw new UsageError(`--${name}`, "--optimizer sgd beside it", kind);
    }
  }
  const given = Object.entries({ learningRate, momentum, nesterov, weightDecay });
  return checkOptimizer({ kind, ...Object.fromEntries(given.filter(([, value]) => value !== undefined)) });
}

/** Losses by what the targets are, unless the options or the model's file name one. */
function chooseLoss(
  values: TrainValues,
  { model, train }: { readonly model: ModelChoice; readonly train: Table },
): Loss {
  const labelSmoothing = values["label-smoothing"];
  const smoothing = labelSmoothing === undefined ? {} : { labelSmoothing };
  const losses = { softmaxCrossEntropy, meanSquaredError, binaryCrossEntropy };
  const byTargets = train.targets.kind === "labels" ? "softmaxCrossEntropy" : "meanSquaredError";
  const ownLoss = typeof model === "object" ? model.loss : undefined;
  if (values.loss === undefined && ownLoss) return checkLoss({ ...ownLoss, ...smoothing } as Partial<Loss>);
  const kind = exactWord(values.loss ?? byTargets, Object.keys(losses));
  return checkLoss({ kind, ...smoothing } as Partial<Loss>);
}

/** A name as the API writes it, for one in another case: `adamw` for `adamW`, `mean-squared-error` for `meanSquaredError`. */
function exactWord(word: string, words: readonly string[]): string {
  const found = nearest(word, words);
  const plain = (text: string) => text.toLowerCase().replaceAll("-", "");
  return found !== undefined && plain(found) === plain(word) ? found : word;
}
