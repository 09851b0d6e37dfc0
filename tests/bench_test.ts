/** Benchmarks refuse options that they cannot use in one sentence, and one that needs no peer runs. Nothing is measured here. */

import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { fileURLToPath } from "node:url";

async function bench(
  script: string,
  args: readonly string[],
  more: readonly string[] = [],
): Promise<{ code: number; out: string; err: string }> {
  const program = fileURLToPath(new URL(`../bench/${script}.ts`, import.meta.url));
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "--quiet", "--no-prompt", "--allow-ffi", "--allow-read", "--allow-env", ...more, program, ...args],
    env: { NO_COLOR: "1" },
  }).output();
  const [out, err] = [stdout, stderr].map((bytes) => new TextDecoder().decode(bytes));
  return { code, out: out!, err: err! };
}

for (
  const [script, args, message] of [
    ["layers", ["--batch", "x"], "Cannot use --batch: expected a number but found x"],
    ["layers", ["--batch", "0"], "Cannot use --batch: expected a whole number from 1 up but found 0"],
    [
      "layers",
      ["--bach", "3"],
      "Cannot use --bach: expected an option of bench:layers (did you mean --batch?) but found an unknown one",
    ],
    ["small_networks", ["--rounds", "0"], "Cannot use --rounds: expected a whole number from 1 up but found 0"],
    ["layers", ["--net", "mlp"], "Cannot use --net: expected one of cnn, convnet, resnet18 but found mlp"],
    [
      "peers",
      ["--suite", "conf"],
      "Cannot use --suite: expected one of conv, small, forward, dense (did you mean conv?) but found conf",
    ],
    ["peers", ["--rounds", "x"], "Cannot use --rounds: expected a number but found x"],
    ["peers", ["--peers", "jacks"], "Cannot use --peers: expected one of jax, torch, leanprop but found jacks"],
    [
      "peers",
      ["--suite", "forward", "--threads", "7"],
      "Cannot use --threads and --filter: expected options that leave one of the cases 784-256-128-10, 128, sgd but found none left",
    ],
    [
      "rules/mem_aop",
      ["--therads", "1"],
      "Cannot use --therads: expected an option of bench/rules/mem_aop.ts (did you mean --threads?) but found an unknown one",
    ],
    ["rules/mem_aop", ["--threads", "1,0"], "Cannot use --threads: expected a whole number from 1 to 1024 but found 0"],
    ["rules/mem_aop", ["--threads", "none"], "Cannot use --threads: expected at least one number but found none"],
    [
      "rules/mem_aop",
      ["--only", "no such"],
      "Cannot use --only: expected text in the name of a case (784-1024-1024-10,",
    ],
    [
      "rules/mem_aop_time_to",
      ["--target", "2"],
      "Cannot use --target: expected a number above 0 and up to 1 but found 2",
    ],
    ["tracking", ["--step-ms", "0"], "Cannot use --step-ms: expected a number above 0 but found 0"],
    [
      "tracking",
      ["--seconds", "1"],
      "Cannot use --seconds: expected an option of bench/tracking.ts; --help lists them",
    ],
    ["find_rate", ["--seeds", "0"], "Cannot use --seeds: expected a whole number from 1 up but found 0"],
    ["find_rate", ["--only", "mnist"], "Cannot use --only: expected text in the name of a case (glyphs 784-128-10;"],
    ["rules/decorrelated", ["--rounds", "0"], "Cannot use --rounds: expected a whole number from 1 up but found 0"],
    ["rules/decorrelated", ["--pairs", "3"], "Cannot use --pairs: expected an option of bench/rules/decorrelated.ts"],
    [
      "rules/front_contribution",
      ["gird"],
      "Cannot use the word: expected one of cases, grid, memory, peak (did you mean grid?) but found gird",
    ],
    ["rules/front_contribution", ["--seconds", "0"], "Cannot use --seconds: expected a number above 0 but found 0"],
  ] as const
) {
  Deno.test(`bench:${script} ${args.join(" ")} is refused`, async () => {
    const { code, out, err } = await bench(script, args);
    assertEquals([code, out], [2, ""]);
    assertStringIncludes(err, `error: ${message}`);
    assertEquals(err.trimEnd().split("\n").length, 1, err);
  });
}

for (const script of ["layers", "peers"]) {
  Deno.test(`bench:${script} --help says what there is`, async () => {
    const { code, out, err } = await bench(script, ["--help"]);
    assertEquals([code, err], [0, ""]);
    assertStringIncludes(out, `Usage: deno task bench:${script} [options]`);
  });
}

for (
  const script of [
    "rules/decorrelated",
    "rules/front_contribution",
    "rules/mem_aop",
    "rules/mem_aop_time_to",
    "tracking",
  ]
) {
  Deno.test(`bench/${script}.ts --help says how it is called`, async () => {
    const { code, out, err } = await bench(script, ["--help"]);
    assertEquals([code, err], [0, ""]);
    assertStringIncludes(out, "Usage: deno run --allow-ffi --allow-read --allow-env ");
    assertStringIncludes(out, `bench/${script}.ts `);
  });
}

Deno.test("bench/tracking.ts trains the same epochs with and without what keeps a run, and says what that adds", async () => {
  const short = ["--hidden", "8", "--step-ms", "0.2", "--epochs", "2", "--rounds", "1", "--threads", "1"];
  const { code, out, err } = await bench("tracking", short, ["--allow-write", "--allow-sys"]);
  assertEquals(code, 0, err);
  const lines = out.trimEnd().split("\n");
  assertMatch(lines[0]!, /^784-8-10, batch \d+, 1 threads: runs of 50 steps, 1 turns$/);
  const share = String.raw`\d+\.\d\d ms a step, -?\d+\.\d\d % of it outside of the engine's calls`;
  assertMatch(lines[1]!, new RegExp(`^  the run alone +${share}$`));
  assertMatch(lines[2]!, new RegExp(`^  with folder, table and progress +${share}; -?\\d+\\.\\d\\d % more`));
  assertMatch(lines[3]!, new RegExp(`^  and checkpoints +${share}; -?\\d+\\.\\d\\d % more`));
  assertEquals(err.trimEnd().split("\n").at(-1)!.startsWith("epoch 2/2  loss "), true, "progress was shown");
});
