/**
 * Derivatives of a network along a direction of its parameters, by dual numbers: exact, and without a backward pass.
 *
 * @module
 */

import { number, typeName } from "../config.ts";
import { Dataset } from "../data/dataset.ts";
import type { Table } from "../data/table.ts";
import { ConfigError } from "../errors.ts";
import { native } from "../ffi/native.ts";
import { check, newStatus } from "../ffi/status.ts";
import { didYouMean } from "../nearest.ts";
import type { ParameterArray } from "./layers.ts";
import type { Network } from "./network.ts";

/** A direction: numbers for parameters by their names, shaped like them; parameters that are left out stand still. */
export type Direction = Readonly<Record<string, ArrayLike<number>>> | ReadonlyMap<string, ArrayLike<number>>;

/** The loss along a direction. */
export interface DirectionalDerivatives {
  /** Mean loss of the rows. */
  readonly loss: number;
  /** d loss(w + t · direction) / dt at t = 0. */
  readonly first: number;
  /** d² loss(w + t · direction) / dt² at t = 0. */
  readonly second: number;
}

/** The outputs along a direction. */
export interface Jvp {
  /** Mean loss of the rows. */
  readonly loss: number;
  /** d loss(w + t · direction) / dt at t = 0: the gradient's product with the direction. */
  readonly derivative: number;
  /** How the network's outputs (before softmax) move: rows × outputs. */
  readonly tangents: ParameterArray;
}

/**
 * The product of the network's Jacobian with a direction of its parameters, in evaluation mode.
 *
 * @param network the network
 * @param batch a table, or a data set in the engine: one batch
 * @param direction numbers for parameters by name
 * @returns the loss, its derivative along the direction, and the tangents of the outputs
 * @throws {ConfigError} where the batch is no table, the direction no object or Map, a name unknown, a length another, or a number
 * not finite
 * @throws {EngineError} `shape-mismatch` where the batch does not fit the network; `invalid-config` where a layer has a mask, or the
 * targets do not fit the loss; `busy` while a run with inputs or weights of its own (`decorrelated`, `sparse`) trains the network
 *
 * @example
 * ```ts
 * import { dense, jvp, Network } from "@leanprop/leanprop";
 * using network = Network.create({ input: [2], layers: [dense(2)] });
 * const batch = { rows: 1, shape: [2], features: new Float32Array([1, 2]), targets: { kind: "labels", classes: 2, values: new Uint32Array(1) } } as const;
 * const { tangents } = await jvp(network, batch, { "0.bias": [1, 0] });
 * console.log([...tangents]); // [1, 0]
 * ```
 */
export async function jvp(network: Network, batch: Table | Dataset, direction: Direction): Promise<Jvp> {
  const { derivatives: [loss = NaN, derivative = NaN], tangents } = await along(network, batch, direction);
  return { loss, derivative, tangents };
}

/**
 * First and second derivative of the mean loss along a direction of the parameters, in evaluation mode.
 *
 * @param network the network
 * @param batch a table, or a data set in the engine: one batch
 * @param direction numbers for parameters by name
 * @returns loss, slope and curvature
 * @throws as {@linkcode jvp}
 */
export async function directionalDerivatives(
  network: Network,
  batch: Table | Dataset,
  direction: Direction,
): Promise<DirectionalDerivatives> {
  const { derivatives: [loss = NaN, first = NaN, second = NaN] } = await along(network, batch, direction);
  return { loss, first, second };
}

async function along(network: Network, batch: Table | Dataset, direction: Direction) {
  if (typeof batch !== "object" || batch === null) throw new ConfigError("batch", "a table or a Dataset", batch);
  const flat = inOrder(network, direction);
  using own = batch instanceof Dataset ? undefined : await Dataset.create(batch);
  const data = own ?? batch as Dataset;
  const outputs = network.describe().layers.at(-1)?.shape.reduce((product, axis) => product * axis, 1) ?? 0;
  const tangents = arrayFor(network, data.rows * outputs);
  const [bytes, out] = [new Uint8Array(flat.buffer), new Uint8Array(tangents.buffer)];
  const derivatives = new Float64Array(3);
  const status = newStatus();
  const code = await native().network_directional(
    network.handle,
    data.handle,
    bytes,
    bytes.length,
    derivatives,
    derivatives.length,
    out,
    out.length,
    status,
  );
  check(code, status);
  return { derivatives, tangents };
}

/** The numbers of a direction, all parameters one after the other; those that it leaves out are 0. */
function inOrder(network: Network, direction: Direction): ParameterArray {
  const given = byName(direction);
  const parameters = network.tensors().filter((tensor) => tensor.group === "parameter").map(({ name, shape }) => ({
    name,
    count: shape.reduce((product, axis) => product * axis, 1),
  }));
  const flat = arrayFor(network, parameters.reduce((sum, { count }) => sum + count, 0));
  let start = 0;
  for (const { name, count } of parameters) {
    const values = given.get(name);
    if (values !== undefined) flat.set(checkEntry(`direction.${name}`, values, { count, network }), start);
    given.delete(name);
    start += count;
  }
  const [unknown] = given.keys();
  if (unknown === undefined) return flat;
  const names = parameters.map(({ name }) => name);
  throw new ConfigError(
    `direction.${unknown}`,
    `one of ${names.join(", ")}${didYouMean(unknown, names)}`,
    "an unknown name",
  );
}

/** The entries of a direction. Lists, sets and promises are refused: they have no names, and would be a direction of zeros. */
function byName(direction: unknown): Map<string, unknown> {
  if (direction instanceof Map) return new Map(Array.from(direction, ([name, values]) => [String(name), values]));
  if (typeof direction === "object" && direction !== null) {
    const prototype = Object.getPrototypeOf(direction);
    if (prototype === Object.prototype || prototype === null) return new Map(Object.entries(direction));
  }
  throw new ConfigError("direction", "an object or a Map with numbers for parameters by name", typeName(direction));
}

/** The numbers for one parameter, as they are. */
function checkEntry(
  path: string,
  values: unknown,
  { count, network }: { readonly count: number; readonly network: Network },
): ArrayLike<number> {
  if (typeof values !== "object" || values === null || !("length" in values)) {
    throw new ConfigError(path, `${count} numbers`, typeof values === "string" ? JSON.stringify(values) : values);
  }
  const list = values as ArrayLike<number>;
  if (list.length !== count) throw new ConfigError(path, `${count} numbers`, list.length);
  const { precision } = network.config;
  for (let index = 0; index < count; index++) {
    // Only what fails is given a name: a direction has millions of numbers.
    const value = list[index] as unknown;
    if (typeof value === "number" && Number.isFinite(precision === "f64" ? value : Math.fround(value))) continue;
    const place = `${path}[${index}]`;
    throw new ConfigError(place, `a number that ${precision} can hold`, number(place, value));
  }
  return list;
}

/** An array of the network's precision. */
function arrayFor(network: Network, length: number): ParameterArray {
  return network.config.precision === "f64" ? new Float64Array(length) : new Float32Array(length);
}
