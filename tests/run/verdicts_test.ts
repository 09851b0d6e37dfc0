import { assert, assertAlmostEquals, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { createRandom } from "../../src/data/random.ts";
import type { CompareRun } from "../../src/run/contestant.ts";
import {
  bestError,
  figuresOn,
  secondsToTarget,
  sentenceOf,
  type Side,
  type Task,
  verdictsOf,
} from "../../src/run/verdicts.ts";

interface Made {
  /** Accuracy after each epoch. */
  readonly accuracies: readonly number[];
  readonly secondsPerStep?: number;
  readonly bytes?: number;
  readonly multiplyAdds?: number | null;
}

function madeRun(
  seed: number,
  { accuracies, secondsPerStep = 1e-3, bytes = 2 ** 20, multiplyAdds = 1e6 }: Made,
): CompareRun {
  const curve = accuracies.map((accuracy, index) => ({
    epoch: index + 1,
    step: 100 * (index + 1),
    seconds: 100 * secondsPerStep * (index + 1),
    // Noise that differs from seed to seed and epoch to epoch, as on a machine that others use too.
    secondsPerStep: secondsPerStep * (1 + 0.01 * ((seed * 7 + index * 3) % 5)),
    trainLoss: 1 - accuracy,
    validationLoss: 2 - accuracy,
    validationAccuracy: accuracy,
  }));
  const tested = { testAccuracy: null, testLoss: null };
  return { seed, learningRate: 0.1, curve, diverged: false, bytes, multiplyAdds, ...tested, warnings: [] };
}

const side = (name: string, runs: readonly Made[]): Side => ({
  name,
  runs: runs.map((made, seed) => madeRun(seed, made)),
});
const task: Task = { classes: true, rows: 1000, target: 0.9 };
const base = [0.5, 0.9, 0.92];
const five = (made: Partial<Made> = {}) =>
  [0, 1, 2, 3, 4].map((seed) => ({ ...made, accuracies: (made.accuracies ?? base).map((a) => a + seed * 0.002) }));
const outcomes = (own: Side, reference: Side) =>
  Object.fromEntries(verdictsOf(own, reference, task).map(({ axis, outcome }) => [axis, outcome]));

Deno.test("a rule that is the reference ties on everything", () => {
  assertEquals(outcomes(side("a", five()), side("b", five())), {
    error: "tie",
    secondsToTarget: "tie",
    secondsPerStep: "tie",
    bytes: "tie",
    multiplyAdds: "tie",
  });
});

Deno.test("verdicts follow the figures on every axis", () => {
  const faster = side(
    "fast",
    five({ secondsPerStep: 5e-4, bytes: 2 ** 19, multiplyAdds: 4e5, accuracies: [0.4, 0.91, 0.92] }),
  );
  const reference = side("backprop", five());
  assertEquals(outcomes(faster, reference), {
    error: "tie",
    secondsToTarget: "wins",
    secondsPerStep: "wins",
    bytes: "wins",
    multiplyAdds: "wins",
  });
  assertEquals(outcomes(reference, faster).secondsPerStep, "loses");
  const sentence = sentenceOf(faster, reference, verdictsOf(faster, reference, task));
  assertMatch(sentence, /^fast against backprop: wins on time to target \(0\.1 s against 0\.2 s, factor 2\.00\)/);
  assertMatch(sentence, /seconds per step \([\d.]+ ms against [\d.]+ ms, factor 2\.00\)/);
  assertMatch(
    sentence,
    /memory \(0\.5 MiB against 1 MiB, factor 2\.00\), multiply-adds per step \(0\.4 M against 1 M, factor 2\.50\)/,
  );
  assertMatch(sentence, /; ties on best accuracy \(92\.41 % against 92\.41 %, ratio of the error 1\.00/);
});

Deno.test("the factor on seconds per step is the quotient of the two figures beside it", () => {
  // Runs of different speed and noise, one of them cut short: only epochs that both have are pairs.
  const timed = (name: string, runs: readonly (readonly number[])[]): Side => ({
    name,
    runs: runs.map((milliseconds, seed) => {
      const run = madeRun(seed, { accuracies: milliseconds.map(() => 0.5) });
      return { ...run, curve: run.curve.map((point, at) => ({ ...point, secondsPerStep: milliseconds[at]! / 1000 })) };
    }),
  });
  const own = timed("own", [[1, 1, 9], [2, 2.5, 3], [4]]);
  const reference = timed("backprop", [[8, 30, 31], [10, 11, 29], [12, 50, 60]]);
  const { words, interval } = verdictsOf(own, reference, task).find(({ axis }) => axis === "secondsPerStep")!;
  const [, shown, against, factor] = /\(([\d.]+) ms against ([\d.]+) ms, factor ([\d.]+)/.exec(words)!.map(Number);
  assertAlmostEquals(factor! / (against! / shown!), 1, 0.01, words);
  assertEquals(interval!.pairs, 7);
  assertEquals(figuresOn("secondsPerStep", own, task), { median: 0.0025, low: 0.001, high: 0.004 });
});

Deno.test("the bounds of what is decided are never shown as 1, nor as no difference", () => {
  const timed = (name: string, seconds: readonly number[]): Side =>
    side(name, seconds.map((secondsPerStep) => ({ accuracies: [0.5], secondsPerStep })));
  // An interval that leaves out 1 by less than two decimals show.
  const [slow, fast] = [timed("slow", [1.0375, 1.06, 1.085]), timed("fast", [1, 1, 1])];
  for (const [own, other, outcome] of [[slow, fast, "loses"], [fast, slow, "wins"]] as const) {
    const verdict = verdictsOf(own, other, task).find(({ axis }) => axis === "secondsPerStep")!;
    assertEquals(verdict.outcome, outcome);
    assertMatch(verdict.words, /, factor 1\.061, 1\.004 to 1\.121\)$/);
  }
  const errors = (...values: readonly number[]) => side("a", values.map((value) => ({ accuracies: [1 - value] })));
  const [verdict] = verdictsOf(errors(0.01185, 0.02, 0.028), errors(0, 0, 0), task);
  assertEquals(verdict!.outcome, "loses");
  assertMatch(verdict!.words, /difference of the error 1\.995, 0\.00\d to 3\.98\d points of percent\)$/);
});

Deno.test("what overlaps is a tie, however far the figures are apart", () => {
  const wide = (accuracies: readonly number[]) => accuracies.map((accuracy) => ({ accuracies: [accuracy] }));
  const [verdict] = verdictsOf(
    side("a", wide([0.99, 0.5, 0.97, 0.6, 0.98])),
    side("b", wide([0.7, 0.8, 0.75, 0.72, 0.9])),
    task,
  );
  assertEquals(verdict!.outcome, "tie");
  assert(verdict!.interval!.ratio < 0.5, String(verdict!.interval!.ratio));
});

Deno.test("a target that is not reached is told, not hidden", () => {
  const never = side("never", five({ accuracies: [0.1, 0.2] }));
  const some = side("some", [{ accuracies: [0.95] }, ...five({ accuracies: [0.1] }).slice(1)]);
  const reference = side("backprop", five());
  const words = (own: Side, other: Side) =>
    verdictsOf(own, other, task).find(({ axis }) => axis === "secondsToTarget")!;
  assertEquals(words(never, reference).outcome, "loses");
  assertEquals(words(never, reference).words, "time to target (90.00 % reached with 0 of 5 seeds against 5)");
  assertEquals(words(reference, some).outcome, "wins");
  assertEquals(words(some, never), {
    axis: "secondsToTarget",
    outcome: "open",
    words: "time to target (90.00 % reached with 1 of 5 seeds against 0)",
  });
  assertEquals(words(never, never).words, "time to target (neither reached 90.00 %)");
  assertEquals(words(never, never).outcome, "open");
  assertStringIncludes(
    sentenceOf(never, never, verdictsOf(never, never, task)),
    "open: time to target (neither reached",
  );
});

Deno.test("one seed decides only what follows from shapes", () => {
  const one = (bytes: number, accuracy: number) => side(`b${bytes}`, [{ accuracies: [accuracy], bytes }]);
  assertEquals(outcomes(one(100, 0.99), one(200, 0.95)), {
    error: "open",
    secondsToTarget: "open",
    secondsPerStep: "open",
    bytes: "wins",
    multiplyAdds: "tie",
  });
});

Deno.test("an error of 0 has no factor, and differences decide", () => {
  const best = (...accuracies: readonly number[]) =>
    side("a", accuracies.map((accuracy) => ({ accuracies: [accuracy] })));
  const verdict = (own: Side, reference: Side) => verdictsOf(own, reference, task)[0]!;
  const worse = verdict(best(0.93, 0.94, 0.93), best(1, 1, 1));
  assertEquals([worse.outcome, worse.interval, worse.words], [
    "loses",
    undefined,
    "best accuracy (93.33 % against 100.00 %, no factor since 0 has none, " +
    "difference of the error 6.67, 5.24 to 8.09 points of percent)",
  ]);
  assertAlmostEquals(worse.difference!.low, 0.05243, 1e-5);
  assertEquals(worse.difference!.pairs, 3);
  const tie = verdict(best(0.8, 0.95, 0.997), best(0.99, 0.995, 1));
  assertMatch(
    tie.words,
    /^best accuracy \(91\.57 % against 99\.50 %, no factor since 0 has none, difference of the error 7\.93, -1\d\.\d\d to /,
  );
  assertEquals(verdict(best(1, 1, 1), best(0.93, 0.94, 0.93)).outcome, "wins");
  assertEquals(verdict(best(1, 0.9, 1), best(0.99, 0.99, 0.99)).outcome, "tie");
  assertEquals(
    verdict(best(1, 1, 1), best(1, 1, 1)).words,
    "best accuracy (100.00 % against 100.00 %, no factor since 0 has none, difference of the error 0.00 points of percent)",
  );
  assertEquals(verdict(best(1, 1), best(0.5, 0.5)).outcome, "open");
});

Deno.test("rules that are alike win or lose in a twentieth of all comparisons at most, however few seeds there are", () => {
  const random = createRandom(7);
  const trials = 2000;
  for (const rows of [24, 1000]) {
    // Runs whose accuracy rises with noise of its own and a luck of its seed, in steps of one validation row.
    const run = (seed: number, luck: number) => {
      const share = (epoch: number) => 0.9 - 0.4 / 2 ** epoch + luck + 0.02 * random.bell();
      const accuracies = [1, 2, 3, 4].map((epoch) => Math.min(1, Math.round(rows * share(epoch)) / rows));
      return madeRun(seed, { accuracies });
    };
    for (const count of [1, 2, 3, 4, 5, 6]) {
      const decided = { error: 0, secondsToTarget: 0 };
      for (let trial = 0; trial < trials; trial++) {
        const luck = Array.from({ length: count }, () => 0.02 * random.bell());
        const [own, reference] = ["own", "reference"].map((name): Side => ({
          name,
          runs: luck.map((luck, seed) => run(seed, luck)),
        }));
        const target = 1 - Math.max(...reference!.runs.map((run) => bestError(run, task)));
        for (const { axis, outcome } of verdictsOf(own!, reference!, { classes: true, rows, target })) {
          if ((axis === "error" || axis === "secondsToTarget") && outcome !== "tie" && outcome !== "open") {
            decided[axis]++;
          }
        }
      }
      const words = `${count} seeds, ${rows} rows: ${JSON.stringify(decided)} of ${trials}`;
      for (const wrong of Object.values(decided)) {
        // Three deviations of a count of 100.
        assert(wrong <= (count < 3 ? 0 : 130), words);
      }
      if (count >= 3 && rows === 1000) assert(decided.error > 40, `what is never decided says nothing: ${words}`);
    }
  }
});

Deno.test("multiply-adds that are not counted leave the axis open", () => {
  const reference = side("backprop", five());
  const verdict = verdictsOf(side("dual", five({ multiplyAdds: null })), reference, task).at(-1)!;
  assertEquals([verdict.outcome, verdict.words], ["open", "multiply-adds per step (not counted for dual)"]);
});

Deno.test("a run that diverged has an infinite error, loses, and is counted in the sentence", () => {
  const broken = { ...madeRun(0, { accuracies: [] }), diverged: true };
  assertEquals([bestError(broken, task), secondsToTarget(broken, task)], [Infinity, undefined]);
  const own: Side = { name: "wild", runs: [0, 1, 2, 3, 4].map((seed) => ({ ...broken, seed })) };
  const reference = side("backprop", five());
  const sentence = sentenceOf(own, reference, verdictsOf(own, reference, task));
  assertStringIncludes(sentence, "diverged with 5 of 5 seeds");
  assertStringIncludes(
    sentence,
    "loses on best accuracy (measured with 0 of 5 seeds against 5), time to target (90.00 % reached with 0 of 5 seeds against 5)",
  );
  assertStringIncludes(sentence, "open: seconds per step (nothing measured for wild)");
  // What those reach that have not diverged says nothing of those that have.
  const two: Side = { name: "two", runs: reference.runs.map((run, seed) => seed < 3 ? run : { ...broken, seed }) };
  const [verdict] = verdictsOf(two, reference, task);
  assertEquals([verdict!.outcome, verdict!.words], ["open", "best accuracy (measured with 3 of 5 seeds against 5)"]);
});

Deno.test("what is reached on test rows is compared where there are any", () => {
  const tested = ({ name, runs }: Side, accuracy: number | null): Side => ({
    name,
    runs: runs.map((run, seed) =>
      accuracy === null ? run : { ...run, testAccuracy: accuracy + 0.002 * seed, testLoss: 2 - accuracy }
    ),
  });
  const [own, other] = [side("own", five()), side("backprop", five())];
  const verdict = verdictsOf(tested(own, 0.8), tested(other, 0.9), task)[1]!;
  assertEquals([verdict.axis, verdict.outcome], ["testError", "loses"]);
  assertMatch(verdict.words, /^test accuracy \(80\.40 % against 90\.40 %, factor of the error 2\.04, /);
  const loss = verdictsOf(tested(own, 0.8), tested(other, 0.9), { ...task, classes: false, target: 1.5 })[1]!;
  assertEquals(loss.words, "test loss (1.2 against 1.1, factor 1.09)");
  assertEquals(verdictsOf(own, other, task).some(({ axis }) => axis === "testError"), false);
  assertEquals(verdictsOf(tested(own, null), tested(other, 0.9), task)[1], {
    axis: "testError",
    outcome: "loses",
    words: "test accuracy (measured with 0 of 5 seeds against 5)",
  });
});

Deno.test("losses are compared where there are no classes", () => {
  const values: Task = { classes: false, rows: 100, target: 1.5 };
  const [own, other] = [side("a", five({ accuracies: [0.9] })), side("b", five({ accuracies: [0.4] }))];
  const [error, target] = verdictsOf(own, other, values);
  assertMatch(error!.words, /^best loss \(1\.1 against 1\.6, factor 1\.4\d/);
  assertEquals([error!.outcome, target!.outcome], ["wins", "wins"]);
});
