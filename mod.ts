/**
 * leanprop: neural networks trained on ordinary CPUs, by back-propagation and by published alternatives to it.
 *
 * Data, then a network, then training:
 *
 * ```ts
 * import { adam, dense, glyphs, Network, relu, train } from "@leanprop/leanprop";
 * const data = glyphs({ rows: 2000, testRows: 500 });
 * using network = Network.create({ input: [784], layers: [dense(64), relu(), dense(10)], seed: 1 });
 * for await (const p of train(network, data, { epochs: 2, optimizer: adam(1e-3) })) {
 *   console.log(p.epoch, p.trainLoss);
 * }
 * console.log((await network.evaluate(data.test!)).accuracy);
 * ```
 *
 * @module
 */

// Data.
export * from "./src/data/mod.ts";
export { Dataset, type Features, type TargetInfo } from "./src/data/dataset.ts";

// Networks.
export * from "./src/network/layers.ts";
export * from "./src/network/losses.ts";
export * from "./src/network/models.ts";
export {
  type GradientComparison,
  type GradientLikeness,
  type GradientOptions,
  type Gradients,
  type InputStatistics,
  type LayerDescription,
  type LayerTime,
  type MaskDescription,
  Network,
  type NetworkDescription,
  type NetworkOptions,
  type SaveOptions,
  type SlotDescription,
  type TensorDescription,
  type TrainingMemory,
} from "./src/network/network.ts";
export {
  type Direction,
  type DirectionalDerivatives,
  directionalDerivatives,
  type Jvp,
  jvp,
} from "./src/network/directional.ts";

// Learning rules.
export {
  type Decorrelated,
  decorrelated,
  type DecorrelatedOptions,
  type DecorrelationForm,
  type FirstLayer,
} from "./src/rules/decorrelated.ts";
export {
  type Collapse,
  type CollapsedOptimizer,
  frontContribution,
  type FrontContributionOptions,
} from "./src/rules/front_contribution.ts";
export {
  type MemAop,
  memAop,
  type MemAopOptions,
  type MemAopPaperOptions,
  type RowPolicy,
} from "./src/rules/mem_aop.ts";
export {
  type MaskSchedule,
  sparse,
  type SparseOptions,
  type SparsifyOptions,
  type SparsityDistribution,
  type SparsityOptions,
} from "./src/rules/sparse.ts";
export { backprop, combine, type Rule, type Slot, type SlotChoice } from "./src/rules/mod.ts";
export { dual, type DualMode, type DualOptions } from "./src/rules/dual.ts";

// Training.
export * from "./src/train/optimizers.ts";
export * from "./src/train/schedules.ts";
export type { Augment } from "./src/train/augment.ts";
export { type CostFigures, describePlan, type PlanCandidate, type RunPlan } from "./src/train/forecast.ts";
export type { EvaluateOptions, Metrics } from "./src/train/metrics.ts";
export { stepMultiplyAdds, trainingBytes } from "./src/train/cost.ts";
export { probe, type ProbeOptions } from "./src/train/probe.ts";
export { balancedClassWeights } from "./src/train/class_weights.ts";
export { EarlyStopping, type EarlyStoppingOptions, type Watched } from "./src/train/early_stopping.ts";
export {
  findLearningRate,
  type FindRateOptions,
  type RatePoint,
  type RateSearch,
  type RateTrial,
} from "./src/train/find_rate.ts";
export { train, type TrainLoopOptions } from "./src/train/train.ts";
export {
  type Progress,
  Trainer,
  type TrainingConfig,
  type TrainingData,
  type TrainOptions,
} from "./src/train/trainer.ts";

// Runs.
export { type Checkpoint, loadCheckpoint, type SavedRun } from "./src/run/checkpoint.ts";
export { compare } from "./src/run/compare.ts";
export type { CompareEntry, CompareOptions, CompareProgress } from "./src/run/compare_plan.ts";
export type { ComparedRule, Comparison, StoppedComparison, StoppedRule, TriedRate } from "./src/run/comparison.ts";
export type { ComparePoint, CompareRun } from "./src/run/contestant.ts";
export type { DifferenceInterval, RatioInterval } from "./src/statistics.ts";
export type { AxisFigures, CompareAxis, Verdict } from "./src/run/verdicts.ts";
export { loadNpz, saveNpz } from "./src/run/npz_weights.ts";
export { loadPyTorch, savePyTorch } from "./src/run/pytorch.ts";

// Errors.
export {
  CheckpointError,
  ConfigError,
  DataError,
  type DataErrorOptions,
  EngineError,
  type EngineErrorCode,
} from "./src/errors.ts";
