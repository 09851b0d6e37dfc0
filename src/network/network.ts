/**
 * A network: layers with parameters in the engine.
 *
 * @module
 */

import { boolean, knownOptions, number, objectGiven, oneOf, seedNumber, textGiven, typeName } from "../config.ts";
import { Dataset, type Features } from "../data/dataset.ts";
import type { Table } from "../data/table.ts";
import { ConfigError, EngineError } from "../errors.ts";
import { Handle } from "../ffi/handle.ts";
import { native } from "../ffi/native.ts";
import { check, encode, newStatus, readJson } from "../ffi/status.ts";
import { fillSlots, type Rule } from "../rules/mod.ts";
import { ownPaths, type SparsifyOptions, sparsifyRequest } from "../rules/sparse.ts";
import { loadAlone, saveCheckpoint } from "../run/checkpoint.ts";
import { planRequest, type RunPlan } from "../train/forecast.ts";
import { evaluate, type EvaluateOptions, type Metrics } from "../train/metrics.ts";
import type { TrainOptions } from "../train/trainer.ts";
import { initialArrays, withoutArrays } from "./initial.ts";
import { checkLayer, type Layer, type ParameterArray } from "./layers.ts";
import { checkLoss, type Loss, softmaxCrossEntropy } from "./losses.ts";
import { summarize } from "./summary.ts";

/** What {@linkcode Network.create} takes. */
export interface NetworkOptions {
  /** Shape of one sample: `[784]`, or `[28, 28, 1]` (height, width, channels). */
  readonly input: readonly number[];
  /** The layers, in order. */
  readonly layers: readonly Layer[];
  /** What training makes small. Default {@linkcode softmaxCrossEntropy}. */
  readonly loss?: Loss;
  /** Seed of the initial parameters; whole number from 0. Default 0. */
  readonly seed?: number;
  /**
   * Element type of parameters and arithmetic. Default `"f32"`. Results below its normal range (1.2e-38, for `"f64"` 2.2e-308) are 0.
   */
  readonly precision?: "f32" | "f64";
  /**
   * Threads to use, from 1; results do not depend on it. Default: one a core. Of networks with as many that compute at the same time,
   * one has them all, and the others go on with one each.
   */
  readonly threads?: number;
}

/** One layer as the engine built it. */
export interface LayerDescription {
  /** Its number, as in the names of its parameters. */
  readonly name: string;
  /** Its kind. */
  readonly kind: string;
  /** Shape of one sample of its output. */
  readonly shape: readonly number[];
  /** Number of parameters. */
  readonly parameters: number;
  /** Multiply-adds of the forward pass of one sample. */
  readonly multiplyAdds: number;
}

/** A network as the engine built it. */
export interface NetworkDescription {
  /** Shape of one sample. */
  readonly input: readonly number[];
  /** Element type. */
  readonly precision: "f32" | "f64";
  /** Threads in use. */
  readonly threads: number;
  /** Vector instructions in use. */
  readonly instructionSet: string;
  /** Number of parameters. */
  readonly parameters: number;
  /** The layers. */
  readonly layers: readonly LayerDescription[];
}

/** A named tensor of a network or of the training run that is attached to it. */
export interface TensorDescription {
  /** Its name, such as `0.weight` (layer 0, as in a PyTorch `Sequential`) or `optimizer.first.0.weight`. */
  readonly name: string;
  /** What it belongs to. */
  readonly group: "parameter" | "buffer" | "gradient" | "optimizer" | "average" | "mask" | "rule" | "training";
  /** Element type; masks, which {@linkcode Network.mask} reads, are `"u8"`. */
  readonly dtype: "f32" | "f64" | "u8";
  /** Shape; weights are outputs × inputs. */
  readonly shape: readonly number[];
}

