/** Runs that were never trained, for tests of the table. */

import type { DoneEvent, EpochEvent, RunRecord } from "../../../src/cli/run_folder.ts";

/** The record of a run. */
export function record(id: string, changes: { rule?: string; seed?: number; rate?: number } = {}): RunRecord {
  const { rule = "backprop", seed = 0, rate = 0.1 } = changes;
  return {
    format: 1,
    id,
    created: new Date(Date.UTC(2026, 0, 2, 3, 4, 5) + seed).toISOString(),
    options: { data: "spirals", rule, seed, hidden: [16, 8], "learning-rate": rate },
    data: {
      name: "spirals",
      hash: "0".repeat(64),
      rows: { train: 90, validation: 10, test: 20 },
      shape: [2],
      targets: { kind: "labels", classes: 3 },
    },
    network: {
      input: [2],
      layers: [],
      loss: { kind: "softmaxCrossEntropy", labelSmoothing: 0 },
      seed,
      precision: "f32",
      threads: 1,
    },
    training: {
      ruleName: rule,
      rule: {},
      optimizer: { kind: "sgd", learningRate: rate, momentum: 0, nesterov: false, weightDecay: 0 },
      schedule: { kind: "constant" },
      epochs: 3,
      batchSize: 10,
      seed,
      shuffle: true,
      dropLast: false,
      clipNorm: null,
      augment: null,
      rows: 90,
    } as RunRecord["training"],
    machine: { leanprop: "0", deno: "0", system: "none", cpu: "none", instructionSet: "portable", threads: 1 },
  };
}

/** The line of an epoch. */
export function epoch(number: number, trainLoss: number, accuracy: number): EpochEvent {
  return {
    event: "epoch",
    epoch: number,
    step: 9 * number,
    trainLoss,
    trainAccuracy: null,
    validationLoss: trainLoss / 2,
    validationAccuracy: accuracy,
    learningRate: 0.1,
    seconds: number / 4,
  };
}

/** The line of a finished run. */
export function done(testAccuracy: number, bestEpoch?: number): DoneEvent {
  return {
    event: "done",
    testLoss: 0.5,
    testAccuracy,
    testMeanAbsoluteError: null,
    step: 27,
    seconds: 0.75,
    ...(bestEpoch !== undefined && { bestEpoch, stoppedEarly: true }),
    checkpoint: "nowhere",
  };
}
