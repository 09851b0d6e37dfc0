/** The shape of the boundary: what every exported function promises. */

import { assert, assertEquals, assertThrows } from "@std/assert";
import { EngineError } from "../../src/errors.ts";
import { native } from "../../src/ffi/native.ts";
import { check, encode, newStatus, readJson } from "../../src/ffi/status.ts";
import { ABI_FINGERPRINT, symbols } from "../../src/ffi/symbols.gen.ts";
import { numbers, table } from "../helpers.ts";

const functions = Object.entries(symbols).filter(([name]) => name !== "abi_fingerprint");

Deno.test("every function takes a status block last and returns a code", () => {
  assert(functions.length > 10);
  for (const [name, { parameters, result }] of functions) {
    assertEquals([parameters.at(-1) as string, result], ["buffer", "u32"], name);
  }
});

Deno.test("functions take buffers, u32 and f64: no pointers, which would need wider permission", () => {
  const kinds = new Set<string>(functions.flatMap(([, { parameters }]) => [...parameters]));
  assertEquals([...kinds].sort(), ["buffer", "f64", "u32"]);
});

Deno.test("the library has the fingerprint that the generated file was made from", () => {
  assertEquals(native().abi_fingerprint(), ABI_FINGERPRINT);
});

Deno.test("engine_info() says what computes, also where the first answer does not fit", () => {
  const info = readJson<Record<string, unknown>>((...args) => native().engine_info(...args));
  assertEquals(info.fingerprint, ABI_FINGERPRINT);
  assert((info.instructionSets as string[]).includes(info.instructionSet as string));
  assert(info.threads as number >= 1);
  const [out, needed, status] = [new Uint8Array(5), new Uint32Array(1), newStatus()];
  check(native().engine_info(out, out.length, needed, status), status);
  assert(needed[0]! > 5);
  assertEquals(new TextDecoder().decode(out).startsWith("{"), true);
});

Deno.test("readJson() reads texts longer than its first guess", () => {
  const text = JSON.stringify("x".repeat(10_000));
  const bytes = encode(text);
  const found = readJson<string>((out, capacity, needed) => {
    out.set(bytes.subarray(0, capacity));
    needed[0] = bytes.length;
    return 0;
  });
  assertEquals(JSON.stringify(found), text);
});

Deno.test("wrong arguments are refused: text that is no UTF-8, no JSON, empty arrays, arrays that are not aligned", async () => {
  const refused = (sentence: string, call: (status: Uint8Array<ArrayBuffer>) => number) => {
    const status = newStatus();
    return assertThrows(() => check(call(status), status), EngineError, sentence);
  };
  const handle = new Uint32Array(1);
  const create = (json: Uint8Array<ArrayBuffer>) => (status: Uint8Array<ArrayBuffer>) =>
    native().network_create(json, json.length, handle, status);
  refused("Cannot read text", create(new Uint8Array([0xff, 0xfe])));
  refused("Cannot use the network", create(encode("{")));
  refused("Cannot use the network", create(new Uint8Array(0)));
  refused("unknown field", create(encode('{"inputs":[1]}')));
  const config = encode("{}");
  refused("an empty array where 2 elements", (status) => native().network_create(new Uint8Array(0), 2, handle, status));
  refused(
    "an empty array where 1 elements",
    (status) => native().network_create(config, 2, new Uint32Array(0), status),
  );
  // Seven bytes in: no f64 begins there.
  const odd = new Float64Array(new ArrayBuffer(64), 0, 2);
  const shifted = new Uint8Array(odd.buffer, 4, 16) as unknown as Float64Array<ArrayBuffer>;
  refused(
    "not aligned to 8 bytes",
    (status) => native().kernel_matmul_f64(1, 1, 2, 1, shifted, 2, 0, odd, 2, 0, 0, new Float64Array(1), 1, status),
  );
  // A background call reports into its own block.
  const rows = table(2, { shape: [2], classes: 2 });
  const status = newStatus();
  const code = await native().dataset_create(
    encode("[]"),
    2,
    rows.features,
    rows.features.byteLength,
    new Uint32Array(2),
    2,
    new Float64Array(0),
    0,
    handle,
    status,
  );
  assertThrows(() => check(code, status), EngineError, "Cannot use the data set");
  assertEquals(handle[0], 0);
});

Deno.test("a null status block does not end the process: the code alone tells", () => {
  const nothing = new Uint8Array(0);
  assertEquals(native().network_destroy(12345, nothing), 3);
});

Deno.test("a message that is too long is cut between characters", () => {
  const status = newStatus();
  const name = encode("é".repeat(2000));
  const config = encode(JSON.stringify({
    input: [1],
    layers: [{ kind: "relu" }],
    loss: { kind: "meanSquaredError" },
    seed: 0,
    precision: "f32",
    threads: 1,
  }));
  const handle = new Uint32Array(1);
  check(native().network_create(config, config.length, handle, status), status);
  const out = new Uint8Array(4);
  const code = native().network_read(handle[0]!, name, name.length, out, out.length, status);
  const fault = assertThrows(() => check(code, status), EngineError, "Cannot find tensor é");
  assert(!fault.message.includes("\ufffd"), "a character was cut in two");
  assertEquals(fault.code, "unknown-name");
  check(native().network_destroy(handle[0]!, status), status);
});

Deno.test("random handles name nothing", () => {
  for (const x of numbers(200, 1)) {
    const handle = Math.floor((x + 1) * 2 ** 31) >>> 0;
    const status = newStatus();
    // Generations begin at 1, so the lower numbers are free for the networks of other tests.
    if (handle >>> 20 < 100) continue;
    assertThrows(() => check(native().network_destroy(handle, status), status), EngineError, "it is disposed");
  }
});
