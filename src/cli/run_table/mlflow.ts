/**
 * What an MLflow tracking server is told about a run, through its REST interface, version 2.0.
 *
 * @module
 */

import { UsageError } from "../errors.ts";
import type { MetricRow, RunRow, RunStatus, RunTable } from "./table.ts";

/** Experiment that all runs belong to. */
const EXPERIMENT = "leanprop";

/** Milliseconds until a server that does not answer counts as down. */
const PATIENCE_MS = 20_000;

/** Most figures of one request; the server takes no more. */
const MOST_METRICS = 1000;

/** Longest value of a parameter that every version of the server takes. */
const LONGEST_VALUE = 500;

const STATUS: Readonly<Record<RunStatus, string>> = {
  running: "RUNNING",
  finished: "FINISHED",
  interrupted: "KILLED",
  failed: "FAILED",
};

/** The server cannot be reached, or answered something else. */
export class ServerError extends Error {
  /** Always `"ServerError"`. */
  override name = "ServerError";
}

/**
 * The address of a server.
 *
 * @param text what the user wrote
 * @returns it without a slash at the end
 * @throws {UsageError} where it is no http(s) URL
 */
export function serverAddress(text: string): string {
  const url = URL.parse(text);
  if (url && /^https?:$/.test(url.protocol)) return url.href.replace(/\/+$/, "");
  throw new UsageError("--mlflow", "the URL of an MLflow server, such as http://127.0.0.1:5000", text);
}

/**
 * Brings a server up to date with a run: makes the run there if need be, then sends the figures that it does not have.
 *
 * @param table the table with the run
 * @param id the run
 * @param server address of the server
 * @throws {ServerError} where it cannot be reached or refuses; what it has taken until then is noted in the table
 */
export async function pushRun(table: RunTable, id: string, server: string): Promise<void> {
  const run = table.runs().find((run) => run.id === id);
  if (run === undefined) return;
  let { remote } = run;
  if (remote === null || run.server !== server) {
    remote = await createRemote(run, server);
    table.pushedRun(id, server, remote);
  }
  const fresh = table.metrics(id).filter((metric) => metric.sent === 0);
  for (let from = 0; from < fresh.length; from += MOST_METRICS) {
    const part = fresh.slice(from, from + MOST_METRICS);
    await ask(server, "runs/log-batch", { run_id: remote, metrics: part.map((metric) => remoteMetric(run, metric)) });
    table.pushedMetrics(part);
  }
  const ended = run.status !== "running";
  await ask(server, "runs/update", {
    run_id: remote,
    status: STATUS[run.status],
    ...(ended && { end_time: Date.parse(run.updated) }),
  });
}

async function createRemote(run: RunRow, server: string): Promise<string> {
  const experiment = await experimentOf(server);
  const created = await ask(server, "runs/create", {
    experiment_id: experiment,
    run_name: run.folder.split(/[/\\]/).at(-1),
    start_time: Date.parse(run.created),
    tags: [{ key: "leanprop.id", value: run.id }, { key: "leanprop.folder", value: run.folder }],
  }) as { run: { info: { run_id: string } } };
  const remote = created.run.info.run_id;
  const { data, model, rule, optimizer, learningRate, batchSize, seed, epochs } = run;
  const options = JSON.parse(run.options) as Record<string, unknown>;
  const chosen = { ...options, data, model, rule, optimizer, learningRate, batchSize, seed, epochs };
  const params = Object.entries(chosen).map(([key, value]) => ({
    key,
    value: (typeof value === "string" ? value : JSON.stringify(value)).slice(0, LONGEST_VALUE),
  }));
  await ask(server, "runs/log-batch", { run_id: remote, params: params.slice(0, 100) });
  return remote;
}

/** The experiment; two processes may both want to make it. */
async function experimentOf(server: string): Promise<string> {
  type Found = { experiment: { experiment_id: string } };
  const path = `experiments/get-by-name?experiment_name=${EXPERIMENT}`;
  const find = async () => (await ask(server, path) as Found).experiment.experiment_id;
  try {
    return await find();
  } catch (fault) {
    if (!(fault instanceof ServerError) || !/RESOURCE_DOES_NOT_EXIST/.test(fault.message)) throw fault;
  }
  try {
    return (await ask(server, "experiments/create", { name: EXPERIMENT }) as { experiment_id: string }).experiment_id;
  } catch (fault) {
    if (fault instanceof ServerError && /RESOURCE_ALREADY_EXISTS/.test(fault.message)) return await find();
    throw fault;
  }
}

/** MLflow sorts by time: a figure's time is when the run began plus the seconds of training. */
function remoteMetric(run: RunRow, { name, value, step, seconds }: MetricRow): Record<string, unknown> {
  return { key: name, value, step, timestamp: Math.round(Date.parse(run.created) + 1000 * seconds) };
}

async function ask(server: string, path: string, body?: Record<string, unknown>): Promise<unknown> {
  const refuse = (why: string, cause?: unknown) =>
    new ServerError(`Cannot reach the MLflow server ${server}: ${why}`, { cause });
  let response: Response;
  let text: string;
  try {
    response = await fetch(`${server}/api/2.0/mlflow/${path}`, {
      ...(body && { method: "POST", body: JSON.stringify(body), headers: { "content-type": "application/json" } }),
      signal: AbortSignal.timeout(PATIENCE_MS),
    });
    text = await response.text();
  } catch (cause) {
    if (cause instanceof Deno.errors.NotCapable) throw refuse("permission is missing (--allow-net)", cause);
    throw refuse(cause instanceof Error && cause.name === "TimeoutError" ? "no answer" : "no connection", cause);
  }
  if (!response.ok) throw refuse(`it answered ${response.status} (${text.slice(0, 200)})`);
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw refuse("it answered something other than JSON", cause);
  }
}
