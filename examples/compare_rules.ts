/**
 * Learning rules side by side, by hand: the same network, data, seed and order for each. `deno task example compare-rules`; for a
 * fair comparison with tuned rates and intervals there is `deno task compare`.
 *
 * @module
 */

// deno-lint-ignore-file no-console

import {
  adam,
  backprop,
  combine,
  dual,
  flatten,
  glyphs,
  memAop,
  mlp,
  Network,
  type Rule,
  sparse,
  train,
} from "../mod.ts";

const data = glyphs({ rows: Deno.args.includes("--small") ? 400 : 4000, testRows: 500 });
const rules: readonly Rule[] = [
  backprop(),
  memAop({ k: 16 }),
  sparse({ sparsity: 0.8 }),
  combine(sparse({ sparsity: 0.8 }), memAop({ k: 16 })),
  dual({ mode: "activity", lanes: 4 }),
];
const { input, layers } = mlp({ input: data.train.shape, hidden: [128], outputs: 10 });
console.log("rule            loss    accuracy  seconds");
for (const rule of rules) {
  using network = Network.create({ input, layers: [flatten(), ...layers.slice(1)], seed: 1 });
  let [loss, seconds] = [NaN, NaN];
  for await (
    const p of train(network, data.train, { rule, epochs: 3, batchSize: 64, optimizer: adam(1e-3), seed: 1 })
  ) {
    [loss, seconds] = [p.trainLoss, p.seconds];
  }
  const { accuracy } = await network.evaluate(data.test!);
  const figures = [loss.toFixed(3).padEnd(8), `${(100 * accuracy!).toFixed(1)} %`.padEnd(10), seconds.toFixed(2)];
  console.log(`${rule.name.padEnd(16)}${figures.join("")}`);
}
