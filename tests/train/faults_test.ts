/** Bad input to networks and training: one sentence with place, expected and found, and everything goes on afterwards. */

import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import {
  adam,
  adamW,
  balancedClassWeights,
  binaryCrossEntropy,
  checkLoss,
  combine,
  ConfigError,
  cosine,
  Dataset,
  dense,
  dropout,
  EngineError,
  type EngineErrorCode,
  findLearningRate,
  flatten,
  glyphs,
  hashData,
  layerNorm,
  leakyRelu,
  loadData,
  type Loss,
  meanSquaredError,
  Network,
  type NetworkOptions,
  oneCycle,
  type Optimizer,
  parseCsv,
  relu,
  rmsProp,
  type Schedule,
  sgd,
  softmaxCrossEntropy,
  stepDecay,
  type Table,
  train,
  Trainer,
  type TrainOptions,
  warmUp,
  withValidation,
} from "../../mod.ts";
import { assertSameBits, bits, table } from "../helpers.ts";

const rows = table(32, { shape: [6], classes: 3 });
const create = (options: Partial<NetworkOptions> = {}) =>
  Network.create({ input: [6], layers: [dense(8), relu(), dense(3)], ...options });

const first = (network: Network, data: Table, options: TrainOptions = {}) => train(network, data, options).next();

/** A case: what is done, the error's class or code, and the whole sentence. */
type Fault = [() => unknown, typeof ConfigError | EngineErrorCode, string];

/** Runs every case; nothing in them may leave the network busy. */
function refuses(what: string, cases: (network: Network) => Fault[]): void {
  Deno.test(what, async () => {
    using network = create();
    for (const [run, kind, sentence] of cases(network)) {
      const fault = await assertRejects(async () => await run(), Error);
      assertEquals(fault.message, sentence);
      if (typeof kind === "string") assertEquals(fault instanceof EngineError && fault.code, kind, sentence);
      else assert(fault instanceof kind, `${fault}`);
    }
    for await (const p of train(network, rows, { epochs: 1 })) assert(Number.isFinite(p.trainLoss));
  });
}

/** A value that the types forbid, as JavaScript may still give it. */
const wrong = <T>(value: unknown) => value as T;

refuses("Network.create() refuses what is no network", () => {
  const make = (options: unknown) => () => create(options as NetworkOptions)[Symbol.dispose]();
  return [
    [make({ input: 6 }), ConfigError, "Cannot use input: expected a shape such as [784] but found 6"],
    [make({ input: [0] }), ConfigError, "Cannot use input[0]: expected a whole number from 1 up but found 0"],
    [make({ input: [1.5] }), ConfigError, "Cannot use input[0]: expected a whole number from 1 up but found 1.5"],
    [
      make({ input: [] }),
      "invalid-config",
      "Cannot use input: expected the shape of one sample, such as [784], without zeros but found []",
    ],
    [make({ layers: [] }), "invalid-config", "Cannot use layers: expected at least one layer but found none"],
    [
      make({ layers: [flatten()] }),
      "invalid-config",
      "Cannot use layers: expected at least one layer that computes something but found only flatten",
    ],
    [
      make({ input: [2, 3], layers: [dense(3)] }),
      "invalid-config",
      "Cannot use layer 0 (dense): expected inputs with one axis but found the shape [2, 3]; put flatten() before dense()",
    ],
    [make({ layers: "mlp" }), ConfigError, "Cannot use layers: expected a list of layers but found mlp"],
    [
      make({ layers: [relu] }),
      ConfigError,
      "Cannot use layers[0]: expected a layer such as dense(10) but found the function relu, not called",
    ],
    [
      make({ layer: [] }),
      ConfigError,
      "Cannot use layer: expected one of input, layers, loss, seed, precision, threads (did you mean layers?) but found an unknown option",
    ],
    [
      make({ seed: -1 }),
      ConfigError,
      "Cannot use seed: expected a whole number from 0 to 9007199254740991 but found -1",
    ],
    [make({ threads: 0 }), ConfigError, "Cannot use threads: expected a whole number from 1 to 1024 but found 0"],
    [
      make({ precision: "f23" }),
      ConfigError,
      "Cannot use precision: expected one of f32, f64 (did you mean f32?) but found f23",
    ],
    [
      make({ loss: { kind: "softmaxCrossEntropie" } }),
      ConfigError,
      "Cannot use loss.kind: expected one of softmaxCrossEntropy, meanSquaredError, binaryCrossEntropy " +
      "(did you mean softmaxCrossEntropy?) but found softmaxCrossEntropie",
    ],
    [
      make({ layers: [dense(3, { weightInit: new Float32Array(17) })] }),
      "shape-mismatch",
      "Cannot use the array for 0.weight: expected 3×6 = 18 numbers but found 17",
    ],
    [
      make({ layers: [dense(3, { biasInit: new Float64Array([1, NaN, 1]) })] }),
      "not-finite",
      "Cannot write 0.bias: expected finite numbers but found NaN",
    ],
  ];
});

