/**
 * What the two experiments of Mem-AOP-GD share: settings, published curves, tables and charts.
 *
 * @module
 */

import { backprop, memAop, type Rule } from "../../mod.ts";
import type { Chart, ReproduceOptions, ResultTable } from "./experiment.ts";
import { type Curve, distance } from "./statistics.ts";

/** A line of the paper's figures. */
export interface Setting {
  /** Name for tables. */
  readonly name: string;
  /** Policy, or `exact`. */
  readonly policy: "exact" | "topK" | "weightedK" | "randK";
  /** Whether with memory. */
  readonly memory: boolean;
  /** Rows kept. */
  readonly k: number;
  /** The rule. */
  readonly rule: Rule;
}

/** Exact gradients, and every policy with and without memory for every k. */
export function settings(ks: readonly number[], { batch, only }: { batch: number; only: string }): Setting[] {
  const list: Setting[] = [{ name: "exact", policy: "exact", memory: false, k: batch, rule: backprop() }];
  for (const k of ks) {
    for (const policy of ["topK", "weightedK", "randK"] as const) {
      for (const memory of [true, false]) {
        const name = `${policy}${memory ? " + memory" : ""}, k = ${k}`;
        list.push({ name, policy, memory, k, rule: memAop.paper({ k, policy, memory }) });
      }
    }
  }
  return list.filter(({ name }) => name.includes(only));
}

/** A setting as the file stores it: curves by measure, and among other numbers how many runs they are the mean of. */
type StoredSetting = Readonly<Record<string, number | string | Omit<Curve, "runs">>>;

/** Curves by measure, such as `loss` and `loss_val`. */
export type Curves = Readonly<Record<string, Curve>>;

/**
 * Reads the authors' stored curves: from the file that the options name, or from `reference/mem-aop-curves.json` beside the folder
 * that `LEANPROP_DATA` names. Nothing where there is none.
 *
 * @param set how the file's keys begin
 * @param options where to look
 * @returns the curves of a setting
 */
export async function publishedCurves(
  set: { readonly prefix: string; readonly batch: number },
  options: ReproduceOptions,
): Promise<(setting: Setting) => Curves | undefined> {
  const folder = Deno.env.get("LEANPROP_DATA");
  const path = options.reference ?? (folder ? `${folder}/../reference/mem-aop-curves.json` : undefined);
  const text = path === undefined ? undefined : await Deno.readTextFile(path).catch((fault) => {
    if (options.reference === undefined && fault instanceof Deno.errors.NotFound) return undefined;
    throw fault;
  });
  if (text === undefined) return () => undefined;
  const stored: Record<string, StoredSetting> = JSON.parse(text);
  return ({ policy, memory, k }) => {
    const words = policy === "exact" ? [] : [policy.toLowerCase(), ...(memory ? ["withMem"] : [])];
    const start = `${set.prefix}_${words.map((word) => `${word}_`).join("")}epochs`;
    const end = policy === "exact" ? `vectors${set.batch}` : `vectors${set.batch}_compression${k}_decay1.0`;
    const found = Object.entries(stored).find(([key]) => key.startsWith(start) && key.endsWith(end))?.[1];
    if (!found) return undefined;
    const curves = Object.entries(found).flatMap(([name, value]) =>
      typeof value === "object" ? [[name, value] as const] : []
    );
    const runs = Number(found["simulation_num"]);
    return Object.fromEntries(curves.map(([name, { mean, std }]) => [name, { mean, std, runs }]));
  };
}

/** Results of one setting. */
export interface SettingResult {
  /** The setting. */
  readonly setting: Setting;
  /** Our curves. */
  readonly found: Curves;
  /** The authors', where there are any. */
  readonly published: Curves | undefined;
}

/** What to show of a measure. */
export interface Column {
  /** The measure. */
  readonly measure: string;
  /** What tables call it. */
  readonly title: string;
  /** Epochs, from 1. */
  readonly epochs: readonly number[];
  /** Digits after the point. */
  readonly digits: number;
}

