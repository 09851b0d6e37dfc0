/**
 * A classifier of handwritten digits in twenty lines: `deno task example mnist` (add `--small` for digits drawn by code).
 *
 * @module
 */

// deno-lint-ignore-file no-console

import { adam, cosine, dense, flatten, glyphs, mnist, Network, relu, train } from "../mod.ts";

const small = Deno.args.includes("--small");
const data = small ? glyphs({ rows: 1000, testRows: 200 }) : await mnist({ download: true });
using network = Network.create({
  input: data.train.shape,
  layers: [flatten(), dense(256), relu(), dense(128), relu(), dense(10)],
  seed: 1,
});
for await (const p of train(network, data, { epochs: 5, batchSize: 64, optimizer: adam(2e-3), schedule: cosine() })) {
  console.log(`epoch ${p.epoch}: loss ${p.trainLoss.toFixed(4)}`);
}
const { accuracy } = await network.evaluate(data.test!);
console.log(`test accuracy ${(100 * accuracy!).toFixed(2)} %`);
