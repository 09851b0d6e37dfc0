/**
 * What a run would cost, before it begins.
 *
 * @module
 */

import { listGiven, objectGiven } from "../config.ts";
import type { Collapse } from "../rules/front_contribution.ts";
import { fillSlots } from "../rules/mod.ts";
import { trainingConfig, type TrainOptions } from "./trainer.ts";

/** What one way of training costs, predicted from shapes: the same on every machine. */
export interface CostFigures {
  /** Most bytes at one time: parameters, optimizer, values, and what is kept in their place. */
  readonly bytes: number;
  /** Multiply-adds of one step. */
  readonly stepMultiplyAdds: number;
  /** Multiply-adds before the first step and after the last one. */
  readonly onceMultiplyAdds: number;
  /** Time of one step in multiply-adds: memory traffic and calls count too. */
  readonly stepCost: number;
  /** Time of the whole run in multiply-adds. */
  readonly cost: number;
}

/** One way to collapse a network. */
export interface PlanCandidate {
  /** What is collapsed. */
  readonly collapse: Exclude<Collapse, "auto">;
  /** What it costs, where it is possible. */
  readonly figures?: CostFigures;
  /** Time of back-propagation's run divided by that of this one. */
  readonly gain?: number;
  /** As `gain`, for one step. */
  readonly stepGain?: number;
  /** Why it is not possible. */
  readonly refusal?: string;
}

/** What to expect of a run with front contribution. */
export interface RunPlan {
  /** Training rows. */
  readonly rows: number;
  /** Rows of a step. */
  readonly batchSize: number;
  /** Steps of the run. */
  readonly steps: number;
  /** What back-propagation costs. */
  readonly backprop: CostFigures;
  /** Each collapse. */
  readonly candidates: readonly PlanCandidate[];
  /** What the rule takes; `null` where it refuses. */
  readonly chosen: Exclude<Collapse, "auto"> | null;
  /** Why. */
  readonly reason: string;
}

/** The request for a plan as the engine reads it. */
export function planRequest(rows: number, options: TrainOptions): { readonly do: string } & Record<string, unknown> {
  const { ruleName, rule, rows: _, ...rest } = trainingConfig(options, rows);
  const slots = fillSlots({ name: ruleName, slots: rule });
  const shared = slots.propagation.shared === true;
  return { do: "planFrontContribution", rows, shared, training: { ...rest, rule: slots } };
}

/**
 * A plan as a table in text.
 *
 * @param plan what `Network.plan` gives
 * @returns the lines
 * @throws {ConfigError} where what is given is no plan
 */
export function describePlan(plan: RunPlan): string {
  objectGiven("plan", plan, "what Network.plan() gives");
  listGiven("plan.candidates", plan.candidates, "what Network.plan() gives");
  const whole = (value: number) => Math.round(value).toLocaleString("en");
  const row = (name: string, figures: CostFigures, gain: number, stepGain: number) => [
    name,
    whole(figures.stepMultiplyAdds),
    whole(figures.onceMultiplyAdds),
    `${(figures.bytes / 2 ** 20).toFixed(2)} MiB`,
    stepGain.toFixed(2),
    gain.toFixed(2),
  ];
  const possible = plan.candidates.flatMap(({ collapse, figures, gain = 0, stepGain = 0 }) =>
    figures ? [row(collapse, figures, gain, stepGain)] : []
  );
  const table = [
    ["", "multiply-adds of a step", "once", "memory", "step, times as fast", "run, times as fast"],
    row("back-propagation", plan.backprop, 1, 1),
    ...possible,
  ];
  const widths = table[0]!.map((_, column) => Math.max(...table.map((cells) => cells[column]!.length)));
  const lines = table.map((cells) =>
    cells.map((cell, column) => column === 0 ? cell.padEnd(widths[0]!) : cell.padStart(widths[column]!)).join("  ")
  );
  const refused = plan.candidates.flatMap(({ collapse, refusal }) => refusal ? [`${collapse}: ${refusal}`] : []);
  const steps = `${whole(plan.rows)} rows, batches of ${whole(plan.batchSize)}, ${whole(plan.steps)} steps`;
  return [`Predicted for ${steps}`, ...lines, ...refused, plan.reason].join("\n");
}
