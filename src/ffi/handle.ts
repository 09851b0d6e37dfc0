/**
 * Ownership of engine objects: freed when disposed, and by the garbage collector as a net below that.
 *
 * @module
 */

import { EngineError } from "../errors.ts";
import { check, newStatus } from "./status.ts";

/** Frees an engine object by its number. */
type Destroy = (handle: number, status: Uint8Array<ArrayBuffer>) => number;

/** What the finalizer keeps: never the owner itself, which could then not be collected. */
interface Token {
  readonly handle: number;
  readonly destroy: Destroy;
}

const reclaim = new FinalizationRegistry<Token>(({ handle, destroy }) => {
  destroy(handle, newStatus());
});

/** The number of an engine object with the duty to free it. */
export class Handle {
  #number: number;
  readonly #destroy: Destroy;
  readonly #kind: string;

  /**
   * @param owner the object that users hold; when it is collected, the engine object is freed
   * @param number the engine's number for the object
   * @param kind what messages call it
   * @param destroy frees it
   */
  constructor(owner: object, number: number, kind: string, destroy: Destroy) {
    this.#number = number;
    this.#kind = kind;
    this.#destroy = destroy;
    reclaim.register(owner, { handle: number, destroy }, this);
  }

  /** Whether the object has been freed. */
  get closed(): boolean {
    return this.#number === 0;
  }

  /** The number for a call. @throws {EngineError} `unknown-handle` after disposal */
  get number(): number {
    if (this.closed) throw new EngineError("unknown-handle", `Cannot use this ${this.#kind}: it is disposed`);
    return this.#number;
  }

  /** Frees the object, once; a call under way on it finishes first. */
  close(): void {
    if (this.closed) return;
    const number = this.#number;
    this.#number = 0;
    reclaim.unregister(this);
    const status = newStatus();
    check(this.#destroy(number, status), status);
  }
}
