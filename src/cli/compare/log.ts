/**
 * How far a comparison is: a line that is redrawn on a terminal, lines that stay in a log.
 *
 * @module
 */

import type { CompareProgress } from "../../run/compare_plan.ts";
import type { StoppedComparison } from "../../run/comparison.ts";
import type { CompareRun } from "../../run/contestant.ts";
import { bestError, showOn } from "../../run/verdicts.ts";
import type { ProgressView } from "../progress.ts";

/** Tells of a comparison while it goes on. */
export class ComparisonLog {
  readonly #view: ProgressView;
  readonly #start = performance.now();
  #turn = "";

  /** @param view what shows it */
  constructor(view: ProgressView) {
    this.#view = view;
  }

  /** An epoch begins: told whole on a terminal; elsewhere once for all rules that take turns in it. */
  epoch({ phase, name, learningRate, seed, epoch, epochs }: CompareProgress): void {
    const of = `epoch ${epoch}/${epochs}`;
    const what = phase === "rates" ? `trying learning rate ${learningRate.toPrecision(3)}` : `seed ${seed}`;
    this.#view.status(`${name}  ${what}  ${of}`);
    const turn = `${phase === "rates" ? "trying learning rates" : what}  ${of}`;
    if (turn !== this.#turn) this.#view.log(turn);
    this.#turn = turn;
  }

  /** A seed is complete. */
  seed(comparison: StoppedComparison): void {
    const { rules, seeds, stopped } = comparison;
    const all = seeds.length + (stopped?.missingSeeds.length ?? 0);
    const best = rules.map(({ name, runs }) => `${name} ${bestWords(runs.at(-1)!, comparison)}`).join(", ");
    const seconds = (performance.now() - this.#start) / 1000;
    this.#view.line(`seed ${seeds.at(-1)} (${seeds.length} of ${all})  ${best}  ${seconds.toFixed(1)} s`);
  }
}

/** The best of a run, in words. */
function bestWords(run: CompareRun, comparison: StoppedComparison): string {
  return run.curve.length === 0 ? "diverged" : showOn("error", bestError(run, comparison), comparison);
}
