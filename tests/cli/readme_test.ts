import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { run, temporaryFolder, text } from "./helpers.ts";

const readme = await Deno.readTextFile(new URL("../../README.md", import.meta.url));

Deno.test("README's first program runs as it stands, with the permissions that it names", async () => {
  await using folder = await temporaryFolder();
  const program = /```ts\n(.*?)```/s.exec(readme)![1]!;
  const module = new URL("../../mod.ts", import.meta.url).href;
  await Deno.writeTextFile(`${folder.path}/first.ts`, program.replace("@leanprop/leanprop", module));
  const flags = /deno run ((?:--allow-\w+ )+)first\.ts/.exec(readme)![1]!.trim().split(" ");
  const args = ["run", "--check", ...flags, "first.ts"];
  const command = new Deno.Command(Deno.execPath(), { args, cwd: folder.path, stdin: "null" });
  const { code, stdout, stderr } = text(await command.output());
  assertEquals(code, 0, stderr);
  assert(Number(stdout.trimEnd().split("\n").at(-1)) > 0.9, stdout);
  assert((await Deno.stat(`${folder.path}/digits.safetensors`)).size > 0);
});

Deno.test("README's model file is one that train takes", async () => {
  await using folder = await temporaryFolder();
  await Deno.writeTextFile(`${folder.path}/model.json`, /```json\n(.*?)```/s.exec(readme)![1]!);
  const args = ["train", "--model", "model.json", "--rows", "100", "--test-rows", "10", "--epochs", "1", "--quiet"];
  const { code, stderr } = await run(args, { cwd: folder.path });
  assertEquals(code, 0, stderr);
});

Deno.test("README's options of the command line are known", async () => {
  await using folder = await temporaryFolder();
  const help = (await run(["train", "--help"], { cwd: folder.path })).stdout;
  const commands = readme.matchAll(/deno task train (.+?)[`\n]/g).flatMap(([, words]) =>
    words!.match(/--[a-z-]+/g) ?? []
  );
  for (const option of new Set(commands)) assertStringIncludes(help, `  ${option} `);
});