refuses("layers and losses refuse impossible values", () => [
  [() => dense(0), ConfigError, "Cannot use dense.units: expected a whole number from 1 up but found 0"],
  [() => dense(2.5), ConfigError, "Cannot use dense.units: expected a whole number from 1 up but found 2.5"],
  [
    () => dense(2, wrong({ biass: true })),
    ConfigError,
    "Cannot use dense.biass: expected one of bias, weightInit, biasInit (did you mean bias?) but found an unknown option",
  ],
  [() => dense(2, wrong({ bias: 1 })), ConfigError, "Cannot use dense.bias: expected true or false but found 1"],
  [
    () => dense(2, wrong({ weightInit: "heNormall" })),
    ConfigError,
    "Cannot use dense.weightInit: expected one of heNormal, heUniform, glorotNormal, glorotUniform, lecunNormal, lecunUniform, " +
    "fanInUniform, zeros, ones (did you mean heNormal?) but found heNormall",
  ],
  [() => leakyRelu(0), ConfigError, "Cannot use leakyRelu.slope: expected a number above 0 but found 0"],
  [() => dropout(1), ConfigError, "Cannot use dropout.rate: expected a number from 0 up and below 1 but found 1"],
  [() => dropout(NaN), ConfigError, "Cannot use dropout.rate: expected a number from 0 up and below 1 but found NaN"],
  [() => layerNorm({ epsilon: 0 }), ConfigError, "Cannot use layerNorm.epsilon: expected a number above 0 but found 0"],
  [
    () => softmaxCrossEntropy({ labelSmoothing: 1 }),
    ConfigError,
    "Cannot use loss.labelSmoothing: expected a number from 0 up and below 1 but found 1",
  ],
  [
    () => binaryCrossEntropy({ labelSmoothing: -0.1 }),
    ConfigError,
    "Cannot use loss.labelSmoothing: expected a number from 0 up and below 1 but found -0.1",
  ],
]);

