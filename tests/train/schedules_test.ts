/** Schedules: the learning rate of each step against the formulas, written out here. */

import { assertEquals, assertThrows } from "@std/assert";
import {
  ConfigError,
  constant,
  cosine,
  Dataset,
  dense,
  Network,
  oneCycle,
  type Schedule,
  sgd,
  stepDecay,
  Trainer,
  warmUp,
} from "../../mod.ts";
import { checkSchedule, scheduleKinds } from "../../src/train/schedules.ts";
import { steps, table } from "../helpers.ts";
import { assertClose, tolerance } from "../tolerance.ts";

const EPOCHS = 5;
const STEPS = 4;
const RATE = 0.5;

/** The rate of each of 20 steps. */
async function rates(schedule: Schedule): Promise<number[]> {
  using network = Network.create({ input: [2], layers: [dense(2)] });
  using data = await Dataset.create(table(8, { shape: [2], classes: 2 }));
  using _trainer = await Trainer.create(network, data, {
    epochs: EPOCHS,
    batchSize: 2,
    optimizer: sgd(RATE),
    schedule,
  });
  const found: number[] = [];
  for (let step = 0; step < EPOCHS * STEPS; step++) found.push((await steps(network, data, 1)).learningRate);
  return found;
}

const halfCosine = (from: number, to: number, share: number) => to + (from - to) * (1 + Math.cos(Math.PI * share)) / 2;

/** Each schedule with its factor at a time in epochs. */
const schedules: Record<string, [Schedule, (epoch: number) => number]> = {
  "constant": [constant(), () => 1],
  "step": [stepDecay(1.5, 0.1), (epoch) => 0.1 ** Math.floor(epoch / 1.5)],
  "cosine": [cosine(), (epoch) => halfCosine(1, 0, epoch / EPOCHS)],
  "cosine to a tenth": [cosine({ finalFactor: 0.1 }), (epoch) => halfCosine(1, 0.1, epoch / EPOCHS)],
  "warm-up, then constant": [warmUp(2), (epoch) => epoch < 2 ? Math.min(1, (epoch + 0.002) / 2) : 1],
  "warm-up, then cosine": [
    warmUp(1, cosine()),
    (epoch) => epoch < 1 ? Math.min(1, epoch + 0.001) : halfCosine(1, 0, (epoch - 1) / (EPOCHS - 1)),
  ],
  "one cycle": [
    oneCycle({ rise: 0.4, startDivisor: 10, finalDivisor: 100 }),
    (epoch) => {
      const share = epoch / EPOCHS;
      return share < 0.4 ? halfCosine(0.1, 1, share / 0.4) : halfCosine(1, 0.001, (share - 0.4) / 0.6);
    },
  ],
};

for (const [name, [schedule, factor]] of Object.entries(schedules)) {
  Deno.test(`the rate follows the schedule: ${name}`, async () => {
    const expected = Array.from({ length: EPOCHS * STEPS }, (_, step) => RATE * factor(step / STEPS));
    assertClose({ name, limit: tolerance.formula.f64 }, await rates(schedule), expected);
  });
}

Deno.test("checkSchedule() keeps what the functions make, and fills in their defaults", () => {
  const made = [constant(), stepDecay(2), cosine(), warmUp(1, warmUp(1, cosine())), oneCycle()];
  assertEquals(made.map((schedule) => schedule.kind), [...scheduleKinds]);
  for (const schedule of made) assertEquals(checkSchedule({ ...schedule }), schedule);
  assertEquals(checkSchedule({ kind: "step", every: 2 }), stepDecay(2));
  assertEquals(checkSchedule({ kind: "warmUp", epochs: 1 }), warmUp(1));
  assertThrows(() => checkSchedule({ kind: "constant", every: 2 }), ConfigError, "Cannot use schedule.every");
});
