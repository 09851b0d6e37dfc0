/**
 * ZIP archives as NumPy writes them: entries stored or deflated, 64-bit sizes understood, no encryption, one part.
 * Source: PKWARE's APPNOTE.TXT.
 *
 * @module
 */
import { DataError } from "../errors.ts";

const localMagic = 0x04034b50;
const centralMagic = 0x02014b50;
const endMagic = 0x06054b50;
const endSize = 22;
/** 1 January 1980, the earliest date of the format: the same content gives the same bytes. */
const fixedDate = 0x0021;

/** One file in an archive. */
export interface ZipEntry {
  /** Its name. */
  readonly name: string;
  /** Its content. */
  readonly bytes: Uint8Array<ArrayBuffer>;
}

/**
 * Unpacks an archive.
 *
 * @param archive the whole file
 * @param where its name, for messages
 * @returns all entries in the order of the directory
 * @throws {DataError} where the archive is cut off, damaged, or packed in a way not known here
 */
export async function readZip(archive: Uint8Array<ArrayBuffer>, where: string): Promise<ZipEntry[]> {
  const view = new DataView(archive.buffer, archive.byteOffset, archive.length);
  const end = findEnd(view, where);
  const count = view.getUint16(end + 10, true);
  let at = view.getUint32(end + 16, true);
  const entries: ZipEntry[] = [];
  for (let index = 0; index < count; index++) {
    if (at + 46 > archive.length || view.getUint32(at, true) !== centralMagic) {
      throw new DataError(where, `${count} entries in the ZIP directory`, `damage at entry ${index + 1}`);
    }
    const nameLength = view.getUint16(at + 28, true);
    const extraLength = view.getUint16(at + 30, true);
    const name = new TextDecoder().decode(archive.subarray(at + 46, at + 46 + nameLength));
    const extra = archive.subarray(at + 46 + nameLength, at + 46 + nameLength + extraLength);
    const [size, packedSize, offset] = wideFields(extra, [
      view.getUint32(at + 24, true),
      view.getUint32(at + 20, true),
      view.getUint32(at + 42, true),
    ]);
    const place = `${where}, entry ${name}`;
    const method = view.getUint16(at + 10, true);
    if ((view.getUint16(at + 8, true) & 1) !== 0) throw new DataError(place, "no encryption", "an encrypted entry");
    if (method !== 0 && method !== 8) throw new DataError(place, "an entry stored or deflated", `method ${method}`);
    if (offset! + 30 > archive.length || view.getUint32(offset!, true) !== localMagic) {
      throw new DataError(place, "its content in the archive", "an archive that is cut off or damaged");
    }
    const start = offset! + 30 + view.getUint16(offset! + 26, true) + view.getUint16(offset! + 28, true);
    if (start + packedSize! > archive.length) {
      throw new DataError(place, `${packedSize} bytes`, `${Math.max(0, archive.length - start)} bytes (cut off)`);
    }
    const packed = archive.slice(start, start + packedSize!);
    const bytes = method === 0 ? packed : await inflate(packed, { size: size!, where: place });
    if (bytes.length !== size) throw new DataError(place, `${size} bytes`, `${bytes.length} bytes`);
    const expected = view.getUint32(at + 16, true);
    if (crc32(bytes) !== expected) throw new DataError(place, "content that fits its checksum", "damaged content");
    entries.push({ name, bytes });
    at += 46 + nameLength + extraLength + view.getUint16(at + 32, true);
  }
  return entries;
}

/** Options of {@linkcode zipBytes}. */
export interface ZipOptions {
  /** Deflate the entries; default false (stored as they are). */
  readonly compress?: boolean;
}

/**
 * Packs files into an archive. The same entries give the same bytes.
 *
 * @param entries names and contents
 * @param options whether to deflate
 * @returns the whole archive
 * @throws {DataError} where the archive would exceed the 4 GiB that sizes of 32 bits can tell
 */
