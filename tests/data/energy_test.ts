import { assertAlmostEquals, assertEquals, assertRejects } from "@std/assert";
import { energy } from "../../src/data/energy.ts";
import { DataError } from "../../src/errors.ts";
import { inFolder, nowhere, realDataMissing, withEnvironment } from "./helpers.ts";

Deno.test("energy() says where to put the missing file", async () => {
  await inFolder({}, (own) =>
    withEnvironment(nowhere, async () => {
      await assertRejects(
        () => energy({ dataDir: own }),
        DataError,
        "Cannot find energy: expected the file ENB2012_data.csv (columns X1 to X8, Y1, Y2) in one of the folders " +
          `${own}, ${own}/energy-efficiency, /nowhere/cache/energy-efficiency (save the spreadsheet`,
      );
    }));
});

Deno.test("energy() refuses another table under its name", async () => {
  await inFolder({ "ENB2012_data.csv": "a,b\n1,2\n" }, (folder) =>
    withEnvironment(nowhere, async () => {
      await assertRejects(() => energy({ dataDir: folder }), Error, "Cannot use target: expected a column of");
    }));
});

Deno.test({
  name: "energy() prepares the real file as the paper's experiment does",
  ignore: realDataMissing(),
  fn: async () => {
    const { train, test, transform } = await energy({ precision: "f64" });
    assertEquals([train.rows, test?.rows, train.shape], [576, 192, [16]]);
    assertEquals(train.targets.kind === "values" && train.targets.names, ["Y1"]);
    assertEquals([...train.targets.values.slice(0, 5)], [15.55, 15.55, 15.55, 15.55, 20.84]);
    assertEquals(
      transform.columns.map((column) => column.kind === "number" ? column.name : [column.name, ...column.categories]),
      ["X1", "X2", "X3", "X4", "X5", ["X6", "2", "3", "4", "5"], "X7", ["X8", "0", "1", "2", "3", "4", "5"]],
    );
    const [x1] = transform.columns;
    // Mean and population deviation of the first 576 values of X1, by NumPy.
    assertAlmostEquals(x1?.kind === "number" ? x1.mean : NaN, 0.7641666666666667, 1e-12);
    assertAlmostEquals(x1?.kind === "number" ? x1.deviation : NaN, 0.1057085878987869, 1e-12);
    for (let row = 0; row < train.rows; row++) {
      const inputs = Array.from(train.features.subarray(16 * row, 16 * row + 16));
      const sum = (from: number, to: number) => inputs.slice(from, to).reduce((total, value) => total + value, 0);
      assertEquals([sum(5, 9), sum(10, 16)], [1, 1], `row ${row}`);
    }
  },
});
