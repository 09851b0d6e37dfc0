/**
 * Making a trained network sparse and fine-tuning it: `deno task example sparse-finetune`.
 *
 * @module
 */

// deno-lint-ignore-file no-console

import { adam, cosine, glyphs, mlp, Network, sparse, train } from "../mod.ts";

const small = Deno.args.includes("--small");
const data = glyphs({ rows: small ? 600 : 6000, testRows: 500 });
using network = Network.create({ ...mlp({ input: data.train.shape, hidden: [128, 64], outputs: 10 }), seed: 1 });
const accuracy = async () => `${(100 * (await network.evaluate(data.test!)).accuracy!).toFixed(1)} %`;

// 1. A dense network, trained as usual.
for await (const _ of train(network, data.train, { epochs: 4, batchSize: 64, optimizer: adam(2e-3) }));
console.log(`dense:                 ${await accuracy()}`);

// 2. Weights go step by step while it is trained on, the smallest first.
const rule = sparse({ sparsity: 0.95, schedule: "gmp", begin: 0, end: 0.7, every: 5 });
for await (const _ of train(network, data.train, { rule, epochs: 4, batchSize: 64, optimizer: adam(1e-3) }));
console.log(`95 % zeros, fine-tuned: ${await accuracy()}`);

// 3. Masks stay with the network: plain back-propagation now trains the weights that are left.
const options = { epochs: 2, batchSize: 64, optimizer: adam(5e-4), schedule: cosine() };
for await (const _ of train(network, data.train, options));
console.log(`trained a little more: ${await accuracy()}`);
for (const { layer, weights, nonZeros } of await network.masks()) {
  console.log(`  layer ${layer}: ${nonZeros} of ${weights} weights`);
}
