import { assert, assertEquals, assertRejects } from "@std/assert";
import { mnist } from "../../src/data/mnist.ts";
import { ConfigError, DataError } from "../../src/errors.ts";
import { gzip, idxBytes, inFolder, nowhere, realDataMissing, withEnvironment } from "./helpers.ts";

const images = idxBytes(0x08, [3, 28, 28], new Uint8Array(3 * 784).fill(7));
const labels = idxBytes(0x08, [3], [0, 9, 4]);
const files = {
  "train-images-idx3-ubyte": images,
  "train-labels-idx1-ubyte.gz": await gzip(labels),
  "t10k-images-idx3-ubyte": images,
  "t10k-labels-idx1-ubyte": labels,
};

function under(folder: string): Record<string, Uint8Array> {
  return Object.fromEntries(Object.entries(files).map(([name, bytes]) => [`${folder}/${name}`, bytes]));
}

Deno.test("mnist() finds its files in every place", async () => {
  await inFolder({ ...under("own"), ...under("data/mnist"), ...under("cache/mnist") }, async (base) => {
    await withEnvironment(nowhere, async () => {
      const data = await mnist({ dataDir: `${base}/own` });
      assertEquals([data.name, data.train.rows, data.test?.rows, data.train.shape], ["mnist", 3, 3, [28, 28, 1]]);
      assertEquals(data.train.targets, { kind: "labels", classes: 10, values: Uint32Array.of(0, 9, 4) });
    });
    for (const place of [{ LEANPROP_DATA: `${base}/data` }, { LEANPROP_CACHE: `${base}/cache` }]) {
      await withEnvironment({ ...nowhere, ...place }, async () => {
        assertEquals((await mnist()).train.rows, 3);
      });
    }
  });
});

Deno.test("mnist() says where to put missing files and how to fetch them", async () => {
  await inFolder({}, (own) =>
    withEnvironment({ ...nowhere, LEANPROP_DATA: "/nowhere/data" }, async () => {
      await assertRejects(
        () => mnist({ dataDir: own }),
        DataError,
        "Cannot find mnist: expected the files train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte, " +
          `t10k-labels-idx1-ubyte (plain, or with .gz after the name) in one of the folders ${own}, ${own}/mnist, ` +
          "/nowhere/data, /nowhere/data/mnist, /nowhere/cache/mnist (put them there, or have them fetched with --download, " +
          "in code download: true) but found no such files",
      );
    }));
});

Deno.test("mnist() refuses files that do not belong together", async () => {
  await withEnvironment(nowhere, async () => {
    const wrong = { ...under("a"), "a/t10k-images-idx3-ubyte": idxBytes(0x08, [3, 20, 20], new Uint8Array(1200)) };
    await inFolder(wrong, async (base) => {
      await assertRejects(
        () => mnist({ dataDir: `${base}/a` }),
        DataError,
        "expected samples of shape [28, 28, 1] as in training but found [20, 20, 1]",
      );
    });
    const large = { ...under("a"), "a/t10k-labels-idx1-ubyte": idxBytes(0x08, [3], [0, 10, 4]) };
    await inFolder(large, async (base) => {
      await assertRejects(
        () => mnist({ dataDir: `${base}/a` }),
        DataError,
        "row 1 (counted from 0): expected a class label, a whole number from 0 to 9 but found 10",
      );
    });
  });
});

Deno.test("mnist() with download needs a cache folder", async () => {
  const none = { LEANPROP_DATA: undefined, LEANPROP_CACHE: undefined, HOME: undefined, XDG_CACHE_HOME: undefined };
  await withEnvironment({ ...none, LOCALAPPDATA: undefined, USERPROFILE: undefined }, async () => {
    await assertRejects(
      () => mnist({ download: true }),
      ConfigError,
      "Cannot use download: expected a cache folder from LEANPROP_CACHE",
    );
  });
});

Deno.test("mnist() with download refuses what is not MNIST and leaves the cache empty", async () => {
  await inFolder({}, (base) =>
    withEnvironment({ ...nowhere, LEANPROP_CACHE: base }, async () => {
      await withFetch(() => new Response(images), async () => {
        await assertRejects(
          () => mnist({ download: true }),
          DataError,
          "train-images-idx3-ubyte.gz: expected a content with SHA-256 ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db but found ",
        );
      });
      assertEquals([...Deno.readDirSync(`${base}/mnist`)], []);
    }));
});

const realFolder = Deno.env.get("LEANPROP_DATA");
const ignore = realDataMissing();

Deno.test({
  name: "mnist() reads the real set",
  ignore,
  fn: async () => {
    const { train, test } = await mnist();
    assertEquals([train.rows, test?.rows], [60_000, 10_000]);
    assertEquals([...train.targets.values.slice(0, 8)], [5, 0, 4, 1, 9, 2, 1, 3]);
    assert(train.features instanceof Uint8Array);
    const sum = train.features.reduce((total, byte) => total + byte, 0);
    // The well-known mean of MNIST's training pixels, 0.1307.
    assertEquals((sum / train.features.length / 255).toFixed(4), "0.1307");
  },
});

Deno.test({
  name: "mnist() with download fills the cache from mirrors, checked by content",
  ignore,
  fn: () =>
    inFolder({}, (base) =>
      withEnvironment({ ...nowhere, LEANPROP_CACHE: base }, async () => {
        const asked: string[] = [];
        const mirror = async (url: string) => {
          asked.push(url);
          if (asked.length === 1) return new Response("busy", { status: 503 });
          const name = url.slice(url.lastIndexOf("/"));
          return new Response(await Deno.readFile(`${realFolder}/mnist${name}`));
        };
        const files = new Set<string>();
        await withFetch(mirror, async () => {
          const data = await mnist({ download: true, onProgress: ({ file }) => void files.add(file) });
          assertEquals(data.train.rows, 60_000);
        });
        assertEquals([asked.length, files.size, [...Deno.readDirSync(`${base}/mnist`)].length], [5, 4, 4]);
        // From the cache now: nothing is asked for.
        await withFetch(() => new Response("busy", { status: 503 }), async () => {
          assertEquals((await mnist({ download: true })).test?.rows, 10_000);
        });
      })),
});

/** Runs `body` with an answer in place of the network. */
async function withFetch(
  answer: (url: string) => Response | Promise<Response>,
  body: () => Promise<void>,
): Promise<void> {
  const original = globalThis.fetch;
  globalThis.fetch = async (input) => await answer(String(input));
  try {
    await body();
  } finally {
    globalThis.fetch = original;
  }
}
