/** The house's order: imports point left or down, one door to the engine, and a published module that needs nothing. */

import { assert, assertEquals } from "@std/assert";
import { root } from "./helpers.ts";

/** Rooms from left to right; a file may import from its own room and from those before it. */
const ROOMS = ["base", "ffi", "data", "rules", "network", "train", "run", "formats", "cli"] as const;

/**
 * The only imports to the right: classes that users hold carry a method for what a later room does. Another one needs a reason
 * here.
 */
const HANDED_OVER = [
  "src/network/network.ts → src/train/forecast.ts",
  "src/network/network.ts → src/train/metrics.ts",
  "src/network/network.ts → src/train/trainer.ts",
  "src/network/network.ts → src/run/checkpoint.ts",
  "src/train/trainer.ts → src/run/checkpoint.ts",
];

/** The files that may call the engine. */
const CALLERS = [
  "src/data/dataset.ts",
  "src/data/gram.ts",
  "src/decorrelation_kernels.ts",
  "src/gram_kernels.ts",
  "src/kernels.ts",
  "src/network/directional.ts",
  "src/network/network.ts",
  "src/sparse_map.ts",
  "src/train/metrics.ts",
  "src/train/trainer.ts",
];

interface Module {
  readonly path: string;
  readonly imports: readonly string[];
}

/** All TypeScript files below a folder. */
function files(folder: string): string[] {
  return [...Deno.readDirSync(root + folder)].flatMap((entry) => {
    const path = `${folder}/${entry.name}`;
    return entry.isDirectory ? files(path) : path.endsWith(".ts") ? [path] : [];
  }).sort();
}

/** What a file imports, types included; imports within the repository as paths from its root. */
function read(path: string): Module {
  // Examples in comments import too: they are not ours.
  const text = Deno.readTextFileSync(root + path).replace(/\/\*[\s\S]*?\*\//g, "").replace(/^\s*\/\/.*$/gm, "");
  const found = [...text.matchAll(/(?:\bfrom\s*|\bimport\s*\(?\s*)"([^"]+)"/g)].map((match) => match[1]!);
  const resolve = (specifier: string) =>
    specifier.startsWith(".") ? new URL(specifier, `file:///${path}`).pathname.slice(1) : specifier;
  return { path, imports: found.map(resolve) };
}

function room(path: string): number {
  const folder = /^src\/([^/]+)\//.exec(path)?.[1] ?? "base";
  const index = ROOMS.indexOf(folder as typeof ROOMS[number]);
  assert(index >= 0, `${path} lies in no known room`);
  return index;
}

const modules = files("src").map(read);

/** The files that a module needs, itself included. */
function graph(entry: string): Module[] {
  const found = new Map<string, Module>();
  const visit = (path: string) => {
    if (found.has(path) || !path.endsWith(".ts")) return;
    const module = read(path);
    found.set(path, module);
    module.imports.filter((path) => path.startsWith("src/")).forEach(visit);
  };
  visit(entry);
  return [...found.values()];
}

Deno.test("imports point left or down", () => {
  assert(modules.length > 30);
  const right = modules.filter(({ path }) =>
    !/^src\/((decorrelation_|gram_|sparse_)?kernels|sparse_map)\.ts$/.test(path)
  ).flatMap((
    { path, imports },
  ) =>
    imports.filter((target) => target.startsWith("src/") && room(target) > room(path)).map((target) =>
      `${path} → ${target}`
    )
  );
  assertEquals(right.sort(), [...HANDED_OVER].sort());
});

Deno.test("only the owners of engine objects, the kernels and the command line call the engine", () => {
  const callers = modules
    .filter(({ path, imports }) => imports.includes("src/ffi/native.ts") && !/^src\/(ffi|cli)\//.test(path))
    .map(({ path }) => path);
  assertEquals(callers.sort(), CALLERS);
});

for (const entry of ["mod.ts", "src/kernels.ts"]) {
  Deno.test(`${entry} needs no package and no part of the command line`, () => {
    const all = graph(entry);
    assert(all.length >= 7, `${all.length} files`);
    for (const { path, imports } of all) {
      assert(!path.startsWith("src/cli/"), path);
      for (const target of imports) assert(target.startsWith("src/"), `${path} imports ${target}`);
    }
  });
}

Deno.test("Deno sees the same graph, and nothing from elsewhere in it", async () => {
  const { stdout } = await new Deno.Command(Deno.execPath(), {
    args: ["info", "--json", "--no-lock", "mod.ts"],
    cwd: root,
    stdin: "null",
  }).output();
  const info = JSON.parse(new TextDecoder().decode(stdout)) as { modules: { specifier: string }[] };
  const seen = info.modules.map(({ specifier }) => specifier.replace(`file://${root}`, "")).sort();
  assertEquals(seen, graph("mod.ts").map(({ path }) => path).sort());
});

Deno.test("mod.ts only re-exports", () => {
  const text = Deno.readTextFileSync(`${root}mod.ts`).replace(/\/\*[\s\S]*?\*\//g, "").replace(/^\s*\/\/.*$/gm, "");
  const rest = text.replace(/export (?:\*|type \{[^}]*\}|\{[^}]*\}) from "[^"]+";/g, "").trim();
  assertEquals(rest, "");
});

Deno.test("the engine crate forbids unsafe code; crates depend downwards only", () => {
  const engine = Deno.readTextFileSync(`${root}rust/engine/src/lib.rs`);
  assert(/^#!\[forbid\(unsafe_code\)\]$/m.test(engine));
  const dependencies = (crate: string) => {
    const text = Deno.readTextFileSync(`${root}rust/${crate}/Cargo.toml`);
    return [...text.matchAll(/^(\w+) = \{ path = "\.\.\/(\w+)" \}/gm)].map((match) => match[2]!);
  };
  assertEquals(dependencies("kernels"), []);
  assertEquals(dependencies("engine"), ["kernels"]);
  assertEquals(dependencies("ffi"), ["engine", "kernels"]);
});
