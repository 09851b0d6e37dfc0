/**
 * A peer process: another library that does the same training steps (bench/peers).
 *
 * @module
 */

/** A training job that all sides can do. */
export interface Case {
  /** Widths with ReLU between, or the name of a convolutional network. */
  readonly net: readonly number[] | "cnn" | "convnet" | "resnet18";
  /** Rows of a step. */
  readonly batch: number;
  /** Plain SGD or Adam. */
  readonly optimizer: "sgd" | "adam";
  /** Learning rate. */
  readonly rate: number;
  /** Threads of each side. */
  readonly threads: number;
  /** Seed of data and weights. */
  readonly seed: number;
  /** Distinct batches. */
  readonly batches: number;
  /** How JAX is driven: a compiled step called from Python, one compiled loop, or the faster (the default). */
  readonly dispatch?: "step" | "loop" | "fastest";
  /** Factor on the channels of resnet18. Default 1. */
  readonly width?: number;
  /** Layout of PyTorch's images. */
  readonly layout?: "contiguous" | "channels_last";
}

/** What a side reports of some steps. */
export interface Ran {
  /** Steps done. */
  readonly steps: number;
  /** Seconds that they took. */
  readonly seconds: number;
  /** Mean loss over them. */
  readonly meanLoss: number;
  /** The most memory that its process had so far. */
  readonly peakBytes: number;
}

/** Anything that trains a case. */
export interface Side {
  /** Its name in tables. */
  readonly name: string;
  /** What it says about itself. */
  readonly about: Record<string, unknown>;
  /** Trains for about this long. */
  run(seconds: number): Promise<Ran>;
  /** Trains exactly this many steps. */
  steps(count: number): Promise<Ran>;
  /** Ends it. */
  stop(): Promise<void>;
}

/** Python of the peers' virtual environment. */
const PYTHON = new URL("./peers/.venv/bin/python", import.meta.url);

/**
 * Starts a peer, or says why it cannot take part.
 *
 * @param script file below bench/peers
 * @param job the case, as the script reads it
 * @param options name in tables, environment
 * @returns the peer, or the reason in one sentence
 */
export async function startPeer(
  script: string,
  job: object,
  options: { readonly name: string; readonly env?: Record<string, string> },
): Promise<Side | string> {
  const program = new URL(`./peers/${script}`, import.meta.url);
  let child: Deno.ChildProcess;
  try {
    child = new Deno.Command(PYTHON.pathname, {
      args: [program.pathname, JSON.stringify(job)],
      stdin: "piped",
      stdout: "piped",
      stderr: "piped",
      env: options.env ?? {},
    }).spawn();
  } catch (cause) {
    if (cause instanceof Deno.errors.NotFound) return "not installed: run python3 bench/peers/install.py --with-torch";
    throw cause;
  }
  const lines = child.stdout.pipeThrough(new TextDecoderStream()).pipeThrough(lineStream()).getReader();
  const input = child.stdin.getWriter();
  const errors = new Response(child.stderr).text();
  const answer = async (): Promise<Record<string, unknown> | undefined> => {
    const { value } = await lines.read();
    return value === undefined ? undefined : JSON.parse(value);
  };
  // Stopped while others are measured: threads of some libraries spin on for a while after their work is done.
  const signals = Deno.build.os !== "windows";
  const pause = () => signals && child.kill("SIGSTOP");
  const resume = () => signals && child.kill("SIGCONT");
  const ask = async (request: unknown) => {
    resume();
    await input.write(new TextEncoder().encode(JSON.stringify(request) + "\n"));
    const found = await answer();
    if (found === undefined) throw new Error(`${options.name} ended: ${(await errors).trim().split("\n").at(-1)}`);
    pause();
    return found as unknown as Ran;
  };
  const about = await answer();
  if (about === undefined) {
    await child.status;
    return (await errors).trim().split("\n").at(-1) ?? "ended without a word";
  }
  pause();
  return {
    name: options.name,
    about,
    run: (seconds) => ask({ op: "run", seconds }),
    steps: (n) => ask({ op: "steps", n }),
    stop: async () => {
      resume();
      await input.close();
      await child.status;
      await errors;
      await lines.cancel();
    },
  };
}

/** Cuts text into lines. */
function lineStream(): TransformStream<string, string> {
  let rest = "";
  return new TransformStream({
    transform(chunk, controller) {
      const lines = (rest + chunk).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) if (line !== "") controller.enqueue(line);
    },
  });
}
