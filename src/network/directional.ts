/**
 * Derivatives of a network along a direction of its parameters, by dual numbers: exact, and without a backward pass.
 *
 * @module
 */

import { Dataset } from "../data/dataset.ts";
import type { Table } from "../data/table.ts";
import { ConfigError } from "../errors.ts";
import { native } from "../ffi/native.ts";
import { check, newStatus } from "../ffi/status.ts";
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
 * @throws {ConfigError} where a name is unknown or a length does not fit
 * @throws {EngineError} where a layer does not carry tangents (the message names it)
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
  using own = batch instanceof Dataset ? undefined : await Dataset.create(batch);
  const data = own ?? batch as Dataset;
  const given = new Map<string, ArrayLike<number>>(direction instanceof Map ? direction : Object.entries(direction));
  const parameters = network.tensors().filter((tensor) => tensor.group === "parameter");
  const numbers: number[] = [];
  for (const { name, shape } of parameters) {
    const count = shape.reduce((product, axis) => product * axis, 1);
    const values = given.get(name);
    if (values !== undefined && values.length !== count) {
      throw new ConfigError(`direction.${name}`, `${count} numbers`, values.length);
    }
    for (let index = 0; index < count; index++) numbers.push(values?.[index] ?? 0);
    given.delete(name);
  }
  const [unknown] = given.keys();
  if (unknown !== undefined) {
    throw new ConfigError(
      `direction.${unknown}`,
      `one of ${parameters.map(({ name }) => name).join(", ")}`,
      "an unknown name",
    );
  }
  const wide = network.config.precision === "f64";
  const outputs = network.describe().layers.at(-1)?.shape.reduce((product, axis) => product * axis, 1) ?? 0;
  const flat = wide ? Float64Array.from(numbers) : Float32Array.from(numbers);
  const tangents = wide ? new Float64Array(data.rows * outputs) : new Float32Array(data.rows * outputs);
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
