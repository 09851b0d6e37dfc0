/**
 * The command `info`: what this installation is, what it lacks, and which command mends that.
 *
 * @module
 */

import { fileURLToPath } from "node:url";
import { cacheDirectory, environment } from "../data/places.ts";
import { dataSources, loadData } from "../data/registry.ts";
import { DataError, EngineError } from "../errors.ts";
import { LIBRARY_VARIABLE, libraryFile } from "../ffi/library.ts";
import { native } from "../ffi/native.ts";
import { readJson } from "../ffi/status.ts";
import { ABI_FINGERPRINT } from "../ffi/symbols.gen.ts";
import { processor, version } from "./machine.ts";
import { type CommandSpec, helpText, type OptionSpec, parseOptions } from "./options.ts";
import { note, print } from "./terminal.ts";

const options = [
  { name: "json", type: "flag", help: "one JSON object on standard output", group: "Options", effect: "display" },
  { name: "help", type: "flag", help: "this text", group: "Options", effect: "display" },
] as const satisfies readonly OptionSpec[];

/** The command. */
export const infoCommand: CommandSpec<typeof options> = {
  name: "info",
  description: "Says what this installation is and what it lacks.",
  options,
};

/** What the engine says of itself. */
interface EngineInfo {
  readonly version: string;
  readonly fingerprint: number;
  readonly instructionSet: string;
  readonly instructionSets: readonly string[];
  readonly threads: number;
  readonly target: string;
}

/** Something that was looked at. */
interface Finding {
  /** What it is called. */
  readonly name: string;
  /** What was found. */
  readonly found: string;
  /** Where something is missing or broken: the command that mends it, or what to do. */
  readonly mend?: string;
  /** Whether training cannot work until it is mended. */
  readonly needed?: boolean;
}

/**
 * Runs the command; exit code 1 where training cannot work.
 *
 * @param args its arguments
 */
export async function info(args: readonly string[]): Promise<void> {
  const { values, help } = parseOptions(infoCommand, args);
  if (help) return print(helpText(infoCommand));
  const findings = [...engine(), ...permissions(), ...places(), ...await dataSets()];
  const works = findings.every(({ needed }) => !needed);
  print(values.json ? `${JSON.stringify({ works, findings })}\n` : report(findings));
  if (works) return;
  if (!values.json) note("\nTraining cannot work before that is mended\n");
  Deno.exitCode = 1;
}

/** Versions and the native library. */
function engine(): Finding[] {
  const file = libraryFile();
  const path = file instanceof URL ? fileURLToPath(file) : file;
  const fault = openFault();
  const old = fault !== undefined && /^Cannot run on Deno/.test(fault.message);
  const programs: Finding[] = [
    { name: "leanprop", found: version },
    old ? broken("Deno", fault.message, "deno upgrade") : { name: "Deno", found: `${Deno.version.deno}, new enough` },
    { name: "system", found: `${Deno.build.os} ${Deno.build.arch}, ${processor()}` },
    { name: "library", found: path },
  ];
  if (fault) return old ? programs : [...programs, broken("interface", fault.message, mendLibrary(fault))];
  const own = `0x${ABI_FINGERPRINT.toString(16)}`;
  try {
    const engine = readJson<EngineInfo>((...call) => native().engine_info(...call));
    return [
      ...programs,
      { name: "interface", found: `${own}, engine ${engine.version} for ${engine.target}` },
      {
        name: "instructions",
        found: `${engine.instructionSet} in use; this machine has ${engine.instructionSets.join(", ")}`,
      },
      { name: "threads", found: String(engine.threads) },
    ];
  } catch (fault) {
    if (!(fault instanceof EngineError)) throw fault;
    return [...programs, broken("engine", fault.message, "unset LEANPROP_ISA")];
  }
}

/** Why the library cannot be opened, if it cannot. */
function openFault(): EngineError | undefined {
  try {
    native();
    return undefined;
  } catch (fault) {
    if (fault instanceof EngineError) return fault;
    throw fault;
  }
}

function mendLibrary(fault: EngineError): string {
  // Outside the task the flag may be missing; the task grants it.
  if (/permission/.test(fault.message)) return "deno task info";
  return environment(LIBRARY_VARIABLE) ? `unset ${LIBRARY_VARIABLE}, or name a file that is there` : "deno task build";
}

function broken(name: string, found: string, mend: string): Finding {
  return { name, found, mend, needed: true };
}

/** What this process may do; the tasks of `deno.json` grant each command what it needs. */
function permissions(): Finding[] {
  const names = ["ffi", "read", "env", "sys", "write", "net"] as const;
  const granted = names.filter((name) => Deno.permissions.querySync({ name }).state === "granted");
  const missing = names.filter((name) => !granted.includes(name));
  const words = [
    granted.length > 0 ? `granted to this command: ${granted.join(", ")}` : "",
    missing.length > 0 ? `not granted: ${missing.join(", ")}` : "",
  ].filter((word) => word !== "");
  return [{ name: "permissions", found: words.join("; ") }];
}

/** Folders of data. */
function places(): Finding[] {
  const folder = environment("LEANPROP_DATA");
  return [
    { name: "LEANPROP_DATA", found: folder ?? "not set" },
    { name: "cache", found: cacheDirectory() ?? "none: neither LEANPROP_CACHE nor a home folder is known" },
  ];
}

/** The public data sets: each is read, so that a damaged file shows. */
async function dataSets(): Promise<Finding[]> {
  const named = dataSources.filter(({ options }) => options.includes("dataDir"));
  const findings: Finding[] = [];
  for (const { name, options } of named) {
    try {
      const { train, test } = await loadData(name);
      findings.push({ name, found: `${train.rows} training rows, ${test?.rows ?? 0} test rows` });
    } catch (fault) {
      if (!(fault instanceof DataError)) throw fault;
      const missing = /no such files$/.test(fault.message);
      const mend = missing && options.includes("download")
        ? `deno task train --data ${name} --download`
        : "put its files into a folder and name that with LEANPROP_DATA";
      findings.push({ name, found: missing ? "not on this machine (optional)" : fault.message, mend });
    }
  }
  return findings;
}

function report(findings: readonly Finding[]): string {
  const width = Math.max(...findings.map(({ name }) => name.length));
  return findings.map(({ name, found, mend }) => {
    const line = `${name.padEnd(width)}  ${found}\n`;
    return mend === undefined ? line : `${line}${" ".repeat(width)}  → ${mend}\n`;
  }).join("");
}
