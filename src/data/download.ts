/**
 * Files from the web into the cache: written beside their place, checked against a known SHA-256, then renamed, so that
 * a file in the cache is whole and the right one.
 *
 * @module
 */
import { DataError } from "../errors.ts";
import { replaceFile } from "../half_written.ts";
import { readBytes, readPlain, sha256 } from "./files.ts";

/** How far a download is. */
export interface DownloadProgress {
  /** Name of the file. */
  readonly file: string;
  /** Bytes received so far. */
  readonly received: number;
  /** Bytes in all, where the server says so. */
  readonly total?: number;
}

/** What a caller of any data set with downloads can set. */
export interface DownloadControl {
  /** Called after each piece that arrives. */
  readonly onProgress?: (progress: DownloadProgress) => void;
  /** Ends the download; nothing is left behind. */
  readonly signal?: AbortSignal;
}

/** Options of {@linkcode downloadFile}. */
export interface DownloadOptions extends DownloadControl {
  /** Addresses of the file, tried in order until one answers. */
  readonly urls: readonly string[];
  /** Expected SHA-256, 64 hexadecimal digits. */
  readonly sha256: string;
  /**
   * What the hash is of: the file as it comes, or its content with gzip undone (two servers may pack the same content
   * differently). Default `"file"`.
   */
  readonly hashOf?: "file" | "content";
}

/**
 * Fetches a file and checks it before it takes its place.
 *
 * @param path where to put it; the folder is made where it is missing
 * @param options addresses, expected hash, progress, abort
 * @throws {DataError} where no address answers, the content has another hash, or a permission is missing
 */
export async function downloadFile(path: string, options: DownloadOptions): Promise<void> {
  const separator = Math.max(path.lastIndexOf("/"), path.lastIndexOf("\\"));
  try {
    if (separator > 0) await Deno.mkdir(path.slice(0, separator), { recursive: true });
    await replaceFile(path, async (part) => {
      const url = await fetchAny(part, { ...options, file: path.slice(separator + 1) });
      const { hashOf = "file" } = options;
      const found = await sha256(hashOf === "file" ? await readBytes(part) : await readPlain(part));
      if (found !== options.sha256) {
        throw new DataError(url, `a ${hashOf} with SHA-256 ${options.sha256}`, found, { action: "download" });
      }
    });
  } catch (cause) {
    throw downloadFault(path, { cause, signal: options.signal });
  }
}

/** Fetches from the first address that answers; gives the address. */
async function fetchAny(part: string, options: DownloadOptions & { readonly file: string }): Promise<string> {
  const faults: string[] = [];
  for (const url of options.urls) {
    try {
      await fetchTo(part, { ...options, url });
      return url;
    } catch (fault) {
      // Another address helps where the server is at fault, not where the user said stop or the disk is full.
      if (options.signal?.aborted || !isServerFault(fault)) throw fault;
      faults.push(`${url} (${(fault as Error).message})`);
    }
  }
  throw new DataError(options.file, "an answer from one of its addresses", faults.join(", "), { action: "download" });
}

class ServerFault extends Error {}

function isServerFault(fault: unknown): boolean {
  // A connection that is refused or breaks is a TypeError of fetch, or an Http error while the body arrives.
  return fault instanceof ServerFault || fault instanceof TypeError || fault instanceof Deno.errors.Http;
}

async function fetchTo(
  part: string,
  options: DownloadOptions & { readonly file: string; readonly url: string },
): Promise<void> {
  const { file, url, onProgress, signal } = options;
  const response = await fetch(url, signal === undefined ? {} : { signal });
  if (!response.ok || response.body === null) {
    await response.body?.cancel();
    throw new ServerFault(`HTTP status ${response.status}`);
  }
  const length = Number(response.headers.get("content-length") ?? NaN);
  let received = 0;
  const counter = new TransformStream<Uint8Array<ArrayBuffer>, Uint8Array<ArrayBuffer>>({
    transform(chunk, controller) {
      received += chunk.length;
      onProgress?.(Number.isFinite(length) ? { file, received, total: length } : { file, received });
      controller.enqueue(chunk);
    },
  });
  await Deno.writeFile(part, response.body.pipeThrough(counter), signal === undefined ? {} : { signal });
}

function downloadFault(
  path: string,
  fault: { readonly cause: unknown; readonly signal: AbortSignal | undefined },
): unknown {
  const { cause, signal } = fault;
  if (signal?.aborted) return signal.reason;
  if (cause instanceof Deno.errors.NotCapable) {
    return new DataError(path, "permission to download it (--allow-net and --allow-write)", cause.message, {
      action: "download",
      cause,
    });
  }
  if (cause instanceof DataError || !(cause instanceof Error)) return cause;
  return new DataError(path, "a place to download it to", cause.message, { action: "download", cause });
}
