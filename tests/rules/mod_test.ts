/** The list of learning rules: slots, combinations, names. */

import { assert, assertEquals, assertThrows } from "@std/assert";
import { backprop, combine, ConfigError, dense, Network, type Rule, train } from "../../mod.ts";
import { fillSlots, ruleByName, rules } from "../../src/rules/mod.ts";
import { table } from "../helpers.ts";

const inputs: Rule = { name: "a", slots: { inputs: { kind: "raw" } } };
const weights: Rule = { name: "b", slots: { weights: { kind: "dense" } } };

Deno.test("fillSlots() puts the plain choice into every open slot", () => {
  assertEquals(Object.keys(fillSlots(backprop())).sort(), ["inputs", "products", "propagation", "weights"]);
  const chosen = { kind: "raw", rate: 1 };
  assertEquals(fillSlots({ name: "a", slots: { inputs: chosen } }), { ...fillSlots(backprop()), inputs: chosen });
});

Deno.test("combine() joins rules that fill different slots, in any order", () => {
  const joined = combine(inputs, weights);
  assertEquals(joined, { name: "a+b", slots: { ...inputs.slots, ...weights.slots } });
  assertEquals(combine(weights, inputs).slots, joined.slots);
  assertEquals(combine(), backprop());
  assertEquals(combine(backprop(), inputs, backprop()), inputs);
  assertEquals(combine(combine(inputs), weights), joined);
});

Deno.test("combine() refuses two rules for one slot and names both", () => {
  const fault = assertThrows(() => combine(inputs, weights, { ...inputs, name: "c" }), ConfigError);
  assertEquals(
    fault.message,
    "Cannot use rule: expected rules that fill different slots but found a and c, which both choose the inputs",
  );
});

Deno.test("ruleByName() makes every listed rule, and names the nearest for a misspelt one", () => {
  for (const rule of rules) {
    assert(rule.description !== "" && rule.paper !== "", rule.name);
    assertEquals(ruleByName(rule.name), rule.create({}));
  }
  assertEquals(ruleByName("backprop+backprop"), backprop());
  assertThrows(() => ruleByName("backprob"), ConfigError, "(did you mean backprop?) but found backprob");
  assertThrows(() => ruleByName("backprop+x"), ConfigError, "but found x");
  assertThrows(() => ruleByName(""), ConfigError, "but found an empty string");
  assertThrows(() => ruleByName("backprop", { backprop: { k: 1 } }), ConfigError, "Cannot use backprop.k");
  assertThrows(() => ruleByName("backprop", { other: {} }), ConfigError, "Cannot use other options");
});

Deno.test("a rule whose choice the engine does not know is refused by it", async () => {
  using network = Network.create({ input: [2], layers: [dense(2)] });
  const rows = table(4, { shape: [2], classes: 2 });
  const unknown: Rule = { name: "future", slots: { products: { kind: "none" } } };
  const option: Rule = { name: "option", slots: { products: { kind: "all", k: 3 } } };
  for (const [rule, part] of [[unknown, "unknown variant `none`"], [option, "unknown field `k`"]] as const) {
    let message = "";
    try {
      await train(network, rows, { rule }).next();
    } catch (fault) {
      message = (fault as Error).message;
    }
    assert(message.startsWith("Cannot use the training run: ") && message.includes(part), message);
  }
});

Deno.test("names of layers on the command line are words with commas between", () => {
  for (const name of ["sparse", "decorrelated"]) {
    const rule = rules.find((rule) => rule.name === name)!;
    const options = name === "sparse" ? { sparsity: 0.5 } : {};
    const listed = rule.create({ ...options, layers: ["0", "body.2"] });
    assertEquals(rule.create({ ...options, layers: "0,body.2" }), listed);
    assertThrows(() => rule.create({ ...options, layers: [0] }), ConfigError, `Cannot use ${name}.layers`);
  }
});