refuses("optimizers and schedules refuse impossible values", (network) => {
  const share = "expected a number from 0 up and below 1";
  const options = (options: TrainOptions) => () => first(network, rows, options);
  return [
    [() => sgd(-0.1), ConfigError, "Cannot use optimizer.learningRate: expected a number from 0 up but found -0.1"],
    [
      () => sgd(Infinity),
      ConfigError,
      "Cannot use optimizer.learningRate: expected a number from 0 up but found Infinity",
    ],
    [() => sgd(0.1, { momentum: 1 }), ConfigError, `Cannot use optimizer.momentum: ${share} but found 1`],
    [
      () => sgd(0.1, { weightDecay: -1 }),
      ConfigError,
      "Cannot use optimizer.weightDecay: expected a number from 0 up but found -1",
    ],
    [
      options({ optimizer: sgd(0.1, { nesterov: true }) }),
      "invalid-config",
      "Cannot use optimizer.nesterov: expected momentum above 0 beside it but found momentum 0",
    ],
    [() => adam(1e-3, { beta1: 1 }), ConfigError, `Cannot use optimizer.beta1: ${share} but found 1`],
    [() => adamW(1e-3, { beta2: -0.5 }), ConfigError, `Cannot use optimizer.beta2: ${share} but found -0.5`],
    [
      () => adam(1e-3, { epsilon: -1 }),
      ConfigError,
      "Cannot use optimizer.epsilon: expected a number from 0 up but found -1",
    ],
    [
      () => adam(1e-3, wrong({ beta3: 0 })),
      ConfigError,
      "Cannot use optimizer.beta3: expected one of beta1, beta2, epsilon, weightDecay (did you mean beta1?) but found an unknown option",
    ],
    [() => rmsProp(1e-3, { alpha: 1.5 }), ConfigError, `Cannot use optimizer.alpha: ${share} but found 1.5`],
    [
      options({ optimizer: wrong<Optimizer>({ kind: "adm" }) }),
      ConfigError,
      "Cannot use optimizer.kind: expected one of sgd, adam, adamW, rmsProp (did you mean adam?) but found adm",
    ],
    [() => stepDecay(0), ConfigError, "Cannot use schedule.every: expected a number above 0 but found 0"],
    [() => stepDecay(1, -1), ConfigError, "Cannot use schedule.factor: expected a number above 0 but found -1"],
    [
      () => cosine({ finalFactor: 2 }),
      ConfigError,
      "Cannot use schedule.finalFactor: expected a number from 0 to 1 but found 2",
    ],
    [() => warmUp(0), ConfigError, "Cannot use schedule.epochs: expected a number above 0 but found 0"],
    [
      options({ epochs: 2, schedule: warmUp(2) }),
      "invalid-config",
      "Cannot use schedule.epochs: expected a number above 0 and below the run's 2 epochs but found 2",
    ],
    [
      () => oneCycle({ rise: 1 }),
      ConfigError,
      "Cannot use schedule.rise: expected a number above 0 and below 1 but found 1",
    ],
    [
      () => oneCycle({ startDivisor: 0.5 }),
      ConfigError,
      "Cannot use schedule.startDivisor: expected a number from 1 up but found 0.5",
    ],
    [
      options({ schedule: wrong<Schedule>({ kind: "cosin" }) }),
      ConfigError,
      "Cannot use schedule.kind: expected one of constant, step, cosine, warmUp, oneCycle (did you mean cosine?) but found cosin",
    ],
    [
      options({ schedule: wrong<Schedule>({ kind: "warmUp", epochs: 1, then: "cosine" }) }),
      ConfigError,
      "Cannot use schedule.then: expected a schedule but found cosine",
    ],
  ];
});

