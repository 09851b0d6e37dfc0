/**
 * The command `train`: options, data and network in; a run folder and a summary out.
 *
 * @module
 */

import { number } from "../config.ts";
import { Dataset } from "../data/dataset.ts";
import { hashData } from "../data/hash.ts";
import { environment } from "../data/places.ts";
import type { Data } from "../data/table.ts";
import { CheckpointError, DataError } from "../errors.ts";
import { lateRise } from "../train/late_rise.ts";
import { native } from "../ffi/native.ts";
import { Network } from "../network/network.ts";
import { loadCheckpoint } from "../run/checkpoint.ts";
import { describePlan, type RunPlan } from "../train/forecast.ts";
import { Trainer, trainingConfig } from "../train/trainer.ts";
import { loadFrom, splitValidation, transformOf } from "./data.ts";
import { UsageError } from "./errors.ts";
import { Interrupt } from "./interrupt.ts";
import { describeMachine } from "./machine.ts";
import { helpText, parseOptions } from "./options.ts";
import { masksTable } from "./masks_table.ts";
import { chooseStopping, makePlan, type Plan } from "./plan.ts";
import { ProgressView } from "./progress.ts";
import { reportAtEnd, reportOnStop } from "./report/ending.ts";
import { readRequest, recordedOptions, type Request, resumeRequest } from "./request.ts";
import {
  checkpointFile,
  createRunFolder,
  keepEvents,
  readEvents,
  readRecord,
  type RunEvent,
  type RunRecord,
  writeRecord,
} from "./run_folder.ts";
import { RunLock } from "./run_lock.ts";
import { tablePlace } from "./run_table/database.ts";
import { serverAddress } from "./run_table/mlflow.ts";
import { Tracking } from "./run_table/tracking.ts";
import { Shadow } from "./shadow.ts";
import { checkStreamOptions, openStream, type Streamed } from "./stream.ts";
import { print } from "./terminal.ts";
import { trainToEnd } from "./train_loop.ts";
import { trainCommand } from "./train_options.ts";
import { summarizeRun } from "./train_summary.ts";

/**
 * Runs the command.
 *
 * @param args its arguments
 */
export async function train(args: readonly string[]): Promise<void> {
  const parsed = parseOptions(trainCommand, args);
  if (parsed.help) return print(helpText(trainCommand));
  const asked = await readRequest(parsed);
  const { resume, out } = asked.values;
  if (resume !== undefined && out !== undefined) throw new UsageError("--out", "either --out or --resume", "both");
  if (asked.values.svg && asked.values.report === false) {
    throw new UsageError("--svg", "a report beside it", "--no-report");
  }
  const record = resume === undefined ? undefined : await readRecord(resume);
  const request = record === undefined ? asked : resumeRequest(record, asked, resume!);
  // A library that cannot be used is reported before data is loaded for it.
  native();

  const { quiet = false, json = false } = request.values;
  const view = new ProgressView(quiet);
  // What is read by programs stays free of it.
  const loaded = await load(request, json ? new ProgressView(true) : view);
  const { data, hash } = loaded;
  if (record && record.data.hash !== hash) {
    throw new DataError(`the data of ${resume}`, `the rows of SHA-256 ${record.data.hash}`, `rows of SHA-256 ${hash}`, {
      action: "use",
    });
  }
  const plan = planOf(request, loaded);
  const stopping = chooseStopping(request.values, data);
  const epochs = request.values["checkpoint-every"];
  const every = epochs === undefined ? undefined : number("checkpointEvery", epochs, { min: 1, whole: true });
  view.clear();
  if (request.values.explain) return await explainPlan(plan, data, json);

  using interrupt = new Interrupt();
  using owned = new DisposableStack();
  const run = record === undefined
    ? await begin({ request, plan, loaded, signal: interrupt.signal }, owned)
    : await goOn({ folder: resume!, record, request, plan, loaded, signal: interrupt.signal }, owned);
  interrupt.atOnce = () => `the last checkpoint is kept\nResume with: deno task train --resume ${run.folder}`;
  const { plan: forecast } = await run.trainer.network.describePropagation() as { plan?: RunPlan };
  if (forecast && !json) print(`${forecast.reason}\n`);
  if (run.trainer.config.rule.weights && !json) print(`${await masksTable(run.trainer.network)}\n`);
  for (const warning of run.trainer.takeWarnings()) view.warn(warning);
  const validation = data.validation && owned.use(await Dataset.create(data.validation));
  const collapses = plan.training.rule?.slots.propagation?.kind === "frontContribution";
  const shadow = request.values.probe && collapses
    ? owned.use(await Shadow.create(plan, data.train, interrupt.signal))
    : undefined;
  const { tracking } = run;
  tracking?.begin({ folder: await Deno.realPath(run.folder), record: run.record, events: run.events });
  try {
    const done = await trainToEnd({
      ...run,
      validation,
      test: data.test,
      view,
      json,
      shadow,
      tracking,
      stopping,
      every,
      signal: interrupt.signal,
    });
    let report: string | undefined;
    try {
      report = await reportAtEnd(run, { data, done, values: request.values, view });
    } finally {
      // A report that cannot be written, as on a full disk, takes nothing from what the run has come to.
      const events = await readEvents(run.folder);
      if (!json) print(await summarizeRun({ ...run, data, done, events, report }));
      const losses = events.flatMap((event) => event.event === "epoch" ? [event.trainLoss] : []);
      const rise = done.bestEpoch === undefined ? lateRise(losses) : undefined;
      if (rise !== undefined) view.warn(rise);
    }
  } catch (fault) {
    tracking?.fail(fault);
    throw await reportOnStop(run, { fault, values: request.values, view });
  } finally {
    await tracking?.settle();
  }
}

