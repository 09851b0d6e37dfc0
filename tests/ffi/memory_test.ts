/** Memory: sizes beyond the machine are errors, and training takes little more than what it must keep. */

import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { dense, EngineError, flatten, Network, train } from "../../mod.ts";
import { root, runScript, table } from "../helpers.ts";

Deno.test("a network that fits no memory is an error, whatever its size overflows", () => {
  const sizes = [
    { input: [2 ** 20], layers: [dense(2 ** 24)] },
    { input: [2 ** 30], layers: [dense(2 ** 30)] },
    { input: [2 ** 52], layers: [dense(2 ** 52)] },
    { input: [2 ** 32, 2 ** 32], layers: [flatten(), dense(1)] },
    { input: [2 ** 53 - 1], layers: [dense(1)] },
    { input: [2 ** 24], layers: [...Array(600)].map(() => dense(2 ** 24)) },
  ];
  for (const size of sizes) {
    const fault = assertThrows(() => Network.create({ ...size, precision: "f64" }), EngineError);
    assertEquals(fault.code, "out-of-memory", fault.message);
  }
});

Deno.test("a batch that fits no memory is an error, and the network can train with another", async () => {
  // A million rows of the wide layer's outputs are a TiB.
  using network = Network.create({
    input: [1],
    layers: [dense(2 ** 18), dense(1)],
    loss: { kind: "meanSquaredError" },
  });
  const rows = table(1_000_000, { shape: [1], values: 1 });
  const fault = await assertRejects(
    () => train(network, rows, { batchSize: 1_000_000 }).next(),
    EngineError,
    "for the training run: this machine has",
  );
  assertEquals(fault.code, "out-of-memory");
  for await (const p of train(network, rows, { batchSize: 2, epochs: 1 / 500_000 })) assertEquals(p.step, 1);
});

Deno.test({
  name: "the peak of a wide Adam run is at most 1.15 times parameters, gradients, optimizer state and activations",
  ignore: Deno.build.os !== "linux",
  fn: async () => {
    const [widths, batch] = [[784, 4096, 4096, 10], 128] as const;
    const { out, error } = await runScript(
      `
      import { adam, dense, Network, relu, train } from "${root}mod.ts";
      const kib = (name: string) =>
        Number(new RegExp(name + ":\\\\s*(\\\\d+)").exec(Deno.readTextFileSync("/proc/self/status"))![1]);
      // The library itself, and what V8 needs to run this, are there before.
      {
        using small = Network.create({ input: [4], layers: [dense(2)] });
        await small.predict(new Float32Array(4));
      }
      const rows = 512;
      const data = {
        rows, shape: [784], features: new Uint8Array(rows * 784),
        targets: { kind: "labels" as const, classes: 10, values: new Uint32Array(rows) },
      };
      const before = kib("VmRSS");
      using network = Network.create({ input: [784], layers: [dense(4096), relu(), dense(4096), relu(), dense(10)] });
      for await (const _ of train(network, data, { epochs: 1, batchSize: ${batch}, optimizer: adam() }));
      console.log(kib("VmHWM") - before);
      `,
      { flags: ["--allow-all"] },
    );
    assertEquals(error, "");
    const pairs = widths.slice(1).map((outputs, index) => [widths[index]!, outputs] as const);
    const parameters = pairs.reduce((sum, [inputs, outputs]) => sum + inputs * outputs + outputs, 0);
    const activations = batch * widths.reduce((sum, width) => sum + width, 0);
    // Adam keeps two numbers a parameter.
    const needed = 4 * (4 * parameters + activations);
    const found = Number(out) * 1024;
    assert(found > 0 && found <= 1.15 * needed, `grew by ${found / 2 ** 20} MiB; ${needed / 2 ** 20} MiB are needed`);
  },
});