refuses("train() refuses impossible and unknown options", (network) => {
  const options = (options: unknown) => () => first(network, rows, options as TrainOptions);
  return [
    [
      options({ epoch: 3 }),
      ConfigError,
      "Cannot use epoch: expected one of rule, optimizer, schedule, epochs, batchSize, seed, shuffle, dropLast, clipNorm, augment, accumulate, classWeights, averageDecay, stepsPerEpoch, prefetch, signal, probe, onProgress, earlyStopping (did you mean epochs?) but found an unknown option",
    ],
    [
      () => Promise.resolve(checkLoss({ kind: "meanSquaredError", labelSmoothing: 0.1 } as Partial<Loss>)),
      ConfigError,
      "Cannot use loss.labelSmoothing: expected no options here but found an unknown option",
    ],
    [options({ epochs: 0 }), ConfigError, "Cannot use epochs: expected a number above 0 but found 0"],
    [options({ epochs: NaN }), ConfigError, "Cannot use epochs: expected a number above 0 but found NaN"],
    [
      options({ epochs: 2e9 }),
      "invalid-config",
      "Cannot use epochs: expected a number above 0 and at most 1000000000 but found 2000000000",
    ],
    [
      options({ batchSize: 33 }),
      ConfigError,
      "Cannot use batchSize: expected a whole number from 1 to 32 but found 33",
    ],
    [options({ batchSize: 0 }), ConfigError, "Cannot use batchSize: expected a whole number from 1 to 32 but found 0"],
    [
      options({ batchSize: 1.5 }),
      ConfigError,
      "Cannot use batchSize: expected a whole number from 1 to 32 but found 1.5",
    ],
    [
      options({ seed: 1.5 }),
      ConfigError,
      "Cannot use seed: expected a whole number from 0 to 9007199254740991 but found 1.5",
    ],
    [options({ shuffle: "no" }), ConfigError, 'Cannot use shuffle: expected true or false but found "no"'],
    [options({ dropLast: 1 }), ConfigError, "Cannot use dropLast: expected true or false but found 1"],
    [options({ clipNorm: 0 }), ConfigError, "Cannot use clipNorm: expected a number above 0 but found 0"],
    [
      options({ rule: "backprop" }),
      ConfigError,
      "Cannot use rule: expected a learning rule such as backprop() but found backprop",
    ],
    [
      () => network.evaluate(rows, wrong({ topk: 3 })),
      ConfigError,
      "Cannot use evaluate.topk: expected one of topK, confusion, signal (did you mean topK?) but found an unknown option",
    ],
    [
      () => network.evaluate(rows, { topK: 0 }),
      ConfigError,
      "Cannot use evaluate.topK: expected a whole number from 1 up but found 0",
    ],
    [
      () => network.gradients(rows, wrong({ trainig: true })),
      ConfigError,
      "Cannot use gradients.trainig: expected one of rule, training, seed (did you mean training?) but found an unknown option",
    ],
  ];
});

const tableWords = "a table of training rows, a data set, or a stream of tables";

refuses("what is no network, no data and no options is refused as an argument", (network) => {
  const nothing = wrong<never>(null);
  const loop = (data: unknown, options: object = {}) => () => train(network, wrong(data), options).next();
  const cases: [() => unknown, string][] = [
    [() => Trainer.create(network, nothing), `Cannot use data: expected ${tableWords} but found null`],
    [() => Trainer.create(network, wrong("mnist")), `Cannot use data: expected ${tableWords} but found "mnist"`],
    [() => Trainer.create(network, { train: nothing }), `Cannot use data.train: expected ${tableWords} but found null`],
    [
      () => Trainer.create(network, { name: "rows", train: rows, validation: wrong<never>(3) }),
      "Cannot use data: expected a table such as { rows, shape, features, targets } but found 3",
    ],
    [
      () => Trainer.create(network, rows, nothing),
      "Cannot use options: expected options such as { rule: … } but found null",
    ],
    [() => Trainer.create(nothing, rows), "Cannot use network: expected a Network but found null"],
    [() => Trainer.create(wrong<Network>({}), rows), "Cannot use network: expected a Network but found an Object"],
    [() => Trainer.resume(nothing, rows), "Cannot use checkpoint: expected what loadCheckpoint() gives but found null"],
    [loop(null), `Cannot use data: expected ${tableWords} but found null`],
    [
      loop(null, { earlyStopping: { patience: 1 } }),
      "Cannot use earlyStopping: expected data with validation rows beside it but found none",
    ],
    [loop(rows, { signal: 3 }), "Cannot use signal: expected an AbortSignal but found 3"],
    [() => findLearningRate(nothing, rows), "Cannot use network: expected a Network but found null"],
    [
      () => Dataset.create(nothing),
      "Cannot use data: expected a table such as { rows, shape, features, targets } but found null",
    ],
    [
      () => network.evaluate(nothing),
      "Cannot use data: expected a table such as { rows, shape, features, targets } but found null",
    ],
    [
      () => network.evaluate(rows, wrong({ signal: 3 })),
      "Cannot use evaluate.signal: expected an AbortSignal but found 3",
    ],
    [
      () => network.predict(nothing),
      "Cannot use features: expected a table, or a flat array of numbers but found null",
    ],
    [() => network.inputStatistics(nothing), "Cannot use data: expected a table or a Dataset but found null"],
    [() => network.read("0.weight", nothing), "Cannot use read: expected options such as { folded: … } but found null"],
    [() => network.write("0.weight", nothing), "Cannot use values: expected an array of numbers but found null"],
    [() => Network.load("nowhere", nothing), "Cannot use load: expected options such as { threads: … } but found null"],
    [() => balancedClassWeights(nothing), "Cannot use table: expected a table with class labels but found null"],
    [() => combine(nothing), "Cannot use rule: expected learning rules such as backprop() but found null"],
    [() => loadData(nothing), "Cannot use data: expected the name of a data set but found null"],
    [() => loadData("glyphs", nothing), "Cannot use data options: expected an object but found null"],
    [() => parseCsv(nothing), "Cannot use text: expected the text of a CSV file but found null"],
    [
      () => withValidation(nothing, { fraction: 0.1 }),
      "Cannot use data: expected a data set with training rows but found null",
    ],
    [
      () => withValidation({ name: "rows", train: rows }, nothing),
      "Cannot use options: expected options such as { fraction: … } but found null",
    ],
    [() => hashData(nothing), "Cannot use data: expected a data set with training rows but found null"],
  ];
  return cases.map(([run, sentence]) => [run, ConfigError, sentence]);
});