/** What fills the slots of one linear map. */
export interface SlotDescription {
  /** Name of the layer. */
  readonly layer: string;
  /** Kind of the layer. */
  readonly kind: string;
  /** The choice in each slot: its kind and its figures. */
  readonly slots: Readonly<
    Record<"inputs" | "weights" | "products", { readonly kind: string } & Record<string, unknown>>
  >;
}

/** How correlated the inputs of one linear map are, as its weights see them. */
export interface InputStatistics {
  /** Name of the layer. */
  readonly layer: string;
  /** Kind of the layer. */
  readonly kind: string;
  /** Inputs of a row: features, or elements of a patch. */
  readonly inputs: number;
  /** Rows that were counted. */
  readonly rows: number;
  /** Mean absolute correlation of two different inputs, inputs that never change left out. */
  readonly correlation: number;
  /** (1 − κ) · the sum of squares of the second moments of two different inputs + κ · that of (second moment − 1), over inputs². */
  readonly loss: number;
  /** Mean variance of the inputs. */
  readonly variance: number;
}

/** The weights that one dense or convolutional layer has. */
export interface MaskDescription {
  /** Name of the layer. */
  readonly layer: string;
  /** Kind of the layer. */
  readonly kind: string;
  /** Number of its weights without a mask. */
  readonly weights: number;
  /** Number of those that it has. */
  readonly nonZeros: number;
  /** Share of those that it does not have. */
  readonly sparsity: number;
  /** Whether it has a mask. */
  readonly sparse: boolean;
  /** Bytes of the weights and, under a mask, of what says where they are. */
  readonly bytes: number;
}

/** Options of {@linkcode Network.save}. */
export interface SaveOptions {
  /**
   * Whether weights under masks are stored as the mask's bits and the weights that there are. Only leanprop reads that; otherwise they
   * are stored dense, with zeros, beside their masks. Default `false`.
   */
  readonly compact?: boolean;
}

/** How near one gradient is to another. */
export interface GradientLikeness {
  /** Name of the parameter, or `all`. */
  readonly name: string;
  /** Cosine of the angle between the rule's gradient and back-propagation's; 0 where one of them is 0. */
  readonly cosine: number;
  /** Norm of the rule's gradient over that of back-propagation's. */
  readonly ratio: number;
}

/** What {@linkcode Network.gradientCosines} gives. */
export interface GradientComparison {
  /** All parameters together. */
  readonly all: GradientLikeness;
  /** Each parameter. */
  readonly parameters: readonly GradientLikeness[];
}

/** Memory of a training run in bytes, beside parameters and optimizer. */
export interface TrainingMemory {
  /** Values of the forward pass that are kept. */
  readonly values: number;
  /** Gradients on their way through the network. */
  readonly gradients: number;
  /** Tangents of dual numbers, and what is worked out from them. */
  readonly tangents: number;
  /** What the rule keeps from step to step: feedback matrices, directions. */
  readonly kept: number;
}

/** How long one layer took in training. */
export interface LayerTime {
  /** Its name; a residual layer stands for its sum. */
  readonly name: string;
  /** Its kind. An activation that the layer in front of it applies is counted there. */
  readonly kind: string;
  /** Seconds of all forward passes. */
  readonly forward: number;
  /** Seconds of all backward passes, with the update where a step applies it layer by layer. */
  readonly backward: number;
}

/** What {@linkcode Network.gradients} gives. */
export interface Gradients {
  /** Mean loss of the rows. */
  readonly loss: number;
  /** Gradient of each parameter by its name, shaped like the parameter. */
  readonly gradients: ReadonlyMap<string, ParameterArray>;
}

/** Options of {@linkcode Network.gradients}. */
export interface GradientOptions {
  /** The learning rule whose gradient is wanted. Default: back-propagation. */
  readonly rule?: Rule;
  /** Whether dropout is on. Default `false`. */
  readonly training?: boolean;
  /** Seed of dropout. Default 0. */
  readonly seed?: number;
}

