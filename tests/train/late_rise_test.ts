/** Runs whose training loss rises again before they end. */

import { assertEquals } from "@std/assert";
import { lateRise } from "../../src/train/late_rise.ts";

Deno.test("lateRise() tells of a last loss well above the smallest, and of nothing that is small beside the whole fall", () => {
  assertEquals(
    lateRise([500, 20, 9.6, 21, 44.05]),
    "the training loss rose from 9.6 in epoch 3 to 44.05 at the end: a smaller learning rate or early stopping may keep what was learnt",
  );
  for (const losses of [[], [3], [3, 2, 1], [3, 1, 1.9], [2.3, 1e-4, 3e-4], [1, 2]]) {
    assertEquals(lateRise(losses), undefined, `${losses}`);
  }
  assertEquals(lateRise([1, 2.5])?.slice(0, 44), "the training loss rose from 1 in epoch 1 to ");
});