refuses("data of the wrong shape, length or type is refused", (network) => {
  const change = (changes: unknown) => () => first(network, { ...rows, ...changes as Partial<Table> });
  const labels = (changes: unknown) => change({ targets: { ...rows.targets, ...changes as object } });
  return [
    [
      change({ rows: 0, features: new Float32Array(0) }),
      "shape-mismatch",
      "Cannot use the data set: expected at least one row but found none",
    ],
    [change({ rows: -1 }), ConfigError, "Cannot use rows: expected a whole number from 0 up but found -1"],
    [change({ rows: 1.5 }), ConfigError, "Cannot use rows: expected a whole number from 0 up but found 1.5"],
    [change({ rows: 31 }), "shape-mismatch", "Cannot use features: expected 186 values for 31 rows but found 192"],
    [change({ shape: [7] }), "shape-mismatch", "Cannot use features: expected 224 values for 32 rows but found 192"],
    [
      change({ shape: [], features: new Float32Array(32) }),
      "shape-mismatch",
      "Cannot use the data set: expected rows of shape [6] (the network's input) but found []",
    ],
    [
      change({ shape: [0] }),
      "shape-mismatch",
      "Cannot use the data set: expected at least one feature a row but found the shape [0]",
    ],
    [change({ shape: 6 }), ConfigError, "Cannot use shape: expected a shape such as [784] but found 6"],
    [
      change({ shape: [2 ** 52, 2 ** 52] }),
      "shape-mismatch",
      "Cannot use the data set: expected fewer features a row but found [4503599627370496, 4503599627370496]",
    ],
    [
      change({ shape: [2], rows: 96, targets: { kind: "labels", classes: 3, values: new Uint32Array(96) } }),
      "shape-mismatch",
      "Cannot use the data set: expected rows of shape [6] (the network's input) but found [2]",
    ],
    [
      change({ features: new Int32Array(192) }),
      ConfigError,
      "Cannot use features: expected a Uint8Array, Float32Array or Float64Array but found an Int32Array",
    ],
    [
      change({ features: Array(192).fill(0) }),
      ConfigError,
      "Cannot use features: expected a Uint8Array, Float32Array or Float64Array but found an Array",
    ],
    [
      change({ features: new Uint8Array(192), scale: [NaN] }),
      ConfigError,
      "Cannot use scale[0]: expected a number but found NaN",
    ],
    [
      change({ features: new Uint8Array(192), offset: [0, Infinity] }),
      ConfigError,
      "Cannot use offset[1]: expected a number but found Infinity",
    ],
    [
      change({ features: new Uint8Array(192), scale: wrong(0.5) }),
      ConfigError,
      "Cannot use scale: expected a list of numbers but found 0.5",
    ],
    [
      change({ features: new Uint8Array(192), scale: [1, 2] }),
      "shape-mismatch",
      "Cannot use scale: expected 1 entry or one for each of 6 channels but found 2",
    ],
    [
      labels({ values: new Uint32Array(31) }),
      "shape-mismatch",
      "Cannot use labels: expected 32 values for 32 rows but found 31",
    ],
    [
      labels({ values: new Uint8Array(32) }),
      ConfigError,
      "Cannot use targets.values: expected a Uint32Array of labels but found a Uint8Array",
    ],
    [
      labels({ kind: "label" }),
      ConfigError,
      "Cannot use targets.kind: expected one of labels, values (did you mean labels?) but found label",
    ],
    [
      labels({ classes: 4 }),
      "shape-mismatch",
      "Cannot use the data set: expected 3 classes (the network's outputs) but found 4",
    ],
    [
      labels({ classes: 1, values: new Uint32Array(32) }),
      "shape-mismatch",
      "Cannot use targets.classes: expected at least 2 but found 1",
    ],
    [
      () => network.predict(new Float32Array(7)),
      ConfigError,
      "Cannot use features: expected a multiple of 6 numbers (the network's input 6) but found 7",
    ],
    [
      () => network.predict(new Float32Array(0)),
      ConfigError,
      "Cannot use features: expected a multiple of 6 numbers (the network's input 6) but found 0",
    ],
    [
      () => network.write("0.bias", new Float32Array(9)),
      "shape-mismatch",
      "Cannot use the array for 0.bias: expected 8 numbers but found 9",
    ],
    [
      () => network.write("1.bias", new Float32Array(9)),
      "unknown-name",
      "Cannot find tensor 1.bias: this network has none of that name",
    ],
    [
      () => network.read("optimizer.first.0.bias"),
      "unknown-name",
      "Cannot find tensor optimizer.first.0.bias: this network has none of that name",
    ],
  ];
});

