/**
 * Optimizers: how a gradient becomes a change of the parameters, in the definitions of PyTorch.
 *
 * @module
 */

import { boolean, knownOptions, number, objectOfOptions, oneOf } from "../config.ts";

/** Stochastic gradient descent. */
export interface SgdOptimizer {
  /** The kind of optimizer. */
  readonly kind: "sgd";
  /** Step size. */
  readonly learningRate: number;
  /** Share of the velocity that is kept. */
  readonly momentum: number;
  /** Whether the step looks ahead. */
  readonly nesterov: boolean;
  /** L2 penalty, added to the gradient. */
  readonly weightDecay: number;
}

/** Adam and AdamW. */
export interface AdamOptimizer {
  /** The kind of optimizer. */
  readonly kind: "adam" | "adamW";
  /** Step size. */
  readonly learningRate: number;
  /** Decay of the first moment. */
  readonly beta1: number;
  /** Decay of the second moment. */
  readonly beta2: number;
  /** Added to the root of the second moment. */
  readonly epsilon: number;
  /** Weight decay: added to the gradient (adam) or taken off the parameters (adamW). */
  readonly weightDecay: number;
}

/** RMSprop. */
export interface RmsPropOptimizer {
  /** The kind of optimizer. */
  readonly kind: "rmsProp";
  /** Step size. */
  readonly learningRate: number;
  /** Share of the mean square that is kept. */
  readonly alpha: number;
  /** Added to the root of the mean square. */
  readonly epsilon: number;
  /** L2 penalty, added to the gradient. */
  readonly weightDecay: number;
}

/** Any optimizer. */
export type Optimizer = SgdOptimizer | AdamOptimizer | RmsPropOptimizer;

/** Options of {@linkcode sgd}. */
export interface SgdOptions {
  /** Share of the velocity that is kept, from 0 (default) to below 1. */
  readonly momentum?: number;
  /** Whether the step looks ahead (Nesterov); needs momentum. Default `false`. */
  readonly nesterov?: boolean;
  /** L2 penalty, added to the gradient. Default 0. */
  readonly weightDecay?: number;
}

/** Options of {@linkcode adam} and {@linkcode adamW}. */
export interface AdamOptions {
  /** Decay of the first moment. Default 0.9. */
  readonly beta1?: number;
  /** Decay of the second moment. Default 0.999. */
  readonly beta2?: number;
  /** Added to the root of the second moment. Default 1e-8. */
  readonly epsilon?: number;
  /** Weight decay. Default 0 for adam, 0.01 for adamW. */
  readonly weightDecay?: number;
}

/** Options of {@linkcode rmsProp}. */
export interface RmsPropOptions {
  /** Share of the mean square that is kept. Default 0.99. */
  readonly alpha?: number;
  /** Added to the root of the mean square. Default 1e-8. */
  readonly epsilon?: number;
  /** L2 penalty, added to the gradient. Default 0. */
  readonly weightDecay?: number;
}

/**
 * Stochastic gradient descent: v ← momentum · v + g; w ← w − rate · v.
 *
 * @param learningRate step size; default 0.1
 * @param options momentum, Nesterov, weight decay
 * @returns the optimizer
 */
export function sgd(learningRate = 0.1, options: SgdOptions = {}): SgdOptimizer {
  knownOptions("optimizer", options, ["momentum", "nesterov", "weightDecay"]);
  return {
    kind: "sgd",
    learningRate: rate(learningRate),
    momentum: number("optimizer.momentum", options.momentum ?? 0, { min: 0, below: 1 }),
    nesterov: boolean("optimizer.nesterov", options.nesterov ?? false),
    weightDecay: decay(options.weightDecay ?? 0),
  };
}

/**
 * Adam (Kingma and Ba 2015).
 *
 * @param learningRate step size; default 1e-3
 * @param options moments, epsilon, weight decay (added to the gradient)
 * @returns the optimizer
 */
export function adam(learningRate = 1e-3, options: AdamOptions = {}): AdamOptimizer {
  return moments("adam", learningRate, options, 0);
}

/**
 * Adam with decoupled weight decay (Loshchilov and Hutter 2019).
 *
 * @param learningRate step size; default 1e-3
 * @param options moments, epsilon, weight decay (taken off the parameters)
 * @returns the optimizer
 */
export function adamW(learningRate = 1e-3, options: AdamOptions = {}): AdamOptimizer {
  return moments("adamW", learningRate, options, 0.01);
}

/**
 * RMSprop (Hinton 2012): steps scaled by a running root mean square.
 *
 * @param learningRate step size; default 1e-3
 * @param options alpha, epsilon, weight decay
 * @returns the optimizer
 */
export function rmsProp(learningRate = 1e-3, options: RmsPropOptions = {}): RmsPropOptimizer {
  knownOptions("optimizer", options, ["alpha", "epsilon", "weightDecay"]);
  return {
    kind: "rmsProp",
    learningRate: rate(learningRate),
    alpha: number("optimizer.alpha", options.alpha ?? 0.99, { min: 0, below: 1 }),
    epsilon: number("optimizer.epsilon", options.epsilon ?? 1e-8, { min: 0 }),
    weightDecay: decay(options.weightDecay ?? 0),
  };
}

/** Names of the optimizers. */
export const optimizerKinds = ["sgd", "adam", "adamW", "rmsProp"] as const;

/**
 * Checks an optimizer that was written by hand and fills in its defaults.
 *
 * @param optimizer the object
 * @returns the optimizer
 * @throws {ConfigError} where it is none
 */
export function checkOptimizer(optimizer: { readonly kind: string } & Record<string, unknown>): Optimizer {
  objectOfOptions("optimizer", optimizer, "kind");
  const { kind: given, learningRate, ...options } = optimizer;
  const kind = oneOf("optimizer.kind", given, optimizerKinds);
  const make = { sgd, adam, adamW, rmsProp }[kind];
  return make(learningRate as number | undefined, options);
}

function moments(
  kind: "adam" | "adamW",
  learningRate: number,
  options: AdamOptions,
  weightDecay: number,
): AdamOptimizer {
  knownOptions("optimizer", options, ["beta1", "beta2", "epsilon", "weightDecay"]);
  return {
    kind,
    learningRate: rate(learningRate),
    beta1: number("optimizer.beta1", options.beta1 ?? 0.9, { min: 0, below: 1 }),
    beta2: number("optimizer.beta2", options.beta2 ?? 0.999, { min: 0, below: 1 }),
    epsilon: number("optimizer.epsilon", options.epsilon ?? 1e-8, { min: 0 }),
    weightDecay: decay(options.weightDecay ?? weightDecay),
  };
}

function rate(value: number): number {
  return number("optimizer.learningRate", value, { min: 0 });
}

function decay(value: number): number {
  return number("optimizer.weightDecay", value, { min: 0 });
}
