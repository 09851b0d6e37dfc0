import { assert, assertAlmostEquals, assertEquals, assertStringIncludes } from "@std/assert";
import { conv2d, dense, flatten } from "../../src/network/layers.ts";
import { Network } from "../../src/network/network.ts";
import { native } from "../../src/ffi/native.ts";
import { parseNpy, writeNpy } from "../../src/data/npy.ts";
import { jsonLines, run, temporaryFolder } from "./helpers.ts";

native();

Deno.test("predict gives classes and probabilities as lines, JSON, CSV and NPY", async (t) => {
  await using folder = await temporaryFolder();
  const cwd = folder.path;
  const train = ["train", "--data", "spirals", "--rows", "300", "--epochs", "5", "--hidden", "16", "--out", "a"];
  assertEquals((await run([...train, "--quiet"], { cwd })).code, 0);
  const features = Float32Array.of(0.1, 0.2, -0.5, 0.5, 0.9, -0.3);
  await writeNpy(`${cwd}/rows.npy`, { type: "f4", shape: [3, 2], values: features });
  using network = await Network.load(`${cwd}/a/checkpoint.safetensors`);
  const expected = await network.predict(features);
  const best = (row: number) => {
    const own = [...expected.subarray(3 * row, 3 * row + 3)];
    return own.indexOf(Math.max(...own));
  };
  const base = ["predict", "--checkpoint", "a/checkpoint.safetensors", "--input", "rows.npy"];

  await t.step("lines", async () => {
    const { code, stdout } = await run(base, { cwd });
    assertEquals(code, 0);
    const lines = [0, 1, 2].map((row) => `${row}  ${best(row)}  ${expected[3 * row + best(row)]!.toFixed(4)}\n`);
    assertEquals(stdout, lines.join(""));
  });
  await t.step("JSON, from the folder of the run", async () => {
    const { stdout } = await run(["predict", "--checkpoint", "a", "--input", "rows.npy", "--json"], { cwd });
    const rows = jsonLines(stdout);
    assertEquals(rows.flatMap(({ probabilities }) => probabilities as number[]), [...expected]);
    assertEquals(rows.map(({ label }) => label), [0, 1, 2].map(best));
  });
  await t.step("NPY", async () => {
    assertEquals((await run([...base, "--out", "p.npy"], { cwd })).code, 0);
    const array = parseNpy(await Deno.readFile(`${cwd}/p.npy`), "p.npy");
    assertEquals([array.shape, array.values], [[3, 3], expected]);
  });
  await t.step("CSV", async () => {
    assertEquals((await run([...base, "--out", "p.csv"], { cwd })).code, 0);
    const [header, first] = (await Deno.readTextFile(`${cwd}/p.csv`)).split("\n");
    assertEquals(header, "row,class,probability,p(0),p(1),p(2)");
    assertEquals(first, `0,${best(0)},${expected[best(0)]},${[...expected.subarray(0, 3)].join(",")}`);
  });
  for (
    const [args, code, message] of [
      [["--checkpoint", "a"], 2, "expected --input FILE after it"],
      [["--checkpoint", "b", "--input", "rows.npy"], 1, "Cannot read b: the file or its folder does not exist"],
      [["--checkpoint", "a", "--input", "none.npy"], 1, "Cannot read none.npy: expected a file but found nothing"],
      [["--checkpoint", "a", "--input", "a/config.json"], 1, "expected an NPY or IDX file"],
      [
        ["--checkpoint", "a/config.json", "--input", "rows.npy"],
        1,
        "Cannot read a/config.json: expected a safetensors file that train or Network.save wrote but found text",
      ],
      [["--checkpoint", "rows.npy", "--input", "rows.npy"], 1, "but found an NPY file"],
      [["--checkpoint", "a", "--input", "wide.npy"], 1, "expected rows of 2 numbers but found rows of 5"],
      [["--checkpoint", "a", "--input", "cut.npy"], 1, "Cannot read cut.npy: expected 152 bytes for shape [3, 2]"],
      [["--checkpoint", "a", "--input", "rows.npy", "--out", "p.txt"], 2, "a name that ends in .npy, .csv, .jsonl"],
      [["--checkpoint", "a", "--input", "rows.npy", "--out", "no/p.npy"], 1, "Cannot write no/p.npy"],
    ] as const
  ) {
    await t.step(`${args.join(" ")} is refused`, async () => {
      await writeNpy(`${cwd}/wide.npy`, { type: "f4", shape: [1, 5], values: new Float32Array(5) });
      await Deno.writeFile(`${cwd}/cut.npy`, (await Deno.readFile(`${cwd}/rows.npy`)).slice(0, -3));
      const outcome = await run(["predict", ...args], { cwd });
      assertEquals([outcome.code, outcome.stdout], [code, ""], outcome.stderr);
      assertStringIncludes(outcome.stderr, message);
    });
  }
});

