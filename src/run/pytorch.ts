/**
 * Weights from and for PyTorch: a `state_dict` saved as safetensors. Names and orders are in pytorch_names.ts.
 *
 * @module
 */

import { CheckpointError } from "../errors.ts";
import type { ParameterArray } from "../network/layers.ts";
import type { Network } from "../network/network.ts";
import { fileName, reason, writeWhole } from "./files.ts";
import { pytorchEntries } from "./pytorch_names.ts";
import { decodeSafetensors, encodeSafetensors, type Tensor } from "./safetensors.ts";

/** What PyTorch's batch norms count and nothing here needs. */
const COUNTER = ".num_batches_tracked";

/**
 * Reads the weights and running statistics that PyTorch wrote with `safetensors.torch.save_file(model.state_dict(), path)`.
 *
 * @param network the network that they are for
 * @param path the file
 * @throws {CheckpointError} where the file cannot be read, or an entry is missing, too many, of another shape or not finite; the
 * network has not changed then
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
  const rest = new Set(tensors.keys());
  const values = entries.map(({ tensor: { name: ours, shape }, name, image }) => {
    const tensor = tensors.get(name);
    const place = name === ours ? name : `${name} (${ours} here)`;
    if (!tensor) throw new CheckpointError(`Cannot read ${where}: expected an entry ${place} but found none`);
    if (String(tensor.shape) !== String(shape)) {
      const found = `[${tensor.shape}]`;
      throw new CheckpointError(`Cannot read ${where}: expected ${place} of shape [${shape}] but found ${found}`);
    }
    rest.delete(name);
    rest.delete(name.slice(0, name.lastIndexOf(".")) + COUNTER);
    const numbers = numbersOf(tensor, { where, place });
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
 * @throws {CheckpointError} where the file cannot be written, or PyTorch has no counterpart of a layer
 */
export async function savePyTorch(network: Network, path: string | URL): Promise<void> {
  const tensors = new Map<string, Tensor>();
  for (const { tensor: { name: ours, shape }, name, image } of pytorchEntries(network)) {
    const own = network.read(ours);
    const numbers = image ? reorder(own, image, "toTheirs") : own;
    const dtype = numbers instanceof Float32Array ? "F32" : "F64";
    tensors.set(name, { dtype, shape, bytes: new Uint8Array(numbers.buffer) });
  }
  await writeWhole(path, encodeSafetensors({ metadata: { format: "pt" }, tensors }));
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
