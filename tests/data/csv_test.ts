import { assertAlmostEquals, assertEquals, assertRejects, assertThrows } from "@std/assert";
import fc from "fast-check";
import { type CsvOptions, parseCsv, readCsv } from "../../src/data/csv.ts";
import { parseNumber, parseSheet } from "../../src/data/csv_records.ts";
import { type CsvTransform, parseCsvFeatures } from "../../src/data/csv_transform.ts";
import { ConfigError, DataError } from "../../src/errors.ts";
import { gzip, inFolder } from "./helpers.ts";

const where = "a.csv";

function fields(text: string, options: { header?: boolean; delimiter?: string } = {}): (readonly string[])[] {
  return parseSheet(text, { where, header: false, ...options }).records.map((record) => record.fields);
}

Deno.test("parseSheet() reads quotes, line ends and a byte order mark", () => {
  assertEquals(fields('a,"b, ""c"""\r\n"d\ne",f'), [["a", 'b, "c"'], ["d\ne", "f"]]);
  assertEquals(fields("a,b\rc,d\r"), [["a", "b"], ["c", "d"]]);
  assertEquals(fields("\ufeffa,b"), [["a", "b"]]);
  assertEquals(fields('a;"b;c"\n1;2', { delimiter: ";" }), [["a", "b;c"], ["1", "2"]]);
  assertEquals(fields("a\tb\n1\t2", { delimiter: "\t" }), [["a", "b"], ["1", "2"]]);
  assertEquals(fields('5" pipe,1'), [['5" pipe', "1"]]);
  assertEquals(fields("x,\n,y"), [["x", ""], ["", "y"]]);
});

Deno.test("parseSheet() gives back any fields that were quoted", () => {
  const field = fc.string({ unit: fc.constantFrom("a", "é", '"', ",", "\n", "\r", " ", "1", "😀") });
  const records = fc.integer({ min: 1, max: 4 }).chain((width) =>
    // A first and last field that are never blank keep records and columns from counting as empty.
    fc.array(fc.tuple(fc.constant("<"), fc.array(field, { minLength: width, maxLength: width }), fc.constant(">")), {
      minLength: 1,
    })
  );
  fc.assert(fc.property(records, fc.constantFrom("\n", "\r\n"), (rows, lineEnd) => {
    const expected = rows.map(([first, middle, last]) => [first, ...middle, last]);
    const text = expected.map((row) => row.map((value) => `"${value.replaceAll('"', '""')}"`).join(",")).join(lineEnd);
    assertEquals(fields(text), expected);
  }));
});

Deno.test("parseSheet() leaves out blank lines and empty columns at the right", () => {
  assertEquals(fields("\n1,2,,\n\n3,4,,\n,,,\n  \n"), [["1", "2", "", ""], ["3", "4", "", ""]]);
  assertEquals(parseSheet("a,b,,\n1,2,,\n3,4", { where }).names, ["a", "b"]);
});

Deno.test("parseSheet() finds out whether there is a header", () => {
  const headed = (text: string) => parseSheet(text, { where }).headed;
  assertEquals(headed("a,b\n1,2"), true);
  assertEquals(headed("1,2\n3,4"), false);
  assertEquals(headed("0,1,label\n3,4,7"), true, "numbers as names beside a word");
  assertEquals(headed("5.1,setosa\n4.9,virginica"), false);
  assertEquals(headed("NA,2\n1,3"), false, "a gap in the first row is no header");
  assertEquals(headed("cap,odor\nx,p\ny,p"), true, "words that never come again");
  assertEquals(headed("x,p\ny,p\nx,a"), false, "words that come again");
  assertEquals(headed("a,b\n1,\n2,3"), true, "gaps below");
  assertEquals(headed("a,2"), false, "one row");
  const alone = "expected at least one record below the header but found only the header";
  assertThrows(() => headed("a,b\n"), DataError, alone);
  assertEquals(parseSheet("1,2\n3,4", { where, header: true }).names, ["1", "2"]);
  assertEquals(parseSheet("a,b\n1,2", { where, header: false }).records.length, 2);
});