/** Refuses what is no network; for arguments. */
export function networkGiven(given: unknown): void {
  if (!(given instanceof Network)) throw new ConfigError("network", "a Network", typeName(given));
}

/**
 * Layers with parameters. Free it with `using`; a call under way finishes first.
 *
 * @example
 * ```ts
 * import { dense, Network, relu } from "@leanprop/leanprop";
 * using network = Network.create({ input: [2], layers: [dense(8), relu(), dense(3)], seed: 1 });
 * console.log(network.summary());
 * ```
 */
export class Network implements Disposable {
  readonly #handle: Handle;
  /** The configuration that it was made from, defaults filled in. Initial arrays are left out. */
  readonly config: Required<Omit<NetworkOptions, "threads">> & { readonly threads: number };

  private constructor(number: number, config: Network["config"]) {
    this.#handle = new Handle(this, number, "network", native().network_destroy);
    this.config = config;
  }

  /**
   * Builds a network and draws its initial parameters.
   *
   * @param options input shape, layers, loss, seed, precision, threads
   * @returns the network
   * @throws {ConfigError} where an option cannot be used
   * @throws {EngineError} where shapes do not fit (the message names the layer) or memory does not suffice
   */
  static create(options: NetworkOptions): Network {
    knownOptions("", options, ["input", "layers", "loss", "seed", "precision", "threads"]);
    if (!Array.isArray(options.input)) throw new ConfigError("input", "a shape such as [784]", options.input);
    if (!Array.isArray(options.layers)) throw new ConfigError("layers", "a list of layers", options.layers);
    const layers = options.layers.map((layer, index) => checkLayer(layer, `layers[${index}]`));
    const config = {
      input: options.input.map((axis, index) => number(`input[${index}]`, axis, { min: 1, whole: true })),
      layers: layers.map(withoutArrays),
      loss: checkLoss(options.loss ?? softmaxCrossEntropy()),
      seed: seedNumber("seed", options.seed ?? 0),
      precision: oneOf("precision", options.precision ?? "f32", ["f32", "f64"]),
      threads: options.threads === undefined
        ? 0
        : number("threads", options.threads, { min: 1, max: 1024, whole: true }),
    };
    const json = encode(JSON.stringify(config));
    const handle = new Uint32Array(1);
    const status = newStatus();
    check(native().network_create(json, json.length, handle, status), status);
    const network = new Network(handle[0] ?? 0, config);
    try {
      for (const [name, values] of initialArrays(layers)) network.write(name, values);
    } catch (cause) {
      network[Symbol.dispose]();
      throw cause;
    }
    return network;
  }

  /**
   * Reads a network that {@linkcode Network.save} wrote.
   *
   * @param path a safetensors file
   * @param options threads to use
   * @returns the network
   * @throws {CheckpointError} where the file is not a checkpoint of this program, or lies about its contents
   */
  static async load(path: string | URL, options: { readonly threads?: number } = {}): Promise<Network> {
    const { network } = await loadAlone(path, options);
    return network;
  }

  /**
   * Writes parameters (folded, see {@linkcode Network.fold}) and configuration as a safetensors file; weights have PyTorch's shapes and `Sequential` names. The file
   * is complete or, after a fault, the old one is still there.
   *
   * @param path the file
   * @param options whether sparse weights are stored compactly
   * @throws {CheckpointError} where it cannot be written
   */
  async save(path: string | URL, options: SaveOptions = {}): Promise<void> {
    knownOptions("save", options, ["compact"]);
    await saveCheckpoint(this, path, { compact: boolean("save.compact", options.compact ?? false) });
  }

  /** The engine's number for it. @throws {EngineError} after disposal */
  get handle(): number {
    return this.#handle.number;
  }

  /** The network as the engine built it: shapes, parameters, multiply-adds. */
  describe(): NetworkDescription {
    return readJson((...args) => native().network_describe(this.handle, ...args));
  }