refuses("NaN, infinity and labels out of range are named by row and column", (network) => {
  const withFeature = (at: number, value: number) => {
    const features = rows.features.slice() as Float32Array<ArrayBuffer>;
    features[at] = value;
    return () => first(network, { ...rows, features });
  };
  const withLabel = (row: number, label: number) => {
    const values = new Uint32Array(32);
    values[row] = label;
    return () => first(network, { ...rows, targets: { kind: "labels", classes: 3, values } });
  };
  const withTarget = (values: Float64Array<ArrayBuffer>, loss: NetworkOptions["loss"]) => async () => {
    using other = Network.create({ input: [6], layers: [dense(2)], loss: loss! });
    await first(other, { ...rows, targets: { kind: "values", size: 2, values } });
  };
  const target = (at: number, value: number) => new Float64Array(64).fill(0.5).with(at, value);
  return [
    [
      withFeature(0, NaN),
      "not-finite",
      "Cannot use features: expected finite numbers but found NaN in row 0, column 0",
    ],
    [
      withFeature(6 * 31 + 5, Infinity),
      "not-finite",
      "Cannot use features: expected finite numbers but found inf in row 31, column 5",
    ],
    [
      withFeature(6 * 7 + 2, -Infinity),
      "not-finite",
      "Cannot use features: expected finite numbers but found -inf in row 7, column 2",
    ],
    [withLabel(30, 3), "shape-mismatch", "Cannot use the label of row 30: expected a class from 0 to 2 but found 3"],
    [
      withTarget(target(9, NaN), meanSquaredError()),
      "not-finite",
      "Cannot use targets: expected finite numbers but found NaN in row 4, column 1",
    ],
    [
      withTarget(target(63, 1.5), binaryCrossEntropy()),
      "shape-mismatch",
      "Cannot use the target of row 31, column 1: expected a number from 0 to 1 but found 1.5",
    ],
    [
      () => network.predict(new Float32Array(12).with(8, NaN)),
      "not-finite",
      "Cannot use features: expected finite numbers but found NaN in row 1, column 2",
    ],
  ];
});

