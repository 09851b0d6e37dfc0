/**
 * `report.html` of a run: how it went, how good the network is, and everything needed to repeat it.
 *
 * @module
 */

import type { Table } from "../../data/table.ts";
import type { Network } from "../../network/network.ts";
import { writeWhole } from "../../run/files.ts";
import { figure, percent } from "../progress.ts";
import type { DoneEvent, RunEvent, RunRecord } from "../run_folder.ts";
import { drawConfusion, type NamedChart, standAlone } from "./charts.ts";
import { chartGrid, escape, facts, htmlTable, page, section } from "./page.ts";
import { probeCharts, runCharts } from "./run_charts.ts";
import { sampleHtml } from "./samples.ts";

/** Classes up to which the whole confusion matrix is drawn. */
const MATRIX = 40;

/** Confusions that are listed where it is not. */
const LISTED = 20;

/** What a report is made of. */
export interface ReportSource {
  /** Folder of the run. */
  readonly folder: string;
  /** Its record. */
  readonly record: RunRecord;
  /** All its events. */
  readonly events: readonly RunEvent[];
  /** The trained network. */
  readonly network: Network;
  /** Rows to judge it by, with what they are called: test rows, or else those that were watched. */
  readonly rows: { readonly name: string; readonly table: Table } | undefined;
  /** Whether charts are written as SVG files too. */
  readonly svg: boolean;
}

/**
 * Writes the report.
 *
 * @param source the run
 * @returns the path of the page
 * @throws {CheckpointError} where the folder cannot be written to
 */
export async function writeReport(source: ReportSource): Promise<string> {
  const { folder, record, events, network, rows, svg } = source;
  const epochs = events.filter((event) => event.event === "epoch");
  const done = events.find((event) => event.event === "done");
  const [curves, probes] = [await runCharts(epochs), await probeCharts(epochs)];
  const judged = rows && await judge(network, rows.table);
  const title = `${record.training.ruleName} on ${record.data.name}`;
  const html = page(
    title,
    [
      `<h1>${escape(title)}</h1>\n<p>${escape(summary(record, events, done))}</p>`,
      rows === undefined ? unjudged(folder) : "",
      section("Curves", chartGrid(curves.map(({ svg }) => svg))),
      section("Probes", chartGrid(probes.map(({ svg }) => svg))),
      rows === undefined ? "" : section(`Confusions on the ${rows.name} rows`, judged?.html ?? ""),
      rows === undefined ? "" : section(`Predictions on the ${rows.name} rows`, await sampleHtml(network, rows.table)),
      section("Network", `<div class="scroll"><pre>${escape(network.summary())}</pre></div>`),
      section("Configuration", facts(Object.entries(record.options))),
      section("Data", facts(Object.entries({ ...record.data, transform: undefined }))),
      section("Machine", facts(Object.entries(record.machine))),
    ].join("\n"),
  );
  const files: [string, string][] = [["report.html", html]];
  if (svg) {
    for (const { name, svg } of [...curves, ...probes, ...judged?.charts ?? []]) {
      files.push([`${name}.svg`, standAlone(svg)]);
    }
  }
  for (const [name, text] of files) await writeWhole(`${folder}/${name}`, [new TextEncoder().encode(text)]);
  return reportFile(folder);
}

/** Where the report of a run lies. */
export function reportFile(folder: string): string {
  return `${folder}/report.html`;
}

/** Whether there is a report with predictions. */
export async function hasPredictions(folder: string): Promise<boolean> {
  const html = await Deno.readTextFile(reportFile(folder)).catch(() => "");
  return html.includes("<h2>Predictions on the ");
}

function summary(
  { created, training, id }: RunRecord,
  events: readonly RunEvent[],
  done: DoneEvent | undefined,
): string {
  const last = events.findLast((event) => event.event === "epoch");
  return [
    `Begun ${created.slice(0, 16).replace("T", " ")} UTC`,
    `${Math.min(last?.epoch ?? 0, training.epochs)} of ${training.epochs} epochs in ${
      (last?.seconds ?? 0).toFixed(1)
    } s of training`,
    last === undefined ? "" : `training loss ${figure(last.trainLoss)}`,
    done?.bestEpoch === undefined ? "" : `the network of epoch ${done.bestEpoch}, the best, is kept`,
    done?.testLoss == null ? "" : `test loss ${figure(done.testLoss)}`,
    done?.testAccuracy == null ? "" : `test accuracy ${percent(done.testAccuracy, 2)}`,
    done?.testMeanAbsoluteError == null ? "" : `test mean absolute error ${figure(done.testMeanAbsoluteError)}`,
    done === undefined ? `not finished: ${events.at(-1)?.step ?? 0} steps so far` : "",
    `run ${id.slice(0, 8)}`,
  ].filter((part) => part !== "").join(", ");
}

/** What a page says that has no rows to judge the network by. */
function unjudged(folder: string): string {
  const command = `deno task runs report ${folder}`;
  return `<p>Confusions and predictions are not here; where the run's data has test or validation rows, <code>${
    escape(command)
  }</code> adds them</p>`;
}

/** Which classes were taken for which; nothing where there are no classes. */
async function judge(network: Network, table: Table): Promise<{ html: string; charts: NamedChart[] } | undefined> {
  const { targets } = table;
  if (targets.kind !== "labels") return undefined;
  const { confusion: counts = [] } = await network.evaluate(table, { confusion: true });
  const names = counts.map((_, label) => targets.names?.[label] ?? String(label));
  if (names.length <= MATRIX) {
    const svg = await drawConfusion({ title: "True and predicted classes", counts, names });
    return { html: chartGrid([svg]), charts: [{ name: "confusion", svg }] };
  }
  const pairs = counts.flatMap((row, truth) => row.map((count, found) => ({ truth, found, count })))
    .filter(({ truth, found, count }) => truth !== found && count > 0)
    .sort((a, b) => b.count - a.count).slice(0, LISTED);
  const lines = pairs.map(({ truth, found, count }) => [names[truth]!, names[found]!, String(count)]);
  return { html: htmlTable([["true", "predicted", "rows"], ...lines], 2), charts: [] };
}