  /**
   * What the learning rule of the run in training put into the slots of each linear map, with the figures that each choice
   * keeps about itself.
   *
   * @returns one entry for each dense or convolutional layer
   */
  async describeRule(): Promise<SlotDescription[]> {
    return await this.#request({ do: "describeRule" });
  }

  /**
   * Gives layers masks made from their weights; what a mask leaves out is 0 from now on, and training does not bring it back unless
   * the rule does ({@linkcode sparse}). A layer that has a mask already only loses weights, unless `by` is `"random"`.
   *
   * @param options how many zeros, where, which weights stay
   * @returns the masks of all dense and convolutional layers
   * @throws {ConfigError} where an option cannot be used
   * @throws {EngineError} where a layer cannot be sparse, or the network is in training (`busy`)
   *
   * @example
   * ```ts
   * import { dense, Network, relu } from "@leanprop/leanprop";
   * using network = Network.create({ input: [784], layers: [dense(256), relu(), dense(10)] });
   * for (const mask of await network.sparsify({ sparsity: 0.9 })) console.log(mask.layer, mask.nonZeros);
   * ```
   */
  async sparsify(options: SparsifyOptions): Promise<MaskDescription[]> {
    const request: Promise<MaskDescription[]> = this.#request({ do: "sparsify", ...sparsifyRequest(options) });
    return await request.catch(ownPaths);
  }

  /**
   * Takes all masks away: layers have all weights again, those that were missing are 0.
   *
   * @returns the layers
   * @throws {EngineError} `busy` where the network is in training
   */
  async densify(): Promise<MaskDescription[]> {
    return await this.#request({ do: "densify" });
  }

  /** How many weights each dense and convolutional layer has, with and without masks. */
  async masks(): Promise<MaskDescription[]> {
    return await this.#request({ do: "describeMasks" });
  }

  /**
   * Copies the mask of a layer out.
   *
   * @param layer its name, such as `"0"`
   * @returns 1 for each weight that it has and 0 for the others, in the order of its weights; all 1 without a mask
   * @throws {EngineError} `unknown-name` where the layer does not exist or has no weights
   */
  mask(layer: string): Uint8Array<ArrayBuffer> {
    const weight = this.tensors().find((tensor) => tensor.name === `${layer}.weight`);
    const count = weight?.shape.reduce((product, axis) => product * axis, 1) ?? 0;
    const mask = new Uint8Array(count);
    this.#readBytes(`${layer}.weight.mask`, mask);
    return mask;
  }

  /**
   * Gives a layer a mask. Weights that the mask leaves out are lost; those that it adds start at 0. A mask of zeros alone is allowed:
   * its layer gives its biases whatever it sees, and {@linkcode train} warns of it.
   *
   * @param layer the name of a dense or conv2d layer, such as `"0"`
   * @param mask 0 for each weight that it shall not have, in the order of its weights
   * @throws {ConfigError} where the mask is no `Uint8Array`
   * @throws {EngineError} where the length does not fit, the layer cannot be sparse, or the network is in training (`busy`)
   */
  setMask(layer: string, mask: Uint8Array<ArrayBuffer>): void {
    if (!(mask instanceof Uint8Array)) throw new ConfigError("mask", "a Uint8Array", typeName(mask));
    this.#writeBytes(`${layer}.weight.mask`, mask);
  }

  /**
   * How the rule of the run in training carries the loss to the weights, with its figures: what is collapsed, and the forecast
   * that led to it.
   *
   * @returns its kind, and more by kind
   */
  async describePropagation(): Promise<{ readonly kind: string } & Readonly<Record<string, unknown>>> {
    return await this.#request({ do: "describePropagation" });
  }

