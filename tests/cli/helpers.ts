/**
 * The real command line in a process of its own.
 *
 * @module
 */

import { fileURLToPath } from "node:url";

const config = fileURLToPath(new URL("../../deno.json", import.meta.url));
const main = fileURLToPath(new URL("../../src/cli/main.ts", import.meta.url));

// Runs of tests are no business of the developer's own table and server.
for (const name of ["LEANPROP_RUNS", "LEANPROP_MLFLOW"]) Deno.env.delete(name);

/** What a process left behind. */
export interface Outcome {
  code: number;
  stdout: string;
  stderr: string;
}

/** Where and how a process runs. */
export interface Place {
  /** Working folder. */
  cwd: string;
  /** Environment variables. */
  env?: Record<string, string>;
}

/** Starts the command line with pipes. */
export function start(args: readonly string[], place: Place): Deno.ChildProcess {
  const [program, ...rest] = commandLine(args);
  return new Deno.Command(program!, {
    args: rest,
    cwd: place.cwd,
    env: { NO_COLOR: "1", ...place.env },
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
}

/** Runs the command line to its end. */
export async function run(args: readonly string[], place: Place): Promise<Outcome> {
  return text(await start(args, place).output());
}

/** The words that start the command line. */
export function commandLine(args: readonly string[]): string[] {
  const permissions = ["--allow-ffi", "--allow-read", "--allow-write", "--allow-env", "--allow-sys"];
  return [Deno.execPath(), "run", "--frozen", "--config", config, ...permissions, main, ...args];
}

/** Output as text. */
export function text({ code, stdout, stderr }: Deno.CommandOutput): Outcome {
  const decoder = new TextDecoder();
  return { code, stdout: decoder.decode(stdout), stderr: decoder.decode(stderr) };
}

/** The objects of JSON lines; fails on anything else. */
export function jsonLines(lines: string): Record<string, unknown>[] {
  return lines.split("\n").filter((line) => line !== "").map((line) => JSON.parse(line));
}

/** A temporary folder that goes away. */
export async function temporaryFolder(): Promise<AsyncDisposable & { path: string }> {
  const path = await Deno.makeTempDir({ prefix: "leanprop-cli-" });
  return { path, [Symbol.asyncDispose]: () => Deno.remove(path, { recursive: true }) };
}
