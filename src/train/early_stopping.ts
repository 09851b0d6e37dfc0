/**
 * When to stop: as soon as a figure of the validation rows has not become better for some epochs.
 *
 * @module
 */

import { boolean, knownOptions, number, oneOf } from "../config.ts";
import { ConfigError } from "../errors.ts";

/** When a run stops early. */
export interface EarlyStoppingOptions {
  /** Epochs without a better figure after which the run stops; whole number from 1. Default 5. */
  readonly patience?: number;
  /** The figure of the validation rows: their loss, or the share whose class is right. Default `"loss"`. */
  readonly monitor?: "loss" | "accuracy";
  /** How much better than the best one a figure must be to count; from 0. Default 0. */
  readonly minDelta?: number;
  /** Whether the network has the parameters of the best epoch in the end. Default `true`. */
  readonly restoreBest?: boolean;
}

/** The figures of validation rows that count. */
export interface Watched {
  /** Mean loss. */
  readonly loss: number | null | undefined;
  /** Share of rows whose class is right. */
  readonly accuracy?: number | null | undefined;
}

/**
 * Watches a run. What it knows follows from the figures of all epochs so far, so that a resumed run that is told them again stops
 * where the uninterrupted one does.
 */
export class EarlyStopping {
  /** The options with their defaults. */
  readonly options: Required<EarlyStoppingOptions>;
  #best: number | undefined;
  #bestEpoch = 0;
  #epochs = 0;

  /**
   * Checks the options.
   *
   * @param options when to stop
   * @throws {ConfigError} where an option cannot be used
   */
  constructor(options: EarlyStoppingOptions = {}) {
    knownOptions("earlyStopping", options, ["patience", "monitor", "minDelta", "restoreBest"]);
    this.options = {
      patience: number("earlyStopping.patience", options.patience ?? 5, { min: 1, whole: true }),
      monitor: oneOf("earlyStopping.monitor", options.monitor ?? "loss", ["loss", "accuracy"]),
      minDelta: number("earlyStopping.minDelta", options.minDelta ?? 0, { min: 0 }),
      restoreBest: boolean("earlyStopping.restoreBest", options.restoreBest ?? true),
    };
  }

  /** The best figure, once there is one. */
  get best(): number | undefined {
    return this.#best;
  }

  /** The epoch that it belongs to, from 1. */
  get bestEpoch(): number {
    return this.#bestEpoch;
  }

  /** Whether it is time to stop. */
  get stop(): boolean {
    return this.#epochs - this.#bestEpoch >= this.options.patience;
  }

  /**
   * Takes in the figures of the next epoch.
   *
   * @param figures of the validation rows
   * @returns whether this epoch is the best so far
   * @throws {ConfigError} where the figure that is to be watched is missing
   */
  observe(figures: Watched | undefined): boolean {
    const { monitor, minDelta } = this.options;
    const value = figures?.[monitor];
    if (value === undefined || value === null) {
      const expected = monitor === "accuracy" ? "validation rows with class labels" : "validation rows";
      throw new ConfigError("earlyStopping", `${expected} beside it`, "none");
    }
    this.#epochs++;
    const gain = this.#best === undefined ? Infinity : monitor === "loss" ? this.#best - value : value - this.#best;
    if (!(gain > minDelta)) return false;
    this.#best = value;
    this.#bestEpoch = this.#epochs;
    return true;
  }
}
