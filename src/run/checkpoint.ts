/**
 * Checkpoints: a safetensors file with the network's configuration in its metadata, and for a training run also the state of
 * optimizer, rule and counters, so that it goes on with the same bits.
 *
 * @module
 */

import { knownOptions, number } from "../config.ts";
import { CheckpointError } from "../errors.ts";
import { Network, type NetworkOptions, type TensorDescription } from "../network/network.ts";
import type { ParameterArray } from "../network/layers.ts";
import type { TrainingConfig } from "../train/trainer.ts";
import { fileName, reason, writeWhole } from "./files.ts";
import { decodeSafetensors, type DType, encodeSafetensors, type Tensor } from "./safetensors.ts";

/** What stands after a layer's name in the names of its mask, in bytes and in bits, and of the weights that it leaves. */
const [MASK, BITS, VALUES] = [".weight.mask", ".weight.bits", ".weight.values"] as const;

/** What stands before the name of a parameter as it is without the rule, where a run's rule keeps it in parts. */
const FOLDED = "folded.";

/** Key in the file's metadata. */
const KEY = "leanprop";

/** What is read here. */
const WANTED = "a safetensors file that train or Network.save wrote";

/** Version of what stands under that key. */
const FORMAT = 1;

/** What a training run's configuration must hold, so that nothing is silently filled in on resuming. */
const TRAINING = [
  "ruleName",
  "rule",
  "optimizer",
  "schedule",
  "epochs",
  "batchSize",
  "seed",
  "shuffle",
  "dropLast",
  "clipNorm",
  "augment",
  "accumulate",
  "classWeights",
  "averageDecay",
  "stepsPerEpoch",
  "rows",
] as const satisfies readonly (keyof TrainingConfig)[];

/** What stands under that key. */
interface Header {
  readonly format: number;
  readonly network: Network["config"];
  readonly training?: TrainingConfig;
}

/** The state of a training run, as a checkpoint holds it. */
export interface SavedRun {
  /** Its options with their defaults. */
  readonly config: TrainingConfig;
  /** Tensors of the optimizer, the rule and the counters, by name. */
  readonly tensors: ReadonlyMap<string, ParameterArray>;
}

/** A loaded checkpoint. */
export interface Checkpoint {
  /** The network with its parameters. */
  readonly network: Network;
  /** The training run that was under way, if any. */
  readonly run?: SavedRun;
  /** Parameters by name that the network needs to compute the same without the rule of its run, where they differ from its own. */
  readonly folded: ReadonlyMap<string, ParameterArray>;
}

/**
 * Writes a network, and the run in training if its options are given.
 *
 * @throws {CheckpointError} where the file cannot be written, or a number is not finite: nobody could load that
 */
export async function saveCheckpoint(
  network: Network,
  path: string | URL,
  { training, compact = false }: { readonly training?: TrainingConfig; readonly compact?: boolean } = {},
): Promise<void> {
  const { threads: _, ...config } = network.config;
  const header = { format: FORMAT, network: config, ...(training && { training }) };
  const wanted = (tensor: TensorDescription) =>
    ["parameter", "buffer", "mask"].includes(tensor.group) || (training !== undefined && tensor.group !== "gradient");
  const tensors = new Map<string, Tensor>();
  const list = network.tensors().filter(wanted);
  const masked = new Set(list.filter(({ group }) => group === "mask").map(({ name }) => name.slice(0, -MASK.length)));
  for (const { name, dtype, shape, group } of list) {
    if (group === "mask") {
      const mask = network.mask(name.slice(0, -MASK.length));
      if (compact) tensors.set(name.replace(MASK, BITS), packedMask(mask));
      else tensors.set(name, { dtype: "U8", shape, bytes: mask });
      continue;
    }
    // A run is saved as it is; a network alone computes the same without the rule's state.
    const values = network.read(name, { folded: training === undefined });
    if (!areFinite(values)) {
      const message = `Cannot write ${fileName(path)}: expected finite numbers in ${name} but found NaN or infinity`;
      throw new CheckpointError(`${message}; the network has diverged`);
    }
    const layer = name.replace(/\.weight$/, "");
    if (compact && group === "parameter" && layer !== name && masked.has(layer)) {
      const mask = network.mask(layer);
      const left = values.filter((_, index) => mask[index] === 1);
      tensors.set(layer + VALUES, { dtype: dtype.toUpperCase() as DType, shape: [left.length], bytes: bytesOf(left) });
    } else {
      tensors.set(name, { dtype: dtype.toUpperCase() as DType, shape, bytes: bytesOf(values) });
    }
    // Only what stands behind a rule's matrices is kept in parts.
    if (training?.rule.inputs === undefined || group !== "parameter") continue;
    const folded = network.read(name, { folded: true });
    if (folded.every((value, index) => value === values[index])) continue;
    tensors.set(FOLDED + name, { dtype: dtype.toUpperCase() as DType, shape, bytes: bytesOf(folded) });
  }
  await writeWhole(path, encodeSafetensors({ metadata: { [KEY]: JSON.stringify(header) }, tensors }));
}

