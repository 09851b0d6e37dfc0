/**
 * The command `compare`: rules side by side; a table and sentences on the terminal, files in a folder.
 *
 * @module
 */

import { dirname, resolve } from "node:path";
import { EngineError } from "../../errors.ts";
import { native } from "../../ffi/native.ts";
import { ruleByName, rules } from "../../rules/mod.ts";
import { compare } from "../../run/compare.ts";
import type { CompareEntry } from "../../run/compare_plan.ts";
import type { StoppedComparison } from "../../run/comparison.ts";
import { writeWhole } from "../../run/files.ts";
import { loadFrom, splitValidation } from "../data.ts";
import { explain, Interruption, UsageError } from "../errors.ts";
import { Interrupt } from "../interrupt.ts";
import { describeSystem } from "../machine.ts";
import { helpText, parseOptions } from "../options.ts";
import { chooseOptimizer, makePlan, readModel, ruleOptions } from "../plan.ts";
import { ProgressView } from "../progress.ts";
import { standAlone } from "../report/charts.ts";
import { createRunFolder } from "../run_folder.ts";
import { note, print } from "../terminal.ts";
import { comparisonCharts, comparisonPage } from "./html.ts";
import { compareCommand, type CompareValues, defaultRules } from "./options.ts";
import { comparisonCsv, comparisonText } from "./text.ts";

/**
 * Runs the command.
 *
 * @param args its arguments
 */
export async function compareRules(args: readonly string[]): Promise<void> {
  const parsed = parseOptions(compareCommand, args);
  if (parsed.help) return print(helpText(compareCommand));
  const values = parsed.values as CompareValues;
  if (values["validation-split"] === 0) {
    throw new UsageError(
      "--validation-split",
      "a number above 0, since validation rows are what rules are judged by",
      "0",
    );
  }
  // A library that cannot be used is reported before data is loaded for it.
  native();
  const view = new ProgressView(values.quiet ?? false);
  const names = values.rules ?? defaultRules;
  const options = ruleOptions(parsed.dotted, names);
  const entries = names.map((name) => entryOf(name, { values, options }));
  const model = await readModel(values.model);
  view.status(`loading ${values.data ?? "glyphs"}`);
  using interrupt = new Interrupt();
  const { signal } = interrupt;
  const { data } = splitValidation(await loadFrom(values, { signal, ...(values.json ? {} : view.loading) }), values);
  const plan = makePlan({ values, dotted: {}, model }, data.train);
  const { seed: _, ...network } = plan.network;
  const { rule: _rule, seed: _seed, ...training } = plan.training;
  // A folder that cannot be had is told of before hours of work, not after them.
  const place = await ResultsFolder.create(values.out, data.name);
  interrupt.atOnce = () => {
    const words = place.words();
    place.remove();
    return words;
  };
  const kept: { comparison?: StoppedComparison } = {};
  try {
    const comparison = await compare({
      ...training,
      network,
      data,
      rules: entries,
      signal,
      ...(values.seeds && { seeds: values.seeds }),
      ...(values["learning-rates"] && { learningRates: values["learning-rates"] }),
      ...(values.reach !== undefined && { reach: values.reach }),
      onProgress: ({ phase, name, learningRate, seed, epoch, epochs }) => {
        const what = phase === "rates" ? `trying learning rate ${learningRate.toPrecision(3)}` : `seed ${seed}`;
        view.status(`${name}  ${what}  epoch ${epoch}/${epochs}`);
      },
      onStop: (comparison) => kept.comparison = comparison,
    });
    view.clear();
    const files = await tell(comparison, { values, folder: place.path });
    if (!values.json) print(`\n${files}`);
    if (comparison.rules.every(({ runs }) => runs.every(({ diverged }) => diverged))) throw nothingLearnt(comparison);
  } catch (fault) {
    view.clear();
    const ending = kept.comparison && await keepResults(kept.comparison, { values, folder: place.path, fault });
    place.remove();
    throw ending ?? fault;
  } finally {
    view.clear();
  }
}