  /**
   * What a run with `frontContribution()` would collapse, and what back-propagation and each collapse would cost: bytes,
   * multiply-adds, predicted gain. Nothing is computed.
   *
   * @param data the training rows, or how many there are
   * @param options how to train; the rule is `frontContribution()`
   * @returns the plan, also where the rule would refuse the run (`chosen` is `null` then, `reason` the sentence)
   * @throws {ConfigError} where an option cannot be used
   * @throws {EngineError} `invalid-config` for another rule
   */
  async plan(data: { readonly rows: number }, options: TrainOptions): Promise<RunPlan> {
    return await this.#request(planRequest(number("rows", data?.rows, { min: 1, whole: true }), options));
  }

  /**
   * A network of its own with the same function and plain parameters: the matrices and means that `decorrelated()` keeps during a run are
   * folded into weights and biases, masks stay. (A run that ends does that to its network.)
   *
   * @param options threads to use
   * @returns the network
   */
  fold(options: { readonly threads?: number } = {}): Network {
    const { threads: _, ...config } = this.config;
    const network = Network.create({ ...config, ...options });
    try {
      for (const { name, group } of this.tensors()) {
        if (group === "mask") {
          network.setMask(name.slice(0, -".weight.mask".length), this.mask(name.split(".weight")[0]!));
        }
      }
      for (const { name, group } of this.tensors()) {
        if (group === "parameter" || group === "buffer") network.write(name, this.read(name, { folded: true }));
      }
    } catch (cause) {
      network[Symbol.dispose]();
      throw cause;
    }
    return network;
  }

  /**
   * How correlated the inputs of dense and convolutional layers are, as their weights see them in evaluation: with `decorrelated()` in
   * training, behind its matrices (those of `form: "driftFree"` too, whose gradients pass them). Convolutions are counted by a patch of each row, and more where there are fewer than 2,000 rows. Take
   * a thousand rows or more: below that chance alone looks like correlation.
   *
   * @param data a table, or a data set in the engine, with targets
   * @returns one entry for each dense or convolutional layer
   */
  async inputStatistics(data: Table | Dataset): Promise<InputStatistics[]> {
    objectGiven("data", data, "a table or a Dataset");
    await this.#request({ do: "watchInputs", patches: Math.ceil(2000 / data.rows) });
    try {
      await this.evaluate(data);
    } catch (cause) {
      await this.#request({ do: "describeInputs" });
      throw cause;
    }
    return await this.#request({ do: "describeInputs" });
  }

  /**
   * How near the gradient of the rule in training is to back-propagation's, on the batch of the last step with the parameters
   * after it. Nothing changes.
   *
   * @returns the comparison for each parameter and for all together
   * @throws {EngineError} `busy` where no run is attached, or it has taken no step since it was created or resumed; `invalid-config`
   * where a layer has a mask, layers are collapsed, or the batch is computed in parts (`accumulate`)
   */
  async gradientCosines(): Promise<GradientComparison> {
    return await this.#request({ do: "gradientCosines" });
  }

  /**
   * Memory of the run in training, beside parameters and optimizer.
   *
   * @returns bytes by purpose
   * @throws {EngineError} `busy` where no run is attached
   */
  async trainingMemory(): Promise<TrainingMemory> {
    return await this.#request({ do: "trainingMemory" });
  }

  /**
   * Begins to measure how long each layer takes in the steps of the run in training, from zero.
   *
   * @throws {EngineError} `busy` where no run is attached
   */
  async startLayerTimes(): Promise<void> {
    await this.#request({ do: "startLayerTimes" });
  }

  /**
   * How long each layer took since {@linkcode Network.startLayerTimes}, and ends measuring. Batches, loss and updates of
   * the whole gradient are not part of it.
   *
   * @returns one entry a layer, in the order of the forward pass
   * @throws {EngineError} `busy` where no run is attached or nothing was measured
   */
  async layerTimes(): Promise<LayerTime[]> {
    return await this.#request({ do: "layerTimes" });
  }

  /** {@linkcode Network.describe} as a table in text. */
  summary(): string {
    return summarize(this.describe());
  }

