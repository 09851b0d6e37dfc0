/**
 * Ctrl-C and the system's request to end: the first ends the work in good order, the second at once.
 *
 * @module
 */

import { removeHalfWritten } from "../half_written.ts";
import { Interruption } from "./errors.ts";
import { canRedraw, note } from "./terminal.ts";

/**
 * Signals that come so soon after the first are echoes of it: under `deno task` a program gets one from the terminal and one that the
 * task runner hands on. Counted are turns of the event loop, since a signal waits while it is busy.
 */
const ECHO = { turns: 5, ms: 100 };

/** Exit codes: 128 and the number of the signal. */
const CODES = { SIGHUP: 129, SIGINT: 130, SIGTERM: 143 } as const;

/** Listens for signals while it lives. */
export class Interrupt implements Disposable {
  readonly #controller = new AbortController();
  readonly #listeners: [Deno.Signal, () => void][] = [];
  #turns = 0;
  #timer: ReturnType<typeof setInterval> | undefined;
  /** Called where the work ends at once, to put away what is of no use; says what is kept. */
  atOnce: () => string = () => "files that were complete are kept";

  /** Begins to listen. */
  constructor() {
    // Windows knows the first only.
    const signals = Deno.build.os === "windows" ? ["SIGINT"] as const : ["SIGINT", "SIGTERM", "SIGHUP"] as const;
    // SIGHUP comes where a terminal closes. `nohup` takes all terminals away and has it ignored, which Deno undoes for itself.
    const deaf = ![Deno.stdin, Deno.stdout, Deno.stderr].some((stream) => stream.isTerminal());
    for (const signal of signals) {
      const listener = () => {
        if (signal === "SIGHUP" && deaf) return;
        if (this.signal.aborted) {
          if (this.#turns >= ECHO.turns) this.#endAtOnce(CODES[signal]);
          return;
        }
        const timer = setInterval(() => this.#turns++, ECHO.ms);
        Deno.unrefTimer(timer);
        this.#timer = timer;
        this.#controller.abort(new Interruption(CODES[signal]));
      };
      Deno.addSignalListener(signal, listener);
      this.#listeners.push([signal, listener]);
    }
  }

  /** Aborts with an {@linkcode Interruption}. */
  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  #endAtOnce(exitCode: number): never {
    removeHalfWritten();
    // On a terminal what was under way still stands in this line.
    note(`${canRedraw() ? "\r\x1b[K" : ""}Stopped at once; ${this.atOnce()}\n`);
    Deno.exit(exitCode);
  }

  /** Stops listening. */
  [Symbol.dispose](): void {
    clearInterval(this.#timer);
    for (const [signal, listener] of this.#listeners) Deno.removeSignalListener(signal, listener);
  }
}
