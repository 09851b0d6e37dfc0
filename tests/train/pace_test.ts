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

Deno.test("trainer: timers and an abort signal have their turn between short steps", async () => {
  using network = Network.create({ input: [2], layers: [dense(4), relu(), dense(2)], seed: 1 });
  const control = new AbortController();
  let ticks = 0;
  const timer = setInterval(() => {
    if (++ticks < 5) return;
    clearInterval(timer);
    control.abort(new Error("enough"));
  }, 2);
  const options = { optimizer: sgd(1e-3), batchSize: 8, epochs: 1e6, signal: control.signal };
  using trainer = await Trainer.create(network, spirals({ classes: 2, rows: 16, testRows: 8 }).train, options);
  let [steps, message] = [0, ""];
  try {
    for (;;) steps = (await trainer.step()).step;
  } catch (fault) {
    message = fault instanceof Error ? fault.message : String(fault);
  } finally {
    clearInterval(timer);
  }
  assertEquals([ticks, message], [5, "enough"]);
  assert(steps > 5, `only ${steps} steps between five turns of the event loop`);
});
