/**
 * The command `export`: a checkpoint in, a file for other tools out.
 *
 * @module
 */

import type { Network } from "../network/network.ts";
import { saveNpz } from "../run/npz_weights.ts";
import { savePyTorch } from "../run/pytorch.ts";
import { UsageError } from "./errors.ts";
import { type CommandSpec, helpText, type OptionSpec, parseOptions } from "./options.ts";
import { placeInWords } from "./replaced.ts";
import { note, print } from "./terminal.ts";
import { loadTrained, networkFile } from "./trained_network.ts";

const group = "Options";

const options = [
  {
    name: "checkpoint",
    type: "text",
    value: "FILE",
    help: "a safetensors file that train or Network.save wrote, or the folder of a run",
    group,
    effect: "display",
  },
  {
    name: "out",
    type: "text",
    value: "FILE",
    help: "what to write: .onnx, .npz (NumPy), .safetensors (a state_dict of PyTorch)",
    group,
    effect: "display",
  },
  { name: "help", type: "flag", help: "this text", group, effect: "display" },
] as const satisfies readonly OptionSpec[];

/** The command. */
export const exportCommand: CommandSpec<typeof options> = {
  name: "export",
  description: "Writes a trained network for other tools.",
  options,
};

/** What writes each kind of file; what needs a package loads it only then. */
const writers: Readonly<Record<string, (network: Network, path: string) => Promise<void>>> = {
  onnx: async (network, path) => await (await import("../formats/onnx.ts")).writeOnnx(network, path),
  npz: saveNpz,
  safetensors: savePyTorch,
};

/**
 * Runs the command.
 *
 * @param args its arguments
 */
export async function exportNetwork(args: readonly string[]): Promise<void> {
  const { values, help } = parseOptions(exportCommand, args);
  if (help) return print(helpText(exportCommand));
  const { checkpoint, out } = values;
  if (checkpoint === undefined) throw new UsageError("export", "--checkpoint FILE after it", "none");
  if (out === undefined) throw new UsageError("export", "--out FILE after it", "none");
  const write = writers[out.slice(out.lastIndexOf(".") + 1).toLowerCase()];
  if (write === undefined) {
    throw new UsageError(
      "--out",
      `a name that ends in ${Object.keys(writers).map((end) => `.${end}`).join(", ")}`,
      out,
    );
  }
  using network = await loadTrained(await networkFile(checkpoint));
  const where = await placeInWords(out);
  await write(network, out);
  note(`Wrote the network of ${checkpoint} to ${where}\n`);
}
