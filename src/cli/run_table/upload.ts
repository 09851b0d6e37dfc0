/**
 * Uploads beside training: one at a time, and none after the first fault.
 *
 * @module
 */

import { RunTableError } from "../errors.ts";
import { note } from "../terminal.ts";
import { pushRun, ServerError } from "./mlflow.ts";
import type { RunTable } from "./table.ts";

/** Keeps a server up to date with a run, while training goes on; a fault of server or table is said once and ends only this. */
export class Uploader {
  readonly #table: RunTable;
  readonly #server: string;
  #under: Promise<void> | undefined;
  #again = false;
  #down = false;

  /**
   * @param table the table with the run
   * @param server address of the server
   */
  constructor(table: RunTable, server: string) {
    this.#table = table;
    this.#server = server;
  }

  /** Says that there is something new; does not wait for it. */
  poke(id: string): void {
    if (this.#down) return;
    this.#again = true;
    this.#under ??= this.#work(id).finally(() => this.#under = undefined);
  }

  /** Waits until the server has everything, or it is known that it cannot. */
  async settle(): Promise<void> {
    while (this.#under) await this.#under;
  }

  async #work(id: string): Promise<void> {
    try {
      while (this.#again) {
        this.#again = false;
        await pushRun(this.#table, id, this.#server);
      }
    } catch (fault) {
      if (!(fault instanceof ServerError || fault instanceof RunTableError)) throw fault;
      this.#down = true;
      note(`${fault.message}; the run goes on, and deno task runs push uploads it later\n`);
    }
  }
}