  /** All tensors that {@linkcode Network.read} knows now. */
  tensors(): TensorDescription[] {
    return readJson((...args) => native().network_tensors(this.handle, ...args));
  }

  /**
   * Copies a tensor out, by name.
   *
   * @param name one of {@linkcode Network.tensors}
   * @param options whether what a learning rule keeps beside a parameter during a run is folded into it (see {@linkcode Network.fold});
   * default `false`
   * @returns its elements, row after row
   * @throws {EngineError} `unknown-name` where there is none of that name
   */
  read(name: string, options: { readonly folded?: boolean } = {}): ParameterArray {
    knownOptions("read", options, ["folded"]);
    const { folded = false } = options;
    const tensor = this.tensors().find((tensor) => tensor.name === name);
    if (!tensor) {
      throw new EngineError("unknown-name", `Cannot find tensor ${name}: this network has none of that name`);
    }
    const count = tensor.shape.reduce((product, axis) => product * axis, 1);
    if (tensor.dtype === "u8") {
      throw new EngineError(
        "unknown-name",
        `Cannot read ${name}: a mask is read with mask(${JSON.stringify(name.split(".weight")[0])})`,
      );
    }
    const values = tensor.dtype === "f32" ? new Float32Array(count) : new Float64Array(count);
    const place = folded && tensor.group === "parameter" ? `folded.${name}` : name;
    this.#readBytes(place, new Uint8Array(values.buffer));
    return values;
  }

  /**
   * Replaces a tensor, by name.
   *
   * @param name one of {@linkcode Network.tensors}
   * @param values as many finite numbers as it has elements, row after row; converted to the network's precision; 0 where a mask
   * leaves no weight
   * @throws {EngineError} where the name, the length or a number cannot be used; nothing has changed then
   */
  write(name: string, values: ParameterArray): void {
    textGiven("name", name, "the name of a tensor");
    if (typeof values !== "object" || values === null) throw new ConfigError("values", "an array of numbers", values);
    const wide = this.config.precision === "f64" || name.startsWith("training.");
    const fits = wide ? values instanceof Float64Array : values instanceof Float32Array;
    const array = fits ? values : wide ? Float64Array.from(values) : Float32Array.from(values);
    this.#writeBytes(name, new Uint8Array(array.buffer, array.byteOffset, array.byteLength));
  }

