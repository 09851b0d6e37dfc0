/**
 * A network as a table in text.
 *
 * @module
 */

import type { NetworkDescription } from "./network.ts";

/** Layers with shapes, parameters and multiply-adds, one a line. */
export function summarize(network: NetworkDescription): string {
  const rows = network.layers.map((layer) => [
    layer.name,
    layer.kind,
    layer.shape.join("×"),
    layer.parameters.toLocaleString("en"),
    layer.multiplyAdds.toLocaleString("en"),
  ]);
  const sum = (key: "parameters" | "multiplyAdds") =>
    network.layers.reduce((total, layer) => total + layer[key], 0).toLocaleString("en");
  const table = [
    ["", "layer", "output", "parameters", "multiply-adds"],
    ["", "input", network.input.join("×"), "", ""],
    ...rows,
    ["", "total", "", sum("parameters"), sum("multiplyAdds")],
  ];
  const widths = table[0]!.map((_, column) => Math.max(...table.map((row) => row[column]!.length)));
  const line = (row: string[]) =>
    row.map((cell, column) => column < 3 ? cell.padEnd(widths[column]!) : cell.padStart(widths[column]!)).join("  ")
      .trimEnd();
  return table.map(line).join("\n");
}
