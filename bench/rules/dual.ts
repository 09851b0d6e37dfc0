/**
 * Step times of the dual rule next to back-propagation's, through the public API: runs of both take turns, so that a busy
 * machine slows both alike.
 *
 * deno run --allow-ffi --allow-read --allow-env bench/rules/dual.ts [--rounds=7] [--threads=2]
 *
 * @module
 */

import {
  adam,
  backprop,
  Dataset,
  dense,
  dual,
  type DualOptions,
  glyphs,
  type Layer,
  Network,
  relu,
  type Rule,
  Trainer,
} from "../../mod.ts";

interface Subject {
  readonly layers: readonly Layer[];
  readonly input: readonly number[];
}

const hidden = (units: readonly number[]) => units.flatMap((count) => [dense(count), relu()]);

const subjects: Readonly<Record<string, Subject>> = {
  "784-256-128-10": { input: [784], layers: [...hidden([256, 128]), dense(10)] },
  "784-128x4-10": { input: [784], layers: [...hidden([128, 128, 128, 128]), dense(10)] },
};

const rules: Readonly<Record<string, DualOptions>> = {
  "feedback, 1 lane": {},
  "feedback, 4 lanes": { lanes: 4 },
  "feedback, a lane for each layer": { shareLanes: false },
  "feedback, two passes": { twoPass: true },
  "activity, 8 lanes": { mode: "activity" },
  "weight, 1 direction": { mode: "weight", force: true },
};

const argument = (name: string, value: number) =>
  Number(Deno.args.find((text) => text.startsWith(`--${name}=`))?.split("=")[1] ?? value);

/** Seconds of one step: a chunk of about 0.1 s of the run, which is then at its end again. */
async function chunk(trainer: Trainer): Promise<number> {
  const before = performance.now();
  const first = trainerSteps.get(trainer) ?? 0;
  const { step } = await trainer.chunk();
  trainerSteps.set(trainer, step);
  return (performance.now() - before) / 1000 / (step - first);
}

const trainerSteps = new WeakMap<Trainer, number>();

const median = (numbers: readonly number[]) => [...numbers].sort((a, b) => a - b)[numbers.length >> 1] ?? NaN;

const [rounds, threads] = [argument("rounds", 7), argument("threads", 2)];
const table = glyphs({ rows: 12_800, seed: 1 }).train;
const only = Deno.args.find((text) => text.startsWith("--only="))?.slice(7);

for (const [name, { input, layers }] of Object.entries(subjects)) {
  for (const batchSize of [128]) {
    using stack = new DisposableStack();
    const data = stack.use(await Dataset.create({ ...table, shape: input }));
    const start = async (rule: Rule) => {
      const network = stack.use(Network.create({ input, layers, seed: 1, threads }));
      return stack.use(
        await Trainer.create(network, data, { rule, batchSize, epochs: 100_000, optimizer: adam(1e-3) }),
      );
    };
    const reference = await start(backprop());
    await chunk(reference);
    for (const [label, options] of Object.entries(rules)) {
      if (only !== undefined && !label.includes(only)) continue;
      const trainer = await start(dual(options));
      await chunk(trainer);
      const ratios: number[] = [];
      const times: number[] = [];
      for (let round = 0; round < rounds; round++) {
        const [a, b] = [await chunk(reference), await chunk(trainer)];
        ratios.push(b / a);
        times.push(b);
      }
      const row = { network: name, batchSize, threads, rule: label, step: median(times), ratio: median(ratios) };
      // deno-lint-ignore no-console
      console.log(JSON.stringify({ ...row, ratios: ratios.map((ratio) => Number(ratio.toFixed(3))) }));
    }
  }
}
