/**
 * The curves of a run.
 *
 * @module
 */

import { changes } from "../rounding.ts";
import type { EpochEvent } from "../run_folder.ts";
import { drawLines, type LineChart, type NamedChart, type Series } from "./charts.ts";

/** Most curves of one chart of probes. */
const MOST_SERIES = 8;

type Reader = (event: EpochEvent) => number | null;

/** Loss, accuracy, rate and throughput of a run. */
export async function runCharts(events: readonly EpochEvent[]): Promise<NamedChart[]> {
  const loss = { training: trainLoss, validation: ({ validationLoss }: EpochEvent) => validationLoss };
  const accuracy = {
    training: ({ trainAccuracy }: EpochEvent) => trainAccuracy,
    validation: ({ validationAccuracy }: EpochEvent) => validationAccuracy,
  };
  const over = [["epoch", ({ epoch }: EpochEvent) => epoch], [
    "seconds",
    ({ seconds }: EpochEvent) => seconds,
  ]] as const;
  const charts: (LineChart & { name: string })[] = [
    ...over.map(([x, at]) => ({
      name: `loss-over-${x}`,
      title: `Loss over ${x === "epoch" ? "epochs" : "time"}`,
      x,
      y: "loss",
      series: seriesOf(events, at, loss),
      log: true,
    })),
    ...over.map(([x, at]) => ({
      name: `accuracy-over-${x}`,
      title: `Accuracy over ${x === "epoch" ? "epochs" : "time"}`,
      x,
      y: "accuracy",
      series: seriesOf(events, at, accuracy),
    })),
    {
      name: "learning-rate",
      title: "Learning rate",
      x: "epoch",
      y: "rate",
      series: seriesOf(events, over[0][1], { rate: ({ learningRate }) => learningRate }),
    },
    {
      name: "throughput",
      title: "Throughput",
      x: "epoch",
      y: "steps per second",
      series: [{ name: "steps per second", points: throughput(events) }],
    },
  ];
  return await drawAll(charts);
}

/** The probes of a run: one chart for each figure, with one curve for each layer; what never changes is left out. */
export async function probeCharts(events: readonly EpochEvent[]): Promise<NamedChart[]> {
  const names = [...new Set(events.flatMap(({ probes = {} }) => Object.keys(probes)))];
  const groups = Map.groupBy(names, groupOf);
  const charts = [...groups].flatMap(([group, names]) => {
    const series = names.slice(0, MOST_SERIES).map((name): Series => ({
      name: layerOf(name, group),
      points: pointsOf(events, ({ epoch }) => epoch, ({ probes }) => probes?.[name] ?? null),
    }));
    const changing = series.some(({ points }) => changes(points.map(([, y]) => y)));
    const title = group.replace(/^probe\./, "");
    return changing
      ? [{ name: group.replaceAll(".", "-"), title: `Probe: ${title}`, x: "epoch", y: title, series }]
      : [];
  });
  return await drawAll(charts);
}

async function drawAll(charts: readonly (LineChart & { name: string })[]): Promise<NamedChart[]> {
  const some = charts.filter(({ series }) => series.some(({ points }) => points.length > 0));
  return await Promise.all(some.map(async (chart) => ({ name: chart.name, svg: await drawLines(chart) })));
}

/** `probe.cosine` of `probe.cosine.1.weight`, `probe.products.keptShare` of `probe.products.1.keptShare`. */
function groupOf(name: string): string {
  return /^probe\.(cosine|normRatio|squaredError|variance)\b/.exec(name)?.[0] ??
    name.replace(/^(probe\.\w+)\.\d+(\.(body|shortcut)\.\d+)*/, "$1");
}

/** What tells a probe from the others of its group. */
function layerOf(name: string, group: string): string {
  if (name === group) return "all";
  if (name.startsWith(`${group}.`)) return name.slice(group.length + 1);
  return /^probe\.\w+\.(\d+(?:\.(?:body|shortcut)\.\d+)*)/.exec(name)?.[1] ?? name;
}

function seriesOf(events: readonly EpochEvent[], at: Reader, readers: Readonly<Record<string, Reader>>): Series[] {
  return Object.entries(readers).map(([name, read]) => ({ name, points: pointsOf(events, at, read) }))
    .filter(({ points }) => points.length > 0);
}

function pointsOf(events: readonly EpochEvent[], at: Reader, read: Reader): [number, number][] {
  return events.flatMap((event) => {
    const [x, y] = [at(event), read(event)];
    return x === null || y === null ? [] : [[x, y] as [number, number]];
  });
}

/** Steps per second of each epoch. */
function throughput(events: readonly EpochEvent[]): [number, number][] {
  return events.flatMap(({ epoch, step, seconds }, index) => {
    const before = events[index - 1] ?? { step: 0, seconds: 0 };
    const time = seconds - before.seconds;
    return time > 0 ? [[epoch, (step - before.step) / time] as [number, number]] : [];
  });
}

function trainLoss({ trainLoss }: EpochEvent): number {
  return trainLoss;
}
