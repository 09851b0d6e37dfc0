import { assertEquals, assertThrows } from "@std/assert";
import { UsageError } from "../../src/cli/errors.ts";
import { parseSchedule } from "../../src/cli/schedule_text.ts";
import { ConfigError } from "../../src/errors.ts";
import { constant, cosine, oneCycle, stepDecay, warmUp } from "../../src/train/schedules.ts";

Deno.test("parseSchedule() reads every form", () => {
  assertEquals(parseSchedule("constant"), constant());
  assertEquals(parseSchedule("step:5"), stepDecay(5));
  assertEquals(parseSchedule("step:5,0.5"), stepDecay(5, 0.5));
  assertEquals(parseSchedule("cosine"), cosine());
  assertEquals(parseSchedule("cosine:0.1"), cosine({ finalFactor: 0.1 }));
  assertEquals(parseSchedule("one-cycle:0.4"), oneCycle({ rise: 0.4 }));
  assertEquals(parseSchedule("warm-up:1.5"), warmUp(1.5));
  assertEquals(parseSchedule("warm-up:1+cosine:0.1"), warmUp(1, cosine({ finalFactor: 0.1 })));
});

for (
  const [text, message] of [
    ["cosin", "expected one of constant, step, cosine, one-cycle, warm-up (did you mean cosine?) but found cosin"],
    ["step", "expected step:EVERY[,FACTOR] but found step"],
    ["step:a", "expected step:EVERY[,FACTOR] but found step:a"],
    ["step:", "expected step:EVERY[,FACTOR] but found step:"],
    ["cosine:1,2", "expected cosine[:FINAL] but found cosine:1,2"],
    ["cosine+step:2", "expected a schedule after + only with warm-up but found cosine+step:2"],
    ["", "but found nothing"],
  ] as const
) {
  Deno.test(`parseSchedule() refuses ${text || "nothing"}`, () => {
    assertThrows(() => parseSchedule(text), UsageError, message);
  });
}

Deno.test("parseSchedule() leaves ranges to the schedules", () => {
  assertThrows(() => parseSchedule("cosine:2"), ConfigError, "schedule.finalFactor");
});
