/**
 * Ctrl-C and the system's request to end: the first ends the work in good order, the second at once.
 *
 * @module
 */

import { Interruption } from "./errors.ts";

/** Listens for signals while it lives. */
export class Interrupt implements Disposable {
  readonly #controller = new AbortController();
  readonly #listeners: [Deno.Signal, () => void][] = [];

  /** Begins to listen. */
  constructor() {
    // Windows knows no SIGTERM.
    const signals = Deno.build.os === "windows" ? ["SIGINT"] as const : ["SIGINT", "SIGTERM"] as const;
    for (const signal of signals) {
      const listener = () => {
        const exitCode = signal === "SIGINT" ? 130 : 143;
        if (this.signal.aborted) Deno.exit(exitCode);
        this.#controller.abort(new Interruption(exitCode));
      };
      Deno.addSignalListener(signal, listener);
      this.#listeners.push([signal, listener]);
    }
  }

  /** Aborts with an {@linkcode Interruption}. */
  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** Stops listening. */
  [Symbol.dispose](): void {
    for (const [signal, listener] of this.#listeners) Deno.removeSignalListener(signal, listener);
  }
}
