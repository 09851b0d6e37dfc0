/**
 * Losses: what training makes small, and so what a network's outputs mean.
 *
 * @module
 */

import { knownOptions, number, objectOfOptions, oneOf } from "../config.ts";

/** A loss. */
export type Loss =
  | {
    /** Logits against class labels; prediction gives probabilities. */
    readonly kind: "softmaxCrossEntropy";
    /** Share of the target that is spread over all classes. */
    readonly labelSmoothing: number;
  }
  | {
    /** Outputs against values; prediction gives the outputs. */
    readonly kind: "meanSquaredError";
  }
  | {
    /** Logits against values in [0, 1]; prediction gives probabilities. */
    readonly kind: "binaryCrossEntropy";
    /** How far targets are pulled towards ½. */
    readonly labelSmoothing: number;
  };

/** Options of the cross-entropies. */
export interface CrossEntropyOptions {
  /** From 0 (default) to below 1 (Szegedy et al. 2016). */
  readonly labelSmoothing?: number;
}

/**
 * Softmax cross-entropy of logits against class labels: the usual loss of classification.
 *
 * @param options label smoothing
 * @returns the loss
 */
export function softmaxCrossEntropy(options: CrossEntropyOptions = {}): Loss {
  return { kind: "softmaxCrossEntropy", labelSmoothing: smoothing(options) };
}

/** Mean squared difference over rows and outputs: the usual loss of regression. */
export function meanSquaredError(): Loss {
  return { kind: "meanSquaredError" };
}

/**
 * Binary cross-entropy of logits against targets in [0, 1], mean over rows and outputs: for several yes-or-no answers.
 *
 * @param options label smoothing
 * @returns the loss
 */
export function binaryCrossEntropy(options: CrossEntropyOptions = {}): Loss {
  return { kind: "binaryCrossEntropy", labelSmoothing: smoothing(options) };
}

/**
 * Checks a loss that was written by hand and fills in its defaults.
 *
 * @param loss the object
 * @returns the loss
 * @throws {ConfigError} where it is none
 */
export function checkLoss(loss: Partial<Loss>): Loss {
  const kinds = ["softmaxCrossEntropy", "meanSquaredError", "binaryCrossEntropy"] as const;
  objectOfOptions("loss", loss, "kind");
  const { kind: given, ...options } = loss;
  const kind = oneOf("loss.kind", given, kinds);
  switch (kind) {
    case "softmaxCrossEntropy":
      return softmaxCrossEntropy(options);
    case "meanSquaredError":
      knownOptions("loss", options, []);
      return meanSquaredError();
    case "binaryCrossEntropy":
      return binaryCrossEntropy(options);
  }
}

function smoothing(options: CrossEntropyOptions): number {
  knownOptions("loss", options, ["labelSmoothing"]);
  return number("loss.labelSmoothing", options.labelSmoothing ?? 0, { min: 0, below: 1 });
}
