/**
 * Weights from and for PyTorch: a `state_dict` saved as safetensors. Names and orders are in pytorch_names.ts.
 *
 * @module
 */

import { CheckpointError } from "../errors.ts";
import type { ParameterArray } from "../network/layers.ts";
import type { Network } from "../network/network.ts";
import { fileName, reason, writeWhole } from "./files.ts";
import { type Entry, pytorchEntries } from "./pytorch_names.ts";
import { decodeSafetensors, encodeSafetensors, type Tensor } from "./safetensors.ts";

/** What PyTorch's batch norms count and nothing here needs. */
const COUNTER = ".num_batches_tracked";

/**
 * Reads the weights and running statistics that PyTorch wrote with `safetensors.torch.save_file(model.state_dict(), path)`.
 *
 * @param network the network that they are for
 * @param path the file
 * @throws {ConfigError} where what is given is no network
 * @throws {CheckpointError} where the file cannot be read, or an entry is missing, too many, of another shape, not finite or a negative
 * variance; the network has not changed then
 *
 * @example
 * ```ts
 * import { loadPyTorch, Network, resnet18 } from "@leanprop/leanprop";
 * using network = Network.create(resnet18({ input: [32, 32, 3], outputs: 10 }));
 * await loadPyTorch(network, "resnet18.safetensors");
 * ```
 */
export async function loadPyTorch(network: Network, path: string | URL): Promise<void> {
  const where = fileName(path);
  const file = await Deno.readFile(path).catch((cause) => {
    throw new CheckpointError(`Cannot read ${where}: ${reason(cause)}`, { cause });
  });
  const { tensors } = decodeSafetensors(file, where);
  const entries = pytorchEntries(network);
  refuseMissing(entries, { tensors, where });
  const rest = new Set(tensors.keys());
  const values = entries.map((entry) => {
    const { tensor: { name: ours, shape }, name, image } = entry;
    const tensor = tensors.get(name)!;
    const place = bothNames(entry);
    if (String(tensor.shape) !== String(shape)) {
      const found = `[${tensor.shape}]`;
      throw new CheckpointError(`Cannot read ${where}: expected ${place} of shape [${shape}] but found ${found}`);
    }
    rest.delete(name);
    rest.delete(name.slice(0, name.lastIndexOf(".")) + COUNTER);
    const numbers = numbersOf(tensor, { where, place });
    // Its root would be NaN in every prediction.
    const negative = name.endsWith(".running_var") ? numbers.find((number) => number < 0) : undefined;
    if (negative !== undefined) {
      throw new CheckpointError(
        `Cannot read ${where}: expected no negative variance in ${place} but found ${negative}`,
      );
    }
    return [ours, image ? reorder(numbers, image, "toOurs") : numbers] as const;
  });
  const [extra] = rest;
  if (extra !== undefined) {
    throw new CheckpointError(`Cannot read ${where}: expected only entries of this network but found ${extra}`);
  }
  for (const [name, numbers] of values) network.write(name, numbers);
}

/**
 * Writes weights and running statistics with PyTorch's names and orders, for
 * `model.load_state_dict(safetensors.torch.load_file(path))`.
 *
 * @param network the network
 * @param path the file; the old one survives a fault
 * @throws {ConfigError} where what is given is no network
 * @throws {CheckpointError} where the file cannot be written, or PyTorch has no counterpart of a layer
 */
export async function savePyTorch(network: Network, path: string | URL): Promise<void> {
  const tensors = new Map<string, Tensor>();
  for (const { tensor: { name: ours, shape }, name, image } of pytorchEntries(network)) {
    const own = network.read(ours, { folded: true });
    const numbers = image ? reorder(own, image, "toTheirs") : own;
    const dtype = numbers instanceof Float32Array ? "F32" : "F64";
    tensors.set(name, { dtype, shape, bytes: new Uint8Array(numbers.buffer) });
  }
  await writeWhole(path, encodeSafetensors({ metadata: { format: "pt" }, tensors }));
}

/** PyTorch's name of an entry, and ours where it is another. */
function bothNames({ name, tensor }: Entry): string {
  return name === tensor.name ? name : `${name} (${tensor.name} here)`;
}

/** Refuses a file that lacks entries; says what stands before every name, which is then the whole difference. */
function refuseMissing(
  entries: readonly Entry[],
  { tensors, where }: { readonly tensors: ReadonlyMap<string, Tensor>; readonly where: string },
): void {
  const missing = entries.filter(({ name }) => !tensors.has(name));
  const [first] = missing;
  if (first === undefined) return;
  const names = [...tensors.keys()];
  const longer = names.find((name) => name.endsWith(`.${first.name}`));
  const prefix = longer?.slice(0, longer.length - first.name.length);
  const common = prefix !== undefined && names.every((name) => name.startsWith(prefix));
  const more = missing.length - 1;
  const others = more === 0 ? "" : ` and ${more} more ${more === 1 ? "entry" : "entries"}`;
  const wrapper = prefix === "module." ? ", as nn.DataParallel writes them (save model.module.state_dict())" : "";
  const found = common ? `names that all begin with ${prefix}${wrapper}` : more === 0 ? "none" : "none of these";
  throw new CheckpointError(
    `Cannot read ${where}: expected ${more === 0 ? "an entry" : "the entry"} ${
      bothNames(first)
    }${others} but found ${found}`,
  );
}

/** A tensor's numbers, copied so that they are aligned. */
function numbersOf(
  tensor: Tensor,
  { where, place }: { readonly where: string; readonly place: string },
): ParameterArray {
  if (tensor.dtype !== "F32" && tensor.dtype !== "F64") {
    throw new CheckpointError(`Cannot read ${where}: expected ${place} in F32 or F64 but found ${tensor.dtype}`);
  }
  const { buffer } = tensor.bytes.slice();
  const numbers = tensor.dtype === "F32" ? new Float32Array(buffer) : new Float64Array(buffer);
  const bad = numbers.find((number) => !Number.isFinite(number));
  if (bad !== undefined) {
    throw new CheckpointError(`Cannot read ${where}: expected finite numbers in ${place} but found ${bad}`);
  }
  return numbers;
}

/** Reorders the last axis, a flattened image, from channel by channel to pixel by pixel or back. */
export function reorder<T extends ParameterArray>(numbers: T, image: readonly number[], way: "toOurs" | "toTheirs"): T {
  const [height = 1, width = 1, channels = 1] = image;
  const pixels = height * width;
  const size = pixels * channels;
  const out = numbers.slice() as T;
  for (let start = 0; start < numbers.length; start += size) {
    for (let pixel = 0; pixel < pixels; pixel++) {
      for (let channel = 0; channel < channels; channel++) {
        const [ours, theirs] = [start + pixel * channels + channel, start + channel * pixels + pixel];
        if (way === "toOurs") out[ours] = numbers[theirs]!;
        else out[theirs] = numbers[ours]!;
      }
    }
  }
  return out;
}
