/** Safetensors: every way in which a file can lie is refused with a sentence, and what is written is read back. */

import { assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { CheckpointError } from "../../src/errors.ts";
import { decodeSafetensors, type DType, encodeSafetensors, type Tensor } from "../../src/run/safetensors.ts";

/** A file from a header (JSON, or raw text) and as many bytes of data. */
function file(header: unknown, dataBytes = 8): Uint8Array<ArrayBuffer> {
  const json = new TextEncoder().encode(typeof header === "string" ? header : JSON.stringify(header));
  const bytes = new Uint8Array(8 + json.length + dataBytes);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(json.length), true);
  bytes.set(json, 8);
  return bytes;
}

const entry = (changes: Record<string, unknown> = {}) => ({
  dtype: "F32",
  shape: [2],
  data_offsets: [0, 8],
  ...changes,
});

function withLength(length: bigint): Uint8Array<ArrayBuffer> {
  const bytes = file({ a: entry() });
  new DataView(bytes.buffer).setBigUint64(0, length, true);
  return bytes;
}

/** Lies, each with a part of the sentence that refuses it. */
const lies: Record<string, [Uint8Array<ArrayBuffer>, string]> = {
  "no bytes": [new Uint8Array(0), "a safetensors file but found only 0 bytes"],
  "too short for a length": [new Uint8Array(7), "a safetensors file but found only 7 bytes"],
  "a header longer than the file": [withLength(5000n), "expected a header of 5000 bytes but found the end of the file"],
  "a header longer than any": [
    withLength(2n ** 63n),
    "a safetensors header of at most 100 MB but found one of 9223372036854775808",
  ],
  "a header of no bytes": [withLength(0n), "expected a safetensors header in JSON but found other bytes"],
  "a header cut short": [withLength(20n), "expected a safetensors header in JSON but found other bytes"],
  "a header that is no JSON": [file("{a: 1}"), "expected a safetensors header in JSON"],
  "a header that is no UTF-8": [
    file("{}").map((byte, at) => at === 8 ? 0xff : byte),
    "expected a safetensors header in JSON",
  ],
  "a header that is a list": [file("[]"), "expected a JSON object as header"],
  "a header that is a number": [file("7"), "expected a JSON object as header"],
  "a header that is null": [file("null"), "expected a JSON object as header"],
  "an entry that is no object": [file({ a: 5 }), "expected a tensor entry for a but found 5"],
  "an entry that is a list": [file({ a: [] }), "expected a tensor entry for a but found []"],
  "an entry that is null": [file({ a: null }), "expected a tensor entry for a but found null"],
  "no type": [file({ a: entry({ dtype: undefined }) }), "expected a tensor entry for a of type F64"],
  "an unknown type": [file({ a: entry({ dtype: "F31" }) }), 'but found "F31"'],
  "a type that every object has": [file({ a: entry({ dtype: "toString" }) }), 'but found "toString"'],
  "a type that is a number": [file({ a: entry({ dtype: 32 }) }), "but found 32"],
  "no shape": [file({ a: entry({ shape: undefined }) }), "with a shape of whole numbers but found nothing"],
  "a shape that is a number": [file({ a: entry({ shape: 2 }) }), "with a shape of whole numbers but found 2"],
  "a negative axis": [file({ a: entry({ shape: [-2] }) }), "with a shape of whole numbers but found [-2]"],
  "a fractional axis": [file({ a: entry({ shape: [0.5, 4] }) }), "with a shape of whole numbers but found [0.5,4]"],
  "an axis in words": [file({ a: entry({ shape: ["2"] }) }), 'with a shape of whole numbers but found ["2"]'],
  "an axis beyond exact numbers": [
    file('{"a":{"dtype":"F32","shape":[9007199254740993],"data_offsets":[0,8]}}'),
    "whole numbers",
  ],
  "axes whose product overflows": [
    file({ a: entry({ shape: [4294967296, 4294967296, 4294967296] }) }),
    "expected 3.1691265005705735e+29 bytes for a of shape",
  ],
  "axes whose product wraps to the right size in 64 bits": [
    file({ a: entry({ shape: [2 ** 32, 2 ** 31, 2, 2 ** 50, 2], data_offsets: [0, 0] }) }, 0),
    "bytes for a of shape",
  ],
  "no offsets": [file({ a: entry({ data_offsets: undefined }) }), "with two offsets but found nothing"],
  "one offset": [file({ a: entry({ data_offsets: [8] }) }), "with two offsets but found [8]"],
  "three offsets": [file({ a: entry({ data_offsets: [0, 4, 8] }) }), "with two offsets but found [0,4,8]"],
  "a negative offset": [file({ a: entry({ data_offsets: [-8, 0] }) }), "with two offsets but found [-8,0]"],
  "a fractional offset": [file({ a: entry({ data_offsets: [0, 7.5] }) }), "with two offsets but found [0,7.5]"],
  "reversed offsets": [file({ a: entry({ data_offsets: [8, 0] }) }), "offsets 8 to 0"],
  "offsets outside the file": [
    file({ a: entry({ data_offsets: [8, 16] }) }),
    "within 8 bytes of data but found offsets 8 to 16",
  ],
  "offsets far outside": [file({ a: entry({ data_offsets: [0, 2 ** 52] }) }), "within 8 bytes of data"],
  "a shape larger than its bytes": [
    file({ a: entry({ shape: [3] }) }),
    "expected 12 bytes for a of shape [3] but found 8",
  ],
  "a shape smaller than its bytes": [
    file({ a: entry({ shape: [1] }) }),
    "expected 4 bytes for a of shape [1] but found 8",
  ],
  "another type than its bytes": [
    file({ a: entry({ dtype: "F64" }) }),
    "expected 16 bytes for a of shape [2] but found 8",
  ],
  "two tensors on the same bytes": [file({ a: entry(), b: entry() }), "a gap or an overlap"],
  "two tensors that overlap": [
    file({ a: entry(), b: entry({ shape: [1], data_offsets: [4, 8] }) }),
    "expected b to begin at byte 8 of the data but found byte 4",
  ],
  "a gap between tensors": [
    file({ a: entry({ shape: [1], data_offsets: [0, 4] }), b: entry({ shape: [1], data_offsets: [8, 12] }) }, 12),
    "expected b to begin at byte 4 of the data but found byte 8",
  ],
  "a gap before the first tensor": [
    file({ a: entry({ shape: [1], data_offsets: [4, 8] }) }),
    "expected a to begin at byte 0",
  ],
  "bytes after the last tensor": [file({ a: entry() }, 9), "expected 8 bytes of data but found 9"],
  "data without tensors": [file({}, 1), "expected 0 bytes of data but found 1"],
  "the same name twice": [
    file('{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}'),
    "a gap or an overlap",
  ],
  "metadata that is a list": [file({ __metadata__: ["x"] }, 0), 'expected metadata of words but found ["x"]'],
  "metadata with a number": [
    file({ __metadata__: { epoch: 3 } }, 0),
    'expected metadata of words but found {"epoch":3}',
  ],
  "metadata with an object": [file({ __metadata__: { a: {} } }, 0), "expected metadata of words"],
};

