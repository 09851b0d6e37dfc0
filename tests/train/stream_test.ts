/** Training on rows that come part by part: the bits of rows that are all there, resumed bits, reading ahead, and faults. */

import { assert, assertEquals, assertRejects } from "@std/assert";
import {
  adam,
  ConfigError,
  cosine,
  DataError,
  Dataset,
  decorrelated,
  dense,
  dropout,
  EngineError,
  frontContribution,
  type Layer,
  loadCheckpoint,
  memAop,
  Network,
  relu,
  type Rule,
  sgd,
  type Table,
  train,
  Trainer,
  type TrainOptions,
} from "../../mod.ts";
import { assertSameBits, bits, inTemporaryFolder, table } from "../helpers.ts";

const layers: Layer[] = [dense(24), relu(), dropout(0.4), dense(4)];
const rows = table(90, { shape: [6], classes: 4 });
const common: TrainOptions = { epochs: 3, batchSize: 16, seed: 8, optimizer: adam(1e-2), schedule: cosine() };

function part(from: number, to: number, all: Table = rows): Table {
  return {
    ...all,
    rows: to - from,
    features: all.features.slice(from * 6, to * 6) as Float32Array<ArrayBuffer>,
    targets: { kind: "labels", classes: 4, values: all.targets.values.slice(from, to) as Uint32Array<ArrayBuffer> },
  };
}

/** The rows in parts of many sizes, one of them empty. */
async function* parts(): AsyncGenerator<Table> {
  for (const [from, to] of [[0, 1], [1, 40], [40, 40], [40, 57], [57, 90]] as const) {
    await Promise.resolve();
    yield part(from, to);
  }
}

async function reference(rule?: Rule): Promise<string> {
  using network = Network.create({ input: [6], layers, seed: 2 });
  for await (const _ of train(network, rows, { ...common, ...(rule && { rule }), shuffle: false }));
  return bits(network);
}

Deno.test("a stream gives the bits of the same rows in memory, however it is cut and read ahead", async () => {
  const expected = await reference();
  for (const prefetch of [1, 2, 7]) {
    using network = Network.create({ input: [6], layers, seed: 2 });
    const seen = [];
    for await (
      const p of train(network, { train: parts, validation: rows }, { ...common, stepsPerEpoch: 6, prefetch })
    ) {
      seen.push([p.epoch, p.rows, p.step, p.totalSteps, p.done]);
      assert(p.trainAccuracy! >= 0 && p.validation!.loss > 0);
    }
    assertEquals(seen, [[1, 90, 6, 18, false], [2, 90, 12, 18, false], [3, 90, 18, 18, true]]);
    assertSameBits(bits(network), expected, `prefetch ${prefetch}`);
  }
});

Deno.test("rules that learn from batches do so from a stream", async () => {
  for (
    const rule of [memAop({ k: 4, policy: "topK" }), decorrelated({ every: 1 }), decorrelated({ form: "cholesky" })]
  ) {
    using network = Network.create({ input: [6], layers, seed: 2 });
    const options = { ...common, rule, stepsPerEpoch: 6 };
    for await (const _ of train(network, parts, options));
    assertSameBits(bits(network), await reference(rule), rule.name);
  }
});

Deno.test("a ReadableStream trains once; its end before the run's is told", async () => {
  using network = Network.create({ input: [6], layers, seed: 2 });
  const stream = () => ReadableStream.from([part(0, 50), part(50, 90)]);
  for await (const p of train(network, stream(), { ...common, epochs: 1, stepsPerEpoch: 6 })) assertEquals(p.rows, 90);
  const fault = await assertRejects(async () => {
    for await (const _ of train(network, stream(), { ...common, epochs: 2, stepsPerEpoch: 6 }));
  }, DataError);
  assertEquals(
    fault.message,
    "Cannot use the stream: expected as many rows as the run has steps for, or a function that begins it anew for each pass " +
      "but found its end",
  );
});

Deno.test("a run on a stream resumes with the same bits from any step", async () => {
  const expected = await reference();
  await inTemporaryFolder(async (folder) => {
    const path = `${folder}/run.safetensors`;
    for (const stop of [0, 1, 6, 7, 13]) {
      {
        using network = Network.create({ input: [6], layers, seed: 2 });
        await using trainer = await Trainer.create(network, parts, { ...common, stepsPerEpoch: 6 });
        for (let step = 0; step < stop; step++) await trainer.step();
        await trainer.save(path);
      }
      const checkpoint = await loadCheckpoint(path);
      using network = checkpoint.network;
      await using trainer = await Trainer.resume(checkpoint, parts);
      for (let done = false; !done;) ({ done } = await trainer.epoch());
      assertSameBits(bits(network), expected, `stopped after ${stop} steps`);
    }
    const checkpoint = await loadCheckpoint(path);
    using _network = checkpoint.network;
    await assertRejects(
      () => Trainer.resume(checkpoint, rows),
      Error,
      "Cannot resume: expected a stream of training rows as before but found 90 training rows",
    );
  });
});