/** Ours ± standard error, the authors' mean where there is one, and the difference in combined standard errors. */
export function compareTable(
  title: string,
  { results, columns }: { readonly results: readonly SettingResult[]; readonly columns: readonly Column[] },
): { readonly table: ResultTable; readonly deviations: readonly string[] } {
  const deviations: string[] = [];
  const places = columns.flatMap((column) => column.epochs.map((epoch) => ({ column, epoch })));
  const rows = results.map(({ setting, found, published }) => [
    setting.name,
    ...places.map(({ column, epoch }) => {
      const [ours, theirs] = [found[column.measure]!, published?.[column.measure]];
      const error = ours.std[epoch - 1]! / Math.sqrt(ours.runs);
      const text = `${ours.mean[epoch - 1]!.toFixed(column.digits)} ± ${error.toFixed(column.digits)}`;
      if (!theirs) return text;
      const apart = distance(ours, theirs, epoch);
      const place = `${column.title} of ${setting.name} after ${epoch} epochs`;
      if (Math.abs(apart) > 3) deviations.push(`${place} is ${apart.toFixed(1)} combined standard errors off`);
      return `${text} (${theirs.mean[epoch - 1]!.toFixed(column.digits)}; ${apart >= 0 ? "+" : ""}${apart.toFixed(1)})`;
    }),
  ]);
  const head = ["setting", ...places.map(({ column, epoch }) => `${column.title} @ ${epoch}`)];
  return { table: { title, head, rows }, deviations };
}

/** Curves of one measure: a panel for each k, ours solid, the authors' dashed. */
export function curveChart(
  name: string,
  { results, measure, title, scale }: {
    readonly results: readonly SettingResult[];
    readonly measure: string;
    readonly title: string;
    readonly scale: "log" | "linear";
  },
): Chart {
  const exact = results.find(({ setting }) => setting.policy === "exact");
  const approximate = results.filter(({ setting }) => setting.policy !== "exact");
  const ks = [...new Set(approximate.map(({ setting }) => setting.k))];
  const lines = [
    ...(exact ? ks.map((k) => ({ k, ...exact })) : []),
    ...approximate.map((result) => ({ k: result.setting.k, ...result })),
  ];
  const values = lines.flatMap(({ k, setting, found, published }) => {
    const label = setting.policy === "exact" ? "exact" : `${setting.policy}${setting.memory ? " + memory" : ""}`;
    const points = (curve: Curve | undefined, source: string) =>
      curve?.mean.map((value, epoch) => ({ k, setting: label, source, epoch: epoch + 1, value })) ?? [];
    return [...points(found[measure], "leanprop"), ...points(published?.[measure], "authors")];
  });
  return {
    name,
    spec: {
      $schema: "https://vega.github.io/schema/vega-lite/v6.json",
      background: "white",
      data: { values },
      facet: { column: { field: "k", type: "ordinal", title: "k", sort: "descending" } },
      spec: {
        width: 280,
        height: 240,
        mark: { type: "line", strokeWidth: 1.3 },
        encoding: {
          x: { field: "epoch", type: "quantitative" },
          y: {
            field: "value",
            type: "quantitative",
            title,
            scale: scale === "log" ? { type: scale } : { zero: false },
          },
          color: { field: "setting", type: "nominal" },
          strokeDash: { field: "source", type: "nominal", sort: ["leanprop", "authors"] },
        },
      },
    },
  };
}

/** Runs `body` for every item, as many at once as there are cores. */
export async function concurrently<T, R>(items: readonly T[], body: (item: T) => Promise<R>): Promise<R[]> {
  const results: R[] = new Array(items.length);
  let next = 0;
  const work = async () => {
    while (next < items.length) {
      const at = next++;
      results[at] = await body(items[at]!);
    }
  };
  await Promise.all(Array.from({ length: navigator.hardwareConcurrency }, work));
  return results;
}
