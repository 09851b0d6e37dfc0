import { assert, assertEquals, assertRejects } from "@std/assert";
import { writeNpy } from "../../src/data/npy.ts";
import { writeNpz } from "../../src/data/npz.ts";
import { type DataOptions, dataSources, loadData } from "../../src/data/registry.ts";
import { ConfigError } from "../../src/errors.ts";
import { idxBytes, inFolder, withEnvironment } from "./helpers.ts";

Deno.test("dataSources describes each set in one line", () => {
  for (const source of dataSources) {
    assert(source.description.length > 0 && !source.description.includes("\n"), source.name);
    assert(!/\.$/.test(source.description), source.name);
  }
  assertEquals(new Set(dataSources.map(({ name }) => name)).size, dataSources.length);
});

Deno.test("loadData() makes the generated sets with their options", async () => {
  const glyphs = await loadData("glyphs", { rows: 20, testRows: 10, seed: 4 });
  assertEquals([glyphs.name, glyphs.train.rows, glyphs.test?.rows], ["glyphs", 20, 10]);
  const spirals = await loadData("spirals", { rows: 20, testRows: 10, classes: 4, noise: 0 });
  assertEquals(spirals.train.targets.kind === "labels" && spirals.train.targets.classes, 4);
  const spectra = await loadData("spectra", { rows: 6, testRows: 3, classes: 3, seed: 2 });
  assertEquals([spectra.name, spectra.train.rows, spectra.train.shape, spectra.test?.rows], ["spectra", 6, [5000], 3]);
});

Deno.test("loadData() reads files by path", async () => {
  const files = {
    "a.csv": "x,y\n1,2\n3,4\n",
    i: idxBytes(0x08, [2, 2, 2], new Uint8Array(8)),
    l: idxBytes(0x08, [2], [0, 1]),
  };
  await inFolder(files, async (folder) => {
    const csv = await loadData(`csv:${folder}/a.csv`, { task: "regression", target: "x", standardize: false });
    assertEquals([csv.name, ...csv.train.features], ["csv", 2, 4]);
    const idx = await loadData(`idx:${folder}/i,${folder}/l`);
    assertEquals([idx.name, idx.train.shape], ["idx", [2, 2, 1]]);
    const features = { type: "f4", shape: [2, 2], values: Float32Array.of(1, 2, 3, 4) } as const;
    const targets = { type: "u1", shape: [2], values: Uint8Array.of(0, 1) } as const;
    await writeNpy(`${folder}/x.npy`, features);
    await writeNpy(`${folder}/y.npy`, targets);
    await writeNpz(`${folder}/a.npz`, { arrays: { features, targets } });
    const npy = await loadData(`npy:${folder}/x.npy,${folder}/y.npy`, { classes: 3 });
    assertEquals(npy.train.targets, { kind: "labels", classes: 3, values: Uint32Array.of(0, 1) });
    assertEquals((await loadData(`npy:${folder}/a.npz`)).train.features, features.values);
    await assertRejects(
      () => loadData(`npy:${folder}/x.npy`),
      ConfigError,
      "npy:FILE.npz, or 2 or 4 paths with commas between",
    );
  });
});

Deno.test("loadData() names the nearest set for a slip", async () => {
  const refused = (name: string, message: string) => assertRejects(() => loadData(name), ConfigError, message);
  await refused(
    "mnits",
    "Cannot use data: expected one of glyphs, spirals, spectra, mnist, cifar10, energy, csv:PATH, idx:PATH, npy:PATH (did you mean mnist?) but found mnits",
  );
  await refused("cvs:a.csv", "(did you mean csv:?) but found cvs:a.csv");
  await refused("imagenet", "npy:PATH but found imagenet");
  await refused("csv", "(did you mean csv:?) but found csv");
  await refused("csv:", "Cannot use data: expected a path after csv: but found nothing");
});

Deno.test("loadData() refuses options that a set does not read", async () => {
  const refused = (name: string, options: DataOptions, message: string) =>
    assertRejects(() => loadData(name, options), ConfigError, message);
  await refused(
    "glyphs",
    { download: true },
    "Cannot use download: expected options that glyphs knows (rows, testRows, seed) but found true",
  );
  await refused(
    "mnist",
    { target: "y" },
    "Cannot use target: expected options that mnist knows (dataDir, download) but found y",
  );
  await refused("npy:a.npz", { delimiter: ";" }, "Cannot use delimiter");
  // Undefined is the same as not given, and what steers a download harms no set.
  await loadData("spirals", { rows: 5, onProgress: () => {} });
});

Deno.test("loadData() hands the folder to every named set", async () => {
  await withEnvironment({ LEANPROP_DATA: undefined, LEANPROP_CACHE: "/nowhere/cache" }, async () => {
    for (const name of ["mnist", "cifar10", "energy"]) {
      await assertRejects(() => loadData(name, { dataDir: "/nowhere/own" }), Error, "/nowhere/own");
    }
  });
});
