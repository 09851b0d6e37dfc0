import { assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { UsageError } from "../../src/cli/errors.ts";
import { type CommandSpec, helpText, optionsFromJson, type OptionSpec, parseOptions } from "../../src/cli/options.ts";

const options = [
  { name: "data", type: "text", value: "NAME", help: "data set", group: "Data", effect: "result" },
  { name: "learning-rate", type: "number", value: "X", help: "step size", group: "Training", effect: "result" },
  { name: "hidden", type: "numbers", value: "8,4", help: "widths", group: "Training", effect: "result" },
  { name: "target", type: "words", value: "NAMES", help: "columns", group: "Data", effect: "result" },
  { name: "header", type: "flag", help: "first line", group: "Data", effect: "result" },
] as const satisfies readonly OptionSpec[];

const command: CommandSpec<typeof options> = { name: "try", description: "Tries.", options, dotted: ["mem-aop"] };

Deno.test("parseOptions() reads every type, with a space or an equals sign", () => {
  const args = ["--data", "mnist", "--learning-rate=1e-3", "--hidden", "256,128", "--target", "a, b", "--header"];
  assertEquals(parseOptions(command, args), {
    values: { data: "mnist", "learning-rate": 0.001, hidden: [256, 128], target: ["a", "b"], header: true },
    dotted: {},
    words: [],
    help: false,
  });
});

Deno.test("parseOptions() takes negative numbers, empty lists, negated flags, and the last of two", () => {
  const { values } = parseOptions(command, ["--learning-rate", "-2", "--hidden", "none", "--header", "--no-header"]);
  assertEquals(values, { "learning-rate": -2, hidden: [], header: false });
});

Deno.test("parseOptions() gathers dotted options with numbers, truth values and words", () => {
  const args = ["--mem-aop.k", "16", "--mem-aop.memory", "--mem-aop.policy=random", "--mem-aop.scale=false"];
  assertEquals(parseOptions(command, args).dotted, {
    "mem-aop.k": 16,
    "mem-aop.memory": true,
    "mem-aop.policy": "random",
    "mem-aop.scale": false,
  });
});

for (
  const [args, message] of [
    [["--learnig-rate", "1"], "Cannot use --learnig-rate: expected an option of try (did you mean --learning-rate?)"],
    [["--xyz"], "Cannot use --xyz: expected an option of try; --help lists them"],
    [["stray"], "Cannot use the argument stray: expected options only"],
    [["--data"], "Cannot use --data: expected NAME after it but found nothing"],
    [["--data", "--header"], "Cannot use --data: expected NAME after it but found --header"],
    [["--learning-rate", "fast"], "Cannot use --learning-rate: expected a number but found fast"],
    [["--learning-rate", "Infinity"], "Cannot use --learning-rate: expected a number but found Infinity"],
    [["--hidden", "8,,4"], "Cannot use --hidden: expected numbers with commas between, such as 8,4 but found 8,,4"],
    [["--header=maybe"], "Cannot use --header: expected no value, true or false but found maybe"],
    [["--mem-apo.k", "1"], "Cannot use --mem-apo.k: expected an option of mem-aop (did you mean mem-aop?)"],
    [["-x"], "Cannot use -x: expected an option of try; --help lists them"],
  ] as const
) {
  Deno.test(`parseOptions() refuses ${args.join(" ")}`, () => {
    assertThrows(() => parseOptions(command, args), UsageError, message);
  });
}

Deno.test("parseOptions() knows --help and -h", () => {
  assertEquals(parseOptions(command, ["--help"]).help, true);
  assertEquals(parseOptions(command, ["-h"]).help, true);
});

Deno.test("optionsFromJson() reads the same names with JSON's types", () => {
  const json = { data: "mnist", "learning-rate": 0.1, hidden: [3], target: ["a"], header: false, "mem-aop.k": 2 };
  const { "mem-aop.k": k, ...values } = json;
  assertEquals(optionsFromJson(command, json, "c.json"), { values, dotted: { "mem-aop.k": k } });
});

for (
  const [json, message] of [
    [
      { learningRat: 1 },
      "Cannot use learningRat in c.json: expected the name of an option of try (did you mean learning-rate?)",
    ],
    [{ "learning-rate": "1" }, 'Cannot use learning-rate in c.json: expected a number but found "1"'],
    [{ hidden: 3 }, "Cannot use hidden in c.json: expected a list of numbers but found 3"],
    [{ header: null }, "Cannot use header in c.json: expected true or false but found null"],
    [{ "sparse.k": 1 }, "Cannot use --sparse.k: expected an option of mem-aop"],
  ] as const
) {
  Deno.test(`optionsFromJson() refuses ${JSON.stringify(json)}`, () => {
    assertThrows(() => optionsFromJson(command, json, "c.json"), UsageError, message);
  });
}

Deno.test("helpText() has every option under its heading", () => {
  const help = helpText(command);
  assertStringIncludes(help, "Usage: deno task try [options]");
  assertStringIncludes(help, "Data\n  --data NAME        data set\n  --target NAMES");
  assertStringIncludes(help, "Training\n  --learning-rate X  step size\n");
});
