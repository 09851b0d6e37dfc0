import { assertEquals } from "@std/assert";
import {
  adam,
  combine,
  decorrelated,
  dense,
  dual,
  type DualOptions,
  memAop,
  Network,
  relu,
  type Rule,
  sgd,
  sparse,
  stepMultiplyAdds,
  type Table,
  Trainer,
  type TrainOptions,
} from "../../mod.ts";
import { native } from "../../src/ffi/native.ts";

native();

/** Rows of a step. */
const B = 6;

const rows: Table = {
  rows: B,
  shape: [5],
  features: Float32Array.from({ length: B * 5 }, (_, index) => Math.sin(index)),
  targets: { kind: "labels", classes: 3, values: Uint32Array.from({ length: B }, (_, row) => row % 3) },
};

/** Multiply-adds of a step of a network of these widths, 5 inputs below. */
async function count(rule: Rule, widths: readonly number[], more: TrainOptions = {}): Promise<number | undefined> {
  const layers = widths.flatMap((units, index) => index === 0 ? [dense(units)] : [relu(), dense(units)]);
  using network = Network.create({ input: [5], layers });
  using trainer = await Trainer.create(network, rows, { rule, batchSize: B, epochs: 4, optimizer: adam(), ...more });
  return await stepMultiplyAdds(trainer);
}

/** Forward pass and weight gradients of 5 → 4 → 3. */
const both = 2 * B * (5 * 4 + 4 * 3);

Deno.test("stepMultiplyAdds() counts what dual numbers multiply, mode by mode", async () => {
  const cases: readonly (readonly [DualOptions, number])[] = [
    // A lane from the hidden values through the last layer; the gradient times B, what B foretells, what B learns.
    [{}, both + B * 12 + 3 * B * 12],
    [{ lanes: 2 }, both + 2 * B * 12 + (1 + 2 + 2) * B * 12],
    [{ feedback: "ema" }, both + B * 12 + 2 * B * 12],
    [{ twoPass: true }, both + B * 32 + B * 12 + 3 * B * 12],
    // Two lanes; the gradient along each; four values from the two lanes.
    [{ mode: "activity", lanes: 2 }, both + 2 * B * 12 + B * 2 * 3 + B * 4 * 2],
    // Four units through the last layer, and the gradient times what arrives.
    [{ mode: "exact" }, both + 4 * B * 12 + 4 * B * 3],
    // No weight gradients: forward; directions of both layers, the first one's through the second; 39 parameters, 3 outputs.
    [{ mode: "weight" }, B * 32 + B * (20 + 2 * 12) + B * 3 + 39],
    [{ mode: "weight", lanes: 3 }, B * 32 + 3 * (B * (20 + 2 * 12) + B * 3 + 39)],
  ];
  for (const [options, expected] of cases) {
    assertEquals(await count(dual(options), [4, 3]), expected, JSON.stringify(options));
  }
  // First derivatives through the first layer, first and second ones through the second.
  const length = { optimizer: sgd(1) };
  assertEquals(await count(dual({ step: "hyperdual" }), [4, 3], length), both + 4 * B * 12 + B * (20 + 4 * 12));
});

Deno.test("stepMultiplyAdds() counts lanes where they are, shared or each layer's own, and one layer's local rule", async () => {
  const whole = 2 * B * (20 + 16 + 12) + 3 * B * (4 + 4) * 3;
  assertEquals(await count(dual(), [4, 4, 3]), whole + B * (16 + 12), "one lane, to which the second layer adds");
  assertEquals(await count(dual({ shareLanes: false }), [4, 4, 3]), whole + B * (16 + 2 * 12));
  const jacobians = 4 * B * (16 + 12 + 3) + 4 * B * (12 + 3);
  assertEquals(await count(dual({ mode: "exact" }), [4, 4, 3]), 2 * B * (20 + 16 + 12) + jacobians);
  assertEquals(await count(dual({ mode: "local" }), [3]), 2 * B * 15);
  assertEquals(await count(dual({ mode: "local", seedAt: "input" }), [3]), 2 * B * 15 + 15, "sums of weights");
});

Deno.test("stepMultiplyAdds() counts dual numbers through masks, and rows that are chosen", async () => {
  const masked = combine(dual(), sparse({ sparsity: 0.5 }));
  assertEquals(await count(masked, [4, 3]), 2 * B * (10 + 12) + B * 12 + 3 * B * 12);
  const chosen = combine(dual(), memAop({ k: 2, minSize: 0 }));
  assertEquals(await count(chosen, [4, 3]), B * 32 + 2 * 20 + B * 12 + B * 12 + 3 * B * 12);
});

Deno.test("stepMultiplyAdds() counts what decorrelating matrices multiply", async () => {
  /** Back-propagation: no gradient of the network's input. */
  const plain = B * (2 * 20 + 3 * 12);
  // Two stages in the first layer (6 ≤ 2 · 4), whose R of 5 × 5 has values pass; fused in the second (12 > 2 · 3), whose R of 4 × 4
  // meets the weights and their gradient.
  const passes = B * 25 + 2 * 16 * 3;
  const cases: readonly (readonly [Parameters<typeof decorrelated>[0], number])[] = [
    [{ rate: 0 }, plain + passes],
    // Every fourth step: C from all rows (of the second layer, whose z is not at hand, after they pass R), then R times that.
    [{}, plain + passes + (B * 25 + 125) / 4 + (B * 16 + B * 16 + 64) / 4],
    [{ every: 1 }, plain + passes + (B * 25 + 125) + (B * 16 + B * 16 + 64)],
    // Fewer rows than columns: they pass R and its transpose; their products, for the bound; R from the two.
    [
      { every: 1, rows: 3 },
      plain + passes + (3 * 25 + 3 * 25 + 9 * 5 + 25 * 3) + (3 * 16 + 3 * 16 + 9 * 4 + 16 * 3),
    ],
    // Blocks of 2, 2, 1 and of 2, 2.
    [{ rate: 0, block: 2 }, plain + B * 9 + 2 * 8 * 3],
    // The gradient of both layers times Rᵀ R.
    [{ rate: 0, form: "driftFree" }, plain + 2 * 25 * 4 + 2 * 16 * 3],
    // Rows that have passed R before the run.
    [{ rate: 0, first: "precompute" }, plain + 2 * 16 * 3],
    [{ rate: 0, first: "raw" }, plain + 2 * 16 * 3],
    [{ rate: 0, layers: ["0"] }, plain + B * 25],
  ];
  for (const [options, expected] of cases) {
    assertEquals(await count(decorrelated(options), [4, 3]), Math.round(expected), JSON.stringify(options));
  }
});

Deno.test("stepMultiplyAdds() counts outer products that are chosen beside decorrelation", async () => {
  // Chosen rows are rows of z: two stages in both layers, with the second one's gradient back through R.
  const rule = combine(decorrelated({ rate: 0 }), memAop({ k: 2, minSize: 0, exactOutput: false }));
  assertEquals(await count(rule, [4, 3]), B * (20 + 2 * 12) + 2 * (20 + 12) + B * 25 + 2 * B * 16);
});
