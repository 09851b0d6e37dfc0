/** Runs warn of rules that take effect in no layer, and of no others. */

import { assertEquals } from "@std/assert";
import {
  combine,
  conv2d,
  decorrelated,
  dense,
  flatten,
  frontContribution,
  type Layer,
  memAop,
  Network,
  relu,
  type Rule,
  sgd,
  sparse,
  train,
  Trainer,
} from "../../mod.ts";
import { native } from "../../src/ffi/native.ts";
import { table } from "../helpers.ts";

// Opened before the first test: what is opened within a test has to be closed there.
native();

const images = table(32, { shape: [8, 8, 1], classes: 4 });
const plain: Layer[] = [flatten(), dense(12), relu(), dense(4)];
const convolving: Layer[] = [conv2d(3, { kernel: 3 }), relu(), ...plain];

async function warningsOf(rule: Rule, { layers = plain, batchSize = 16 } = {}): Promise<string[]> {
  using network = Network.create({ input: [8, 8, 1], layers, seed: 1, threads: 1 });
  const found: string[] = [];
  for await (const { warnings } of train(network, images, { rule, batchSize, epochs: 2, optimizer: sgd(0.01) })) {
    found.push(...warnings ?? []);
  }
  return found;
}

const noLayer = (rule: string, why: string) => [`${rule} takes effect in no layer of this run: ${why}`];

Deno.test("a run says once where mem-aop leaves no row out", async () => {
  const all = "k takes all rows of a batch (layer 1); output layer (layer 3)";
  assertEquals(await warningsOf(memAop({ k: 16, minSize: 0 })), noLayer("mem-aop", all));
  assertEquals(await warningsOf(memAop({ fraction: 1, policy: "wta", minSize: 0 })), noLayer("mem-aop", all));
  // A quarter, but at least eight.
  assertEquals(await warningsOf(memAop({ minSize: 0 }), { batchSize: 8 }), noLayer("mem-aop", all));
  const everyLayer = "k takes all rows of a batch (layers 1, 3)";
  assertEquals(await warningsOf(memAop.paper({ k: 16 })), noLayer("mem-aop", everyLayer));
  assertEquals(await warningsOf(memAop({ k: 16, scope: "batch" })), noLayer("mem-aop", everyLayer));
  const small = "too small to save time (layer 1); output layer (layer 3)";
  assertEquals(await warningsOf(memAop()), noLayer("mem-aop", small));
  const patches = "k takes all rows of a batch (layers 0, 3); output layer (layer 5)";
  assertEquals(await warningsOf(memAop({ k: 16, minSize: 0 }), { layers: convolving }), noLayer("mem-aop", patches));
  const collapsed = combine(frontContribution({ force: true }), memAop({ k: 8, minSize: 0 }));
  assertEquals(await warningsOf(collapsed), noLayer("mem-aop", "collapsed (layer 1); output layer (layer 3)"));
});

Deno.test("a run says once where nothing becomes sparse, or nothing is decorrelated", async () => {
  const why = "keeps all weights (layer 1); stays dense: not among the layers, or below minSparsity (layer 3)";
  assertEquals(await warningsOf(sparse({ sparsity: 0 })), noLayer("sparse", why));
  const layers = [conv2d(2, { kernel: 3 }), flatten(), { ...dense(4), bias: false }] as Layer[];
  assertEquals(
    await warningsOf(decorrelated({ layers: ["0"], first: "raw" }), { layers }),
    noLayer("decorrelated", "reads the network's input (layer 0); not among the layers (layer 2)"),
  );
});

Deno.test("warnings that are taken before the first step do not come again with the first epoch", async () => {
  using network = Network.create({ input: [8, 8, 1], layers: plain, seed: 1, threads: 1 });
  await using trainer = await Trainer.create(network, images, { rule: memAop(), batchSize: 16, epochs: 2 });
  const why = "too small to save time (layer 1); output layer (layer 3)";
  assertEquals(trainer.takeWarnings(), noLayer("mem-aop", why));
  assertEquals(trainer.takeWarnings(), []);
  assertEquals((await trainer.epoch()).warnings, undefined);
});

Deno.test("a run says nothing of rules that take effect in some layer", async () => {
  const acting = [
    memAop({ k: 15, minSize: 0 }),
    memAop({ k: 15, scope: "batch" }),
    // With replacement: some rows twice, others not at all.
    memAop({ k: 16, policy: "crs", minSize: 0 }),
    sparse(),
    sparse({ sparsity: 0.5, schedule: "gmp" }),
    decorrelated(),
    combine(sparse(), memAop({ k: 8, minSize: 0 })),
  ];
  for (const rule of acting) assertEquals(await warningsOf(rule), [], rule.name);
  assertEquals(await warningsOf(memAop({ k: 15, minSize: 0 }), { layers: convolving }), []);
});
