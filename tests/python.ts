/**
 * Python for tests that let another program judge, where one with the wanted package is there.
 *
 * @module
 */

import { root } from "./helpers.ts";

/**
 * A Python that has some packages: the one that `LEANPROP_PYTHON` names, that of the peers' benchmarks, or the system's.
 *
 * @param packages names as in `import`
 * @returns its path; `undefined` where none has them
 */
export function pythonWith(...packages: readonly string[]): string | undefined {
  const named = Deno.env.get("LEANPROP_PYTHON");
  const candidates = [...named === undefined ? [] : [named], `${root}bench/peers/.venv/bin/python`, "python3"];
  return candidates.find((python) => {
    try {
      const script = `import importlib.util as u, sys; sys.exit(any(u.find_spec(p) is None for p in sys.argv[1:]))`;
      return new Deno.Command(python, { args: ["-c", script, ...packages], stdin: "null" }).outputSync().success;
    } catch (fault) {
      if (fault instanceof Deno.errors.NotFound) return false;
      throw fault;
    }
  });
}

/** Runs a Python script; gives its standard output. */
export async function runPython(python: string, script: string, args: readonly string[]): Promise<string> {
  const { success, stdout, stderr } = await new Deno.Command(python, { args: ["-c", script, ...args], stdin: "null" })
    .output();
  if (!success) throw new Error(new TextDecoder().decode(stderr));
  return new TextDecoder().decode(stdout);
}