Deno.test("parseSheet() names the line of a fault", () => {
  assertThrows(
    () => fields("a,b\n1,2\n3"),
    DataError,
    "Cannot read a.csv, line 3: expected 2 fields as in line 1 but found 1 fields",
  );
  assertThrows(
    () => fields('a,b\n"1\n\n",2\n3,4,5'),
    DataError,
    "a.csv, line 5: expected 2 fields as in line 1 but found 3 fields",
  );
  assertThrows(
    () => fields('a,b\n1,"2\n3,4'),
    DataError,
    "a.csv, line 2, column 2: expected a closing quote but found the end of the file",
  );
  assertThrows(
    () => fields('a,b\n"1"x,2'),
    DataError,
    'line 2, column 1: expected "," or a line end after the closing quote but found "x"',
  );
  assertThrows(() => fields("a,b\r\r\n1,2\r\r\n3\r\r\n"), DataError, "a.csv, line 3: expected");
  assertThrows(() => fields(""), DataError, "a.csv: expected at least one record but found an empty file");
  assertThrows(() => fields("\n\n,,\n"), DataError, "expected at least one record but found an empty file");
  assertThrows(
    () => fields("a,b\n", { header: true }),
    DataError,
    "at least one record below the header but found only the header",
  );
  assertThrows(() => fields("a", { delimiter: ",," }), ConfigError, "Cannot use delimiter: expected one character");
});

Deno.test("parseNumber() takes decimal numbers only", () => {
  for (
    const [text, number] of [["1", 1], [" -2.5e3 ", -2500], [".5", 0.5], ["+7.", 7], ["0", 0], ["1E-2", 0.01]] as const
  ) {
    assertEquals(parseNumber(text), number);
  }
  for (const text of ["", " ", "0x1f", "1,5", "NaN", "Infinity", "1e999", "1 2", "e5", ".", "1_000", "--1"]) {
    assertEquals(parseNumber(text), undefined, text);
  }
});

const houses = `size,town,rooms,price
10,Ulm,1,100
20,Bonn,1,200
30,Ulm,1,300
60,Köln,2,400`;
const housesOptions: CsvOptions = { target: "price", task: "regression", oneHot: ["town"], trainRows: 3 };

Deno.test("parseCsv() standardises with the training rows only and one-hots over all rows", () => {
  const { train, test, transform } = parseCsv(houses, { ...housesOptions, precision: "f64", name: "houses" });
  const deviation = Math.sqrt(200 / 3);
  assertEquals(train.shape, [5]);
  assertEquals(
    train.features,
    Float64Array.of(
      -10 / deviation,
      0,
      0,
      1,
      0,
      0,
      1,
      0,
      0,
      0,
      10 / deviation,
      0,
      0,
      1,
      0,
    ),
  );
  // 40 above the training mean; rooms are constant in training, so they are only shifted.
  assertEquals(test?.features, Float64Array.of(40 / deviation, 0, 1, 0, 1));
  assertEquals(train.targets, { kind: "values", size: 1, values: Float64Array.of(100, 200, 300), names: ["price"] });
  assertEquals(transform.columns, [
    { kind: "number", name: "size", index: 0, mean: 20, deviation },
    { kind: "oneHot", name: "town", index: 1, categories: ["Bonn", "Köln", "Ulm"] },
    { kind: "number", name: "rooms", index: 2, mean: 1, deviation: 1 },
  ]);
});

Deno.test("parseCsv() treats a column of one repeated fraction as constant", () => {
  const rows = Array.from({ length: 7 }, (_, row) => `0.1,${row}`).join("\n");
  const { train } = parseCsv(`a,b\n${rows}`, { task: "regression", precision: "f64" });
  for (const value of train.features) assertAlmostEquals(value, 0, 1e-12);
});

Deno.test("parseCsv() standardises all, none or chosen columns", () => {
  const features = (
    standardize: CsvOptions["standardize"],
  ) => [
    ...parseCsv("a,b,t\n1,10,0\n3,30,1", { task: "regression", ...(standardize !== undefined && { standardize }) })
      .train.features,
  ];
  assertEquals(features(undefined), [-1, -1, 1, 1]);
  assertEquals(features(true), [-1, -1, 1, 1]);
  assertEquals(features(false), [1, 10, 3, 30]);
  assertEquals(features(["b"]), [1, -1, 3, 1]);
  assertEquals(features([0]), [-1, 10, 1, 30]);
});

Deno.test("parseCsv() takes words as classes, with their names", () => {
  const { train, transform } = parseCsv("5.1,setosa\n4.9,virginica\n5.0,setosa");
  assertEquals(train.targets, {
    kind: "labels",
    classes: 2,
    values: Uint32Array.of(0, 1, 0),
    names: ["setosa", "virginica"],
  });
  assertEquals(transform.classNames, ["setosa", "virginica"]);
});

Deno.test("parseCsv() takes numbers as classes in their order, in any spelling", () => {
  const { train } = parseCsv("x,y\n1,10\n2,9\n3,9.0\n4,10", { task: "classification" });
  assertEquals(train.targets, { kind: "labels", classes: 2, values: Uint32Array.of(1, 0, 0, 1), names: ["9", "10"] });
});