/** Whether all numbers are finite. A plain loop: with `every` this took most of the time of a checkpoint, of which there is one a second. */
function areFinite(values: ParameterArray): boolean {
  // 0 of finite numbers, NaN of all others.
  let sum = 0;
  for (let index = 0; index < values.length; index++) sum += 0 * values[index]!;
  return sum === 0;
}

/**
 * Reads a checkpoint.
 *
 * @param path the file
 * @param options threads of the network
 * @returns the network, and the state of a run to be resumed with `Trainer.resume`
 * @throws {CheckpointError} where the file cannot be read, is no checkpoint, or its tensors are not those of its network
 * @throws {ConfigError} where the number of threads cannot be used
 */
export async function loadCheckpoint(
  path: string | URL,
  options: { readonly threads?: number } = {},
): Promise<Checkpoint> {
  knownOptions("load", options, ["threads"]);
  if (options.threads !== undefined) number("threads", options.threads, { min: 1, max: 1024, whole: true });
  const where = fileName(path);
  const file = await Deno.readFile(path).catch((cause) => {
    throw new CheckpointError(`Cannot read ${where}: ${reason(cause)}`, { cause });
  });
  const { metadata, tensors } = decodeSafetensors(file, where, WANTED);
  const header = parseHeader(metadata, where);
  const network = build(header, where, options);
  try {
    const rest = expand(network, new Map(tensors), where);
    for (const { name, dtype, shape, group } of network.tensors()) {
      if (group === "mask") continue;
      const tensor = rest.get(name);
      if (!tensor) throw new CheckpointError(`Cannot read ${where}: expected a tensor ${name} but found none`);
      const expected = `${dtype.toUpperCase()} [${shape}]`;
      const found = `${tensor.dtype} [${tensor.shape}]`;
      if (expected !== found) {
        throw new CheckpointError(`Cannot read ${where}: expected ${name} to be ${expected} but found ${found}`);
      }
      network.write(name, values(tensor));
      rest.delete(name);
    }
    if (!header.training) {
      const [extra] = rest.keys();
      if (extra !== undefined) {
        throw new CheckpointError(
          `Cannot read ${where}: expected only the network's parameters but found also ${extra}`,
        );
      }
      return { network, folded: new Map() };
    }
    for (const [name, { dtype }] of rest) {
      if (dtype === "F32" || dtype === "F64") continue;
      throw new CheckpointError(`Cannot read ${where}: expected ${name} to be F32 or F64 but found ${dtype}`);
    }
    const state = new Map<string, ParameterArray>();
    const folded = new Map<string, ParameterArray>();
    for (const [name, tensor] of rest) {
      if (name.startsWith(FOLDED)) folded.set(name.slice(FOLDED.length), values(tensor));
      else state.set(name, values(tensor));
    }
    return { network, run: { config: header.training, tensors: state }, folded };
  } catch (cause) {
    network[Symbol.dispose]();
    if (cause instanceof CheckpointError) throw cause;
    throw new CheckpointError(`Cannot read ${where}: ${cause instanceof Error ? cause.message : cause}`, { cause });
  }
}

/**
 * Reads the network of a checkpoint, which computes what it computed when it was written: also in the middle of a run whose rule
 * keeps weights in parts.
 *
 * @param path the file
 * @param options threads of the network
 * @returns the network, and the state of the run that it was in, which it can no longer go on with
 * @throws {CheckpointError} where the file cannot be read, is no checkpoint, or its tensors are not those of its network
 * @throws {ConfigError} where the number of threads cannot be used
 */
export async function loadAlone(
  path: string | URL,
  options: { readonly threads?: number } = {},
): Promise<Omit<Checkpoint, "folded">> {
  const { folded, ...checkpoint } = await loadCheckpoint(path, options);
  try {
    for (const [name, values] of folded) checkpoint.network.write(name, values);
    return checkpoint;
  } catch (cause) {
    checkpoint.network[Symbol.dispose]();
    const message = cause instanceof Error ? cause.message : cause;
    throw new CheckpointError(`Cannot read ${fileName(path)}: ${message}`, { cause });
  }
}

