/** The paper's experiment on real data: final losses of every policy and k beside the authors' stored runs. */

import { assertEquals } from "@std/assert";
import { memAopEnergy } from "../../bench/reproduce/mem_aop_energy.ts";
import { realDataMissing } from "../data/helpers.ts";
import "../helpers.ts";

const folder = Deno.env.get("LEANPROP_DATA");
const reference = `${folder}/../reference/mem-aop-curves.json`;

async function exists(path: string): Promise<boolean> {
  return await Deno.stat(path).then(() => true, () => false);
}

Deno.test({
  name: "mem-aop on the energy data ends where the authors' runs end, within 3 combined standard errors",
  ignore: realDataMissing() || !await exists(reference),
  fn: async () => {
    const { deviations, tables } = await memAopEnergy.run({
      runs: 10,
      only: "",
      share: 1,
      download: false,
      reference,
      report: () => {},
    });
    assertEquals(tables[0]!.rows.length, 19);
    assertEquals(deviations.filter((deviation) => deviation.includes("after 100 epochs")), []);
  },
});
