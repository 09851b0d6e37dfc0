/** Objects in the engine: who owns them, who may use them when, and what happens when they go. */

import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { Dataset, dense, EngineError, type EngineErrorCode, Network, relu, train, Trainer } from "../../mod.ts";
import { native } from "../../src/ffi/native.ts";
import { check, newStatus } from "../../src/ffi/status.ts";
import { bits, root, runScript, table } from "../helpers.ts";

const rows = table(60_000, { shape: [32], classes: 4 });
const create = () => Network.create({ input: [32], layers: [dense(64), relu(), dense(4)] });

/** A run so long that a chunk of it takes its full 0.1 s. */
const long = { epochs: 1e6, batchSize: 16 };

function assertCode(fault: unknown, code: EngineErrorCode): void {
  assert(fault instanceof EngineError, String(fault));
  assertEquals(fault.code, code, fault.message);
}

/** Waits until a background call holds the network. */
async function untilBusy(network: Network): Promise<void> {
  for (let tries = 0; tries < 1000; tries++) {
    try {
      network.describe();
    } catch (fault) {
      assertCode(fault, "busy");
      return;
    }
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  throw new Error("the network was never busy");
}

Deno.test("dispose() is final: everything after it says so, and a second one does nothing", async () => {
  const network = create();
  network[Symbol.dispose]();
  network[Symbol.dispose]();
  const sentence = "Cannot use this network: it is disposed";
  const faults = [
    assertThrows(() => network.describe(), EngineError, sentence),
    assertThrows(() => network.tensors(), EngineError, sentence),
    assertThrows(() => network.read("0.weight"), EngineError, sentence),
    assertThrows(() => network.write("0.bias", new Float32Array(64)), EngineError, sentence),
    await assertRejects(() => network.predict(rows.features), EngineError, sentence),
    await assertRejects(() => network.evaluate(rows), EngineError, sentence),
    await assertRejects(() => network.gradients(rows), EngineError, sentence),
    await assertRejects(() => train(network, rows).next(), EngineError, sentence),
  ];
  for (const fault of faults) assertCode(fault, "unknown-handle");

  const data = await Dataset.create(rows);
  data[Symbol.dispose]();
  data[Symbol.dispose]();
  using other = create();
  const fault = await assertRejects(
    () => other.evaluate(data),
    EngineError,
    "Cannot use this data set: it is disposed",
  );
  assertCode(fault, "unknown-handle");
});

Deno.test("a stale handle is not the new owner's", () => {
  const first = create();
  const handle = first.handle;
  first[Symbol.dispose]();
  using second = create();
  // The place is used again, under another number.
  assertEquals(second.handle & 0xfffff, handle & 0xfffff);
  assert(second.handle !== handle);
  const status = newStatus();
  const fault = assertThrows(() => check(native().network_destroy(handle, status), status), EngineError);
  assertCode(fault, "unknown-handle");
  assertEquals(second.describe().layers.length, 3);
});

Deno.test("a second training of one network is refused until the first ends", async () => {
  using network = create();
  {
    using _first = await Trainer.create(network, rows);
    const fault = await assertRejects(
      () => Trainer.create(network, rows),
      EngineError,
      "another run is training this network",
    );
    assertCode(fault, "busy");
    assertCode(await assertRejects(() => train(network, rows).next(), EngineError), "busy");
  }
  using _second = await Trainer.create(network, rows);
});

Deno.test("a call that overlaps another one is refused, and the first one is not disturbed", async () => {
  using network = create();
  using trainer = await Trainer.create(network, rows, long);
  const chunk = trainer.chunk();
  await untilBusy(network);
  const faults = [
    assertThrows(() => network.read("0.weight"), EngineError, "another call on it is still running"),
    await assertRejects(() => trainer.chunk(), EngineError, "another call on it is still running"),
  ];
  for (const fault of faults) assertCode(fault, "busy");
  assert((await chunk).step > 0);
  assert((await trainer.chunk()).step > 0);
});

Deno.test("dispose() of a network in training: the step under way ends, the next one says so", async () => {
  const network = create();
  using trainer = await Trainer.create(network, rows, long);
  const chunk = trainer.chunk();
  await untilBusy(network);
  network[Symbol.dispose]();
  assert((await chunk).step > 0);
  assertCode(await assertRejects(() => trainer.chunk(), EngineError, "this network: it is disposed"), "unknown-handle");
});

Deno.test("dispose() of the data of a run: the step under way ends, the next one says so", async () => {
  using network = create();
  const data = await Dataset.create(rows);
  using trainer = await Trainer.create(network, data, long);
  const chunk = trainer.chunk();
  await untilBusy(network);
  data[Symbol.dispose]();
  await chunk;
  assertCode(
    await assertRejects(() => trainer.chunk(), EngineError, "this data set: it is disposed"),
    "unknown-handle",
  );
});

Deno.test("dispose() of a run in a step: the step ends, then the network is free", async () => {
  using network = create();
  const trainer = await Trainer.create(network, rows, long);
  const chunk = trainer.chunk();
  await untilBusy(network);
  trainer[Symbol.dispose]();
  assert((await chunk).step > 0);
  assertCode(await assertRejects(() => trainer.chunk(), EngineError, "training run: it is disposed"), "unknown-handle");
  using _next = await Trainer.create(network, rows);
});

Deno.test("a run that is over touches no later run of its network", async () => {
  using network = create();
  using data = await Dataset.create(rows);
  const first = await Trainer.create(network, data, long);
  first[Symbol.dispose]();
  using second = await Trainer.create(network, data, { epochs: 1 });
  first[Symbol.dispose]();
  const before = bits(network);
  assertCode(await assertRejects(() => first.epoch(), EngineError, "training run: it is disposed"), "unknown-handle");
  assertCode(
    await assertRejects(() => first.save("never"), EngineError, "training run: it is disposed"),
    "unknown-handle",
  );
  assertEquals(bits(network), before);
  assertEquals((await second.epoch()).done, true);
});

Deno.test("a panic in the engine poisons its network only", async () => {
  using network = create();
  using other = create();
  using trainer = await Trainer.create(network, rows);
  const status = newStatus();
  const code = await native().network_panic(network.handle, status);
  assertCode(
    assertThrows(() => check(code, status), EngineError, "A bug in leanprop's engine stopped the call: on purpose"),
    "panic",
  );
  const sentence = "Cannot use this network: a bug stopped an earlier call on it; load it again from a checkpoint";
  assertCode(assertThrows(() => network.describe(), EngineError, sentence), "poisoned");
  assertCode(await assertRejects(() => trainer.chunk(), EngineError, sentence), "poisoned");
  assertCode(await assertRejects(() => network.evaluate(rows), EngineError, sentence), "poisoned");
  assertEquals((await other.evaluate(rows)).rows, rows.rows);
  for await (const p of train(other, rows, { epochs: 1 })) assert(p.done);
});

/** Prints how much memory a body leaves behind, in MiB, as a script of its own. */
const growth = (body: string) => `
  import { Dataset, dense, Network } from "${root}mod.ts";
  const settle = async () => {
    for (let i = 0; i < 5; i++) {
      gc();
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  };
  const make = () => Network.create({ input: [128], layers: [dense(256, { weightInit: "heUniform" })], threads: 1 });
  ${body}
  for (let i = 0; i < 100; i++) await once();
  await settle();
  const before = Deno.memoryUsage().rss;
  for (let i = 0; i < 1000; i++) {
    await once();
    if (i % 50 === 49) await settle();
  }
  await settle();
  console.log((Deno.memoryUsage().rss - before) / 2 ** 20);
`;

for (
  const [what, body] of Object.entries({
    "networks created and dropped": "const once = async () => void make();",
    "networks used and disposed": `
      const features = new Float32Array(128);
      const once = async () => {
        using network = make();
        await network.predict(features);
      };`,
    "data sets created and dropped": `
      const table = { rows: 256, shape: [128], features: new Float32Array(256 * 128).fill(1) };
      const once = async () => void await Dataset.create(table);`,
  })
) {
  Deno.test(`1,000 ${what} leave no memory behind`, async () => {
    // Each holds 128 KiB: kept, they would be 125 MiB.
    const { out, error } = await runScript(growth(body), {
      flags: ["--allow-ffi", "--allow-env", "--v8-flags=--expose-gc"],
    });
    assertEquals(error, "");
    assert(Number(out) < 25, `grew by ${out} MiB`);
  });
}
