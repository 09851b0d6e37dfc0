/** Files are written whole or not at all: whatever fails, the old one is there and nothing else is. */

import { assert, assertEquals, assertRejects } from "@std/assert";
import { CheckpointError, dense, Network } from "../../mod.ts";
import { reason, writeWhole } from "../../src/run/files.ts";
import { inTemporaryFolder, root, runScript } from "../helpers.ts";

const parts = [new Uint8Array([1, 2, 3]), new Uint8Array(0), new Uint8Array([4])];

/** What a folder holds. */
const names = (folder: string) => [...Deno.readDirSync(folder)].map((entry) => entry.name).sort();

Deno.test("writeWhole() writes all parts, and replaces an old file", async () => {
  await inTemporaryFolder(async (folder) => {
    const path = `${folder}/a`;
    await writeWhole(path, parts);
    assertEquals(await Deno.readFile(path), new Uint8Array([1, 2, 3, 4]));
    await writeWhole(new URL(`file://${path}`), [new Uint8Array([9])]);
    assertEquals(await Deno.readFile(path), new Uint8Array([9]));
    assertEquals(names(folder), ["a"]);
  });
});

Deno.test("writeWhole() names a missing folder", async () => {
  await inTemporaryFolder(async (folder) => {
    const path = `${folder}/none/a`;
    await assertRejects(
      () => writeWhole(path, parts),
      CheckpointError,
      `Cannot write ${path}: the file or its folder does not exist`,
    );
    assertEquals(names(folder), []);
  });
});

Deno.test("writeWhole() below a regular file, or over a folder, leaves both as they were", async () => {
  await inTemporaryFolder(async (folder) => {
    await Deno.writeTextFile(`${folder}/file`, "old");
    await Deno.mkdir(`${folder}/folder`);
    await Deno.writeTextFile(`${folder}/folder/inside`, "old");
    for (const path of [`${folder}/file/a`, `${folder}/folder`]) {
      await assertRejects(() => writeWhole(path, parts), CheckpointError, `Cannot write ${path}: `);
    }
    assertEquals(names(folder), ["file", "folder"]);
    assertEquals(names(`${folder}/folder`), ["inside"]);
    assertEquals(await Deno.readTextFile(`${folder}/file`), "old");
  });
});

Deno.test({
  name: "writeWhole() in a folder that may not be written keeps the old file",
  // The system lets root write everywhere.
  ignore: Deno.build.os === "windows" || Deno.uid() === 0,
  fn: async () => {
    await inTemporaryFolder(async (folder) => {
      await Deno.writeTextFile(`${folder}/a`, "old");
      await Deno.chmod(folder, 0o555);
      try {
        await assertRejects(() => writeWhole(`${folder}/a`, parts), CheckpointError, "the system denies access");
        assertEquals(await Deno.readTextFile(`${folder}/a`), "old");
      } finally {
        await Deno.chmod(folder, 0o755);
      }
    });
  },
});

Deno.test("reason() has words for what the system says", () => {
  const fault = (text: string) => new Error(`${text} (os error 0)`);
  assertEquals(reason(new Deno.errors.NotFound("x")), "the file or its folder does not exist");
  assertEquals(reason(new Deno.errors.PermissionDenied("x")), "the system denies access");
  assertEquals(reason(fault("Read-only file system")), "the file system is read-only");
  assertEquals(reason(fault("No space left on device")), "the disk is full");
  assertEquals(reason("text"), "text");
});

Deno.test({
  name: "reason() knows the system's own word for a full disk",
  ignore: Deno.build.os !== "linux",
  fn: async () => {
    // A device that is always full; Deno opens devices only for those who may do everything.
    const { out } = await runScript(
      `
      import { reason } from "${root}src/run/files.ts";
      using file = await Deno.open("/dev/full", { write: true });
      await file.write(new Uint8Array(1)).catch((fault) => console.log(reason(fault)));
      `,
      { flags: ["--allow-all"] },
    );
    assertEquals(out, "the disk is full\n");
  },
});

Deno.test({
  name: "save() that runs out of room keeps the old checkpoint and leaves no other file",
  ignore: Deno.build.os === "windows",
  fn: async () => {
    await inTemporaryFolder(async (folder) => {
      const path = `${folder}/network.safetensors`;
      using network = Network.create({ input: [4], layers: [dense(2)] });
      await network.save(path);
      const before = await Deno.readFile(path);
      // Files of this process may have at most 4 KiB; the larger network needs 40.
      const { code, out, error } = await runScript(
        `
        import { dense, Network } from "${root}mod.ts";
        const network = Network.create({ input: [100], layers: [dense(100)] });
        await network.save("${path}").catch((fault) => console.log(fault.name, fault.message));
        `,
        // Without the trap the system would end the process instead of refusing the write.
        { flags: ["--allow-ffi", "--allow-read", "--allow-write", "--allow-env"], shell: "trap '' XFSZ; ulimit -f 4" },
      );
      assertEquals([code, error], [0, ""]);
      assert(out.startsWith(`CheckpointError Cannot write ${path}: File too large`), out);
      assertEquals(await Deno.readFile(path), before);
      assertEquals(names(folder), ["network.safetensors"]);
    });
  },
});

Deno.test("save() without permission names it and writes nothing", async () => {
  await inTemporaryFolder(async (folder) => {
    const { out } = await runScript(
      `
      import { dense, Network } from "${root}mod.ts";
      const network = Network.create({ input: [4], layers: [dense(2)] });
      await network.save("${folder}/a").catch((fault) => console.log(fault.name, fault.message));
      await Network.load("${folder}/a").catch((fault) => console.log(fault.name, fault.message));
      `,
      { flags: ["--allow-ffi"] },
    );
    const [write, read] = out.split("\n");
    assert(write!.startsWith(`CheckpointError Cannot write ${folder}/a: permission is missing`), out);
    assert(write!.includes("--allow-write"), out);
    assert(read!.startsWith(`CheckpointError Cannot read ${folder}/a: permission is missing`), out);
    assert(read!.includes("--allow-read"), out);
    assertEquals(names(folder), []);
  });
});