for (const [what, [bytes, sentence]] of Object.entries(lies)) {
  Deno.test(`decodeSafetensors() refuses ${what}`, () => {
    const fault = assertThrows(() => decodeSafetensors(bytes, "model.safetensors"), CheckpointError, sentence);
    assertEquals(fault.message.startsWith("Cannot read model.safetensors: expected "), true, fault.message);
  });
}

Deno.test("decodeSafetensors() keeps messages short, whatever the file holds", () => {
  const long = "x".repeat(100_000);
  for (
    const header of [{ a: long }, { a: entry({ dtype: long }) }, { __metadata__: [long] }, {
      a: entry({ shape: long }),
    }]
  ) {
    const fault = assertThrows(() => decodeSafetensors(file(header), "f"), CheckpointError);
    assertEquals(fault.message.length < 200, true);
  }
});

Deno.test("decodeSafetensors() takes what the format allows", () => {
  assertEquals(decodeSafetensors(file({}, 0), "f"), { metadata: {}, tensors: new Map() });
  const { tensors } = decodeSafetensors(
    file({
      b: entry({ shape: [], data_offsets: [8, 12] }),
      a: entry(),
      none: entry({ shape: [0, 9007199254740991], data_offsets: [8, 8] }),
    }, 12),
    "f",
  );
  assertEquals([...tensors.keys()], ["b", "a", "none"]);
  assertEquals(tensors.get("b")!.bytes.length, 4);
  assertEquals(tensors.get("none")!.bytes.length, 0);
});