  #readBytes(name: string, bytes: Uint8Array<ArrayBuffer>): void {
    const key = encode(name);
    const status = newStatus();
    check(native().network_read(this.handle, key, key.length, bytes, bytes.length, status), status);
  }

  #writeBytes(name: string, bytes: Uint8Array<ArrayBuffer>): void {
    const key = encode(name);
    const status = newStatus();
    check(native().network_write(this.handle, key, key.length, bytes, bytes.length, status), status);
  }

  /** All parameters by name: copies, row after row. */
  parameters(): Map<string, ParameterArray> {
    return this.#group("parameter");
  }

  /**
   * Predictions: class probabilities (softmax), probabilities (binary cross-entropy) or values (squared error).
   *
   * Bytes need a table: their scale and offset belong to the data (those of `cifar10()` are not those of `mnist()`), and a network
   * does not keep them.
   *
   * @param features rows of features: a flat array of as many numbers as some samples have, or a table
   * @returns rows × outputs numbers, row after row
   * @throws {ConfigError} where bytes come without a table, or a flat array holds no whole number of samples
   * @throws {EngineError} where shapes do not fit or a number is not finite
   */
  async predict(features: Features["features"] | Features): Promise<ParameterArray> {
    if (typeof features !== "object" || features === null) {
      throw new ConfigError("features", "a table, or a flat array of numbers", features);
    }
    const table = "rows" in features ? features : this.#rowsOf(features);
    using data = await Dataset.create({ ...table, targets: undefined } as Features);
    const { layers } = this.describe();
    const outputs = layers.at(-1)?.shape.reduce((product, axis) => product * axis, 1) ?? 0;
    const count = data.rows * outputs;
    const values = this.config.precision === "f32" ? new Float32Array(count) : new Float64Array(count);
    const bytes = new Uint8Array(values.buffer);
    const status = newStatus();
    const code = await native().network_predict(this.handle, data.handle, 0, data.rows, bytes, bytes.length, status);
    check(code, status);
    return values;
  }

  /**
   * Loss, accuracy and more on rows with targets.
   *
   * @param data a table, or a data set in the engine
   * @param options top-k, confusion counts, abort signal
   * @returns the metrics
   */
  async evaluate(data: Table | Dataset, options: EvaluateOptions = {}): Promise<Metrics> {
    return await evaluate(this, data, options);
  }

  /**
   * The gradient of the mean loss over some rows, without changing anything: for tests, and for updates of your own.
   *
   * @param data a table, or a data set in the engine: one batch
   * @param options rule, whether dropout is on, seed
   * @returns the loss, and the gradient of each parameter
   * @throws {EngineError} `busy` where a run that decorrelates inputs has weights behind matrices (all forms but `driftFree`): their
   * gradient is that of a copy ({@linkcode Network.fold})
   */
  async gradients(data: Table | Dataset, options: GradientOptions = {}): Promise<Gradients> {
    knownOptions("gradients", options, ["rule", "training", "seed"]);
    using own = data instanceof Dataset ? undefined : await Dataset.create(data);
    const batch = own ?? data as Dataset;
    const config = encode(JSON.stringify({
      rule: fillSlots(options.rule ?? { name: "backprop", slots: {} }),
      optimizer: { kind: "sgd", learningRate: 0, momentum: 0, nesterov: false, weightDecay: 0 },
      schedule: { kind: "constant" },
      epochs: 1,
      batchSize: batch.rows,
      seed: seedNumber("gradients.seed", options.seed ?? 0),
      shuffle: false,
      dropLast: false,
      clipNorm: null,
      augment: null,
    }));
    const loss = new Float64Array(1);
    const status = newStatus();
    const training = options.training ? 1 : 0;
    const code = await native().network_gradient(
      this.handle,
      batch.handle,
      config,
      config.length,
      training,
      loss,
      status,
    );
    check(code, status);
    const prefix = "gradient.";
    const found = [...this.#group("gradient")].map(([name, values]) => [name.slice(prefix.length), values] as const);
    return { loss: loss[0] ?? NaN, gradients: new Map(found) };
  }

  /** Frees the network, once. */
  [Symbol.dispose](): void {
    this.#handle.close();
  }

  async #request<T>(request: { readonly do: string; readonly [option: string]: unknown }): Promise<T> {
    const json = encode(JSON.stringify(request));
    const status = newStatus();
    check(await native().network_request(this.handle, json, json.length, status), status);
    return readJson((...args) => native().network_answer(this.handle, ...args));
  }

  #group(group: TensorDescription["group"]): Map<string, ParameterArray> {
    const names = this.tensors().filter((tensor) => tensor.group === group).map((tensor) => tensor.name);
    return new Map(names.map((name) => [name, this.read(name)]));
  }

  #rowsOf(features: Features["features"]): Features {
    const shape = this.config.input;
    const size = shape.reduce((product, axis) => product * axis, 1);
    const rows = features.length / size;
    // Taken as byte / 255, they would give other classes wherever training saw another scale, without a word.
    if (features instanceof Uint8Array) {
      throw new ConfigError(
        "features",
        "bytes in a table, { rows, shape, features, scale, offset } as in training, or a Float32Array",
        "a Uint8Array, which does not say what bytes mean",
      );
    }
    if (!Number.isInteger(rows) || rows === 0) {
      throw new ConfigError(
        "features",
        `a multiple of ${size} numbers (the network's input ${shape.join("×")})`,
        features.length,
      );
    }
    return { rows, shape, features };
  }
}
