/**
 * Normalisation layers: mean 0 and variance 1, then scale and shift.
 *
 * @module
 */

import { knownOptions, number } from "../config.ts";

/** Mean 0 and variance 1 over the last axis. Parameters: `weight`, `bias` (length of that axis). */
export interface LayerNormLayer {
  /** The kind of layer. */
  readonly kind: "layerNorm";
  /** Added to the variance. */
  readonly epsilon: number;
}

/**
 * Mean 0 and variance 1 of each channel over the batch. Parameters: `weight`, `bias`; buffers: `running_mean`, `running_var`
 * (all as long as the last axis).
 */
export interface BatchNormLayer {
  /** The kind of layer. */
  readonly kind: "batchNorm";
  /** Added to the variance. */
  readonly epsilon: number;
  /** Weight of a new batch in the running statistics. */
  readonly momentum: number;
}

/** Mean 0 and variance 1 of each group of channels of a sample. Parameters: `weight`, `bias` (channels). */
export interface GroupNormLayer {
  /** The kind of layer. */
  readonly kind: "groupNorm";
  /** Number of groups. */
  readonly groups: number;
  /** Added to the variance. */
  readonly epsilon: number;
}

/** Options of {@linkcode batchNorm}. */
export interface BatchNormOptions {
  /** Added to the variance. Default 1e-5. */
  readonly epsilon?: number;
  /** Weight of a new batch in the running statistics, from 0 to 1. Default 0.1. */
  readonly momentum?: number;
}

/**
 * Layer normalisation over the last axis (Ba, Kiros, Hinton 2016), with weight and bias.
 *
 * @param options `epsilon`, added to the variance; default 1e-5
 * @returns the layer
 */
export function layerNorm(options: { readonly epsilon?: number } = {}): LayerNormLayer {
  knownOptions("layerNorm", options, ["epsilon"]);
  return { kind: "layerNorm", epsilon: epsilonOf("layerNorm", options.epsilon) };
}

/**
 * Batch normalisation (Ioffe, Szegedy 2015) of dense layers and of images: each channel over the rows of a batch and all pixels.
 * Prediction and evaluation take running means and (unbiased) variances, which are buffers: training changes them, gradients do
 * not. A ReLU that follows is computed in the same pass. Where a row has one pixel (after a dense layer, and in images of 1×1),
 * training needs batches of at least 2 rows.
 *
 * @param options epsilon and momentum
 * @returns the layer
 */
export function batchNorm(options: BatchNormOptions = {}): BatchNormLayer {
  knownOptions("batchNorm", options, ["epsilon", "momentum"]);
  return {
    kind: "batchNorm",
    epsilon: epsilonOf("batchNorm", options.epsilon),
    momentum: number("batchNorm.momentum", options.momentum ?? 0.1, { min: 0, max: 1 }),
  };
}

/**
 * Group normalisation (Wu, He 2018): each group of neighbouring channels of each sample, over all pixels.
 *
 * @param groups number of groups, which must divide the channels
 * @param options `epsilon`, added to the variance; default 1e-5
 * @returns the layer
 */
export function groupNorm(groups: number, options: { readonly epsilon?: number } = {}): GroupNormLayer {
  knownOptions("groupNorm", options, ["epsilon"]);
  return {
    kind: "groupNorm",
    groups: number("groupNorm.groups", groups, { min: 1, whole: true }),
    epsilon: epsilonOf("groupNorm", options.epsilon),
  };
}

function epsilonOf(kind: string, epsilon = 1e-5): number {
  return number(`${kind}.epsilon`, epsilon, { above: 0 });
}