Deno.test("encodeSafetensors() begins its data at a multiple of 8", () => {
  for (let length = 0; length < 9; length++) {
    const parts = encodeSafetensors({ metadata: { key: "x".repeat(length) }, tensors: new Map() });
    assertEquals((parts[0]!.length + parts[1]!.length) % 8, 0);
  }
});

Deno.test("encodeSafetensors() refuses the name that the format keeps for itself", () => {
  const tensors = new Map([["__metadata__", { dtype: "U8" as const, shape: [0], bytes: new Uint8Array(0) }]]);
  assertThrows(() => encodeSafetensors({ metadata: {}, tensors }), CheckpointError, "__metadata__");
});

const sizes: Record<DType, number> = { F64: 8, F32: 4, F16: 2, U32: 4, I64: 8, I32: 4, U8: 1 };

/** A tensor of any type and shape, with any bytes. */
const tensors: fc.Arbitrary<Tensor> = fc
  .record({
    dtype: fc.constantFrom(...Object.keys(sizes) as DType[]),
    shape: fc.array(fc.nat(4), { maxLength: 4 }),
    seed: fc.nat(255),
  })
  .map(({ dtype, shape, seed }) => {
    const count = shape.reduce((product, axis) => product * axis, 1) * sizes[dtype];
    return { dtype, shape, bytes: Uint8Array.from({ length: count }, (_, at) => (at * 37 + seed) % 256) };
  });

const words = fc.string({ unit: "binary" }).filter((text) => text.isWellFormed());

/** Names that are hard on JavaScript objects come up often. */
const names = fc.oneof(words, fc.constantFrom("__proto__", "constructor", "0", "10", "2", "toString"))
  .filter((name) => name !== "__metadata__");

const whole = (parts: Uint8Array<ArrayBuffer>[]) => new Uint8Array(parts.flatMap((part) => [...part]));

Deno.test("what encodeSafetensors() writes, decodeSafetensors() reads", () => {
  fc.assert(
    fc.property(fc.dictionary(words, words), fc.array(fc.tuple(names, tensors)), (metadata, entries) => {
      const given = new Map(entries);
      const read = decodeSafetensors(whole(encodeSafetensors({ metadata, tensors: given })), "f");
      assertEquals({ ...read.metadata }, { ...metadata });
      const sorted = (map: ReadonlyMap<string, Tensor>) => [...map].sort(([a], [b]) => a < b ? -1 : 1);
      assertEquals(sorted(read.tensors), sorted(given));
    }),
    { seed: 1, numRuns: 300 },
  );
});

Deno.test("decodeSafetensors() reads or refuses any bytes, and never fails otherwise", () => {
  const base = whole(encodeSafetensors({
    metadata: { leanprop: "{}" },
    tensors: new Map([["a", { dtype: "F32", shape: [2, 1], bytes: new Uint8Array(8) }]]),
  }));
  const readOrRefused = (bytes: Uint8Array<ArrayBuffer>) => {
    try {
      decodeSafetensors(bytes, "f");
    } catch (fault) {
      if (!(fault instanceof CheckpointError)) throw fault;
    }
  };
  const changes = fc.array(fc.tuple(fc.nat(base.length - 1), fc.nat(255)), { minLength: 1, maxLength: 4 });
  fc.assert(
    fc.property(changes, fc.nat(base.length), (changed, length) => {
      const bytes = base.slice(0, Math.max(length, 1));
      for (const [at, byte] of changed) if (at < bytes.length) bytes[at] = byte;
      readOrRefused(bytes);
      const kept = base.slice();
      for (const [at, byte] of changed) kept[at] = byte;
      readOrRefused(kept);
    }),
    { seed: 1, numRuns: 2000 },
  );
});
