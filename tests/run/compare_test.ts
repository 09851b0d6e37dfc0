import { assert, assertAlmostEquals, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import {
  adam,
  combine,
  compare,
  type CompareOptions,
  type CompareProgress,
  type CompareRun,
  ConfigError,
  dense,
  EngineError,
  meanSquaredError,
  memAop,
  Network,
  relu,
  type Rule,
  sgd,
  sparse,
  spirals,
  type StoppedComparison,
  train,
} from "../../mod.ts";
import { native } from "../../src/ffi/native.ts";
import { rules } from "../../src/rules/mod.ts";

// Opened before the first test: what is opened within a test has to be closed there.
native();

const data = spirals({ rows: 240, testRows: 60, seed: 1 });
const network = { input: [2], layers: [dense(16), relu(), dense(16), relu(), dense(3)], threads: 1 };
const small = { network, data, epochs: 4, batchSize: 24, seeds: [3, 5], optimizer: sgd(0.1) } satisfies Omit<
  CompareOptions,
  "rules"
>;

Deno.test("compare() tunes each rule, trains it with each seed, and judges from the figures", async () => {
  const turns: string[] = [];
  const found = await compare({
    ...small,
    rules: [
      "backprop",
      { name: "small", rule: memAop({ k: 4, minSize: 0 }) },
      combine(sparse(), memAop({ k: 8, minSize: 0 })),
    ],
    learningRates: [0.02, 0.2, 1e-9],
    onProgress: ({ phase, name, seed, epoch }) => turns.push(`${phase} ${name} ${seed} ${epoch}`),
  });
  assertEquals(found.rules.map(({ name }) => name), ["backprop", "small", "sparse+mem-aop"]);
  assertEquals([found.rows, found.seeds, found.targetFrom], [24, [3, 5], "reference"]);
  for (const { name, tried, learningRate, runs, figures, sentence, verdicts } of found.rules) {
    assertEquals(learningRate, 0.2, name);
    assertEquals(tried.map(({ learningRate, epochs, chosen }) => [learningRate, epochs, chosen]), [
      [0.02, 2, false],
      [0.2, 2, true],
      [1e-9, 1, false],
    ]);
    assertEquals(runs.map(({ seed, curve }) => [seed, curve.length]), [[3, 4], [5, 4]]);
    for (const { curve } of runs) {
      assertEquals(curve.map(({ step }) => step), [9, 18, 27, 36]);
      assert(curve.every(({ seconds }, index) => seconds > (curve[index - 1]?.seconds ?? 0)));
    }
    const accuracies = runs.map(({ curve }) => Math.max(...curve.map((point) => point.validationAccuracy!)));
    assertAlmostEquals(1 - figures.error!.low, Math.max(...accuracies), 1e-12, name);
    assertEquals(sentence !== "", verdicts.length > 0);
  }
  const [reference] = found.rules;
  assertEquals(reference!.reached, 2, "the target is what the reference reaches with every seed");
  assertEquals(
    found.target,
    Math.min(...reference!.runs.map(({ curve }) => Math.max(...curve.map((p) => p.validationAccuracy!)))),
  );
  assertStringIncludes(found.notes.join(), "2 seeds say little about chance");
  assertStringIncludes(found.notes.join(), "small did best with the largest learning rate that it tried (0.2)");
  assertStringIncludes(
    found.rules[1]!.sentence,
    "; provisional, since both have the largest learning rate that they tried",
  );

  // Interleaved: between two epochs of one rule every other rule has had its turn, and turns begin with another rule each time.
  const measured = turns.filter((turn) => turn.startsWith("measure") && turn.includes(" 3 ")).map((turn) =>
    turn.split(" ")[1]
  );
  assertEquals(measured.slice(0, 6), ["backprop", "small", "sparse+mem-aop", "small", "sparse+mem-aop", "backprop"]);
  assert(
    turns.filter((turn) => turn.startsWith("rates")).every((turn) => turn.includes(" 6 ")),
    "the seed of rates is another one",
  );
});

Deno.test("a run of compare() is the run that train() makes", async () => {
  const validation = { ...data, validation: data.test! };
  const found = await compare({ ...small, data: validation, rules: ["backprop", "mem-aop"], learningRates: [0.1] });
  using alone = Network.create({ ...network, seed: 5 });
  const losses = [];
  for await (
    const { trainLoss } of train(alone, data.train, { epochs: 4, batchSize: 24, seed: 5, optimizer: sgd(0.1) })
  ) {
    losses.push(trainLoss);
  }
  const [reference] = found.rules;
  assertEquals(reference!.runs[1]!.curve.map(({ trainLoss }) => trainLoss), losses);
  assertEquals(reference!.tried, [], "one rate is not tried");
  const metrics = await alone.evaluate(data.test!);
  assertEquals(reference!.runs[1]!.curve.at(-1)!.validationLoss, metrics.loss);
  assertEquals(reference!.runs[1]!.testAccuracy, metrics.accuracy);
  const tested = reference!.runs.map(({ testAccuracy }) => 1 - testAccuracy!);
  assertEquals(reference!.figures.testError!.high, Math.max(...tested));
  assertStringIncludes(found.rules[1]!.sentence, "test accuracy (");
});

Deno.test("compare() drops rates that diverge, and tells of rules that do with all", async () => {
  const options = { ...small, rules: ["backprop", { rule: memAop({ minSize: 0 }), learningRates: [1e30, 1e29] }] };
  const found = await compare({ ...options, learningRates: [0.1, 1e30] });
  const [reference, wild] = found.rules;
  assertEquals(reference!.tried.map(({ validationLoss, chosen }) => [validationLoss === null, chosen]), [
    [false, true],
    [true, false],
  ]);
  assert(wild!.runs.every(({ diverged }) => diverged));
  assertStringIncludes(wild!.sentence, "diverged with 2 of 2 seeds");
});

Deno.test("compare() goes on beyond the end of a grid that nobody gave, for each rule until its best lies inside", async () => {
  for (const [rate, grows] of [[1e-3, "up"], [30, "down"], [1e30, "down"]] as const) {
    const found = await compare({
      ...small,
      seeds: [0],
      optimizer: sgd(rate),
      rules: ["backprop", "mem-aop", { name: "given", rule: memAop(), learningRates: [1e-4, 1e-3] }],
    });
    const [own, same, given] = found.rules;
    const rates = own!.tried.map(({ learningRate }) => learningRate);
    assertEquals(rates.slice(0, 3), [rate / 3, rate, 3 * rate]);
    assert(rates.length > 3 && rates.length <= 7, rates.join());
    for (const [at, more] of rates.slice(3).entries()) {
      const next = grows === "up" ? 3 ** (at + 2) * rate : rate / 3 ** (at + 2);
      assertAlmostEquals(more / next, 1, 1e-12, rates.join());
    }
    assertEquals(same!.tried.length, rates.length, "the same outcome, since mem-aop takes no effect here");
    assertEquals(given!.tried.length, 2, "what was asked for is what is tried");
    const best = own!.tried.find(({ chosen }) => chosen)!;
    if (rate === 1e30) {
      assertEquals([best.learningRate, best.validationLoss], [Math.min(...rates), null]);
      continue;
    }
    // Those that were not dropped have had as many epochs as the best.
    const rivals = own!.tried.filter(({ epochs, validationLoss }) => epochs === best.epochs && validationLoss !== null);
    assertEquals(best.validationLoss, Math.min(...rivals.map(({ validationLoss }) => validationLoss!)));
    const inside = best.learningRate > Math.min(...rates) && best.learningRate < Math.max(...rates);
    assert(inside || rates.length === 7, rates.join());
    assertEquals(/; provisional, since both have the (smallest|largest) learning rate/.test(same!.sentence), !inside);
    if (inside) {
      assertStringIncludes(given!.sentence, "; provisional, since given has the largest learning rate that it tried");
    }
  }
});

Deno.test("compare() marks no rate as best where all diverged, and takes the smallest", async () => {
  const { notes, rules } = await compare({ ...small, rules: ["backprop", "mem-aop"], learningRates: [1e30, 1e29] });
  assertEquals(rules.map(({ learningRate }) => learningRate), [1e29, 1e29]);
  const note = "backprop diverged with all learning rates that it tried (1e+29, 1e+30), and trains with the smallest";
  assert(notes.includes(note), notes.join("\n"));
  assert(!notes.join().includes("did best") && !rules[1]!.sentence.includes("provisional"));
});

Deno.test("compare() says where the target needs no learning", async () => {
  const labels = data.test!.targets.values;
  const most = Math.max(...[0, 1, 2].map((label) => labels.filter((other) => other === label).length)) / labels.length;
  const more = { ...small, data: { ...data, validation: data.test! }, rules: ["backprop", "mem-aop"], seeds: [0] };
  for (const [reach, told] of [[most, true], [most + 0.01, false]] as const) {
    const { notes } = await compare({ ...more, learningRates: [0.1], reach });
    const note =
      `The target (accuracy ${(100 * reach).toFixed(2)} %) is no more than always naming the most frequent ` +
      `class reaches (${(100 * most).toFixed(2)} %): time to it says nothing about learning`;
    assertEquals(notes.includes(note), told, notes.join("\n"));
  }
});

Deno.test("compare() says when no rule reaches the target", async () => {
  const found = await compare({
    ...small,
    rules: ["backprop", "mem-aop"],
    learningRates: [1e-6],
    epochs: 1,
    reach: 1,
  });
  assertEquals([found.target, found.targetFrom], [1, "options"]);
  assert(found.notes.includes("No rule reached the target"));
  assertStringIncludes(found.rules[1]!.sentence, "time to target (neither reached 100.00 %)");
});

Deno.test("compare() has no target where the reference diverges, and says so", async () => {
  const wild = { ...small, rules: ["backprop", { rule: memAop({ minSize: 0 }), learningRates: [0.1] }] };
  const values = Float64Array.from({ length: data.train.rows }, (_, row) => row % 7);
  const regression = { ...data.train, targets: { kind: "values", size: 1, values } } as const;
  const one = { ...network, layers: [dense(16), relu(), dense(1)], loss: meanSquaredError() };
  for (const more of [{}, { data: { name: "sevenths", train: regression }, network: one }]) {
    const found = await compare({ ...wild, ...more, learningRates: [1e30] });
    const [reference, other] = found.rules;
    assertEquals([found.target, found.targetFrom, reference!.reached, other!.reached], [null, "reference", 0, 0]);
    assertEquals(found.notes.filter((note) => note.includes("target")), [
      "There is no target: backprop diverged with 2 of 2 seeds before the end of an epoch; one can be given (reach)",
    ]);
    assertStringIncludes(other!.sentence, "open: ");
    assertStringIncludes(other!.sentence, "time to target (there is no target)");
  }
  const asked = await compare({ ...wild, learningRates: [1e30], reach: 0.1 });
  assertEquals([asked.target, asked.rules.map(({ reached }) => reached)], [0.1, [0, 2]]);
});

Deno.test("compare() takes every rule of the list", async () => {
  const entries = rules.map(({ name, create }) => {
    const rule: Rule = create(name === "front-contribution" ? { force: true } : {});
    return { name, rule };
  });
  const found = await compare({ ...small, rules: entries, epochs: 1, seeds: [0], learningRates: [0.05] });
  assertEquals(found.rules.map(({ name }) => name), rules.map(({ name }) => name));
  for (const { name, runs } of found.rules) {
    assertEquals(runs[0]!.curve.length, 1, name);
    assert(runs[0]!.bytes > 0, name);
  }
});

Deno.test("masks that grow sparser cost less than no masks and more than those at the end, and as much memory as at first", async () => {
  const masks = (schedule: "gmp" | "static") => ({ name: schedule, rule: sparse({ sparsity: 0.9, schedule }) });
  const found = await compare({
    ...small,
    rules: ["backprop", masks("gmp"), masks("static")],
    seeds: [0],
    learningRates: [0.05],
  });
  const [all, fewer, fewest] = found.rules.map(({ runs }) => runs[0]!);
  assert(fewest!.multiplyAdds! < fewer!.multiplyAdds! && fewer!.multiplyAdds! < all!.multiplyAdds!);
  assert(fewest!.bytes < fewer!.bytes);
});

Deno.test("compare() tells of rules with another optimizer", async () => {
  const rules = ["backprop", { rule: memAop({ minSize: 0 }), optimizer: adam(1e-3) }];
  const found = await compare({ ...small, rules, epochs: 1, seeds: [0], learningRates: [0.01] });
  assert(found.notes.includes("mem-aop trains with adam, backprop with sgd"), found.notes.join());
});

Deno.test("compare() ends with the signal's reason", async () => {
  const reason = new Error("enough");
  const options = { ...small, rules: ["backprop", "mem-aop"], signal: AbortSignal.abort(reason) };
  assertEquals(await compare(options).catch((fault) => fault), reason);
});

/** Compares until an epoch begins that `stop` knows; gives what `onStop` was told. */
async function stopAt(stop: (progress: CompareProgress) => boolean): Promise<StoppedComparison | undefined> {
  const controller = new AbortController();
  const reason = new Error("enough");
  const told: StoppedComparison[] = [];
  const options = {
    ...small,
    rules: ["backprop", { rule: memAop({ k: 8, minSize: 0 }), learningRates: [0.1, 0.2, 0.3] }],
    learningRates: [0.1],
    signal: controller.signal,
    onStop: (comparison: StoppedComparison) => told.push(comparison),
    onProgress: (progress: CompareProgress) => stop(progress) && controller.abort(reason),
  };
  const fault = await compare(options).catch((fault) => fault);
  assertEquals(fault, reason);
  assert(told.length <= 1);
  return told[0];
}

Deno.test("compare() that is stopped tells of the seeds that are complete as if it had been asked for these alone", async () => {
  const found = await stopAt(({ phase, seed, name, epoch }) =>
    phase === "measure" && seed === 5 && name === "mem-aop" && epoch === 3
  );
  const [reference, other] = found!.rules;
  assertEquals([found!.seeds, found!.stopped], [[3], {
    missingSeeds: [5],
    words: "Stopped with 1 of 2 seeds complete: figures and verdicts are of what is complete",
  }]);
  // In the third turn it is back-propagation's turn first.
  assertEquals([reference, other].map((rule) => [rule!.unfinished!.seed, rule!.unfinished!.curve.length]), [
    [5, 3],
    [5, 2],
  ]);
  const alone = await compare({
    ...small,
    rules: ["backprop", { rule: memAop({ k: 8, minSize: 0 }), learningRates: [other!.learningRate!] }],
    learningRates: [0.1],
    seeds: [3],
  });
  assertEquals([found!.target, reference!.reached, reference!.learningRate], [alone.target, 1, 0.1]);
  for (const [index, { figures, runs }] of alone.rules.entries()) {
    const same = found!.rules[index]!;
    assertEquals([same.figures.error, same.figures.bytes], [figures.error, figures.bytes]);
    assertEquals(same.runs.map(withoutTime), runs.map(withoutTime));
  }
  assertEquals(other!.verdicts.map(({ axis }) => axis), alone.rules[1]!.verdicts.map(({ axis }) => axis));
  assertStringIncludes(found!.notes.join(), "One seed says nothing about chance");
});

Deno.test("compare() that is stopped before a seed is complete has curves and rates, but no figures and no verdicts", async () => {
  const first = await stopAt(({ phase, epoch, name }) => phase === "measure" && epoch === 3 && name === "mem-aop");
  assertEquals([first!.seeds, first!.target, first!.stopped!.missingSeeds], [[], null, [3, 5]]);
  for (const { runs, unfinished, figures, verdicts, sentence, learningRate } of first!.rules) {
    assertEquals([runs, figures, verdicts, sentence], [[], {}, [], ""]);
    assert(unfinished!.curve.length >= 2 && learningRate === unfinished!.learningRate);
  }
  assertEquals(first!.notes.filter((note) => note.includes("seed")), []);
  const rates = await stopAt(({ phase, learningRate }) => phase === "rates" && learningRate === 0.3);
  assertEquals(
    rates!.stopped!.words,
    "Stopped while learning rates were tried: none is chosen, and no seed is measured",
  );
  const [reference, other] = rates!.rules;
  assertEquals([reference!.learningRate, reference!.tried], [null, []]);
  assertEquals(other!.tried.map(({ learningRate, epochs, chosen }) => [learningRate, epochs, chosen]), [
    [0.1, 1, false],
    [0.2, 1, false],
  ]);
  assertEquals(await stopAt(() => true), undefined, "nothing has been measured");
});

Deno.test("compare() tells what has been measured before a fault, too", async () => {
  const told: StoppedComparison[] = [];
  const failing = {
    ...small,
    rules: ["backprop", "mem-aop"],
    learningRates: [0.1],
    onStop: (comparison: StoppedComparison) => told.push(comparison),
    onProgress: ({ seed }: CompareProgress) => {
      if (seed === 5) throw new Error("the disk is gone");
    },
  };
  await assertRejects(() => compare(failing), Error, "the disk is gone");
  assertEquals(told.map(({ seeds }) => seeds), [[3]]);
  const whole = await compare({ ...failing, onProgress: () => {} });
  assertEquals([whole.stopped, whole.rules[0]!.unfinished, told.length], [undefined, undefined, 1]);
});

Deno.test("compare() tells after each seed what has been measured, and waits for who hears it", async () => {
  const told: StoppedComparison[] = [];
  const events: string[] = [];
  const whole = await compare({
    ...small,
    rules: ["backprop", "mem-aop"],
    learningRates: [0.1],
    onProgress: ({ seed }) => events.push(`seed ${seed}`),
    onSeed: async (comparison) => {
      told.push(comparison);
      await new Promise((done) => setTimeout(done));
      events.push("heard");
    },
  });
  assertEquals(events.filter((event, at) => event !== events[at - 1]), ["seed 3", "heard", "seed 5", "heard"]);
  assertEquals(told.map(({ seeds, stopped }) => [seeds, stopped?.missingSeeds]), [[[3], [5]], [[3, 5], undefined]]);
  assertEquals(told[1], whole);
  const fault = new Error("the disk is full");
  const failing = {
    ...small,
    rules: ["backprop", "mem-aop"],
    learningRates: [0.1],
    onSeed: () => Promise.reject(fault),
  };
  assertEquals(await compare(failing).catch((fault) => fault), fault);
});

Deno.test("compare() whose onStop throws tells first of what ended it", async () => {
  const [first, second] = [new Error("the disk is gone"), new TypeError("told too much")];
  const failing = {
    ...small,
    rules: ["backprop", "mem-aop"],
    learningRates: [0.1],
    onStop: () => {
      throw second;
    },
    onProgress: ({ seed }: CompareProgress) => {
      if (seed === 5) throw first;
    },
  };
  const fault = await assertRejects(() => compare(failing), AggregateError);
  assertEquals(fault.errors, [first, second]);
  assertEquals(fault.message, "the disk is gone; after that onStop failed: told too much");
});

function withoutTime({ curve, ...run }: CompareRun): object {
  return { ...run, curve: curve.map(({ seconds: _, secondsPerStep: __, ...point }) => point) };
}

for (
  const [options, message] of [
    [{ rules: [] }, "Cannot use compare.rules: expected two or more rules but found none"],
    [{ rules: ["backprop"] }, "Cannot use compare.rules: expected two or more rules but found one"],
    [{ rules: ["backprop", "backprop"] }, "expected rules with different names but found backprop 2 times"],
    [{ rules: ["backprop", "spars"] }, "Cannot use rule: expected one of backprop, "],
    [{ rules: ["backprop", "mem-aop+spars"] }, "(did you mean sparse?) but found spars"],
    [{ rules: ["backprop", "sparse+sparse"] }, "expected rules that fill different slots but found sparse and sparse"],
    [{ learningRates: [] }, "Cannot use compare.learningRates: expected one or more learning rates but found none"],
    [{ learningRates: [0] }, "Cannot use compare.learningRates: expected a number above 0 but found 0"],
    [
      { learningRates: [0.1, 0.1] },
      "Cannot use compare.learningRates: expected different learning rates but found 0.1 twice",
    ],
    [{ seeds: [] }, "Cannot use compare.seeds: expected one or more seeds but found none"],
    [{ seeds: [1, 1] }, "Cannot use compare.seeds: expected different seeds but found 1 twice"],
    [{ reach: 1.5 }, "Cannot use compare.reach: expected a number from 0 to 1"],
    [
      { rules: ["backprop", null] },
      "Cannot use compare.rules: expected names of rules, rules, or entries with a rule but found null",
    ],
    [
      { rules: ["backprop", 3] },
      "Cannot use compare.rules: expected names of rules, rules, or entries with a rule but found 3",
    ],
    [{ rules: ["backprop", { rule: null }] }, "expected names of rules, rules, or entries with a rule but found {"],
    [{ rules: ["backprop", { rule: memAop(), lr: 3 }] }, "Cannot use compare.rules.lr: expected one of rule, name,"],
    [
      { rules: ["backprop", { rule: memAop(), name: 3 }] },
      "Cannot use compare.rules.name: expected a name but found 3",
    ],
    [{ rules: ["backprop", { rule: memAop(), optimizer: 3 }] }, "Cannot use optimizer.kind: expected one of sgd,"],
    [{ network: { ...network, seed: 1 } }, "Cannot use compare.network.seed: expected no such option: use seeds"],
    [{ network: 3 }, "Cannot use compare.network: expected options such as { layers: … } but found 3"],
    [{ onStop: 3 }, "Cannot use compare.onStop: expected a function but found 3"],
    [{ onSeed: 3 }, "Cannot use compare.onSeed: expected a function but found 3"],
    [{ onProgress: 3 }, "Cannot use compare.onProgress: expected a function but found 3"],
    [{ data: null }, "Cannot use compare.data: expected a data set with training rows but found null"],
    [{ data: { train: 3 } }, "Cannot use compare.data: expected a data set with training rows but found {"],
    [{ data: ReadableStream.from([data.train]) }, "Cannot use compare.data: expected rows that are all in memory"],
    [{ data: { train: () => ReadableStream.from([data.train]) } }, "as every run reads them but found a stream"],
    [{ reeach: 0.9 }, "(did you mean reach?) but found an unknown option"],
    [
      { erly: 1 },
      "Cannot use compare.erly: expected one of network, data, rules, seeds, learningRates, reach, onSeed, onStop, optimizer,",
    ],
    [{ stepsPerEpoch: 3 }, "Cannot use compare.stepsPerEpoch: expected one of network, data, rules,"],
    [{ rule: "x" }, "Cannot use compare.rule: expected no such option: use rules and seeds"],
  ] as const
) {
  Deno.test(`compare() refuses ${JSON.stringify(options)}`, async () => {
    const given = { ...small, rules: ["backprop", "mem-aop"], ...options } as unknown as CompareOptions;
    const fault = await assertRejects(() => compare(given), ConfigError);
    assertStringIncludes(fault.message, message);
  });
}

Deno.test("compare() names the rule that refuses the network", async () => {
  const one = { ...network, layers: [dense(3)] };
  const fault = await assertRejects(
    () => compare({ ...small, network: one, rules: ["backprop", "sparse"] }),
    EngineError,
  );
  assertStringIncludes(fault.message, "Cannot compare sparse: ");
});

Deno.test("compare() notes rules that take no effect, and schedules that never change a mask, after the rule's name", async () => {
  const { notes, rules } = await compare({
    ...small,
    rules: [
      "backprop",
      { name: "all rows", rule: memAop({ k: 24, minSize: 0 }) },
      { name: "some rows", rule: memAop({ k: 23, minSize: 0 }) },
      "mem-aop",
      { name: "late", rule: sparse({ sparsity: 0.5, schedule: "rigl", every: 500 }) },
      { name: "no zeros", rule: sparse({ sparsity: 0, layers: ["0", "2"] }) },
    ],
    learningRates: [0.1],
  });
  assert(rules[0]!.runs.every(({ warnings }) => warnings.length === 0));
  const found = notes.filter((note) => rules.some(({ name }) => note.startsWith(`${name}: `)));
  assertEquals(found.map((note) => note.replace(/: its first.*/, "")), [
    "all rows: mem-aop takes effect in no layer of this run: k takes all rows of a batch (layers 0, 2); output layer (layer 4)",
    "mem-aop: mem-aop takes effect in no layer of this run: too small to save time (layers 0, 2); output layer (layer 4)",
    "late: the schedule rigl never changes a mask",
    "no zeros: sparse takes effect in no layer of this run: keeps all weights (layers 0, 2); stays dense: not among the " +
    "layers, or below minSparsity (layer 4)",
  ]);
  for (const { name, runs } of rules) {
    const own = found.filter((note) => note.startsWith(`${name}: `)).map((note) => note.slice(name.length + 2));
    for (const { warnings } of runs) assertEquals(warnings, own, name);
  }
});

Deno.test("compare() notes what takes no effect also of runs that diverge in their first epoch", async () => {
  const { notes, rules } = await compare({ ...small, rules: ["backprop", "mem-aop"], learningRates: [1e30] });
  assert(rules[1]!.runs.every(({ diverged, curve }) => diverged && curve.length === 0));
  assertEquals(notes.filter((note) => note.startsWith("mem-aop: mem-aop takes effect in no layer")).length, 1);
});
