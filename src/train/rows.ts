/**
 * Where a run's rows come from: a data set in the engine that serves all steps, or a stream of batches, one for each step.
 *
 * @module
 */

import { number } from "../config.ts";
import { Dataset } from "../data/dataset.ts";
import { batches, Prefetch, type TableStream } from "../data/stream.ts";
import type { TrainingConfig } from "./trainer.ts";

/** Steps of an epoch over so many rows, of which the last may be a short one. */
export function stepsOver(
  rows: number,
  { batchSize, dropLast }: Pick<TrainingConfig, "batchSize" | "dropLast">,
): number {
  return (dropLast ? Math.floor : Math.ceil)(rows / batchSize);
}

/** Rows for the steps of a run. */
export interface Rows {
  /** Whether one data set serves all steps. */
  readonly stored: boolean;
  /** Whether rows have class labels; known once the first have come. */
  readonly labels: boolean;
  /** Looks at the first rows, which {@linkcode Rows.next} gives afterwards. */
  first(): Promise<Dataset>;
  /** Rows for the next call of the engine. */
  next(): Promise<Dataset>;
  /** Gives rows back that a call has used. */
  release(rows: Dataset): void;
  /** Leaves out what the first steps of a run have used, before any other rows were asked for. */
  skip(steps: number): Promise<void>;
  /** Ends the stream; done once what is under way has come. */
  close(): Promise<void>;
}

/** A data set that serves all steps. */
export class StoredRows implements Rows {
  readonly stored = true;
  readonly #data: Dataset;

  /** The data set stays its owner's. */
  constructor(data: Dataset) {
    this.#data = data;
  }

  get labels(): boolean {
    return this.#data.targets.kind === "labels";
  }

  first(): Promise<Dataset> {
    return Promise.resolve(this.#data);
  }

  next(): Promise<Dataset> {
    return Promise.resolve(this.#data);
  }

  release(): void {}

  skip(): Promise<void> {
    return Promise.resolve();
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}

/** Batches of a stream, each for one step, copied into the engine ahead of it. */
export class StreamedRows implements Rows {
  readonly stored = false;
  readonly #source: TableStream;
  readonly #config: Pick<TrainingConfig, "batchSize" | "dropLast">;
  readonly #count: number;
  #ahead: Prefetch<Dataset> | undefined;
  #first: Dataset | undefined;
  #labels = false;
  #skipped = 0;

  /** Nothing is read before the first rows are asked for. */
  constructor(source: TableStream, config: TrainingConfig, prefetch = 2) {
    this.#source = source;
    this.#config = config;
    this.#count = number("prefetch", prefetch, { min: 1, max: 1024, whole: true });
  }

  get labels(): boolean {
    return this.#labels;
  }

  async first(): Promise<Dataset> {
    this.#ahead ??= new Prefetch(this.#datasets(), { count: this.#count, discard: this.release });
    this.#first ??= await this.#ahead.next();
    this.#labels = this.#first.targets.kind === "labels";
    return this.#first;
  }

  async next(): Promise<Dataset> {
    const first = await this.first();
    this.#first = undefined;
    return first;
  }

  release(rows: Dataset): void {
    rows[Symbol.dispose]();
  }

  async skip(steps: number): Promise<void> {
    for (; this.#skipped < steps; this.#skipped++) this.release(await this.next());
  }

  /** Batches in the engine; those that nobody took are freed at the end. */
  async *#datasets(): AsyncGenerator<Dataset, void, void> {
    for await (const table of batches(this.#source, this.#config)) yield await Dataset.create(table);
  }

  async close(): Promise<void> {
    this.#first?.[Symbol.dispose]();
    this.#first = undefined;
    await this.#ahead?.[Symbol.asyncDispose]();
  }
}
