/**
 * The command `runs`: what the table of runs holds, and what can be done with it.
 *
 * @module
 */

import { didYouMean } from "../../nearest.ts";
import { RunTableError, UsageError } from "../errors.ts";
import { type CommandSpec, helpText, parseOptions } from "../options.ts";
import { isTraining } from "../run_lock.ts";
import { print } from "../terminal.ts";
import { type Action, actions, type RunsValues } from "./actions.ts";
import { tablePlace } from "./database.ts";
import { options } from "./options.ts";
import { RunTable } from "./table.ts";

/** The command. */
export const runsCommand: CommandSpec<typeof options> = {
  name: "runs",
  description: "Works on the table of runs. A run is named by the first letters of its identity, or by its folder.",
  words: "[WHAT [RUN …]]",
  options,
  sections: [{
    title: "What",
    lines: Object.entries(actions).map(([name, { usage, help }]) => [`${name} ${usage}`.trim(), help]),
  }],
};

/**
 * Runs the command.
 *
 * @param args its arguments
 */
export async function runs(args: readonly string[]): Promise<void> {
  const { values, words: [what = "list", ...words], help } = parseOptions(runsCommand, args);
  if (help) return print(helpText(runsCommand));
  const action = Object.hasOwn(actions, what) ? actions[what] : undefined;
  if (action === undefined) {
    const names = Object.keys(actions);
    throw new UsageError(`the word ${what}`, `one of ${names.join(", ")}${didYouMean(what, names)}`, "another one");
  }
  checkTaken(action, { what, values, words });
  using owned = new DisposableStack();
  let opened: RunTable | undefined;
  await action.act({
    values,
    words,
    get table() {
      return opened ??= owned.use(openTable(values, action));
    },
  });
}

/** Refuses options and words that the action would not look at. */
function checkTaken(
  { options: own, count: [fewest, most], expects }: Action,
  given: { readonly what: string; readonly values: RunsValues; readonly words: readonly string[] },
): void {
  const { what, values, words } = given;
  const taken: readonly string[] = ["runs", ...own];
  const other = Object.keys(values).find((name) => !taken.includes(name));
  if (other !== undefined) {
    const names = taken.map((name) => `--${name}`).join(", ");
    throw new UsageError(`--${other} with ${what}`, `its options (${names})`, "one of another action");
  }
  const found = words.length === 0 ? "none" : `${words.length < fewest ? "only " : ""}${words.join(" ")}`;
  if (words.length < fewest || words.length > most) throw new UsageError(what, expects, found);
}

/** Opens the table. What only reads makes none: a table that was asked for by name has to be there, any other is empty. */
function openTable({ runs }: RunsValues, { creates = false }: Action): RunTable {
  const place = tablePlace(runs);
  if (place === undefined) throw new UsageError("--runs", "the file of a table of runs", "none");
  const missing = !creates && isMissing(place);
  if (missing && runs !== undefined) {
    throw new RunTableError(place, "a file that train or runs add has made", "nothing there");
  }
  const table = new RunTable(missing ? ":memory:" : place);
  findDead(table);
  return table;
}

function isMissing(path: string): boolean {
  try {
    Deno.statSync(path);
    return false;
  } catch (fault) {
    // Anything else is said where the file is opened.
    return fault instanceof Deno.errors.NotFound;
  }
}

/** Marks runs that are entered as running but that no process trains: killed, or the machine went down. */
function findDead(table: RunTable): void {
  for (const { id, folder, status } of table.runs()) {
    if (status === "running" && !isTraining(folder)) table.mark(id, "interrupted");
  }
}
