import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { jsonLines, run, temporaryFolder } from "./helpers.ts";

interface Finding {
  name: string;
  found: string;
  mend?: string;
  needed?: boolean;
}

async function info(env: Record<string, string>): Promise<{ code: number; works: boolean; findings: Finding[] }> {
  await using folder = await temporaryFolder();
  // Neither the user's data nor cache: what is found must not depend on the machine.
  const place = { cwd: folder.path, env: { LEANPROP_DATA: folder.path, LEANPROP_CACHE: folder.path, ...env } };
  const { code, stdout } = await run(["info", "--json"], place);
  const [report] = jsonLines(stdout) as unknown as { works: boolean; findings: Finding[] }[];
  return { code, ...report! };
}

Deno.test("info tells what works and which data is missing", async () => {
  const { code, works, findings } = await info({});
  assertEquals([code, works], [0, true]);
  const found = (name: string) => findings.find((finding) => finding.name === name)!;
  assertEquals(found("Deno").found, `${Deno.version.deno}, new enough`);
  assertStringIncludes(found("library").found, "leanprop");
  assertStringIncludes(found("instructions").found, "portable");
  assert(Number(found("threads").found) >= 1);
  assertEquals(found("mnist").mend, "deno task train --data mnist --download");
});

Deno.test("info ends with 1 and a command where the library is missing", async () => {
  const { code, works, findings } = await info({ LEANPROP_LIBRARY: "nowhere/libleanprop.so" });
  assertEquals([code, works], [1, false]);
  const { found, mend } = findings.find(({ needed }) => needed)!;
  assertStringIncludes(found, "Cannot open the native library nowhere/libleanprop.so");
  assertEquals(mend, "unset LEANPROP_LIBRARY, or name a file that is there");
});

Deno.test("info ends with 1 where the engine cannot use the instructions that are asked for", async () => {
  const { code, findings } = await info({ LEANPROP_ISA: "abacus" });
  assertEquals(code, 1);
  const { found, mend } = findings.find(({ needed }) => needed)!;
  assertStringIncludes(found, "but found abacus");
  assertEquals(mend, "unset LEANPROP_ISA");
});

Deno.test("info prints a table for people", async () => {
  await using folder = await temporaryFolder();
  const { code, stdout, stderr } = await run(["info"], { cwd: folder.path });
  assertEquals([code, stderr], [0, ""]);
  assertStringIncludes(stdout, "LEANPROP_DATA");
  assertStringIncludes(stdout, "instructions");
});
