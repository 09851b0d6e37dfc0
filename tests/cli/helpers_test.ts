import { assertEquals } from "@std/assert";

Deno.test("tests of the command line do not see the developer's table of runs nor server", async () => {
  const script = `
    import ${JSON.stringify(new URL("./helpers.ts", import.meta.url))};
    console.log(Deno.env.get("LEANPROP_RUNS"), Deno.env.get("LEANPROP_MLFLOW"));`;
  const { stdout } = await new Deno.Command(Deno.execPath(), {
    args: ["eval", script],
    env: { LEANPROP_RUNS: "mine.db", LEANPROP_MLFLOW: "http://127.0.0.1:9", NO_COLOR: "1" },
  }).output();
  assertEquals(new TextDecoder().decode(stdout), "undefined undefined\n");
});
