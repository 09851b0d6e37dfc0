/**
 * The learning rate that suits each rule.
 *
 * @module
 */

import { type ComparePlan, type CompareProgress, entryOf, FACTORS } from "./compare_plan.ts";
import type { StoppedRule, TriedRate } from "./comparison.ts";
import { Contestant, type Rows } from "./contestant.ts";

/** Most rates that a grid which nobody gave grows by: from an optimizer's rate to 243 times as much, or as little. */
const MOST_MORE = 4;

/** Milliseconds of training before anything is measured, where no rates are tried. */
const WARM_UP_MS = 300;

/**
 * Successive halving over the rates of each rule, all rules at once (Jamieson and Talwalkar 2016), and then the search beyond the
 * ends of grids that nobody gave.
 *
 * @param plan the comparison
 * @param rows its rows
 * @param found takes the runs that try rates, from the first on
 * @returns the rate of each rule
 */
export async function chooseRates(
  plan: ComparePlan,
  rows: Rows,
  found: { tried: readonly (readonly Contestant[])[] },
): Promise<number[]> {
  const most = Math.max(...plan.sides.map(({ learningRates }) => learningRates.length));
  // Not one of the seeds that are measured: a rate that was lucky with one of them would profit twice.
  const seed = Math.max(...plan.seeds) + 1;
  const make = (index: number, rate: number) => Contestant.create(entryOf(plan, plan.sides[index]!, rate, seed), rows);
  if (most === 1) {
    const rates = plan.sides.map(({ learningRates: [only] }) => only!);
    await warmUp(rates.map((rate, index) => () => make(index, rate)));
    return rates;
  }
  using owned = new DisposableStack();
  const begin = async (index: number, rate: number) => owned.use(await make(index, rate));
  const all: Contestant[][] = [];
  for (const [index, { learningRates }] of plan.sides.entries()) {
    const own: Contestant[] = [];
    for (const rate of learningRates) own.push(await begin(index, rate));
    all.push(own);
  }
  found.tried = all;
  const rounds = Math.ceil(Math.log2(most));
  const epochsOf = (round: number) => Math.max(1, Math.ceil(plan.shared.epochs / 2 ** (rounds - round)));
  let left: readonly (readonly Contestant[])[] = all;
  for (let round = 0; round < rounds; round++) {
    await takeTurns(left.filter((own) => own.length > 1).flat(), { plan, phase: "rates", epochs: epochsOf(round) });
    left = left.map((own) => own.toSorted(better).slice(0, Math.ceil(own.length / 2)));
  }
  const best = left.map(([first]) => first!);
  // One rate further wherever the best stands at an end, with as many epochs as the best has had: each rule until its own best lies
  // inside, since a rate that another rule needs is of no use to it. What decides is the same for all, and so is the bound.
  const epochs = epochsOf(Math.ceil(Math.log2(FACTORS.length)) - 1);
  for (let more = 0; more < MOST_MORE; more++) {
    const challengers: [index: number, challenger: Contestant][] = [];
    for (const [index, { extend }] of plan.sides.entries()) {
      const rate = extend ? beyond(rateOf(best[index]!), all[index]!.map(rateOf)) : undefined;
      if (rate !== undefined) challengers.push([index, await begin(index, rate)]);
    }
    for (const [index, challenger] of challengers) all[index]!.push(challenger);
    await takeTurns(challengers.map(([, challenger]) => challenger), { plan, phase: "rates", epochs });
    for (const [index, challenger] of challengers) {
      if (better(challenger, best[index]!) < 0) best[index] = challenger;
    }
  }
  return best.map(rateOf);
}

/** The next rate beyond the end at which the best stands; `undefined` where it lies inside. */
function beyond(best: number, rates: readonly number[]): number | undefined {
  const step = FACTORS[2] / FACTORS[1];
  if (best === Math.min(...rates)) return best / step;
  return best === Math.max(...rates) ? best * step : undefined;
}

/** A learning rate that was tried, as it is told. */
export function triedRate(contestant: Contestant, chosen: number | null): TriedRate {
  const learningRate = rateOf(contestant);
  const loss = lossOf(contestant);
  return {
    learningRate,
    epochs: contestant.curve.length,
    validationLoss: Number.isFinite(loss) ? loss : null,
    chosen: learningRate === chosen,
  };
}

/** The end of the tried rates at which the best stands: better ones may lie outside. */
export function endOfGrid({ tried }: Pick<StoppedRule, "tried">): "smallest" | "largest" | undefined {
  const chosen = tried.find(({ chosen }) => chosen);
  // Of rates that all diverged none is the best.
  if (chosen === undefined || chosen.validationLoss === null || tried.length < 2) return undefined;
  const rates = tried.map(({ learningRate }) => learningRate);
  if (chosen.learningRate === Math.min(...rates)) return "smallest";
  return chosen.learningRate === Math.max(...rates) ? "largest" : undefined;
}

/** Lets contestants train until each has had `epochs`, one epoch at a time; each turn begins with another of them. */
export async function takeTurns(
  contestants: readonly Contestant[],
  { plan, phase, epochs }: {
    readonly plan: ComparePlan;
    readonly phase: CompareProgress["phase"];
    readonly epochs: number;
  },
): Promise<void> {
  const least = () => Math.min(...contestants.filter(({ finished }) => !finished).map(({ curve }) => curve.length));
  for (let done = least(); done < epochs; done = least()) {
    for (let turn = 0; turn < contestants.length; turn++) {
      const contestant = contestants[(turn + done) % contestants.length]!;
      const { finished, curve, entry: { name, training } } = contestant;
      if (finished || curve.length > done) continue;
      plan.onProgress?.({
        phase,
        name,
        learningRate: training.optimizer.learningRate,
        seed: training.seed,
        epoch: curve.length + 1,
        epochs: Math.ceil(plan.shared.epochs),
      });
      await contestant.epoch();
    }
  }
}

/** The better of two rates comes first; where all diverged, the smallest, which is the least likely to diverge again. */
function better(a: Contestant, b: Contestant): number {
  const [first, second] = [lossOf(a), lossOf(b)];
  return first === second ? rateOf(a) - rateOf(b) : first - second;
}

function rateOf({ entry }: Contestant): number {
  return entry.training.optimizer.learningRate;
}

/** What rates are judged by; a run that diverged comes last. */
function lossOf({ curve, diverged }: Contestant): number {
  const loss = diverged ? Infinity : curve.at(-1)?.validationLoss ?? Infinity;
  return Number.isNaN(loss) ? Infinity : loss;
}

/**
 * Trains all rules for a moment that nobody measures. Whoever trains first in a process waits for threads to begin and for code to be
 * compiled, which would be held against the reference.
 */
async function warmUp(rules: readonly (() => Promise<Contestant>)[]): Promise<void> {
  const end = performance.now() + WARM_UP_MS;
  do {
    for (const make of rules) {
      using run = await make();
      await run.warmUp(Math.min(end, performance.now() + WARM_UP_MS / rules.length));
    }
  } while (performance.now() < end);
}
