/** Every small example runs, on small data, and learns. */

import { assert, assertEquals, assertMatch } from "@std/assert";
import { root } from "./helpers.ts";

/** The last percentage that an example prints must reach this. */
const examples: Readonly<Record<string, { readonly least?: number; readonly says: RegExp }>> = {
  "mnist": { least: 60, says: /test accuracy/ },
  "csv-regression": { says: /on 80 new rows the prediction is off by \d\d?\.\d on average/ },
  "compare-rules": { says: /^sparse\+mem-aop .* %/m },
  "sparse-finetune": { says: /layer 1: \d+ of 100352 weights/ },
  "own-update": { least: 60, says: /epoch 3/ },
};

for (const [name, { least, says }] of Object.entries(examples)) {
  Deno.test(`the example ${name} runs`, async () => {
    const permissions = ["--allow-ffi", "--allow-read", "--allow-write", "--allow-env"];
    const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
      args: ["run", "--frozen", ...permissions, "examples/main.ts", name, "--small"],
      cwd: root,
      env: { NO_COLOR: "1" },
      stdin: "null",
    }).output();
    const text = new TextDecoder().decode(stdout);
    assertEquals([code, new TextDecoder().decode(stderr)], [0, ""], text);
    assertMatch(text, says);
    const percent = [...text.matchAll(/([\d.]+) %/g)].map((match) => Number(match[1]));
    if (least !== undefined) assert(percent.at(-1)! >= least, text);
  });
}
