/**
 * A quick look at speed: `deno task bench`. For claims use `deno task bench:peers`, which takes turns and compares losses.
 *
 * @module
 */

import { matmul } from "../src/kernels.ts";
import { startOurs } from "./ours.ts";

for (const [net, batch] of [[[64, 64, 10], 32], [[784, 256, 128, 10], 128], [[784, 1024, 1024, 10], 128]] as const) {
  for (const optimizer of ["sgd", "adam"] as const) {
    for (const threads of [1, 2]) {
      // Sixteen steps are one epoch of the case, which is what one call of the run trains.
      const side = await startOurs({ net, batch, batches: 16, optimizer, rate: 1e-4, threads, seed: 1 });
      Deno.bench(
        `16 steps, ${threads} threads`,
        { group: `${net.join("-")}, batch ${batch}, ${optimizer}` },
        async () => {
          await side.steps(16);
        },
      );
    }
  }
}

for (const size of [64, 256, 512]) {
  const [a, b, out] = [0, 1, 2].map(() => new Float32Array(size * size).fill(0.5)) as [
    Float32Array<ArrayBuffer>,
    Float32Array<ArrayBuffer>,
    Float32Array<ArrayBuffer>,
  ];
  Deno.bench(`matmul ${size}×${size}×${size}`, { group: "kernels" }, () => {
    matmul([a, b], { m: size, n: size, k: size, out });
  });
}
