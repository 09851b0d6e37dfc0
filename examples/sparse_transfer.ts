/**
 * Transfer from a pruned network: train on digits 0 to 4, prune to 90 % zeros, give it a new head for 5 to 9, and train that on few
 * examples while the mask stays as it is. Beside it: the same few examples without what was learnt before.
 *
 * `deno task example sparse-transfer`
 *
 * @module
 */

// deno-lint-ignore-file no-console

import { adam, dense, flatten, glyphs, Network, relu, sparse, type Table, train } from "../mod.ts";

const BODY = [flatten(), dense(256), relu(), dense(256), relu()];
const SPARSITY = 0.9;

/** The rows of some classes, which become 0 and up; at most `most` of them. */
function only(table: Table, classes: readonly number[], most = Infinity): Table {
  if (table.targets.kind !== "labels") throw new Error("expected labels");
  const { values } = table.targets;
  const size = table.features.length / table.rows;
  const rows = [...values.keys()].filter((row) => classes.includes(values[row]!)).slice(0, most);
  const features = new Uint8Array(rows.length * size);
  rows.forEach((row, at) => features.set(table.features.subarray(row * size, (row + 1) * size), at * size));
  const labels = Uint32Array.from(rows, (row) => classes.indexOf(values[row]!));
  return {
    ...table,
    rows: rows.length,
    features,
    targets: { kind: "labels", classes: classes.length, values: labels },
  };
}

/** Trains and gives the accuracy on the test rows. */
async function fit(network: Network, data: { train: Table; test: Table }, epochs: number): Promise<number> {
  const options = { epochs, optimizer: adam(1e-3), batchSize: 64, seed: 1 };
  for await (const _ of train(network, data.train, options));
  return (await network.evaluate(data.test)).accuracy!;
}

const digits = glyphs();
const old = { train: only(digits.train, [0, 1, 2, 3, 4]), test: only(digits.test!, [0, 1, 2, 3, 4]) };
const young = { train: only(digits.train, [5, 6, 7, 8, 9], 300), test: only(digits.test!, [5, 6, 7, 8, 9]) };
const percent = (share: number) => `${(100 * share).toFixed(1)} %`;

// 1. A network for the first five classes, pruned step by step while it learns.
using first = Network.create({ input: old.train.shape, layers: [...BODY, dense(5)], seed: 1 });
const rule = sparse({ sparsity: SPARSITY, schedule: "gmp", begin: 0.2, end: 0.7, every: 20 });
for await (const _ of train(first, old.train, { epochs: 5, optimizer: adam(1e-3), batchSize: 64, seed: 1, rule }));
console.log(`digits 0 to 4, ${percent(SPARSITY)} zeros: ${percent((await first.evaluate(old.test)).accuracy!)}`);

// 2. Another tool may have pruned it: only zeros tell the mask then. That is what a file without masks holds.
const file = await Deno.makeTempFile({ suffix: ".safetensors" });
await first.densify();
await first.save(file);
using loaded = await Network.load(file);
await Deno.remove(file);
await loaded.sparsify({ by: "zeros", minSparsity: 0.5 });

// 3. The body with its masks, under a new head.
using second = Network.create({ input: young.train.shape, layers: [...BODY, dense(5)], seed: 2 });
for (const layer of ["1", "3"]) {
  second.setMask(layer, loaded.mask(layer));
  for (const name of [`${layer}.weight`, `${layer}.bias`]) second.write(name, loaded.read(name));
}
const accuracy = await fit(second, young, 15);
for (const { layer, weights, nonZeros } of await second.masks()) {
  console.log(`  layer ${layer}: ${nonZeros} of ${weights} weights`);
}
console.log(`digits 5 to 9 from ${young.train.rows} examples, with what it knew: ${percent(accuracy)}`);

// 4. The same examples for a network of the same size that knows nothing.
using fresh = Network.create({ input: young.train.shape, layers: [...BODY, dense(5)], seed: 2 });
await fresh.sparsify({ sparsity: SPARSITY, by: "random", seed: 3 });
console.log(`digits 5 to 9 from ${young.train.rows} examples, from nothing: ${percent(await fit(fresh, young, 15))}`);