/**
 * Opens the table of runs that the options name, unless they say none. This comes before a run has a folder: a table that cannot
 * be used shows before anything is made.
 */
function openTracking({ runs, mlflow }: Request["values"], owned: DisposableStack): Tracking | undefined {
  const server = mlflow ?? environment("LEANPROP_MLFLOW");
  const table = tablePlace(runs);
  if (table === undefined && mlflow !== undefined) {
    throw new UsageError(
      "--mlflow",
      "a table of runs beside it",
      runs === undefined ? "LEANPROP_RUNS=none" : "--runs none",
    );
  }
  if (table === undefined) return undefined;
  const address = server === undefined ? undefined : serverAddress(server);
  return owned.use(new Tracking({ table, server: address }));
}

/** Says what a rule with a plan would do, as text or as JSON. */
async function explainPlan({ network: options, training }: Plan, data: Data, json: boolean): Promise<void> {
  using network = Network.create(options);
  const plan = await network.plan(data.train, training);
  print(json ? `${JSON.stringify(plan)}\n` : `${describePlan(plan)}\n`);
}

/** A run that is ready to train. */
interface Ready {
  readonly folder: string;
  readonly trainer: Trainer;
  /** Its record. */
  readonly record: RunRecord;
  /** Its row in the table of runs, where it has one. */
  readonly tracking: Tracking | undefined;
  /** Steps that it has behind it. */
  readonly step: number;
  /** What `metrics.jsonl` holds already. */
  readonly events: readonly RunEvent[];
}

/** The rows of a run. */
interface Loaded {
  /** The data set; of a stream, in the place of the training rows, the first part of them. */
  readonly data: Data;
  /** SHA-256 over all of it. */
  readonly hash: string;
  /** The share of the training rows that was split off to be watched. */
  readonly fraction: number;
  /** The training rows, where they come part by part. */
  readonly stream: Pick<Streamed, "train" | "rows"> | undefined;
}

async function load({ values }: Request, view: ProgressView): Promise<Loaded> {
  checkStreamOptions(values);
  view.status(`loading ${values.data ?? "glyphs"}`);
  if (values.stream) {
    const { data, hash, ...stream } = await openStream(values, view.loading);
    return { data, hash, fraction: 0, stream };
  }
  // Without a download there is nothing to tidy up: Ctrl-C may end the process on the spot, even in the middle of a parse.
  using interrupt = values.download ? new Interrupt() : undefined;
  const whole = await loadFrom(values, {
    ...(interrupt && { signal: interrupt.signal }),
    ...view.loading,
  });
  view.status("hashing the rows");
  const hash = await hashData(whole);
  return { ...splitValidation(whole, values), hash, stream: undefined };
}

