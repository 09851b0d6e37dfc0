/**
 * What a comparison leaves behind: its folder, and the files in it.
 *
 * @module
 */

import { dirname, resolve } from "node:path";
import type { StoppedComparison } from "../../run/comparison.ts";
import { writeWhole } from "../../run/files.ts";
import { explain, Interruption } from "../errors.ts";
import { standAlone } from "../report/charts.ts";
import type { Machine } from "../machine.ts";
import { createRunFolder } from "../run_folder.ts";
import { note, print } from "../terminal.ts";
import { comparisonCharts, comparisonPage } from "./html.ts";
import type { CompareValues } from "./options.ts";
import { comparisonCsv, comparisonText } from "./text.ts";

/** Of the time between two writings of unfinished results, the share that a writing may take. */
const WRITING_SHARE = 0.01;

/** The results of a comparison in their folder, which is made beforehand. */
export class Results {
  /** Where they are. */
  readonly folder: string;
  readonly #made: readonly string[];
  readonly #values: CompareValues;
  readonly #about: ResultsSource["about"];
  #notBefore = -Infinity;

  private constructor(folder: string, made: readonly string[], from: Pick<ResultsSource, "values" | "about">) {
    this.folder = folder;
    this.#made = made;
    this.#values = from.values;
    this.#about = from.about;
  }

  /** Makes the folder, with those above it. */
  static async create({ data, values, about }: ResultsSource): Promise<Results> {
    const { out } = values;
    const missing: string[] = [];
    for (let at = resolve(out ?? "runs"); !await Deno.lstat(at).catch(() => undefined); at = dirname(at)) {
      missing.push(at);
    }
    const folder = await createRunFolder(out, { data, rule: "compare" });
    return new Results(folder, out === undefined ? [folder, ...missing] : missing, { values, about });
  }

  /** What the folder holds, for who does not wait for the end. */
  words(): string {
    const names = [...Deno.readDirSync(this.folder)].map(({ name }) => name).sort();
    return names.length === 0 ? "no results are written" : `${this.folder} keeps ${names.join(", ")}`;
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

  /**
   * Writes what has been measured so far, so that a process that is killed loses one seed and not all. Where seeds are over faster
   * than that is worth, some are left out.
   */
  async keep(comparison: StoppedComparison): Promise<void> {
    if (performance.now() < this.#notBefore) return;
    const start = performance.now();
    await this.#write([["compare.json", pretty(this.#whole(comparison))]]);
    const end = performance.now();
    this.#notBefore = end + (end - start) / WRITING_SHARE;
  }

  /** Prints what has been measured and then writes it, since the disk may be full after hours of work; gives where it is. */
  async tell(comparison: StoppedComparison): Promise<string> {
    const whole = this.#whole(comparison);
    if (this.#values.json) print(`${JSON.stringify(whole)}\n`);
    else if (comparison.seeds.length > 0) print(comparisonText(comparison));
    const charts = await comparisonCharts(comparison);
    await this.#write([
      ["compare.json", pretty(whole)],
      ["compare.csv", comparisonCsv(comparison)],
      ["compare.html", comparisonPage(whole, charts)],
      ...(this.#values.svg ? charts.map(({ name, svg }): [string, string] => [`${name}.svg`, standAlone(svg)]) : []),
    ]);
    return `Results  ${this.folder}/compare.html, compare.json, compare.csv\n` +
      `Repeat   deno task compare --config ${this.folder}/compare.json\n`;
  }

  /** Tells what has been measured of a comparison that ends before its time; gives what to leave with. */
  async tellStopped(comparison: StoppedComparison, fault: unknown): Promise<unknown> {
    try {
      const files = await this.tell(comparison);
      const message = `${comparison.stopped!.words}\n${files.trimEnd()}`;
      if (fault instanceof Interruption) return new Interruption(fault.exitCode, `${fault.message}\n${message}`);
      note(`${message}\n`);
    } catch (cause) {
      // What cannot be written does not stand in the place of what ended the comparison.
      note(`${explain(cause).message}\n`);
    }
    return fault;
  }

  #whole(comparison: StoppedComparison): ResultsSource["about"] & StoppedComparison & { readonly complete: boolean } {
    return { complete: comparison.stopped === undefined, ...comparison, ...this.#about };
  }

  async #write(files: readonly (readonly [name: string, text: string])[]): Promise<void> {
    for (const [name, text] of files) await writeWhole(`${this.folder}/${name}`, [new TextEncoder().encode(text)]);
  }
}

/** What results are made of. */
interface ResultsSource {
  /** Name of the data set. */
  readonly data: string;
  /** Options of the command. */
  readonly values: CompareValues;
  /** What stands beside them in the files. */
  readonly about: {
    /** Options with the defaults that were filled in; `--config` takes them from the file. */
    readonly options: object;
    /** SHA-256 over the data set, as a run's record has it. */
    readonly dataHash: string;
    /** What it runs on. */
    readonly machine: Machine;
  };
}

function pretty(whole: object): string {
  return `${JSON.stringify(whole, undefined, 2)}\n`;
}