export async function zipBytes(
  entries: readonly ZipEntry[],
  options: ZipOptions = {},
): Promise<Uint8Array<ArrayBuffer>> {
  const parts: Uint8Array<ArrayBuffer>[] = [];
  const directory: Uint8Array<ArrayBuffer>[] = [];
  let offset = 0;
  for (const entry of entries) {
    const name = new TextEncoder().encode(entry.name);
    const packed = options.compress ? await deflate(entry.bytes) : entry.bytes;
    if (offset + packed.length > 0xffff0000 || entry.bytes.length > 0xffff0000) {
      throw new DataError(entry.name, "a ZIP archive below 4 GiB", `${offset + packed.length} bytes`);
    }
    const fields = {
      method: options.compress ? 8 : 0,
      crc: crc32(entry.bytes),
      packedSize: packed.length,
      size: entry.bytes.length,
      nameLength: name.length,
    };
    const local = header(30, localMagic, fields);
    const central = header(46, centralMagic, fields);
    new DataView(central.buffer).setUint32(42, offset, true);
    parts.push(local, name, packed);
    directory.push(central, name);
    offset += local.length + name.length + packed.length;
  }
  const end = new Uint8Array(endSize);
  const view = new DataView(end.buffer);
  view.setUint32(0, endMagic, true);
  view.setUint16(8, entries.length, true);
  view.setUint16(10, entries.length, true);
  view.setUint32(12, directory.reduce((sum, part) => sum + part.length, 0), true);
  view.setUint32(16, offset, true);
  return await new Blob([...parts, ...directory, end]).bytes();
}

interface HeaderFields {
  readonly method: number;
  readonly crc: number;
  readonly packedSize: number;
  readonly size: number;
  readonly nameLength: number;
}

/** A local (30 bytes) or central (46 bytes) header; the latter repeats the former two bytes further on. */
function header(length: 30 | 46, magic: number, fields: HeaderFields): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, magic, true);
  let at = 4;
  if (magic === centralMagic) {
    view.setUint16(at, 20, true);
    at += 2;
  }
  view.setUint16(at, 20, true);
  view.setUint16(at + 2, 0x0800, true); // names are UTF-8
  view.setUint16(at + 4, fields.method, true);
  view.setUint16(at + 8, fixedDate, true);
  view.setUint32(at + 10, fields.crc, true);
  view.setUint32(at + 14, fields.packedSize, true);
  view.setUint32(at + 18, fields.size, true);
  view.setUint16(at + 22, fields.nameLength, true);
  return bytes;
}

function findEnd(view: DataView, where: string): number {
  // The end record may be followed by a comment of up to 65,535 bytes, so it is looked for from the back.
  const lowest = Math.max(0, view.byteLength - endSize - 0xffff);
  for (let at = view.byteLength - endSize; at >= lowest; at--) {
    if (view.getUint32(at, true) === endMagic) return at;
  }
  throw new DataError(where, "a whole ZIP archive", "one without its directory (cut off, or another format)");
}

/** Replaces each 32-bit field that is all ones by its 64-bit value from the extra field 1, in the given order. */
function wideFields(extra: Uint8Array<ArrayBuffer>, fields: number[]): number[] {
  const view = new DataView(extra.buffer, extra.byteOffset, extra.length);
  for (let at = 0; at + 4 <= extra.length; at += 4 + view.getUint16(at + 2, true)) {
    if (view.getUint16(at, true) !== 1) continue;
    let next = at + 4;
    return fields.map((field) => {
      if (field !== 0xffffffff || next + 8 > extra.length) return field;
      next += 8;
      return Number(view.getBigUint64(next - 8, true));
    });
  }
  return fields;
}

async function inflate(
  packed: Uint8Array<ArrayBuffer>,
  expected: { readonly size: number; readonly where: string },
): Promise<Uint8Array<ArrayBuffer>> {
  const chunks: Uint8Array<ArrayBuffer>[] = [];
  let total = 0;
  try {
    for await (const chunk of new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate-raw"))) {
      total += chunk.length;
      // A small archive can unpack to anything: stop as soon as it is more than it says.
      if (total > expected.size) break;
      chunks.push(chunk);
    }
  } catch (cause) {
    throw new DataError(expected.where, "a whole deflate stream", "one that is cut off or damaged", { cause });
  }
  if (total > expected.size) throw new DataError(expected.where, `${expected.size} bytes`, "more");
  return await new Blob(chunks).bytes();
}

async function deflate(bytes: Uint8Array<ArrayBuffer>): Promise<Uint8Array<ArrayBuffer>> {
  return await new Response(new Blob([bytes]).stream().pipeThrough(new CompressionStream("deflate-raw"))).bytes();
}

/** Cyclic redundancy check of ZIP (polynomial 0xedb88320, bits reversed), a byte at a time through a table. */
function crc32(bytes: Uint8Array): number {
  let crc = -1;
  for (let index = 0; index < bytes.length; index++) crc = crcTable[(crc ^ bytes[index]!) & 0xff]! ^ (crc >>> 8);
  return ~crc >>> 0;
}

const crcTable = Int32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = (crc & 1) === 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1;
  return crc;
});
