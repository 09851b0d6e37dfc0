import { assertEquals, assertRejects } from "@std/assert";
import { mnist } from "../../src/data/mnist.ts";
import { cacheDirectory, environment, locate, missingData, searchFolders } from "../../src/data/places.ts";
import { ConfigError } from "../../src/errors.ts";
import { inFolder, withEnvironment } from "./helpers.ts";

Deno.test("cacheDirectory() follows the habits of each system", () => {
  const from = (os: typeof Deno.build.os, variables: Record<string, string>) =>
    cacheDirectory(os, (name) => variables[name]);
  assertEquals(from("linux", { HOME: "/home/a" }), "/home/a/.cache/leanprop");
  assertEquals(from("linux", { HOME: "/home/a", XDG_CACHE_HOME: "/c" }), "/c/leanprop");
  assertEquals(from("darwin", { HOME: "/Users/a" }), "/Users/a/Library/Caches/leanprop");
  assertEquals(from("windows", { LOCALAPPDATA: "C:\\L" }), "C:\\L\\leanprop");
  assertEquals(from("windows", { USERPROFILE: "C:\\U" }), "C:\\U\\AppData\\Local\\leanprop");
  assertEquals(from("windows", { LEANPROP_CACHE: "D:\\x", LOCALAPPDATA: "C:\\L" }), "D:\\x");
  assertEquals(from("linux", {}), undefined);
});

Deno.test("searchFolders() goes from the caller's folder over LEANPROP_DATA to the cache", async () => {
  await withEnvironment({ LEANPROP_DATA: "/data", LEANPROP_CACHE: "/cache" }, () => {
    assertEquals(searchFolders("mnist", "."), [".", "./mnist", "/data", "/data/mnist", "/cache/mnist"]);
    assertEquals(searchFolders("mnist"), ["/data", "/data/mnist", "/cache/mnist"]);
    return Promise.resolve();
  });
});

Deno.test("a folder of the caller's that does not exist is refused, though another place has the files", async () => {
  await inFolder({ "mnist/a": "", "file": "" }, async (base) => {
    await withEnvironment({ LEANPROP_DATA: base }, async () => {
      const refused = async (dataDir: string, found: string) => {
        const fault = await assertRejects(() => mnist({ dataDir }), ConfigError);
        assertEquals(fault.message, `Cannot use dataDir: expected ${found}`);
      };
      await refused(`${base}/none`, `a folder that exists but found ${base}/none`);
      await refused(`${base}/file`, `a folder but found the file ${base}/file`);
    });
  });
});

Deno.test({
  name: "environment() counts what may not be read as unset",
  permissions: { env: ["LEANPROP_CACHE"] },
  fn: () => {
    assertEquals(environment("LEANPROP_DATA"), undefined);
    assertEquals(searchFolders("mnist").filter((folder) => !folder.endsWith("mnist")), []);
  },
});

Deno.test("locate() wants all files in one folder, plain before gzip", async () => {
  await inFolder({ "one/a": "", "two/a": "", "two/b.gz": "", "two/a.gz": "", "three/a/b": "" }, async (base) => {
    const folders = ["none", "one", "one/a", "two"].map((name) => `${base}/${name}`);
    assertEquals(await locate({ folders, files: ["a", "b"] }), [`${base}/two/a`, `${base}/two/b.gz`]);
    assertEquals(await locate({ folders: [`${base}/three`], files: ["a"] }), undefined);
  });
});

Deno.test({
  name: "missingData() names the folders that may not be looked into",
  permissions: { read: ["/open"] },
  fn: async () => {
    assertEquals(await locate({ folders: ["/closed"], files: ["a"] }), undefined);
    const error = missingData("mnist", "the file a", { folders: ["/open", "/closed"], help: "put it there" });
    assertEquals(
      error.message,
      "Cannot find mnist: expected the file a in one of the folders /open, /closed (not looked into: needs --allow-read)" +
        " (put it there) but found no such files",
    );
    assertEquals(
      missingData("mnist", "the file a", { folders: [], help: "put it there" }).message,
      "Cannot find mnist: expected the file a in a folder named by LEANPROP_DATA, which needs --allow-env to be read" +
        " (put it there) but found no such files",
    );
  },
});