Deno.test("parseCsv() takes several targets, targets by position, and leaves columns out", () => {
  const { train } = parseCsv("1,2,3,4\n5,6,7,8", {
    target: [0, 3],
    task: "regression",
    ignore: ["1"],
    standardize: false,
  });
  assertEquals(train.features, Float32Array.of(3, 7));
  assertEquals(train.targets, {
    kind: "values",
    size: 2,
    values: Float32Array.of(1, 4, 5, 8),
    names: ["column 1", "column 4"],
  });
});

Deno.test("parseCsv() splits the last rows off, or random ones", () => {
  const text = Array.from({ length: 10 }, (_, row) => `${row},${row}`).join("\n");
  const targets = (options: CsvOptions) => {
    const { train, test } = parseCsv(text, { task: "regression", ...options });
    return [[...train.targets.values], [...test?.targets.values ?? []]];
  };
  assertEquals(targets({}), [[0, 1, 2, 3, 4, 5, 6, 7, 8, 9], []]);
  assertEquals(targets({ trainRows: 8 }), [[0, 1, 2, 3, 4, 5, 6, 7], [8, 9]]);
  assertEquals(targets({ testFraction: 0.25 }), [[0, 1, 2, 3, 4, 5, 6], [7, 8, 9]]);
  const random = targets({ testFraction: 0.25, shuffleSeed: 4 });
  assertEquals(random, targets({ testFraction: 0.25, shuffleSeed: 4 }));
  assertEquals(random.flat().sort(), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
  assertEquals(random[0]!.toString() === "0,1,2,3,4,5,6", false);
});

Deno.test("parseCsv() names file, line and column of a bad field", () => {
  const parse = (text: string, options: CsvOptions = {}) => () =>
    parseCsv(text, { where, task: "regression", ...options });
  assertThrows(
    parse("a,b\n1,2\n\nred,4"),
    DataError,
    "Cannot read a.csv, line 4, column 1 (a): expected a finite number (words need the column under oneHot or ignore) but found red",
  );
  assertThrows(parse("a,b\n1,2\n,4"), DataError, "a.csv, line 3, column 1 (a): expected a finite number");
  assertThrows(parse("a,b\n1,2\n,4"), DataError, "but found an empty field");
  assertThrows(parse("1,2\n3,NaN"), DataError, "a.csv, line 2, column 2: expected a finite number but found NaN");
  assertThrows(parse("1,2\ninf,3"), DataError, "a.csv, line 2, column 1: expected a finite number");
  assertThrows(
    parse("a,b\n1,2\n3,"),
    DataError,
    "a.csv, line 3, column 2 (b): expected a finite number but found an empty field",
  );
  assertThrows(
    parse("a,b\nx,2\n,3", { oneHot: ["a"] }),
    DataError,
    "a.csv, line 3, column 1 (a): expected a category but found an empty field",
  );
  assertThrows(
    parse("a,b\n1,x\n2,", { task: "classification" }),
    DataError,
    "a.csv, line 3, column 2 (b): expected a category",
  );
  assertThrows(
    parse("a,b\n1,x\n2,x", { task: "classification" }),
    DataError,
    "a.csv: expected at least two classes in b but found x",
  );
  assertThrows(
    parse("a,b\n1e300,1\n2,3", { standardize: false }),
    DataError,
    "expected a finite number but found Infinity",
  );
});

Deno.test("parseCsv() refuses options that cannot be used", () => {
  const parse = (options: CsvOptions) => () => parseCsv("size,town,price\n1,2,3\n4,5,6", { where, ...options });
  assertThrows(
    parse({}),
    ConfigError,
    'Cannot use task: expected "classification" or "regression" for the numbers in price but found undefined',
  );
  assertThrows(
    parse({ target: "prize" }),
    ConfigError,
    "Cannot use target: expected a column of a.csv (size, town, price) (did you mean price?) but found prize",
  );
  assertThrows(
    parse({ target: 3 }),
    ConfigError,
    "Cannot use target: expected a column of a.csv, a position from 0 to 2 but found 3",
  );
  assertThrows(
    parse({ task: "regression", oneHot: ["twon"] }),
    ConfigError,
    "Cannot use oneHot: expected a column of a.csv (size, town, price) (did you mean town?)",
  );
  assertThrows(
    parse({ task: "regression", oneHot: ["price"] }),
    ConfigError,
    "Cannot use oneHot: expected columns that are not used otherwise but found price",
  );
  assertThrows(
    parse({ task: "regression", ignore: ["price"] }),
    ConfigError,
    "Cannot use ignore: expected columns that are no target but found price",
  );
  assertThrows(
    parse({ task: "regression", ignore: ["size", "town"] }),
    ConfigError,
    "at least one column left as a feature",
  );
  assertThrows(
    parse({ task: "regression", oneHot: ["town"], standardize: ["town"] }),
    ConfigError,
    "Cannot use standardize",
  );
  assertThrows(
    parse({ task: "regression", trainRows: 3 }),
    ConfigError,
    "Cannot use trainRows: expected a whole number from 1 to 2, the rows of the file but found 3",
  );
  assertThrows(
    parse({ task: "regression", trainRows: 1, testFraction: 0.5 }),
    ConfigError,
    "trainRows or testFraction but found both",
  );
  assertThrows(
    parse({ task: "regression", testFraction: 1 }),
    ConfigError,
    "Cannot use testFraction: expected a number between 0 and 1 but found 1",
  );
  assertThrows(parse({ task: "regression", shuffleSeed: -1 }), ConfigError, "Cannot use seed");
  assertThrows(
    parse({ task: "classification", target: ["size", "price"] }),
    ConfigError,
    "one column for classification but found size, price",
  );
  assertThrows(
    parse({ task: "clustering" as "regression" }),
    ConfigError,
    '"classification" or "regression" but found clustering',
  );
  assertThrows(
    () => parseCsv("a,a,b\n1,2,3", { target: "a", task: "regression" }),
    ConfigError,
    "a name that only one column has but found a",
  );
});

Deno.test("parseCsv() does not take a gap in numbers for a class", () => {
  assertThrows(
    () => parseCsv("a,b\n1,2\n3,n/a\n4,5"),
    ConfigError,
    'Cannot use task: expected "classification" or "regression"',
  );
});

Deno.test("readCsv() reads plain and gzip files and refuses what is not UTF-8", async () => {
  const bytes = new TextEncoder().encode(houses);
  await inFolder(
    { "a.csv": houses, "b.csv": await gzip(bytes), "c.csv": Uint8Array.of(0x61, 0xff, 0x0a) },
    async (folder) => {
      const data = await readCsv(`${folder}/a.csv`, housesOptions);
      assertEquals(await readCsv(`${folder}/b.csv`, housesOptions), data);
      await assertRejects(
        () => readCsv(`${folder}/c.csv`),
        DataError,
        "c.csv: expected UTF-8 text but found bytes that are not",
      );
    },
  );
});

Deno.test("parseCsvFeatures() treats new rows as the training rows were treated", () => {
  const { train, test, transform } = parseCsv(houses, housesOptions);
  const kept = JSON.parse(JSON.stringify(transform)) as CsvTransform;
  const all = parseCsvFeatures(houses, { transform: kept });
  assertEquals([...all.features], [...train.features, ...test!.features]);
  const shuffledColumns = "rooms,size,town\n2,60,Köln";
  assertEquals(parseCsvFeatures(shuffledColumns, { transform: kept }).features, test!.features);
});

Deno.test("parseCsvFeatures() finds columns by position, with or without the targets", () => {
  const { transform } = parseCsv("7,1,2\n8,3,4", { target: 0, task: "regression", standardize: false });
  assertEquals(parseCsvFeatures("0,5,6", { transform }).features, Float32Array.of(5, 6));
  assertEquals(parseCsvFeatures("5,6", { transform, precision: "f64" }).features, Float64Array.of(5, 6));
  assertThrows(
    () => parseCsvFeatures("5", { transform, where }),
    DataError,
    "a.csv: expected 2 columns (3 with targets) but found 1",
  );
});

Deno.test("parseCsvFeatures() tells columns of one name apart by position, in files that are as wide", () => {
  const { transform } = parseCsv("x,x,y\n1,5,0\n2,6,1", { target: "y", task: "regression", standardize: false });
  assertEquals(parseCsvFeatures("x,x,y\n3,4,0", { transform }).features, Float32Array.of(3, 4));
  assertThrows(
    () => parseCsvFeatures("x,x\n3,4", { transform, where }),
    DataError,
    `Cannot read ${where}: expected one column x but found 2 of that name`,
  );
});

Deno.test("parseCsvFeatures() names what does not fit", () => {
  const { transform } = parseCsv(houses, housesOptions);
  const parse = (text: string) => () => parseCsvFeatures(text, { transform, where });
  assertThrows(parse("size,town\n1,Ulm"), DataError, "a.csv: expected a column rooms but found none of that name");
  assertThrows(parse("sizes,town,rooms\n1,Ulm,1"), DataError, "expected a column size (did you mean sizes?)");
  assertThrows(
    parse("size,town,rooms\n1,Bon,1"),
    DataError,
    "a.csv, line 2, column 2 (town): expected a category seen in training (did you mean Bonn?) but found Bon",
  );
  assertThrows(
    parse("size,town,rooms\nx,Ulm,1"),
    DataError,
    "a.csv, line 2, column 1 (size): expected a finite number but found x",
  );
});
