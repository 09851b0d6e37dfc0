/**
 * Which calls into the engine wait for their turn in the background, and which are over before that would pay.
 *
 * @module
 */

/** Longest expected milliseconds of a call in the foreground. A call in the background costs 0.05 to 0.1 ms of its own. */
const SHORT_MS = 1;

/** Milliseconds after which the event loop, and with it timers and signals, gets its turn. */
const TURN_MS = 8;

/** The pace of calls that repeat: a call is expected to take as long as the one before. */
export class Pace {
  /** Milliseconds that a call in the foreground may take: it comes back early rather than keep the event loop waiting. */
  static readonly budget = SHORT_MS;
  #expected = Infinity;
  #turn = -Infinity;

  /** Whether the next call is short enough to be waited for, and the event loop had its turn a short while ago. */
  get foreground(): boolean {
    return this.#expected <= SHORT_MS && performance.now() - this.#turn <= TURN_MS;
  }

  /**
   * Takes down a call that is over.
   *
   * @param call how many milliseconds it took, and whether it ran in the background
   */
  note({ milliseconds, background }: { readonly milliseconds: number; readonly background: boolean }): void {
    this.#expected = milliseconds;
    if (background) this.#turn = performance.now();
  }
}
