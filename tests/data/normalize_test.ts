import { assert, assertEquals, assertThrows } from "@std/assert";
import { normalizeChannels } from "../../src/data/normalize.ts";
import type { Table } from "../../src/data/table.ts";
import { ConfigError } from "../../src/errors.ts";

function images(features: Table["features"]): Table {
  const rows = features.length / 4;
  return { rows, shape: [1, 2, 2], features, targets: { kind: "labels", classes: 2, values: new Uint32Array(rows) } };
}

Deno.test("normalizeChannels() gives each channel mean 0 and deviation 1 over the training rows, all rows the same", () => {
  const train = images(Uint8Array.of(0, 10, 2, 20, 4, 30, 6, 40));
  const test = images(Uint8Array.of(1, 2, 3, 4));
  const data = normalizeChannels({ name: "some", train, test, extra: 1 });
  assertEquals([data.name, data.extra, data.test!.scale, data.test!.offset], [
    "some",
    1,
    data.train.scale,
    data.train.offset,
  ]);
  assert(data.train.features === train.features, "bytes stay bytes");
  for (const channel of [0, 1]) {
    const values = [0, 1, 2, 3].map((pixel) => {
      const { features, scale, offset } = data.train;
      return features[pixel * 2 + channel]! * scale![channel]! + offset![channel]!;
    });
    const mean = values.reduce((sum, value) => sum + value, 0) / 4;
    const variance = values.reduce((sum, value) => sum + value ** 2, 0) / 4;
    assert(Math.abs(mean) < 1e-12 && Math.abs(variance - 1) < 1e-12, `${mean} ${variance}`);
  }
});

Deno.test("normalizeChannels() refuses features that are not bytes", () => {
  assertThrows(
    () => normalizeChannels({ name: "some", train: images(new Float32Array(4)) }),
    ConfigError,
    "Cannot use features: expected a Uint8Array to normalize but found a Float32Array",
  );
});
