/**
 * A run in training and its row in the table of runs. The folder of the run is what counts: a fault of the table is said once
 * and the run goes on; `deno task runs add FOLDER` makes up for it.
 *
 * @module
 */

import type { RunEvent } from "../run_folder.ts";
import { Interruption, RunTableError } from "../errors.ts";
import { note } from "../terminal.ts";
import { type RunEntry, RunTable } from "./table.ts";
import { Uploader } from "./upload.ts";

/** Where a run is entered. */
export interface TrackingPlaces {
  /** The file with the table of runs. */
  readonly table: string;
  /** URL of an MLflow server, if it is to know too. */
  readonly server: string | undefined;
}

/** Keeps the row of one run while it lives. */
export class Tracking implements Disposable {
  readonly #table: RunTable;
  readonly #uploader: Uploader | undefined;
  #id = "";
  #fallen = false;

  /**
   * Opens the table. This comes before anything of the run is made: a table that cannot be used shows at once.
   *
   * @param places table and server
   * @throws {RunTableError} where the table cannot be used
   */
  constructor({ table, server }: TrackingPlaces) {
    this.#table = new RunTable(table);
    this.#uploader = server === undefined ? undefined : new Uploader(this.#table, server);
  }

  /** Enters the run, as new or as one that goes on. */
  begin(entry: Omit<RunEntry, "status">): void {
    this.#id = entry.record.id;
    this.#try(() => this.#table.enter({ ...entry, status: "running" }));
    this.#uploader?.poke(this.#id);
  }

  /** Adds what an event says. */
  event(event: RunEvent): void {
    this.#try(() => this.#table.add(this.#id, event));
    this.#uploader?.poke(this.#id);
  }

  /** Notes that the run ended with a fault. */
  fail(fault: unknown): void {
    if (fault instanceof Interruption) return;
    const message = fault instanceof Error ? fault.message : String(fault);
    this.#try(() => this.#table.mark(this.#id, "failed", message));
    this.#uploader?.poke(this.#id);
  }

  /** Waits for what is on its way to the server. */
  async settle(): Promise<void> {
    await this.#uploader?.settle();
  }

  /** Closes the table. */
  [Symbol.dispose](): void {
    this.#table[Symbol.dispose]();
  }

  #try(work: () => void): void {
    if (this.#fallen || this.#id === "") return;
    try {
      work();
    } catch (fault) {
      if (!(fault instanceof RunTableError)) throw fault;
      this.#fallen = true;
      note(`${fault.message}; the run goes on, and deno task runs add FOLDER enters it later\n`);
    }
  }
}
