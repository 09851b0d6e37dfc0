/**
 * Charts as SVG. The plotting library is loaded here and nowhere else, and only when a chart is drawn.
 *
 * @module
 */

import type { Chart } from "./experiment.ts";

/** Draws a chart. */
export async function toSvg(chart: Chart): Promise<string> {
  const [vega, lite] = await Promise.all([import("vega"), import("vega-lite")]);
  const compiled = lite.compile(chart.spec as unknown as Parameters<typeof lite.compile>[0]);
  const view = new vega.View(vega.parse(compiled.spec), { renderer: "none" });
  try {
    return await view.toSVG();
  } finally {
    view.finalize();
  }
}
