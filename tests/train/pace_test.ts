import "../helpers.ts";
import { assert, assertEquals } from "@std/assert";
import { dense, Network, relu, sgd, spirals, Trainer } from "../../mod.ts";
import { Pace } from "../../src/train/pace.ts";

Deno.test("pace: only calls after a short one run in the foreground, and not for long", async () => {
  const pace = new Pace();
  assert(!pace.foreground, "nothing is known of the first call");
  pace.note({ milliseconds: 0.2, background: true });
  assert(pace.foreground);
  pace.note({ milliseconds: 2 * Pace.budget, background: false });
  assert(!pace.foreground, "the last one was long");
  pace.note({ milliseconds: 0.2, background: true });
  await new Promise((resolve) => setTimeout(resolve, 20));
  assert(!pace.foreground, "the event loop has waited long enough");
});

/** Turns of the event loop that a run is left to. */
const TURNS = 25;

Deno.test("trainer: timers and an abort signal have their turn between short steps", async () => {
  using network = Network.create({ input: [2], layers: [dense(4), relu(), dense(2)], seed: 1 });
  const control = new AbortController();
  const options = { optimizer: sgd(1e-3), batchSize: 8, epochs: 1e6, signal: control.signal };
  using trainer = await Trainer.create(network, spirals({ classes: 2, rows: 16, testRows: 8 }).train, options);
  // What comes before the first step may take longer than many turns of a busy machine.
  await trainer.step();
  let ticks = 0;
  const timer = setInterval(() => {
    if (++ticks < TURNS) return;
    clearInterval(timer);
    control.abort(new Error("enough"));
  }, 2);
  let [steps, message] = [0, ""];
  try {
    for (;;) steps = (await trainer.step()).step;
  } catch (fault) {
    message = fault instanceof Error ? fault.message : String(fault);
  } finally {
    clearInterval(timer);
  }
  assertEquals([ticks, message], [TURNS, "enough"]);
  assert(steps > TURNS, `only ${steps} steps between ${TURNS} turns of the event loop`);
});
