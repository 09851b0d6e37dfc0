/** Opening the library: lazily, with little permission, and with a sentence for everything that can be in the way. */

import { assert, assertEquals, assertThrows } from "@std/assert";
import { EngineError } from "../../src/errors.ts";
import { libraryFile } from "../../src/ffi/library.ts";
import { checkDeno } from "../../src/ffi/native.ts";
import { ABI_FINGERPRINT, symbols } from "../../src/ffi/symbols.gen.ts";
import { inTemporaryFolder, root, runScript } from "../helpers.ts";

/** Creates a network; prints what comes of it. */
const SCRIPT = `
  import { dense, Network } from "${root}mod.ts";
  try {
    using network = Network.create({ input: [2], layers: [dense(2)] });
    console.log("works:", (await network.predict(new Float32Array(2))).length);
  } catch (fault) {
    console.log([fault.name, fault.code, fault.message].join("|"));
  }
`;

const file = libraryFile();
const library = file instanceof URL ? decodeURIComponent(file.pathname) : file;
const folder = library.slice(0, library.lastIndexOf("/"));
// Tests may run against another library than the checkout's own.
const env = { LEANPROP_LIBRARY: library };
const readEnv = "--allow-env=LEANPROP_LIBRARY";

Deno.test("importing the modules needs no permission, does nothing and prints nothing", async () => {
  for (const module of ["mod.ts", "src/kernels.ts"]) {
    const outcome = await runScript(`import * as m from "${root}${module}"; if (!Object.keys(m).length) throw 0;`);
    assertEquals(outcome, { code: 0, out: "", error: "" });
  }
});

Deno.test("importing the module asks for nothing, even where everything is permitted", async () => {
  const { out } = await runScript(
    `
    const seen: string[] = [];
    const watch = (name: string, on: object, key: string) =>
      Object.defineProperty(on, key, { value: () => { seen.push(name); throw new Error(name); } });
    watch("dlopen", Deno, "dlopen");
    watch("env", Deno.env, "get");
    for (const name of ["log", "warn", "error", "info"]) watch(name, console, name);
    await import("${root}mod.ts");
    await Deno.stdout.write(new TextEncoder().encode("seen: " + seen.join()));
    `,
    { flags: ["--allow-all"] },
  );
  assertEquals(out, "seen: ");
});

Deno.test({
  name: "the folder of the library is permission enough",
  ignore: !library.startsWith(root),
  fn: async () => {
    const { out, error } = await runScript(SCRIPT, { flags: [`--allow-ffi=${folder}`] });
    assertEquals([out, error], ["works: 2\n", ""]);
  },
});

Deno.test("the folder of the library and the variable that names it are permission enough", async () => {
  const { out, error } = await runScript(SCRIPT, { flags: [`--allow-ffi=${folder}`, readEnv], env });
  assertEquals([out, error], ["works: 2\n", ""]);
});

Deno.test("without permission the message names the flag", async () => {
  const { code, out, error } = await runScript(SCRIPT, { flags: [readEnv], env });
  const sentence = `Cannot open the native library: permission is missing; run with --allow-ffi=${library}`;
  assertEquals([code, out, error], [0, `EngineError|library|${sentence}\n`, ""]);
});

Deno.test("a missing library: the message has its path and the command that builds it", async () => {
  const { out } = await runScript(SCRIPT, {
    flags: ["--allow-ffi", readEnv],
    env: { LEANPROP_LIBRARY: "/none/libleanprop.so" },
  });
  assert(
    out.startsWith(
      "EngineError|library|Cannot open the native library /none/libleanprop.so: run `deno task build` first (",
    ),
    out,
  );
});

Deno.test("a file that is no library is refused by its path", async () => {
  await inTemporaryFolder(async (folder) => {
    const path = `${folder}/libleanprop.so`;
    for (const content of ["", "not a library", "\x7fELF and then nothing"]) {
      await Deno.writeTextFile(path, content);
      const { code, out } = await runScript(SCRIPT, {
        flags: ["--allow-ffi", readEnv],
        env: { LEANPROP_LIBRARY: path },
      });
      assertEquals(code, 0);
      assert(
        out.startsWith(`EngineError|library|Cannot open the native library ${path}: run \`deno task build\` first`),
        out,
      );
    }
  });
});

Deno.test("a library of another interface is refused with the command that builds the right one", async () => {
  await inTemporaryFolder(async (folder) => {
    const build = async (name: string, source: string) => {
      await Deno.writeTextFile(`${folder}/${name}.rs`, source);
      const { code, stderr } = await new Deno.Command("rustc", {
        args: [
          "--edition=2024",
          "--crate-type=cdylib",
          "-Cpanic=abort",
          "-o",
          `${folder}/${name}.so`,
          `${folder}/${name}.rs`,
        ],
        env: { RUST_BACKTRACE: "0" },
      }).output();
      assertEquals(code, 0, new TextDecoder().decode(stderr));
      return `${folder}/${name}.so`;
    };
    const export_ = (name: string, result: number) =>
      `#[unsafe(no_mangle)] pub extern "C" fn ${name}() -> u32 { ${result} }\n`;
    const other = ABI_FINGERPRINT ^ 0x5555;
    const names = Object.keys(symbols).filter((name) => name !== "abi_fingerprint");
    const expected = `expected interface 0x${ABI_FINGERPRINT.toString(16)} but found`;
    const libraries = {
      "every function, another fingerprint": {
        path: await build(
          "other",
          export_("abi_fingerprint", other >>> 0) + names.map((name) => export_(name, 0)).join(""),
        ),
        found: `0x${(other >>> 0).toString(16)}`,
      },
      "a function less": {
        path: await build("less", export_("abi_fingerprint", ABI_FINGERPRINT)),
        found: "one without all functions",
      },
    };
    for (const { path, found } of Object.values(libraries)) {
      const { out, error } = await runScript(SCRIPT, {
        flags: ["--allow-ffi", readEnv],
        env: { LEANPROP_LIBRARY: path },
      });
      const sentence = `Cannot use the native library ${path}: ${expected} ${found}; run \`deno task build\``;
      assertEquals([out, error], [`EngineError|library|${sentence}\n`, ""]);
    }
  });
});

Deno.test("after a fault the library can still be opened: nothing is remembered", async () => {
  const { out } = await runScript(
    `
    import { dense, Network } from "${root}mod.ts";
    const make = () => Network.create({ input: [2], layers: [dense(2)] });
    Deno.env.set("LEANPROP_LIBRARY", "/none.so");
    try { make(); } catch (fault) { console.log(fault.code); }
    Deno.env.set("LEANPROP_LIBRARY", "${library}");
    using network = make();
    console.log(network.config.layers.length);
    `,
    { flags: ["--allow-ffi", "--allow-env"] },
  );
  assertEquals(out, "library\n1\n");
});

Deno.test("checkDeno() refuses what is too old", () => {
  for (const version of ["2.9.4", "2.9.6", "2.10.0", "3.0.0", "2.9.4+abc", "2.11.0-rc.1"]) checkDeno(version);
  for (const version of ["1.46.3", "2.0.0", "2.8.9", "2.9.3", "2.9.3+abc"]) {
    const fault = assertThrows(
      () => checkDeno(version),
      EngineError,
      `Cannot run on Deno ${version}: expected 2.9.4 or newer; run \`deno upgrade\``,
    );
    assertEquals(fault.code, "library");
  }
});
