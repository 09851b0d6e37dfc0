/**
 * What a run runs on, for its record.
 *
 * @module
 */

import { cpus } from "node:os";
import project from "../../deno.json" with { type: "json" };
import type { Network } from "../network/network.ts";

/** Version of leanprop. */
export const version: string = project.version;

/** A machine and the programs on it. */
export interface Machine {
  /** Version of leanprop. */
  readonly leanprop: string;
  /** Version of Deno. */
  readonly deno: string;
  /** Operating system and processor family. */
  readonly system: string;
  /** Name of the processor, or `unknown` without permission to ask. */
  readonly cpu: string;
  /** Vector instructions in use. */
  readonly instructionSet: string;
  /** Threads in use. */
  readonly threads: number;
}

/** Describes this machine as a network uses it. */
export function describeMachine(network: Network): Machine {
  const { instructionSet, threads } = network.describe();
  return { ...describeSystem(), instructionSet, threads };
}

/** Describes this machine apart from what a network uses of it. */
export function describeSystem(): Omit<Machine, "instructionSet" | "threads"> {
  return {
    leanprop: version,
    deno: Deno.version.deno,
    system: `${Deno.build.os} ${Deno.build.arch}`,
    cpu: processor(),
  };
}

/** The name of the processor, where asking is permitted. */
export function processor(): string {
  if (Deno.permissions.querySync({ name: "sys", kind: "cpus" }).state !== "granted") return "unknown";
  return cpus()[0]?.model.trim() || "unknown";
}
