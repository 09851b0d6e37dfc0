/**
 * JSON files that hold an object: models, options, records of runs.
 *
 * @module
 */

import { DataError } from "../errors.ts";

/**
 * Reads a JSON file that holds an object.
 *
 * @param path the file
 * @returns the object
 * @throws {DataError} where it cannot be read, or holds something else
 */
export async function readJsonFile(path: string): Promise<Record<string, unknown>> {
  const text = await Deno.readTextFile(path).catch((cause) => {
    if (cause instanceof Deno.errors.NotFound) throw new DataError(path, "a JSON file", "nothing there", { cause });
    throw new DataError(path, "a JSON file that can be read", (cause as Error).message, { cause });
  });
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw new DataError(path, "JSON", `other text (${(cause as Error).message})`, { cause });
  }
  if (typeof json === "object" && json !== null && !Array.isArray(json)) return json as Record<string, unknown>;
  throw new DataError(path, "a JSON object", json);
}
