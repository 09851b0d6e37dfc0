/**
 * A curve in one line of text.
 *
 * @module
 */

const HEIGHTS = "▁▂▃▄▅▆▇█";

/**
 * A curve in one line of text, from its smallest to its largest value.
 *
 * @param values the curve; where there are more than `width`, each character stands for the mean of its share
 * @param width most characters
 * @returns the characters; a value that is not finite is a space
 */
export function sparkline(values: readonly number[], width: number = 40): string {
  const columns = Math.min(width, values.length);
  const means = Array.from({ length: columns }, (_, column) => {
    const from = Math.floor(column * values.length / columns);
    const part = values.slice(from, Math.floor((column + 1) * values.length / columns));
    return part.reduce((sum, value) => sum + value, 0) / part.length;
  });
  const finite = means.filter(Number.isFinite);
  const [low, high] = [Math.min(...finite), Math.max(...finite)];
  return means.map((mean) => {
    if (!Number.isFinite(mean)) return " ";
    const share = high > low ? (mean - low) / (high - low) : 0;
    return HEIGHTS[Math.round(share * (HEIGHTS.length - 1))]!;
  }).join("");
}