Deno.test("predict treats new CSV rows as the training rows were treated", async () => {
  await using folder = await temporaryFolder();
  const cwd = folder.path;
  const town = (row: number) => ["north", "south"][row % 2]!;
  const price = (row: number) => 0.02 * row + (row % 2 === 0 ? 1 : -1);
  const lines = Array.from({ length: 200 }, (_, row) => `${1000 + row},${town(row)},${price(row)}`);
  await Deno.writeTextFile(`${cwd}/homes.csv`, `size,town,price\n${lines.join("\n")}\n`);
  const train = ["train", "--data", "csv:homes.csv", "--target", "price", "--task", "regression", "--one-hot", "town"];
  const options = ["--epochs", "60", "--hidden", "16", "--learning-rate", "0.02", "--batch-size", "16"];
  const trained = await run([...train, ...options, "--out", "a", "--json"], { cwd });
  assertEquals(trained.code, 0, trained.stderr);
  const events = jsonLines(trained.stdout);
  assertEquals([events[0]!.validationAccuracy, events.at(-1)!.testLoss], [null, null]);
  // Other order of columns, and no target.
  await Deno.writeTextFile(`${cwd}/new.csv`, "town,size\nsouth,1101\nnorth,1050\n");
  const { code, stdout, stderr } = await run(["predict", "--checkpoint", "a", "--input", "new.csv", "--json"], { cwd });
  assertEquals(code, 0, stderr);
  const [south, north] = jsonLines(stdout).map(({ values }) => (values as number[])[0]!);
  assertAlmostEquals(south!, price(101), 0.3);
  assertAlmostEquals(north!, price(50), 0.3);
  await Deno.writeTextFile(`${cwd}/new.csv`, "town,size\nwest,1101\n");
  const unknown = await run(["predict", "--checkpoint", "a", "--input", "new.csv"], { cwd });
  assertEquals(unknown.code, 1);
  assertStringIncludes(unknown.stderr, "new.csv, line 2, column 1 (town): expected a category seen in training");
});

Deno.test("predict reads images in IDX, scaled as in training", async () => {
  await using folder = await temporaryFolder();
  const cwd = folder.path;
  const train = ["train", "--rows", "200", "--test-rows", "10", "--epochs", "1", "--hidden", "8", "--out", "a"];
  assertEquals((await run([...train, "--quiet"], { cwd })).code, 0);
  const pixels = Uint8Array.from({ length: 2 * 784 }, (_, index) => (index * 37) % 256);
  const idx = Uint8Array.of(0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 28, 0, 0, 0, 28, ...pixels);
  await Deno.writeFile(`${cwd}/images`, idx);
  const { code, stdout, stderr } = await run(["predict", "--checkpoint", "a", "--input", "images", "--json"], { cwd });
  assertEquals(code, 0, stderr);
  using network = await Network.load(`${cwd}/a/checkpoint.safetensors`);
  const expected = await network.predict(Float32Array.from(pixels, (pixel) => pixel / 255));
  const found = jsonLines(stdout).flatMap(({ probabilities }) => probabilities as number[]);
  assertEquals(found.length, 20);
  found.forEach((probability, index) => assert(Math.abs(probability - expected[index]!) < 1e-5));
});

Deno.test("predict takes images in the network's shape, flat or without a single channel, and no other layout", async (t) => {
  await using folder = await temporaryFolder();
  const cwd = folder.path;
  const layers = () => [conv2d(2), flatten(), dense(3)];
  using colour = Network.create({ input: [4, 6, 3], layers: layers(), seed: 1 });
  using grey = Network.create({ input: [4, 6, 1], layers: layers(), seed: 1 });
  await colour.save(`${cwd}/colour.safetensors`);
  using flat = Network.create({ input: [24], layers: [dense(3)], seed: 1 });
  await flat.save(`${cwd}/flat.safetensors`);
  await grey.save(`${cwd}/grey.safetensors`);
  const attempt = async (network: string, shape: number[]) => {
    const count = shape.reduce((product, axis) => product * axis, 1);
    const values = Float32Array.from({ length: count }, (_, index) => Math.sin(index));
    await writeNpy(`${cwd}/rows.npy`, { type: "f4", shape, values });
    const place = ["--checkpoint", `${network}.safetensors`, "--input", "rows.npy", "--json"];
    return { values, ...await run(["predict", ...place], { cwd }) };
  };
  for (
    const [network, shape] of [
      [colour, [2, 4, 6, 3]],
      [colour, [4, 6, 3]],
      [colour, [2, 72]],
      [grey, [2, 4, 6, 1]],
      [grey, [2, 4, 6]],
      [grey, [4, 6]],
      [grey, [2, 24]],
      [flat, [2, 4, 6]],
    ] as const
  ) {
    await t.step(`[${shape}] for [${network.config.input}]`, async () => {
      const { values, code, stdout, stderr } = await attempt(
        network === colour ? "colour" : network === grey ? "grey" : "flat",
        [...shape],
      );
      assertEquals(code, 0, stderr);
      const found = jsonLines(stdout).flatMap(({ probabilities }) => probabilities as number[]);
      assertEquals(found, [...await network.predict(values)]);
    });
  }
  const wanted = "rows of 4 × 6 × 3, or of 72 numbers in that order";
  for (
    const [network, shape, message] of [
      ["colour", [2, 3, 4, 6], `expected ${wanted} but found rows of 3 × 4 × 6 (put the channels last)`],
      ["colour", [2, 12, 6], `expected ${wanted} but found rows of 12 × 6`],
      ["colour", [2, 6, 4, 3], `expected ${wanted} but found rows of 6 × 4 × 3`],
      ["colour", [2, 71], `expected ${wanted} but found rows of 71`],
      ["flat", [2, 3, 4, 2], "expected rows of 24 numbers but found rows of 3 × 4 × 2"],
      ["grey", [2, 6, 4], "expected rows of 4 × 6 × 1, or of 24 numbers in that order but found rows of 6 × 4"],
      ["grey", [2, 1, 4, 6], "but found rows of 1 × 4 × 6 (put the channels last)"],
    ] as const
  ) {
    await t.step(`[${shape}] for ${network} is refused`, async () => {
      const { code, stderr } = await attempt(network, [...shape]);
      assertEquals(code, 1);
      assertStringIncludes(stderr, message);
    });
  }
});
