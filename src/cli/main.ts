/**
 * The command line: `train`, `find-rate`, `compare`, `predict`, `export`, `runs`, `info`.
 *
 * @module
 */

import { didYouMean } from "../nearest.ts";
import { compareRules } from "./compare/command.ts";
import { compareCommand } from "./compare/options.ts";
import { explain, UsageError } from "./errors.ts";
import { exportCommand, exportNetwork } from "./export.ts";
import { findRate, findRateCommand } from "./find_rate.ts";
import { type FlagNames, rulesNamed } from "./flags.ts";
import { info, infoCommand } from "./info.ts";
import type { CommandSpec } from "./options.ts";
import { predict, predictCommand } from "./predict.ts";
import { runs, runsCommand } from "./run_table/command.ts";
import { note, outputFault, print } from "./terminal.ts";
import { train } from "./train.ts";
import { trainCommand } from "./train_options.ts";

interface Command {
  readonly spec: CommandSpec;
  readonly run: (args: readonly string[]) => Promise<void>;
}

const commands: readonly Command[] = [
  { spec: trainCommand, run: train },
  { spec: findRateCommand, run: findRate },
  { spec: compareCommand, run: compareRules },
  { spec: predictCommand, run: predict },
  { spec: exportCommand, run: exportNetwork },
  { spec: runsCommand, run: runs },
  { spec: infoCommand, run: info },
];

async function main([name, ...args]: readonly string[]): Promise<void> {
  if (name === undefined || name === "--help" || name === "-h") return print(overview());
  const command = commands.find(({ spec }) => spec.name === name);
  if (command === undefined) {
    const names = commands.map(({ spec }) => spec.name);
    fail(
      new UsageError(`the command ${name}`, `one of ${names.join(", ")}${didYouMean(name, names)}`, "another word"),
    );
  }
  try {
    await command.run(args);
  } catch (fault) {
    const rules = rulesNamed(args);
    fail(fault, { options: command.spec.options.map((option) => option.name), ...(rules && { rules }) });
  }
  const unwritten = outputFault();
  if (unwritten === undefined) return;
  note(`error: ${unwritten}\n`);
  Deno.exit(1);
}

function overview(): string {
  const lines = commands.map(({ spec }) => `  deno task ${spec.name.padEnd(11)}${spec.description}`);
  return `leanprop trains neural networks on CPUs.\n\n${lines.join("\n")}\n\nEach takes --help.\n`;
}

function fail(fault: unknown, names?: FlagNames): never {
  const { message, code } = explain(fault, names);
  if (message !== "") note(`${message}\n`);
  Deno.exit(code);
}

if (import.meta.main) await main(Deno.args);
