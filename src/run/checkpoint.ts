/**
 * Checkpoints: a safetensors file with the network's configuration in its metadata, and for a training run also the state of
 * optimizer, rule and counters, so that it goes on with the same bits.
 *
 * @module
 */

import { number } from "../config.ts";
import { CheckpointError } from "../errors.ts";
import { Network, type NetworkOptions, type TensorDescription } from "../network/network.ts";
import type { ParameterArray } from "../network/layers.ts";
import type { TrainingConfig } from "../train/trainer.ts";
import { fileName, reason, writeWhole } from "./files.ts";
import { decodeSafetensors, type DType, encodeSafetensors, type Tensor } from "./safetensors.ts";

/** Key in the file's metadata. */
const KEY = "leanprop";

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
}

/**
 * Writes a network, and the run in training if its options are given.
 *
 * @throws {CheckpointError} where the file cannot be written, or a number is not finite: nobody could load that
 */
export async function saveCheckpoint(network: Network, path: string | URL, training?: TrainingConfig): Promise<void> {
  const { threads: _, ...config } = network.config;
  const header = { format: FORMAT, network: config, ...(training && { training }) };
  const wanted = (tensor: TensorDescription) =>
    ["parameter", "buffer"].includes(tensor.group) || (training !== undefined && tensor.group !== "gradient");
  const tensors = new Map<string, Tensor>();
  for (const { name, dtype, shape } of network.tensors().filter(wanted)) {
    const values = network.read(name);
    if (!values.every(Number.isFinite)) {
      const message = `Cannot write ${fileName(path)}: expected finite numbers in ${name} but found NaN or infinity`;
      throw new CheckpointError(`${message}; the network has diverged`);
    }
    const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
    tensors.set(name, { dtype: dtype.toUpperCase() as DType, shape, bytes });
  }
  await writeWhole(path, encodeSafetensors({ metadata: { [KEY]: JSON.stringify(header) }, tensors }));
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
  if (options.threads !== undefined) number("threads", options.threads, { min: 1, max: 1024, whole: true });
  const where = fileName(path);
  const file = await Deno.readFile(path).catch((cause) => {
    throw new CheckpointError(`Cannot read ${where}: ${reason(cause)}`, { cause });
  });
  const { metadata, tensors } = decodeSafetensors(file, where);
  const header = parseHeader(metadata[KEY], where);
  const network = build(header, where, options);
  try {
    const rest = new Map(tensors);
    for (const { name, dtype, shape } of network.tensors()) {
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
      return { network };
    }
    for (const [name, { dtype }] of rest) {
      if (dtype === "F32" || dtype === "F64") continue;
      throw new CheckpointError(`Cannot read ${where}: expected ${name} to be F32 or F64 but found ${dtype}`);
    }
    const state = [...rest].map(([name, tensor]) => [name, values(tensor)] as const);
    return { network, run: { config: header.training, tensors: new Map(state) } };
  } catch (cause) {
    network[Symbol.dispose]();
    if (cause instanceof CheckpointError) throw cause;
    throw new CheckpointError(`Cannot read ${where}: ${cause instanceof Error ? cause.message : cause}`, { cause });
  }
}

function parseHeader(text: string | undefined, where: string): Header {
  if (text === undefined) {
    throw new CheckpointError(
      `Cannot read ${where}: expected a leanprop checkpoint but found a safetensors file of another program`,
    );
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

/** A tensor's numbers, copied so that they are aligned. */
function values(tensor: Tensor): ParameterArray {
  const { buffer } = tensor.bytes.slice();
  return tensor.dtype === "F32" ? new Float32Array(buffer) : new Float64Array(buffer);
}
