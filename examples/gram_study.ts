/**
 * A study on few rows and many columns: five folds × five seeds, the products of the rows computed once for all 25 runs.
 *
 * `deno task build`, then `deno run --allow-ffi --allow-read --allow-env examples/gram_study.ts`
 *
 * @module
 */

// deno-lint-ignore-file no-console

import {
  backprop,
  Dataset,
  dense,
  frontContribution,
  Gram,
  Network,
  relu,
  type Rule,
  sgd,
  spectra,
  train,
} from "../mod.ts";

const FOLDS = 5;
const SEEDS = 5;
const EPOCHS = 30;

const table = spectra().train;
using data = await Dataset.create(table);
const rows = Array.from({ length: data.rows }, (_, row) => row);

/** Trains one network for each fold and seed; gives the accuracies on the rows that were left out, and the seconds. */
async function study(rule: Rule): Promise<{ accuracies: number[]; seconds: number }> {
  const accuracies: number[] = [];
  const start = performance.now();
  for (let fold = 0; fold < FOLDS; fold++) {
    // Neighbouring rows are of different classes, and a fold takes every fifth.
    const inFold = (row: number) => Math.floor(row / 4) % FOLDS === fold;
    using training = data.select(rows.filter((row) => !inFold(row)));
    using held = data.select(rows.filter(inFold));
    for (let seed = 0; seed < SEEDS; seed++) {
      using network = Network.create({
        input: table.shape,
        layers: [dense(64), relu(), dense(32), relu(), dense(4)],
        seed,
      });
      const options = { rule, optimizer: sgd(0.05, { momentum: 0.9 }), epochs: EPOCHS, batchSize: 32, seed };
      for await (const _ of train(network, training, options));
      accuracies.push((await network.evaluate(held)).accuracy ?? NaN);
    }
  }
  return { accuracies, seconds: (performance.now() - start) / 1000 };
}

const mean = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;

// The library starts its threads at its first use, which is no part of either study.
await study(frontContribution());

using gram = await Gram.create(data);
const shared = await study(frontContribution({ gram }));
const plain = await study(backprop());
const total = shared.seconds + gram.seconds;
console.log(`${FOLDS} folds × ${SEEDS} seeds on ${data.rows} rows of ${table.shape} columns, ${EPOCHS} epochs each`);
console.log(`products of rows  ${gram.seconds.toFixed(3)} s, ${(gram.bytes / 1024).toFixed(0)} KiB, once for all runs`);
console.log(
  `front             ${total.toFixed(3)} s with them, accuracy ${(100 * mean(shared.accuracies)).toFixed(2)} %`,
);
console.log(`back-propagation  ${plain.seconds.toFixed(3)} s, accuracy ${(100 * mean(plain.accuracies)).toFixed(2)} %`);
console.log(`saving            ${(plain.seconds / total).toFixed(1)} times as fast`);
