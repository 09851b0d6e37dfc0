import { assertEquals } from "@std/assert";
import { didYouMean, editDistance, nearest } from "../src/nearest.ts";

Deno.test("editDistance() counts inserts, deletes, replacements and swaps", () => {
  assertEquals(editDistance("", ""), 0);
  assertEquals(editDistance("abc", ""), 3);
  assertEquals(editDistance("kitten", "sitting"), 3);
  assertEquals(editDistance("mnist", "mnits"), 1);
  assertEquals(editDistance("ab", "abc"), 1);
});

Deno.test("nearest() finds the slip of a finger", () => {
  const names = ["backprop", "memAop", "sparse", "decorrelated", "dual"];
  assertEquals(nearest("sprase", names), "sparse");
  assertEquals(nearest("mem-aop", names), "memAop");
  assertEquals(nearest("decorelated", names), "decorrelated");
});

Deno.test("nearest() gives nothing where nothing is near", () => {
  assertEquals(nearest("adam", ["mnist", "glyphs"]), undefined);
  assertEquals(nearest("x", []), undefined);
  assertEquals(nearest("a".repeat(10_000), ["mnist"]), undefined);
});

Deno.test("didYouMean() is empty where nothing is near", () => {
  assertEquals(didYouMean("mnits", ["mnist"]), " (did you mean mnist?)");
  assertEquals(didYouMean("zebra", ["mnist"]), "");
});
