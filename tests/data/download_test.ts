import { assert, assertEquals, assertRejects } from "@std/assert";
import { downloadFile, type DownloadProgress } from "../../src/data/download.ts";
import { sha256 } from "../../src/data/files.ts";
import { DataError } from "../../src/errors.ts";
import { gzip, inFolder } from "./helpers.ts";

const content = Uint8Array.from({ length: 200_000 }, (_, at) => (at * 31) >> 4);
const hash = await sha256(content);

/** Runs `body` with a server on this machine that answers by path. */
async function served(
  answers: Record<string, () => Response>,
  body: (base: string) => Promise<void>,
): Promise<void> {
  const server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, (request) => {
    const answer = answers[new URL(request.url).pathname];
    return answer === undefined ? new Response("no", { status: 404 }) : answer();
  });
  try {
    await body(`http://127.0.0.1:${server.addr.port}`);
  } finally {
    await server.shutdown();
  }
}

/** A port at which nobody listens. */
function closedPort(): number {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  return listener.addr.port;
}

function names(folder: string): string[] {
  return [...Deno.readDirSync(folder)].map((entry) => entry.name);
}

Deno.test("downloadFile() makes the folder, reports progress, and leaves one whole file", async () => {
  const answer = () => new Response(content, { headers: { "content-length": String(content.length) } });
  await served({ "/a": answer }, (base) =>
    inFolder({}, async (folder) => {
      const seen: DownloadProgress[] = [];
      await downloadFile(`${folder}/new/a.bin`, {
        urls: [`${base}/a`],
        sha256: hash,
        onProgress: (p) => void seen.push(p),
      });
      assertEquals(await Deno.readFile(`${folder}/new/a.bin`), content);
      assertEquals(names(`${folder}/new`), ["a.bin"]);
      assertEquals(seen.at(-1), { file: "a.bin", received: content.length, total: content.length });
      assert(seen.every((progress, at) => at === 0 || progress.received > seen[at - 1]!.received));
    }));
});

Deno.test("downloadFile() compares the content where two servers pack it differently", async () => {
  const packed = await gzip(content);
  const answer = () => new Response(packed, { headers: { "content-type": "application/octet-stream" } });
  await served({ "/a.gz": answer }, (base) =>
    inFolder({}, async (folder) => {
      await downloadFile(`${folder}/a.gz`, { urls: [`${base}/a.gz`], sha256: hash, hashOf: "content" });
      assertEquals(await Deno.readFile(`${folder}/a.gz`), packed);
      await assertRejects(
        () => downloadFile(`${folder}/b.gz`, { urls: [`${base}/a.gz`], sha256: hash }),
        DataError,
        `expected a file with SHA-256 ${hash} but found ${await sha256(packed)}`,
      );
    }));
});

Deno.test("downloadFile() refuses another content, tells both hashes, and keeps the old file", async () => {
  const wrong = content.with(0, 99);
  await served({ "/a": () => new Response(wrong) }, (base) =>
    inFolder({ a: "old" }, async (folder) => {
      await assertRejects(
        () => downloadFile(`${folder}/a`, { urls: [`${base}/a`], sha256: hash }),
        DataError,
        `Cannot download ${base}/a: expected a file with SHA-256 ${hash} but found ${await sha256(wrong)}`,
      );
      assertEquals(names(folder), ["a"]);
      assertEquals(await Deno.readTextFile(`${folder}/a`), "old");
    }));
});

Deno.test("downloadFile() goes on to the next address, and names them all where none answers", async () => {
  await served({ "/a": () => new Response(content) }, (base) =>
    inFolder({}, async (folder) => {
      const dead = `http://127.0.0.1:${closedPort()}/a`;
      await downloadFile(`${folder}/a`, { urls: [dead, `${base}/none`, `${base}/a`], sha256: hash });
      assertEquals(names(folder), ["a"]);
      const error = await assertRejects(
        () => downloadFile(`${folder}/b`, { urls: [dead, `${base}/none`], sha256: hash }),
        DataError,
        `Cannot download b: expected an answer from one of its addresses but found ${dead} (`,
      );
      assert(error.message.includes(`${base}/none (HTTP status 404)`), error.message);
      assertEquals(names(folder), ["a"]);
    }));
});

Deno.test("downloadFile() refuses an answer that breaks off", async () => {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const answering = (async () => {
    const connection = await listener.accept();
    await connection.read(new Uint8Array(4096));
    const head = `HTTP/1.1 200 OK\r\ncontent-length: ${content.length}\r\n\r\n`;
    await connection.write(new TextEncoder().encode(head));
    await connection.write(content.subarray(0, 1000));
    connection.close();
  })();
  await inFolder({}, async (folder) => {
    const url = `http://127.0.0.1:${listener.addr.port}/a`;
    await assertRejects(
      () => downloadFile(`${folder}/a`, { urls: [url], sha256: hash }),
      DataError,
      `Cannot download a: expected an answer from one of its addresses but found ${url} (`,
    );
    assertEquals(names(folder), []);
  });
  await answering;
  listener.close();
});

Deno.test("downloadFile() stops at once on abort and leaves nothing", async () => {
  const slow = () => {
    const body = new ReadableStream<Uint8Array>({
      pull: (controller) => controller.enqueue(content.subarray(0, 10)),
    });
    return new Response(body);
  };
  await served({ "/a": slow }, (base) =>
    inFolder({}, async (folder) => {
      const stop = new AbortController();
      const reason = new Error("enough");
      const download = downloadFile(`${folder}/a`, {
        urls: [`${base}/a`, `${base}/a`],
        sha256: hash,
        signal: stop.signal,
        onProgress: () => stop.abort(reason),
      });
      assertEquals(await assertRejects(() => download, Error, "enough"), reason);
      assertEquals(names(folder), []);
    }));
});

Deno.test("downloadFile() says where it cannot write", async () => {
  await served({ "/a": () => new Response(content) }, (base) =>
    inFolder({ file: "x" }, async (folder) => {
      await assertRejects(
        () => downloadFile(`${folder}/file/a`, { urls: [`${base}/a`], sha256: hash }),
        DataError,
        `Cannot download ${folder}/file/a: expected a place to download it to but found`,
      );
    }));
});

Deno.test({
  name: "downloadFile() names the missing permission",
  permissions: { read: true, write: true, net: false },
  fn: async () => {
    const folder = await Deno.makeTempDir();
    try {
      await assertRejects(
        () => downloadFile(`${folder}/a`, { urls: ["http://127.0.0.1:40404/a"], sha256: hash }),
        DataError,
        "expected permission to download it (--allow-net and --allow-write)",
      );
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
  },
});
