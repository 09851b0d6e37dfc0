import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { DatabaseSync } from "node:sqlite";
import { pushRun, ServerError } from "../../../src/cli/run_table/mlflow.ts";
import { RunTable } from "../../../src/cli/run_table/table.ts";
import { Uploader } from "../../../src/cli/run_table/upload.ts";
import { pythonWith } from "../../python.ts";
import { commandLine, run, temporaryFolder, text } from "../helpers.ts";
import { done, epoch, record } from "./fixtures.ts";

const python = pythonWith("mlflow");
const small = ["--data", "spirals", "--rows", "120", "--test-rows", "30", "--hidden", "8", "--epochs", "3", "--quiet"];

/** A port that nobody listens on. */
function freePort(): number {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  return listener.addr.port;
}

/** The command line, with the permission to reach servers on this machine. */
async function withNet(args: readonly string[], cwd: string) {
  const [program, verb, ...rest] = commandLine(args);
  const all = [verb!, "--allow-net=127.0.0.1", ...rest];
  return text(await new Deno.Command(program!, { args: all, cwd, env: { NO_COLOR: "1" }, stdin: "null" }).output());
}

/** A tracking server that ends with the test. */
async function startServer(folder: string): Promise<AsyncDisposable & { url: string }> {
  const port = freePort();
  const url = `http://127.0.0.1:${port}`;
  const store = [
    "--backend-store-uri",
    `sqlite:///${folder}/mlflow.db`,
    "--default-artifact-root",
    `${folder}/artifacts`,
  ];
  const process = new Deno.Command(python!, {
    args: ["-m", "mlflow", "server", "--host", "127.0.0.1", "--port", String(port), "--workers", "1", ...store],
    cwd: folder,
    stdin: "null",
    stdout: "null",
    stderr: "null",
  }).spawn();
  for (let tries = 0;; tries++) {
    // The first question to the store takes seconds: it makes its tables.
    const up = await fetch(`${url}/api/2.0/mlflow/experiments/get-by-name?experiment_name=Default`)
      .then((response) => response.json(), () => undefined);
    if (up?.experiment) break;
    assert(tries < 600, "the server did not start");
    await new Promise((go) => setTimeout(go, 100));
  }
  return {
    url,
    [Symbol.asyncDispose]: async () => {
      process.kill("SIGTERM");
      await process.status;
    },
  };
}

interface Remote {
  info: { run_id: string; status: string; run_name: string };
  data: { metrics: { key: string; value: number }[]; params: { key: string; value: string }[] };
}

async function search(url: string): Promise<Remote[]> {
  const found = await fetch(`${url}/api/2.0/mlflow/experiments/get-by-name?experiment_name=leanprop`);
  const { experiment } = await found.json();
  const body = JSON.stringify({ experiment_ids: [experiment.experiment_id] });
  const response = await fetch(`${url}/api/2.0/mlflow/runs/search`, {
    method: "POST",
    body,
    headers: { "content-type": "application/json" },
  });
  return (await response.json()).runs;
}

async function history(url: string, run: string, metric: string): Promise<[number, number][]> {
  const response = await fetch(`${url}/api/2.0/mlflow/metrics/get-history?run_id=${run}&metric_key=${metric}`);
  const { metrics } = await response.json() as { metrics: { step: number; value: number }[] };
  return metrics.map(({ step, value }) => [Number(step), value]);
}

Deno.test({
  name: "an MLflow server gets runs while they train, and later what it missed",
  ignore: python === undefined,
  fn: async () => {
    await using folder = await temporaryFolder();
    await using server = await startServer(folder.path);
    const { url } = server;
    const live = await withNet(["train", ...small, "--out", "live", "--mlflow", url], folder.path);
    assertEquals([live.code, live.stderr], [0, ""]);
    assertEquals((await withNet(["train", ...small, "--out", "late", "--seed", "5"], folder.path)).code, 0);
    assertEquals((await search(url)).length, 1);
    // Twice: the second time there is nothing left to send.
    for (let push = 0; push < 2; push++) {
      const pushed = await withNet(["runs", "push", "--mlflow", url], folder.path);
      assertEquals([pushed.stderr, pushed.stdout], ["", `${url} has 2 runs\n`]);
    }
    const remotes = await search(url);
    assertEquals(remotes.map(({ info }) => [info.run_name, info.status]).sort(), [["late", "FINISHED"], [
      "live",
      "FINISHED",
    ]]);
    using table = new RunTable(`${folder.path}/runs/runs.db`);
    for (const row of table.runs()) {
      const remote = remotes.find(({ info }) => info.run_id === row.remote)!;
      const params = new Map(remote.data.params.map(({ key, value }) => [key, value]));
      assertEquals([params.get("seed"), params.get("hidden"), params.get("rule")], [
        String(row.seed),
        "[8]",
        "backprop",
      ]);
      const curve = table.metrics(row.id).filter(({ name }) => name === "trainLoss").map((
        { step, value },
      ) => [step, value]);
      assertEquals(await history(url, row.remote!, "trainLoss"), curve as [number, number][]);
      const tested = remote.data.metrics.find(({ key }) => key === "testAccuracy")!;
      assertEquals(tested.value, row.testAccuracy);
    }
  },
});

