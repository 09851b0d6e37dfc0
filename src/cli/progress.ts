/**
 * Progress on standard error: a bar that is redrawn on a terminal, and one line per epoch.
 *
 * @module
 */

import { digits } from "../digits.ts";
import type { DownloadControl } from "../data/download.ts";
import type { ReadControl } from "../data/files.ts";
import type { Progress } from "../train/trainer.ts";
import type { EpochEvent } from "./run_folder.ts";
import { canRedraw, columns, note, wantsColour } from "./terminal.ts";

/** Milliseconds between two drawings of the bar. */
const REDRAW_MS = 100;

/** Widest bar. */
const WIDEST = 30;

/** Narrowest bar that says anything. */
const NARROWEST = 5;

/** Shows how far a command is. */
export class ProgressView {
  readonly #quiet: boolean;
  readonly #redraws: boolean;
  readonly #colour: boolean;
  #first: Progress | undefined;
  #drawn = false;
  #last = -Infinity;

  /** @param quiet whether to show nothing at all */
  constructor(quiet: boolean) {
    this.#quiet = quiet;
    this.#redraws = !quiet && canRedraw();
    this.#colour = wantsColour();
  }

  /** Says what is under way, until something else is shown; on terminals only. */
  status(text: string): void {
    if (this.#redraws) this.#draw(text.slice(0, columns() - 1));
  }

  /** Says in a line that stays what is under way, where no line can be redrawn: in a log. */
  log(text: string): void {
    if (!this.#redraws) this.line(text);
  }

  /** Says something in a line that stays. */
  line(text: string): void {
    if (this.#quiet) return;
    this.clear();
    note(`${text}\n`);
  }

  /** What shows how far a data set is loaded: from the web, from files; on terminals only. */
  get loading(): DownloadControl & ReadControl {
    // Who calls for each piece shall not pay for a line that nobody sees.
    if (!this.#redraws) return {};
    return {
      onProgress: ({ file, received, total }) =>
        this.#now(
          `downloading ${file}  ${megabytes(received)}${total === undefined ? "" : ` of ${megabytes(total)}`} MB`,
        ),
      onRead: ({ file, what, share }) => this.#now(`${what} ${file}  ${percent(share, 0)}`),
    };
  }

  /** Says what is under way, unless something was drawn just now. */
  #now(text: string): void {
    if (performance.now() - this.#last >= REDRAW_MS) this.status(text);
  }

  /** Shows the training run inside an epoch; on terminals only. */
  step(progress: Progress): void {
    this.#first ??= progress;
    if (!this.#redraws || performance.now() - this.#last < REDRAW_MS) return;
    const { epoch, epochs, step, totalSteps, trainLoss } = progress;
    const left = `epoch ${epochOf(epoch, epochs)}  `;
    const right = `  ${percent(step / totalSteps, 0)}  loss ${figure(trainLoss)}${this.#timeLeft(progress)}`;
    // One column is left free: a terminal that wraps would keep every drawing.
    const width = Math.min(WIDEST, columns() - 1 - left.length - right.length);
    const line = width < NARROWEST
      ? `${left}${right.trimStart()}`.slice(0, columns() - 1)
      : `${left}${this.#bar(step / totalSteps, width)}${right}`;
    this.#draw(line);
  }

  /** Writes the line of a finished epoch. */
  epoch(event: EpochEvent, epochs: number): void {
    const parts = [
      `epoch ${epochOf(event.epoch, epochs)}`,
      `loss ${figure(event.trainLoss)}`,
      event.validationLoss === null ? "" : `validation loss ${figure(event.validationLoss)}`,
      event.validationAccuracy === null ? "" : `accuracy ${percent(event.validationAccuracy, 2)}`,
      `${event.seconds.toFixed(1)} s`,
    ];
    this.line(parts.filter((part) => part !== "").join("  "));
  }

  /** Warns, whether quiet or not. */
  warn(text: string): void {
    this.clear();
    note(`warning: ${text}\n`);
  }

  /** Takes the bar away, so that other text can follow. */
  clear(): void {
    if (!this.#drawn) return;
    note("\r\x1b[K");
    this.#drawn = false;
    this.#last = -Infinity;
  }

  #draw(line: string): void {
    note(`\r\x1b[K${line}`);
    this.#drawn = true;
    this.#last = performance.now();
  }

  #bar(share: number, width: number): string {
    const full = Math.min(width, Math.floor(share * width));
    const [done, open] = ["█".repeat(full), "░".repeat(width - full)];
    return this.#colour ? `\x1b[36m${done}\x1b[2m${open}\x1b[0m` : `${done}${open}`;
  }

  /** From the speed since the first drawing: a run that was resumed has steps behind it that took no time now. */
  #timeLeft({ step, totalSteps, seconds }: Progress): string {
    const steps = step - (this.#first?.step ?? step);
    if (steps === 0) return "";
    return `  ${duration((seconds - (this.#first?.seconds ?? 0)) * (totalSteps - step) / steps)} left`;
  }
}

function megabytes(bytes: number): string {
  return (bytes / 1e6).toFixed(1);
}

/** `3/10`, ` 3/10` where lines shall stand under each other, `1.5/1.5` for the last half of an epoch. */
export function epochOf(epoch: number, epochs: number, width: number = String(epochs).length): string {
  return `${String(Math.min(epoch, epochs)).padStart(width)}/${epochs}`;
}

/** A share in percent, such as `97.83 %`. */
export function percent(share: number, digits: number): string {
  return `${(100 * share).toFixed(digits)} %`;
}

/** A number with four digits that mean something. */
export function figure(number: number): string {
  return Number.isFinite(number) && number !== 0 && Math.abs(number) < 1e-3
    ? number.toExponential(2)
    : digits(number, 4);
}

function duration(seconds: number): string {
  if (seconds < 60) return `${Math.ceil(seconds)} s`;
  const minutes = Math.ceil(seconds / 60);
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}
