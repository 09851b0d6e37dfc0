/**
 * An update of one's own in TypeScript: the gradient comes from the network, the arithmetic from `./kernels`. Here each weight
 * matrix moves along its gradient made orthogonal by Newton and Schulz's iteration, X ← 1.5 X − 0.5 (X Xᵀ) X, so that all
 * directions of the matrix learn at one speed. `deno task example own-update`.
 *
 * @module
 */

// deno-lint-ignore-file no-console

import { glyphs, mlp, Network, takeRows } from "../mod.ts";
import { matmul } from "../src/kernels.ts";

/** The nearest matrix with orthogonal rows, nearly; rows × columns numbers, row after row. */
function orthogonal(gradient: Float32Array<ArrayBuffer>, rows: number, columns: number): Float32Array<ArrayBuffer> {
  const norm = Math.hypot(...gradient) || 1;
  let x = gradient.map((g) => g / norm);
  for (let round = 0; round < 8; round++) {
    const products = matmul([x, x], { m: rows, n: rows, k: columns, transposeB: true });
    const third = matmul([products, x], { m: rows, n: columns, k: rows });
    x = x.map((value, index) => 1.5 * value - 0.5 * third[index]!);
  }
  return x;
}

const data = glyphs({ rows: Deno.args.includes("--small") ? 640 : 3200, testRows: 500 });
using network = Network.create({ ...mlp({ input: data.train.shape, hidden: [64], outputs: 10 }), seed: 1 });
const shapes = new Map(network.tensors().map(({ name, shape }) => [name, shape]));
const [batchSize, rate] = [64, 0.05];
for (let epoch = 1; epoch <= 3; epoch++) {
  let sum = 0;
  for (let from = 0; from < data.train.rows; from += batchSize) {
    const batch = takeRows(data.train, Array.from({ length: batchSize }, (_, row) => from + row));
    const { loss, gradients } = await network.gradients(batch, { training: true });
    sum += loss;
    for (const [name, gradient] of gradients) {
      const [rows = 1, columns = 1] = shapes.get(name)!;
      const update = name.endsWith(".weight")
        ? orthogonal(gradient as Float32Array<ArrayBuffer>, rows, columns)
        : gradient;
      network.write(
        name,
        Float32Array.from(network.read(name), (weight, index) => weight - rate * update[index]!),
      );
    }
  }
  const { accuracy } = await network.evaluate(data.test!);
  console.log(
    `epoch ${epoch}: loss ${(sum * batchSize / data.train.rows).toFixed(3)}, accuracy ${
      (100 * accuracy!).toFixed(1)
    } %`,
  );
}
