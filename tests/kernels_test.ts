/** The kernels' export against plain loops. */

import { assert, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { ConfigError, conv2d, type ConvOptions, EngineError, type KernelArray, matmul } from "../src/kernels.ts";
import { numbers } from "./helpers.ts";
import { assertClose, tolerance } from "./tolerance.ts";

interface Product {
  readonly m: number;
  readonly n: number;
  readonly k: number;
  readonly alpha: number;
  readonly transposeA: boolean;
  readonly transposeB: boolean;
  readonly accumulate: boolean;
}

/** c = alpha · a · b + start, by the definition. */
function reference([a, b]: readonly [KernelArray, KernelArray], p: Product, start: KernelArray): Float64Array {
  return Float64Array.from(start, (before, index) => {
    const [row, column] = [Math.floor(index / p.n), index % p.n];
    let sum = 0;
    for (let i = 0; i < p.k; i++) {
      sum += a[p.transposeA ? i * p.m + row : row * p.k + i]! * b[p.transposeB ? column * p.k + i : i * p.n + column]!;
    }
    return p.alpha * sum + (p.accumulate ? before : 0);
  });
}

const products: fc.Arbitrary<Product> = fc.record({
  m: fc.integer({ min: 1, max: 40 }),
  n: fc.integer({ min: 1, max: 40 }),
  k: fc.integer({ min: 1, max: 40 }),
  alpha: fc.constantFrom(1, -1, 0.5, 0),
  transposeA: fc.boolean(),
  transposeB: fc.boolean(),
  accumulate: fc.boolean(),
});

for (const [precision, ArrayType] of [["f32", Float32Array], ["f64", Float64Array]] as const) {
  Deno.test(`matmul() equals plain loops: ${precision}`, () => {
    fc.assert(
      fc.property(products, fc.nat(1000), (product, seed) => {
        const { m, n, k } = product;
        const of = (count: number, seed: number) => ArrayType.from(numbers(count, seed));
        const operands = [of(m * k, seed), of(k * n, seed + 1)] as const;
        const out = of(m * n, seed + 2);
        const expected = reference(operands, product, out);
        const found = matmul(operands, { ...product, out });
        assert(found === out, "the result is the array that was given");
        // Sums of up to 40 numbers below 1: compared on the scale of 1.
        assertClose({ name: JSON.stringify(product), limit: 20 * tolerance.formula[precision] }, [...found, 1], [
          ...expected,
          1,
        ]);
      }),
      { seed: 1, numRuns: 200 },
    );
  });
}

Deno.test("matmul() makes an array of the operands' type, and accumulates only where it is told to", () => {
  const operands = [new Float64Array([1, 2, 3, 4]), new Float64Array([1, 0, 0, 1])] as const;
  const out = matmul(operands, { m: 2, n: 2, k: 2 });
  assertEquals(out, new Float64Array([1, 2, 3, 4]));
  matmul(operands, { m: 2, n: 2, k: 2, out });
  assertEquals(out, new Float64Array([1, 2, 3, 4]));
  matmul(operands, { m: 2, n: 2, k: 2, out, accumulate: true, alpha: 10 });
  assertEquals(out, new Float64Array([11, 22, 33, 44]));
  assertEquals(matmul([new Float32Array([2]), new Float32Array([3])], { m: 1, n: 1, k: 1 }), new Float32Array([6]));
});

Deno.test("matmul() works on parts of larger arrays and touches nothing beside them", () => {
  const all = new Float32Array(12).fill(7);
  const out = all.subarray(4, 8);
  const one = new Float32Array([1, 1]);
  matmul([one, one], { m: 2, n: 2, k: 1, out });
  assertEquals([...all], [7, 7, 7, 7, 1, 1, 1, 1, 7, 7, 7, 7]);
});

Deno.test("matmul() refuses sizes, lengths and types that do not fit", () => {
  const one = new Float32Array(1);
  const sizes = { m: 1, n: 1, k: 1 };
  const wrong = <T>(value: unknown) => value as T;
  const refused = (run: () => unknown, sentence: string) => {
    const fault = assertThrows(run, Error);
    assert(fault instanceof ConfigError || fault instanceof EngineError, String(fault));
    assertEquals(fault.message, sentence);
  };
  refused(
    () => matmul([one, one], { ...sizes, m: 0 }),
    "Cannot use matmul.m: expected a whole number from 1 to 16777216 but found 0",
  );
  refused(
    () => matmul([one, one], { ...sizes, k: 1.5 }),
    "Cannot use matmul.k: expected a whole number from 1 to 16777216 but found 1.5",
  );
  refused(() => matmul([one, one], { ...sizes, k: 2 }), "Cannot use a: expected 2 elements but found 1");
  refused(() => matmul([one, one], { ...sizes, n: 3 }), "Cannot use b: expected 3 elements but found 1");
  refused(
    () => matmul([one, one], { ...sizes, out: new Float32Array(2) }),
    "Cannot use c: expected 1 elements but found 2",
  );
  refused(
    () => matmul([one, one], { ...sizes, alpha: NaN }),
    "Cannot use matmul.alpha: expected a number but found NaN",
  );
  refused(
    () => matmul([one, wrong<Float32Array<ArrayBuffer>>(new Float64Array(1))], sizes),
    "Cannot use matmul.b: expected a Float32Array like a but found a Float64Array",
  );
  refused(
    () => matmul([one, one], { ...sizes, out: new Float64Array(1) }),
    "Cannot use matmul.out: expected a Float32Array like a but found a Float64Array",
  );
  const bytes = wrong<Float32Array<ArrayBuffer>>(new Uint8Array(1));
  refused(
    () => matmul([bytes, bytes], { ...sizes, out: bytes }),
    "Cannot use matmul.a: expected a Float32Array or Float64Array but found a Uint8Array",
  );
  refused(
    () => matmul([one, one], wrong({ ...sizes, transpose: true })),
    "Cannot use matmul.transpose: expected one of m, n, k, alpha, transposeA, transposeB, out, accumulate " +
      "(did you mean transposeA?) but found an unknown option",
  );
});

Deno.test("conv2d() equals plain loops, at odd shapes, in groups, with and without bias", () => {
  const shapes: (Omit<ConvOptions<KernelArray>, "bias"> & { readonly bias: boolean })[] = [
    { images: 2, shape: [5, 7, 3], outputs: 4, bias: true },
    { images: 1, shape: [1, 1, 1], outputs: 1, kernel: [1, 1], bias: false },
    { images: 3, shape: [8, 6, 4], outputs: 6, kernel: [2, 3], stride: [2, 1], padding: [3, 1], groups: 2, bias: true },
    { images: 2, shape: [9, 9, 16], outputs: 16, padding: [1, 1], bias: true },
    { images: 2, shape: [6, 5, 8], outputs: 8, padding: [1, 1], groups: 8, bias: false },
  ];
  for (const ArrayType of [Float32Array, Float64Array]) {
    for (const { bias: biased, ...sizes } of shapes) {
      const { images, shape: [height, width, channels], outputs } = sizes;
      const [[kh, kw], [sh, sw], [ph, pw]] = [sizes.kernel ?? [3, 3], sizes.stride ?? [1, 1], sizes.padding ?? [0, 0]];
      const groups = sizes.groups ?? 1;
      const [members, results] = [channels / groups, outputs / groups];
      const x = ArrayType.from(numbers(images * height * width * channels, 1));
      const w = ArrayType.from(numbers(outputs * members * kh * kw, 2));
      const bias = ArrayType.from(numbers(outputs, 3));
      const [rows, columns] = [(height + 2 * ph - kh) / sh + 1, (width + 2 * pw - kw) / sw + 1].map(Math.floor) as [
        number,
        number,
      ];
      const expected: number[] = [];
      for (let image = 0; image < images; image++) {
        for (let pixel = 0; pixel < rows * columns; pixel++) {
          for (let output = 0; output < outputs; output++) {
            let sum = biased ? bias[output]! : 0;
            for (let cell = 0; cell < kh * kw; cell++) {
              const i = Math.floor(pixel / columns) * sh + Math.floor(cell / kw) - ph;
              const j = pixel % columns * sw + cell % kw - pw;
              if (i < 0 || i >= height || j < 0 || j >= width) continue;
              for (let member = 0; member < members; member++) {
                const channel = Math.floor(output / results) * members + member;
                sum += x[((image * height + i) * width + j) * channels + channel]! *
                  w[(output * members + member) * kh * kw + cell]!;
              }
            }
            expected.push(sum);
          }
        }
      }
      const y = conv2d<KernelArray>([x, w], { ...sizes, ...(biased && { bias }) });
      assertClose({ name: JSON.stringify(sizes), limit: ArrayType === Float32Array ? 1e-5 : 1e-12 }, y, expected);
    }
  }
});

Deno.test("conv2d() refuses sizes that do not fit", () => {
  const options: ConvOptions<KernelArray> = { images: 1, shape: [4, 4, 2], outputs: 2 };
  const [x, w] = [new Float32Array(32), new Float32Array(36)];
  const message = (make: () => unknown) => assertThrows(make, Error).message;
  assertEquals(message(() => conv2d([x, w.subarray(1)], options)), "Cannot use w: expected 36 elements but found 35");
  assertEquals(
    message(() => conv2d([x, w], { ...options, groups: 3 })),
    "Cannot use conv2d: expected a number of groups that divides 2 input and 2 output channels but found 3",
  );
  assertEquals(
    message(() => conv2d([x, w], { ...options, kernel: [5, 3] })),
    "Cannot use conv2d: expected a kernel no larger than the padded image (4×4) but found 5×3",
  );
  assertEquals(
    message(() => conv2d<KernelArray>([x, new Float64Array(36)], options)),
    "Cannot use conv2d.w: expected a Float32Array like x but found a Float64Array",
  );
});