/** What a script has to hear of a comparison without anything to compare. */
function nothingLearnt({ seeds }: StoppedComparison): EngineError {
  const counted = seeds.length === 1 ? "the one seed" : `all ${seeds.length} seeds`;
  return new EngineError(
    "not-finite",
    `Cannot compare: every rule diverged with ${counted}; try smaller learning rates`,
  );
}

/** Writes what has been measured of a comparison that ends before its time; gives what to leave with. */
async function keepResults(
  comparison: StoppedComparison,
  { values, folder, fault }: { readonly values: CompareValues; readonly folder: string; readonly fault: unknown },
): Promise<unknown> {
  try {
    const files = await tell(comparison, { values, folder });
    const message = `${comparison.stopped!.words}\n${files.trimEnd()}`;
    if (fault instanceof Interruption) return new Interruption(fault.exitCode, `${fault.message}\n${message}`);
    note(`${message}\n`);
  } catch (cause) {
    // What cannot be written does not stand in the place of what ended the comparison.
    note(`${explain(cause).message}\n`);
  }
  return fault;
}

/** The folder of the results, made beforehand. */
class ResultsFolder {
  /** Where it is. */
  readonly path: string;
  readonly #made: readonly string[];

  private constructor(path: string, made: readonly string[]) {
    this.path = path;
    this.#made = made;
  }

  /** Makes it, with the folders above it. */
  static async create(out: string | undefined, data: string): Promise<ResultsFolder> {
    const missing: string[] = [];
    for (let at = resolve(out ?? "runs"); !await Deno.lstat(at).catch(() => undefined); at = dirname(at)) {
      missing.push(at);
    }
    const path = await createRunFolder(out, { data, rule: "compare" });
    return new ResultsFolder(path, out === undefined ? [path, ...missing] : missing);
  }

  /** What it holds, for who does not wait for the end. */
  words(): string {
    const names = [...Deno.readDirSync(this.path)].map(({ name }) => name).sort();
    return names.length === 0 ? "no results are written" : `${this.path} keeps ${names.join(", ")}`;
  }

  /** Takes back what was made and is still empty: what others have put there stays. */
  remove(): void {
    for (const folder of this.#made) {
      try {
        Deno.removeSync(folder);
      } catch {
        // It is not empty.
      }
    }
  }
}

/** A rule by name, with the options that are meant for it, and with its own optimizer where nothing is said. */
function entryOf(
  name: string,
  { values, options }: { readonly values: CompareValues; readonly options: ReturnType<typeof ruleOptions> },
): CompareEntry {
  const parts = name.split("+");
  const own = Object.entries(options).filter(([rule]) => parts.includes(rule));
  const rule = ruleByName(name, Object.fromEntries(own));
  const preferred = rules.find((entry) => parts.includes(entry.name) && entry.defaults?.optimizer)?.defaults?.optimizer;
  const optimizer = values.optimizer ?? preferred;
  return { name, rule, optimizer: chooseOptimizer({ ...values, ...(optimizer !== undefined && { optimizer }) }) };
}

/** Prints what has been measured and then writes it, since the disk may be full after hours of work; gives where it is. */
async function tell(
  comparison: StoppedComparison,
  { values, folder }: { readonly values: CompareValues; readonly folder: string },
): Promise<string> {
  const whole = { ...comparison, options: values, machine: describeSystem() };
  if (values.json) print(`${JSON.stringify(whole)}\n`);
  else if (comparison.seeds.length > 0) print(comparisonText(comparison));
  const charts = await comparisonCharts(comparison);
  const files: [string, string][] = [
    ["compare.json", `${JSON.stringify(whole, undefined, 2)}\n`],
    ["compare.csv", comparisonCsv(comparison)],
    ["compare.html", comparisonPage(whole, charts)],
    ...(values.svg ? charts.map(({ name, svg }): [string, string] => [`${name}.svg`, standAlone(svg)]) : []),
  ];
  for (const [name, text] of files) await writeWhole(`${folder}/${name}`, [new TextEncoder().encode(text)]);
  return `Results  ${folder}/compare.html, compare.json, compare.csv\n`;
}
