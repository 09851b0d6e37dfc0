/**
 * Parameters and running statistics as NumPy archives, in and out.
 *
 * @module
 */

import { npzBytes, parseNpz } from "../data/npz.ts";
import type { NumberArray } from "../data/array.ts";
import { CheckpointError } from "../errors.ts";
import { type Network, networkGiven } from "../network/network.ts";
import { fileName, reason, writeWhole } from "./files.ts";

/**
 * Writes parameters and running statistics as an `.npz` archive, for `numpy.load`: one array for each tensor under its name, such
 * as `0.weight` (outputs × inputs).
 *
 * @param network the network
 * @param path the file; the old one survives a fault
 * @throws {ConfigError} where what is given is no network
 * @throws {CheckpointError} where it cannot be written
 */
export async function saveNpz(network: Network, path: string | URL): Promise<void> {
  const arrays = tensorsOf(network).map(({ name, shape }): [string, NumberArray] => {
    const values = network.read(name, { folded: true });
    return [name, {
      type: values instanceof Float32Array ? "f4" : "f8",
      shape,
      values: values as NumberArray["values"],
    }];
  });
  await writeWhole(path, [await npzBytes(Object.fromEntries(arrays))]);
}

/**
 * Reads parameters and running statistics from an `.npz` archive, as {@linkcode saveNpz} or `numpy.savez` writes it.
 *
 * @param network the network that they are for
 * @param path the file
 * @throws {ConfigError} where what is given is no network
 * @throws {CheckpointError} where the file cannot be read, or an array is missing, too many, of another shape or type, or not
 * finite; the network has not changed then
 *
 * @example
 * ```ts ignore
 * import { loadNpz, mlp, Network } from "@leanprop/leanprop";
 * using network = Network.create(mlp({ input: [784], outputs: 10 }));
 * await loadNpz(network, "weights.npz");
 * ```
 */
export async function loadNpz(network: Network, path: string | URL): Promise<void> {
  const where = fileName(path);
  const refuse = (expected: string, found: string) =>
    new CheckpointError(`Cannot read ${where}: expected ${expected} but found ${found}`);
  const bytes = await Deno.readFile(path).catch((cause) => {
    throw new CheckpointError(`Cannot read ${where}: ${reason(cause)}`, { cause });
  });
  const arrays = await parseNpz(bytes, where).catch((cause) => {
    throw new CheckpointError(cause.message, { cause });
  });
  const values = tensorsOf(network).map(({ name, shape }) => {
    const array = arrays.get(name);
    if (!array) throw refuse(`an array ${name}`, [...arrays.keys()].join(", ") || "none");
    if (String(array.shape) !== String(shape)) throw refuse(`${name} of shape [${shape}]`, `[${array.shape}]`);
    if (array.type !== "f4" && array.type !== "f8") throw refuse(`${name} in float32 or float64`, array.type);
    const numbers = array.values as Float32Array<ArrayBuffer> | Float64Array<ArrayBuffer>;
    const own = network.config.precision === "f32" ? Float32Array.from(numbers) : Float64Array.from(numbers);
    const bad = own.findIndex((number) => !Number.isFinite(number));
    if (bad >= 0) throw refuse(`finite numbers in ${name}`, String(numbers[bad]));
    arrays.delete(name);
    return [name, own] as const;
  });
  const [extra] = arrays.keys();
  if (extra !== undefined) throw refuse("only arrays of this network", extra);
  for (const [name, numbers] of values) network.write(name, numbers);
}

function tensorsOf(network: Network) {
  networkGiven(network);
  return network.tensors().filter(({ group }) => group === "parameter" || group === "buffer");
}
