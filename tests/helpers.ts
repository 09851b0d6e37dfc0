/** What tests of networks and training share: numbers, tables, single steps, subprocesses. */

import { assertEquals } from "@std/assert";
import type { Dataset } from "../src/data/dataset.ts";
import type { Table } from "../src/data/table.ts";
import { native } from "../src/ffi/native.ts";
import { check, newStatus } from "../src/ffi/status.ts";
import type { ParameterArray } from "../src/network/layers.ts";
import type { Network } from "../src/network/network.ts";

// Opened before any test begins: the library is never closed, which a test that opened it would be blamed for.
native();

/** Root of the repository, as a path with a slash at its end. */
export const root = decodeURIComponent(new URL("../", import.meta.url).pathname);

/** Pseudo-random numbers between -1 and 1, the same for a seed. */
export function numbers(count: number, seed: number): Float64Array<ArrayBuffer> {
  let state = (seed * 2_654_435_761 + 1) >>> 0;
  return Float64Array.from({ length: count }, () => {
    state = (Math.imul(state ^ (state >>> 15), 0x2c1b_3c6d) + 0x9e37_79b9) >>> 0;
    const mixed = Math.imul(state ^ (state >>> 13), 0x297a_2d39) >>> 0;
    return ((mixed ^ (mixed >>> 16)) >>> 0) / 2 ** 31 - 1;
  });
}

/** A table of pseudo-random rows with labels (`classes`) or with values between 0 and 1 (`values` per row). */
export function table(
  rows: number,
  { shape, seed = 1, classes, values }: {
    readonly shape: readonly number[];
    readonly seed?: number;
    readonly classes?: number;
    readonly values?: number;
  },
): Table {
  const size = shape.reduce((product, axis) => product * axis, 1);
  const features = Float32Array.from(numbers(rows * size, seed));
  if (classes !== undefined) {
    const labels = Uint32Array.from(numbers(rows, seed + 1), (x) => Math.floor((x + 1) / 2 * classes) % classes);
    return { rows, shape, features, targets: { kind: "labels", classes, values: labels } };
  }
  const size2 = values ?? 1;
  const targets = numbers(rows * size2, seed + 2).map((x) => (x + 1) / 2);
  return { rows, shape, features, targets: { kind: "values", size: size2, values: targets } };
}

/** Writes pseudo-random numbers into all parameters, so that none is 0 or 1 as they start. */
export function scramble(network: Network, seed: number): void {
  for (const [name, values] of network.parameters()) {
    network.write(
      name,
      numbers(values.length, seed++).map((x) => x * 0.8),
    );
  }
}

/** All parameters as one string of bits, to compare and to print short. */
export function bits(network: Network): string {
  return bitsOf([...network.parameters().values()]);
}

/** The bits of arrays, as hexadecimal text. */
export function bitsOf(arrays: readonly ParameterArray[]): string {
  return arrays.map((array) => new Uint8Array(array.buffer).toHex()).join(" ");
}

/** Fails, with a short message, unless two texts of bits are equal. */
export function assertSameBits(found: string, expected: string, what: string): void {
  if (found === expected) return;
  let at = 0;
  while (found[at] === expected[at]) at++;
  assertEquals(found.slice(at, at + 16), expected.slice(at, at + 16), `${what}: bits differ from character ${at} on`);
}

/** Where a run stands after single steps. */
export interface Steps {
  /** Sum of the row losses of this epoch. */
  readonly lossSum: number;
  /** Rows seen in this epoch. */
  readonly rows: number;
  /** Learning rate of the last step. */
  readonly learningRate: number;
  /** Whether the epoch is complete. */
  readonly epochDone: boolean;
  /** Whether the run is complete. */
  readonly done: boolean;
}

/** Runs `count` single steps of the run that is attached to a network, which `Trainer` does in chunks of 0.1 s. */
export async function steps(network: Network, data: Dataset, count: number): Promise<Steps> {
  const report = new Float64Array(11);
  for (let step = 0; step < count; step++) {
    const status = newStatus();
    check(await native().network_train(network.handle, data.handle, 1, 1000, report, report.length, status), status);
  }
  const [, , , lossSum = NaN, , rows = NaN, learningRate = NaN, epochDone, done] = report;
  return { lossSum, rows, learningRate, epochDone: epochDone === 1, done: done === 1 };
}

/** What a subprocess left. */
export interface Outcome {
  /** Exit code. */
  readonly code: number;
  /** Standard output. */
  readonly out: string;
  /** Standard error, without colours. */
  readonly error: string;
}

/** Runs a script in a Deno of its own. It may import from the absolute addresses in {@linkcode root}. */
export async function runScript(
  script: string,
  { flags = [], env = {}, shell }: {
    /** Permissions and other flags; none by default. */
    readonly flags?: readonly string[];
    /** Environment variables beside the inherited ones. */
    readonly env?: Record<string, string>;
    /** Bash commands to run before, such as limits. */
    readonly shell?: string;
  } = {},
): Promise<Outcome> {
  const folder = await Deno.makeTempDir();
  try {
    const file = `${folder}/script.ts`;
    await Deno.writeTextFile(file, script);
    const deno = ["run", "--no-prompt", "--no-config", "--quiet", ...flags, file];
    const [command, args] = shell === undefined
      ? [Deno.execPath(), deno]
      : ["bash", ["-c", `${shell}; exec "$0" "$@"`, Deno.execPath(), ...deno]];
    const { code, stdout, stderr } = await new Deno.Command(command, {
      args,
      env: { NO_COLOR: "1", ...env },
      stdin: "null",
    }).output();
    const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
    return { code, out: text(stdout), error: text(stderr) };
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** Runs `body` with a temporary folder. */
export async function inTemporaryFolder(body: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    await body(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}
