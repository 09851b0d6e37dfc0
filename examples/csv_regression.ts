/**
 * Regression on a CSV file of one's own: `deno task example csv-regression`, or with the path of a file whose last column is to be
 * predicted. Without a path it writes prices of houses that follow a formula, and uses those.
 *
 * @module
 */

// deno-lint-ignore-file no-console

import { adam, dense, meanSquaredError, Network, readCsv, relu, train } from "../mod.ts";

/** A file with a column of words, one of numbers, and the price that follows from them. */
async function writeHouses(): Promise<string> {
  const path = await Deno.makeTempFile({ suffix: ".csv" });
  const rows = Array.from({ length: 400 }, (_, row) => {
    const [town, area] = [["Ulm", "Bonn", "Kiel"][row % 3]!, 40 + (row * 37) % 160];
    return `${town},${area},${area * (town === "Bonn" ? 5 : 3) + ((row * 17) % 20)}`;
  });
  await Deno.writeTextFile(path, `town,area,price\n${rows.join("\n")}\n`);
  return path;
}

const given = Deno.args.find((argument) => argument.endsWith(".csv"));
const path = given ?? await writeHouses();
const words = given ? [] : ["town"];
const data = await readCsv(path, {
  task: "regression",
  oneHot: words,
  shuffleSeed: 1,
  testFraction: 0.2,
  validationFraction: 0.1,
});
using network = Network.create({
  input: data.train.shape,
  layers: [dense(32), relu(), dense(32), relu(), dense(1)],
  loss: meanSquaredError(),
  seed: 1,
});
const options = { epochs: 300, batchSize: 32, optimizer: adam(1e-2), earlyStopping: { patience: 30 } };
for await (const p of train(network, data, options)) {
  if (p.done) console.log(`${p.epoch} epochs, validation loss ${p.validation!.loss.toFixed(1)}`);
}
const { meanAbsoluteError } = await network.evaluate(data.test!);
console.log(`on ${data.test!.rows} new rows the prediction is off by ${meanAbsoluteError!.toFixed(1)} on average`);
if (!given) await Deno.remove(path);
