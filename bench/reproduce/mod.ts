/**
 * All experiments that can be reproduced: the only list of them.
 *
 * @module
 */

import { decorrelatedExperiment } from "./decorrelated.ts";
import type { Experiment } from "./experiment.ts";
import { frontContributionExperiment } from "./front_contribution.ts";
import { memAopEnergy } from "./mem_aop_energy.ts";
import { memAopMnist } from "./mem_aop_mnist.ts";
import { sparseMnist } from "./sparse_mnist.ts";

/** The experiments by name. */
export const experiments: readonly Experiment[] = [
  memAopEnergy,
  memAopMnist,
  frontContributionExperiment,
  sparseMnist,
  decorrelatedExperiment,
];