refuses("targets that a loss cannot use are refused", (network) => {
  const values = table(32, { shape: [6], values: 3 });
  const under = (loss: NetworkOptions["loss"], data: Table) => async () => {
    using other = create({ loss: loss! });
    await first(other, data);
  };
  return [
    [
      () => first(network, values),
      "invalid-config",
      "Cannot use loss softmaxCrossEntropy: expected class labels as targets but found values",
    ],
    [
      under(meanSquaredError(), rows),
      "invalid-config",
      "Cannot use loss meanSquaredError: expected values as targets but found class labels",
    ],
    [
      under(binaryCrossEntropy(), rows),
      "invalid-config",
      "Cannot use loss binaryCrossEntropy: expected values in [0, 1] as targets but found class labels",
    ],
    [
      under(meanSquaredError(), table(32, { shape: [6], values: 2 })),
      "shape-mismatch",
      "Cannot use the data set: expected 3 target values a row (the network's outputs) but found 2",
    ],
    [
      () => network.evaluate(values),
      "invalid-config",
      "Cannot use loss softmaxCrossEntropy: expected class labels as targets but found values",
    ],
    [
      () => first(network, wrong({ ...rows, targets: undefined })),
      "invalid-config",
      "Cannot use the data set: expected targets but found none",
    ],
  ];
});

Deno.test("images fit a flat network and flat rows fit an image network, but no other images", async () => {
  const images = table(4, { shape: [2, 3, 1], classes: 3 });
  using flat = create();
  assertEquals((await flat.evaluate(images)).rows, 4);
  using image = create({ input: [2, 3, 1], layers: [flatten(), dense(3)] });
  assertEquals((await image.evaluate({ ...images, shape: [6] })).rows, 4);
  const turned = { ...images, shape: [3, 2, 1] };
  await assertRejects(
    () => image.evaluate(turned),
    EngineError,
    "expected rows of shape [2, 3, 1] (the network's input) but found [3, 2, 1]",
  );
});

for (const precision of ["f32", "f64"] as const) {
  Deno.test(`a loss that stops being a number names layer, step and what to try: ${precision}`, async () => {
    using network = create({ precision });
    using trainer = await Trainer.create(network, rows, {
      optimizer: sgd(precision === "f32" ? 1e25 : 1e200),
      epochs: 5,
      batchSize: 8,
    });
    const fault = await assertRejects(() => trainer.epoch(), EngineError);
    assertEquals(fault.code, "not-finite");
    const pattern =
      /^The loss is not finite at step [2-4] \(epoch 1\): layer \d \((dense|relu)\) is the first whose output is not finite.*; try a smaller learning rate, clipNorm, or data scaled to about 1$/;
    assert(pattern.test(fault.message), fault.message);
    // The run stays where it is, and says the same again.
    const again = await assertRejects(() => trainer.epoch(), EngineError);
    assertEquals(again.message, fault.message);
    // Parameters can still be read and replaced, and the network trained anew.
    for (const [name, values] of create({ precision }).parameters()) network.write(name, values);
    trainer[Symbol.dispose]();
    for await (const p of train(network, rows, { epochs: 1 })) assert(Number.isFinite(p.trainLoss));
  });
}

Deno.test("outputs that are finite with a loss that is not are told apart", async () => {
  using network = create({ layers: [dense(3)], loss: meanSquaredError() });
  network.write("0.weight", new Float32Array(18).fill(1e25));
  const fault = await assertRejects(() => first(network, table(32, { shape: [6], values: 3 })), EngineError);
  assert(fault.message.includes("all layers are finite, the loss of their outputs is not"), fault.message);
});

Deno.test("predict() of a diverged network says so instead of giving NaN", async () => {
  using network = create({ layers: [dense(3), dense(3)] });
  for (const name of ["0.weight", "1.weight"]) network.write(name, network.read(name).fill(3e38));
  const fault = await assertRejects(() => network.predict(rows), EngineError, "its parameters have diverged");
  assertEquals(fault.code, "not-finite");
});