/** The plan of a run; an epoch of a stream is a pass over it. */
function planOf(request: Request, { data, stream }: Loaded): Plan {
  if (stream === undefined) return makePlan(request, data.train);
  const plan = makePlan({ ...request, rows: stream.rows }, data.train);
  const stepsPerEpoch = Math.ceil(stream.rows / plan.training.batchSize!);
  return { ...plan, training: { ...plan.training, stepsPerEpoch } };
}

/** Begins a run in a new folder. */
async function begin(
  from: {
    readonly request: Request;
    readonly plan: Plan;
    readonly loaded: Loaded;
    readonly signal: AbortSignal;
  },
  owned: DisposableStack,
): Promise<Ready> {
  const { request, plan, loaded: { data, stream, hash, fraction }, signal } = from;
  const network = owned.use(Network.create(plan.network));
  const trainer = owned.use(
    await Trainer.create(network, stream?.train ?? data.train, { ...plan.training, ...probing(request), signal }),
  );
  const tracking = openTracking(request.values, owned);
  const folder = await createRunFolder(request.values.out, { data: data.name, rule: trainer.config.ruleName });
  try {
    owned.use(await RunLock.take(folder));
    // A folder that cannot be written to shows before the first epoch, and from here on there is something to resume.
    await trainer.save(checkpointFile(folder));
    const record = await writeRecord(folder, {
      id: crypto.randomUUID(),
      created: new Date().toISOString(),
      options: recordedOptions(request, { plan, validationSplit: fraction }),
      data: { ...describeData(data, hash), ...(stream && { rows: { ...rowsOf(data), train: stream.rows } }) },
      network: network.config,
      training: trainer.config,
      machine: describeMachine(network),
    });
    return { folder, trainer, record, tracking, step: 0, events: [] };
  } catch (fault) {
    // Without a record it is no run: nothing of it stays.
    await Deno.remove(folder, { recursive: true }).catch(() => {});
    throw fault;
  }
}

/** Goes on with a run from its checkpoint. */
async function goOn(
  from: {
    readonly folder: string;
    readonly record: RunRecord;
    readonly request: Request;
    readonly plan: Plan;
    readonly loaded: Loaded;
    readonly signal: AbortSignal;
  },
  owned: DisposableStack,
): Promise<Ready> {
  const { folder, record, request, plan, loaded: { data, stream }, signal } = from;
  const { threads } = plan.network;
  const tracking = openTracking(request.values, owned);
  owned.use(await RunLock.take(folder));
  const file = checkpointFile(folder);
  const checkpoint = await loadCheckpoint(file, threads === undefined ? {} : { threads });
  const network = owned.use(checkpoint.network);
  const alike = same(checkpoint.run?.config, trainingConfig(plan.training, stream ? null : data.train.rows)) &&
    same({ ...network.config, threads: 0 }, { ...record.network, threads: 0 });
  if (!alike) {
    throw new CheckpointError(`Cannot resume ${folder}: expected a checkpoint of this run but found that of another`);
  }
  const rows = stream?.train ?? data.train;
  const trainer = owned.use(await Trainer.resume(checkpoint, rows, { ...probing(request), signal }));
  const [step = 0] = network.read("training.counters");
  return { folder, trainer, record, tracking, step, events: await keepEvents(folder, step) };
}

function describeData(data: Data, hash: string): RunRecord["data"] {
  const { train } = data;
  const { values: _, ...targets } = train.targets;
  const transform = transformOf(data);
  return {
    name: data.name,
    hash,
    rows: rowsOf(data),
    shape: train.shape,
    targets,
    ...(train.scale && { scale: train.scale }),
    ...(train.offset && { offset: train.offset }),
    ...(transform && { transform }),
  };
}

function rowsOf({ train, validation, test }: Data): RunRecord["data"]["rows"] {
  return { train: train.rows, validation: validation?.rows ?? 0, test: test?.rows ?? 0 };
}

function probing({ values: { probe } }: Request): { probe?: boolean } {
  return probe === undefined ? {} : { probe };
}

function same(a: unknown, b: unknown): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}
