/**
 * Runs an example by its name: `deno task example mnist`; what follows the name is the example's.
 *
 * @module
 */

// deno-lint-ignore-file no-console

const names = [...Deno.readDirSync(new URL(".", import.meta.url))]
  .map((entry) => entry.name)
  .filter((name) => name.endsWith(".ts") && name !== "main.ts")
  .map((name) => name.slice(0, -".ts".length).replaceAll("_", "-"))
  .sort();
const [name = "none"] = Deno.args;
if (!names.includes(name)) {
  console.error(`error: Cannot run the example: expected one of ${names.join(", ")} but found ${name}`);
  Deno.exit(2);
}
await import(`./${name.replaceAll("-", "_")}.ts`);
