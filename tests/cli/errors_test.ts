import { assertEquals, assertStringIncludes } from "@std/assert";
import { kebab, nameFlags, rulesNamed } from "../../src/cli/flags.ts";
import { explain, Interruption, UsageError } from "../../src/cli/errors.ts";
import { CheckpointError, ConfigError, DataError, EngineError } from "../../src/errors.ts";
import { rules } from "../../src/rules/mod.ts";

const options = ["batch-size", "learning-rate", "optimizer", "schedule", "epochs", "hidden"];

Deno.test("explain() gives expected errors one line and a code of their own", () => {
  const line = "error: Cannot use --x: expected y but found z";
  assertEquals(explain(new UsageError("--x", "y", "z")), { message: line, code: 2 });
  assertEquals(explain(new CheckpointError("Cannot write a")), { message: "error: Cannot write a", code: 1 });
  assertEquals(explain(new DataError("a", "b", "c")).code, 1);
  assertEquals(explain(new EngineError("not-finite", "The loss")), { message: "error: The loss", code: 1 });
  assertEquals(explain(new Interruption(130, "Stopped")), { message: "Stopped", code: 130 });
});

Deno.test("explain() calls options as the command line does", () => {
  const message = (path: string) => explain(new ConfigError(path, "a", "b"), { options }).message;
  assertEquals(message("batchSize"), "error: Cannot use --batch-size: expected a but found b");
  assertEquals(message("optimizer.learningRate"), "error: Cannot use --learning-rate: expected a but found b");
  assertEquals(message("optimizer.kind"), "error: Cannot use --optimizer: expected a but found b");
  assertEquals(message("schedule.epochs"), "error: Cannot use --schedule: expected a but found b");
  assertEquals(message("hidden[1]"), "error: Cannot use --hidden: expected a but found b");
  assertEquals(message("layers[1].units"), "error: Cannot use layers[1].units: expected a but found b");
});

Deno.test("explain() calls the options of rules as the command line does, whoever refuses them", () => {
  const message = (path: string, named?: string[]) =>
    explain(new ConfigError(path, "a", "b"), { options: ["rule", "rows", "seed"], ...(named && { rules: named }) })
      .message;
  for (const { name, options } of rules) {
    const camel = name.replace(/-(.)/g, (_, letter: string) => letter.toUpperCase());
    for (const option of options) {
      const expected = `error: Cannot use --${name}.${kebab(option)}: expected a but found b`;
      for (const place of [`${camel}.${option}`, `${name}.${option}`, `${camel}.paper.${option}`]) {
        assertEquals(message(place), expected);
      }
      assertEquals(message(`rule.${option}`, ["backprop", name]), expected);
    }
  }
  assertEquals(
    message("rule.layers", ["sparse", "decorrelated"]),
    "error: Cannot use --sparse.layers or --decorrelated.layers: expected a but found b",
  );
  assertEquals(message("rule", ["sparse"]), "error: Cannot use --rule: expected a but found b");
  assertEquals(message("rule.unheard", ["sparse"]), "error: Cannot use --rule: expected a but found b");
  const compared = new EngineError("invalid-config", "Cannot compare sparse+mem-aop: Cannot use rule.k: expected a");
  assertEquals(
    explain(compared, { options: ["rules"], rules: ["decorrelated", "sparse", "mem-aop"] }),
    { message: "error: Cannot compare sparse+mem-aop: Cannot use --mem-aop.k: expected a", code: 2 },
  );
});

Deno.test("rulesNamed() finds the rules on a command line", () => {
  assertEquals(rulesNamed(["--epochs", "1"]), undefined);
  assertEquals(rulesNamed(["--rule", "sparse+mem-aop", "--epochs", "1"]), ["sparse", "mem-aop"]);
  assertEquals(rulesNamed(["--rules=backprop,sparse+dual"]), ["backprop", "sparse", "dual"]);
  assertEquals(rulesNamed(["--rule"]), [""]);
});

Deno.test("explain() says of anything else that it is a bug, and shows where", () => {
  for (const fault of [new TypeError("x is undefined"), new EngineError("panic", "The engine failed at a.rs:1")]) {
    const { message, code } = explain(fault);
    assertStringIncludes(message, "error: This is a bug in leanprop; please report it with the lines that follow\n");
    assertStringIncludes(message, fault.message);
    assertStringIncludes(message, "errors_test.ts");
    assertEquals(code, 1);
  }
});

Deno.test("advice that the engine gives in code names flags and rules of the command line", () => {
  assertEquals(
    nameFlags("Cannot use rule: expected more but found 0.5 times the speed; use backprop() or force: true", {
      options: ["rule"],
      rules: ["front-contribution"],
    }),
    "Cannot use --rule: expected more but found 0.5 times the speed; use --rule backprop or --front-contribution.force",
  );
  assertEquals(
    nameFlags("Cannot compare mem-aop: Cannot use rule.policy: expected topK (force: true overrides this)", {
      options: ["rules"],
      rules: ["front-contribution", "mem-aop"],
    }),
    "Cannot compare mem-aop: Cannot use --mem-aop.policy: expected topK (--mem-aop.force overrides this)",
  );
  assertEquals(
    nameFlags("Cannot use rule.sparsity: expected less (allowEmpty: true overrides this) but found 0.9", {
      options: ["rule"],
      rules: ["sparse"],
    }),
    "Cannot use --sparse.sparsity: expected less (--sparse.allow-empty overrides this) but found 0.9",
  );
});

Deno.test("nameFlags() has what the command line calls options that are objects, and two that are advised", () => {
  const names = { options: ["crop", "flip", "one-hot", "ignore"] };
  const told = (words: string) => nameFlags(words, names);
  assertEquals(told("Cannot use augment: expected images"), "Cannot use --crop or --flip: expected images");
  assertEquals(told("Cannot use augment.crop: expected less"), "Cannot use --crop: expected less");
  assertEquals(
    told("a number (words need the column under oneHot or ignore) but found x"),
    "a number (words need the column under --one-hot or --ignore) but found x",
  );
  const api = "a class (more of them with fitRows or more)";
  assertEquals(told(api), api, "no such option here");
});
