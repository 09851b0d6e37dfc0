/**
 * A fingerprint of a data set, to be kept beside the results that it led to.
 *
 * @module
 */
import { objectGiven } from "../config.ts";
import { littleEndianBytes } from "./array.ts";
import { tableGiven } from "./check.ts";
import { sha256 } from "./files.ts";
import type { Data, Table } from "./table.ts";

/**
 * SHA-256 over everything that training and evaluation see: shapes, features, scale and offset, and targets of all
 * parts. The name of the set and the names of classes do not count.
 *
 * @param data the data set
 * @returns 64 hexadecimal digits, the same on every machine
 */
export async function hashData(data: Data): Promise<string> {
  objectGiven("data", data, "a data set with training rows");
  const parts: string[] = [];
  for (const part of ["train", "validation", "test"] as const) {
    const table = data[part];
    if (table !== undefined) parts.push(`${part} ${await hashTable(table)}`);
  }
  return await sha256(new TextEncoder().encode(parts.join("\n")));
}

/**
 * SHA-256 over one table.
 *
 * @param table rows of features with their targets
 * @returns 64 hexadecimal digits
 * @throws {ConfigError} where what is given is no table
 */
export async function hashTable(table: Table): Promise<string> {
  tableGiven("table", table);
  const { rows, shape, features, targets, scale = [1 / 255], offset = [0] } = table;
  const bytes = features instanceof Uint8Array;
  const description = {
    rows,
    shape,
    features: features.constructor.name,
    // Scale and offset mean something for bytes only.
    ...(bytes && { scale, offset }),
    targets: targets.kind,
    size: targets.kind === "labels" ? targets.classes : targets.size,
    numbers: targets.values.constructor.name,
    featuresHash: await sha256(littleEndianBytes(features)),
    targetsHash: await sha256(littleEndianBytes(targets.values)),
  };
  return await sha256(new TextEncoder().encode(JSON.stringify(description)));
}
