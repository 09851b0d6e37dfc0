/** What `train` says about sparse weights before it trains. */

import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { run, temporaryFolder } from "./helpers.ts";

const small = [
  "train",
  "--data",
  "spirals",
  "--rows",
  "300",
  "--test-rows",
  "90",
  "--hidden",
  "40,40",
  "--epochs",
  "1",
];

Deno.test("train prints the masks, and with auto what was measured", async () => {
  await using folder = await temporaryFolder();
  const plain = [...small, "--rule", "sparse", "--sparse.sparsity", "0.75"];
  const masked = await run(plain, { cwd: folder.path });
  assertEquals(masked.code, 0, masked.stderr);
  assertMatch(
    masked.stdout,
    /^layer +weights +now +in the end\n0 \(dense\) +80 +20 +20\n2 \(dense\) +1600 +400 +400\n/,
  );
  const auto = await run([...plain, "--sparse.auto"], { cwd: folder.path });
  assertEquals(auto.code, 0, auto.stderr);
  assertMatch(auto.stdout, /^layer .* sparse ms +dense ms +chosen\n/);
  const [, layer] = auto.stdout.split("\n");
  const [, now, sparseMs, denseMs, chosen] = /80 +(\d+) +\d+ +([\d.]+) +([\d.]+) +(\w+)$/.exec(layer!)!;
  assertEquals(now, chosen === "sparse" ? "20" : "80");
  // The table rounds to microseconds.
  if (sparseMs !== denseMs) assertEquals(chosen === "sparse", Number(sparseMs) < Number(denseMs));
  const silent = await run([...small], { cwd: folder.path });
  assertMatch(silent.stdout, /^\nTrained a network/);
});

Deno.test("train warns of layers without weights, which it makes on request only", async () => {
  await using folder = await temporaryFolder();
  const empty = [...small, "--rule", "sparse", "--sparse.sparsity", "0.999"];
  const refused = await run(empty, { cwd: folder.path });
  assertEquals([refused.code, refused.stdout], [2, ""]);
  assertStringIncludes(
    refused.stderr,
    "--sparse.sparsity: expected a sparsity that leaves layer 0 (dense) a weight (--sparse.allow-empty overrides this)",
  );
  const allowed = await run([...empty, "--sparse.allow-empty", "--json"], { cwd: folder.path });
  assertEquals(allowed.code, 0, allowed.stderr);
  assertEquals(allowed.stderr.split("warning: layer 0 (dense) is left without weights\n").length, 2, "once");
  assertEquals(allowed.stderr.includes("layer 2 (dense) is left"), false);
});

Deno.test("train warns of schedules and rules that do nothing before its first epoch, and once", async () => {
  await using folder = await temporaryFolder();
  const cases = [
    ["the schedule rigl never changes a mask", "sparse", "--sparse.schedule", "rigl", "--sparse.every", "9999"],
    ["mem-aop takes effect in no layer of this run: too small", "mem-aop"],
  ];
  for (const [text, ...rule] of cases) {
    const { code, stderr } = await run([...small, "--rule", ...rule], { cwd: folder.path });
    const [before, ...after] = stderr.split(`warning: ${text}`);
    assertEquals([code, after.length], [0, 1], stderr);
    assertEquals([before!.includes("epoch 1/"), after[0]!.includes("epoch 1/")], [false, true], stderr);
  }
});