function parseHeader({ [KEY]: text, format }: Readonly<Record<string, string>>, where: string): Header {
  if (text === undefined) {
    const found = format === "pt"
      ? "weights without their network, as export and PyTorch write them (loadPyTorch reads those)"
      : "one of another program";
    throw new CheckpointError(`Cannot read ${where}: expected ${WANTED} but found ${found}`);
  }
  let header: Header;
  try {
    header = JSON.parse(text);
  } catch (cause) {
    throw new CheckpointError(
      `Cannot read ${where}: expected JSON under the metadata key ${KEY} but found other text`,
      { cause },
    );
  }
  if (header?.format !== FORMAT) {
    throw new CheckpointError(`Cannot read ${where}: expected checkpoint format ${FORMAT} but found ${header?.format}`);
  }
  if (header.training !== undefined) {
    const { training } = header;
    const missing = typeof training === "object" && training !== null
      ? TRAINING.find((option) => !Object.hasOwn(training, option))
      : "everything";
    if (missing) {
      throw new CheckpointError(`Cannot read ${where}: expected a training run but found one without ${missing}`);
    }
  }
  return header;
}

function build(header: Header, where: string, options: { readonly threads?: number }): Network {
  try {
    return Network.create({ ...header.network as NetworkOptions, ...options });
  } catch (cause) {
    if (!(cause instanceof Error)) throw cause;
    throw new CheckpointError(`Cannot read ${where}: its network cannot be made (${cause.message})`, { cause });
  }
}

/**
 * Gives the network the masks of a file, and makes weights stored compactly dense.
 *
 * @returns the other tensors
 */
function expand(network: Network, tensors: Map<string, Tensor>, where: string): Map<string, Tensor> {
  const weights = new Map(network.tensors().map(({ name, shape }) => [name, shape]));
  for (const [name, tensor] of tensors) {
    const suffix = [MASK, BITS].find((suffix) => name.endsWith(suffix));
    if (suffix === undefined) continue;
    const layer = name.slice(0, -suffix.length);
    const shape = weights.get(`${layer}.weight`);
    if (shape === undefined) {
      throw new CheckpointError(`Cannot read ${where}: expected no mask ${name} for this network`);
    }
    const count = shape.reduce((product, axis) => product * axis, 1);
    const expected = suffix === MASK ? `[${shape}]` : `[${Math.ceil(count / 8)}]`;
    if (tensor.dtype !== "U8" || `[${tensor.shape}]` !== expected) {
      const found = `${tensor.dtype} [${tensor.shape}]`;
      throw new CheckpointError(`Cannot read ${where}: expected ${name} to be U8 ${expected} but found ${found}`);
    }
    const mask = suffix === MASK
      ? tensor.bytes.map((byte) => byte === 0 ? 0 : 1)
      : Uint8Array.from({ length: count }, (_, index) => tensor.bytes[index >> 3]! >> (index & 7) & 1);
    network.setMask(layer, mask);
    tensors.delete(name);
    if (suffix === BITS) tensors.set(`${layer}.weight`, unpacked({ layer, mask, shape }, tensors, where));
    tensors.delete(layer + VALUES);
  }
  return tensors;
}

/** The dense weights of a layer whose weights were stored under its mask. */
function unpacked(
  { layer, mask, shape }: { readonly layer: string; readonly mask: Uint8Array; readonly shape: readonly number[] },
  tensors: ReadonlyMap<string, Tensor>,
  where: string,
): Tensor {
  const name = layer + VALUES;
  const tensor = tensors.get(name);
  if (!tensor) throw new CheckpointError(`Cannot read ${where}: expected a tensor ${name} but found none`);
  const left = mask.reduce((sum, bit) => sum + bit, 0);
  if ((tensor.dtype !== "F32" && tensor.dtype !== "F64") || `[${tensor.shape}]` !== `[${left}]`) {
    const found = `${tensor.dtype} [${tensor.shape}]`;
    throw new CheckpointError(
      `Cannot read ${where}: expected ${name} to be numbers of shape [${left}] but found ${found}`,
    );
  }
  const from = values(tensor);
  const dense = tensor.dtype === "F32" ? new Float32Array(mask.length) : new Float64Array(mask.length);
  let next = 0;
  mask.forEach((bit, index) => bit && (dense[index] = from[next++]!));
  return { dtype: tensor.dtype, shape, bytes: bytesOf(dense) };
}

/** A mask with eight weights in a byte, the first in its lowest bit. */
function packedMask(mask: Uint8Array): Tensor {
  const bytes = new Uint8Array(Math.ceil(mask.length / 8));
  mask.forEach((bit, index) => bytes[index >> 3]! |= bit << (index & 7));
  return { dtype: "U8", shape: [bytes.length], bytes };
}

function bytesOf(values: ParameterArray): Uint8Array<ArrayBuffer> {
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
}

/** A tensor's numbers, copied so that they are aligned. */
function values(tensor: Tensor): ParameterArray {
  const { buffer } = tensor.bytes.slice();
  return tensor.dtype === "F32" ? new Float32Array(buffer) : new Float64Array(buffer);
}
