import { assert, assertEquals, assertThrows } from "@std/assert";
import { digitStrokes } from "../../src/data/glyph_strokes.ts";
import { glyphs } from "../../src/data/glyphs.ts";
import { sha256 } from "../../src/data/files.ts";
import { ConfigError } from "../../src/errors.ts";

const small = glyphs({ rows: 200, testRows: 50, seed: 1 });

Deno.test("glyphs() gives balanced byte images", () => {
  const { train, test } = small;
  assertEquals([train.rows, test?.rows, train.shape, train.scale], [200, 50, [28, 28, 1], [1 / 255]]);
  assert(train.features instanceof Uint8Array && train.features.length === 200 * 784);
  assert(train.targets.kind === "labels");
  assertEquals(train.targets.classes, 10);
  for (let digit = 0; digit < 10; digit++) {
    assertEquals(train.targets.values.filter((label) => label === digit).length, 20);
  }
});

Deno.test("glyphs() gives the same bytes on every machine", async () => {
  assert(small.train.features instanceof Uint8Array);
  assertEquals(await sha256(small.train.features), "f7dfbd1361c2b23261457f7f10c3dcf63c76d219c46059b612f702f790c7e658");
  assert(small.test?.features instanceof Uint8Array);
  assertEquals(await sha256(small.test.features), "65995015fd1d0e8873880a543381fe2741323171580e61153486da60e44823e8");
});

Deno.test("glyphs() draws a row the same whatever the number of rows", () => {
  const fewer = glyphs({ rows: 10, testRows: 50, seed: 1 });
  assertEquals(fewer.train.features, small.train.features.slice(0, 10 * 784));
  assertEquals(fewer.test?.features, small.test?.features);
});

Deno.test("glyphs() draws other images for another seed, and for testing", () => {
  const other = glyphs({ rows: 10, testRows: 10, seed: 2 });
  assert(String(other.train.features) !== String(small.train.features.slice(0, 10 * 784)));
  assert(String(other.train.features) !== String(other.test?.features));
});

Deno.test("glyphs() puts the ink well inside and leaves the rest to noise", () => {
  for (let row = 0; row < 200; row++) {
    const image = small.train.features.subarray(row * 784, (row + 1) * 784);
    const bright = image.filter((byte) => byte > 100).length;
    assert(bright > 15 && bright < 350, `row ${row} has ${bright} bright pixels`);
    const border = Array.from(
      { length: 28 },
      (_, at) => [image[at]!, image[27 * 28 + at]!, image[28 * at]!, image[28 * at + 27]!],
    );
    const inked = border.flat().filter((byte) => byte > 100).length;
    assert(inked <= 14, `row ${row} has ${inked} bright pixels on its border`);
  }
});

Deno.test("glyphs() is too hard for the nearest mean and not for the eye of a nearest neighbour", () => {
  const { train, test } = glyphs({ rows: 1500, testRows: 200, seed: 5 });
  assert(train.features instanceof Uint8Array && test?.features instanceof Uint8Array);
  const means = new Float64Array(10 * 784);
  train.features.forEach((byte, at) => means[(Math.floor(at / 784) % 10) * 784 + at % 784]! += byte / 150);
  const accuracy = (references: ArrayLike<number>) => {
    let right = 0;
    for (let row = 0; row < test.rows; row++) {
      let best = Infinity;
      let found = -1;
      for (let other = 0; other < references.length / 784; other++) {
        let distance = 0;
        for (let at = 0; at < 784; at++) {
          const gap = (test.features as Uint8Array)[row * 784 + at]! - references[other * 784 + at]!;
          distance += gap * gap;
        }
        if (distance < best) [best, found] = [distance, other % 10];
      }
      if (found === row % 10) right++;
    }
    return right / test.rows;
  };
  const mean = accuracy(means);
  const neighbour = accuracy(train.features);
  assert(mean < 0.8, `nearest mean ${mean}`);
  assert(neighbour > 0.8, `nearest neighbour ${neighbour}`);
});

Deno.test("glyphs() refuses numbers of rows and seeds that cannot be", () => {
  assertThrows(
    () => glyphs({ rows: 0 }),
    ConfigError,
    "Cannot use rows: expected a whole number from 1 to 10000000 but found 0",
  );
  assertThrows(() => glyphs({ testRows: 1.5 }), ConfigError, "Cannot use testRows");
  assertThrows(() => glyphs({ seed: -1 }), ConfigError, "Cannot use seed");
});

Deno.test("digitStrokes has strokes of at least two points for every digit", () => {
  assertEquals(digitStrokes.length, 10);
  for (const handwritings of digitStrokes) {
    assert(handwritings.length >= 2);
    for (const stroke of handwritings.flat()) assert(stroke.length >= 2);
  }
});