Deno.test("a run goes on when the server is down, and says so once", async () => {
  await using folder = await temporaryFolder();
  const url = `http://127.0.0.1:${freePort()}`;
  const { code, stderr } = await withNet(["train", ...small, "--mlflow", url], folder.path);
  assertEquals(code, 0);
  assertEquals(
    stderr,
    `Cannot reach the MLflow server ${url}: no connection; the run goes on, and deno task runs push uploads it later\n`,
  );
  const pushed = await withNet(["runs", "push", "--mlflow", url], folder.path);
  assertEquals([pushed.code, pushed.stderr], [1, `error: Cannot reach the MLflow server ${url}: no connection\n`]);
});

Deno.test("train refuses a server that is no URL", async () => {
  await using folder = await temporaryFolder();
  const { code, stderr } = await run(["train", ...small, "--mlflow", "localhost"], { cwd: folder.path });
  assertEquals(code, 2);
  assertStringIncludes(stderr, "Cannot use --mlflow: expected the URL of an MLflow server");
});

Deno.test("pushRun() sends only what is new, and everything again to another server", async () => {
  await using folder = await temporaryFolder();
  using table = new RunTable(`${folder.path}/runs.db`);
  const asked: string[] = [];
  const answers = (request: Request): Promise<Response> =>
    request.text().then((body) => {
      const path = new URL(request.url).pathname.replace("/api/2.0/mlflow/", "");
      const { metrics } = body === "" ? {} as Record<string, never> : JSON.parse(body);
      asked.push(metrics === undefined ? path : `${path} ${metrics.length}`);
      if (path === "experiments/get-by-name") return Response.json({ experiment: { experiment_id: "1" } });
      return Response.json(path === "runs/create" ? { run: { info: { run_id: "r" } } } : {});
    });
  const serve = () => Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, answers);
  await using one = serve();
  await using other = serve();
  const [first, second] = [one, other].map(({ addr }) => `http://127.0.0.1:${addr.port}`);
  table.enter({ folder: "/runs/a", record: record("a"), events: [epoch(1, 2, 0.5)], status: "running" });
  const push = async (url: string) => {
    asked.length = 0;
    await pushRun(table, "a", url);
    return [...asked];
  };
  const make = ["experiments/get-by-name", "runs/create", "runs/log-batch"];
  assertEquals(await push(first!), [...make, "runs/log-batch 4", "runs/update"]);
  table.add("a", epoch(2, 1, 0.6));
  table.add("a", done(0.5));
  assertEquals(await push(first!), ["runs/log-batch 6", "runs/update"]);
  assertEquals(await push(first!), ["runs/update"]);
  assertEquals(await push(second!), [...make, "runs/log-batch 10", "runs/update"]);

  await using broken = Deno.serve(
    { hostname: "127.0.0.1", port: 0, onListen: () => {} },
    () => new Response("no", { status: 500 }),
  );
  const fault = await pushRun(table, "a", `http://127.0.0.1:${broken.addr.port}`).catch((fault) => fault);
  assert(fault instanceof ServerError, String(fault));
  assertStringIncludes(fault.message, "it answered 500 (no)");
});

Deno.test("an upload ends, and nothing else does, when the table of runs cannot be written", async () => {
  await using folder = await temporaryFolder();
  const path = `${folder.path}/runs.db`;
  using table = new RunTable(path);
  table.enter({ folder: "/runs/a", record: record("a"), events: [epoch(1, 2, 0.5)], status: "running" });
  {
    using database = new DatabaseSync(path);
    database.exec("CREATE TRIGGER t BEFORE UPDATE OF remote ON runs BEGIN SELECT RAISE(ABORT, 'no more'); END");
  }
  let requests = 0;
  await using server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, () => {
    requests++;
    return Response.json({ experiment: { experiment_id: "1" }, run: { info: { run_id: "r" } } });
  });
  const uploader = new Uploader(table, `http://127.0.0.1:${server.addr.port}`);
  uploader.poke("a");
  await uploader.settle();
  const before = requests;
  assert(before > 0, "the server was asked before the table was written");
  uploader.poke("a");
  await uploader.settle();
  assertEquals(requests, before, "none after the first fault");
});
