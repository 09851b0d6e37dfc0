/**
 * Augmentation: images that are changed at random, so that each epoch sees other ones.
 *
 * @module
 */

import { boolean, knownOptions, number } from "../config.ts";
import { ConfigError } from "../errors.ts";

/**
 * Random changes to the images of each step. What a sample becomes depends on the run's seed, the epoch and the sample's row
 * alone: not on threads, and not on where a run was interrupted.
 */
export interface Augment {
  /**
   * Pixels of black on each side that a crop of the image's size is taken from, so that the image moves by up to as many; whole
   * number from 0. Default 0.
   */
  readonly crop?: number;
  /** Whether half of the images are mirrored left to right. Default `false`. */
  readonly flip?: boolean;
}

/** Fills in defaults. @throws {ConfigError} where an option cannot be used */
export function checkAugment(augment: Augment): Required<Augment> {
  if (typeof augment !== "object" || augment === null) {
    throw new ConfigError("augment", "an object such as { crop: 4, flip: true }", augment);
  }
  knownOptions("augment", augment, ["crop", "flip"]);
  return {
    crop: number("augment.crop", augment.crop ?? 0, { min: 0, whole: true }),
    flip: boolean("augment.flip", augment.flip ?? false),
  };
}
