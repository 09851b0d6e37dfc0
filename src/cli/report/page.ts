/**
 * Pages that are one file: no script, nothing from elsewhere, light or dark as the reader's system is.
 *
 * @module
 */

import { palette } from "./charts.ts";

/** Colours of series on a dark page. */
const DARK = ["#56b4e9", "#ff9f5a", "#3ddbb0", "#e6a5c8", "#f5c242", "#8fd0ff", "#c9a86a", "#b0b0b0"];

const variables = (colours: readonly string[]) =>
  colours.map((colour, index) => `--series-${index}: ${colour};`).join(" ");

const STYLE = `
:root { color-scheme: light dark; --ink: #1c1c1e; --paper: #ffffff; --faint: #dcdce0; --soft: #f4f4f6; ${
  variables(palette)
} }
@media (prefers-color-scheme: dark) {
  :root { --ink: #ececf0; --paper: #17181b; --faint: #3a3b40; --soft: #202126; ${variables(DARK)} }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1000px; padding: 24px; font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); }
h1 { font-size: 24px; margin: 0 0 4px; } h2 { font-size: 17px; margin: 36px 0 8px; }
p { margin: 4px 0; } .notes li { margin: 4px 0; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(400px, 1fr)); gap: 20px; }
.charts > div { background: var(--soft); border-radius: 8px; padding: 12px; overflow-x: auto; }
svg { max-width: 100%; height: auto; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: 4px 14px 4px 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--faint); }
td.number, th.number { text-align: right; }
details { margin: 8px 0; } summary { cursor: pointer; } pre { white-space: pre-wrap; overflow-wrap: anywhere; }
.samples { display: grid; grid-template-columns: repeat(auto-fill, minmax(96px, 1fr)); gap: 12px; }
.samples figure { margin: 0; } .samples img { width: 96px; height: 96px; image-rendering: pixelated; border-radius: 4px; background: var(--soft); }
.samples figcaption { font-size: 12px; line-height: 1.35; } .wrong { color: var(--series-1); }
`;

/**
 * A page.
 *
 * @param title its name, in plain text
 * @param body its contents, in HTML
 * @returns the file
 */
export function page(title: string, body: string): string {
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escape(title)}</title>
<style>${STYLE}</style>
</head>
<body>
${body}
</body>
</html>
`;
}

/** Text as HTML. */
export function escape(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&quot;");
}

/** A heading with what belongs under it; nothing where there is nothing. */
export function section(title: string, body: string): string {
  return body === "" ? "" : `<h2>${escape(title)}</h2>\n${body}\n`;
}

/** Charts beside each other. */
export function chartGrid(charts: readonly string[]): string {
  if (charts.length === 0) return "";
  return `<div class="charts">\n${charts.map((svg) => `<div>${svg}</div>`).join("\n")}\n</div>`;
}

/** A table; the first row names the columns, and columns after the first `texts` ones hold numbers. */
export function htmlTable(rows: readonly (readonly string[])[], texts: number): string {
  const line = (cells: readonly string[], tag: "th" | "td") =>
    cells.map((cell, index) => `<${tag}${index < texts ? "" : ' class="number"'}>${escape(cell)}</${tag}>`).join("");
  const [head = [], ...body] = rows;
  const lines = body.map((cells) => `<tr>${line(cells, "td")}</tr>`).join("\n");
  return `<div class="scroll"><table>\n<tr>${line(head, "th")}</tr>\n${lines}\n</table></div>`;
}

/** Names with their values. */
export function facts(entries: readonly (readonly [string, unknown])[]): string {
  const text = (value: unknown) => typeof value === "string" ? value : JSON.stringify(value);
  const lines = entries.filter(([, value]) => value !== undefined && value !== null)
    .map(([name, value]) => `<tr><th>${escape(name)}</th><td>${escape(text(value))}</td></tr>`);
  return `<div class="scroll"><table>\n${lines.join("\n")}\n</table></div>`;
}
