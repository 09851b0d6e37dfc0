/** The search of benchmarks for a limit. */

import { assert, assertEquals } from "@std/assert";
import { largest } from "../bench/largest.ts";

Deno.test("largest() finds the largest size that fits, in few questions", async () => {
  for (const most of [1, 2, 7, 128]) {
    for (let limit = 0; limit <= most; limit++) {
      const asked: number[] = [];
      const found = await largest(most, (size) => {
        asked.push(size);
        return Promise.resolve(size <= limit);
      });
      assertEquals(found, limit, `up to ${most}`);
      assert(asked.every((size) => size >= 1 && size <= most), `asked for ${asked}`);
      assert(asked.length <= Math.ceil(Math.log2(most + 1)), `asked ${asked.length} times up to ${most}`);
    }
  }
});
