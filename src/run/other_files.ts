/**
 * Files that are taken for safetensors, by their first bytes: to name what was found.
 *
 * @module
 */

/** Beginnings of files of weights in other formats, as bytes in hexadecimal. */
const BEGINNINGS: readonly (readonly [RegExp, string])[] = [
  [/^504b0304/, "a zip archive, as NPZ files and those of torch.save are"],
  [/^934e554d5059/, "an NPY file"],
  // Protocol buffers have no mark: a version of ONNX below 32, then one of its next fields.
  [/^08[01][0-9a-f](12|1a|22|28|32|3a|42)/, "an ONNX file"],
  [/^800[2-5]/, "a pickle of Python, as old files of torch.save are"],
  [/^894844460d0a/, "an HDF5 file"],
  [/^1f8b/, "a gzip file"],
  [/^(0[9ad]|[2-7][0-9a-f]){8}/, "text"],
];

/**
 * What a file is that is no safetensors.
 *
 * @param file the whole file
 * @returns its kind in words; nothing where it is not known
 */
export function otherFile(file: Uint8Array): string | undefined {
  const hex = file.subarray(0, 8).toHex();
  return BEGINNINGS.find(([beginning]) => beginning.test(hex))?.[1];
}
