/**
 * Charts as SVG. The plotting library (Vega-Lite) is loaded here and nowhere else in the command line, and only when a chart is
 * drawn.
 *
 * Colours are variables of CSS with a fallback, so that one drawing suits a light and a dark page.
 *
 * @module
 */

/** A curve. */
export interface Series {
  /** Its name in the legend. */
  readonly name: string;
  /** Its points. */
  readonly points: readonly (readonly [x: number, y: number])[];
}

/** Curves over one axis. */
export interface LineChart {
  /** What stands above. */
  readonly title: string;
  /** Name of the horizontal axis. */
  readonly x: string;
  /** Name of the vertical axis. */
  readonly y: string;
  /** The curves. */
  readonly series: readonly Series[];
  /** Whether each power of ten takes the same height; only where all values are above 0. */
  readonly log?: boolean;
}

/** Counts of true and predicted classes. */
export interface ConfusionChart {
  /** What stands above. */
  readonly title: string;
  /** Rows: true class; columns: predicted class. */
  readonly counts: readonly (readonly number[])[];
  /** Names of the classes. */
  readonly names: readonly string[];
}

/** A chart with the name of its file. */
export interface NamedChart {
  /** Name without an ending. */
  readonly name: string;
  /** The drawing. */
  readonly svg: string;
}

/** Fallbacks of the colours of series: Okabe and Ito's, which the colour-blind can tell apart. */
export const palette: readonly string[] = [
  "#0072b2",
  "#d55e00",
  "#009e73",
  "#cc79a7",
  "#e69f00",
  "#56b4e9",
  "#8c6d31",
  "#7f7f7f",
];

const INK = "var(--ink, #222222)";
const FAINT = "var(--faint, #d0d0d0)";

/** Fewer points than this are marked. */
const FEW = 40;

/** Classes up to which counts stand in their cells. */
const READABLE = 20;

const config = {
  background: null,
  font: "system-ui, sans-serif",
  view: { stroke: null },
  title: { color: INK, anchor: "start", fontSize: 14, fontWeight: 600, offset: 10 },
  axis: {
    labelColor: INK,
    titleColor: INK,
    titleFontWeight: 400,
    gridColor: FAINT,
    domainColor: FAINT,
    tickColor: FAINT,
  },
  legend: { labelColor: INK, title: null, orient: "bottom", labelLimit: 0, symbolStrokeWidth: 3 },
};

/** Most points of a curve: more of them than pixels only make the file larger. */
const MOST_POINTS = 500;

/** Width of a chart of curves. */
const LINES_WIDTH = 380;

/** Draws curves. */
export async function drawLines({ title, x, y, series, log = false }: LineChart): Promise<string> {
  const drawn = series.map(({ name, points }) => ({
    name,
    points: thin(points.filter((point) => point.every(Number.isFinite))),
  }));
  const values = drawn.flatMap(({ name, points }) => points.map(([x, y]) => ({ x, y, name })));
  const few = drawn.every(({ points }) => points.length < FEW);
  const logs = log && values.every(({ y }) => y > 0);
  return await draw({
    title,
    width: LINES_WIDTH,
    height: 220,
    data: { values },
    mark: { type: "line", strokeWidth: 2, point: few ? { size: 24 } : false },
    encoding: {
      x: {
        field: "x",
        type: "quantitative",
        title: x,
        axis: { grid: false, tickCount: 6, ...(x === "epoch" && { tickMinStep: 1 }) },
        scale: { zero: false, nice: false },
      },
      y: {
        field: "y",
        type: "quantitative",
        title: y,
        axis: { tickCount: 5 },
        scale: logs ? { type: "log", nice: false } : { zero: false },
      },
      color: {
        field: "name",
        type: "nominal",
        scale: { domain: drawn.map(({ name }) => name), range: drawn.map((_, index) => colour(index)) },
        legend: drawn.length > 1 ? { columns: legendColumns(drawn) } : null,
      },
    },
  });
}

/** Draws how often each class was taken for each other; the darker, the larger the share of its row. */
export async function drawConfusion({ title, counts, names }: ConfusionChart): Promise<string> {
  const values = counts.flatMap((row, truth) => {
    const total = row.reduce((sum, count) => sum + count, 0);
    return row.map((count, predicted) => ({
      truth: names[truth],
      predicted: names[predicted],
      count,
      share: total === 0 ? 0 : count / total,
      light: count > total / 2,
    }));
  });
  const size = Math.max(8, Math.min(34, 420 / names.length));
  const encoding = {
    x: {
      field: "predicted",
      type: "nominal",
      sort: names,
      title: "predicted",
      axis: { labelAngle: names.length > 12 ? -90 : 0 },
    },
    y: { field: "truth", type: "nominal", sort: names, title: "true" },
  };
  const cells = {
    mark: { type: "rect", fill: colour(0), cornerRadius: 2 },
    encoding: {
      fillOpacity: { field: "share", type: "quantitative", scale: { domain: [0, 1], range: [0.04, 1] }, legend: null },
    },
  };
  const texts = {
    transform: [{ filter: "datum.count > 0" }],
    mark: { type: "text", fontSize: 10 },
    encoding: {
      text: { field: "count" },
      color: { condition: { test: "datum.light", value: "#ffffff" }, value: INK },
    },
  };
  return await draw({
    title,
    width: size * names.length,
    height: size * names.length,
    data: { values },
    encoding,
    layer: names.length > READABLE ? [cells] : [cells, texts],
  });
}

/** A drawing for files that stand alone: the fallbacks take the place of variables, which few programs know. */
export function standAlone(svg: string): string {
  return svg.replace(/var\(--[\w-]+, (#[0-9a-f]{6})\)/g, "$1");
}

/** As many columns of whole names as stand below a chart; letters are at most 7 wide, and a line and gaps take 30. */
function legendColumns(series: readonly Pick<Series, "name">[]): number {
  const longest = Math.max(...series.map(({ name }) => name.length));
  return Math.max(1, Math.min(4, Math.floor(LINES_WIDTH / (7 * longest + 30))));
}

/** Points at even distances, the last one among them. */
function thin<T>(points: readonly T[]): readonly T[] {
  const stride = Math.ceil(points.length / MOST_POINTS);
  return points.filter((_, index) => (points.length - 1 - index) % stride === 0);
}

function colour(index: number): string {
  const place = index % palette.length;
  return `var(--series-${place}, ${palette[place]})`;
}

async function draw(spec: Record<string, unknown>): Promise<string> {
  const [vega, lite] = await Promise.all([import("vega"), import("vega-lite")]);
  const compiled = lite.compile({ ...spec, config } as unknown as Parameters<typeof lite.compile>[0]);
  const view = new vega.View(vega.parse(compiled.spec), { renderer: "none" });
  try {
    return await view.toSVG();
  } finally {
    view.finalize();
  }
}
