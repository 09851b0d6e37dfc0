/** Makes files for the tests of the data room. */

/** Packs bytes as gzip. */
export async function gzip(bytes: Uint8Array<ArrayBuffer>): Promise<Uint8Array<ArrayBuffer>> {
  return await new Response(new Blob([bytes]).stream().pipeThrough(new CompressionStream("gzip"))).bytes();
}

/** The bytes of an IDX file; an independent second reading of the format. */
export function idxBytes(type: number, shape: number[], numbers: ArrayLike<number>): Uint8Array<ArrayBuffer> {
  const sizes: Record<number, number> = { 0x08: 1, 0x09: 1, 0x0b: 2, 0x0c: 4, 0x0d: 4, 0x0e: 8 };
  const size = sizes[type]!;
  const start = 4 + 4 * shape.length;
  const view = new DataView(new ArrayBuffer(start + size * numbers.length));
  view.setUint8(2, type);
  view.setUint8(3, shape.length);
  shape.forEach((length, axis) => view.setUint32(4 + 4 * axis, length));
  for (let at = 0; at < numbers.length; at++) {
    const place = start + size * at;
    const number = numbers[at]!;
    if (type === 0x08) view.setUint8(place, number);
    else if (type === 0x09) view.setInt8(place, number);
    else if (type === 0x0b) view.setInt16(place, number);
    else if (type === 0x0c) view.setInt32(place, number);
    else if (type === 0x0d) view.setFloat32(place, number);
    else view.setFloat64(place, number);
  }
  return new Uint8Array(view.buffer);
}

/** Runs `body` with a temporary folder that holds these files. */
export async function inFolder(
  files: Record<string, Uint8Array | string>,
  body: (folder: string) => Promise<void>,
): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    for (const [name, content] of Object.entries(files)) {
      const path = `${folder}/${name}`;
      await Deno.mkdir(path.slice(0, path.lastIndexOf("/")), { recursive: true });
      if (typeof content === "string") await Deno.writeTextFile(path, content);
      else await Deno.writeFile(path, content);
    }
    await body(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** Variables with which no data is found but in the folder that a test names. */
export const nowhere = { LEANPROP_DATA: undefined, LEANPROP_CACHE: "/nowhere/cache" };

/** Runs `body` with environment variables set (or with `undefined` unset), then puts the old values back. */
export async function withEnvironment(
  variables: Record<string, string | undefined>,
  body: () => Promise<void>,
): Promise<void> {
  const old = Object.keys(variables).map((name) => [name, Deno.env.get(name)] as const);
  const set = (name: string, value: string | undefined) =>
    value === undefined ? Deno.env.delete(name) : Deno.env.set(name, value);
  try {
    for (const [name, value] of Object.entries(variables)) set(name, value);
    await body();
  } finally {
    for (const [name, value] of old) set(name, value);
  }
}

/** Whether the folder with real data sets is there; prints why tests are left out where it is not. */
export function realDataMissing(): boolean {
  const missing = !Deno.env.get("LEANPROP_DATA");
  // deno-lint-ignore no-console -- a silent skip would look like a pass
  if (missing) console.warn("LEANPROP_DATA is not set: the tests on real data are left out");
  return missing;
}