Deno.test("reading goes on while the engine computes, no further than asked, and ends with the run", async () => {
  let [begun, ended] = [0, 0];
  async function* counted(): AsyncGenerator<Table> {
    try {
      for (let from = 0; from + 16 <= 90; from += 16) {
        begun++;
        yield part(from, from + 16);
        await Promise.resolve();
      }
    } finally {
      ended++;
    }
  }
  using network = Network.create({ input: [6], layers, seed: 2 });
  {
    await using trainer = await Trainer.create(network, counted, { ...common, stepsPerEpoch: 6, prefetch: 3 });
    await trainer.step();
    await new Promise((resolve) => setTimeout(resolve, 20));
    assert(begun >= 2 && begun <= 5, `${begun} parts read after one step`);
  }
  await new Promise((resolve) => setTimeout(resolve, 20));
  assertEquals(ended, 1, "the reader is closed");
});

Deno.test("dropLast leaves short batches out; rules that need whole ones say so", async () => {
  using network = Network.create({ input: [6], layers, seed: 2 });
  for await (const p of train(network, parts, { ...common, stepsPerEpoch: 5, dropLast: true })) {
    assertEquals(p.rows, 80);
  }
  const run = async (options: TrainOptions) => {
    for await (const _ of train(network, parts, { ...common, stepsPerEpoch: 6, ...options }));
  };
  await run({ rule: memAop({ k: 4 }), dropLast: true });
  await run({ rule: decorrelated() });
  await assertRejects(
    () => run({ rule: decorrelated({ first: "axes" }) }),
    EngineError,
    "expected learn as `first` of decorrelated() beside a stream, whose rows are not there before the first step but found axes",
  );
  const message = "expected all rows before the first step for front-contribution but found a stream";
  await assertRejects(() => run({ rule: frontContribution(), optimizer: sgd(0.1) }), EngineError, message);
});

Deno.test("faults of a stream are told by part", async () => {
  using network = Network.create({ input: [6], layers, seed: 2 });
  const run = (stream: () => AsyncIterable<Table>, options: TrainOptions = {}) => async () => {
    for await (const _ of train(network, stream, { ...common, stepsPerEpoch: 6, ...options }));
  };
  const narrow = table(20, { shape: [5], classes: 4 });
  await assertRejects(
    run(() => ReadableStream.from([part(0, 40), narrow])),
    DataError,
    "Cannot use part 2 of the stream: expected samples of shape [6] as in the first part but found [5]",
  );
  const others = table(20, { shape: [6], classes: 3 });
  await assertRejects(run(() => ReadableStream.from([part(0, 40), others])), DataError, "labels of 3 classes");
  await assertRejects(
    run(() => ReadableStream.from([] as Table[])),
    DataError,
    "expected at least one row but found none",
  );
  await assertRejects(
    run(() => ReadableStream.from([{ ...part(0, 40), rows: 39 }])),
    DataError,
    "Cannot use part 1 of the stream: expected 234 features (39 rows) but found 240",
  );
  const { features: _features, ...featureless } = part(0, 40);
  const { targets: _targets, ...targetless } = part(0, 40);
  for (
    const [given, found] of [
      [null, "null"],
      [undefined, "undefined"],
      [featureless, "an Object"],
      [targetless, "an Object"],
      [{ ...part(0, 40), features: [...part(0, 40).features] }, "an Object"],
    ] as [Table, string][]
  ) {
    await assertRejects(
      run(() => ReadableStream.from([part(0, 40), given])),
      DataError,
      `Cannot use part 2 of the stream: expected a table of rows, shape, features and targets but found ${found}`,
    );
  }
  for (const [given, found] of [[undefined, "undefined"], [Promise.resolve(), "a Promise"], [3, "3"]] as const) {
    await assertRejects(
      run(() => given as never),
      DataError,
      `Cannot use the stream: expected a function that gives an async iterable of tables but found ${found}`,
    );
  }
  await assertRejects(
    run(parts, { onProgress: 3 as never }),
    ConfigError,
    "Cannot use onProgress: expected a function",
  );
  const broken = part(0, 40);
  broken.features[7] = NaN;
  await assertRejects(run(() => ReadableStream.from([broken])), EngineError, "NaN in row 1, column 1");
  async function* failing(): AsyncGenerator<Table> {
    yield part(0, 40);
    await Promise.resolve();
    throw new Error("the disk is gone");
  }
  await assertRejects(run(failing), Error, "the disk is gone");
  await assertRejects(
    run(parts, { shuffle: true }),
    Error,
    "Cannot use shuffle: expected false beside a stream, whose rows have an order of their own (shuffleStream mixes them) but found true",
  );
  const { stepsPerEpoch: _, ...without } = { ...common, stepsPerEpoch: 6 };
  await assertRejects(
    async () => {
      for await (const _ of train(network, parts, without));
    },
    Error,
    "Cannot use stepsPerEpoch: expected a whole number from 1 up but found undefined",
  );
  await assertRejects(
    async () => {
      for await (const _ of train(network, rows, { ...common, stepsPerEpoch: 6 }));
    },
    Error,
    "Cannot use stepsPerEpoch: expected a stream of rows beside it but found rows that are all there",
  );
  using data = await Dataset.create(rows);
  for await (const p of train(network, data, { ...common, epochs: 1 })) {
    assertEquals(p.rows, 90, "the network still trains");
  }
});
