/** Metrics against the same figures computed here from predictions. */

import { assertEquals } from "@std/assert";
import {
  binaryCrossEntropy,
  Dataset,
  dense,
  dropout,
  type Loss,
  meanSquaredError,
  Network,
  relu,
  softmaxCrossEntropy,
  type Table,
} from "../../mod.ts";
import { scramble, table } from "../helpers.ts";
import { assertClose, tolerance } from "../tolerance.ts";

// More than the 256 rows of a block, and not a multiple of them.
const ROWS = 700;
const OUTPUTS = 7;

async function setUp(loss: Loss): Promise<{ network: Network; rows: Table; predictions: number[][] }> {
  const network = Network.create({
    input: [5],
    layers: [dense(9), relu(), dropout(0.5), dense(OUTPUTS)],
    loss,
    precision: "f64",
  });
  scramble(network, 2);
  const rows = table(ROWS, {
    shape: [5],
    ...(loss.kind === "softmaxCrossEntropy" ? { classes: OUTPUTS } : { values: OUTPUTS }),
  });
  const flat = [...await network.predict(rows)];
  const predictions = Array.from({ length: ROWS }, (_, row) => flat.slice(row * OUTPUTS, (row + 1) * OUTPUTS));
  return { network, rows, predictions };
}

const close = (name: string, found: number, expected: number) =>
  assertClose({ name, limit: tolerance.formula.f64 }, [found], [expected]);

const mean = (values: number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;

for (const labelSmoothing of [0, 0.1]) {
  Deno.test(`evaluate() of classes: loss, accuracy, top-k, confusion; label smoothing ${labelSmoothing}`, async () => {
    const { network, rows, predictions } = await setUp(softmaxCrossEntropy({ labelSmoothing }));
    using _network = network;
    const labels = rows.targets.values;
    for (const row of predictions) close("a sum of probabilities", row.reduce((sum, p) => sum + p), 1);
    const losses = predictions.map((row, index) => {
      const spread = labelSmoothing * mean(row.map((p) => -Math.log(p)));
      return (1 - labelSmoothing) * -Math.log(row[labels[index]!]!) + spread;
    });
    const ranks = predictions.map((row, index) => row.filter((p) => p > row[labels[index]!]!).length);
    const found = await network.evaluate(rows, { topK: 2, confusion: true });
    assertEquals(found.rows, ROWS);
    close("loss", found.loss, mean(losses));
    assertEquals(found.accuracy, ranks.filter((rank) => rank === 0).length / ROWS);
    assertEquals(found.topAccuracy, ranks.filter((rank) => rank < 2).length / ROWS);
    const confusion = Array.from({ length: OUTPUTS }, () => Array(OUTPUTS).fill(0) as number[]);
    predictions.forEach((row, index) => confusion[labels[index]!]![row.indexOf(Math.max(...row))]!++);
    assertEquals(found.confusion, confusion);
    assertEquals("meanAbsoluteError" in found, false);
    // All classes are among the first seven, and among the first hundred.
    for (const topK of [OUTPUTS, 100]) assertEquals((await network.evaluate(rows, { topK })).topAccuracy, 1);
  });
}

Deno.test("evaluate() of values: squared error and mean absolute error", async () => {
  const { network, rows, predictions } = await setUp(meanSquaredError());
  using _network = network;
  const differences = predictions.flat().map((y, index) => y - rows.targets.values[index]!);
  const found = await network.evaluate(rows, { confusion: true });
  close("loss", found.loss, mean(differences.map((d) => d * d)));
  close("mean absolute error", found.meanAbsoluteError!, mean(differences.map(Math.abs)));
  assertEquals(Object.keys(found).sort(), ["loss", "meanAbsoluteError", "rows"]);
});

for (const labelSmoothing of [0, 0.2]) {
  Deno.test(`evaluate() of yes-or-no answers; label smoothing ${labelSmoothing}`, async () => {
    const { network, rows, predictions } = await setUp(binaryCrossEntropy({ labelSmoothing }));
    using _network = network;
    const losses = predictions.flat().map((p, index) => {
      const target = rows.targets.values[index]! * (1 - labelSmoothing) + labelSmoothing / 2;
      return -target * Math.log(p) - (1 - target) * Math.log(1 - p);
    });
    const found = await network.evaluate(rows);
    close("loss", found.loss, mean(losses));
    const differences = predictions.flat().map((p, index) => Math.abs(p - rows.targets.values[index]!));
    close("mean absolute error", found.meanAbsoluteError!, mean(differences));
  });
}

Deno.test("evaluate() of a table and of the same rows in the engine is the same", async () => {
  const { network, rows } = await setUp(softmaxCrossEntropy());
  using _network = network;
  using data = await Dataset.create(rows);
  assertEquals(await network.evaluate(data), await network.evaluate(rows));
});
