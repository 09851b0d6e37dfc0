/**
 * The data sets of the command line: those of the library, and those that need packages, which are loaded when one is used.
 *
 * @module
 */

import { csvOptions, type DataSource, dataSources } from "../data/registry.ts";
import type { ImageFolderOptions } from "../formats/image_folder.ts";
import { note } from "./terminal.ts";

/** All data sets by name. */
export const sources: readonly DataSource[] = [
  ...dataSources,
  {
    name: "images:",
    description: "images:FOLDER, PNG and JPEG files in a folder for each class, or those in train and test",
    options: ["size", "colour", "skipBroken"],
    load: async (options, path) => {
      const { imageFolder } = await import("../formats/image_folder.ts");
      const { size, colour, skipBroken, signal } = options as Omit<ImageFolderOptions, "onProgress">;
      const { onRead } = options;
      return await imageFolder(path, {
        ...(size && { size }),
        ...(colour && { colour }),
        ...(skipBroken !== undefined && { skipBroken }),
        ...(signal && { signal }),
        ...(onRead && {
          onProgress: (done, total) => onRead({ file: path, what: "reading", share: done / total }),
        }),
        onSkip: (_, fault) => note(`Left out: ${fault.message}\n`),
      });
    },
  },
  {
    name: "parquet:",
    description: "parquet:FILE, a table of numbers and words with a target column",
    options: csvOptions.filter((option) => option !== "header" && option !== "delimiter"),
    load: async ({ onProgress: _, signal: __, ...options }, path) =>
      await (await import("../formats/parquet.ts")).readParquet(path, options),
  },
];