Deno.test("an abort signal ends a run between chunks; the network is whole and free afterwards", async () => {
  const data = table(20_000, { shape: [6], classes: 3 });
  using network = create({ layers: [dense(256), relu(), dense(256), relu(), dense(3)] });
  const stop = new AbortController();
  const reason = new Error("enough");
  let chunks = 0;
  const onProgress = () => {
    if (++chunks === 2) stop.abort(reason);
  };
  const run = async () => {
    for await (const _ of train(network, data, { epochs: 1e6, batchSize: 32, signal: stop.signal, onProgress }));
  };
  assertEquals(await assertRejects(run, Error, "enough"), reason);
  assertEquals(chunks, 2);
  assertEquals((await network.evaluate(data)).rows, 20_000);
  for await (const p of train(network, rows, { epochs: 1 })) assert(p.done);
  // A signal that has fired already lets no step happen.
  const before = bits(network);
  await assertRejects(run, Error, "enough");
  assertSameBits(bits(network), before, "no step after an abort");
  await assertRejects(() => network.evaluate(data, { signal: stop.signal }), Error, "enough");
});

Deno.test("after an abort the same run goes on with the same bits", async () => {
  const options = { epochs: 3, batchSize: 8, optimizer: adam(1e-2) };
  using whole = create();
  for await (const _ of train(whole, rows, options));
  using network = create();
  let aborted = true;
  const signal = {
    throwIfAborted: () => {
      if (aborted) throw new Error("later");
    },
  } as AbortSignal;
  using trainer = await Trainer.create(network, rows, { ...options, signal });
  await assertRejects(() => trainer.epoch(), Error, "later");
  aborted = false;
  while (!(await trainer.epoch()).done) {
    aborted = true;
    await assertRejects(() => trainer.epoch(), Error, "later");
    aborted = false;
  }
  assertSameBits(bits(network), bits(whole), "after aborts between epochs");
});

Deno.test("leaving the loop, and a fault in onProgress, end the run", async () => {
  using network = create();
  for await (const p of train(network, rows, { epochs: 100 })) if (p.epoch === 2) break;
  const onProgress = () => {
    throw new Error("on purpose");
  };
  await assertRejects(() => first(network, rows, { onProgress }), Error, "on purpose");
  using _trainer = await Trainer.create(network, rows);
});

Deno.test("a set in the engine serves several runs, and lives as long as its owner says", async () => {
  using data = await Dataset.create(rows);
  using a = create();
  using b = create();
  for (const network of [a, b]) for await (const _ of train(network, data, { epochs: 2 }));
  assertSameBits(bits(a), bits(b), "two runs on one set");
  assertEquals((await a.evaluate(data)).rows, 32);
});

Deno.test("data of generated sets fits without more ado", async () => {
  const data = glyphs({ rows: 100, testRows: 50 });
  using network = Network.create({ input: [784], layers: [dense(10)] });
  for await (const p of train(network, { ...data, validation: data.test! }, { epochs: 1 })) {
    assertEquals(p.validation!.rows, 50);
  }
});

Deno.test("predict() refuses nothing that fits: one row, a table, bytes with scale", async () => {
  using network = create({
    layers: [dense(1, { weightInit: new Float32Array(6).fill(1) })],
    loss: meanSquaredError(),
    threads: 1,
  });
  assertEquals(await network.predict(new Float32Array([1, 2, 3, 4, 5, 6])), new Float32Array([21]));
  const bytes = { rows: 2, shape: [6], features: new Uint8Array(12).fill(2), scale: [0.5], offset: [1] };
  assertEquals(await network.predict(bytes), new Float32Array([12, 12]));
  assertEquals(
    (await assertRejects(() => network.predict(bytes.features), ConfigError)).message,
    "Cannot use features: expected bytes in a table, { rows, shape, features, scale, offset } as in training, or a Float32Array but " +
      "found a Uint8Array, which does not say what bytes mean",
  );
  assertThrows(
    () => network.write("0.bias", new Float32Array([Infinity])),
    EngineError,
    "expected finite numbers but found inf",
  );
  assertEquals(network.read("0.bias"), new Float32Array([0]));
});
